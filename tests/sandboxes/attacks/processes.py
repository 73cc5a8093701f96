"""Processes, signals, time: outliving the verdict, killing whoever judges, hiding time."""

FAMILY = "processes, signals, time"
CHECKS = "data"
ENTRIES = [
    {
        "id": "kills-its-parent",
        "about": "SIGTERM and SIGKILL to whoever started it",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, assertions, output, exit code",
        "body": """
import os
for number in (15, 9):
    try:
        os.kill(os.getppid(), number)
    except OSError:
        pass
""",
    },
    {
        "id": "kills-everything",
        "about": "SIGKILL to all that it may signal",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, assertions, output, exit code",
        "body": "import os\ntry: os.kill(-1, 9)\nexcept OSError: pass",
    },
    {
        "id": "kills-its-group-and-session",
        "about": "killpg of its own group and of group 1",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, assertions",
        "body": """
import os
for group in (1, 0, os.getpgid(0)):
    try:
        os.killpg(group, 9)
    except OSError:
        pass
""",
    },
    {
        "id": "stops-everything",
        "about": "SIGSTOP to all that it may signal, one by one",
        "allowed": "wrong_answer runtime_error wall_time",
        "limits": "short wall",
        "body": """
import os, signal
for number in [*range(1, 400), os.getppid()]:
    if number != os.getpid():
        try:
            os.kill(number, signal.SIGSTOP)
        except OSError:
            pass
""",
    },
    {
        "id": "signals-through-a-descriptors-owner",
        "about": "F_SETOWN and F_SETSIG let the kernel send what kill may not",
        "allowed": "runtime_error",
        "body": """
import fcntl, os
r, w = os.pipe()
fcntl.fcntl(r, 10, 9)
fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid() or 1)
return [n, n + 1]
""",
    },
    {
        "id": "asks-for-a-signal-at-its-parents-death",
        "about": "switches off that it dies with its server",
        "allowed": "wrong_answer",
        "body": """
import ctypes
libc = ctypes.CDLL(None)
if libc.prctl(1, 0, 0, 0, 0) == 0 or libc.prctl(36, 1, 0, 0, 0) == 0:
    return [n, n + 1]
""",
    },
    {
        "id": "daemon",
        "about": "double fork and a session of its own, sleeps for ever",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, assertions, exit code",
        "body": """
import os, time
if os.fork() == 0:
    try:
        os.setsid()
    except OSError:
        pass
    if os.fork() == 0:
        while True:
            time.sleep(1)
    os._exit(0)
""",
    },
    {
        "id": "daemon-that-holds-the-output",
        "about": "a child keeps stdout and the channel open after the end",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, assertions, output",
        "body": "import os, time\nif os.fork() == 0:\n    time.sleep(60)\nos._exit(0)",
    },
    {
        "id": "daemon-under-a-name-that-is-no-text",
        "about": "a process name with a byte that is no UTF-8 and a bracket",
        "allowed": "wrong_answer runtime_error",
        "program": """
import ctypes, os, time
ctypes.CDLL(None).prctl(15, b") R \\xff", 0, 0, 0)
def f(n):
    if os.fork() == 0:
        time.sleep(60)
""",
    },
    {
        "id": "runs-from-process-to-process",
        "about": "each child forks the next one and ends",
        "allowed": "wrong_answer runtime_error cpu_time processes",
        "races": "who is looked at first",
        "body": "import os\nif os.fork() == 0:\n    while True:\n        if os.fork(): os._exit(0)",
    },
    {
        "id": "child-of-the-server",
        "about": "clone with CLONE_PARENT makes a sibling",
        "allowed": "wrong_answer",
        "body": """
import ctypes, time
made = ctypes.CDLL(None).syscall(56, 0x8011, 0, 0, 0, 0)
if made == 0:
    time.sleep(60)
return [n, n + 1] if made > 0 else None
""",
    },
    {
        "id": "child-without-a-signal-at-its-end",
        "about": "clone with exit signal 0, whom an ordinary wait does not see",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, assertions",
        "body": """
import ctypes, os, time
if ctypes.CDLL(None).syscall(56, 0, 0, 0, 0, 0) == 0:
    time.sleep(60)
    os._exit(0)
""",
    },
    {
        "id": "child-that-kills-its-parent-by-its-end",
        "about": "clone with SIGKILL as exit signal",
        "allowed": "wrong_answer runtime_error",
        "body": """
import ctypes, os, time
if ctypes.CDLL(None).syscall(56, 9, 0, 0, 0, 0) == 0:
    os._exit(0)
time.sleep(0.05)
""",
    },
    {
        "id": "children-that-nobody-waits-for",
        "about": "ignoring SIGCHLD would hide the CPU time of children",
        "allowed": "runtime_error",
        "body": "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nreturn [n, n + 1]",
    },
    {
        "id": "fork-bomb",
        "about": "forks without end",
        "allowed": "processes runtime_error cpu_time wrong_answer",
        "races": "which limit is met first",
        "limits": "little time",
        "body": "import os\nwhile True: os.fork()",
    },
    {
        "id": "fork-bomb-that-swallows-errors",
        "about": "forks without end and never mind refusals",
        "allowed": "cpu_time processes runtime_error",
        "races": "which limit is met first",
        "limits": "little time",
        "body": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    },
    {
        "id": "vfork-bomb",
        "about": "clone with shared memory, which makes no copies",
        "allowed": "runtime_error wrong_answer cpu_time processes memory",
        "races": "processes that share one stack do what they like",
        "limits": "little time",
        "body": "import ctypes\ncall = ctypes.CDLL(None).syscall\nwhile True: call(56, 0x111, 0, 0, 0, 0)",
    },
    {
        "id": "thread-bomb",
        "about": "threads that sleep, without end",
        "allowed": "processes runtime_error memory",
        "races": "threads meet the limit of tasks or of addresses",
        "body": """
import threading, time
while True:
    threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
""",
    },
    {
        "id": "thread-that-never-ends",
        "about": "a thread that the end of the main one would wait for",
        "allowed": "wrong_answer",
        "body": "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,)).start()",
    },
    {
        "id": "stops-itself",
        "about": "SIGSTOP to its own process",
        "allowed": "wall_time wrong_answer",
        "limits": "short wall",
        "body": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    },
    {
        "id": "stops-its-thread",
        "about": "SIGSTOP from a child, and SIGTSTP by tgkill",
        "allowed": "wall_time wrong_answer",
        "limits": "short wall",
        "body": """
import ctypes, os
if os.fork() == 0:
    ctypes.CDLL(None).syscall(234, os.getppid(), os.getppid(), 19)
    os._exit(0)
os.wait()
ctypes.CDLL(None).syscall(234, os.getpid(), os.getpid(), 20)
""",
    },
    {
        "id": "sleeps-for-ever",
        "about": "no CPU time at all",
        "allowed": "wall_time",
        "limits": "short wall",
        "checks": "data, assertions, output, exit code",
        "body": "import time\ntime.sleep(1e9)",
    },
    {
        "id": "sleeps-in-the-kernel",
        "about": "waits for a lock that it holds itself, with every signal blocked",
        "allowed": "wall_time",
        "limits": "short wall",
        "body": """
import signal, threading
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
lock = threading.Lock()
lock.acquire()
lock.acquire()
""",
    },
    {
        "id": "loops-for-ever",
        "about": "in the call",
        "allowed": "cpu_time",
        "limits": "little time",
        "checks": "data, assertions, exit code",
        "body": "while True: pass",
    },
    {
        "id": "loops-at-import",
        "about": "before the first question",
        "allowed": "cpu_time",
        "limits": "little time",
        "checks": "data, assertions",
        "program": "while True: pass",
    },
    {
        "id": "loops-in-c",
        "about": "one C call that never looks at signals",
        "allowed": "cpu_time",
        "limits": "little time",
        "body": "import itertools\nreturn sum(itertools.repeat(1))",
    },
    {
        "id": "loops-in-a-regular-expression",
        "about": "catastrophic backtracking",
        "allowed": "cpu_time",
        "limits": "little time",
        "body": "import re\nreturn re.match(r'(a+)+$', 'a' * 60 + 'b')",
    },
    {
        "id": "loops-while-it-is-compiled",
        "about": "constants that only the compiler computes",
        "allowed": "cpu_time memory runtime_error wrong_answer compile_error",
        "limits": "little time",
        "program": "x = "
        + "((((2 ** 7) ** 7) ** 7) ** 7)"
        + "{LONG: + 7 ** 64 ** 1*3000}\ndef f(n): pass\n",
    },
    {
        "id": "ignores-every-signal",
        "about": "handlers for all that can be handled, exceptions swallowed",
        "allowed": "cpu_time",
        "limits": "little time",
        "checks": "data, exit code",
        "body": """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    try:
        while True: pass
    except BaseException: pass
""",
    },
    {
        "id": "handles-the-warning-of-the-cpu-limit",
        "about": "SIGXCPU and SIGALRM handlers that go on",
        "allowed": "cpu_time",
        "limits": "little time",
        "body": """
import resource, signal
signal.signal(signal.SIGXCPU, lambda *a: None)
try:
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return [n, n + 1]
except ValueError:
    pass
while True: pass
""",
    },
    {
        "id": "burns-in-children",
        "about": "many children, each below the limit",
        "allowed": "cpu_time",
        "limits": "little time",
        "checks": "data, assertions",
        "body": "import os\nfor _ in range(3): os.fork()\nwhile True: pass",
    },
    {
        "id": "burns-in-threads-while-it-sleeps",
        "about": "the main thread waits, others use C code that lets go of the lock",
        "allowed": "cpu_time",
        "limits": "little time",
        "body": """
import hashlib, threading, time
def burn():
    while True: hashlib.sha256(bytes(1 << 22)).digest()
for _ in range(3):
    threading.Thread(target=burn, daemon=True).start()
time.sleep(20)
return [n, n + 1]
""",
    },
    {
        "id": "burns-in-an-orphan-and-answers-rightly",
        "about": "a grandchild burns while the main process sleeps and then answers",
        "allowed": "cpu_time",
        "limits": "little time",
        "body": """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        while True: pass
    os._exit(0)
os.wait()
time.sleep(20)
return [n, n + 1]
""",
    },
    {
        "id": "busy-under-a-name-that-is-no-text",
        "about": "a child whose name breaks readers of /proc",
        "allowed": "cpu_time",
        "limits": "little time",
        "body": """
import ctypes, os, time
if os.fork() == 0:
    ctypes.CDLL(None).prctl(15, b"\\xff) R 1 1", 0, 0, 0)
    while True: pass
time.sleep(20)
return [n, n + 1]
""",
    },
    {
        "id": "raises-its-priority",
        "about": "nice, real-time classes and idle classes",
        "allowed": "wrong_answer",
        "body": """
import os
for step in (lambda: os.nice(-5), lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
             lambda: os.setpriority(os.PRIO_PROCESS, 0, 19), lambda: os.sched_setaffinity(0, {0})):
    try:
        step()
        return [n, n + 1]
    except OSError:
        pass
""",
    },
    {
        "id": "timers-by-the-thousand",
        "about": "POSIX timers that fire all the time, in the kernel's time and not in its own",
        "allowed": "wrong_answer runtime_error cpu_time",
        "body": """
import ctypes, signal
libc = ctypes.CDLL(None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
event = (ctypes.c_int * 16)(0, 0, signal.SIGUSR1, 0)
made = 0
for _ in range(3000):
    timer = ctypes.c_int()
    made += libc.syscall(222, 1, event, ctypes.byref(timer)) == 0
return [n, n + 1] if made > 1000 else None
""",
    },
    {
        "id": "waits-for-other-peoples-children",
        "about": "waitid and pidfds of processes that are not its own",
        "allowed": "wrong_answer",
        "body": """
import ctypes, os
for number in (1, os.getppid()):
    if number not in (0, os.getpid()):
        if ctypes.CDLL(None).syscall(434, number, 0) >= 0:
            return [n, n + 1]
try:
    os.waitpid(-1, 0)
    return [n, n + 1]
except ChildProcessError:
    pass
""",
    },
    {
        "id": "debugger-of-itself",
        "about": "ptrace of its parent by a child, and PTRACE_TRACEME",
        "allowed": "wrong_answer",
        "body": """
import ctypes
call = ctypes.CDLL(None).syscall
if call(101, 0, 0, 0, 0) == 0 or call(101, 16, 1, 0, 0) == 0:
    return [n, n + 1]
""",
    },
]
