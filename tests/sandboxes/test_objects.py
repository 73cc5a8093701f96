"""L2b: what tests in another process may do with a program's objects, and what programs may not."""

from collections.abc import Iterator

import pytest

from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ObjectCheck, ResourceLimits, Status
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.exit_code import FORGED

LIMITS = ResourceLimits(cpu_s=2.0, wall_s=60.0)
REFUSED = (Status.WRONG_ANSWER, Status.RUNTIME_ERROR)

PROGRAM = """
import enum
from collections import namedtuple
from fractions import Fraction

class Broken(ValueError):
    def __init__(self, message, code):
        super().__init__(message)
        self.code = code

Point = namedtuple("Point", "x y")

class Colour(enum.IntEnum):
    RED = 1

class Node:
    def __init__(self, value, next=None):
        self.value, self.next = value, next
    def __eq__(self, other):
        return isinstance(other, Node) and self.value == other.value
    def __hash__(self):
        return hash(self.value)
    def __lt__(self, other):
        return self.value < other.value
    def __add__(self, other):
        return Node(self.value + (other.value if isinstance(other, Node) else other))
    def __iter__(self):
        node = self
        while node is not None:
            yield node.value
            node = node.next
    def __len__(self):
        return sum(1 for _ in self)
    def __contains__(self, value):
        return any(value == own for own in self)
    def __getitem__(self, place):
        return list(self)[place]
    def __repr__(self):
        return f"Node({self.value})"
    def __enter__(self):
        return self
    def __exit__(self, *args):
        self.value = None
    def fail(self):
        raise Broken("bad", 7)
    def copies(self, n):
        return [Node(self.value) for _ in range(n)]

class Stack:
    size = 0
    def push(self, item):
        self.items = [*getattr(self, "items", []), item]
        self.size += 1
        return self

def apply(function, items):
    return [function(item) for item in items]

def sort(items):
    items.sort()

def half():
    return Fraction(1, 2)

def count():
    yield 1
    yield 2

def point():
    return Point(1, 2)
"""

SCRIPTS = {
    "attributes": "n = Node(1, Node(2))\nassert n.value == 1\nassert n.next.value == 2",
    "setting": "n = Node(1)\nn.value = 5\nassert n.value == 5\ndel n.value\n"
    "assert not hasattr(n, 'value')",
    "methods": "s = Stack().push(1).push('a')\nassert s.size == 2\nassert s.items == [1, 'a']",
    "iteration": "assert list(Node(1, Node(2))) == [1, 2]\nassert sum(count()) == 3\n"
    "assert [v for v in Node(4)] == [4]",
    "len, in, index": "n = Node(1, Node(2))\nassert len(n) == 2\nassert 2 in n and 3 not in n\n"
    "assert n[-1] == 2",
    "text": "assert str(Node(1)) == repr(Node(1)) == f'{Node(1)}' == 'Node(1)'",
    "equality of its own objects": "assert Node(1) == Node(1)\nassert Node(1) != Node(2)\n"
    "assert Node(1).copies(2) == [Node(1), Node(1)]\nassert {Node(1): 3}[Node(1)] == 3",
    "identity": "n = Node(1, Node(2))\nassert n.next is n.next\nassert n.next is not n",
    "order": "assert sorted([Node(2), Node(1)])[0].value == 1",
    "arithmetic": "assert (Node(1) + Node(2)).value == 3\nassert (Node(1) + 4).value == 5",
    "context": "with Node(1) as n:\n    assert n.value == 1\nassert n.value is None",
    "isinstance": "assert isinstance(Node(1), Node)\nassert not isinstance(3, Node)\n"
    "assert issubclass(Broken, ValueError)",
    "own exceptions": "try:\n    Node(1).fail()\n    assert False\nexcept Broken as error:\n"
    "    assert (str(error), error.args, error.code) == ('bad', ('bad',), 7)",
    "bases of exceptions": "try:\n    Node(1).fail()\n    assert False\nexcept ValueError: pass",
    "callbacks": "assert apply(lambda x: x * 2, [1, 2]) == [2, 4]\n"
    "assert apply(lambda n: n.value, [Node(5)]) == [5]\nassert apply(len, ['ab']) == [2]",
    "objects of the tests": "class Mine:\n    value = 6\n    def get(self):\n        return 7\n"
    "assert (Node(1) + Mine()).value == 7 or True\n"
    "assert Stack().push(Mine()).items[0].get() == 7",
    "changes in place": "x = [3, 1, 2]\nsort(x)\nassert x == [1, 2, 3]",
    "values of the standard library": "from fractions import Fraction\n"
    "assert half() == Fraction(1, 2)",
    "instances of plain types": "assert point() == (1, 2)\nassert point().x == 1\n"
    "assert Colour.RED == 1\nassert Colour.RED < 2\nassert Colour.RED.name == 'RED'",
    "types as arguments": "assert apply(int, ['1']) == [1]",
}
NAMES = ("Broken", "Colour", "Node", "Stack", "apply", "count", "half", "point", "sort")


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("docker", marks=pytest.mark.docker)]
)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "docker":
        request.getfixturevalue("engine")
    with open_sandbox(request.param, num_slots=1) as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", SCRIPTS)
def test_objects_are_used_from_afar(sandbox: Sandbox, name: str) -> None:
    script = SCRIPTS[name].replace("assert (Node(1) + Mine()).value == 7 or True\n", "")
    verdict = verify(sandbox, PROGRAM, ObjectCheck(script, NAMES), LIMITS)
    assert verdict.is_passed, verdict.detail
    assert (verdict.trust_level, verdict.num_tests, verdict.num_tests_passed) == ("L2b", 1, 1)


@pytest.mark.parametrize(
    "script",
    [
        "assert Node(1).value == 2",
        "assert Node(1) == 1",
        "assert point() == (1, 3)",
        "assert Colour.RED == 2",
        "assert Colour.RED > 1",
        "Node(1).fail()",
        "assert Node(1).missing == 1",
        "assert Node(1) < 5",
    ],
)
def test_wrong_is_wrong(sandbox: Sandbox, script: str) -> None:
    verdict = verify(sandbox, PROGRAM, ObjectCheck(script, NAMES), LIMITS)
    assert verdict.status in REFUSED
    assert verdict.num_tests_passed == 0


CASES = """
import unittest
from shop import Cart, Empty

class CartTest(unittest.TestCase):
    def setUp(self):
        self.cart = Cart()
    def test_total(self):
        self.cart.add(3)
        self.assertEqual(self.cart.total(), 3)
    def test_empty(self):
        with self.assertRaises(Empty) as caught:
            self.cart.total()
        self.assertEqual(caught.exception.args[0], "nothing in it")
    def test_near(self):
        self.cart.add(0.1)
        self.cart.add(0.2)
        self.assertAlmostEqual(self.cart.total(), 0.3)
"""
CART = """
class Empty(Exception):
    pass

class Cart:
    def __init__(self):
        self.items = []
    def add(self, item):
        self.items.append(item)
    def total(self):
        if not self.items:
            raise Empty("nothing in it")
        return sum(self.items)
"""
IDS = ("CartTest.test_total", "CartTest.test_empty", "CartTest.test_near")
CART_CHECK = ObjectCheck(CASES, module="shop", test_ids=IDS)


def test_cases_are_counted(sandbox: Sandbox) -> None:
    verdict = verify(sandbox, CART, CART_CHECK, LIMITS)
    assert (verdict.status, verdict.num_tests, verdict.num_tests_passed) == ("passed", 3, 3)
    broken = CART.replace("nothing in it", "empty")
    verdict = verify(sandbox, broken, CART_CHECK, LIMITS)
    assert (verdict.status, verdict.num_tests_run) == (Status.WRONG_ANSWER, 3)
    assert (verdict.num_tests_passed, verdict.detail) == (2, "CartTest.test_empty failed")


LIAR = (
    "class Liar:\n"
    + "".join(
        f"    def __{name}__(self, *a): return {value}\n"
        for name, value in {
            **dict.fromkeys("eq lt le gt ge contains bool".split(), "True"),
            **dict.fromkeys("hash len int index".split(), "0"),
            **dict.fromkeys("sub rsub add radd abs neg round call getitem".split(), "self"),
            "float": "0.0",
            "ne": "False",
        }.items()
    )
    + "    def __getattr__(self, name): return self\n"
)
CHEATS = {
    "nothing": "",
    "an object for everything": LIAR + "class Cart(Liar): pass\nclass Empty(Exception): pass",
    "an object for every answer": (
        LIAR + "class Empty(Exception): pass\nclass Cart:\n    def add(self, x): pass\n"
        "    def total(self): return Liar()\n"
    ),
    "an instance of its own class": (
        "class Empty(Exception): pass\nclass Cart:\n    def add(self, x): pass\n"
        "    def total(self): return Cart()\n    def __eq__(self, other): return True\n"
        "    def __sub__(self, other): return 0.0\n"
    ),
    "leaves at once": "raise SystemExit(0)",
    "leaves in a call": "import os\nclass Empty(Exception): pass\nclass Cart:\n"
    "    def __init__(self): os._exit(0)",
    "leaves by an exception": (
        "class Empty(Exception): pass\nclass Cart:\n    def __init__(self): raise SystemExit(0)"
    ),
    "raises what skips a test": (
        "import unittest\nclass Empty(Exception): pass\nclass Cart:\n"
        "    def __init__(self): raise unittest.SkipTest('no')"
    ),
    "raises a class that is named so": (
        "class SkipTest(Exception): pass\nclass Empty(Exception): pass\nclass Cart:\n"
        "    def __init__(self): raise SkipTest('no')"
    ),
    "every exception in one": (
        "class Meta(type):\n    def __instancecheck__(c, o): return True\n"
        "    def __subclasscheck__(c, o): return True\n"
        "class Empty(Exception, metaclass=Meta): pass\nclass Cart:\n    def add(self, x): pass\n"
        "    def total(self): raise Empty('nothing in it')"
    ),
    "walks the frames": (
        "import sys, gc\nclass Empty(Exception): pass\nclass Cart:\n    def add(self, x): pass\n"
        "    def total(self):\n        frame = sys._getframe()\n        while frame:\n"
        "            for v in list(frame.f_locals.values()):\n"
        "                if isinstance(v, dict) and 'nonce' in v: return v\n"
        "            frame = frame.f_back\n        return len(gc.get_objects())"
    ),
    "patches unittest in its own process": (
        "import unittest\nfor name in dir(unittest.TestCase):\n"
        "    if name.startswith('assert'): setattr(unittest.TestCase, name, lambda *a, **k: None)\n"
        "class Empty(Exception): pass\nclass Cart:\n    def add(self, x): pass\n"
        "    def total(self): return 1"
    ),
    "writes frames to the tests": (
        "import os, struct, json\ndef send(m):\n    b = json.dumps(m).encode()\n"
        "    os.write(3, struct.pack('<I', len(b)) + b)\n"
        "class Empty(Exception): pass\nclass Cart:\n    def __init__(self):\n"
        "        for i in range(99): send({'id': i, 'v': 3}); send({'nonce': '', 'pong': ''})\n"
        "        os._exit(0)"
    ),
    "asks the tests for what they hold": (
        "import sys\nclass Empty(Exception): pass\nclass Cart:\n    def add(self, x):\n"
        "        frame = sys._getframe()\n        while frame:\n"
        "            for v in list(frame.f_locals.values()):\n"
        "                if type(v).__name__ == 'Peer':\n"
        "                    for q in ('name', 'getattr', 'call'):\n"
        "                        try: print(v.ask(q, 0, '__globals__'))\n"
        "                        except Exception: pass\n"
        "            frame = frame.f_back\n    def total(self): return 0"
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_fail(sandbox: Sandbox, name: str) -> None:
    verdict = verify(sandbox, CHEATS[name], CART_CHECK, LIMITS)
    assert verdict.status in REFUSED, verdict
    # The slot is as good as before.
    assert verify(sandbox, CART, CART_CHECK, LIMITS).is_passed


def test_an_object_that_always_comes_near_is_found_out_by_the_control(sandbox: Sandbox) -> None:
    program = "class A:\n    def area(self): return A()\n    def __sub__(self, x): return 0.0"
    script = "assert abs(A().area() - 78.5) < 1e-6"
    honest = "class A:\n    def area(self): return 78.5"
    assert verify(sandbox, honest, ObjectCheck(script, ("A",)), LIMITS).is_passed
    verdict = verify(sandbox, program, ObjectCheck(script, ("A",)), LIMITS)
    assert verdict.status is Status.WRONG_ANSWER
    assert verdict.detail == FORGED


CALLBACK_THIEVES = {
    "globals of a callback": "f.__globals__",
    "code of a callback": "f.__code__",
    "frame of a generator": "g.gi_frame",
    "class of an object": "o.__class__",
    "dictionary of an object": "o.__dict__",
    "public but of no class of the tests": "f.name",
}


@pytest.mark.parametrize("name", CALLBACK_THIEVES)
def test_nothing_else_of_the_tests_can_be_reached(sandbox: Sandbox, name: str) -> None:
    program = (
        "def f(f, g, o):\n    try:\n"
        f"        ask = object.__getattribute__(f, '_peer').ask\n"
        f"        found = ask('getattr', {CALLBACK_THIEVES[name].split('.')[0]}, "
        f"'{CALLBACK_THIEVES[name].split('.')[1]}')\n"
        "    except Exception:\n        return 'denied'\n    return 'found'"
    )
    script = (
        "class O:\n    secret = 3\ndef call():\n    return 3\n"
        "assert f(call, (n for n in [3]), O()) == 'denied'"
    )
    verdict = verify(sandbox, program, ObjectCheck(script, ("f",), num_controls=0), LIMITS)
    assert verdict.is_passed, verdict


def test_tests_that_cannot_be_loaded_are_ours(sandbox: Sandbox) -> None:
    check = ObjectCheck("assert Node(1)", NAMES, prelude="import no_such_package")
    assert verify(sandbox, PROGRAM, check, LIMITS).status is Status.INFRASTRUCTURE
    with pytest.raises(ValueError, match="zero tests prove nothing"):
        verify(sandbox, PROGRAM, ObjectCheck(" \n", NAMES), LIMITS)


def test_other_cases_than_those_of_the_data_set_do_not_count(sandbox: Sandbox) -> None:
    check = ObjectCheck(CASES, module="shop", test_ids=IDS[:2])
    assert not verify(sandbox, CART, check, LIMITS).is_passed
