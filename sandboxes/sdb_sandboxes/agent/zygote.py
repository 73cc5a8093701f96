"""The zygote: a clean, small interpreter that forks one locked cell a sample and buries it.

Place in the flow: `slot.py` starts it with a cleared environment and one socket on descriptor 0. It
imports what programs commonly import, enters its jail, and from then on knows two orders: `F` (fork
a cell around the descriptors that come with the order) and `K` (kill the cell, reap, report). The
cell locks itself and only then reads its own request, over a descriptor the zygote has closed.

What it does not do: it never reads a byte of a program, a test or an expected value.
"""

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import random
import resource
import select
import shutil
import signal
import site
import socket
import struct
import sys
import tempfile
from typing import Any, NoReturn

from sdb_sandboxes.agent import kernel
from sdb_sandboxes.agent.cell import (
    CHANNEL,
    EXIT_FAILED,
    EXIT_MEMORY,
    run_tests,
    serve_candidate,
)
from sdb_sandboxes.agent.command import serve_command

PRELOADED = (
    "abc array bisect builtins calendar cmath collections copy dataclasses datetime decimal enum "
    "fractions functools hashlib heapq io itertools math numbers operator random re statistics "
    "string struct sys textwrap time typing unicodedata"
).split()
"""Imported once in the zygote. A fresh `import typing` in every cell would cost 8 ms."""


class Zygote:
    """Forks one locked cell at a time and buries it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.role: str = config["role"]
        self.has_jail: bool = config["jail"] in ("root", "user")
        self.has_container: bool = config["jail"] == "container"
        self.uid: int | None = config["uid"]
        # The slot's control group, to be removed at the end; out of reach once in the jail.
        self.groups = [
            (os.open(os.path.dirname(folder), os.O_RDONLY | os.O_CLOEXEC), os.path.basename(folder))
            for folder in config["folders"]
        ]
        # Where no user of its own bounds the cell, the limit counts what the user runs already.
        self.other_tasks = 0 if self.uid is not None else count_tasks(os.geteuid())
        with open("/proc/self/statm") as file:
            self.own_bytes = int(file.read().split()[0]) * resource.getpagesize()
        # clone(2) must keep the C library's idea of the thread's id right, as fork() does.
        address = ctypes.c_ulong(0)
        has_address = kernel.libc.prctl(40, ctypes.byref(address), 0, 0, 0) == 0
        self.tid_address = address.value if has_address else 0
        self.landlock = kernel.read_landlock_version()
        if self.has_jail:
            kernel.enter_jail(config["jail"] == "user")
            self.work, self.readable = "/work", ["/"]
        elif self.has_container:
            self.work, self.readable = "/work", list_container_paths()
        else:
            kernel.set_process_option(36, 1)
            visible, hidden = kernel.list_runtime_paths()
            self.readable = [p for path in visible for p in kernel.list_visible(path, hidden)]
            self.work = tempfile.mkdtemp(prefix="sdb-work-")
            os.chmod(self.work, 0o711)
        # Without a pid namespace the filter names the cell's own process id: built in the cell.
        self.has_own_pids = self.has_jail or self.has_container
        self.filter = kernel.build_seccomp_filter(None) if self.has_own_pids else b""
        self.rules, self.rules_for = -1, ""
        self.work_state = (0, 0)
        self.cell = 0

    def prepare_work(self, file_bytes: int) -> None:
        """Give the next cell an empty folder; a folder nobody touched is used again."""
        if self.has_jail:
            is_untouched = self.work_state == (os.stat(self.work).st_ctime_ns, file_bytes)
            # The clock of older kernels is coarse: a file may be as young as the folder.
            if is_untouched and not os.listdir(self.work):
                return
            kernel.libc.umount2(self.work.encode(), 2)
            owner = self.uid if self.uid is not None else os.geteuid()
            options = f"size={2 * file_bytes},nr_inodes=1024,mode=700,uid={owner}"
            flags = kernel.NOSUID | kernel.NODEV
            kernel.mount("tmpfs", self.work, "tmpfs", flags, options)
            self.work_state = (os.stat(self.work).st_ctime_ns, file_bytes)
        else:
            if self.has_container and self.is_cell_untouched():
                return
            if os.path.isdir(self.work + "/cell"):
                remove_folder(self.work + "/cell")
            os.mkdir(self.work + "/cell", 0o700)
            self.work_state = (os.stat(self.work + "/cell").st_ctime_ns, 0)
            if self.uid is not None:
                os.chown(self.work + "/cell", self.uid, self.uid)
        self.rules_for = ""

    def is_cell_untouched(self) -> bool:
        """Whether the last cell left its folder, and the one around it, as it found them."""
        try:
            is_same = os.stat(self.work + "/cell").st_ctime_ns == self.work_state[0]
        except FileNotFoundError:
            return False
        for entry in set(os.listdir(self.work)) - {"cell"}:  # possible without Landlock
            path = f"{self.work}/{entry}"
            is_folder = os.path.isdir(path) and not os.path.islink(path)
            (remove_folder if is_folder else os.unlink)(path)
        return is_same and not os.listdir(self.work + "/cell")

    def prepare_rules(self, job: str) -> None:
        """Have the Landlock rules of this job for the folder that is there now."""
        if not self.landlock or self.rules_for == job:
            return
        if self.rules >= 0:
            os.close(self.rules)
        folder = self.work if self.has_jail else self.work + "/cell"
        is_command = job == "command"
        readable = kernel.list_tool_paths() if is_command else self.readable
        self.rules = kernel.build_landlock_rules(self.landlock, readable, folder, is_command)
        self.rules_for = job

    def fork(self, order: dict[str, Any], descriptors: list[int]) -> int:
        """Start a cell; returns its process id as this namespace sees it.

        The order holds the limits and, for a cell that becomes another program, `job: command`;
        `keeps_folder` then leaves the files of the request's earlier cells where they are.
        """
        if not order.get("keeps_folder"):
            self.prepare_work(order["file_bytes"])
        job = order.get("job", self.role)
        self.prepare_rules(job)
        if self.has_container:
            # The cell opens a file of its own under /proc; nobody else is here to read ours.
            kernel.set_process_option(4, 1)
        self.cell = self.clone() if self.has_jail else os.fork()
        if self.cell == 0:
            try:
                lock_cell(self, order, descriptors)
                if job == "command":
                    serve_command(CHANNEL)
                (serve_candidate if self.role == "candidate" else run_tests)()
            except MemoryError:
                os._exit(EXIT_MEMORY)
            finally:
                os._exit(EXIT_FAILED)
        if self.has_container:
            kernel.set_process_option(4, 0)
        return self.cell

    def clone(self) -> int:
        """fork() into a pid namespace of its own, whose death takes every descendant along."""
        flags = kernel.NEW_PIDS | signal.SIGCHLD | (0x01200000 if self.tid_address else 0)
        ctypes.pythonapi.PyOS_BeforeFork()
        address = ctypes.c_ulong(self.tid_address)
        pid = int(
            kernel.libc.syscall(
                ctypes.c_long(kernel.CLONE), ctypes.c_ulong(flags), 0, 0, address, address
            )
        )
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(ctypes.get_errno(), "clone")
        return pid

    def kill(self) -> bytes:
        """End the cell and everything it started; returns status, CPU seconds and peak bytes."""
        if self.has_container:
            # Everything here but us; a fork in flight sees the signal and starts nothing.
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        elif not self.has_jail:
            # One call that no fork can outrun; the filter lets nobody leave the group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.cell, signal.SIGKILL)
        os.kill(self.cell, signal.SIGKILL)
        _, status, usage = os.wait4(self.cell, 0)
        cpu_s = usage.ru_utime + usage.ru_stime
        with contextlib.suppress(ChildProcessError):
            # Orphans come to us (subreaper); with a pid namespace there are none.
            while True:
                usage = os.wait4(-1, 0)[2]
                cpu_s += usage.ru_utime + usage.ru_stime
        self.cell = 0
        return struct.pack("<idq", status, cpu_s, usage.ru_maxrss * 1024)

    def close(self) -> NoReturn:
        """The judge is gone or done: leave nothing behind."""
        if self.cell:
            self.kill()
        for parent, name in self.groups:
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=parent)
        if not self.has_jail and not self.has_container:
            if os.path.isdir(self.work + "/cell"):
                remove_folder(self.work + "/cell")
            shutil.rmtree(self.work, ignore_errors=True)
        os._exit(0)


def lock_cell(zygote: Zygote, limits: dict[str, Any], descriptors: list[int]) -> None:
    """Give up everything a program does not need. Any failure ends the cell with EXIT_FAILED."""
    is_command = limits.get("job") == "command"
    os.setsid()
    if zygote.has_container:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # when memory runs out, the program goes, not its server
    # Descriptors: 0 nothing, 1 stdout, 2 stderr, 3 the channel (4 the verdict, for tests).
    # Each cell opens its own null: flags and locks of an open file outlive the cell.
    null = os.open("/dev/null", os.O_RDWR)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in (null, *descriptors)]
    for target, source in enumerate(high):
        os.dup2(source, target, inheritable=False)
    rules = -1
    if zygote.landlock:
        rules = fcntl.fcntl(zygote.rules, fcntl.F_DUPFD, 200)
        os.dup2(rules, len(high))
        rules = len(high)
    os.closerange(len(high) + (rules >= 0), 256)
    os.chdir(zygote.work if zygote.has_jail else zygote.work + "/cell")
    os.umask(0o077)
    # A runtime that reserves addresses without using them is held by what it may write to.
    has_free_addresses = is_command and not limits["is_address_space_bound"]
    for name, value in (
        ("DATA" if has_free_addresses else "AS", limits["memory_bytes"] + zygote.own_bytes),
        ("CPU", limits["cpu_s"]),
        ("FSIZE", limits["file_bytes"]),
        ("NPROC", limits["num_processes"] + zygote.other_tasks),
        ("NOFILE", 4 * kernel.NUM_DESCRIPTORS if is_command else kernel.NUM_DESCRIPTORS),
        ("CORE", 0),
        ("MSGQUEUE", 0),
        ("MEMLOCK", 0),
    ):
        which = getattr(resource, f"RLIMIT_{name}", None)
        if which is not None:
            hard = resource.getrlimit(which)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (value, value))
    if zygote.uid is not None:
        os.setgroups([])
        os.setresgid(zygote.uid, zygote.uid, zygote.uid)
        os.setresuid(zygote.uid, zygote.uid, zygote.uid)
    kernel.drop_capabilities()
    kernel.set_process_option(1, signal.SIGKILL)
    if not zygote.has_jail:
        kernel.set_process_option(4, 0)
    kernel.set_process_option(38, 1)
    if rules >= 0:
        kernel.call_kernel(kernel.LANDLOCK_RESTRICT, rules, 0)
        os.close(rules)
    if is_command:
        code = kernel.build_seccomp_filter(None if zygote.has_own_pids else os.getpid(), True)
    else:
        code = zygote.filter or kernel.build_seccomp_filter(os.getpid())
    kernel.install_seccomp_filter(code)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        # A program that hangs up is an error for the tests, not their death.
        if zygote.role == "candidate" or number != signal.SIGPIPE:
            signal.signal(number, signal.SIG_DFL)
    gc.enable()
    random.seed(0)


def list_container_paths() -> list[str]:
    """What a program may read of an image: interpreter, libraries, time zones."""
    folders = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo")
    return sorted({os.path.realpath(folder) for folder in folders if os.path.isdir(folder)})


def count_tasks(uid: int) -> int:
    """Threads that this user runs already: RLIMIT_NPROC counts them all."""
    total = 0
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                total += len(os.listdir(f"/proc/{name}/task"))
    return total


def remove_folder(path: str) -> None:
    """Remove what a dead cell left, however deep: sub-folders are first moved to the top."""
    os.chmod(path, 0o700)
    while folders := [entry for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]:
        for folder in folders:
            os.chmod(folder.path, 0o700)
            for entry in os.scandir(folder.path):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)
                    os.rename(entry.path, f"{path}/{os.urandom(16).hex()}")
                else:
                    os.unlink(entry.path)
            os.rmdir(folder.path)
    for entry in os.scandir(path):
        os.unlink(entry.path)
    os.rmdir(path)


def preload_packages(names: list[str]) -> None:
    """Import what an image says its programs want, from where it keeps packages."""
    folders = (f"/usr/local/lib/python3.{sys.version_info.minor}/dist-packages",)
    sys.path += [folder for folder in (*folders, "/usr/lib/python3/dist-packages") if names]
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MPLBACKEND="agg")
    for name in names:
        importlib.import_module(name)
    os.environ.clear()


def main(address: str = "") -> NoReturn:
    """Read the configuration, lock up, then obey orders until the judge is gone.

    Args:
        address: Socket to connect to, in a container; else the line is on descriptor 0.
    """
    sys.argv = sys.orig_argv = [""]
    os.environ.clear()
    watcher = select.poll()
    if address:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.connect(address)
        # The first process of a container hears only what it asks to hear.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    else:
        control = socket.socket(fileno=0)
        watcher.register(kernel.call_kernel(434, os.getppid(), 0), select.POLLIN)
    control = socket.socket(fileno=fcntl.fcntl(control.detach(), fcntl.F_DUPFD_CLOEXEC, 100))
    null = os.open("/dev/null", os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(null, target)
    os.close(null)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with contextlib.suppress(AttributeError):
        kernel.libc.mallopt(-8, 1)  # One malloc arena: threads must not eat the address space.
    for name in PRELOADED:
        importlib.import_module(name)
    site.setquit()  # `exit` and `quit`, which programs expect; the rest of `site` looks outside
    try:
        config = json.loads(control.recv(4096))
        preload_packages(config.get("preload", ()))
        zygote = Zygote(config)
        # Only now: the files of an undumpable process under /proc belong to root.
        kernel.set_process_option(4, 0)
        control.send(b"." + json.dumps({"landlock": zygote.landlock}).encode())
    except (OSError, StopIteration, ImportError) as error:
        control.send(b"!" + str(error).encode()[:200])
        os._exit(1)
    gc.collect()
    gc.freeze()
    gc.disable()
    watcher.register(control, select.POLLIN)
    while True:
        ready = dict(watcher.poll())
        order, descriptors = b"", list[int]()
        # A judge that died in the middle of a question is a reset connection.
        with contextlib.suppress(ConnectionError):
            if control.fileno() in ready:
                order, descriptors, _, _ = socket.recv_fds(control, 256, 8)
        if not order:
            zygote.close()
        try:
            passed: list[int] = []
            if order[:1] == b"F":
                pid = zygote.fork(json.loads(order[1:]), descriptors)
                answer = b"." + struct.pack("<i", pid)
                if zygote.has_container:
                    passed = [os.pidfd_open(pid)]
            else:
                answer = b"." + zygote.kill()
        except OSError as error:
            answer = b"!" + str(error).encode()[:200]
        with contextlib.suppress(ConnectionError):
            socket.send_fds(control, [answer], passed)
        for descriptor in (*descriptors, *passed):
            os.close(descriptor)


if __name__ == "__main__":
    main()
