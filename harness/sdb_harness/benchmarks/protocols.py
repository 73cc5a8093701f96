"""What a prompt protocol is made of: parts that are told apart and can be read one by one.

Place in the flow: a benchmark's `PROTOCOLS` are rows of `Preset`, and what differs between two rows
is exactly what differs between two published harnesses. Here are the parts that several benchmarks
use; what only one of them needs stands in its file.

Limits and comparison, the other two steps, belong to the benchmark: `Benchmark.limits` and each
problem's check. The names of all steps go into a run's manifest.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sdb_harness.benchmarks import Prompt
from sdb_harness.extract import Extract, cut_at_stops, take_fenced_block
from sdb_harness.records import Problem


@dataclass(frozen=True, slots=True)
class Preset:
    """One row of `PROTOCOLS`: a prompt protocol as five separate parts."""

    source: str
    """The harness it follows, with the decoding that harness uses."""
    ask: Callable[[Problem], Prompt]
    stop: tuple[str, ...]
    find_code: Callable[[str, tuple[str, ...]], Extract]
    """(text, stop strings) -> code and rule. The text may or may not still hold a stop string."""
    assemble: Callable[[Problem, str], str]
    """(problem, code) -> the whole program."""
    stop_of: Callable[[Problem], tuple[str, ...]] | None = None
    """Stop strings of one problem, in place of `stop`, where they depend on its language."""
    find_code_of: Callable[[Problem], Callable[[str, tuple[str, ...]], Extract]] | None = None
    """How the code of one problem is found, in place of `find_code`, where it depends on that."""
    version: int = 1
    """Raised when a step changes: a cell of another version is another cell."""

    @property
    def steps(self) -> str:
        """The steps by name, for the record."""
        stop = " ".join(map(repr, self.stop)) or "none"
        names = (self.ask.__name__, stop, self.find_code.__name__, self.assemble.__name__)
        labels = ("prompt", "stop", "extract", "assemble")
        steps = "; ".join(f"{label} {name}" for label, name in zip(labels, names, strict=True))
        return f"version {self.version}; {steps}"

    def build_prompt(self, problem: Problem) -> Prompt:
        """Turn a problem into what the generator sees."""
        return self.ask(problem)

    def choose_stop(self, problem: Problem) -> tuple[str, ...]:
        """Strings that end the answer to this problem."""
        return self.stop if self.stop_of is None else self.stop_of(problem)

    def extract(self, problem: Problem, text: str) -> tuple[str, str]:
        """Turn the generated text into (whole program to execute, name of the rule used)."""
        find_code = self.find_code if self.find_code_of is None else self.find_code_of(problem)
        code, rule = find_code(text, self.choose_stop(problem))
        return self.assemble(problem, code), rule


def ask_as_is(problem: Problem) -> str:
    """The prompt to continue, unchanged."""
    return problem.prompt


def ask_stripped(problem: Problem) -> str:
    """The prompt without outer white space: the model has to start with a newline."""
    return problem.prompt.strip()


def ask_nothing(problem: Problem) -> str:
    """No prompt: the answers are in a file already."""
    return ""


def keep_all(text: str, stop: tuple[str, ...]) -> Extract:
    """The text as it is."""
    return Extract(text, "whole")


def take_first_block(text: str, stop: tuple[str, ...]) -> Extract:
    """The first Python block, else the first bare one, else all."""
    return take_fenced_block(text, "first")


def continue_prompt(problem: Problem, code: str) -> str:
    """Prompt and completion, as the model saw and wrote them."""
    return problem.prompt + code


def run_script_alone(problem: Problem, code: str) -> str:
    """The model's script and nothing else: a forgotten import is the model's failure."""
    return code


def cut_open_block(text: str, stop: tuple[str, ...]) -> Extract:
    """The answer began inside a code block: keep what stands before a stop or the closing fence."""
    return cut_at_stops(text, (*stop, "\n```"))


_FUTURE_IMPORT = re.compile(r"^from __future__ import [^\n]*\n?", re.MULTILINE)


def put_header_in_front(problem: Problem, code: str) -> str:
    """The prompt's imports and helper functions, then the model's script.

    `from __future__` lines of the script go first, where Python demands them.
    """
    header, _, _ = problem.prompt.partition(f"def {problem.entry_point}(")
    futures = "".join(line.rstrip("\n") + "\n" for line in _FUTURE_IMPORT.findall(code))
    return futures + header + _FUTURE_IMPORT.sub("", code)


SCRIPT = Preset(
    source="Whole programs, as sample files of EvalPlus, BigCodeBench and bigcode-evaluation-"
    "harness hold them: executed as they stand, nothing in front. For replayed files.",
    ask=ask_nothing,
    stop=(),
    find_code=keep_all,
    assemble=run_script_alone,
)

OPENAI_STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Of openai/human-eval's paper."""

PARAPHRASE = "A paraphrase in this project's words, to measure what the wording alone moves."


def spread_wordings(
    name: str, preset: Preset, *paraphrases: Callable[[Problem], Prompt]
) -> Mapping[str, Preset]:
    """A preset, and as `NAME/2`, `NAME/3` its paraphrases: `--templates 3` runs all three."""
    others = {
        f"{name}/{number}": replace(preset, ask=ask, source=PARAPHRASE)
        for number, ask in enumerate(paraphrases, 2)
    }
    return {name: preset, **others}
