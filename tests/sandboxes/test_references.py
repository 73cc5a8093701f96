"""Checks whose right answers come from a reference run in the same sandbox."""

from collections.abc import Iterator

import pytest

from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ReferenceCheck, ResourceLimits, Status, ValueRule
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.references import find_oracle, scale_limits

LIMITS = ResourceLimits(cpu_s=2.0, wall_s=60.0)
DOUBLE = "def f(x): return 2 * x"
INPUTS = ((1,), (-4,), (0.5,))


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("docker", marks=pytest.mark.docker)]
)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "docker":
        request.getfixturevalue("engine")
    with open_sandbox(request.param, num_slots=1) as sandbox:
        yield sandbox


def test_the_answers_of_the_reference_decide(sandbox: Sandbox) -> None:
    check = ReferenceCheck("f", DOUBLE, INPUTS)
    right = verify(sandbox, "def f(x): return x + x", check, LIMITS)
    assert (right.status, right.num_tests, right.num_tests_passed) == (Status.PASSED, 3, 3)
    assert (right.trust_level, right.comparison, right.num_tests_run) == ("L3", "exact", 3)
    wrong = verify(sandbox, "def f(x): return x * x + x", check, LIMITS)
    assert (wrong.status, wrong.num_tests_passed) == (Status.WRONG_ANSWER, 1)


CHEATS = {
    "equal to everything": "class L:\n    def __eq__(s, o): return True\ndef f(x): return L()",
    "a number equal to everything": (
        "class L(int):\n    def __eq__(s, o): return True\ndef f(x): return L()"
    ),
    "nothing": "",
    "None": "def f(x): return None",
    "the input": "def f(x): return x",
    "leaves early": "import os\ndef f(x): os._exit(0)",
    "leaves at once": "raise SystemExit(0)",
    "walks the frames": (
        "import sys, gc\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in frame.f_locals.values():\n"
        "            if type(value) is dict and 'reference' in value: exec(value['reference'])\n"
        "        frame = frame.f_back\n    return [o for o in gc.get_objects() if o == 2 * x]"
    ),
    "answers for all at once": (
        "import os, struct, json\ndef f(x):\n    for i in range(1, 4):\n"
        "        b = json.dumps({'id': i, 'v': 2}).encode()\n"
        "        os.write(3, struct.pack('<I', len(b)) + b)\n    os._exit(0)"
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_fail(sandbox: Sandbox, name: str) -> None:
    verdict = verify(sandbox, CHEATS[name], ReferenceCheck("f", DOUBLE, INPUTS), LIMITS)
    assert verdict.status in (Status.WRONG_ANSWER, Status.RUNTIME_ERROR)


def test_what_a_call_does_to_its_input_reaches_no_other_call(sandbox: Sandbox) -> None:
    shared = [3, 1, 2]
    check = ReferenceCheck(
        "f", "def f(x):\n    x.sort()\n    return x[0]", ((shared,), (shared,)), "exact"
    )
    program = "def f(x):\n    low = min(x)\n    x.clear()\n    return low"
    assert verify(sandbox, program, check, LIMITS).is_passed
    assert shared == [3, 1, 2]


@pytest.mark.parametrize(
    ("program", "is_passed"),
    [
        ("import re\ndef f(x): return re.match('a', x)", True),
        ("def f(x): return x.startswith('a')", True),
        ("def f(x): return 'Found' if x.startswith('a') else None", True),
        ("def f(x): return object()", False),
        ("def f(x): return None", False),
    ],
)
def test_any_object_is_a_yes(sandbox: Sandbox, program: str, is_passed: bool) -> None:
    reference = "import re\ndef f(x): return re.search('^a', x)"
    check = ReferenceCheck("f", reference, (("abc",), ("bcd",)), "not_none")
    assert verify(sandbox, program, check, LIMITS).is_passed is is_passed


@pytest.mark.parametrize(("rule", "is_passed"), [("set", True), ("evalplus", False)])
def test_the_rule_of_the_check_compares(sandbox: Sandbox, rule: ValueRule, is_passed: bool) -> None:
    check = ReferenceCheck("f", "def f(x): return [x, 1, 1]", ((2,),), rule)
    verdict = verify(sandbox, "def f(x): return (1, x)", check, LIMITS)
    assert (verdict.is_passed, verdict.comparison) == (is_passed, rule)


def test_alternatives_are_right_too(sandbox: Sandbox) -> None:
    other = "def f(x):\n    if x < 0: raise ValueError\n    return 0"
    check = ReferenceCheck("f", DOUBLE, INPUTS, alternatives=(other,))
    assert verify(sandbox, "def f(x): return 0 if x > 0 else 2 * x", check, LIMITS).is_passed
    verdict = verify(sandbox, "def f(x): return 0", check, LIMITS)
    assert verdict.status is Status.WRONG_ANSWER


@pytest.mark.parametrize(
    "reference", ["def f(x): return 1 / 0", "def f(x): return object()", "def f(x:", "def g(): 1"]
)
def test_a_broken_reference_is_ours(sandbox: Sandbox, reference: str) -> None:
    check = ReferenceCheck("f", reference, INPUTS)
    verdict = verify(sandbox, DOUBLE, check, LIMITS)
    assert verdict.status is Status.INFRASTRUCTURE
    assert verdict.detail.startswith("the reference fails here: ")


def test_no_input_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="zero tests prove nothing"):
        verify(sandbox, DOUBLE, ReferenceCheck("f", DOUBLE, ()), LIMITS)


def test_the_reference_runs_once_a_session(sandbox: Sandbox) -> None:
    check = ReferenceCheck("f", "import time\ndef f(x): return time.time_ns()", INPUTS)
    first, second = (find_oracle(sandbox, check, LIMITS) for _ in range(2))
    assert first is second
    assert first.check is not None
    assert len({case.expected for case in first.check.cases}) == 3


SPIN = "import time\ndef f(x):\n    end = time.process_time() + {}\n" + (
    "    while time.process_time() < end: pass\n    return x"
)


def test_the_reference_scales_the_limit(sandbox: Sandbox) -> None:
    limits = ResourceLimits(cpu_s=0.2, wall_s=30.0)
    slow, scaled = (ReferenceCheck("f", SPIN.format(0.3), INPUTS[:1], cpu_factor=f) for f in (0, 4))
    assert verify(sandbox, SPIN.format(0.5), slow, limits).status is Status.CPU_TIME
    assert verify(sandbox, SPIN.format(0.5), scaled, limits).is_passed


def test_limits_only_grow() -> None:
    limits = ResourceLimits(cpu_s=2.0, wall_s=10.0)
    assert scale_limits(limits, 0.1, 4.0) == limits
    assert scale_limits(limits, 1.0, 4.0) == ResourceLimits(cpu_s=4.0, wall_s=20.0)


def test_large_answers_of_the_reference_raise_the_limit(sandbox: Sandbox) -> None:
    limits = ResourceLimits(cpu_s=5.0, wall_s=60.0, answer_bytes=100_000)
    check = ReferenceCheck("f", "def f(x): return 'a' * x", ((200_000,), (100,)))
    assert verify(sandbox, "def f(x): return 'a' * x", check, limits).is_passed
    verdict = verify(sandbox, "def f(x): return 'a' * (9 * x)", check, limits)
    assert verdict.status is Status.OUTPUT
