"""EvalPlus's data as checks: which rule for which task, and inputs as Python wrote them."""

import ast
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import FunctionCheck, ReferenceCheck, ResourceLimits, Status
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.evalplus import build_evalplus_check, restore_mbpp_inputs

LIMITS = ResourceLimits(cpu_s=2.0, wall_s=60.0)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox("embedded", num_slots=1) as sandbox:
        yield sandbox


def test_a_task_asks_its_reference() -> None:
    check = build_evalplus_check("humaneval", "f", "def f(x): return x", [[1], [2]], 1e-6)
    assert isinstance(check, ReferenceCheck)
    assert (check.inputs, check.comparison, check.tolerance) == (((1,), (2,)), "evalplus", 1e-6)


@pytest.mark.parametrize(
    ("entry_point", "rule"),
    [
        ("Diff", "set"),
        ("check_str", "not_none"),
        ("sum_div", "evalplus"),
        ("find_zero", "evalplus"),
    ],
)
def test_rules_of_single_tasks(entry_point: str, rule: str) -> None:
    check = build_evalplus_check("mbpp", entry_point, "", [[1]], 0)
    assert isinstance(check, ReferenceCheck)
    assert check.comparison == rule
    other = build_evalplus_check("humaneval", "Diff", "", [[1]], 0)
    assert isinstance(other, ReferenceCheck)
    assert (other.comparison, other.alternatives) == ("evalplus", ())


@pytest.mark.parametrize(("shift", "is_passed"), [(0.0, True), (1e-6, True), (1e-3, False)])
def test_any_root_of_the_polynomial_will_do(
    sandbox: Sandbox, shift: float, is_passed: bool
) -> None:
    check = build_evalplus_check("humaneval", "find_zero", "", [[[-6.0, 11.0, -6.0, 1.0]]], 1e-4)
    for root in (1.0, 2.0, 3.0):
        program = f"def find_zero(xs): return {root + shift}"
        assert verify(sandbox, program, check, LIMITS).is_passed is is_passed


def test_a_task_that_accepts_every_answer_still_wants_one(sandbox: Sandbox) -> None:
    check = build_evalplus_check("mbpp", "are_equivalent", "", [[36, 57]], 0)
    assert isinstance(check, FunctionCheck)
    assert verify(sandbox, "def are_equivalent(a, b): return object()", check, LIMITS).is_passed
    for program in ("", "def are_equivalent(a, b): raise SystemExit(0)"):
        assert verify(sandbox, program, check, LIMITS).status is Status.RUNTIME_ERROR


ALTERNATIVE_READINGS = {
    "sum_div": ("def sum_div(n): return 1", "def sum_div(n): return 0", [[6]]),
    "surface_Area": (
        "def surface_Area(b, h): return 2 * b * h + b * b",
        "def surface_Area(b, h): return 35",
        [[3, 4]],
    ),
    "digit_distance_nums": (
        "def digit_distance_nums(a, b): return sum(map(int, str(abs(a - b))))",
        "def digit_distance_nums(a, b): return 9 + 8",
        [[19, 90]],
    ),
}


@pytest.mark.parametrize("name", ALTERNATIVE_READINGS)
def test_the_second_reading_of_a_text_is_right(sandbox: Sandbox, name: str) -> None:
    reference, other, inputs = ALTERNATIVE_READINGS[name]
    check = build_evalplus_check("mbpp", name, reference, inputs, 0)
    for program in (reference, other):
        verdict = verify(sandbox, program, check, LIMITS)
        assert verdict.is_passed, verdict.detail
    assert not verify(sandbox, f"def {name}(*args): return -1", check, LIMITS).is_passed


def test_restores_what_json_flattened() -> None:
    assert restore_mbpp_inputs(2, [[[1], [2]]]) == [((1,), (2,))]
    assert restore_mbpp_inputs(63, [[[[1, 2]]]]) == [([(1, 2)],)]
    assert restore_mbpp_inputs(115, [[[[1], [], 2]]]) == [([{1}, {}, {}],)]
    assert restore_mbpp_inputs(252, [["1j"]]) == [(1j,)]
    assert restore_mbpp_inputs(3, [[[1]]]) == [([1],)]
    assert restore_mbpp_inputs(6, {}) == []


def is_same(left: Any, right: Any) -> bool:
    if isinstance(left, list | tuple) and type(left) is type(right):
        return len(left) == len(right) and all(map(is_same, left, right))
    if isinstance(left, complex) and isinstance(right, complex):
        return left == right  # as Python source, -1j has a real part of -0.0
    return repr(left) == repr(right)


def test_inputs_are_those_that_upstream_wrote_as_python() -> None:
    """The `-OriginFmt` file holds the same inputs, without repetitions, as Python source."""
    folder = Path(os.environ.get("SDBENCH_DATA", "")) / "evalplus"
    if not (folder / "MbppPlus-OriginFmt.jsonl.gz").is_file():
        pytest.skip("needs $SDBENCH_DATA/evalplus/MbppPlus-OriginFmt.jsonl.gz")
    plus = {
        int(row["task_id"].split("/")[1]): row for row in read_lines(folder / "MbppPlus.jsonl.gz")
    }
    known = {"__builtins__": {}, "set": set, "inf": float("inf"), "complex": complex}
    num_tasks = 0
    for row in read_lines(folder / "MbppPlus-OriginFmt.jsonl.gz"):
        number = int(row["task_id"])
        (value,) = (
            statement.value
            for statement in ast.parse(row["test"]).body
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "inputs"
        )
        written = eval(ast.unparse(value), known)  # the pinned file of the data set, no program's
        restored = [
            list(call)
            for field in ("base_input", "plus_input")
            for call in restore_mbpp_inputs(number, plus[number][field])
        ]
        for call in written:
            assert any(is_same(list(call), other) for other in restored), (number, call)
        num_tasks += 1
    assert num_tasks == 378


def read_lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]
