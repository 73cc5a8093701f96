"""Undefined names: those that pyflakes finds, in the order of its reading."""

import pytest

from sdb_harness.sanitise import parse_quietly
from sdb_harness.undefined_names import find_undefined


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("print(a)\na = 1\n", "a"),
        ("def f():\n    return a\na = 1\n", ""),
        ("def f():\n    print(a)\n    a = 1\n", "a"),
        (
            "class A:\n    b = 1\n    c = [b for _ in 'x']\n    def f(self):\n        return b\n",
            "b",
        ),
        ("class A:\n    def f(self) -> A:\n        return A\n", "A"),
        ("from __future__ import annotations\nclass A:\n    def f(self) -> A: ...\n", ""),
        ("def f(x: 'A', y: 'B'): ...\nclass A: ...\n", "B"),
        ("from typing import Literal\nx: Literal['r']\n", ""),
        ("x: int\nprint(x)\n", "x"),
        ("from math import *\nprint(sqrt(a))\n", ""),
        ("import os.path as p, sys.x\np, sys, os\n", "os"),
        ("def f():\n    global a\n    a = 1\ndef g():\n    return a\n", ""),
        ("try:\n    a\nexcept NameError:\n    b\n", "b"),
        ("try: ...\nexcept ValueError as e:\n    e\nprint(e)\n", "e"),
        ("[y := x for x in 'a' if x]\nprint(y, x)\n", "x"),
        ("f = lambda a, *b, c=d, **e: a + b + c + e + g\n", "d g"),
        ("with open('') as (a, b):\n    a, b, c\n", "c"),
        ("match 1:\n    case {'a': a, **b} | [a, *b] as c if d:\n        a, b, c\n", "d"),
        ("a += 1\n", "a"),
        ("@a\nclass B(c, metaclass=d): ...\n", "a c d"),
        ("__file__, __name__, self\n", "self"),
        ("class A:\n    __qualname__, __class__\n", ""),
    ],
)
def test_undefined_names_are_those_of_pyflakes(source: str, names: str) -> None:
    """What flake8 7.1.1 with pyflakes 3.2.0 says of these."""
    assert " ".join(use.name for use in find_undefined(parse_quietly(source))) == names
