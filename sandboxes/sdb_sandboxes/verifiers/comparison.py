"""The comparers: each rule by name, written once, deciding outside the sandbox.

Place in the flow: verifiers call `is_equal` on values that `codec.decode` built, so both sides are
exact plain types and no candidate code can run here, and `is_same_text` on captured output. The
rule's name is part of the check and of the verdict. What it does not do: it never calls `repr` on
an answer, and no rule folds upper and lower case.

Rules for values, and what each forgives:

- `exact`: nothing but the sign of zero. Same types all the way down; NaN only for NaN.
- `float_tolerance`: as `exact`, but floats may differ by 1e-6, absolute or relative to the larger.
- `python_equality`: what Python's `==` forgives: True for 1, 1.0 for 1, a set for a frozen set.
- `set`: order, repetition and kind of the outermost container; its items by `==`.
- `multiset`: order and kind (list or tuple) of the outermost container; its items by `==`.
- `evalplus`: `==`, or else numbers within the tolerance and 1e-7 relative, outermost types alike.
- `not_none`: for a yes, any answer but None and False; for a no, None and False.
- `truth`: for true, whatever Python takes as true; for false, whatever it takes as false.
- `is_close`: numbers as `math.isclose` with the tolerance relative to the larger.
- `polynomial_root`: any number whose polynomial (coefficients expected, constant first) is near 0.
- `anything`: whatever came back without an error.

Rules for text:

- `exact_text`: nothing.
- `lines`: white space at the end of a line (so CRLF too), and a missing or extra last newline.
- `lines_decimal`: white space around the output and around each line; a line may also hold the same
  numbers in another decimal spelling (1.50 for 1.5), as LiveCodeBench compares.
- `tokens`: all white space between words, so line breaks and blank lines too.
- `tokens_float`: as `tokens`; besides, a decimal number may differ by 1e-6, absolute or, where the
  expected one has a fraction or an exponent, relative. Two whole numbers are compared exactly.

What upstream does differently: EvalPlus keeps a tolerance once raised for later inputs (here each
case has its own); SandboxFusion folds case; open-r1 forgives missing and extra lines; APPS-style
checkers sort lines. Extra or missing lines are wrong under every rule but the token rules, and
there extra or missing words are.
"""

import math
import re
from decimal import Decimal

from sdb_sandboxes.types import Case, FunctionCheck, TextRule, ValueRule

TOLERANCE = 1e-6
"""Difference that `float_tolerance`, `evalplus` on floats and `tokens_float` forgive."""
EVALPLUS_RELATIVE = 1e-7
# One way to match any text: with two ways to split digits, long ones would take quadratic time.
DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\Z", re.ASCII)
INTEGER = re.compile(r"[+-]?\d+\Z", re.ASCII)


def is_right(case: Case, answer: object, check: FunctionCheck) -> bool:
    """Whether an answer is the expected one or one of the others that the data set accepts."""
    rule, tolerance = check.comparison, check.tolerance
    if is_equal(case.expected, answer, rule, tolerance):
        return True
    return any(is_equal(other, answer, rule, tolerance) for other in case.also)


def is_equal(
    expected: object, answer: object, comparison: ValueRule, tolerance: float | None = None
) -> bool:
    """Compare two values by the named rule.

    Args:
        expected: Plain data of the data set.
        answer: Plain data as decoded from the sandbox.
        comparison: A rule for values of this module's docstring.
        tolerance: In place of the rule's own; None keeps it.

    Raises:
        ValueError: No rule of that name, or `polynomial_root` without coefficients.
    """
    try:
        match comparison:
            case "exact":
                return is_same(expected, answer, 0.0)
            case "float_tolerance":
                return is_same(expected, answer, TOLERANCE if tolerance is None else tolerance)
            case "python_equality":
                return bool(answer == expected)
            case "set":
                return is_same_set(take_items(expected), take_items(answer))
            case "multiset":
                return is_rearranged(take_items(expected), take_items(answer))
            case "evalplus":
                return is_evalplus_equal(expected, answer, tolerance or 0.0)
            case "not_none":
                return (answer is not None and answer is not False) is bool(expected)
            case "truth":
                return bool(answer) is bool(expected)
            case "is_close":
                relative = TOLERANCE if tolerance is None else tolerance
                return are_numbers_close(expected, answer, relative)
            case "polynomial_root":
                return is_root(expected, answer, TOLERANCE if tolerance is None else tolerance)
            case "anything":
                return True
    except (RecursionError, TypeError, OverflowError):
        return False
    raise ValueError(f"comparison={comparison!r} is no rule for values")


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


def are_numbers_close(expected: object, answer: object, relative: float) -> bool:
    """What `math.isclose` says; anything but real numbers is not close."""
    are_numbers = isinstance(expected, int | float) and isinstance(answer, int | float)
    return are_numbers and math.isclose(expected, answer, rel_tol=relative)  # type: ignore[arg-type]


def take_items(value: object) -> list[object]:
    """The items of a container. Raises TypeError for anything else, text included."""
    if isinstance(value, list | tuple | set | frozenset | dict):
        return list(value)
    raise TypeError(type(value).__name__)


def is_same_set(expected: list[object], answer: list[object]) -> bool:
    """Whether both hold the same items, however often.

    A set of the answer's items is only built once all are expected ones: of others, thousands may
    be made to share a hash, and such a set takes quadratic time to build.
    """
    wanted = set(expected)
    return all(item in wanted for item in answer) and set(answer) == wanted


def is_rearranged(expected: list[object], answer: list[object]) -> bool:
    """Whether both hold the same items equally often."""
    if len(expected) != len(answer):
        return False
    left = list(answer)
    for item in expected:
        if item not in left:
            return False
        left.remove(item)
    return True


def is_evalplus_equal(expected: object, answer: object, tolerance: float) -> bool:
    """EvalPlus's rule: equal, or outermost types alike and every number close.

    Source: `evalplus.eval.unsafe_execute` as of 2025; a tolerance of 0 becomes 1e-6 where a float,
    or a list or tuple of nothing but floats, is expected.
    """
    if answer == expected:
        return True
    if tolerance == 0.0 and is_all_floats(expected):
        tolerance = TOLERANCE
    if tolerance == 0.0 or type(answer) is not type(expected):
        return False
    return is_all_close(expected, answer, tolerance)


def is_all_floats(value: object) -> bool:
    """A float, or a list or tuple with items that all are."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def is_all_close(expected: object, answer: object, tolerance: float) -> bool:
    """Same shape, and each number as near as NumPy's `allclose` wants it."""
    if isinstance(expected, list | tuple) and isinstance(answer, list | tuple):
        return len(expected) == len(answer) and all(
            is_all_close(left, right, tolerance)
            for left, right in zip(expected, answer, strict=True)
        )
    if isinstance(expected, int | float | complex) and isinstance(answer, int | float | complex):
        return answer == expected or (
            abs(answer - expected) <= tolerance + EVALPLUS_RELATIVE * abs(expected) < math.inf
        )
    return False


def is_root(coefficients: object, answer: object, tolerance: float) -> bool:
    """Whether the polynomial, constant first, is near zero at the answer."""
    if not isinstance(coefficients, list | tuple) or not coefficients:
        raise ValueError("polynomial_root needs the coefficients as the expected value")
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        return False
    root = float(answer)
    return bool(abs(sum(c * root**power for power, c in enumerate(coefficients))) <= tolerance)


def is_same_text(expected: str, answer: str, comparison: TextRule) -> bool:
    """Compare two outputs by the named rule. Raises ValueError for an unknown one."""
    match comparison:
        case "exact_text":
            return answer == expected
        case "lines":
            return split_lines(answer) == split_lines(expected)
        case "lines_decimal":
            left, right = expected.strip().split("\n"), answer.strip().split("\n")
            return len(left) == len(right) and all(map(is_same_decimal_line, left, right))
        case "tokens":
            return answer.split() == expected.split()
        case "tokens_float":
            left, right = expected.split(), answer.split()
            return len(left) == len(right) and all(map(is_same_token, left, right))
    raise ValueError(f"comparison={comparison!r} is no rule for text")


def split_lines(text: str) -> list[str]:
    """The lines without white space at their ends; a last newline adds no line."""
    return [line.rstrip() for line in text.removesuffix("\n").split("\n")]


def is_same_decimal_line(expected: str, answer: str) -> bool:
    """Equal as text without outer white space, or decimal numbers only and equal as numbers."""
    if expected.strip() == answer.strip():
        return True
    left, right = expected.split(), answer.split()
    return len(left) == len(right) and all(
        DECIMAL.match(a) and DECIMAL.match(b) and Decimal(a) == Decimal(b)
        for a, b in zip(left, right, strict=True)
    )


def is_same_token(expected: str, answer: str) -> bool:
    """Equal as text, or both decimal numbers and near enough."""
    if answer == expected:
        return True
    if not DECIMAL.match(expected) or not DECIMAL.match(answer):
        return False
    left, right = Decimal(expected), Decimal(answer)
    if INTEGER.match(expected) and INTEGER.match(answer):
        return left == right
    scale = 1 if INTEGER.match(expected) else max(Decimal(1), abs(left))
    return abs(left - right) <= Decimal("1e-6") * scale
