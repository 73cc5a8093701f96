"""The benchmarks: what one is, and the dictionary of those we have.

First stage of the flow: `load_benchmark(spec)` -> `Benchmark` -> its problems, and the prompt
presets ("protocols") that turn a problem into a prompt and a model's text back into a program.
A benchmark is one file (or package) with a function `load(options) -> Benchmark`, named in
`BENCHMARKS`; nothing registers itself on import.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast, runtime_checkable

from sdb_harness.errors import UserError, name_nearest
from sdb_harness.records import Problem
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import Check, ResourceLimits


class ChatMessage(NamedTuple):
    """One turn of a chat prompt."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Source with a hole to fill."""

    prefix: str
    suffix: str


Prompt = str | Gap | tuple[ChatMessage, ...]
"""What a generator sees: source to continue, a gap to fill, or the turns of a chat."""


class PromptProtocol(Protocol):
    """A named preset: how a problem is asked, and how the answer becomes a program."""

    @property
    def source(self) -> str:
        """Whose protocol it is, with the decoding used there, and what is unknown of it."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a generation; empty if the model ends by itself."""
        ...

    def choose_stop(self, problem: Problem) -> tuple[str, ...]:
        """The same for one problem, where they depend on its language."""
        ...

    @property
    def version(self) -> int:
        """From 1; raised when a step changes, and then part of the cell."""
        ...

    @property
    def steps(self) -> str:
        """The steps by name, for the run's record."""
        ...

    def build_prompt(self, problem: Problem) -> Prompt:
        """Turn a problem into what the generator sees."""
        ...

    def extract(self, problem: Problem, text: str) -> tuple[str, str]:
        """Turn the generated text into (whole program to execute, name of the rule used)."""
        ...


@dataclass(frozen=True, slots=True)
class Try:
    """One reply that failed, and what the model is shown of how its program did, or is asked."""

    text: str
    observation: str


@runtime_checkable
class MultiTurnProtocol(PromptProtocol, Protocol):
    """A preset that asks again after a failure, with the output of the tests.

    A try ends with the tests. Before them the model may be asked back about its last reply, so a
    try may hold several replies.
    """

    @property
    def num_tries(self) -> int:
        """How often a sample's program is tested at the most."""
        ...

    @property
    def num_replies(self) -> int:
        """How often a sample is asked at the most, questions back included."""
        ...

    def find_question(self, problem: Problem, texts: Sequence[str]) -> str:
        """What the model is asked back about the last of these replies; empty if it is tested."""
        ...

    def count_tries(self, problem: Problem, texts: Sequence[str]) -> int:
        """How many of these replies were or will be tested."""
        ...

    def ask_again(self, problem: Problem, tries: Sequence[Try]) -> Prompt:
        """The prompt after these tries."""
        ...

    def extract_tries(self, problem: Problem, texts: Sequence[str]) -> tuple[str, str]:
        """(whole program, rule) after these replies: each edits what the earlier ones left."""
        ...

    def observe(
        self, sandbox: Sandbox, problem: Problem, program: str, limits: ResourceLimits
    ) -> str | None:
        """Run the tests of a failed program again for their output, which the model is shown.

        It is untrusted text and moves no verdict. None if the sandbox broke.
        """
        ...


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A set of problems with everything needed to ask and to judge them."""

    name: str
    revision: str
    """SHA-256 over ids, prompts and checks: a changed problem is another benchmark."""
    problems: tuple[Problem, ...]
    protocols: Mapping[str, PromptProtocol]
    """Presets by name; the first one is the default."""
    licence: str
    citation: str
    limits: ResourceLimits
    version: str = ""
    """Release of the data, as its authors call it."""
    split: str = ""
    """Which part of it, where it has parts."""
    is_multilingual: bool = False
    """Groups are languages: `verify` takes its part from each. Which benchmarks are scored by their
    plain mean is a rule of `sdb_leaderboard.table`."""
    write_cheat: Callable[[Problem], str | None] | None = None
    """A program that leaves with exit code 0 before its tests are through, where one is known."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Group -> pass@1 in percent that the authors measured on samples that they ship."""
    read_samples: Callable[[str], Sequence[tuple[str, str]]] | None = None
    """Group -> (problem id, whole program) of each of those samples."""
    read_check: Callable[[Problem], Check] | None = None
    """Reads the tests of a problem where all of them are too many to keep; its `check` then has
    none, which `verify` refuses."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Problems whose data are broken or want what no sandbox gives: id -> what is wrong. `verify`
    excuses how they are judged."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What else is known of problems: id -> that. `verify` expects of them what it does of others,
    except beside busy processes."""

    @property
    def remarks(self) -> dict[str, str]:
        """Faults and notes together."""
        return {**self.faults, **self.notes}

    def find_check(self, problem: Problem) -> Check:
        """What judges a problem. Raises UserError if its tests have to be read and cannot be."""
        return problem.check if self.read_check is None else self.read_check(problem)

    def describe(self) -> str:
        """One line that stands beside every score: which data it is a score of."""
        release = " ".join(filter(None, (self.name, self.version, self.split)))
        return (
            f"{release}: {len(self.problems)} problems, sha256 {self.revision[:16]}, "
            f"{self.licence}; {self.citation}"
        )


BENCHMARKS: dict[str, str] = {
    "aider_edit": "sdb_harness.benchmarks.aider_edit:load",
    "aider_polyglot": "sdb_harness.benchmarks.aider_polyglot:load",
    "bigcodebench": "sdb_harness.benchmarks.bigcodebench:load",
    "canitedit": "sdb_harness.benchmarks.canitedit:load",
    "humaneval": "sdb_harness.benchmarks.humaneval:load",
    "humaneval_infilling": "sdb_harness.benchmarks.humaneval_infilling:load",
    "humaneval_plus": "sdb_harness.benchmarks.humaneval_plus:load",
    "jsonl": "sdb_harness.benchmarks.jsonl:load",
    "livecodebench": "sdb_harness.benchmarks.livecodebench:load",
    "mbpp": "sdb_harness.benchmarks.mbpp:load",
    "mbpp_plus": "sdb_harness.benchmarks.mbpp_plus:load",
    "mbxp": "sdb_harness.benchmarks.mbxp:load",
    "minipy": "sdb_harness.benchmarks.minipy:load",
    "multilingual_humaneval": "sdb_harness.benchmarks.multilingual_humaneval:load",
    "multipl_e": "sdb_harness.benchmarks.multipl_e:load",
    "naturalcodebench": "sdb_harness.benchmarks.naturalcodebench:load",
}
"""Name -> `module:function`, where the function takes the options and returns a `Benchmark`."""

FILE_BENCHMARKS = frozenset({"jsonl"})
"""Those of a user's file: what follows the colon is its path and becomes the option `file`."""


def parse_benchmark_spec(spec: str) -> tuple[str, dict[str, str]]:
    """Split `minipy:split=test,level=1+2` into the name and its options.

    Raises:
        UserError: unknown name, an option without `=`, or an option given twice.
    """
    name, _, tail = spec.strip().partition(":")
    if name not in BENCHMARKS:
        raise UserError(f"unknown benchmark {name!r}; {name_nearest(name, BENCHMARKS)}")
    if name in FILE_BENCHMARKS:
        return name, {"file": tail}
    options: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in tail.split(","))):
        key, separator, value = part.partition("=")
        if not separator or key in options:
            raise UserError(
                f"benchmark {spec!r}: cannot read {part!r}; write each option once as key=value"
            )
        options[key] = value
    return name, options


def spell_benchmark_spec(name: str, options: Mapping[str, str]) -> str:
    """Write a specification in its one spelling, options sorted, as a `Cell` holds it."""
    if name in FILE_BENCHMARKS:
        return f"{name}:{options['file']}"
    tail = ",".join(f"{key}={options[key]}" for key in sorted(options))
    return f"{name}:{tail}" if tail else name


def load_benchmark(spec: str) -> Benchmark:
    """Load the benchmark that a specification such as `minipy:split=test,level=2` names.

    Raises:
        UserError: unknown benchmark or malformed option.
        ValueError: an option that this benchmark does not have, from its own loader.
    """
    name, options = parse_benchmark_spec(spec)
    module, _, function = BENCHMARKS[name].partition(":")
    load = cast(
        Callable[[Mapping[str, str]], Benchmark], getattr(importlib.import_module(module), function)
    )
    return load(options)


def read_options(
    name: str, given: Mapping[str, str], allowed: Mapping[str, tuple[str, ...]]
) -> dict[str, str]:
    """Every option of a benchmark with its value; the first of the allowed ones is the default.

    Raises:
        UserError: an option that the benchmark does not have, or a value that is not allowed.
    """
    if unknown := sorted(given.keys() - allowed.keys()):
        raise UserError(f"{name} has no option {unknown[0]!r}; use {', '.join(allowed)}")
    chosen = {key: given.get(key, values[0]) for key, values in allowed.items()}
    for key, value in chosen.items():
        if value not in allowed[key]:
            raise UserError(f"{name} {key}={value!r}; use one of {', '.join(allowed[key])}")
    return chosen
