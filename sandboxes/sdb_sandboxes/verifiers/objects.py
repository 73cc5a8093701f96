"""L2b: tests in a process of their own use the program's classes and objects from afar.

Place in the flow: `verify` with an `ObjectCheck`: scripts of assertions and unittest cases about
classes. Data is compared as data in the tests' process (`agent/objects.py`); because an object may
still answer an arithmetic question of the tests as it likes, a program that passed has to fail a
control with an expected value made wrong. What it does not do: the program never shares a process,
a user or a jail with the tests.
"""

from dataclasses import replace

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ObjectCheck, ResourceLimits, Status, Verdict
from sdb_sandboxes.verifiers.controls import draw_controls, draw_suite_control
from sdb_sandboxes.verifiers.exit_code import FORGED, UNCONTROLLED
from sdb_sandboxes.verifiers.verdicts import build_verdict


def verify_objects(
    sandbox: Sandbox, program: str, check: ObjectCheck, limits: ResourceLimits
) -> Verdict:
    """Run the tests against the program, then a control against one that passed."""
    if not check.tests.strip():
        raise ValueError("the check has no tests; zero tests prove nothing")
    result = sandbox.run_assertions(program, check, limits)
    status, detail = result.status, result.detail
    if status is Status.PASSED:
        status, detail = run_controls(sandbox, program, check, limits)
    num_tests, num_run = max(1, len(check.test_ids)), max(1, result.num_tests_run)
    num_passed = 0 if detail == FORGED else result.num_tests_passed
    return build_verdict(sandbox, result, status, detail, "L2b", num_tests, num_passed, num_run)


def run_controls(
    sandbox: Sandbox, program: str, check: ObjectCheck, limits: ResourceLimits
) -> tuple[Status, str]:
    """Whether a program that passed fails every test whose expected value was made wrong."""
    for _ in range(check.num_controls):
        if check.test_ids:
            tests, names = draw_suite_control(check.tests)
            num_wrong = len(set(names) & set(check.test_ids))
        else:
            tests = next(iter(draw_controls(check.tests, 1)), "")
            num_wrong = int(bool(tests))
        if not num_wrong:
            return Status.PASSED, UNCONTROLLED
        control = sandbox.run_assertions(program, replace(check, tests=tests), limits)
        if control.status is Status.INFRASTRUCTURE:
            return control.status, control.detail
        num_tests = max(1, len(check.test_ids))
        if control.num_tests_passed > num_tests - num_wrong:
            return Status.WRONG_ANSWER, FORGED
    return Status.PASSED, ""
