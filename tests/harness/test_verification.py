"""Verification finds references that fail and trivial programs that pass."""

from sdb_harness.benchmarks import Benchmark
from sdb_harness.records import Problem
from sdb_harness.verification import verify_judging
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.types import Case, FunctionCheck, ResourceLimits


def make_problem(name: str, reference: str, expected: object) -> Problem:
    return Problem(
        problem_id=name,
        prompt='def f(x):\n    """Do it."""\n',
        reference=reference,
        entry_point="f",
        check=FunctionCheck("f", (Case((1,), expected),)),
    )


def test_wrong_reference_and_too_weak_check_are_found() -> None:
    problems = (
        make_problem("right", "    return x + 1\n", 2),
        make_problem("broken", "    return x\n", 2),
        make_problem("weak", "    return None\n", None),
    )
    benchmark = Benchmark("b", "r", problems, {}, "none", "none", ResourceLimits())
    with open_sandbox(num_slots=1) as sandbox:
        findings = {finding.name: finding for finding in verify_judging(benchmark, sandbox)}
    assert findings["reference"].exceptions == ("broken: wrong_answer",)
    assert findings["empty"].exceptions == ()
    assert findings["prompt alone"].exceptions == ("weak: passed",)
    assert findings["return None"].exceptions == ("weak: passed",)
    assert findings["reference"].num_passed == 2
