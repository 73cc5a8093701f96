"""Where a Python test states an expected value, and what a liar's arithmetic cannot get past."""

from collections.abc import Iterator

import pytest

from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ObjectCheck, Status
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.controls import list_controls
from sdb_sandboxes.verifiers.exit_code import FORGED

LIAR = """
class Near:
    def __sub__(self, other): return 0.0
    __rsub__ = __abs__ = __round__ = __float__ = __sub__
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __eq__ = __bool__ = __contains__ = __lt__
class Circle:
    def __init__(self, r): pass
    def area(self): return Near()
"""
HONEST = """
class Circle:
    def __init__(self, r): self.r = r
    def area(self): return 3.14159265 * self.r ** 2
"""
CASE = "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self."
LINES = {
    "near": "assert abs(Circle(2).area() - 12.566) < 0.01\n",
    "near, turned round": "assert abs(12.566 - Circle(2).area()) <= 0.01\n",
    "near, in a case": CASE + "assertTrue(abs(Circle(2).area() - 12.566) < 0.01)\n",
    "almost equal": CASE + "assertAlmostEqual(Circle(2).area(), 12.566, places=2)\n",
    "equal, in a case": CASE + "assertTrue(round(Circle(2).area(), 2) == 12.57)\n",
    "between": "assert 12 < Circle(2).area() < 13\n",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[EmbeddedSandbox]:
    with EmbeddedSandbox(1) as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", LINES)
def test_a_difference_that_is_always_zero_does_not_pass(sandbox: Sandbox, name: str) -> None:
    ids = ("T.test",) if LINES[name].startswith(CASE) else ()
    check = ObjectCheck(LINES[name], ("Circle",), test_ids=ids)
    verdict = verify(sandbox, LIAR, check)
    assert not verdict.is_passed
    assert verdict.status is not Status.INFRASTRUCTURE
    assert verify(sandbox, HONEST, check).is_passed
    if name.startswith("near"):
        assert verdict.detail == FORGED


@pytest.mark.parametrize(
    ("tests", "is_changed"),
    [
        ("assert abs(f(1) - 12.5) < 0.1", True),
        ("assert abs(f(1) - 12.5) < 5", False),  # a right answer could pass the control
        ("assert abs(f(1) - g(1)) < 0.1", False),
        ("assert f(1) == 12.5", True),
    ],
)
def test_a_number_changes_where_the_test_does_not_forgive_it(tests: str, is_changed: bool) -> None:
    (control,) = list_controls(tests)
    assert ("not (" not in control) is is_changed
