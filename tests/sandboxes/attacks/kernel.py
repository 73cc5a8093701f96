"""Kernel, network, privileges: what a program may not reach, whatever system call it tries.

An entry answers rightly if the kernel let it; None or an error means that it was refused.
"""

FAMILY = "kernel, network, privileges"
CHECKS = "data"
ENTRIES = [
    {
        "id": "connects-out",
        "about": "TCP to the machine itself and to an address outside",
        "allowed": "runtime_error",
        "checks": "data, exit code",
        "body": """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), 1)
finally:
    socket.create_connection(("127.0.0.1", 80), 1)
""",
    },
    {
        "id": "listens",
        "about": "a server of its own on every address",
        "allowed": "runtime_error",
        "body": "import socket\nsocket.create_server(('', 0))\nreturn [n, n + 1]",
    },
    {
        "id": "asks-for-a-name",
        "about": "DNS by the library and by hand",
        "allowed": "runtime_error",
        "body": "import socket\nsocket.getaddrinfo('example.org', 80)\nreturn [n, n + 1]",
    },
    {
        "id": "metadata-of-the-cloud",
        "about": "the address that hands out credentials",
        "allowed": "runtime_error",
        "body": "import urllib.request\nurllib.request.urlopen('http://169.254.169.254/', timeout=1)\n"
        "return [n, n + 1]",
        "limits": "patient",
    },
    {
        "id": "sockets-of-every-family",
        "about": "inet, netlink, packet, vsock, key, alg, bluetooth and the rest",
        "allowed": "wrong_answer",
        "body": """
import ctypes
libc = ctypes.CDLL(None)
for family in range(0, 46):
    for kind in (1, 2, 3, 5):
        if libc.socket(family, kind, 0) >= 0:
            return [n, n + 1]
""",
    },
    {
        "id": "pairs-of-rare-families",
        "about": "socketpair would load kernel modules",
        "allowed": "wrong_answer",
        "body": """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for family in range(2, 46):
    libc.socketpair(family, 1, 0, (ctypes.c_int * 2)())
    if ctypes.get_errno() != errno.EPERM:
        return [n, n + 1]
""",
    },
    {
        "id": "datagram-pair-to-a-service",
        "about": "a pair of datagram sockets could be sent to a path or an abstract name",
        "allowed": "wrong_answer runtime_error",
        "body": """
import socket
for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
    try:
        a, b = socket.socketpair(socket.AF_UNIX, kind)
    except OSError:
        continue
    a.sendto(b"x", "\\0service")
    return [n, n + 1]
""",
    },
    {
        "id": "stream-pair-to-a-service",
        "about": "connect, bind and sendto on an allowed pair",
        "allowed": "wrong_answer",
        "body": """
import socket
a, b = socket.socketpair()
for path in ("/var/run/docker.sock", "/run/systemd/notify", "/dev/log", "\\0/tmp/.X11-unix/X0"):
    for step in (a.connect, a.bind, lambda p: a.sendto(b"x", p)):
        try:
            step(path)
            return [n, n + 1]
        except OSError:
            pass
""",
    },
    {
        "id": "interfaces-by-ioctl",
        "about": "lists the network's interfaces through an allowed socket",
        "allowed": "runtime_error",
        "body": "import fcntl, socket, struct\ns, _ = socket.socketpair()\n"
        "fcntl.ioctl(s.fileno(), 0x8912, struct.pack('iP', 0, 0))\nreturn [n, n + 1]",
    },
    {
        "id": "terminal-input",
        "about": "TIOCSTI and other ioctls on whatever is open",
        "allowed": "wrong_answer",
        "body": """
import fcntl
for number in range(4):
    for request in (0x5412, 0x540E, 0x541C, 0x5423, 0x8901, 0x8902, 0x40086602, 0x5452):
        try:
            fcntl.ioctl(number, request, b"x" * 64)
            return [n, n + 1]
        except OSError:
            pass
""",
    },
    {
        "id": "new-namespaces",
        "about": "unshare and setns of every kind",
        "allowed": "wrong_answer",
        "checks": "data, exit code",
        "body": """
import ctypes
libc = ctypes.CDLL(None)
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80, 0x400):
    if libc.unshare(flag) == 0 or libc.setns(1, flag) == 0:
        return [n, n + 1]
""",
    },
    {
        "id": "child-in-new-namespaces",
        "about": "clone and clone3 with namespace flags",
        "allowed": "wrong_answer",
        "body": """
import ctypes, os, struct
call = ctypes.CDLL(None).syscall
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    made = call(56, flag | 17, 0, 0, 0, 0)
    if made == 0:
        os._exit(0)
    if made > 0:
        return [n, n + 1]
made = call(435, struct.pack("<11Q", 0x10000000, *[0] * 3, 17, *[0] * 6), 88)
if made == 0:
    os._exit(0)
if made > 0:
    return [n, n + 1]
""",
    },
    {
        "id": "mounts",
        "about": "mount, umount, pivot_root, chroot and the newer calls",
        "allowed": "wrong_answer",
        "body": """
import ctypes
libc = ctypes.CDLL(None)
tried = [libc.mount(b"none", b".", b"tmpfs", 0, b""), libc.umount2(b"/work", 2), libc.chroot(b".")]
tried += [libc.syscall(155, b".", b".")]
tried += [libc.syscall(number, 0, 0, 0, 0, 0) for number in (428, 429, 430, 431, 432, 433, 442)]
if max(tried) >= 0:
    return [n, n + 1]
""",
    },
    {
        "id": "becomes-somebody-else",
        "about": "setuid and its family to 0, to the tests' user and to nobody",
        "allowed": "wrong_answer",
        "body": """
import os
for user in (0, os.getuid() + 1, 65534):
    for step in (os.setuid, os.setgid, os.seteuid, lambda u: os.setgroups([u]), lambda u: os.setresuid(u, u, u)):
        try:
            step(user)
            if user != os.getuid():
                return [n, n + 1]
        except OSError:
            pass
if os.getuid() and os.geteuid() == 0:
    return [n, n + 1]
""",
    },
    {
        "id": "takes-capabilities",
        "about": "capset, ambient capabilities and the keep flag",
        "allowed": "wrong_answer",
        "body": """
import ctypes, struct
libc = ctypes.CDLL(None)
header, data = struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", *[0xFFFFFFFF] * 6)
tried = [libc.capset(header, data), libc.prctl(47, 2, 21, 0, 0), libc.prctl(8, 1, 0, 0, 0)]
if max(tried) >= 0:
    return [n, n + 1]
""",
    },
    {
        "id": "loosens-its-locks",
        "about": "a second filter, Landlock again, no_new_privs off, dumpable on",
        "allowed": "wrong_answer",
        "body": """
import ctypes
libc = ctypes.CDLL(None)
tried = [libc.prctl(38, 0, 0, 0, 0), libc.prctl(4, 1, 0, 0, 0), libc.prctl(22, 2, 0, 0, 0),
         libc.syscall(317, 1, 0, 0), libc.syscall(444, 0, 0, 1), libc.prctl(28, 0, 0, 0, 0)]
if max(tried) >= 0:
    return [n, n + 1]
""",
    },
    {
        "id": "starts-a-program",
        "about": "every form of exec",
        "allowed": "runtime_error",
        "checks": "data, exit code",
        "body": "import subprocess\nsubprocess.run(['/bin/true'], check=True)\nreturn [n, n + 1]",
    },
    {
        "id": "starts-a-program-of-its-own",
        "about": "writes a script and an ELF header, and executes by path and by descriptor",
        "allowed": "wrong_answer",
        "body": """
import ctypes, os
with open("own", "wb") as file:
    file.write(b"#!/bin/sh\\nexit 0\\n")
try:
    os.chmod("own", 0o755)
except OSError:
    pass
call = ctypes.CDLL(None).syscall
own = os.open("own", os.O_RDONLY)
if call(59, b"own", 0, 0) == 0 or call(322, own, b"", 0, 0, 0x1000) == 0:
    return [n, n + 1]
""",
    },
    {
        "id": "numbers-of-x32",
        "about": "system calls by the numbers of the x32 interface",
        "allowed": "wrong_answer runtime_error",
        "body": """
import ctypes
call = ctypes.CDLL(None).syscall
for number in (39, 41, 59, 101, 165, 512, 520, 545):
    if call(0x40000000 + number, 2, 1, 0, 0, 0) >= 0:
        return [n, n + 1]
""",
    },
    {
        "id": "numbers-of-i386",
        "about": "int 0x80 from machine code in its own memory",
        "allowed": "runtime_error",
        "body": """
import ctypes, mmap
code = b"\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3"
page = mmap.mmap(-1, 4096, prot=7)
page.write(code)
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
if call() > 0:
    return [n, n + 1]
""",
    },
    {
        "id": "numbers-without-end",
        "about": "every system call number above the known ones",
        "allowed": "wrong_answer runtime_error",
        "body": """
import ctypes
call = ctypes.CDLL(None).syscall
for number in [*range(442, 700), 1 << 20, 1 << 31, (1 << 32) + 41, (1 << 63) - 1]:
    if call(ctypes.c_long(number), 2, 1, 0, 0, 0) >= 0:
        return [n, n + 1]
""",
    },
    {
        "id": "powerful-system-calls",
        "about": "io_uring, bpf, userfaultfd, perf, keyrings, modules, kexec, quotas, swap, reboot",
        "allowed": "wrong_answer",
        "checks": "data, exit code",
        "body": """
import ctypes
call = ctypes.CDLL(None).syscall
for number in (425, 426, 427, 321, 323, 298, 248, 249, 250, 175, 313, 246, 320, 179, 167, 168, 169,
               154, 163, 170, 171, 172, 173, 304, 303, 300, 301, 212, 103, 136, 135, 310, 311, 312):
    if call(number, 1, 0, 0, 0, 0) >= 0:
        return [n, n + 1]
""",
    },
    {
        "id": "moves-pages-between-pipes",
        "about": "splice, tee, vmsplice and process_madvise",
        "allowed": "wrong_answer",
        "body": """
import ctypes, os
call = ctypes.CDLL(None).syscall
r, w = os.pipe()
for number in (275, 276, 278, 440, 448, 279, 256, 237, 238, 239):
    if call(number, r, 0, w, 0, 1, 0) >= 0:
        return [n, n + 1]
""",
    },
    {
        "id": "shared-memory-and-queues",
        "about": "SysV and POSIX objects that would outlive it",
        "allowed": "wrong_answer",
        "body": """
import ctypes
call = ctypes.CDLL(None).syscall
for number, arguments in ((29, (0, 4096, 0o1666)), (64, (0, 1, 0o1666)), (68, (0, 0o1666)), (240, (b"q", 0o102, 0o666, 0))):
    if call(number, *arguments) >= 0:
        return [n, n + 1]
""",
    },
    {
        "id": "sets-the-clock",
        "about": "clock, time zone of the kernel, host and domain names",
        "allowed": "wrong_answer",
        "body": """
import ctypes, struct, time
libc = ctypes.CDLL(None)
now = struct.pack("qq", int(time.time()), 0)
tried = [libc.clock_settime(0, now), libc.settimeofday(now, 0), libc.adjtimex(bytes(208)),
         libc.sethostname(b"x", 1), libc.setdomainname(b"x", 1)]
if max(tried) >= 0:
    return [n, n + 1]
""",
    },
    {
        "id": "settings-of-the-kernel",
        "about": "/proc/sys, /sys, sysrq, control groups and their release agents",
        "allowed": "wrong_answer",
        "body": """
import glob
for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/oom_score_adj",
             "/proc/self/coredump_filter", "/sys/kernel/uevent_helper", "/proc/self/uid_map",
             *glob.glob("/sys/fs/cgroup/*/release_agent"), *glob.glob("/sys/fs/cgroup/*/cgroup.procs")]:
    try:
        with open(path, "r+") as file:
            file.write("0")
        return [n, n + 1]
    except OSError:
        pass
""",
    },
    {
        "id": "device-files",
        "about": "opens and makes devices: memory, disks, terminals, fuse, kvm, loop",
        "allowed": "wrong_answer",
        "body": """
import os, stat
for name in ("mem", "kmem", "kmsg", "sda", "vda", "loop0", "loop-control", "fuse", "kvm", "net/tun",
             "tty", "console", "ptmx", "pts/0", "shm/x", "mapper/control", "input/event0", "rtc"):
    for flags in (os.O_RDWR | os.O_NOCTTY, os.O_RDONLY | os.O_NOCTTY, os.O_CREAT | os.O_WRONLY):
        try:
            os.open("/dev/" + name, flags)
            return [n, n + 1]
        except OSError:
            pass
try:
    os.mknod("device", stat.S_IFCHR | 0o600, os.makedev(1, 1))
    return [n, n + 1]
except OSError:
    pass
""",
    },
    {
        "id": "writes-outside-its-folder",
        "about": "new files, and old ones changed, in every folder that it knows",
        "allowed": "wrong_answer",
        "checks": "data, exit code",
        "body": """
import os, sys, tempfile
folders = ["/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/run", "/usr/lib", "/etc", "/proc", "/sys", "/work/..", os.path.dirname(os.__file__)]
for folder in folders:
    if os.path.realpath(folder) == os.getcwd():
        continue
    try:
        open(os.path.join(folder, "left"), "w")
        return [n, n + 1]
    except OSError:
        pass
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None)
    if path and not path.startswith(os.getcwd() + "/"):
        for step in (lambda: open(path, "r+"), lambda: os.truncate(path, 0), lambda: os.unlink(path),
                     lambda: os.rename(path, path + "x"), lambda: os.chmod(path, 0o777), lambda: os.utime(path, (0, 0))):
            try:
                step()
                return [n, n + 1]
            except OSError:
                pass
""",
    },
    {
        "id": "changes-a-hosts-file-by-its-mode",
        "about": "chmod, chown and utime of files that Landlock does not guard",
        "allowed": "wrong_answer",
        "body": """
import os
for path in ("/dev/null", "/", os.__file__, "/usr/lib"):
    for step in (lambda: os.chmod(path, 0o666), lambda: os.chown(path, os.getuid(), -1), lambda: os.utime(path, (0, 0))):
        try:
            step()
            return [n, n + 1]
        except OSError:
            pass
""",
    },
    {
        "id": "changes-its-root",
        "about": "chroot, and .. out of it by an old descriptor",
        "allowed": "wrong_answer",
        "body": """
import os
here = os.open(".", os.O_RDONLY)
try:
    os.mkdir("jail")
    os.chroot("jail")
    os.fchdir(here)
    return [n, n + 1]
except OSError:
    pass
for _ in range(20):
    os.chdir("..")
if os.path.exists("root/.bashrc") or os.path.exists("work/main"):
    try:
        os.listdir("root")
        return [n, n + 1]
    except OSError:
        pass
""",
    },
    {
        "id": "leases-and-notices",
        "about": "fcntl leases and dnotify on the interpreter's files",
        "allowed": "wrong_answer",
        "body": """
import fcntl, os
for path, command, value in ((os.__file__, 1024, 0), (os.path.dirname(os.__file__), 1026, 1)):
    try:
        fcntl.fcntl(os.open(path, os.O_RDONLY), command, value)
        return [n, n + 1]
    except OSError:
        pass
""",
    },
    {
        "id": "handles-of-files",
        "about": "open_by_handle_at and name_to_handle_at pass by every folder",
        "allowed": "wrong_answer",
        "body": """
import ctypes, struct
call = ctypes.CDLL(None).syscall
handle = ctypes.create_string_buffer(struct.pack("II", 128, 0) + bytes(128))
if call(303, -100, b"/", handle, ctypes.byref(ctypes.c_int()), 0) == 0 or call(304, 1, handle, 0) >= 0:
    return [n, n + 1]
""",
    },
    {
        "id": "personality",
        "about": "switches address randomisation off and reads become executes",
        "allowed": "wrong_answer",
        "body": "import ctypes\nif ctypes.CDLL(None).personality(0x0440000) >= 0: return [n, n + 1]",
    },
    {
        "id": "seconds-of-the-kernel",
        "about": "membarrier, cachestat, mincore and getcpu on what is not its own",
        "allowed": "wrong_answer",
        "body": """
import ctypes
call = ctypes.CDLL(None).syscall
if call(451, 1, 0, 0, 0) >= 0 or call(27, ctypes.c_long(0), 4096, ctypes.create_string_buffer(16)) >= 0:
    return [n, n + 1]
""",
    },
]
