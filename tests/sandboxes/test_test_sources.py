"""Scripts and unittest files as checks: which names, which tests, which level."""

import pytest

from sdb_sandboxes.types import ObjectCheck, SuiteCheck
from sdb_sandboxes.verifiers.test_sources import (
    build_script_check,
    build_suite_check,
    build_unittest_check,
    find_free_names,
    list_test_ids,
    needs_one_interpreter,
)

REFERENCE = (
    "from __future__ import annotations\nimport math, os\nfrom typing import List, Optional\n"
    "LIMIT = 3\nclass Node:\n    inner = 1\ndef build(x: List) -> Node:\n    local = 2\n"
)


def test_a_script_gets_the_names_and_imports_that_it_uses() -> None:
    script = "def check(node: Optional[Node]):\n    return math.floor(node.x)\nx = build(LIMIT)\n"
    check = build_script_check(script, REFERENCE)
    assert check == ObjectCheck(
        script,
        ("LIMIT", "Node", "build"),
        prelude="import math\nfrom typing import Optional",
    )


def test_free_names_are_global_and_bound_nowhere() -> None:
    source = (
        "import a\nfrom b import c\nd = 1\ndef e(f):\n    g = f\n    return g + h + len(d)\n"
        "class I(J):\n    k = 2\n    def l(self): return m, __name__\n[n for n in o]\n"
    )
    assert find_free_names(source) - {"__name__"} == {"J", "h", "m", "o"}


def test_ids_of_cases_and_functions() -> None:
    tests = (
        "import unittest\nclass Base(unittest.TestCase):\n    def test_b(self): pass\n"
        "    def helper(self): pass\n    @unittest.skip('')\n    def test_no(self): pass\n"
        "class Own(Base):\n    def test_a(self): pass\n"
        "@unittest.skipIf(True, '')\nclass Never(Base):\n    pass\n"
        "def test_plain(): pass\ndef test_fixture(tmp_path): pass\nclass Other:\n    pass\n"
    )
    assert list_test_ids(tests) == ("Base.test_b", "Own.test_a", "Own.test_b", "test_plain")


@pytest.mark.parametrize(
    ("tests", "is_needed"),
    [
        ("import unittest\nfrom shop import total\n", False),
        ("from unittest.mock import patch\npatch('shop.tax')", True),
        ("from shop import Node\nclass Mine(Node): pass", True),
        ("import numpy as np", True),
        ("import other", True),
        ("from os import path", True),
        ("assert open('out.csv').read() == build(1)", True),
        ("import random\nrandom.seed(1)", True),
    ],
)
def test_what_needs_one_interpreter(tests: str, is_needed: bool) -> None:
    assert needs_one_interpreter(tests, REFERENCE, "shop") is is_needed


CASES = "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): build(1)\n"


def test_cases_keep_to_another_process_where_they_can() -> None:
    imported = "from shop import build\n" + CASES
    assert build_unittest_check(imported, REFERENCE, "shop", "shop_test.py") == ObjectCheck(
        imported, module="shop", test_ids=("T.test_a",)
    )
    assert build_unittest_check(CASES, REFERENCE) == ObjectCheck(
        CASES, ("build",), test_ids=("T.test_a",)
    )
    others = (("utils.py", ""),)
    assert build_unittest_check(imported, REFERENCE, "shop", "shop_test.py", others) == SuiteCheck(
        (("shop_test.py", imported), *others), ("shop_test.T.test_a",), "shop.py"
    )
    assert build_suite_check(CASES) == SuiteCheck(
        (("solution.py", CASES),), ("solution.T.test_a",), is_joined=True
    )
    with pytest.raises(ValueError, match="zero tests prove nothing"):
        build_unittest_check("import unittest", REFERENCE)
