"""L2: test code in a process of its own questions the program in another.

Place in the flow: `verify` with an `AssertionCheck` (one function, plain data). What it does not
do: the program never shares a process, a user or a jail with the tests.
"""

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import AssertionCheck, ResourceLimits, Status, Verdict
from sdb_sandboxes.verifiers.verdicts import build_verdict


def verify_assertions(
    sandbox: Sandbox, program: str, check: AssertionCheck, limits: ResourceLimits
) -> Verdict:
    """Run the tests against the program. One test: all of it."""
    result = sandbox.run_assertions(program, check, limits)
    num_passed = int(result.status is Status.PASSED)
    return build_verdict(sandbox, result, result.status, result.detail, "L2", 1, num_passed, 1)
