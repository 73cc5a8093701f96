"""The converter: exactly the sources that are pure data become data."""

import pytest

from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.types import AssertionCheck, Case, FunctionCheck, ObjectCheck
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.conversion import (
    build_assertion_check,
    build_process_check,
    convert_assertions,
)

HEAD = "METADATA = {'author': 'x'}\n\ndef check(candidate):\n"


def test_reads_cases_from_both_sides() -> None:
    tests = HEAD + (
        "    '''docstring'''\n    assert True, 'always'\n"
        "    assert candidate([1], 'a') == (1, -2), 'message'\n    assert [1] == candidate()\n"
        "    assert candidate(3 * 5) == 2 ** 3\n"
    )
    cases = (Case(([1], "a"), (1, -2)), Case((), [1]), Case((15,), 8))
    assert convert_assertions(tests, "f") == FunctionCheck("f", cases, "python_equality")


@pytest.mark.parametrize(
    "body",
    [
        "assert abs(candidate(1) - 2) < 1e-6",
        "assert candidate(1)\n    assert candidate(2) == 3",
        "assert set(candidate(1)) == {1}",
        "assert set(candidate(1)) == set('a')",
        "assert math.isclose(candidate(1), 2)",
        "assert math.isclose(candidate(1), 2, abs_tol=0.1)",
        "assert candidate(1) is True",
        "assert candidate(1) != 2",
        "assert candidate(1) == 2 == 2",
        "assert candidate(candidate(1)) == 2",
        "assert candidate(x=1) == 2",
        "assert other(1) == 2",
        "for i in range(3): assert candidate(i) == i",
        "x = [1]\n    assert candidate(x) == 2",
        "import math\n    assert candidate(1) == 2",
        "assert candidate(*[1]) == 2",
        "assert candidate(9 ** 9 ** 9) == 2",
        "assert candidate('a' * 10 ** 9) == 2",
        "assert candidate(1 / 0) == 2",
        "assert False",
        "pass",
        "assert True",
        "print(candidate(1))",
    ],
)
def test_leaves_everything_else_alone(body: str) -> None:
    assert convert_assertions(HEAD + "    " + body + "\n", "f") is None


@pytest.mark.parametrize(
    "tests",
    [
        "def check(candidate):\n    assert candidate(1) == 2\ncheck(f)\n",
        "def helper(): pass\ndef check(candidate):\n    assert candidate(1) == 2\n",
        "@wrap\ndef check(candidate):\n    assert candidate(1) == 2\n",
        "def check(candidate, extra=1):\n    assert candidate(1) == 2\n",
        "def test(candidate):\n    assert candidate(1) == 2\n",
        "def check(candidate:\n",
    ],
)
def test_leaves_other_shapes_alone(tests: str) -> None:
    assert convert_assertions(tests, "f") is None


def test_a_list_of_assertions_becomes_data_where_it_is_data() -> None:
    tests = ["assert f((1, 2)) == 3\r\n", "assert (-2+1e-16j) == f([])"]
    cases = (Case(((1, 2),), 3), Case(([],), -2 + 1e-16j))
    assert build_assertion_check(tests, "f") == FunctionCheck("f", cases, "python_equality")
    assert build_assertion_check(["assert f(1)", "assert f(3)"], "f") == FunctionCheck(
        "f", (Case((1,), True), Case((3,), True)), "truth"
    )
    assert build_assertion_check(["assert not f(1)"], "f") == FunctionCheck(
        "f", (Case((1,), False),), "truth"
    )
    assert build_assertion_check(["assert set(f(1)) == set([2])"], "f") == FunctionCheck(
        "f", (Case((1,), [2]),), "set"
    )
    assert build_assertion_check(
        ["assert math.isclose(f(1), 2.5, rel_tol=0.001)"], "f", "import math"
    ) == FunctionCheck("f", (Case((1,), 2.5),), "is_close", 0.001)


def test_a_list_of_other_assertions_keeps_a_process_of_its_own() -> None:
    check = build_assertion_check(["assert f(1) == n"], "f", "n = 2")
    assert check == AssertionCheck("f", "def check(candidate):\n    assert f(1) == n\n", "n = 2")


def test_a_type_is_handed_over_from_afar() -> None:
    prompt = "def f(values, kind):\n    'Leave out a kind.'\n"
    right = prompt + "    return [v for v in values if not isinstance(v, kind)]\n"
    tests = "def check(candidate):\n    assert candidate((1, 'a'), int) == ['a']\n"
    checks = (
        build_process_check(tests, "f", prompt),
        build_assertion_check(["assert f((1, 'a'), int) == ['a']"], "f", "import math"),
    )
    with open_sandbox(num_slots=1) as sandbox:
        for check in checks:
            assert isinstance(check, ObjectCheck)
            verdicts = [verify(sandbox, text, check) for text in (right, prompt, "")]
            assert [verdict.is_passed for verdict in verdicts] == [True, False, False]
    plain = "def check(candidate):\n    assert isinstance(candidate(1), int)\n"
    assert build_process_check(plain, "f") == AssertionCheck("f", plain)
