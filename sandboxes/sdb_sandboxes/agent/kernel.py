"""The kernel's locks: namespaces around a bare root, Landlock, a seccomp allow-list, capabilities.

Place in the flow: `zygote.py` enters the jail once per slot, every cell adds the rest to itself.
Sources: landlock(7), seccomp(2), namespaces(7), pid_namespaces(7), SECCOMP_FILTER in the kernel
documentation; system call numbers from asm/unistd_64.h (x86-64) and asm-generic/unistd.h (arm64).
What it does not do: it decides nothing; a lock that cannot be had is an OSError.
"""

import ctypes
import glob
import os
import platform
import signal
import stat
import struct
import sys
from typing import Any

IS_ARM = platform.machine() in ("aarch64", "arm64")
AUDIT_ARCH = 0xC00000B7 if IS_ARM else 0xC000003E
CLONE, KILL, TGKILL, PRCTL, PRLIMIT64, PIVOT_ROOT, CAPSET = (
    (220, 129, 131, 167, 261, 41, 91) if IS_ARM else (56, 62, 234, 157, 302, 155, 126)
)
CLONE3, LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 435, 444, 445, 446
ALLOWED = (
    "8-13 17 19-25 29 32 34-38 43-50 52-53 56-57 59 61-74 78-80 82-83 85-88 93-96 98-103 107-111 "
    "113-115 120-121 123-128 132-137 139 141 148 150 153-158 160 163-167 169 172-179 199 204-212 "
    "214-216 222-223 226-227 232-233 260-261 276 278 283 285 291 293 436 439 441"
    if IS_ARM
    else "0-28 32-40 44-48 51-55 57-58 60-61 63 72-91 95-100 102 104 107-112 115 118 120-121 "
    "124 127-128 130-132 137-138 140 143 145-148 157-158 160 186 191-196 201-202 204 213 217-219 "
    "221-226 228-233 235 247 257-258 261-271 273-274 280-281 283-287 289-293 295-296 302 316 318 "
    "324 326 332 334 436 439 441"
)
"""System calls a Python program needs; `shutil.copy2` reads extended attributes. Left out, so
refused: execve, socket, connect, bind, ptrace, process_vm_*, mount, unshare, setns, set*id,
io_uring, bpf, perf, keyrings, SysV and POSIX queues and shared memory, memfd, userfaultfd,
personality, setpriority, sched_set*, clock setting."""

ALLOWED_ARGUMENTS = (
    # prctl: names, no-new-privileges; neither the parent-death signal nor the subreaper flag.
    (PRCTL, 0, (3, 15, 16, 38, 39, 0x53564D41)),
    # fcntl: flags, locks, pipe sizes; no signals sent by the kernel for us (owner, notify, lease).
    (25 if IS_ARM else 72, 1, (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1031, 1032)),
    # ioctl: is it a terminal, how wide, how much is there, non-blocking, inheritable.
    (29 if IS_ARM else 16, 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
    # socketpair: local ones only, other families load kernel modules; and connected ones only
    # (stream or packet, non-blocking, inheritable), datagrams could be sent to a host's service.
    (199 if IS_ARM else 53, 0, (1,)),
    (199 if IS_ARM else 53, 1, (1, 5, 0x801, 0x805, 0x80001, 0x80005, 0x80801, 0x80805)),
    # prlimit64: one's own limits.
    (PRLIMIT64, 0, (0,)),
)
"""(system call of the allow-list, index of an argument, the only values allowed for it)."""
COMMAND_ARGUMENTS = ((119 if IS_ARM else 144, 1, (0,)),)
"""The same for commands alone. sched_setscheduler: the ordinary policy; an idle fork server, which
a command of its own user could make it, would starve every later sample."""
SIGACTION = 134 if IS_ARM else 13
HOST_FILES = (
    (*range(8, 14), 52, 53, 88) if IS_ARM else (90, 91, 132, *range(191, 197), 235, 261, 268, 280)
)
"""chmod, utime and reading extended attributes in all forms: Landlock does not know them, so
without a mount namespace a program that shares our user could apply them to our files."""
GROUPS = (154, 157) if IS_ARM else (109, 112)
"""setpgid, setsid: without a pid namespace the process group is what holds a cell together."""

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
SIBLING = 0x00008000
NEW_ANY = 0x7E020000
READ_ONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, RECURSIVE, PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
NUM_DESCRIPTORS = 64
ALLOWED_FOR_COMMANDS = "118-119 221" if IS_ARM else "59 142 144"
"""Added for compilers and interpreters, and for Python programs that may start others: execve, and
one's own scheduling (Mono sets what is set already; limits count CPU seconds, whatever the
priority)."""
TOOLS = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/etc", "/proc"),
    *(f"/dev/{name}" for name in ("zero", "full", "random", "urandom")),
)
"""What a compiler or an interpreter of an image may read and execute."""

Line = tuple[int, int, int, int]
"""One instruction of a seccomp filter: code, jump if true, jump if false, operand."""

libc = ctypes.PyDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call_kernel(number: int, *arguments: Any) -> int:
    """A system call without a wrapper. Raises OSError as the wrappers of `os` do."""
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def set_process_option(option: int, value: Any = 0, more: Any = 0) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), more, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    texts = [text.encode() for text in (source, target, kind)]
    if libc.mount(*texts, ctypes.c_ulong(flags), options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def list_runtime_paths() -> tuple[list[str], set[str]]:
    """Folders the interpreter needs, and those inside them that stay hidden (data sets!)."""
    standard_library = os.path.dirname(os.path.realpath(os.__file__))
    folders = {standard_library, os.path.join(sys.base_prefix, "lib"), "/lib", "/lib64"}
    folders |= {"/usr/lib", "/usr/lib64", "/usr/share/zoneinfo"}
    found = sorted({os.path.realpath(folder) for folder in folders if os.path.isdir(folder)})
    outermost = [f for f in found if not any(f.startswith(other + "/") for other in found)]
    hidden = {os.path.join(standard_library, "test")}
    for folder in outermost:
        for pattern in ("*-packages", "python3*/*-packages", "*/python3*/*-packages"):
            hidden |= set(glob.glob(os.path.join(folder, pattern)))
    return outermost, {path for path in hidden if os.path.isdir(path)}


def list_visible(path: str, hidden: set[str]) -> list[str]:
    """Cover `path` with paths that leave the hidden ones out."""
    if path in hidden:
        return []
    if any(other.startswith(path + "/") for other in hidden):
        names = sorted(os.listdir(path))
        return [p for name in names for p in list_visible(os.path.join(path, name), hidden)]
    return [path]


def enter_jail(is_user_namespace: bool) -> None:
    """New mount, network, IPC and host-name namespaces around a root with the runtime only."""
    user, group = os.geteuid(), os.getegid()
    flags = NEW_MOUNTS | NEW_NET | NEW_IPC | NEW_UTS | (NEW_USER if is_user_namespace else 0)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
    if is_user_namespace:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    visible, hidden = list_runtime_paths()
    root = next(
        place
        for place in ("/mnt", "/media", "/srv", "/tmp")
        if os.path.isdir(place) and not any(v.startswith(place + "/") for v in visible)
    )
    mount("none", "/", "none", RECURSIVE | PRIVATE)
    mount("tmpfs", root, "tmpfs", NOSUID, "size=1m,mode=755")
    for path in visible:
        os.makedirs(root + path, exist_ok=True)
        bind_read_only(path, root + path, NODEV)
    for path in hidden:
        mount("tmpfs", root + path, "tmpfs", READ_ONLY | NOSUID | NODEV, "size=4k,mode=755")
    os.makedirs(root + "/work")
    os.makedirs(root + "/dev")
    os.close(os.open(root + "/dev/null", os.O_CREAT | os.O_WRONLY))
    bind_read_only("/dev/null", root + "/dev/null", NOEXEC)
    os.chdir(root)
    call_kernel(PIVOT_ROOT, b".", b".")
    if libc.umount2(b".", 2):
        raise OSError(ctypes.get_errno(), "umount of the old root")
    os.chdir("/")
    # Modes and times of our own files would be a memory from one sample to the next.
    mount("none", "/", "none", REMOUNT | BIND | READ_ONLY | NOSUID | NODEV)


def bind_read_only(path: str, target: str, more_flags: int) -> None:
    """Show `path` at `target`, unchangeable: neither contents nor modes and times."""
    mount(path, target, "none", BIND | RECURSIVE)
    # A user namespace may not drop the flags the mount came with, so they are repeated.
    kept = os.statvfs(path).f_flag
    flags = (kept & os.ST_NOEXEC) | READ_ONLY | NOSUID | more_flags
    flags |= 1024 if kept & os.ST_NOATIME else (1 << 21 if kept & os.ST_RELATIME else 0)
    mount("none", target, "none", REMOUNT | BIND | flags)


def read_landlock_version() -> int:
    """The kernel's Landlock ABI version; 0 where there is none."""
    return max(0, int(libc.syscall(ctypes.c_long(LANDLOCK_CREATE), None, ctypes.c_size_t(0), 1)))


def list_tool_paths() -> list[str]:
    """Those of `TOOLS` that are here."""
    return sorted({os.path.realpath(path) for path in TOOLS if os.path.exists(path)})


def build_landlock_rules(
    version: int, readable: list[str], work: str, can_execute: bool = False
) -> int:
    """A ruleset descriptor: read the runtime, write one folder, no TCP, no outside signals."""
    every_right = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}.get(version, 0xFFFF)
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("<QQQ", every_right, 3, 3)[:size]
    rules = call_kernel(LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0)
    read_file, read_folder, write = 4, 8, 2 | 0x4000
    # Everything but execute, device nodes, sockets and ioctl on devices.
    work_rights = 0x7FFF & ~(1 | 64 | 512 | 2048)
    execute = 1 if can_execute else 0
    wanted = [(path, read_file | read_folder | execute) for path in readable]
    for path, rights in [*wanted, ("/dev/null", read_file | write), (work, work_rights | execute)]:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= read_file | write | execute
        rule = struct.pack("<Qi", rights & every_right, descriptor)
        call_kernel(LANDLOCK_ADD, rules, 1, rule, 0)
        os.close(descriptor)
    return rules


def build_seccomp_filter(own_pid: int | None, is_command: bool = False) -> bytes:
    """Compile the allow-list to BPF: a binary search, for the kernel runs it for every number.

    `own_pid` set means no namespaces: then signals only to oneself, the process group is kept, and
    modes, times and extended attributes of files are left alone. A cell that becomes a command may
    start programs and signal them (whom they reach is up to Landlock and to users), wait for them
    as it likes, and change modes of the files that it made: it lives in an image, where no file of
    ours can be written.
    """
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
    refuse, unknown = [(give, 0, 0, 0x00050001)], [(give, 0, 0, 0x00050026)]
    allow = [(give, 0, 0, 0x7FFF0000)]
    first_argument = 16
    rules: dict[int, list[Line]] = {}
    for part in (ALLOWED + " " + ALLOWED_FOR_COMMANDS if is_command else ALLOWED).split():
        low, _, high = part.partition("-")
        rules |= dict.fromkeys(range(int(low), int(high or low) + 1), allow)
    rules |= dict.fromkeys((KILL, TGKILL), allow)
    for number, index, values in ALLOWED_ARGUMENTS + COMMAND_ARGUMENTS * is_command:
        test = [(load, 0, 0, first_argument + 8 * index)]
        test += [(equal, len(values) - i, 0, value) for i, value in enumerate(values)]
        rules[number] = test + refuse + rules[number]
    flags = (any_bit, 0, 1, NEW_ANY | SIBLING)
    rules[CLONE] = [(load, 0, 0, first_argument), flags, *refuse, *allow]
    if not is_command:
        # Children whose end is ignored would take their CPU time with them, uncounted.
        is_child = (equal, 0, 1, signal.SIGCHLD)
        rules[SIGACTION] = [(load, 0, 0, first_argument), is_child, *refuse, *allow]
    if own_pid is not None:
        rules |= dict.fromkeys(GROUPS if is_command else (*HOST_FILES, *GROUPS), refuse)
    if own_pid is not None and not is_command:
        to_own = [(load, 0, 0, first_argument), (equal, 0, 1, own_pid), *allow, *refuse]
        rules |= dict.fromkeys((KILL, TGKILL), to_own)
    ranges: list[tuple[int, list[Line]]] = []
    for number in range(max(rules) + 2):
        # ENOSYS for newer calls (clone3 among them): libraries then fall back to the older ones.
        rule = rules.get(number, refuse if number < 424 else unknown)
        if not ranges or ranges[-1][1] != rule:
            ranges.append((number, rule))
    # Another architecture's numbers end the process, those of x32 are unknown.
    code = [(load, 0, 0, 4), (equal, 1, 0, AUDIT_ARCH), (give, 0, 0, 0x80000000), (load, 0, 0, 0)]
    code += search([*ranges, (0x40000000, unknown)])
    return b"".join(struct.pack("<HBBI", *line) for line in code)


def search(ranges: list[tuple[int, list[Line]]]) -> list[Line]:
    """Code that finds the rule of the range, given by its first number, that a number lies in."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = search(ranges[:middle]), search(ranges[middle:])
    at_least, jump = 0x35, 0x05
    return [(at_least, 0, 1, ranges[middle][0]), (jump, 0, 0, len(low)), *low, *high]


def limit_capabilities() -> None:
    """No file's capabilities can ever be gained; each cell also gives up those it has."""
    for capability in range(64):
        if libc.prctl(24, capability, 0, 0, 0):
            break
