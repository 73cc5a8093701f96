"""Good programs: right, but unusual enough for a careless sandbox to refuse them."""

FAMILY = "good programs"
CHECKS = "data, assertions, objects, output, exit code"
QUIET = "data, assertions, objects, exit code, suite"
"""For programs that print what they are not asked for."""
ENTRIES = [
    {
        "id": "plain",
        "about": "what most programs are",
        "allowed": "passed",
        "body": "return [n, n + 1]",
    },
    {
        "id": "threads",
        "about": "eight threads and a queue",
        "allowed": "passed",
        "body": """
import queue, threading
out = queue.Queue()
threads = [threading.Thread(target=out.put, args=(n + i,)) for i in range(8)]
for t in threads: t.start()
for t in threads: t.join()
return sorted(out.get() for _ in threads)[:2]
""",
    },
    {
        "id": "thread-pool",
        "about": "concurrent.futures",
        "allowed": "passed",
        "limits": "patient",
        "body": "from concurrent.futures import ThreadPoolExecutor as P\n"
        "with P(4) as p: return list(p.map(lambda i: n + i, range(2)))",
    },
    {
        "id": "thread-that-goes-on",
        "about": "a daemon thread that is still there at the end",
        "allowed": "passed",
        "body": "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nreturn [n, n + 1]",
    },
    {
        "id": "thread-with-a-large-stack",
        "about": "deep recursion as contestants do it",
        "allowed": "passed",
        "limits": "patient",
        "program": """
import sys, threading
sys.setrecursionlimit(10**6)
def depth(k): return k and 1 + depth(k - 1)
def f(n):
    out = []
    old = threading.stack_size(64 << 20)
    t = threading.Thread(target=lambda: out.append(depth(20_000)))
    t.start()
    t.join()
    threading.stack_size(old)
    return [n, n + out[0] - 19_999]
""",
    },
    {
        "id": "asyncio",
        "about": "gather, queues, time-outs and a thread",
        "allowed": "passed",
        "limits": "patient",
        "program": """
import asyncio
async def one(k):
    await asyncio.sleep(0.001)
    return await asyncio.to_thread(lambda: k)
async def main(n):
    return list(await asyncio.wait_for(asyncio.gather(one(n), one(n + 1)), 20))
def f(n): return asyncio.run(main(n))
""",
    },
    {
        "id": "async-generators",
        "about": "async for and async with",
        "allowed": "passed",
        "limits": "patient",
        "program": """
import asyncio, contextlib
@contextlib.asynccontextmanager
async def opened(k):
    yield k
async def count(n):
    for k in range(2):
        async with opened(n + k) as value: yield value
async def main(n): return [k async for k in count(n)]
def f(n): return asyncio.run(main(n))
""",
    },
    {
        "id": "fork-and-pipe",
        "about": "a child that computes half of it",
        "allowed": "passed",
        "body": """
import os
r, w = os.pipe()
child = os.fork()
if child == 0:
    os.write(w, str(n + 1).encode())
    os._exit(0)
os.close(w)
text = os.read(r, 99)
os.close(r)
os.waitpid(child, 0)
return [n, int(text)]
""",
    },
    {
        "id": "multiprocessing",
        "about": "a process and a pipe, by fork",
        "allowed": "passed",
        "limits": "patient",
        "body": """
import multiprocessing
context = multiprocessing.get_context("fork")
ours, theirs = context.Pipe()
p = context.Process(target=lambda: theirs.send(n + 1))
p.start()
answer = ours.recv()
p.join()
return [n, answer]
""",
    },
    {
        "id": "deep-recursion",
        "about": "a higher limit, honestly used",
        "allowed": "passed",
        "program": "import sys\nsys.setrecursionlimit(20_000)\n"
        "def depth(k): return k and 1 + depth(k - 1)\ndef f(n): return [n, n + depth(9_000) - 8_999]\n",
    },
    {
        "id": "recursion-error-is-expected",
        "about": "finds the limit and comes back",
        "allowed": "passed",
        "program": "def down(): return down()\ndef f(n):\n    try: down()\n"
        "    except RecursionError: return [n, n + 1]\n",
    },
    {
        "id": "memory-error-is-expected",
        "about": "asks for too much and comes back",
        "allowed": "passed",
        "body": "try: bytearray(1 << 50)\nexcept MemoryError: return [n, n + 1]",
    },
    {
        "id": "generators",
        "about": "send, throw, yield from and a return value",
        "allowed": "passed",
        "program": """
def inner():
    got = yield 1
    return got
def outer():
    value = yield from inner()
    yield value
def f(n):
    g = outer()
    return [n, n + next(g) + g.send(0)]
""",
    },
    {
        "id": "itertools-and-functools",
        "about": "lazy until the end, cached, reduced, dispatched",
        "allowed": "passed",
        "program": """
import functools, itertools, operator
@functools.lru_cache(maxsize=None)
def fib(k): return k if k < 2 else fib(k - 1) + fib(k - 2)
@functools.singledispatch
def show(x): raise TypeError
show.register(int, lambda x: x)
def f(n):
    assert fib(80) == 23416728348467685
    assert functools.reduce(operator.mul, range(1, 6)) == 120
    return list(itertools.islice(itertools.count(show(n)), 2))
""",
    },
    {
        "id": "metaclasses",
        "about": "a metaclass, __init_subclass__, __set_name__ and a descriptor",
        "allowed": "passed",
        "program": """
class Meta(type):
    def __new__(mcs, name, bases, names): return super().__new__(mcs, name, bases, {**names, "step": 1})
    def __call__(cls, *a): return super().__call__(*a)
class Field:
    def __set_name__(self, owner, name): self.name = "_" + name
    def __get__(self, instance, owner): return getattr(instance, self.name)
    def __set__(self, instance, value): setattr(instance, self.name, value)
class Base(metaclass=Meta):
    x = Field()
    def __init_subclass__(cls, **k): cls.made = True
    def __init__(self, x): self.x = x
class Child(Base): pass
def f(n): return [Child(n).x, Child(n).x + Child.step]
""",
    },
    {
        "id": "dataclasses",
        "about": "slots, order, frozen, future annotations",
        "allowed": "passed",
        "program": """
from __future__ import annotations
import dataclasses
@dataclasses.dataclass(order=True, frozen=True, slots=True)
class P:
    x: int
    y: list[Q] = dataclasses.field(default_factory=list, compare=False)
@dataclasses.dataclass
class Q:
    z: P | None = None
def f(n): return [p.x for p in sorted([P(n + 1), P(n)])]
""",
    },
    {
        "id": "enums-and-named-tuples",
        "about": "answers by subclass of int and tuple, as plain values",
        "allowed": "passed",
        "program": """
import enum, typing
class E(enum.IntEnum):
    ONE = 1
class T(typing.NamedTuple):
    a: int
    b: int
def f(n): return [*T(n, n + E.ONE)]
""",
    },
    {
        "id": "slots-and-weak-references",
        "about": "__slots__, weakref.finalize, WeakValueDictionary",
        "allowed": "passed",
        "program": """
import gc, weakref
class S:
    __slots__ = ("x", "__weakref__")
    def __init__(self, x): self.x = x
def f(n):
    log, s = [], S(n)
    weakref.finalize(s, log.append, n + 1)
    table = weakref.WeakValueDictionary(a=s)
    del s
    gc.collect()
    return [n, *log] if not table else None
""",
    },
    {
        "id": "context-variables",
        "about": "contextvars across copies of a context",
        "allowed": "passed",
        "program": """
import contextvars
var = contextvars.ContextVar("var", default=0)
def f(n):
    context = contextvars.copy_context()
    context.run(var.set, n + 1)
    return [n + var.get(), context[var]]
""",
    },
    {
        "id": "context-managers",
        "about": "ExitStack, suppress, redirect_stdout",
        "allowed": "passed",
        "program": """
import contextlib, io
def f(n):
    with contextlib.ExitStack() as stack, contextlib.redirect_stdout(io.StringIO()) as out:
        stack.enter_context(contextlib.suppress(ZeroDivisionError))
        print(n)
        1 / 0
    return [n, int(out.getvalue()) + 1]
""",
    },
    {
        "id": "decorators-and-closures",
        "about": "nonlocal, wraps, decorators with arguments",
        "allowed": "passed",
        "program": """
import functools
def twice(k):
    def decorate(g):
        count = 0
        @functools.wraps(g)
        def wrapper(n):
            nonlocal count
            count += k
            return g(n)
        return wrapper
    return decorate
@twice(2)
def f(n): return [n, n + 1]
""",
    },
    {
        "id": "entry-point-is-a-class",
        "about": "an instance with __call__, a partial, a lambda",
        "allowed": "passed",
        "program": "import functools\nclass C:\n    def __call__(self, k, n): return [n, n + k]\n"
        "f = functools.partial(C(), 1)\n",
    },
    {
        "id": "pattern-matching",
        "about": "match, walrus, positional-only, star expressions",
        "allowed": "passed",
        "program": """
def f(n, /, *rest, k=1, **more):
    match {"n": n, "x": [1, 2, 3]}:
        case {"n": int(value), "x": [_, *tail]} if (size := len(tail)) == 2:
            return [value, value + size - k]
""",
    },
    {
        "id": "exception-groups",
        "about": "except*, notes, chained causes",
        "allowed": "passed",
        "body": """
try:
    try:
        raise ExceptionGroup("g", [ValueError(n), TypeError()])
    except* ValueError as group:
        group.add_note("noted")
        raise KeyError(n) from group
except BaseExceptionGroup as error:
    return [n, n + (len(error.exceptions) > 0)]
except KeyError:
    return [n, n + 1]
""",
    },
    {
        "id": "large-integers",
        "about": "arithmetic and text of thousands of digits",
        "allowed": "passed",
        "body": "import sys\nsys.set_int_max_str_digits(0)\nx = 3 ** 9000\n"
        "return [n, n + int(str(x)) - x + 1]",
    },
    {
        "id": "fractions-and-decimals",
        "about": "exact arithmetic in a context of its own",
        "allowed": "passed",
        "body": """
import decimal, fractions
with decimal.localcontext() as context:
    context.prec = 60
    third = decimal.Decimal(1) / 3
return [int(fractions.Fraction(n * 3, 3)), n + round(float(third * 3))]
""",
    },
    {
        "id": "floats-and-complex",
        "about": "cmath, hypot, fsum, nan and infinities on the way",
        "allowed": "passed",
        "body": "import cmath, math\nassert math.isnan(math.inf - math.inf)\n"
        "return [int(abs(complex(0, n))), n + int(math.fsum([0.1] * 10))]",
    },
    {
        "id": "unicode-names",
        "about": "identifiers, text and docstrings in many alphabets",
        "allowed": "passed",
        "program": "def \u0444\u0443\u043d\u043a\u0446\u0438\u044f(\u03b1):\n    '''\u8aac\u660e \U0001f600'''\n"
        "    \u03b2 = len('\U0001f600')\n    return [\u03b1, \u03b1 + \u03b2]\nf = \u0444\u0443\u043d\u043a\u0446\u0438\u044f\n",
    },
    {
        "id": "byte-order-mark",
        "about": "as some editors save it",
        "allowed": "passed",
        "program": "\ufeffdef f(n): return [n, n + 1]\n",
    },
    {
        "id": "cookie-and-interpreter-line",
        "about": "#! and a coding cookie first",
        "allowed": "passed",
        "program": "#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\ndef f(n): return [n, n + 1]\n",
    },
    {
        "id": "line-ends-and-form-feeds",
        "about": "CRLF, form feeds, a missing last line end",
        "allowed": "passed",
        "program": "import os\r\n\x0c\r\ndef f(n):\r\n    return [n, n + 1]",
    },
    {
        "id": "guarded-main",
        "about": "a main part that needs what only its author has",
        "allowed": "passed",
        "checks": "data, assertions",
        "program": "def f(n): return [n, n + 1]\n"
        "if __name__ == '__main__':\n    print(f(int(open('/home/me/input').read())))\n",
    },
    {
        "id": "self-test-at-import",
        "about": "asserts and prints of its own",
        "allowed": "passed",
        "checks": QUIET,
        "program": "def f(n): return [n, n + 1]\nassert f(2) == [2, 3]\nprint('tests passed')\n",
    },
    {
        "id": "doctest-and-unittest",
        "about": "runs its own examples",
        "allowed": "passed",
        "checks": QUIET,
        "limits": "patient",
        "program": '''
import doctest, io, sys, unittest
def f(n):
    """Next.

    >>> f(2)
    [2, 3]
    """
    return [n, n + 1]
class Test(unittest.TestCase):
    def test(self): self.assertEqual(f(3), [3, 4])
suite = unittest.defaultTestLoader.loadTestsFromTestCase(Test)
assert unittest.TextTestRunner(stream=io.StringIO()).run(suite).wasSuccessful()
assert doctest.testmod(sys.modules[__name__]).failed == 0
''',
    },
    {
        "id": "much-output",
        "about": "a quarter of a megabyte of debugging",
        "allowed": "passed",
        "checks": QUIET,
        "body": "print('debug ' * 45_000)\nreturn [n, n + 1]",
    },
    {
        "id": "output-on-stderr",
        "about": "logging and warnings",
        "allowed": "passed",
        "body": "import logging, warnings\nlogging.error('%s', n)\nwarnings.warn('old')\nreturn [n, n + 1]",
    },
    {
        "id": "no-input",
        "about": "reads its empty standard input to the end, twice",
        "allowed": "passed",
        "checks": QUIET,
        "body": "import sys\nreturn [n, n + 1] if sys.stdin.read() + sys.stdin.read() == '' else None",
    },
    {
        "id": "reads-and-writes-files",
        "about": "writes, reads, renames, removes",
        "allowed": "passed",
        "body": """
import os, pathlib, shutil
pathlib.Path("a/b").mkdir(parents=True)
pathlib.Path("a/b/c.txt").write_text(str(n), encoding="utf-8")
os.replace("a/b/c.txt", "d.txt")
shutil.rmtree("a")
with open("d.txt") as file: text = file.read()
os.remove("d.txt")
return [n, int(text) + 1]
""",
    },
    {
        "id": "temporary-files",
        "about": "tempfile in all its forms",
        "allowed": "passed",
        "limits": "patient",
        "body": """
import tempfile
with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w+", dir=folder) as file:
    file.write(str(n))
    file.seek(0)
    with tempfile.TemporaryFile() as other:
        other.write(b"1")
    return [n, int(file.read()) + 1]
""",
    },
    {
        "id": "formats-of-files",
        "about": "csv, json, zip, gzip, pickle, sqlite in memory",
        "allowed": "passed",
        "limits": "patient",
        "body": """
import csv, gzip, io, json, pickle, sqlite3, zipfile
rows = list(csv.reader(io.StringIO(f"{n},{n + 1}")))
rows = pickle.loads(pickle.dumps(json.loads(json.dumps(rows))))
assert gzip.decompress(gzip.compress(b"x")) == b"x"
with zipfile.ZipFile(io.BytesIO(), "w") as archive: archive.writestr("a", "b")
with sqlite3.connect(":memory:") as base: (total,) = base.execute("select 1 + 1").fetchone()
return [int(x) for x in rows[0]] if total == 2 else None
""",
    },
    {
        "id": "pickles-of-its-own-class",
        "about": "the program's module can be found by name",
        "allowed": "passed",
        "program": "import copy, pickle\nclass C:\n    def __init__(self, n): self.n = n\n"
        "def f(n): return [pickle.loads(pickle.dumps(C(n))).n, copy.deepcopy(C(n)).n + 1]\n",
    },
    {
        "id": "alarm",
        "about": "signal.alarm and an interval timer as its own time limit",
        "allowed": "passed",
        "checks": "data, assertions, exit code",
        "body": """
import signal, time
def stop(number, frame): raise TimeoutError
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.02)
try:
    time.sleep(20)
except TimeoutError:
    return [n, n + 1]
""",
    },
    {
        "id": "short-sleep",
        "about": "waits a little and measures it",
        "allowed": "passed",
        "body": "import time\nstart = time.monotonic()\ntime.sleep(0.02)\n"
        "return [n, n + 1] if time.monotonic() - start >= 0.019 else None",
    },
    {
        "id": "dates-and-zones",
        "about": "datetime, calendar, a time zone by name where the host knows any",
        "allowed": "passed",
        "limits": "patient",
        "body": """
import datetime, zoneinfo
try:
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
except zoneinfo.ZoneInfoNotFoundError:
    zone = datetime.timezone(datetime.timedelta(hours=2))
noon = datetime.datetime(2024, 7, 1, 12, tzinfo=zone)
return [n, n + int(noon.utcoffset().total_seconds()) // 7200]
""",
    },
    {
        "id": "locale",
        "about": "asks for the default locale and goes on with C",
        "allowed": "passed",
        "limits": "patient",
        "body": "import locale\nlocale.setlocale(locale.LC_ALL, '')\nlocale.setlocale(locale.LC_ALL, 'C')\n"
        "return [n, int(locale.atof('1.0')) + n]",
    },
    {
        "id": "random-and-secrets",
        "about": "seeds, shuffles, uuid4 and hashes",
        "allowed": "passed",
        "limits": "patient",
        "body": "import hashlib, random, secrets, uuid\nrandom.seed(n)\nx = [n, n + 1]\nrandom.shuffle(x)\n"
        "assert len(uuid.uuid4().hex) == len(secrets.token_hex(16)) == len(hashlib.md5(b'').hexdigest())\n"
        "return sorted(x)",
    },
    {
        "id": "regular-expressions",
        "about": "named groups, look-behind, substitution by function",
        "allowed": "passed",
        "body": r"""
import re
text = re.sub(r"(?<=a)(?P<k>\d+)", lambda m: str(int(m["k"]) + 1), f"a{n}")
return [n, int(text[1:])]
""",
    },
    {
        "id": "exec-and-compile",
        "about": "code made at run time, types.FunctionType, ast",
        "allowed": "passed",
        "limits": "patient",
        "body": """
import ast
names = {}
exec(compile(ast.parse("def g(k): return [k, eval('k + 1')]"), "<made>", "exec"), names)
return names["g"](n)
""",
    },
    {
        "id": "changes-the-interpreter",
        "about": "collector, switch interval, trace, hooks, builtins of its own",
        "allowed": "passed",
        "body": """
import builtins, gc, sys
gc.disable()
sys.setswitchinterval(0.001)
sys.settrace(lambda *a: None)
sys.settrace(None)
builtins.debug = print
sys.excepthook = lambda *a: None
return [n, n + 1]
""",
    },
    {
        "id": "exit-functions",
        "about": "atexit, __del__ at the end, and an exit code of 0",
        "allowed": "passed",
        "program": """
import atexit
class D:
    def __del__(self): pass
d = D()
atexit.register(lambda: None)
def f(n): return [n, n + 1]
""",
    },
    {
        "id": "caught-exits",
        "about": "sys.exit in a helper that is caught again",
        "allowed": "passed",
        "body": "import sys\ntry: sys.exit(3)\nexcept SystemExit as stop: return [n, n + stop.code - 2]",
    },
    {
        "id": "ctypes-and-memory-maps",
        "about": "calls into libc, a mapping of its own, arrays",
        "allowed": "passed",
        "body": """
import array, ctypes, mmap
with mmap.mmap(-1, 4096) as page:
    page[0:4] = array.array("i", [n]).tobytes()
    (value,) = array.array("i", page[0:4])
return [value, ctypes.CDLL(None).abs(-n - 1)]
""",
    },
    {
        "id": "socket-pairs-and-selectors",
        "about": "local pairs, select, poll and epoll",
        "allowed": "passed",
        "body": """
import selectors, socket
a, b = socket.socketpair()
with a, b, selectors.DefaultSelector() as selector:
    selector.register(b, selectors.EVENT_READ)
    a.send(str(n + 1).encode())
    selector.select()
    return [n, int(b.recv(99))]
""",
    },
    {
        "id": "large-tables",
        "about": "a sieve, a big dictionary, sorting with keys",
        "allowed": "passed",
        "limits": "patient",
        "body": """
sieve = bytearray([1]) * 200_000
for p in range(2, 450):
    if sieve[p]: sieve[p * p :: p] = bytes(len(range(p * p, 200_000, p)))
table = {i: -i for i in range(100_000)}
return [n, n + sum(sieve[2:]) - 17_983 + (sorted(table, key=table.get)[0] == 99_999) - 1]
""",
    },
    {
        "id": "names-of-a-harness",
        "about": "its own check, candidate, solve, tests and expected",
        "allowed": "passed",
        "program": """
def check(x): return x
def solve(n): return candidate(n)
def candidate(n): return [n, n + 1]
tests, expected, result, verdict = [], None, "failed", False
f = solve
""",
    },
    {
        "id": "changes-its-argument",
        "about": "sorts in place and returns nothing",
        "allowed": "passed",
        "checks": "in place",
        "body": "n.sort()",
    },
    {
        "id": "raises-as-it-should",
        "about": "its own subclass of ValueError",
        "allowed": "passed",
        "checks": "raises",
        "program": "class Bad(ValueError): pass\ndef f(n):\n    if n < 0: raise Bad(n)\n    return [n, n + 1]\n",
    },
    {
        "id": "answers-in-any-order",
        "about": "sets, repeated items and another order where the rule forgives it",
        "allowed": "passed",
        "checks": "as a set",
        "body": "return [n - 1, 0, 1, 0] if n == 1 else (n, 0) * 200",
    },
]
