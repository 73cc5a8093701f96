"""Lying values: answers that are wrong but would pass a comparison that trusts them."""

FAMILY = "lying values"
CHECKS = "data, equality, reference, assertions, objects"
ENTRIES = [
    {
        "id": "equal-to-everything",
        "about": "__eq__ always true",
        "allowed": "wrong_answer",
        "program": """
class Liar:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 1
    def __len__(self): return 2
    def __bool__(self): return True
def f(n): return Liar()
""",
    },
    {
        "id": "list-equal-to-everything",
        "about": "a list that lies about equality and length",
        "allowed": "wrong_answer",
        "program": """
class Liar(list):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __len__(self): return 2
    def __getitem__(self, i): return self
def f(n): return Liar()
""",
    },
    {
        "id": "list-of-liars",
        "about": "the right shape with lying items",
        "allowed": "wrong_answer",
        "program": """
class Liar(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 1
def f(n): return [Liar(), Liar()]
""",
    },
    {
        "id": "liar-by-metaclass",
        "about": "a class whose metaclass compares equal, returned itself",
        "allowed": "wrong_answer",
        "program": """
class Meta(type):
    def __eq__(cls, other): return True
    def __hash__(cls): return 1
class Liar(metaclass=Meta): pass
def f(n): return Liar
""",
    },
    {
        "id": "liar-about-its-class",
        "about": "an object whose __class__ says list",
        "allowed": "wrong_answer",
        "program": """
class Liar:
    @property
    def __class__(self): return list
    def __eq__(self, other): return True
    def __iter__(self): return iter([1, 2])
    def __len__(self): return 2
def f(n): return Liar()
""",
    },
    {
        "id": "list-with-a-lying-iterator",
        "about": "an empty list whose __iter__ would give the judge's guess",
        "allowed": "wrong_answer",
        "program": """
class Liar(list):
    def __iter__(self): return iter([1, 2])
    def __len__(self): return 2
    def __reduce__(self): return (list, ([1, 2],))
def f(n): return Liar() if n == 1 else None
""",
    },
    {
        "id": "pickle-that-runs",
        "about": "__reduce__ would run code in whoever unpickles",
        "allowed": "wrong_answer",
        "program": """
class Pickle:
    def __reduce__(self): return (eval, ("[1, 2]",))
def f(n): return Pickle()
""",
    },
    {
        "id": "mock-object",
        "about": "unittest.mock.ANY equals everything",
        "allowed": "wrong_answer",
        "body": "from unittest import mock\nreturn mock.ANY",
        "limits": "patient",
    },
    {
        "id": "magic-mock",
        "about": "a mock that supports every operation",
        "allowed": "wrong_answer",
        "body": "from unittest import mock\nreturn mock.MagicMock(__eq__=lambda *a: True)",
        "limits": "patient",
    },
    {
        "id": "nan",
        "about": "NaN, against which no comparison fails",
        "allowed": "wrong_answer",
        "checks": "data, equality, assertions, numbers, tolerant",
        "body": "return float('nan')",
    },
    {
        "id": "infinity",
        "about": "infinity, at no finite relative distance",
        "allowed": "wrong_answer",
        "checks": "numbers, tolerant",
        "body": "return float('inf')",
    },
    {
        "id": "complex-with-nan",
        "about": "a complex number whose distance is NaN",
        "allowed": "wrong_answer",
        "checks": "numbers, tolerant",
        "body": "return complex(n / 2, float('nan'))",
    },
    {
        "id": "distance-is-always-zero",
        "about": "a float whose subtraction gives 0",
        "allowed": "wrong_answer",
        "checks": "numbers, tolerant",
        "program": """
class Near(float):
    def __sub__(self, other): return 0.0
    __rsub__ = __add__ = __abs__ = __sub__
    def __lt__(self, other): return True
def f(n): return Near(99.0)
""",
    },
    {
        "id": "true-for-one",
        "about": "True where the exact rule wants 1",
        "allowed": "wrong_answer",
        "checks": "data",
        "body": "return [n == 1 or n, n + 1]",
    },
    {
        "id": "float-for-int",
        "about": "1.0 where the exact rule wants 1",
        "allowed": "wrong_answer",
        "checks": "data",
        "body": "return [float(n), n + 1]",
    },
    {
        "id": "tuple-for-list",
        "about": "a tuple where a list is expected",
        "allowed": "wrong_answer",
        "body": "return (n, n + 1)",
    },
    {
        "id": "string-of-the-list",
        "about": "the text of the answer",
        "allowed": "wrong_answer",
        "body": "return str([n, n + 1])",
    },
    {
        "id": "generator-for-list",
        "about": "yields the items",
        "allowed": "wrong_answer",
        "body": "yield n\nyield n + 1",
    },
    {
        "id": "coroutine-for-list",
        "about": "an async function returns something to be awaited",
        "allowed": "wrong_answer",
        "program": "async def f(n): return [n, n + 1]\n",
    },
    {
        "id": "map-for-list",
        "about": "a lazy map",
        "allowed": "wrong_answer",
        "body": "return map(int, [n, n + 1])",
    },
    {
        "id": "keys-for-set",
        "about": "dict keys where a set is expected",
        "allowed": "wrong_answer",
        "checks": "sets",
        "body": "return {n: 0, n + 1: 0}.keys()",
    },
    {
        "id": "frozen-set-for-set",
        "about": "equal in Python, another type by the exact rule",
        "allowed": "wrong_answer",
        "checks": "sets",
        "body": "return frozenset({n, n + 1})",
    },
    {
        "id": "set-of-nan",
        "about": "many NaN in one set, equal to nothing",
        "allowed": "wrong_answer",
        "checks": "sets",
        "body": "return {float('nan') for _ in range(2)}",
    },
    {
        "id": "keys-true-and-one",
        "about": "True as a key where 1 is expected",
        "allowed": "wrong_answer",
        "checks": "tables",
        "body": "return {n == 1 or n: n + 1}",
    },
    {
        "id": "key-minus-zero",
        "about": "-0.0 and NaN as keys",
        "allowed": "wrong_answer",
        "checks": "tables",
        "body": "return {-0.0: 2, float('nan'): 2}",
    },
    {
        "id": "default-dict",
        "about": "a mapping with every key",
        "allowed": "wrong_answer",
        "checks": "tables",
        "program": """
class Every(dict):
    def __missing__(self, key): return key + 1
    def __contains__(self, key): return True
    def __len__(self): return 1
    def items(self): return [(1, 2)]
def f(n): return Every()
""",
    },
    {
        "id": "foreign-truth",
        "about": "an object where the tests want only truth, then only falsehood",
        "allowed": "wrong_answer",
        "checks": "truth",
        "program": """
class Both:
    count = 0
    def __bool__(self):
        Both.count += 1
        return Both.count % 2 == 1
def f(n): return Both()
""",
    },
    {
        "id": "zero-that-is-true",
        "about": "an int subclass whose truth alternates",
        "allowed": "wrong_answer",
        "checks": "truth",
        "program": """
class Both(int):
    def __bool__(self): return True
def f(n): return Both(0)
""",
    },
    {
        "id": "endless-generator",
        "about": "an iterator without an end",
        "allowed": "wrong_answer",
        "program": "import itertools\ndef f(n): return itertools.count()\n",
    },
    {
        "id": "contains-itself",
        "about": "a list in itself",
        "allowed": "wrong_answer",
        "body": "a = []\na.append(a)\nreturn a",
    },
    {
        "id": "dict-contains-itself",
        "about": "a dict in its own values",
        "allowed": "wrong_answer",
        "body": "a = {}\na[1] = [a]\nreturn a",
    },
    {
        "id": "nested-a-hundred-thousand-deep",
        "about": "nesting that would overflow a recursive reader",
        "allowed": "wrong_answer",
        "body": "a = []\nfor _ in range(100_000): a = [a]\nreturn a",
    },
    {
        "id": "nested-at-the-limit",
        "about": "just below and above the depth that may travel",
        "allowed": "wrong_answer",
        "body": "a = []\nfor _ in range(98 + n): a = [a]\nreturn a",
    },
    {
        "id": "twenty-megabytes",
        "checks": "data, assertions",
        "about": "an answer longer than a message",
        "allowed": "wrong_answer",
        "limits": "patient",
        "body": "return 'x' * (20 << 20)",
    },
    {
        "id": "a-billion-items-by-reference",
        "checks": "data",
        "about": "one small list referred to a thousand times, three levels",
        "allowed": "wrong_answer cpu_time memory",
        "limits": "little time",
        "races": "the bound on items or the clock, by the machine's speed",
        "body": "a = [0] * 1000\nb = [a] * 1000\nreturn [b] * 1000",
    },
    {
        "id": "huge-integer",
        "checks": "data, assertions",
        "about": "ten million digits",
        "allowed": "wrong_answer",
        "limits": "patient",
        "body": "return 1 << 33_000_000",
    },
    {
        "id": "raising-everywhere",
        "about": "every dunder of the answer raises",
        "allowed": "wrong_answer",
        "program": """
class Trap:
    def __repr__(self): raise SystemExit
    __str__ = __len__ = __iter__ = __hash__ = __bool__ = __eq__ = __getattr__ = __repr__
def f(n): return Trap()
""",
    },
    {
        "id": "endless-repr",
        "about": "a text that never ends, for whoever prints failures",
        "allowed": "wrong_answer",
        "program": """
class Endless:
    def __repr__(self):
        while True: pass
    __str__ = __format__ = __repr__
def f(n): return Endless()
""",
    },
    {
        "id": "changes-its-last-answer",
        "about": "returns one list and changes it in the next call",
        "allowed": "wrong_answer",
        "program": "answer = []\ndef f(n):\n    answer[:] = [1, 2]\n    return answer\n",
    },
    {
        "id": "changes-its-answer-in-a-thread",
        "about": "the list goes on changing while it is encoded",
        "allowed": "wrong_answer",
        "program": """
import threading
answer = [0] * 2
def change():
    while True:
        answer[0] += 1
def f(n):
    threading.Thread(target=change, daemon=True).start()
    return answer
""",
    },
    {
        "id": "grows-while-it-is-encoded",
        "races": "the thread that grows it and the one that reads it",
        "checks": "data",
        "about": "a list that another thread extends for ever",
        "allowed": "wrong_answer cpu_time memory",
        "limits": "usual",
        "program": """
import threading
answer = [0]
def grow():
    while True: answer.append(0)
def f(n):
    threading.Thread(target=grow, daemon=True).start()
    return answer
""",
    },
    {
        "id": "wire-tags-as-data",
        "about": "plain dicts that look like the codec's own tags",
        "allowed": "wrong_answer",
        "body": "return {'t': [n, n + 1]} if n == 1 else {'o': 'x', 'i': '0x1'}",
    },
    {
        "id": "exact-decimal",
        "about": "Decimal and Fraction that equal the float",
        "allowed": "wrong_answer",
        "checks": "numbers",
        "body": (
            "import decimal, fractions\n"
            "return fractions.Fraction(n, 2) if n == 1 else decimal.Decimal(n) / 2"
        ),
    },
    {
        "id": "sorts-a-copy",
        "about": "the argument must change, a liar's equality does not help",
        "allowed": "wrong_answer",
        "checks": "in place",
        "program": """
class Liar(list):
    def __eq__(self, other): return True
def f(x):
    x = Liar(x)
    return x
""",
    },
    {
        "id": "argument-becomes-a-foreign-object",
        "about": "leaves objects in the argument that cannot travel back",
        "allowed": "wrong_answer runtime_error",
        "checks": "in place",
        "body": "n[:] = [object()] * 3",
    },
    {
        "id": "raises-its-own-value-error",
        "about": "raises where an answer is wanted",
        "allowed": "runtime_error",
        "checks": "raises",
        "body": "raise ValueError('no')",
    },
    {
        "id": "answers-where-an-error-is-wanted",
        "about": "an exception as a value",
        "allowed": "wrong_answer",
        "checks": "raises",
        "body": "return [n, n + 1] if n > 0 else ValueError('bad')",
    },
]
