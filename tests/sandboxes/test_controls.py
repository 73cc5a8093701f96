"""Controls: exactly one expected value of a test source is wrong."""

import ast
import difflib
import re

import numpy as np
import pytest

from sdb_sandboxes.verifiers.controls import draw_controls, draw_suite_control, list_controls

NUMPY = [np.int64(5), np.float32(-1.5), np.bool_(True), np.array([3]), np.array(["a"])]
SOURCES = {
    "assert f(1) == 2": ["assert f(1) == 1"],
    "assert 2 == f(1)": ["assert 1 == f(1)"],
    "assert f(1) == ['a', (True,)]": [
        "assert f(1) == ['*a', (True,)]",
        "assert f(1) == ['a', (False,)]",
    ],
    "if True:\n    assert f(1) == -2.5": ["if True:\n    assert f(1) == -1.5"],
    "class T(TestCase):\n    def test_a(self):\n        self.assertEqual(f('é'), 'ü')": [
        "class T(TestCase):\n    def test_a(self):\n        self.assertEqual(f('é'), '*ü')"
    ],
    "assert not f(1)": ["assert not (not f(1))"],
    "def test_a(self):\n    self.assertIn(1, f())": [
        "def test_a(self):\n    self.assertNotIn(1, f())"
    ],
    "with self.assertRaises(ValueError):\n    f()": [
        "with self.assertRaises(FloatingPointError):\n    f()"
    ],
    "with self.assertRaises(ValueError):\n    f()\n    assert g() == 2\nassert f(1) == 2": [
        "with self.assertRaises(ValueError):\n    f()\n    assert g() == 2\nassert f(1) == 1"
    ],
    "self.assertAlmostEqual(f(), 0.5)": ["self.assertAlmostEqual(f(), 0.4)"],
    "self.assertAlmostEqual(f(), 1e-9)": [],
    "self.assertAlmostEqual(f(), 0.01, places=2)": [],
    "self.assertAlmostEqual(f(), 0, places=2)": ["self.assertAlmostEqual(f(), 1, places=2)"],
    "self.assertAlmostEqual(f(), 0, delta=0.5)": [],
    "self.assertAlmostEqual(f(), 20, delta=0.5)": ["self.assertAlmostEqual(f(), 10, delta=0.5)"],
    "self.assertAlmostEqual(f(), 20, delta=g())": [],
    "self.assertAlmostEqual(3 * g(), f(), 0)": [],
    "assert abs(f() - 7) < 0.1": ["assert abs(f() - 6) < 0.1"],
    "assert abs(f() - 7) < 1": ["assert not (abs(f() - 7) < 1)"],
    "for i in range(3):\n    assert f(i) == 2": [],
    "if g():\n    assert f(1) == 2": [],
    "def test_a():\n    return\n    assert f(1) == 2": [],
    "def helper():\n    assert f(1) == 2": [],
    "x = 1": [],
}


@pytest.mark.parametrize("source", SOURCES)
def test_lists_every_control(source: str) -> None:
    # A text gets one more letter, whichever and wherever.
    patterns = [
        re.sub(r"\\\*(.)", r"(?:[a-z]\1|\1[a-z])", re.escape(wanted)) for wanted in SOURCES[source]
    ]
    controls = list_controls(source)
    assert len(controls) == len(patterns)
    assert all(map(re.fullmatch, patterns, controls))


@pytest.mark.parametrize(
    "expected",
    [1, -1, 0.0, 1e308, True, "", b"", [], (), set(), {}, None, {1: 2}, 2j, object(), *NUMPY],
)
def test_wrapping_changes_every_value(expected: object) -> None:
    (control,) = list_controls("from __future__ import annotations\nassert f() == expected()")
    assert control.startswith("from __future__ import annotations\n")
    names: dict[str, object] = {"f": lambda: expected, "expected": lambda: expected}
    with pytest.raises(AssertionError):
        exec(compile(control, "<control>", "exec"), names)
    assert ast.parse(control).body


def test_a_literal_changes_in_place() -> None:
    source = "x = 1  # a comment\nassert f(x) == 12, 'no'\nassert g(  x) == 'z'\n"
    for control in list_controls(source):
        changed = [
            line
            for line in difflib.ndiff(source.splitlines(), control.splitlines())
            if line[0] in "+-"
        ]
        assert len(changed) == 2


def test_draws_no_more_than_there_are() -> None:
    source = "assert f(1) == 2\nassert f(2) == 3"
    assert len(draw_controls(source, 1)) == 1
    assert sorted(draw_controls(source, 9)) == sorted(list_controls(source))
    assert draw_controls("x = 1", 1) == []


def test_a_suite_is_asked_everywhere_at_once() -> None:
    source = (
        "class T(TestCase):\n    def setUp(self):\n        assert f(0) == 0\n"
        "    def test_a(self):\n        self.assertEqual(f(1), 1)\n"
        "    def test_b(self):\n        self.assertEqual(f(2), g())\n"
        "    def test_c(self):\n        f(3)\n"
        "def test_d():\n    assert not f(4)\ndef helper():\n    assert f(5) == 5\n"
    )
    control, names = draw_suite_control(source)
    assert names == ["T.test_a", "T.test_b", "test_d"]
    assert "assertEqual(f(1), 2)" in control
    assert "assert not (not f(4))" in control
    assert "f(5) == 5" in control
    assert "f(0) == 0" in control
    assert re.search(r"assertEqual\(f\(2\), _[0-9a-f]{8}\(g\(\)\)\)", control)
    ast.parse(control)


def test_a_test_without_an_expected_value_can_be_made_to_fail() -> None:
    source = (
        "class T:\n\tdef test_a(self):\n\t\tassert f(1) == 1\n\tdef test_b(self): f(1); f(2)\n"
        "def test_c():\n    @decorate\n    def inner():\n        pass\n    for i in f(1):\n"
        "        assert i == 1\ndef test_d(\n    é, x):\n        'why'\n"
    )
    control, names = draw_suite_control(source, fails_others=True)
    assert names == ["T.test_a", "T.test_b", "test_c", "test_d"]
    assert control.replace("assert False; ", "").count("assert False") == 2
    found = {
        node.name: node.body[0]
        for node in ast.walk(ast.parse(control))
        if isinstance(node, ast.FunctionDef)
    }
    for name in ("test_b", "test_c", "test_d"):
        assert ast.unparse(found[name]) == "assert False"
    assert ast.unparse(found["test_a"]) != "assert f(1) == 1"
    assert draw_suite_control(source)[1] == ["T.test_a"]
