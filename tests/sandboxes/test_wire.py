"""Checks as JSON: nothing is lost, every error names its field."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdb_sandboxes.types import (
    AssertionCheck,
    Case,
    Check,
    ExitCodeCheck,
    FunctionCheck,
    ResourceLimits,
    StdinCheck,
)
from sdb_sandboxes.verifiers.comparison import is_equal
from sdb_sandboxes.wire import (
    CHECK_KINDS,
    WireError,
    check_from_json,
    check_to_json,
    read_limits,
)

CHECK = FunctionCheck("f", (Case((1, [2.5]), (3,)),), "python_equality")

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
)
HASHABLE = st.one_of(SCALARS, st.tuples(SCALARS, SCALARS), st.frozensets(SCALARS))
PLAIN = st.recursive(
    st.one_of(SCALARS, st.sets(HASHABLE, max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(HASHABLE, inner, max_size=4),
    ),
    max_leaves=8,
)


def test_every_kind_of_check_can_travel() -> None:
    assert set(CHECK_KINDS.values()) == set(get_args(Check))


@settings(max_examples=60, deadline=None)
@given(arguments=st.lists(PLAIN, max_size=3), expected=PLAIN)
def test_a_function_check_comes_back_as_it_was(arguments: list[object], expected: object) -> None:
    check = FunctionCheck("f", (Case(tuple(arguments), expected),))
    text = check_to_json(check)
    (case,) = _read_function(text).cases
    assert is_equal(check.cases[0].args, case.args, "exact")
    assert is_equal(expected, case.expected, "exact")
    assert check_to_json(check_from_json(text)) == text


def test_numbers_that_json_does_not_know_come_back() -> None:
    check = FunctionCheck("f", (Case((math.inf, -math.inf, complex(0, math.inf)), math.nan),))
    text = check_to_json(check)
    assert "Infinity" not in text
    (case,) = _read_function(text).cases
    assert case.args == (math.inf, -math.inf, complex(0, math.inf))
    assert isinstance(case.expected, float)
    assert math.isnan(case.expected)


@pytest.mark.parametrize(
    "check",
    [
        ExitCodeCheck("java", "assert true;", "Solution.java", num_controls=3),
        StdinCheck((("1 2\n", "3\n"), ("", "\ud800")), "tokens_float", "cpp"),
        FunctionCheck("f", (Case((1,), 1.5, also=(2, (3,))),), "float_tolerance", tolerance=0.5),
        AssertionCheck("f", "def check(c): assert c(1) == 1", prelude="x = 1"),
    ],
)
def test_every_field_comes_back(check: Check) -> None:
    assert check_from_json(check_to_json(check)) == check


def test_the_text_of_a_check_is_the_same_in_every_process() -> None:
    words = {"some", "words", "in", "a", "set"}
    program = (
        "from sdb_sandboxes.wire import check_to_json\n"
        "from sdb_sandboxes.types import Case, FunctionCheck\n"
        f"print(check_to_json(FunctionCheck('f', (Case((), {words!r}),))))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert texts == {check_to_json(FunctionCheck("f", (Case((), words),)))}


def test_the_text_of_a_check_is_as_documented() -> None:
    assert check_to_json(CHECK) == (
        '{"cases":[{"args":[1,[2.5]],"expected":{"t":[3]}}],'
        '"comparison":"python_equality","entry_point":"f","kind":"function"}'
    )


def test_an_object_that_is_not_plain_data_is_named() -> None:
    check = FunctionCheck("f", (Case((1,), 2), Case((object(),), 2)))
    with pytest.raises(WireError, match=r"check\.cases\[1\]\.args\[0\] is not plain data: object"):
        check_to_json(check)


def _read_function(text: str) -> FunctionCheck:
    check = check_from_json(text)
    assert isinstance(check, FunctionCheck)
    return check


def _change(**changes: Any) -> str:
    return json.dumps(json.loads(check_to_json(CHECK)) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the check is not JSON: .* write it with check_to_json"),
        ("[" * 100_000, "the check is not JSON"),
        ("[]", "check is \\[\\]; an object with a kind is needed"),
        (
            "{}",
            "check.kind is null; use assertions, .*, reference, stdin, suite",
        ),
        (
            _change(kind=["function"]),
            "check.kind is .*; use assertions, .*, reference, stdin, suite",
        ),
        (
            _change(timeout=1),
            "check has no field 'timeout'; its fields are cases, comparison, entry_point",
        ),
        (_change(entry_point=7), "check.entry_point is 7; str is needed"),
        (_change(comparison="fuzzy"), 'check.comparison is "fuzzy"; use anything, evalplus, exact'),
        (_change(comparison=["exact"]), "check.comparison is"),
        ('{"kind": "stdin", "cases": [["1"]]}', r"check.cases\[0\] has 1 items; 2 are needed"),
        (_change(cases={}), "check.cases is {}; a list is needed"),
        (_change(cases=[3]), r"check.cases\[0\] is 3; an object is needed"),
        (_change(cases=[{"args": []}]), r"check.cases\[0\] lacks the field 'expected'"),
        (_change(cases=[{"args": [{"z": 1}], "expected": 1}]), r"args\[0\] .*unknown tag"),
        (
            _change(cases=[{"args": [], "expected": {"o": "x"}}]),
            "holds an object that is not plain",
        ),
        (_change(cases=[{"args": [], "expected": {"n": "big"}}]), "use -inf, inf, nan"),
        (_change(cases=[{"args": [], "expected": {"n": [1]}}]), "use -inf, inf, nan"),
        (_change(cases=[{"args": [], "expected": {"i": "no"}}]), "malformed value"),
    ],
)
def test_a_malformed_check_is_one_line_that_names_the_field(text: str, message: str) -> None:
    with pytest.raises(WireError, match=message) as caught:
        check_from_json(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_check_that_is_no_text_is_named() -> None:
    with pytest.raises(WireError, match="of type dict; JSON text is needed"):
        check_from_json({"kind": "function"})  # type: ignore[arg-type]


def test_limits_keep_what_is_left_out() -> None:
    limits = read_limits({"cpu_s": 2}, ResourceLimits(wall_s=9.0))
    assert limits == ResourceLimits(cpu_s=2.0, wall_s=9.0)
    assert read_limits({"allow_programs": True}, limits) == replace(limits, allow_programs=True)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ({"cpu": 1}, "limits has no field 'cpu'; its fields are .*, cpu_s"),
        ({"cpu_s": 0}, "limits.cpu_s=0.0; a positive number is needed"),
        ({"wall_s": "9"}, 'limits.wall_s is "9"; float is needed'),
        ({"memory_bytes": 1.5}, "limits.memory_bytes is 1.5; int is needed"),
        ({"num_processes": True}, "limits.num_processes is true; int is needed"),
        ({"allow_programs": 1}, "limits.allow_programs is 1; bool is needed"),
        (7, "limits is 7; an object is needed"),
    ],
)
def test_malformed_limits_are_named(wire: object, message: str) -> None:
    with pytest.raises(WireError, match=message):
        read_limits(wire, ResourceLimits())
