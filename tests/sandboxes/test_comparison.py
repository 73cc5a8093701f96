"""Every comparison rule: what it forgives, and what it does not."""

import math

import pytest

from sdb_sandboxes.types import Case, FunctionCheck, TextRule, ValueRule
from sdb_sandboxes.verifiers.comparison import is_equal, is_right, is_same_text

NAN, INF = math.nan, math.inf
CASES: list[tuple[object, object, bool, bool, bool]] = [
    # expected, answer, exact, float_tolerance, python_equality
    (1, 1, True, True, True),
    (1, True, False, False, True),
    (1, 1.0, False, False, True),
    (0.3, 0.1 + 0.2, False, True, False),
    (0.3, 0.3002, False, False, False),
    (1e12, 1e12 + 1.0, False, True, False),
    (NAN, NAN, True, True, False),
    (1.0, NAN, False, False, False),
    (INF, INF, True, True, True),
    (INF, 1e308, False, False, False),
    (0.0, -0.0, True, True, True),
    ([1, 2], (1, 2), False, False, False),
    ([1, [2, 0.3]], [1, [2, 0.1 + 0.2]], False, True, False),
    ([1, 2], [1, 2, 3], False, False, False),
    ({1: "a"}, {True: "a"}, False, False, True),
    ({"a": 0.3}, {"a": 0.1 + 0.2}, False, True, False),
    ({1, 2}, {2, 1}, True, True, True),
    ({1, 2}, {1.0, 2}, False, False, True),
    ({1}, frozenset({1}), False, False, True),
    ({(1, 2)}, {(1, True + 1)}, True, True, True),
    ({(1, 2)}, {(True, 2)}, False, False, True),
    (1 + 2j, 1 + 2j, True, True, True),
    (None, None, True, True, True),
    (None, False, False, False, False),
    ("a", b"a", False, False, False),
]


@pytest.mark.parametrize(("expected", "answer", "exact", "tolerance", "equality"), CASES)
def test_rules(
    expected: object, answer: object, exact: bool, tolerance: bool, equality: bool
) -> None:
    rules: dict[ValueRule, bool] = {
        "exact": exact,
        "float_tolerance": tolerance,
        "python_equality": equality,
    }
    for comparison, wanted in rules.items():
        assert is_equal(expected, answer, comparison) is wanted, comparison


OTHER_RULES: list[tuple[ValueRule, float | None, object, object, bool]] = [
    # rule, tolerance, expected, answer, right
    ("set", None, (1, 2), [2, 1, 1], True),
    ("set", None, (1, 2), {1.0, 2}, True),
    ("set", None, (1, 2), (1,), False),
    ("set", None, "ab", "ba", False),
    ("set", None, [1], None, False),
    ("set", None, [[1]], [[1]], False),
    ("multiset", None, [1, 2, 1], (2, 1, 1), True),
    ("multiset", None, [1, 2, 1], [2, 2, 1], False),
    ("multiset", None, [1, 2, 1], [1, 2], False),
    ("multiset", None, [[1], {2}], [{2}, [1]], True),
    ("multiset", None, [NAN], [float("nan")], False),
    ("evalplus", None, 0.3, 0.1 + 0.2, True),
    ("evalplus", None, 0.3, 0.30001, False),
    ("evalplus", 1e-3, 0.3, 0.3001, True),
    ("evalplus", None, 1, 1.0, True),
    ("evalplus", None, 1.0, 1 + 1e-9, True),
    ("evalplus", None, 1, 1 + 1e-9, False),
    ("evalplus", None, [0.3, 1.0], [0.1 + 0.2, 1.0], True),
    ("evalplus", None, [0.3, 1.0], (0.1 + 0.2, 1.0), False),
    ("evalplus", None, [0.3, 1], [0.1 + 0.2, 1], False),
    ("evalplus", None, [0.3], [0.1 + 0.2, 1.0], False),
    ("evalplus", 1e-6, [[0.3], [2]], [[0.1 + 0.2], [2]], True),
    ("evalplus", 1e-6, "a", "b", False),
    ("evalplus", None, 0.5, NAN, False),
    ("evalplus", None, INF, 1e308, False),
    ("evalplus", 1e-6, 1.0, 10**400, False),
    ("not_none", None, True, "a match", True),
    ("not_none", None, True, None, False),
    ("not_none", None, False, None, True),
    ("not_none", None, False, False, True),
    ("not_none", None, False, 0, False),
    ("not_none", None, True, False, False),
    ("polynomial_root", 1e-4, [-6, 1], 6, True),
    ("polynomial_root", 1e-4, [-6, 1], 6.1, False),
    ("polynomial_root", 1e-4, [-6, 1], NAN, False),
    ("polynomial_root", 1e-4, [0, 1], False, False),
    ("polynomial_root", 1e-4, [-6, 1, 1], 1e308, False),
    ("polynomial_root", 1e-4, [-6, 1], 10**400, False),
    ("anything", None, 1, None, True),
    ("truth", None, True, [0], True),
    ("truth", None, True, 0.0, False),
    ("truth", None, False, "", True),
    ("truth", None, False, (None,), False),
    ("is_close", 1e-3, 100.0, 100.05, True),
    ("is_close", 1e-3, 100.0, 100, True),
    ("is_close", 1e-3, 100.0, 100.2, False),
    ("is_close", None, 1.0, 1.001, False),
    ("is_close", 1e-3, 0.5, NAN, False),
    ("is_close", 1e-3, 0.5, "0.5", False),
    ("is_close", 1e-3, 0.5, 10**400, False),
]


@pytest.mark.parametrize(("rule", "tolerance", "expected", "answer", "right"), OTHER_RULES)
def test_other_rules(
    rule: ValueRule, tolerance: float | None, expected: object, answer: object, right: bool
) -> None:
    assert is_equal(expected, answer, rule, tolerance) is right


def test_other_right_answers_count() -> None:
    check = FunctionCheck("f", (), "exact")
    case = Case((1,), 2, also=(0,))
    assert [is_right(case, answer, check) for answer in (2, 0, 1)] == [True, True, False]


TEXTS: list[tuple[str, str, tuple[bool, bool, bool, bool]]] = [
    # expected, answer, (exact_text, lines, tokens, tokens_float)
    ("a b\n", "a b\n", (True, True, True, True)),
    ("a b\n", "a b", (False, True, True, True)),
    ("a b\n", "a b  \r\n", (False, True, True, True)),
    ("a b\n", "a  b\n", (False, False, True, True)),
    ("a b\n", " a b\n", (False, False, True, True)),
    ("a\nb\n", "a b\n", (False, False, True, True)),
    ("a\nb\n", "a\n\nb\n", (False, False, True, True)),
    ("a\n", "a\n\n", (False, False, True, True)),
    ("a\nb\n", "a\n", (False, False, False, False)),
    ("a\n", "a\nb\n", (False, False, False, False)),
    ("Yes\n", "YES\n", (False, False, False, False)),
    ("", "x\n", (False, False, False, False)),
    ("\n", "", (False, True, True, True)),
    ("3\n", "3.0\n", (False, False, False, True)),
    ("0.5", "0.5000004", (False, False, False, True)),
    ("0.5", "0.50001", (False, False, False, False)),
    ("1000000000", "1000000001", (False, False, False, False)),
    ("1000000000.5", "1000000000.9", (False, False, False, True)),
    ("1000000000", "1000000000.9", (False, False, False, False)),
    ("7", "007", (False, False, False, True)),
    ("1", "nan", (False, False, False, False)),
    ("1", "1_0", (False, False, False, False)),
    ("1", "\u0661", (False, False, False, False)),
    ("1e999", "1e998", (False, False, False, False)),
    ("9" * 6000, "9" * 5999 + "8", (False, False, False, False)),
]


@pytest.mark.parametrize(("expected", "answer", "right"), TEXTS)
def test_text_rules(expected: str, answer: str, right: tuple[bool, bool, bool, bool]) -> None:
    rules: tuple[TextRule, ...] = ("exact_text", "lines", "tokens", "tokens_float")
    assert tuple(is_same_text(expected, answer, rule) for rule in rules) == right


@pytest.mark.parametrize(
    ("expected", "answer", "is_right"),
    [
        ("1.5\n3\n", " 1.50 \n3.0", True),
        ("\n\na b\n", "a b", True),
        ("a  b", "a b", False),
        ("1  2", "1 2.0", True),
        ("1 a", "1.0 a", False),
        ("1\n2", "1 2", False),
        ("1\n", "1\n\n1", False),
        ("0.5", "0.5000004", False),
        ("Yes", "yes", False),
    ],
)
def test_lines_of_decimals(expected: str, answer: str, is_right: bool) -> None:
    assert is_same_text(expected, answer, "lines_decimal") is is_right


def test_hostile_answers_take_no_time_to_compare() -> None:
    modulus = (1 << 61) - 1  # of the hash of numbers: multiples of it all hash to 0
    assert not is_equal({0}, [i * modulus for i in range(1, 300_000)], "set")
    assert is_equal({0, 1}, [0, 1] * 5_000, "set")
    digits = "9" * 1_000_000 + "x"
    for rule in ("tokens_float", "lines_decimal"):
        assert not is_same_text("1.5", digits, rule)


def test_unknown_rules_are_errors() -> None:
    with pytest.raises(ValueError, match="no rule for values"):
        is_equal(1, 1, "lines")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no rule for text"):
        is_same_text("", "", "exact")  # type: ignore[arg-type]
