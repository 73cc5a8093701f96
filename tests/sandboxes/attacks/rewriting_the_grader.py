"""Rewriting the grader: changes what judges the program, where the two share an interpreter.

Here they never do, except where a whole program is judged by exit code together with its tests.
"""

FAMILY = "rewriting the grader"
CHECKS = "data, assertions, objects, exit code, suite"
ENTRIES = [
    {
        "id": "patches-the-builtins-of-comparing",
        "about": "all, any, len, sorted, isinstance and abs say what pleases",
        "allowed": "wrong_answer runtime_error memory",
        "program": """
import builtins
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
builtins.len = builtins.abs = lambda x: 0
builtins.sorted = lambda *a, **k: []
def f(n): return [n, n]
""",
    },
    {
        "id": "patches-type-and-json",
        "about": "the codec's own tools inside the cell",
        "allowed": "wrong_answer runtime_error",
        "program": """
import builtins, json
builtins.type = lambda x: int
json.dumps = lambda *a, **k: "{}"
def f(n): return n
""",
    },
    {
        "id": "patches-the-codec",
        "about": "replaces encode, send_frame and answer_call where they are used",
        "allowed": "wrong_answer runtime_error",
        "program": """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith("sdb_sandboxes"):
        module.encode = module.encode_or_name = lambda *a: [1, 2]
        module.is_equal = module.is_right = module.read_outcome = lambda *a: True
def f(n): return None
""",
    },
    {
        "id": "patches-what-is-read",
        "about": "os.read and struct.unpack, so that questions look answered",
        "allowed": "wrong_answer runtime_error wall_time",
        "limits": "short wall",
        "checks": "data, assertions",
        "program": """
import os, struct
frame = b'{"id":1,"ping":"0","nonce":"0"}'
os.read = lambda fd, size: struct.pack("<I", len(frame)) if size == 4 else frame[:size]
def f(n): return None
""",
    },
    {
        "id": "patches-unittest",
        "about": "assertions of TestCase that never fail, suites without tests",
        "allowed": "wrong_answer",
        "limits": "patient",
        "program": """
import unittest
for name in dir(unittest.TestCase):
    if name.startswith(("assert", "fail")):
        setattr(unittest.TestCase, name, lambda *a, **k: None)
unittest.TestLoader.loadTestsFromModule = lambda *a, **k: unittest.TestSuite()
unittest.TestResult.wasSuccessful = lambda self: True
def f(n): return None
""",
    },
    {
        "id": "defines-the-harness-names",
        "about": "check, candidate, solve, T and the like as names of its own",
        "allowed": "wrong_answer",
        "program": """
check = candidate = solve = test = main = T = lambda *a, **k: True
METADATA, expected, passed, result, status = {}, [], True, "passed", 0
def f(n): return None
""",
    },
    {
        "id": "replaces-check-in-every-module",
        "about": "puts a check that never fails into every module it finds",
        "allowed": "wrong_answer",
        "program": """
import sys
for module in list(sys.modules.values()):
    try:
        module.check = lambda candidate: None
    except Exception:
        pass
def f(n): return None
""",
    },
    {
        "id": "replaces-its-caller-by-frame",
        "about": "writes into the callers' globals and builtins",
        "allowed": "wrong_answer runtime_error",
        "program": """
import sys
frame = sys._getframe()
while frame:
    frame.f_globals.update(is_passed=True, answer_call=lambda *a: {"id": 1, "v": [1, 2]})
    frame = frame.f_back
def f(n): return None
""",
    },
    {
        "id": "audit-hook",
        "about": "watches everything that happens and leaves at a comparison",
        "allowed": "wrong_answer runtime_error",
        "program": """
import sys
seen = []
def hook(event, arguments):
    seen.append(event)
    if event == "exec" and len(seen) > 1:
        raise SystemExit(0)
sys.addaudithook(hook)
def f(n): return seen[:1]
""",
    },
    {
        "id": "trace-function",
        "about": "changes locals of its callers line by line",
        "allowed": "wrong_answer runtime_error",
        "program": """
import sys
def trace(frame, event, value):
    for name in list(frame.f_locals):
        if name in ("value", "reply", "result"):
            frame.f_locals[name] = [1, 2]
    return trace
sys.settrace(trace)
frame = sys._getframe()
while frame:
    frame.f_trace = trace
    frame = frame.f_back
def f(n): return None
""",
    },
    {
        "id": "profile-function",
        "about": "leaves with 0 when the first assertion is on its way",
        "allowed": "wrong_answer runtime_error",
        "program": """
import os, sys, threading
def profile(frame, event, value):
    if event == "call" and "check" in frame.f_code.co_name:
        os._exit(0)
sys.setprofile(profile)
threading.setprofile(profile)
def f(n): return None
""",
    },
    {
        "id": "import-hook",
        "about": "serves its own test modules to whoever imports",
        "allowed": "wrong_answer",
        "program": """
import sys, types
class Finder:
    def find_spec(self, name, path=None, target=None):
        import importlib.machinery
        return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec): return types.ModuleType(spec.name)
    def exec_module(self, module): module.__dict__.update(run=lambda: True, passed=True)
sys.meta_path.insert(0, Finder())
def f(n): return None
""",
    },
    {
        "id": "import-is-replaced",
        "about": "builtins.__import__ gives liars",
        "allowed": "wrong_answer runtime_error",
        "program": """
import builtins
class Liar:
    def __getattr__(self, name): return lambda *a, **k: True
builtins.__import__ = lambda *a, **k: Liar()
def f(n): return None
""",
    },
    {
        "id": "compile-and-exec-are-replaced",
        "about": "the next source is never run",
        "allowed": "wrong_answer runtime_error",
        "program": """
import builtins
builtins.compile = lambda *a, **k: None
builtins.exec = builtins.eval = lambda *a, **k: None
def f(n): return None
""",
    },
    {
        "id": "assertion-error-is-quiet",
        "about": "AssertionError becomes a class that nobody catches, or everybody",
        "allowed": "wrong_answer runtime_error",
        "program": """
import builtins
class Quiet(BaseException):
    def __new__(cls, *a): raise SystemExit(0)
builtins.AssertionError = builtins.Exception = Quiet
def f(n): return None
""",
    },
    {
        "id": "excepthook-hides-the-failure",
        "about": "an uncaught AssertionError ends with exit code 0",
        "allowed": "wrong_answer",
        "program": """
import os, sys, threading
sys.excepthook = threading.excepthook = lambda *a: os._exit(0)
def f(n): return None
""",
    },
    {
        "id": "exit-hook-hides-the-failure",
        "about": "whatever happened, the process leaves with 0",
        "allowed": "wrong_answer",
        "program": "import atexit, os\natexit.register(os._exit, 0)\ndef f(n): return None\n",
    },
    {
        "id": "flush-hides-the-failure",
        "about": "stdout whose flush leaves with 0, at the very end",
        "allowed": "wrong_answer runtime_error",
        "program": """
import os, sys
class Out:
    closed = False
    def write(self, text): return len(text)
    def flush(self): os._exit(0)
sys.stdout = sys.stderr = Out()
def f(n): return None
""",
    },
    {
        "id": "small-integers-are-rewritten",
        "about": "the cached 1 becomes 2 by a pointer",
        "allowed": "wrong_answer runtime_error cpu_time",
        "program": """
import ctypes
def f(n):
    ctypes.c_long.from_address(id(1) + 24).value = 2
    return [n, n]
""",
    },
    {
        "id": "true-becomes-false",
        "about": "overwrites False with True by a pointer, so that every comparison holds",
        "allowed": "wrong_answer runtime_error cpu_time",
        "program": """
import ctypes
ctypes.memmove(id(False) + 16, id(True) + 16, 12)
def f(n): return None
""",
    },
    {
        "id": "list-equality-by-a-pointer",
        "about": "list's compare slot in the type object becomes one that says yes",
        "allowed": "wrong_answer runtime_error cpu_time",
        "program": """
import ctypes
Compare = ctypes.CFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.py_object, ctypes.c_int)
yes = Compare(lambda a, b, operation: True)
ctypes.c_void_p.from_address(id(list) + 200).value = ctypes.cast(yes, ctypes.c_void_p).value
def f(n): return [0]
""",
    },
    {
        "id": "code-of-its-caller-by-a-pointer",
        "about": "swaps the byte code of functions that the collector knows",
        "allowed": "wrong_answer runtime_error",
        "limits": "patient",
        "checks": "data, assertions",
        "program": """
import gc, types
def yes(*a, **k): return True
for item in gc.get_objects():
    if isinstance(item, types.FunctionType) and item.__code__.co_name in ("is_right", "check"):
        item.__code__ = yes.__code__
def f(n): return None
""",
    },
    {
        "id": "clock-is-patched",
        "about": "time that stands still does not stop the limits",
        "allowed": "cpu_time",
        "limits": "little time",
        "checks": "data",
        "program": """
import time
time.time = time.monotonic = time.perf_counter = time.process_time = lambda: 0.0
def f(n):
    while time.time() < 1: pass
""",
    },
    {
        "id": "recursion-limit-of-three",
        "about": "makes the caller's next step fail",
        "allowed": "wrong_answer runtime_error",
        "program": """
import sys
def f(n):
    try:
        sys.setrecursionlimit(len(__import__("inspect").stack(0)) + 6)
    except RecursionError:
        pass
    return None
""",
    },
    {
        "id": "warnings-become-exits",
        "about": "handlers of warnings and logging that leave",
        "allowed": "wrong_answer runtime_error",
        "program": """
import logging, os, warnings
warnings.showwarning = lambda *a, **k: os._exit(0)
logging.Handler.handle = lambda *a: os._exit(0)
warnings.simplefilter("always")
def f(n):
    warnings.warn("now")
    logging.warning("now")
""",
    },
    {
        "id": "reads-the-tests-beside-it",
        "about": "takes the expected values from its own source file",
        "allowed": "wrong_answer",
        "checks": "exit code",
        "program": """
import ast
def f(n):
    lines = open(__file__).read().split("v0 =")[-1].splitlines()
    return ast.literal_eval(lines[0] if n == 1 else lines[2].split("=", 1)[1])
""",
    },
    {
        "id": "rewrites-the-tests-beside-it",
        "about": "writes a source file without tests and leaves",
        "allowed": "wrong_answer",
        "checks": "exit code",
        "program": "import os\nopen(__file__, 'w').write('')\nos._exit(0)\n",
    },
    {
        "id": "comments-the-tests-out",
        "about": "ends with the beginning of a text that swallows what follows",
        "allowed": "wrong_answer compile_error runtime_error",
        "program": "def f(n): return None\nif 0: '''\\",
    },
    {
        "id": "assertions-are-switched-off",
        "about": "tests below `if False` by the indentation of the last line, and -O",
        "allowed": "wrong_answer compile_error runtime_error",
        "program": "import sys\nsys.flags.optimize\n__debug__ == False\ndef f(n): return None\nif False:",
    },
    {
        "id": "variables-that-compare-equal",
        "about": "a module whose class answers every comparison with yes",
        "allowed": "wrong_answer",
        "checks": "exit code",
        "program": """
import sys, types
class Module(types.ModuleType):
    def __eq__(self, other): return True
sys.modules[__name__].__class__ = Module
def f(n): return sys.modules[__name__]
""",
    },
    {
        "id": "looks-for-a-strange-letter",
        "about": "fails where a test holds the letter that an older control put in",
        "allowed": "wrong_answer",
        "checks": "words by exit code",
        "program": """
import os
def f(n):
    os._exit('"q' in open(__file__).read().split("v0 =")[-1])
""",
    },
]
