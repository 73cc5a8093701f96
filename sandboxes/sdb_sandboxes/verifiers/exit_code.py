"""L1: a program with its tests in one process, judged by exit code and by a negative control.

Place in the flow: `verify` with an `ExitCodeCheck`; how MBXP, multilingual HumanEval and MultiPL-E
judge every language. An exit code alone proves nothing: a program that leaves early, overrides the
comparison or prints what it likes ends with 0 too. So a program that passed runs again with one
expected value made wrong at a place it cannot foresee, and who passes that as well has not been
tested: wrong answer, "forged". Source: sandbox notes on whole-program tests (trust level L1).

What it does not do: it is no proof. Tests and program share a process, so a program that recognises
the changed test and gives up there is not found out, and one that flips a coin gets through one
time in four with one control. Rewards from L1 are to be reported apart.
"""

import secrets
from signal import SIGABRT, SIGILL, SIGTRAP, Signals

from sdb_sandboxes.languages import find_language
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    ExecutionResult,
    ExitCodeCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
    Verdict,
)
from sdb_sandboxes.verifiers.expectations import expect_nothing, list_controls
from sdb_sandboxes.verifiers.verdicts import build_verdict

FORGED = "forged: passes the tests with a wrong expected value too"
LOOSE = "loose: the tests' own comparison takes its answer for a wrong expected value too"
"""As PHP's `true == "text"`: wrong as well, but the tests ran and no one cheated."""
OWN_ENDS = (None, SIGABRT, SIGILL, SIGTRAP)
"""How a failed test ends the process: by a code, in C++ by SIGABRT, in Swift by a trap, which is
SIGILL on x86 and SIGTRAP on ARM."""
UNCONTROLLED = "no expected value could be made wrong: passed without a control"


def verify_exit_code(
    sandbox: Sandbox, program: str, check: ExitCodeCheck, limits: ResourceLimits
) -> Verdict:
    """Run program and tests as one file; if that ends with 0, run the controls."""
    if not check.tests.strip():
        raise ValueError("the check of a program has no tests; an exit code alone proves nothing")
    result = run_tests(sandbox, program, check.tests, check, limits)
    status, detail = name_end(result)
    if status is Status.PASSED:
        status, detail = run_controls(sandbox, program, check, limits)
    is_passed = status is Status.PASSED
    return build_verdict(sandbox, result, status, detail, "L1", 1, int(is_passed), 1)


def run_tests(
    sandbox: Sandbox, program: str, tests: str, check: ExitCodeCheck, limits: ResourceLimits
) -> ExecutionResult:
    """One run of the program with these tests behind it."""
    name = check.file_name or find_language(check.language).file_name
    files = ((name, program + tests),)
    return sandbox.run_program(ProgramRequest(check.language, files, ("",), limits))


def name_end(result: ExecutionResult) -> tuple[Status, str]:
    """Status and one line of the run that counts.

    A failed test and an error of the program end alike.
    """
    is_own_end = result.status is Status.RUNTIME_ERROR and result.signal in OWN_ENDS
    if is_own_end and result.runs:
        signal = result.signal
        end = f"exit code {result.exit_code}" if signal is None else Signals(signal).name
        return Status.WRONG_ANSWER, f"{end}: a failed test or an error"
    return result.status, result.detail


def run_controls(
    sandbox: Sandbox, program: str, check: ExitCodeCheck, limits: ResourceLimits
) -> tuple[Status, str]:
    """Whether a program that passed fails where it must.

    A control that does not even compile shows nothing, so another one takes its place.
    """
    controls = list_controls(check.tests, check.language)
    secrets.SystemRandom().shuffle(controls)
    num_failed = 0
    for tests in controls:
        if num_failed == check.num_controls:
            break
        result = run_tests(sandbox, program, tests, check, limits)
        if result.status is Status.PASSED:
            return Status.WRONG_ANSWER, name_forgery(sandbox, program, check, limits)
        if result.status is Status.INFRASTRUCTURE:
            return result.status, result.detail
        num_failed += result.status is not Status.COMPILE_ERROR
    return Status.PASSED, "" if num_failed else UNCONTROLLED


def name_forgery(
    sandbox: Sandbox, program: str, check: ExitCodeCheck, limits: ResourceLimits
) -> str:
    """Why a control passed: no test can fail, or a comparison is not strict about types."""
    tests = expect_nothing(check.tests, check.language)
    if tests is None:
        return FORGED
    result = run_tests(sandbox, program, tests, check, limits)
    return LOOSE if result.status is Status.RUNTIME_ERROR else FORGED
