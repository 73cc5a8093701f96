"""The vocabulary of execution: what is asked of a sandbox, what it answers, and the verdict.

Place in the flow: a verifier turns (program, check) into an `ExecutionRequest`, a `Sandbox`
answers with an `ExecutionResult`, and the verifier compares outside the sandbox and returns a
`Verdict`. Everything here is plain frozen data; nothing here runs code.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """How an execution or a judgement ended. Only `PASSED` earns a reward."""

    PASSED = "passed"
    WRONG_ANSWER = "wrong_answer"
    RUNTIME_ERROR = "runtime_error"
    COMPILE_ERROR = "compile_error"
    CPU_TIME = "cpu_time"
    WALL_TIME = "wall_time"
    MEMORY = "memory"
    OUTPUT = "output"
    PROCESSES = "processes"
    INFRASTRUCTURE = "infrastructure"
    """Ours, never the candidate's: counted apart, retried, and no reward is given or refused."""


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Limits of one execution; the wall limit is only a loose backstop for the CPU limit."""

    cpu_s: float = 5.0
    wall_s: float = 30.0
    memory_bytes: int = 1 << 30
    output_bytes: int = 4 << 20
    """Bytes of stdout plus stderr after which the program is stopped (status `OUTPUT`)."""
    file_bytes: int = 16 << 20
    num_processes: int = 32
    answer_bytes: int = field(default=32 << 20, repr=False)
    """Bytes of all answers to the calls of one run, as they travel (status `OUTPUT`)."""
    allow_programs: bool = field(default=False, repr=False)
    """Whether a Python program may start other programs, those of the image and what it writes
    itself. In containers only: elsewhere the programs would be the host's, and none can be started.
    They count against the same limits and die with the run."""


Calls = tuple[tuple[str, tuple[object, ...]], ...]
"""(function name, positional arguments) of each call."""


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """Run `program` and call its functions with plain data (trust level L3: data in, data out).

    Arguments and returned values are restricted to None, bool, int, float, complex, str, bytes,
    list, tuple, dict, set, frozenset. They must not change while `calls` is in use: it is packed
    once for all requests that share it.
    """

    program: str
    calls: Calls
    limits: ResourceLimits = field(default_factory=ResourceLimits)


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """Compile a whole program once, then run it once per text of standard input.

    `language` names a row of `languages.LANGUAGES`; `python` runs in a cell forked from the warm
    interpreter, every other language through its compiler and interpreter, both inside the slot.
    """

    language: str
    files: tuple[tuple[str, str], ...]
    """(path relative to the program's folder, text); the first one is the program."""
    stdins: tuple[str, ...] = ("",)
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    """Of each run; compiling has limits of its own, in the language's row."""


@dataclass(frozen=True, slots=True)
class ProgramOutcome:
    """How one run of a whole program ended."""

    status: Status
    """PASSED when it ended by itself with exit code 0; nothing is said about what it printed."""
    stdout: str
    stderr_tail: str
    exit_code: int | None
    signal: int | None
    cpu_s: float
    wall_s: float
    peak_memory_bytes: int
    is_output_truncated: bool = False


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """What one call gave: a decoded value, or the name of the exception it raised."""

    value: object = None
    exception: str | None = None
    """Exception type name; `"Undecodable"` if the value is outside the plain-data codec."""


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """What really happened inside. `status` is PASSED when every call was answered."""

    status: Status
    outcomes: tuple[CallOutcome, ...]
    cpu_s: float
    wall_s: float
    peak_memory_bytes: int
    stdout_tail: str = ""
    stderr_tail: str = ""
    signal: int | None = None
    exit_code: int | None = None
    is_output_truncated: bool = False
    detail: str = ""
    num_tests_run: int = 0
    """Of `Sandbox.run_assertions` with tests that can be counted."""
    num_tests_passed: int = 0
    runs: tuple[ProgramOutcome, ...] = ()
    """Of `Sandbox.run_program`: one per text of standard input, until the first that ended badly
    in the slot itself."""


TrustLevel = Literal["L3", "L2", "L2b", "L1"]


ValueRule = Literal[
    "exact",
    "float_tolerance",
    "python_equality",
    "set",
    "multiset",
    "evalplus",
    "not_none",
    "truth",
    "is_close",
    "polynomial_root",
    "anything",
]
TextRule = Literal["exact_text", "lines", "lines_decimal", "tokens", "tokens_float"]
Comparison = ValueRule | TextRule
"""How an answer is compared; what each rule forgives is written in `verifiers/comparison.py`."""


@dataclass(frozen=True, slots=True)
class Case:
    """One call with its expected answer, as plain data."""

    args: tuple[object, ...]
    expected: object
    also: tuple[object, ...] = field(default=(), repr=False)
    """Other right answers, where the data set names them. (Revisions hash the `repr` of checks.)"""


@dataclass(frozen=True, slots=True)
class FunctionCheck:
    """L3: call `entry_point` on every case and compare outside the sandbox."""

    entry_point: str
    cases: tuple[Case, ...]
    comparison: ValueRule = "exact"
    tolerance: float | None = field(default=None, repr=False)
    """Absolute difference of floats to forgive; None is what the rule itself says."""


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """L3 like `FunctionCheck`, but the right answers are those of a reference program.

    The reference runs in the sandbox as any program does, and its answers are kept; its CPU time
    there may scale the candidate's limit, so that a slow machine does not change a verdict.
    """

    entry_point: str
    reference: str
    """Whole program that defines `entry_point`."""
    inputs: tuple[tuple[object, ...], ...]
    """Positional arguments of each call."""
    comparison: ValueRule = "exact"
    tolerance: float | None = None
    """Absolute difference of floats to forgive; None is what the rule itself says."""
    alternatives: tuple[str, ...] = ()
    """Other whole programs whose answers are right too."""
    cpu_factor: float = 0.0
    """The candidate may use this many times the reference's CPU seconds, if that is more than the
    limits that it is judged with."""


@dataclass(frozen=True, slots=True)
class StdinCheck:
    """L3: run the whole program once per case and compare what it printed, outside."""

    cases: tuple[tuple[str, str], ...]
    """(text of standard input, expected standard output)."""
    comparison: TextRule = "lines"
    language: str = "python"


@dataclass(frozen=True, slots=True)
class AssertionCheck:
    """L2: `tests` (source that defines `check(candidate)`) runs in a process of its own.

    The test process holds a stub for `entry_point` whose calls are answered by the candidate's
    process as plain data. `prelude` is trusted source (the prompt with its imports and helper
    functions) made visible to the tests, never the candidate's code.
    """

    entry_point: str
    tests: str
    prelude: str = ""


@dataclass(frozen=True, slots=True)
class ObjectCheck:
    """L2b: `tests` runs in a process of its own and uses the program's objects from afar.

    `tests` is a script, or defines the unittest cases of `test_ids`. Functions, classes and
    instances of the program are handles there; data travels by value and is compared there.
    """

    tests: str
    names: tuple[str, ...] = ()
    """Names of the program that the tests use as their own."""
    module: str = ""
    """What the tests import the program as."""
    prelude: str = ""
    """Trusted source in front of the tests, for example imports."""
    test_ids: tuple[str, ...] = ()
    """`Class.method` of every unittest case, in order; empty for a script."""
    num_controls: int = 1
    """Runs with an expected value made wrong that a program which passed has to fail."""


@dataclass(frozen=True, slots=True)
class SuiteCheck:
    """L1: tests in the program's own process, by its language's framework, with a control.

    The program's files and then the test files are written into a fresh folder; every test of
    `test_ids` has to be run and to pass, and nobody else's.
    """

    files: tuple[tuple[str, str], ...]
    """(path, text) of the test files and what else they need; a test file replaces the program's
    file of that name."""
    test_ids: tuple[str, ...]
    """`module.Class.method` or `module.function` of every test, in order; `module` for a script.
    In other languages than Python the name by which the framework reports it."""
    program_path: str = "solution.py"
    """Where the program goes."""
    is_joined: bool = False
    """Whether the first test file is appended to the program: tests that use its globals."""
    num_controls: int = 1
    language: str = field(default="python", repr=False)
    """`python`, or a row of `languages.PROJECTS`, for example `go-test`."""
    more_paths: tuple[str, ...] = field(default=(), repr=False)
    """Where further files of a program go that is the text of several (`projects.join_files`)."""
    is_pytest: bool = field(default=False, repr=False)
    """Whether pytest runs the tests of Python, which then may take its fixtures; the sandbox has to
    have it."""


@dataclass(frozen=True, slots=True)
class ExitCodeCheck:
    """L1: tests in the program's own language stand behind it; exit code 0 and a control decide.

    Each control is one more run with an expected value of the tests made wrong, which a program
    that is really tested cannot pass.
    """

    language: str
    tests: str
    file_name: str = ""
    """What the one file is called, where the language's usual name will not do."""
    num_controls: int = 1


Check = (
    FunctionCheck
    | ReferenceCheck
    | StdinCheck
    | AssertionCheck
    | ObjectCheck
    | SuiteCheck
    | ExitCodeCheck
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one program, with everything needed to trust or question it."""

    status: Status
    num_tests: int
    num_tests_passed: int
    cpu_s: float
    wall_s: float
    peak_memory_bytes: int
    trust_level: TrustLevel
    sandbox_level: str
    """Which sandbox and which of its layers ran, for example `embedded/native-root`."""
    image: str = ""
    """Content address of the container image it ran in; empty outside containers."""
    comparison: str = ""
    """The rule of `verifiers/comparison.py` that decided; empty where tests decided."""
    num_tests_run: int = 0
    """How many tests were begun: fewer than `num_tests` after an early stop."""
    signal: int | None = None
    is_output_truncated: bool = False
    stdout_tail: str = ""
    stderr_tail: str = ""
    detail: str = ""
    """One line: the first failing call and why, without the expected value."""

    @property
    def is_passed(self) -> bool:
        """True only if every test ran and passed."""
        return self.status is Status.PASSED
