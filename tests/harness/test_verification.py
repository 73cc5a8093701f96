"""Verification finds references that fail and trivial programs that pass."""

from dataclasses import replace

from sdb_harness.benchmarks import Benchmark
from sdb_harness.records import Problem
from sdb_harness.verification import verify_judging, write_always_equal
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.types import (
    Case,
    ExitCodeCheck,
    FunctionCheck,
    ObjectCheck,
    ResourceLimits,
)


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
    for cheat in ("always equal", "exit(0)", "os._exit(0)"):
        assert (findings[cheat].num_programs, findings[cheat].exceptions) == (3, ())


def test_references_pass_on_an_overloaded_machine_too() -> None:
    busy = "    import time\n    end = time.process_time() + 0.2\n" + (
        "    while time.process_time() < end: pass\n    return x + 1\n"
    )
    problems = tuple(make_problem(f"busy {i}", busy, 2) for i in range(4))
    limits = ResourceLimits(cpu_s=0.6, wall_s=60.0)
    benchmark = Benchmark("b", "r", problems, {}, "none", "none", limits)
    with open_sandbox(num_slots=2) as sandbox:
        findings = verify_judging(benchmark, sandbox, load=8)
    assert [(found.name, found.num_passed) for found in findings[:2]] == [
        ("reference", 4),
        ("reference, load 8", 4),
    ]


def test_programs_that_equal_everything_take_every_name_that_is_asked_for() -> None:
    problem = make_problem("a", "", 2)
    assert (write_always_equal(problem) or "").endswith("f = Everything()\n")
    objects = replace(problem, check=ObjectCheck("assert A()", ("A", "b")))
    assert "A = Everything()\nb = Everything()\nf = Everything()\n" in (
        write_always_equal(objects) or ""
    )
    other = replace(problem, check=ExitCodeCheck("perl", "1"))
    assert write_always_equal(other) is None
