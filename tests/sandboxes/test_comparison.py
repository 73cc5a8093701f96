"""The comparer's three rules."""

import math

import pytest

from sdb_sandboxes.types import Comparison
from sdb_sandboxes.verifiers.comparison import is_equal

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
    rules: dict[Comparison, bool] = {
        "exact": exact,
        "float_tolerance": tolerance,
        "python_equality": equality,
    }
    for comparison, wanted in rules.items():
        assert is_equal(expected, answer, comparison) is wanted, comparison
