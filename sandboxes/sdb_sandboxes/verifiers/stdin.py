"""L3 for whole programs: text in on standard input, text out on standard output, compared here.

Place in the flow: `verify` with a `StdinCheck`. Every case is a fresh run, the judge stops at the
first wrong one, and a run counts only if it ended by itself with exit code 0. The expected output
never leaves this process. What it does not do: standard error is kept for people, never compared.
"""

from dataclasses import replace

from sdb_sandboxes.languages import find_language
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    ExecutionResult,
    ProgramOutcome,
    ProgramRequest,
    ResourceLimits,
    Status,
    StdinCheck,
    Verdict,
)
from sdb_sandboxes.verifiers.comparison import is_same_text
from sdb_sandboxes.verifiers.verdicts import build_verdict


def verify_stdin(
    sandbox: Sandbox, program: str, check: StdinCheck, limits: ResourceLimits
) -> Verdict:
    """Run the program on case after case; the first one that is not right ends it."""
    if not check.cases:
        raise ValueError("the check of a program has no case; zero tests prove nothing")
    name = find_language(check.language).file_name
    num_passed = num_run = 0
    total, detail = ExecutionResult(Status.PASSED, (), 0.0, 0.0, 0), ""
    for batch in split_cases(check):
        stdins = tuple(stdin for stdin, _ in batch)
        request = ProgramRequest(check.language, ((name, program),), stdins, limits)
        result = sandbox.run_program(request)
        total = replace(
            result,
            cpu_s=total.cpu_s + result.cpu_s,
            wall_s=total.wall_s + result.wall_s,
            peak_memory_bytes=max(total.peak_memory_bytes, result.peak_memory_bytes),
        )
        status, detail = result.status, result.detail
        for (_, expected), run in zip(batch, result.runs, strict=False):
            num_run += 1
            status, detail = judge_run(run, expected, check, result.detail)
            if status is not Status.PASSED:
                detail = f"case {num_run}: {detail}"
                break
            num_passed += 1
        if status is not Status.PASSED or num_passed == len(check.cases):
            break
    return build_verdict(
        sandbox,
        total,
        status,
        detail,
        "L3",
        len(check.cases),
        num_passed,
        num_run,
        check.comparison,
    )


def split_cases(check: StdinCheck) -> list[tuple[tuple[str, str], ...]]:
    """One case a request where nothing is compiled, so that a wrong answer ends the work at once.

    Other languages are compiled once, for all cases.
    """
    return [(case,) for case in check.cases] if check.language == "python" else [check.cases]


def judge_run(
    run: ProgramOutcome, expected: str, check: StdinCheck, detail: str
) -> tuple[Status, str]:
    """Status of one run and one line that does not show the expected output."""
    if run.status is not Status.PASSED:
        return run.status, detail
    if run.is_output_truncated or not is_same_text(expected, run.stdout, check.comparison):
        return Status.WRONG_ANSWER, "wrong output"
    return Status.PASSED, ""
