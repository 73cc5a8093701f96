"""What a prompt protocol is made of: five parts that are told apart and can be read one by one.

Place in the flow: a benchmark's `PROTOCOLS` are rows of `Preset`, and what differs between two rows
is exactly what differs between two published harnesses. Here are the parts that several benchmarks
use; what only one of them needs stands in its file.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sdb_harness.benchmarks import Prompt
from sdb_harness.extract import Extract, take_fenced_block
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

    def build_prompt(self, problem: Problem) -> Prompt:
        """Turn a problem into what the generator sees."""
        return self.ask(problem)

    def choose_stop(self, problem: Problem) -> tuple[str, ...]:
        """Strings that end the answer to this problem."""
        return self.stop if self.stop_of is None else self.stop_of(problem)

    def extract(self, problem: Problem, text: str) -> tuple[str, str]:
        """Turn the generated text into (whole program to execute, name of the rule used)."""
        code, rule = self.find_code(text, self.choose_stop(problem))
        return self.assemble(problem, code), rule


def ask_as_is(problem: Problem) -> str:
    """The prompt to continue, unchanged."""
    return problem.prompt


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
