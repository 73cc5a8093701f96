"""The last step of every verdict: joins what was found out with what the sandbox measured."""

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ExecutionResult, Status, TrustLevel, Verdict


def build_verdict(
    sandbox: Sandbox,
    result: ExecutionResult,
    status: Status,
    detail: str,
    trust_level: TrustLevel,
    num_tests: int,
    num_tests_passed: int,
    num_tests_run: int,
    comparison: str = "",
) -> Verdict:
    """Build the verdict; `status` and `detail` are the verifier's, the rest is measured."""
    return Verdict(
        status=status,
        num_tests=num_tests,
        num_tests_passed=num_tests_passed,
        cpu_s=result.cpu_s,
        wall_s=result.wall_s,
        peak_memory_bytes=result.peak_memory_bytes,
        trust_level=trust_level,
        sandbox_level=sandbox.level,
        image=sandbox.image,
        comparison=comparison,
        num_tests_run=num_tests_run,
        signal=result.signal,
        is_output_truncated=result.is_output_truncated,
        stdout_tail=result.stdout_tail,
        stderr_tail=result.stderr_tail,
        detail=detail,
    )
