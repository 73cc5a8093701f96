"""Leaving early: the program ends, well-behaved or not, before its answers are known."""

FAMILY = "leaving early"
CHECKS = "data, reference, assertions, objects, output, exit code, suite"
ENTRIES = [
    {
        "id": "exit-at-import",
        "about": "sys.exit(0) while it is loaded",
        "allowed": "runtime_error",
        "program": "import sys\nsys.exit(0)\n",
    },
    {
        "id": "exit-without-goodbye-at-import",
        "about": "os._exit(0) while it is loaded",
        "allowed": "runtime_error",
        "program": "import os\nos._exit(0)\n",
    },
    {
        "id": "exit-without-goodbye-in-the-call",
        "about": "os._exit(0) instead of an answer",
        "allowed": "runtime_error",
        "body": "import os\nos._exit(0)",
    },
    {
        "id": "exit-with-our-own-code",
        "about": "ends with the code by which a cell says that it could not be locked",
        "allowed": "runtime_error",
        "program": "import os\nos._exit(97)\n",
    },
    {
        "id": "exit-with-our-memory-code",
        "about": "ends with the code by which a cell says that memory ran out",
        "allowed": "memory",
        "body": "import os\nos._exit(98)",
    },
    {
        "id": "system-exit-in-the-call",
        "about": "raises SystemExit(0)",
        "allowed": "runtime_error",
        "body": "raise SystemExit(0)",
    },
    {
        "id": "keyboard-interrupt-in-the-call",
        "about": "raises what graders let through",
        "allowed": "runtime_error wrong_answer",
        "checks": "data, assertions, loops, caught",
        "body": "raise KeyboardInterrupt",
    },
    {
        "id": "generator-exit-in-the-call",
        "about": "raises what ends generators quietly",
        "allowed": "runtime_error wrong_answer",
        "checks": "data, assertions, loops, caught",
        "body": "raise GeneratorExit",
    },
    {
        "id": "stop-iteration-in-the-call",
        "about": "raises what ends the tests' own loop quietly",
        "allowed": "runtime_error wrong_answer",
        "checks": "data, assertions, loops, caught",
        "body": "raise StopIteration",
    },
    {
        "id": "stop-iteration-by-subclass",
        "about": "raises a subclass of StopIteration",
        "allowed": "runtime_error wrong_answer",
        "checks": "data, assertions, loops, caught",
        "program": """
class StopAsyncIteration(StopIteration):
    pass
def f(n):
    raise StopAsyncIteration
""",
    },
    {
        "id": "interrupt-at-import",
        "about": "raises KeyboardInterrupt while it is loaded",
        "allowed": "runtime_error",
        "program": "raise KeyboardInterrupt\n",
    },
    {
        "id": "libc-exit",
        "about": "ends below the interpreter",
        "allowed": "runtime_error",
        "body": "import ctypes\nctypes.CDLL(None)._exit(0)",
    },
    {
        "id": "libc-exit-with-handlers",
        "about": "calls libc's exit(0), which flushes and runs handlers",
        "allowed": "runtime_error",
        "body": "import ctypes\nctypes.CDLL(None).exit(0)",
    },
    {
        "id": "exit-as-a-system-call",
        "checks": "data, assertions",
        "about": "ends only its main thread, by number",
        "allowed": "runtime_error wall_time",
        "limits": "short wall",
        "body": "import ctypes\nctypes.CDLL(None).syscall(60, 0)",
    },
    {
        "id": "exit-hook",
        "about": "leaves by an atexit hook and answers None",
        "allowed": "wrong_answer",
        "program": "import atexit, os\natexit.register(os._exit, 0)\ndef f(n): pass\n",
    },
    {
        "id": "exit-hook-then-exit",
        "about": "an atexit hook that hides the exit code",
        "allowed": "runtime_error",
        "program": "import atexit, os, sys\natexit.register(os._exit, 0)\nsys.exit(7)\n",
    },
    {
        "id": "exit-in-a-finalizer",
        "about": "__del__ leaves when the value is dropped after it was encoded",
        "allowed": "wrong_answer runtime_error",
        "program": """
import os
class Last:
    def __del__(self):
        os._exit(0)
def f(n):
    return Last()
""",
    },
    {
        "id": "exit-in-a-collected-cycle",
        "about": "a finalizer in a cycle that the collector finds later",
        "allowed": "wrong_answer runtime_error",
        "program": """
import gc, os
class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        os._exit(0)
def f(n):
    Cycle()
    gc.collect()
""",
    },
    {
        "id": "exit-after-the-first-answer",
        "about": "one right answer, then a clean end",
        "allowed": "runtime_error",
        "checks": "data, assertions, loops",
        "body": "import os\nif n > 1:\n    os._exit(0)\nreturn [n, n + 1]",
    },
    {
        "id": "exit-in-a-thread",
        "about": "a thread ends the process while the call sleeps",
        "allowed": "runtime_error",
        "body": """
import os, threading, time
threading.Thread(target=os._exit, args=(0,)).start()
time.sleep(20)
""",
    },
    {
        "id": "exit-when-its-error-is-printed",
        "about": "an exception whose text leaves",
        "allowed": "runtime_error",
        "program": """
import os
class Bye(Exception):
    def __str__(self):
        os._exit(0)
    __repr__ = __str__
def f(n):
    raise Bye
""",
    },
    {
        "id": "exit-in-the-hook-for-errors",
        "about": "sys.excepthook leaves with 0",
        "allowed": "runtime_error",
        "program": """
import os, sys
sys.excepthook = lambda *a: os._exit(0)
raise ValueError
""",
    },
    {
        "id": "exit-when-output-is-flushed",
        "about": "a stdout whose flush leaves",
        "allowed": "runtime_error",
        "program": """
import os, sys
class Out:
    def write(self, text): return len(text)
    def flush(self): os._exit(0)
sys.stdout = Out()
def f(n): return None
""",
    },
    {
        "id": "dies-by-a-bad-pointer",
        "about": "SIGSEGV on purpose",
        "allowed": "runtime_error",
        "body": "import ctypes\nctypes.string_at(0)",
    },
    {
        "id": "dies-by-abort",
        "about": "SIGABRT on purpose, no core file",
        "allowed": "runtime_error",
        "body": "import os\nos.abort()",
    },
    {
        "id": "dies-by-bus-error",
        "about": "SIGBUS: reads a mapping whose file has shrunk",
        "allowed": "runtime_error",
        "body": """
import mmap
file = open("short", "wb+")
file.write(bytes(8192))
file.flush()
window = mmap.mmap(file.fileno(), 8192)
file.truncate(0)
return window[5000]
""",
    },
    {
        "id": "dies-by-its-alarm",
        "checks": "data, assertions",
        "about": "SIGALRM, which kills it where it is not the first process of a namespace",
        "allowed": "runtime_error wall_time",
        "limits": "short wall",
        "body": "import signal, time\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\ntime.sleep(9)",
    },
    {
        "id": "becomes-another-program",
        "about": "exec of something that returns 0",
        "allowed": "runtime_error",
        "body": "import os\nos.execv('/bin/true', ['true'])",
    },
    {
        "id": "parent-leaves-child-stays",
        "checks": "data, assertions, exit code",
        "about": "forks, the parent exits with 0, the child goes on to answer",
        "allowed": "runtime_error",
        "program": "import os\nif os.fork():\n    os._exit(0)\ndef f(n): return [n, n + 1]\n",
    },
    {
        "id": "parent-leaves-in-the-call",
        "checks": "data, assertions, exit code",
        "about": "the child of the call gives the answer, the parent is gone",
        "allowed": "runtime_error",
        "body": "import os\nif os.fork():\n    os._exit(0)\nreturn [n, n + 1]",
    },
    {
        "id": "main-thread-leaves-a-thread-answers",
        "checks": "data, assertions",
        "about": "the main thread ends itself; another one speaks on the channel",
        "allowed": "runtime_error wall_time wrong_answer",
        "limits": "short wall",
        "program": """{SEND}
import ctypes, threading
def answer():
    while True:
        os.read(3, 4096)
        send(b'{"id":1,"v":[1,1]}')
def f(n):
    threading.Thread(target=answer, daemon=True).start()
    ctypes.CDLL(None).syscall(60, 0)
""",
    },
]
