"""The one comparer: decides outside the sandbox whether a decoded answer is the expected one.

Place in the flow: `verifiers.verify` calls `is_equal` on values that `codec.decode` built, so both
sides are exact plain types and no candidate code can run here. What it does not do: it never calls
`repr` on an answer and knows no order-insensitive or case-insensitive comparison.
"""

import math

from sdb_sandboxes.types import Comparison

TOLERANCE = 1e-6
"""Absolute or relative difference that `float_tolerance` forgives."""


def is_equal(expected: object, answer: object, comparison: Comparison) -> bool:
    """Compare by the named rule.

    Args:
        expected: Plain data of the data set.
        answer: Plain data as decoded from the sandbox.
        comparison: `exact`, `float_tolerance` or `python_equality` (see `types.Comparison`).
    """
    try:
        if comparison == "python_equality":
            return bool(answer == expected)
        return is_same(expected, answer, 0.0 if comparison == "exact" else TOLERANCE)
    except RecursionError:
        return False


def is_same(expected: object, answer: object, tolerance: float) -> bool:
    """Same types all the way down and equal; floats within `tolerance`, NaN only for NaN."""
    if type(expected) is not type(answer):
        return False
    if isinstance(expected, float) and isinstance(answer, float):
        return is_close(expected, answer, tolerance)
    if isinstance(expected, complex) and isinstance(answer, complex):
        return is_close(expected.real, answer.real, tolerance) and is_close(
            expected.imag, answer.imag, tolerance
        )
    if isinstance(expected, list | tuple) and isinstance(answer, list | tuple):
        return len(expected) == len(answer) and all(
            is_same(left, right, tolerance) for left, right in zip(expected, answer, strict=True)
        )
    if isinstance(expected, dict) and isinstance(answer, dict):
        found = {(type(key), key): key for key in answer}
        return len(expected) == len(answer) and all(
            (type(key), key) in found
            and is_same(key, found[type(key), key], 0.0)
            and is_same(expected[key], answer[key], tolerance)
            for key in expected
        )
    if isinstance(expected, set | frozenset) and isinstance(answer, set | frozenset):
        found = {(type(item), item): item for item in answer}
        return len(expected) == len(answer) and all(
            (type(item), item) in found and is_same(item, found[type(item), item], 0.0)
            for item in expected
        )
    return expected == answer


def is_close(expected: float, answer: float, tolerance: float) -> bool:
    """Compare two floats; infinities and, in exact mode, every bit but the sign of zero count."""
    if math.isnan(expected) or math.isnan(answer):
        return math.isnan(expected) and math.isnan(answer)
    if tolerance == 0.0 or math.isinf(expected) or math.isinf(answer):
        return expected == answer
    return abs(expected - answer) <= tolerance * max(1.0, abs(expected), abs(answer))
