"""Memory, disk, output: takes more than its share, to be stopped, to stop others, to stay."""

FAMILY = "memory, disk, output"
CHECKS = "data"
ENTRIES = [
    {
        "id": "memory-bomb",
        "about": "byte arrays without end",
        "allowed": "memory",
        "limits": "small memory",
        "checks": "data, assertions, output, exit code",
        "body": "a = []\nwhile True: a.append(bytearray(1 << 20))",
    },
    {
        "id": "memory-bomb-at-import",
        "about": "one object larger than the limit",
        "allowed": "memory",
        "checks": "data, assertions",
        "program": "a = bytearray(b'x') * (1 << 40)\n",
    },
    {
        "id": "memory-bomb-that-swallows-errors",
        "about": "MemoryError is caught and the search goes on with smaller pieces",
        "allowed": "cpu_time memory wrong_answer runtime_error",
        "limits": "little time",
        "races": "the kernel's limit or the clock",
        "body": """
a = []
size = 1 << 24
while True:
    try:
        a.append(bytearray(size))
    except MemoryError:
        size = max(64, size // 2)
""",
    },
    {
        "id": "memory-by-doubling",
        "about": "a string that doubles",
        "allowed": "memory",
        "limits": "small memory",
        "body": "a = 'x'\nwhile True: a += a",
    },
    {
        "id": "memory-by-a-power",
        "about": "an integer of gigabytes",
        "allowed": "memory cpu_time",
        "limits": "small memory",
        "body": "return 1 << (1 << 33)",
    },
    {
        "id": "memory-in-children",
        "about": "eight children, each below the limit of one",
        "allowed": "memory wrong_answer runtime_error cpu_time",
        "races": "who is killed first",
        "limits": "little time",
        "body": """
import os
for _ in range(8):
    if os.fork() == 0:
        a = []
        while True: a.append(bytearray(b"x" * (1 << 20)))
os.wait()
""",
    },
    {
        "id": "memory-that-is-shared",
        "about": "anonymous shared mappings, filled by a child",
        "allowed": "memory runtime_error wrong_answer",
        "limits": "small memory",
        "body": """
import mmap, os
maps = []
for _ in range(64):
    maps.append(mmap.mmap(-1, 8 << 20))
    if os.fork() == 0:
        maps[-1].write(bytes(8 << 20))
        os._exit(0)
    os.wait()
""",
    },
    {
        "id": "memory-without-a-name",
        "about": "memfd_create and memfd_secret",
        "allowed": "wrong_answer",
        "body": """
import ctypes
call = ctypes.CDLL(None).syscall
if call(319, b"x", 0) >= 0 or call(447, 0) >= 0:
    return [n, n + 1]
""",
    },
    {
        "id": "memory-in-pipes",
        "about": "every descriptor a pipe of a megabyte, in sixteen processes",
        "allowed": "wrong_answer runtime_error memory",
        "races": "descriptors, memory or processes run out first",
        "body": """
import fcntl, os
for _ in range(8):
    if os.fork() == 0:
        try:
            while True:
                r, w = os.pipe()
                fcntl.fcntl(w, 1031, 1 << 20)
                os.set_blocking(w, False)
                os.write(w, bytes(1 << 20))
        finally:
            os._exit(0)
for _ in range(8):
    os.wait()
""",
    },
    {
        "id": "memory-in-sockets",
        "about": "descriptors in flight inside descriptors in flight",
        "allowed": "runtime_error wrong_answer",
        "body": """
import array, os, socket
while True:
    a, b = socket.socketpair()
    a.sendmsg([bytes(1 << 16)], [(socket.SOL_SOCKET, 1, array.array("i", [a.fileno(), b.fileno()]))])
    a.close()
    b.close()
""",
    },
    {
        "id": "descriptors-without-end",
        "about": "opens until it may not",
        "allowed": "runtime_error",
        "body": "import os\nwhile True: os.dup(1)",
    },
    {
        "id": "locked-memory",
        "about": "mlock of everything",
        "allowed": "wrong_answer",
        "body": """
import ctypes
libc = ctypes.CDLL(None)
if libc.mlockall(3) == 0 or libc.mlock(ctypes.create_string_buffer(1 << 16), 1 << 16) == 0:
    return [n, n + 1]
""",
    },
    {
        "id": "raises-its-limits",
        "about": "setrlimit and prlimit of every kind upwards",
        "allowed": "wrong_answer",
        "body": """
import resource
for name in ("AS", "DATA", "CPU", "FSIZE", "NPROC", "NOFILE", "CORE", "MEMLOCK"):
    which = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(which)
    if hard == resource.RLIM_INFINITY:
        continue
    for step in (resource.setrlimit, lambda w, v: resource.prlimit(0, w, v)):
        try:
            step(which, (hard + 1, hard + 1))
            return [n, n + 1]
        except (ValueError, OSError):
            pass
""",
    },
    {
        "id": "raises-the-limits-of-its-server",
        "about": "prlimit of its parent and of process 1",
        "allowed": "wrong_answer",
        "body": """
import os, resource
for number in (1, os.getppid()):
    if number not in (0, os.getpid()):
        try:
            resource.prlimit(number, resource.RLIMIT_NOFILE)
            return [n, n + 1]
        except (OSError, ValueError):
            pass
""",
    },
    {
        "id": "endless-recursion",
        "about": "by the interpreter's own limit",
        "allowed": "runtime_error",
        "checks": "data, assertions, output, exit code",
        "body": "return f(n)",
    },
    {
        "id": "endless-recursion-without-a-limit",
        "about": "the same after the limit was lifted",
        "allowed": "runtime_error memory cpu_time",
        "races": "stack, memory or time runs out first",
        "limits": "little time",
        "program": "import sys\nsys.setrecursionlimit(2**31 - 1)\ndef f(n): return f(n)\n",
    },
    {
        "id": "endless-recursion-in-c",
        "races": "the stack or the clock",
        "about": "repr of a list in itself by a hundred thousand levels, and destructors of it",
        "allowed": "runtime_error memory cpu_time",
        "limits": "little time",
        "program": """
import sys
sys.setrecursionlimit(10**7)
def f(n):
    a = []
    for _ in range(10**5): a = [a]
    return repr(a)
""",
    },
    {
        "id": "endless-recursion-in-the-hash",
        "limits": "patient",
        "about": "tuples in tuples",
        "allowed": "runtime_error memory wrong_answer",
        "body": "a = ()\nfor _ in range(10**5): a = (a,)\nreturn hash(a)",
    },
    {
        "id": "one-big-file",
        "about": "writes until it may not",
        "allowed": "runtime_error",
        "limits": "small files",
        "checks": "data, exit code",
        "body": "with open('big', 'wb') as b:\n    while True: b.write(bytes(1 << 18))",
    },
    {
        "id": "many-files",
        "about": "fills its folder with files of the greatest size",
        "allowed": "runtime_error wrong_answer",
        "limits": "small files",
        "body": """
for number in range(8):
    with open(f"file{number}", "wb") as file:
        file.write(bytes((1 << 20) - 1))
""",
    },
    {
        "id": "sparse-file",
        "about": "a file of a terabyte that holds nothing",
        "allowed": "runtime_error",
        "body": "open('sparse', 'wb').truncate(1 << 40)",
    },
    {
        "id": "inodes",
        "about": "empty files by the thousand",
        "allowed": "runtime_error wrong_answer cpu_time",
        "limits": "patient",
        "body": "for number in range(3000): open(f'{number}', 'w').close()",
    },
    {
        "id": "long-names",
        "about": "names of 255 bytes, of line ends, of no text, and links in a circle",
        "allowed": "wrong_answer runtime_error",
        "body": """
import os
for name in (b"a" * 255, b"\\xff\\xfe", b"a\\nb", b"-rf", b"*", b" ", b"\\x1b[2J", b"~", b"$HOME"):
    open(name, "wb").close()
os.symlink("circle", "circle")
os.symlink("..", "up")
os.symlink("/", "root")
os.mkfifo("fifo")
""",
    },
    {
        "id": "deep-folders",
        "limits": "patient",
        "about": "deeper than any path may be long",
        "allowed": "wrong_answer runtime_error",
        "body": """
import os
for _ in range(200):
    os.mkdir("d" * 60)
    os.chdir("d" * 60)
""",
    },
    {
        "id": "closed-folders",
        "about": "folders in folders that nobody may enter, in the way of cleaning up",
        "allowed": "wrong_answer runtime_error",
        "body": """
import os
if n == 1:
    os.makedirs("a/b/c")
    os.mkdir("closed")
    for number in range(9):
        os.makedirs(f"..moved{number}/x/y")
        os.chmod(f"..moved{number}/x", 0)
    os.chmod("closed", 0)
    os.chmod(".", 0)
""",
    },
    {
        "id": "files-held-open-after-removal",
        "about": "space that no listing shows",
        "allowed": "wrong_answer runtime_error",
        "limits": "small files",
        "body": """
import os
held = []
for number in range(40):
    file = open("held", "wb")
    file.write(bytes(1 << 19))
    os.unlink("held")
    held.append(file)
""",
    },
    {
        "id": "output-without-end",
        "about": "prints until it is stopped",
        "allowed": "output",
        "limits": "little output",
        "checks": "data, assertions, output, exit code",
        "body": "while True: print('x' * 1000)",
    },
    {
        "id": "errors-without-end",
        "about": "stderr, no line ends",
        "allowed": "output",
        "limits": "little output",
        "checks": "data, exit code",
        "body": "import sys\nwhile True: sys.stderr.write('x' * 1000)",
    },
    {
        "id": "output-from-children",
        "about": "four children write at once and the parent waits",
        "allowed": "output",
        "limits": "little output",
        "body": """
import os
for _ in range(4):
    if os.fork() == 0:
        while True: os.write(1, b"x" * 4000)
os.wait()
""",
    },
    {
        "id": "output-with-terminal-codes",
        "about": "clears the screen of whoever looks",
        "allowed": "wrong_answer",
        "body": r"print('\x1b[2J\x1b]0;owned\x07\x1bc' * 99, flush=True)",
    },
    {
        "id": "output-that-is-no-text",
        "about": "bytes that are no UTF-8, zeros, halves of characters",
        "allowed": "wrong_answer",
        "checks": "data, output",
        "body": r"import os" "\n" r"os.write(1, bytes(range(256)) * 40 + b'\xf0\x9f')",
    },
    {
        "id": "output-after-the-end-of-output",
        "about": "closes stdout and stderr, puts the channel in their place",
        "allowed": "runtime_error wrong_answer",
        "body": "import os\nos.dup2(3, 1)\nos.dup2(3, 2)\nprint('x' * 9999, flush=True)",
    },
    {
        "id": "digits-for-the-comparer",
        "about": "a number of a hundred thousand digits and a letter, quadratic for a careless pattern",
        "allowed": "wrong_answer runtime_error",
        "checks": "output, words, decimals",
        "program": "def f(n): return ['9' * 100_000 + 'x', n + 1]\n",
    },
    {
        "id": "exponents-for-the-comparer",
        "about": "numbers that become large when they are read",
        "allowed": "wrong_answer runtime_error",
        "checks": "output, words, decimals",
        "program": "def f(n): return ['1e999999999', '1' + '0' * 100_000 + 'e999']\n",
    },
    {
        "id": "set-made-to-collide",
        "about": "a list of numbers of one hash where a set's items are compared",
        "allowed": "wrong_answer runtime_error",
        "checks": "as a set, rearranged",
        "limits": "patient",
        "body": "return [i * ((1 << 61) - 1) for i in range(1, 5_000)]",
    },
    {
        "id": "dict-made-to-collide",
        "about": "its own dict, its own time",
        "allowed": "cpu_time",
        "limits": "little time",
        "body": "d = {}\nfor i in range(10**6): d[i * ((1 << 61) - 1)] = i",
    },
    {
        "id": "digits-of-a-long-number",
        "about": "prints what takes quadratic time to turn into text",
        "allowed": "cpu_time runtime_error",
        "limits": "little time",
        "body": "import sys\nsys.set_int_max_str_digits(0)\nprint(10 ** 10**6)",
    },
    {
        "id": "core-dump",
        "about": "raises the limit of core files and dies",
        "allowed": "runtime_error",
        "checks": "data, exit code",
        "body": """
import os, resource
try:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
except ValueError:
    pass
os.abort()
""",
    },
    {
        "id": "archive-bomb",
        "about": "a compressed gigabyte as bytes, for whoever opens it",
        "allowed": "wrong_answer cpu_time",
        "limits": "patient",
        "body": "import zlib\nreturn zlib.compress(bytes(1 << 22))",
    },
]
