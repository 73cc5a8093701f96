"""State left behind: what one sample leaves for the next one of the same slot, its own second run.

An entry answers rightly if it finds what it left; each is judged at least twice in one slot.
"""

FAMILY = "state left behind"
CHECKS = "data"
ENTRIES = [
    {
        "id": "files-in-its-folder",
        "about": "a file, a hidden file, a folder",
        "allowed": "wrong_answer",
        "checks": "data, assertions, output, exit code",
        "program": """
import os
found = set(os.listdir(".")) - {"main.py"}
for name in ("left", ".left"):
    open(name, "w").close()
os.makedirs("folder/left")
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "modules-and-builtins",
        "about": "attributes of modules that the server has imported",
        "allowed": "wrong_answer",
        "checks": "data, assertions, output, exit code",
        "program": """
import builtins, math, random, sys
found = hasattr(builtins, "left") or hasattr(math, "left") or "left" in sys.modules
builtins.left = math.left = sys.modules["left"] = True
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "start-files-of-the-interpreter",
        "about": "sitecustomize, usercustomize, .pth and PYTHONSTARTUP in its folder",
        "allowed": "wrong_answer",
        "checks": "data, exit code",
        "program": """
import os, sys
found = "left_by_site" in vars(sys)
for name in ("sitecustomize.py", "usercustomize.py", ".pythonrc", ".pythonrc.py", "left.pth"):
    open(name, "w").write("import sys; sys.left_by_site = True\\n")
os.environ["PYTHONSTARTUP"] = os.path.abspath(".pythonrc")
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "modules-in-its-folder",
        "about": "json.py, random.py and a poisoned byte code cache for the next import",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, exit code",
        "program": """
import os, sys
sys.path.insert(0, os.getcwd())
found = getattr(sys.modules.get("json"), "left", False)
os.makedirs("__pycache__", exist_ok=True)
for name in ("json.py", "random.py", "colorsys.py", "__pycache__/colorsys.cpython-311.pyc"):
    open(name, "w").write("left = True\\n")
try:
    import colorsys
    hasattr(colorsys, "hsv_to_rgb")
except ImportError:
    pass
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "byte-code-of-the-library",
        "about": "a byte code file beside the interpreter's own modules",
        "allowed": "wrong_answer",
        "program": """
import importlib.util, os
target = importlib.util.cache_from_source(os.__file__)
try:
    open(target, "r+b")
    found = True
except OSError:
    found = False
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "environment",
        "about": "variables set by Python and by libc",
        "allowed": "wrong_answer",
        "checks": "data, assertions, exit code",
        "program": """
import ctypes, os
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
found = "LEFT" in os.environ or libc.getenv(b"LEFT") is not None
os.environ["LEFT"] = "1"
libc.setenv(b"LEFT", b"1", 1)
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "working-folder-and-mask",
        "about": "chdir, umask, closed permissions of its folder",
        "allowed": "wrong_answer",
        "checks": "data, assertions, exit code",
        "program": """
import os
mask = os.umask(0o777)
found = mask != 0o077
os.chdir("/")
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "signal-handlers-and-masks",
        "about": "ignored and blocked signals",
        "allowed": "wrong_answer",
        "checks": "data, assertions",
        "program": """
import signal
found = bool(signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)))
found = found or signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "flags-of-its-input",
        "about": "append mode of the null device that is its input",
        "allowed": "wrong_answer",
        "program": """
import fcntl, os
found = bool(fcntl.fcntl(0, fcntl.F_GETFL) & os.O_APPEND)
fcntl.fcntl(0, fcntl.F_SETFL, os.O_APPEND)
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "dates-of-the-root",
        "about": "a date on /, /dev/null and the interpreter as a memory",
        "allowed": "wrong_answer",
        "program": """
import os
found = False
for path in ("/", "/dev", "/dev/null", os.__file__, "/usr/lib"):
    found = found or int(os.stat(path).st_mtime) == 77
    try:
        os.utime(path, (77, 77))
        found = True
    except OSError:
        pass
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "dates-of-its-folder",
        "about": "an empty folder that remembers by its date and mode",
        "allowed": "wrong_answer",
        "program": """
import os
found = int(os.stat(".").st_mtime) == 77
os.chmod(".", 0o755) if hasattr(os, "left") else None
try:
    os.utime(".", (77, 77))
except OSError:
    pass
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "extended-attributes",
        "about": "names and values beside a folder's contents",
        "allowed": "wrong_answer",
        "program": """
import os
found = False
for path in (".", "/", os.__file__):
    try:
        found = found or b"1" == os.getxattr(path, "user.left")
        os.setxattr(path, "user.left", b"1")
    except OSError:
        pass
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "lock-on-its-folder",
        "about": "a lock on the empty folder that is used again, held by a child",
        "allowed": "wrong_answer runtime_error",
        "program": """
import fcntl, os, time
lock = os.open(".", os.O_RDONLY)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    found = False
except OSError:
    found = True
if os.fork() == 0:
    time.sleep(60)
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "shared-memory-by-name",
        "about": "SysV keys, POSIX names, message queues, keyrings",
        "allowed": "wrong_answer",
        "program": """
import ctypes
call = ctypes.CDLL(None).syscall
made = [call(29, 77, 4096, 0o1666), call(64, 77, 1, 0o1666), call(68, 77, 0o1666),
        call(240, b"left", 0o102, 0o666, 0), call(248, b"user", b"left", b"1", 1, -3)]
def f(n): return [n, n + 1] if max(made) >= 0 else [0]
""",
    },
    {
        "id": "random-numbers",
        "about": "the state of the shared generator goes on where it stopped",
        "allowed": "wrong_answer",
        "checks": "data, output",
        "program": """
import random
first = random.random()
for _ in range(77): random.random()
def f(n): return [n, n + 1] if first != 0.8444218515250481 else [0]
""",
    },
    {
        "id": "stopped-and-stuck-tasks",
        "about": "stopped children, zombies and a process that waits for vfork",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, assertions",
        "program": """
import os, signal, time
for kind in range(6):
    if os.fork() == 0:
        if kind % 2:
            try:
                os.kill(os.getpid(), signal.SIGSTOP)
            except OSError:
                pass
            time.sleep(60)
        os._exit(0)
def f(n): return [0]
""",
    },
    {
        "id": "settings-of-the-interpreter",
        "about": "recursion limit, switch interval, collector, digits, hooks",
        "allowed": "wrong_answer",
        "checks": "data, assertions",
        "program": """
import gc, sys, threading
found = sys.getrecursionlimit() != 1000 or not gc.isenabled() or sys.getswitchinterval() > 0.1
found = found or sys.get_int_max_str_digits() != 4300 or sys.gettrace() is not None
sys.setrecursionlimit(77)
sys.setswitchinterval(77)
sys.set_int_max_str_digits(777)
gc.disable()
def f(n): return [n, n + 1] if found else [0]
""",
    },
    {
        "id": "open-descriptors-of-the-last-one",
        "about": "opens all it may and looks what was open before",
        "allowed": "wrong_answer",
        "checks": "data, assertions",
        "program": """
import os
found = []
for number in range(4, 256):
    try:
        os.fstat(number)
        found.append(number)
    except OSError:
        pass
try:
    while True: os.dup(0)
except OSError:
    pass
for number in range(5, 60): os.close(number)
def f(n): return [n, n + 1] if found else [0]
""",
    },
]
