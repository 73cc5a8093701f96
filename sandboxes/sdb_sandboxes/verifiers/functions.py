"""L3 for functions: inputs go in as plain data, answers come back as plain data, compared here.

Place in the flow: `verify` with a `FunctionCheck`. The expected answers never leave this process.
What it does not do: nothing of the program runs here, not even a `__eq__`.
"""

from sdb_sandboxes.remember import Remember
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    CallOutcome,
    Calls,
    Case,
    ExecutionRequest,
    FunctionCheck,
    ResourceLimits,
    Status,
    Verdict,
)
from sdb_sandboxes.verifiers.comparison import is_right
from sdb_sandboxes.verifiers.verdicts import build_verdict

OBJECT_RULES = ("not_none", "truth", "anything")
"""Where an answer is one bit or less: a program that lies about it could as well have said True."""


def verify_function(
    sandbox: Sandbox, program: str, check: FunctionCheck, limits: ResourceLimits
) -> Verdict:
    """Send every input as plain data, compare every answer here. All cases must be right."""
    if not check.cases:
        raise ValueError(
            f"the check of {check.entry_point!r} has no case; zero tests prove nothing"
        )
    return judge_calls(sandbox, program, check, find_calls(check), limits)


def judge_calls(
    sandbox: Sandbox, program: str, check: FunctionCheck, calls: Calls, limits: ResourceLimits
) -> Verdict:
    """Make the calls of a check and compare their answers with its cases'."""
    result = sandbox.call_functions(ExecutionRequest(program, calls, limits))
    status, detail = result.status, result.detail
    num_passed = 0
    for number, (case, outcome) in enumerate(zip(check.cases, result.outcomes, strict=False), 1):
        if is_answer_right(case, outcome, check):
            num_passed += 1
            continue
        if status is Status.PASSED:
            status, detail = name_failure(check.entry_point, number, outcome.exception)
    return build_verdict(
        sandbox,
        result,
        status,
        detail,
        "L3",
        len(check.cases),
        num_passed,
        len(result.outcomes),
        check.comparison,
    )


def list_calls(check: FunctionCheck) -> Calls:
    """The calls of a check, one a case."""
    return tuple((check.entry_point, case.args) for case in check.cases)


find_calls = Remember(list_calls)


def is_answer_right(case: Case, outcome: CallOutcome, check: FunctionCheck) -> bool:
    """Compare one answer; where any object will do, one that cannot travel counts as True."""
    if outcome.exception == "Undecodable" and check.comparison in OBJECT_RULES:
        outcome = CallOutcome(True)
    return outcome.exception is None and is_right(case, outcome.value, check)


def name_failure(entry_point: str, number: int, exception: str | None) -> tuple[Status, str]:
    """Status and one line for the first case that failed; the expected value stays out of it."""
    where = f"call {number} of {entry_point}"
    if exception is None:
        return Status.WRONG_ANSWER, f"{where}: wrong answer"
    if exception == "Undecodable":
        return Status.WRONG_ANSWER, f"{where}: the answer is not plain data"
    limits = {"MemoryError": Status.MEMORY, "BlockingIOError": Status.PROCESSES}
    return limits.get(exception, Status.RUNTIME_ERROR), f"{where}: raised {exception}"
