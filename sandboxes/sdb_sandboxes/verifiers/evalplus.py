"""EvalPlus's data as checks: HumanEval+ and MBPP+, base and plus inputs.

Place in the flow: a benchmark loader calls `build_evalplus_check` with what a line of the data
holds, and gets a check of trust level L3. Source: `evalplus.eval` and `evalplus.data.mbpp` as of
2025 (Liu et al. 2023, arXiv 2305.01210): which tasks are compared how, and which inputs JSON has
flattened. Differences, all named: a tolerance holds for its own input and not for later ones; an
answer that is no plain data is wrong (but an object is not None, where that is what is asked).

What it does not do: it runs nothing; the expected outputs, which the data lacks, come from the
reference in the sandbox (`references.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from sdb_sandboxes.types import Case, Check, FunctionCheck, ReferenceCheck, ValueRule

CPU_FACTOR = 4.0
"""EvalPlus's limit is this many times what the reference takes, or more."""

SET_TASKS = {
    *("similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly"),
    *("larg_nnum", "intersection_array", "find_dissimilar", "Diff"),
}
"""MBPP+ tasks whose answers are compared as sets."""
NOT_NONE_TASKS = {"check_str", "text_match_three", "text_starta_endb"}
"""MBPP+ tasks where any object is a yes and None is a no."""
ALTERNATIVES = {
    "sum_div": "def sum_div(number):\n    return 0\n",
    "surface_Area": (
        "import math\n"
        "def surface_Area(base_edge, height):\n"
        "    slant = math.sqrt((base_edge / 2) ** 2 + height**2)\n"
        "    return round(base_edge**2 + 2 * base_edge * slant)\n"
    ),
    "digit_distance_nums": (
        "def digit_distance_nums(left, right):\n"
        "    left, right = str(left), str(right)\n"
        "    width = max(len(left), len(right))\n"
        "    pairs = zip(left.zfill(width), right.zfill(width))\n"
        "    return sum(abs(int(a) - int(b)) for a, b in pairs)\n"
    ),
}
"""MBPP+ tasks whose text can be read in another way, and that reading as a program."""


def build_evalplus_check(
    dataset: Literal["humaneval", "mbpp"],
    entry_point: str,
    reference: str,
    inputs: Sequence[Sequence[object]],
    tolerance: float,
) -> Check:
    """The check of one task on some of its inputs (base, plus, or both one after the other).

    Args:
        dataset: Which of the two; the same name may stand in both.
        entry_point: The function to call.
        reference: Prompt and canonical solution: a whole program.
        inputs: Positional arguments of each call; those of MBPP+ go through `restore_mbpp_inputs`.
        tolerance: The task's field `atol`.

    Returns:
        A check that compares as EvalPlus does.
    """
    arguments = tuple(tuple(call) for call in inputs)
    if (dataset, entry_point) == ("humaneval", "find_zero"):
        # Any root will do, and the polynomial is the input: nothing to ask a reference.
        cases = tuple(Case(call, call[0]) for call in arguments)
        return FunctionCheck(entry_point, cases, "polynomial_root", tolerance)
    if (dataset, entry_point) == ("mbpp", "are_equivalent"):
        cases = tuple(Case(call, None) for call in arguments)
        return FunctionCheck(entry_point, cases, "anything")
    comparison: ValueRule = "evalplus"
    alternatives: tuple[str, ...] = ()
    if dataset == "mbpp":
        comparison = (
            "set"
            if entry_point in SET_TASKS
            else "not_none"
            if entry_point in NOT_NONE_TASKS
            else "evalplus"
        )
        alternatives = (ALTERNATIVES[entry_point],) if entry_point in ALTERNATIVES else ()
    return ReferenceCheck(
        entry_point, reference, arguments, comparison, tolerance, alternatives, CPU_FACTOR
    )


def restore_mbpp_inputs(task_number: int, inputs: Any) -> list[tuple[object, ...]]:
    """Turn what JSON made of MBPP+'s inputs back into tuples, sets, floats and complex numbers.

    Args:
        task_number: 2 for `Mbpp/2`.
        inputs: The field `base_input` or `plus_input`; an empty object stands for no inputs.

    Returns:
        The positional arguments of each call.
    """
    restore = next((how for tasks, how in RESTORATIONS if task_number in tasks), tuple)
    return [tuple(restore(call)) for call in inputs or ()]


def freeze(value: Any) -> Any:
    """Every list in it as a tuple."""
    return tuple(map(freeze, value)) if isinstance(value, list) else value


def freeze_rows(call: list[Any]) -> list[Any]:
    """Arguments that are lists of tuples."""
    return [list(map(tuple, argument)) for argument in call]


RESTORATIONS: tuple[tuple[frozenset[int], Callable[[list[Any]], Sequence[Any]]], ...] = (
    (
        frozenset(
            {2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424}
            | {429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809}
        ),
        lambda call: list(map(tuple, call)),
    ),
    (
        frozenset({63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780}),
        freeze_rows,
    ),
    (frozenset({75, 413, 444, 753}), lambda call: [list(map(tuple, call[0])), call[1]]),
    (frozenset({106, 750}), lambda call: [call[0], tuple(call[1])]),
    (
        frozenset({115}),
        lambda call: [[set(item) if isinstance(item, list) and item else {} for item in call[0]]],
    ),
    (frozenset({124}), lambda call: [float(call[0]), complex(call[1])]),
    (
        frozenset({250, 405, 446, 617, 720, 763, 808, 307}),
        lambda call: [tuple(call[0]), *call[1:]],
    ),
    (frozenset({259, 401, 445}), lambda call: list(map(freeze, call))),
    (
        frozenset({278}),
        lambda call: [tuple(tuple(x) if isinstance(x, list) else x for x in call[0])],
    ),
    (
        frozenset({722}),
        lambda call: [{name: tuple(row) for name, row in call[0].items()}, *call[1:]],
    ),
    (frozenset({252}), lambda call: [complex(call[0])]),
    (frozenset({580, 615, 791}), freeze),
)
"""Tasks, and how one call of theirs is restored."""
