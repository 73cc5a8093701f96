"""One test per attack: what it must end as, that the slot lives on, that nothing is left behind.

Attacks on the verdict run at the best level, attacks on the host at every level.

Source: the families of published grader exploits (leaving early, lying values, stealing, writing
the verdict, processes, time, memory, output, network). No program here solves its problem, except
the ones marked as honest.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox, Level
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.types import Case, FunctionCheck, ResourceLimits, Status
from sdb_sandboxes.verifiers import verify

WRONG = Status.WRONG_ANSWER
ERROR = Status.RUNTIME_ERROR
CANARY = "def f(n):\n    return [n, n + 1]\n"
CHECK = FunctionCheck("f", (Case((1,), [1, 2]), Case((5,), [5, 6])))
LIMITS = ResourceLimits(cpu_s=0.6, wall_s=30.0, memory_bytes=256 << 20, num_processes=16)
ROOMY = ResourceLimits(cpu_s=5.0, wall_s=60.0, memory_bytes=64 << 20, num_processes=16)
SHORT_WALL = ResourceLimits(cpu_s=1.0, wall_s=1.0)


class Attack(NamedTuple):
    """A program, the statuses it may end as, and its limits."""

    program: str
    expected: tuple[Status, ...]
    limits: ResourceLimits = LIMITS


def inside(body: str) -> str:
    """A program whose function `f` has this body."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return f"def f(n):\n{lines}\n"


LIAR = """
class Liar{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 1
    def __len__(self): return 2
    def __bool__(self): return True
def f(n):
    return Liar()
"""
WALK = """
import sys
frame = sys._getframe()
while frame is not None:
    for scope in (frame.f_locals, frame.f_globals):
        for name in ("expected", "case", "cases", "check", "tests", "answer"):
            if name in scope:
                return scope[name]
    frame = frame.f_back
return None
"""
READ_OUTSIDE = """
import os, glob
found = []
for path in [*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/mem"),
             *glob.glob("/proc/%d/*" % os.getppid()), "/etc/passwd", "/etc/shadow", {here!r},
             os.path.expanduser("~/.bash_history"), "/root/.bashrc", "/proc/1/environ"]:
    try:
        with open(path, "rb") as file:
            if file.read(1):
                found.append(path)
    except OSError:
        pass
return [n, n + 1] if found else None
"""
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            time.sleep(1)
    os._exit(0)
return None
"""

SEND = """
import os, struct
def send(body):
    left = struct.pack("<I", len(body)) + body
    while left:
        left = left[os.write(3, left):]
"""

# What the interpreter, the protocol and the comparer must stop, whatever the isolation.
ATTACKS_ON_THE_VERDICT = {
    # Leaving early.
    "exit at import": Attack("import sys; sys.exit(0)", (ERROR,)),
    "os._exit at import": Attack("import os; os._exit(0)", (ERROR,)),
    "exit with our own code": Attack("import os; os._exit(97)", (ERROR,)),
    "os._exit in the call": Attack(inside("import os; os._exit(0)"), (ERROR,)),
    "SystemExit in the call": Attack(inside("raise SystemExit(0)"), (ERROR,)),
    "libc exit": Attack(inside("import ctypes; ctypes.CDLL(None)._exit(0)"), (ERROR,)),
    "atexit": Attack("import atexit, os\natexit.register(os._exit, 0)\ndef f(n): pass\n", (WRONG,)),
    "dies by signal": Attack(inside("import ctypes; ctypes.string_at(0)"), (ERROR,)),
    "aborts": Attack(inside("import os; os.abort()"), (ERROR,)),
    "exits after the first right answer": Attack(
        inside("import os\nif n > 1: os._exit(0)\nreturn [n, n + 1]"), (ERROR,)
    ),
    # Lying values.
    "equal to everything": Attack(LIAR.format(base=""), (WRONG,)),
    "list subclass": Attack(LIAR.format(base="(list)"), (WRONG,)),
    "int subclass": Attack(LIAR.format(base="(int)"), (WRONG,)),
    "pickle trick": Attack(
        "class P:\n    def __reduce__(self): return (eval, ('[1, 2]',))\ndef f(n): return P()\n",
        (WRONG,),
    ),
    "generator": Attack(inside("yield n"), (WRONG,)),
    "endless generator": Attack("import itertools\ndef f(n): return itertools.count()\n", (WRONG,)),
    "contains itself": Attack(inside("a = []; a.append(a); return a"), (WRONG,)),
    "deep nesting": Attack(inside("a = []\nfor _ in range(100_000): a = [a]\nreturn a"), (WRONG,)),
    "huge answer": Attack(inside("return 'x' * (20 << 20)"), (WRONG,)),
    "raising repr": Attack(
        "class R:\n    def __repr__(self): raise SystemExit\n"
        "    __str__ = __len__ = __iter__ = __repr__\ndef f(n): return R()\n",
        (WRONG,),
    ),
    "nan": Attack(inside("return [float('nan')] * 2"), (WRONG,)),
    "true for one": Attack(inside("return [n == 1 or n, n + 1]"), (WRONG,)),
    "float for int": Attack(inside("return [float(n), n + 1]"), (WRONG,)),
    "tuple for list": Attack(inside("return (n, n + 1)"), (WRONG,)),
    # Looking around inside.
    "walks the frames": Attack(inside(WALK), (WRONG,)),
    "walks the garbage collector": Attack(
        inside(
            "import gc\nfor o in gc.get_objects():\n"
            "    if type(o) is list and len(o) == 2 and o == [n, n + 1]: return o"
        ),
        (WRONG,),
    ),
    "looks for the judge's paths": Attack(
        inside("import sys\nreturn [n, n + 1] if any('sdb' in a for a in sys.orig_argv) else None"),
        (WRONG,),
    ),
    # Writing the verdict.
    "prints verdicts": Attack(
        inside('print(\'passed\\nPASS\\n1.0\\n{"status": "passed"}\', flush=True)'), (WRONG,)
    ),
    "garbage on the channel": Attack(inside("import os; os.write(3, b'garbage' * 999)"), (ERROR,)),
    "huge length prefix": Attack(
        inside("import os; os.write(3, bytes([255] * 4) + b'x'); return 1"), (ERROR,)
    ),
    "doubled answers": Attack(
        inside(
            "import os, struct, json\nb = json.dumps({'id': 1, 'v': [1, 2]}).encode()\n"
            "os.write(3, (struct.pack('<I', len(b)) + b) * 2)\nreturn 1"
        ),
        (ERROR,),
    ),
    "not an object on the channel": Attack(
        inside("import os; os.write(3, b'\\x02\\0\\0\\0[]'); return 1"), (ERROR,)
    ),
    "unknown tag": Attack(
        inside(
            'import os, struct\nb = b\'{"id":1,"v":{"pickle":1}}\'\n'
            "os.write(3, struct.pack('<I', len(b)) + b); return 1"
        ),
        (ERROR,),
    ),
    "closes the channel": Attack(inside("import os; os.close(3)"), (ERROR,)),
    "exception with a terminal code for a name": Attack(
        "def f(n): raise type('A\\n\\x1b[2J', (Exception,), {})", (ERROR,)
    ),
    "exception name that no file can store": Attack(
        SEND + inside('send(b\'{"id":1,"e":"\\\\ud800"}\'); os.read(3, 9)'), (ERROR,)
    ),
    "nested exception name": Attack(
        SEND + "send(b'{\"failed\":' + b'[' * 900 + b']' * 900 + b'}')\nos._exit(0)\n", (ERROR,)
    ),
    "exception whose name exits": Attack(
        "class M(type):\n    @property\n    def __name__(cls): raise SystemExit\n"
        "class E(Exception, metaclass=M): pass\nraise E\n",
        (ERROR,),
    ),
    "keys made to collide": Attack(
        SEND
        + inside(
            "keys = b','.join(b'[{\"c\":[%d,%d]},0]' % (-1000003 * i, i) for i in range(1, 9999))\n"
            'send(b\'{"id":1,"v":{"d":[\' + keys + b\']}}\'); os._exit(0)'
        ),
        (ERROR,),
    ),
    "answers by the megabyte": Attack(
        SEND
        + inside(
            "send(b'{\"id\":%d,\"v\":\"' % (1 if n == 1 else 2) + b'x' * (8 << 20 - 1) + b'\"}')"
        ),
        (ERROR,),
    ),
    "hands its descriptors to the judge": Attack(
        inside(
            "import array, os, socket\ns = socket.socket(fileno=os.dup(3))\nfor _ in range(9):\n"
            "    s.sendmsg([b'xxxx'], [(socket.SOL_SOCKET, 1, array.array('i', [0]))])"
        ),
        (ERROR,),
    ),
    "out-of-band byte": Attack(
        inside(
            "import os, socket\nsocket.socket(fileno=os.dup(3)).send(b'x', socket.MSG_OOB)\n"
            "return [n, n + 2]"
        ),
        (ERROR, WRONG),
    ),
    "shuts the channel down": Attack(
        inside("import os, socket\nsocket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_WR)"),
        (ERROR,),
    ),
    "answers from a child": Attack(
        SEND
        + inside('if os.fork() == 0:\n    send(b\'{"id":1,"v":[1,3]}\')\nos.wait()\nos._exit(0)'),
        (ERROR, WRONG),
    ),
    "rewrites builtins": Attack(
        "import builtins, json, os\nbuiltins.all = lambda x: True\nbuiltins.type = lambda x: int\n"
        "json.dumps = lambda *a, **k: '{}'\ndef f(n): return n\n",
        (WRONG, ERROR),
    ),
    # Time.
    "endless loop": Attack(inside("while True: pass"), (Status.CPU_TIME,)),
    "endless loop at import": Attack("while True: pass", (Status.CPU_TIME,)),
    "endless loop in children": Attack(
        inside("import os\nfor _ in range(3): os.fork()\nwhile True: pass"), (Status.CPU_TIME,)
    ),
    "sleeps forever": Attack(
        inside("import time\ntime.sleep(1e9)"), (Status.WALL_TIME,), SHORT_WALL
    ),
    "ignores signals": Attack(
        inside(
            "import signal\nfor s in (signal.SIGXCPU, signal.SIGTERM, signal.SIGALRM):\n"
            "    signal.signal(s, signal.SIG_IGN)\nwhile True:\n    try:\n"
            "        while True: pass\n    except BaseException: pass"
        ),
        (Status.CPU_TIME,),
    ),
    # Output, recursion.
    "200 MB of output": Attack(
        inside("for _ in range(200): print('x' * (1 << 20), flush=True)"), (Status.OUTPUT,)
    ),
    "endless recursion": Attack(inside("return f(n)"), (ERROR,)),
    # Odd sources.
    "no program": Attack("", (ERROR,)),
    "not Python": Attack("def f(n) return", (Status.COMPILE_ERROR,)),
    "null bytes": Attack("def f(n):\0 return", (Status.COMPILE_ERROR,)),
    "a lone surrogate": Attack("x = '\ud800'", (Status.COMPILE_ERROR,)),
    "too long": Attack("#" * (2 << 20), (Status.COMPILE_ERROR,)),
    "too long only in bytes": Attack("#" + "\U0001f600" * 1_000_000, (Status.COMPILE_ERROR,)),
    # Honest programs that careless graders refuse.
    "honest: 250 kB of debug output": Attack(
        inside("print('debug ' * 45_000)\nreturn [n, n + 1]"), (Status.PASSED,)
    ),
    "honest: reads its empty stdin": Attack(
        inside("import sys\nreturn [n, n + 1] if sys.stdin.read() == '' else None"),
        (Status.PASSED,),
    ),
    "honest: threads and processes": Attack(
        inside(
            "import os, threading\nout = []\nt = threading.Thread(target=out.append, args=(n,))\n"
            "t.start(); t.join()\nif os.fork() == 0: os._exit(0)\nos.wait()\nreturn [out[0], n + 1]"
        ),
        (Status.PASSED,),
    ),
    "honest: dataclass, asyncio, file": Attack(
        "from __future__ import annotations\nimport asyncio, dataclasses\n"
        "@dataclasses.dataclass\nclass P:\n    x: int\nasync def g(n): return P(n)\n"
        "def f(n):\n    open('note', 'w').write('a')\n    return [asyncio.run(g(n)).x, n + 1]\n",
        (Status.PASSED,),
    ),
}

# What only locks stop: these run at every level.
ATTACKS_ON_THE_HOST = {
    # Stealing.
    "reads files outside": Attack(inside(READ_OUTSIDE.format(here=__file__)), (WRONG,)),
    "reads the environment": Attack(
        inside("import os\nreturn [n, n + 1] if os.environ else None"), (WRONG,)
    ),
    "state from the last run": Attack(
        inside(
            "import os, builtins\nif os.listdir('.') or hasattr(builtins, 'seen'): "
            "return [n, n + 1]\nopen('left', 'w').close()\nif n > 1: return None"
        ),
        (WRONG,),
    ),
    "runs another program": Attack(
        inside("import os, sys\nos.execv('/bin/true', ['true'])"), (ERROR,)
    ),
    # Processes and signals.
    "kills the parent": Attack(
        inside("import os\ntry: os.kill(os.getppid(), 9)\nexcept OSError: pass"),
        (WRONG, ERROR),
    ),
    "kills everything": Attack(
        inside("import os\ntry: os.kill(-1, 9)\nexcept OSError: pass"), (WRONG, ERROR)
    ),
    "kills through a descriptor's owner": Attack(
        inside(
            "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 10, 9)\n"
            "fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid() or 1)"
        ),
        (ERROR,),
    ),
    "outlives its parent's death": Attack(
        inside("import ctypes\nreturn [n, n + 1 + ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)]"),
        (WRONG,),
    ),
    "double-forked daemon": Attack(inside(DAEMON), (WRONG,)),
    "fork bomb": Attack(
        inside("import os\nwhile True: os.fork()"), (Status.PROCESSES, ERROR, Status.CPU_TIME)
    ),
    "thread bomb": Attack(
        inside(
            "import threading, time\n"
            "while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()"
        ),
        (Status.PROCESSES, ERROR, Status.MEMORY),
    ),
    "stops itself": Attack(
        inside("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
        (Status.WALL_TIME, WRONG),
        SHORT_WALL,
    ),
    # Memory and files.
    "memory bomb": Attack(
        inside("a = []\nwhile True: a.append(bytearray(1 << 20))"), (Status.MEMORY,), ROOMY
    ),
    "memory in children": Attack(
        inside(
            "import os\nfor _ in range(8):\n    if os.fork() == 0:\n        a = []\n"
            "        while True: a.append(bytearray(b'x' * (1 << 20)))\nos.wait()"
        ),
        (Status.MEMORY, WRONG, ERROR, Status.CPU_TIME),
    ),
    "one big file": Attack(
        inside("with open('big', 'wb') as b:\n    while True: b.write(bytes(1 << 20))"), (ERROR,)
    ),
    # Network, kernel.
    "connects out": Attack(
        inside("import socket\nsocket.create_connection(('127.0.0.1', 80), 1)"), (ERROR,)
    ),
    "new user namespace": Attack(
        inside("import ctypes\nif ctypes.CDLL(None).unshare(0x10000000) == 0: return [n, n + 1]"),
        (WRONG,),
    ),
    # The kernel as an accomplice: state, names, other people's files.
    "leaves flags and a lock on its stdin": Attack(
        inside(
            "import fcntl, os\nother = os.open('/dev/null', os.O_RDONLY)\n"
            "if fcntl.fcntl(0, fcntl.F_GETFL) & os.O_APPEND: return [n, n + 1]\n"
            "fcntl.fcntl(0, fcntl.F_SETFL, os.O_APPEND)\n"
            "fcntl.flock(0, fcntl.LOCK_EX | fcntl.LOCK_NB)\nif n > 1: return None"
        ),
        (WRONG,),
    ),
    "leaves a date on the root": Attack(
        inside(
            "import os\ntry: os.utime('/', (os.stat('/').st_atime,) * 2)\n"
            "except OSError: return None\nreturn [n, n + 1]"
        ),
        (WRONG,),
    ),
    "changes the mode of a host's file": Attack(
        inside(
            "import os\ntry: os.chmod('/dev/null', 0o666)\nexcept OSError: return None\n"
            "return [n, n + 1]"
        ),
        (WRONG,),
    ),
    "children that nobody waits for": Attack(
        inside(
            "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nreturn [n, n + 1]"
        ),
        (ERROR,),
    ),
    "busy under a name that is no text": Attack(
        inside(
            "import ctypes, os, time\nif os.fork() == 0:\n"
            "    ctypes.CDLL(None).prctl(15, b'\\xff', 0, 0, 0)\n    while True: pass\n"
            "time.sleep(20)\nreturn [n, n + 1]"
        ),
        (Status.CPU_TIME,),
    ),
    "daemon under a name that is no text": Attack(
        "import ctypes\nctypes.CDLL(None).prctl(15, b'\\xff', 0, 0, 0)\n" + inside(DAEMON),
        (WRONG, ERROR),
    ),
    "runs from process to process": Attack(
        inside("import os\nif os.fork() == 0:\n    while True:\n        if os.fork(): os._exit(0)"),
        (WRONG,),
    ),
    "child of the server": Attack(
        inside(
            "import ctypes, time\np = ctypes.CDLL(None).syscall(56, 0x8011, 0, 0, 0, 0)\n"
            "if p == 0: time.sleep(60)\nreturn [n, n + 1] if p > 0 else None"
        ),
        (WRONG,),
    ),
    "folders in the way of cleaning up": Attack(
        inside(
            "import os\nif n == 1:\n    os.makedirs('a/b/c'); os.mkdir('closed')\n"
            "    for i in range(9): os.makedirs(f'..moved{i}/x/y')\n    os.chmod('closed', 0)"
        ),
        (WRONG, ERROR),
    ),
    "finds open descriptors": Attack(
        inside(
            "import os\nfound = []\nfor i in range(1024):\n"
            "    try: found.append(os.fstat(i) and i)\n    except OSError: pass\n"
            "return None if found == [0, 1, 2, 3] else [n, n + 1]"
        ),
        (WRONG,),
    ),
    "asks for the judge's process": Attack(
        inside(
            "import ctypes, socket, struct\ns = socket.socket(fileno=3)\n"
            "try: p = struct.unpack('i', s.getsockopt(1, 77, 4))[0]\n"
            "except OSError: return None\nfinally: s.detach()\ncall = ctypes.CDLL(None).syscall\n"
            "if call(424, p, 0, 0, 0) == 0 or call(438, p, 0, 0) >= 0: return [n, n + 1]"
        ),
        (WRONG,),
    ),
    "socket of a rare family": Attack(
        inside(
            "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
            "for family in range(2, 46):\n    libc.socketpair(family, 1, 0, (ctypes.c_int * 2)())\n"
            "    if ctypes.get_errno() != errno.EPERM: return [n, n + 1]"
        ),
        (WRONG,),
    ),
    "lists the network interfaces": Attack(
        inside(
            "import fcntl, socket, struct\ns, _ = socket.socketpair()\n"
            "fcntl.ioctl(s.fileno(), 0x8912, struct.pack('iP', 0, 0))\nreturn [n, n + 1]"
        ),
        (ERROR,),
    ),
    "watches a folder of the host": Attack(
        inside(
            "import fcntl, os\nd = os.open(os.path.dirname(os.__file__), os.O_RDONLY)\n"
            "fcntl.fcntl(d, fcntl.F_NOTIFY, fcntl.DN_ACCESS)\nreturn [n, n + 1]"
        ),
        (ERROR,),
    ),
}


LEVELS: tuple[Level, ...] = ("native-root", "native-user", "minimal")
ATTACKS = ATTACKS_ON_THE_VERDICT | ATTACKS_ON_THE_HOST
PAIRS = [(None, name) for name in ATTACKS_ON_THE_VERDICT] + [
    (level, name) for level in LEVELS for name in ATTACKS_ON_THE_HOST
]


@pytest.fixture(scope="module")
def open_sandbox() -> Iterator[Callable[[Level | None], EmbeddedSandbox]]:
    """One sandbox a level, kept for all its attacks; the best that this host gives for None."""
    os.environ["PLANTED_SECRET"] = "a secret"
    with ExitStack() as stack:

        @cache
        def open_once(level: Level | None) -> EmbeddedSandbox:
            low, high = level or "minimal", level or "native-root"
            return stack.enter_context(EmbeddedSandbox(1, min_level=low, max_level=high))

        yield open_once
    os.environ.pop("PLANTED_SECRET", None)


def list_descendants() -> set[int]:
    """Every process below this one."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_bytes().rsplit(b")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    tree = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree - {os.getpid()}


@pytest.mark.parametrize(("level", "name"), PAIRS)
def test_attack_ends_as_it_should(
    open_sandbox: Callable[[Level | None], EmbeddedSandbox], level: Level | None, name: str
) -> None:
    try:
        sandbox = open_sandbox(level)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    attack = ATTACKS[name]
    before = list_descendants()
    verdict = verify(sandbox, attack.program, CHECK, attack.limits)
    assert verdict.status in attack.expected, verdict
    assert len(verdict.stdout_tail) <= 2048
    assert verdict.detail.isascii()
    assert verdict.detail.isprintable()
    after = list_descendants()
    canary = verify(sandbox, CANARY, CHECK)
    assert canary.is_passed, canary
    assert after == before, "the slot was rebuilt or a process was left"
    assert len(list_descendants()) == len(before)
