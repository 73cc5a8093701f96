"""Turns a program and a check into a verdict, whatever sandbox runs it.

Reading order: `verify` here, then `comparison.py` (how answers are compared, outside the sandbox)
and `assertions.py` (test source that is pure data becomes data).
"""

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    AssertionCheck,
    Check,
    ExecutionRequest,
    ExecutionResult,
    FunctionCheck,
    ResourceLimits,
    Status,
    TrustLevel,
    Verdict,
)
from sdb_sandboxes.verifiers.comparison import is_equal

DEFAULT_LIMITS = ResourceLimits()


def verify(
    sandbox: Sandbox, program: str, check: Check, limits: ResourceLimits = DEFAULT_LIMITS
) -> Verdict:
    """Judge one program. Thread-safe; blocks while no slot is free.

    Args:
        sandbox: Where the program runs.
        program: The whole source: prompt, completion and whatever the benchmark adds.
        check: Cases as plain data (L3) or test source (L2).
        limits: CPU seconds, wall seconds, memory and so on of the candidate.

    Raises:
        ValueError: The check itself is malformed, for example without a single case.
    """
    if isinstance(check, FunctionCheck):
        return verify_function(sandbox, program, check, limits)
    return verify_assertions(sandbox, program, check, limits)


def verify_function(
    sandbox: Sandbox, program: str, check: FunctionCheck, limits: ResourceLimits
) -> Verdict:
    """Send every input as plain data, compare every answer here. All cases must be right."""
    if not check.cases:
        raise ValueError(
            f"the check of {check.entry_point!r} has no case; zero tests prove nothing"
        )
    calls = tuple((check.entry_point, case.args) for case in check.cases)
    result = sandbox.call_functions(ExecutionRequest(program, calls, limits))
    status, detail = result.status, result.detail
    num_passed = 0
    for number, (case, outcome) in enumerate(zip(check.cases, result.outcomes, strict=False), 1):
        if outcome.exception is None and is_equal(case.expected, outcome.value, check.comparison):
            num_passed += 1
            continue
        if status is Status.PASSED:
            status, detail = name_failure(check.entry_point, number, outcome.exception)
    return build_verdict(sandbox, result, status, detail, "L3", len(check.cases), num_passed)


def name_failure(entry_point: str, number: int, exception: str | None) -> tuple[Status, str]:
    """Status and one line for the first case that failed; the expected value stays out of it."""
    where = f"call {number} of {entry_point}"
    if exception is None:
        return Status.WRONG_ANSWER, f"{where}: wrong answer"
    if exception == "Undecodable":
        return Status.WRONG_ANSWER, f"{where}: the answer is not plain data"
    limits = {"MemoryError": Status.MEMORY, "BlockingIOError": Status.PROCESSES}
    return limits.get(exception, Status.RUNTIME_ERROR), f"{where}: raised {exception}"


def verify_assertions(
    sandbox: Sandbox, program: str, check: AssertionCheck, limits: ResourceLimits
) -> Verdict:
    """Let test code in a process of its own question the program. One test: all of it."""
    result = sandbox.run_assertions(program, check, limits)
    num_passed = int(result.status is Status.PASSED)
    return build_verdict(sandbox, result, result.status, result.detail, "L2", 1, num_passed)


def build_verdict(
    sandbox: Sandbox,
    result: ExecutionResult,
    status: Status,
    detail: str,
    trust_level: TrustLevel,
    num_tests: int,
    num_tests_passed: int,
) -> Verdict:
    """Join what was found out here with what the sandbox measured."""
    return Verdict(
        status=status,
        num_tests=num_tests,
        num_tests_passed=num_tests_passed,
        cpu_s=result.cpu_s,
        wall_s=result.wall_s,
        peak_memory_bytes=result.peak_memory_bytes,
        trust_level=trust_level,
        sandbox_level=sandbox.level,
        signal=result.signal,
        is_output_truncated=result.is_output_truncated,
        stdout_tail=result.stdout_tail,
        stderr_tail=result.stderr_tail,
        detail=detail,
    )
