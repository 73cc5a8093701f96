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
from sdb_sandboxes.agent.cell import CHANNEL, run_tests, serve_candidate
from sdb_sandboxes.agent.codec import EXIT_FAILED, EXIT_MEMORY
from sdb_sandboxes.agent.command import serve_command
from sdb_sandboxes.agent.locks import OWN_PID, Locks

PRELOADED = (
    "abc array bisect builtins calendar cmath collections copy dataclasses datetime decimal enum "
    "fractions functools hashlib heapq io itertools math numbers operator random re statistics "
    "string struct sys textwrap time typing unicodedata"
).split()
"""Imported once in the zygote. A fresh `import typing` in every cell would cost 8 ms."""
HIGH = 100
"""The server's own descriptors start here; those that come with an order lie below."""


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
        own_pid = OWN_PID if config["jail"] == "none" else None
        self.filters = [
            kernel.build_seccomp_filter(own_pid, is_command) for is_command in (False, True)
        ]
        if self.has_jail:
            kernel.enter_jail(config["jail"] == "user")
            self.work, self.readable = "/work", ["/"]
        elif self.has_container:
            self.work, self.readable = "/work/cell", list_container_paths()
        else:
            kernel.set_process_option(36, 1)
            visible, hidden = kernel.list_runtime_paths()
            self.readable = [p for path in visible for p in kernel.list_visible(path, hidden)]
            self.work = tempfile.mkdtemp(prefix="sdb-work-")
            tempfile.tempdir = None  # a program is to find its own, the only one it can write
            os.chmod(self.work, 0o711)
            self.work += "/cell"
        self.has_own_pids = self.has_jail or self.has_container
        self.rules, self.rules_for = -1, ""
        self.work_state = (0, 0)
        self.locks: tuple[object, Locks] | None = None
        self.cell = 0

    def prepare_work(self, file_bytes: int) -> None:
        """Give the next cell an empty folder; a folder nobody touched is used again."""
        if self.has_container:
            self.empty_surroundings()
        if self.is_untouched(file_bytes):
            return
        owner = self.uid if self.uid is not None else os.geteuid()
        if self.has_jail:
            kernel.libc.umount2(self.work.encode(), 2)
            options = f"size={2 * file_bytes},nr_inodes=1024,mode=700,uid={owner}"
            flags = kernel.NOSUID | kernel.NODEV
            kernel.mount("tmpfs", self.work, "tmpfs", flags, options)
        else:
            if os.path.isdir(self.work):
                remove_folder(self.work)
            os.mkdir(self.work, 0o700)
            if self.uid is not None:
                os.chown(self.work, owner, owner)
        self.work_state = (os.stat(self.work).st_ctime_ns, file_bytes)
        self.rules_for = ""

    def empty_surroundings(self) -> None:
        """Remove what a cell left beside its folder, which is possible without Landlock."""
        around = os.path.dirname(self.work)
        for entry in set(os.listdir(around)) - {os.path.basename(self.work)}:
            path = f"{around}/{entry}"
            is_folder = os.path.isdir(path) and not os.path.islink(path)
            (remove_folder if is_folder else os.unlink)(path)

    def is_untouched(self, file_bytes: int) -> bool:
        """Whether the last cell left its folder as it found it, and it has the right size."""
        if not self.work_state[0] or (self.has_jail and self.work_state[1] != file_bytes):
            return False
        try:
            # The clock of older kernels is coarse: a file may be as young as the folder.
            is_same = self.work_state[0] == os.stat(self.work).st_ctime_ns
            return is_same and not os.listdir(self.work)
        except FileNotFoundError:
            return False

    def prepare_locks(self, order: dict[str, Any], descriptors: tuple[int, ...]) -> Locks:
        """The calls that lock the next cell; mostly those of the last one."""
        job = order.get("job", self.role)
        is_command = job == "command"
        if self.landlock and self.rules_for != job:
            if self.rules >= 0:
                os.close(self.rules)
            readable = kernel.list_tool_paths() if is_command else self.readable
            rules = kernel.build_landlock_rules(self.landlock, readable, self.work, is_command)
            # Out of the way of the numbers that a cell gives its descriptors.
            self.rules = fcntl.fcntl(rules, fcntl.F_DUPFD_CLOEXEC, HIGH)
            os.close(rules)
            self.rules_for, self.locks = job, None
        if self.locks is None or self.locks[0] != (order, descriptors):
            # A runtime that reserves addresses without using them is held by what it may write to.
            has_free_addresses = is_command and not order["is_address_space_bound"]
            limits = {
                "DATA" if has_free_addresses else "AS": order["memory_bytes"] + self.own_bytes,
                "CPU": order["cpu_s"],
                "FSIZE": order["file_bytes"],
                "NPROC": order["num_processes"] + self.other_tasks,
                "NOFILE": (4 if is_command else 1) * kernel.NUM_DESCRIPTORS,
                "CORE": 0,
                # Timers and queued signals: those of thousands of timers are the kernel's time.
                "SIGPENDING": 64,
                "MSGQUEUE": 0,
                "MEMLOCK": 0,
            }
            locks = Locks(
                descriptors=descriptors,
                folder=self.work,
                limits=limits,
                uid=self.uid,
                rules=self.rules,
                code=self.filters[is_command],
                has_own_pids=self.has_own_pids,
                speaks_first=job != "tests",
                dies_first=self.has_container,
            )
            self.locks = (order, descriptors), locks
        return self.locks[1]

    def fork(self, order: dict[str, Any], descriptors: tuple[int, ...]) -> int:
        """Start a cell; returns its process id as this namespace sees it.

        The order holds the limits and, for a cell that becomes another program, `job: command`;
        `keeps_folder` then leaves the files of the request's earlier cells where they are.
        """
        if not order.get("keeps_folder"):
            self.prepare_work(order["file_bytes"])
        locks = self.prepare_locks(order, descriptors)
        if self.has_container:
            # The cell opens a file of its own under /proc; nobody else is here to read ours.
            kernel.set_process_option(4, 1)
        self.cell = self.clone()
        if self.cell == 0:
            try:
                locks.apply()
                gc.enable()
                if order.get("job") == "command":
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
        """fork(), in a jail into a pid namespace whose death takes every descendant along.

        Python's own work around a fork repairs what other threads may have held; there are none
        here, and every page that it would touch is a page to copy.
        """
        flags = (kernel.NEW_PIDS if self.has_jail else 0) | signal.SIGCHLD
        flags |= 0x01200000 if self.tid_address else 0
        address = ctypes.c_ulong(self.tid_address)
        return kernel.call_kernel(kernel.CLONE, ctypes.c_ulong(flags), 0, 0, address, address)

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
            while not self.has_jail:
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
            if os.path.isdir(self.work):
                remove_folder(self.work)
            shutil.rmtree(os.path.dirname(self.work), ignore_errors=True)
        os._exit(0)


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
    control = socket.socket(fileno=fcntl.fcntl(control.detach(), fcntl.F_DUPFD_CLOEXEC, HIGH))
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
    # What every cell inherits: ordinary signals, one seed, a strict umask, no way to privileges.
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        # A program that hangs up is an error for the tests, not their death.
        if zygote.role == "candidate" or number != signal.SIGPIPE:
            signal.signal(number, signal.SIG_DFL)
    random.seed(0)
    os.umask(0o077)
    kernel.limit_capabilities()
    gc.collect()
    gc.freeze()
    gc.disable()
    watcher.register(control, select.POLLIN)
    while True:
        order, descriptors = b"", tuple[int, ...]()
        # A judge that died in the middle of a question is a reset connection.
        with contextlib.suppress(ConnectionError):
            if control.fileno() in dict(watcher.poll()):
                order, descriptors = receive_order(control)
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
            socket.send_fds(control, [answer], passed, socket.MSG_NOSIGNAL)
        for descriptor in (*descriptors, *passed):
            os.close(descriptor)


def receive_order(control: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    """One order and the descriptors that came with it."""
    order, ancillary, _, _ = control.recvmsg(512, socket.CMSG_SPACE(8 * 4))
    numbers = b"".join(data for _, _, data in ancillary)
    return order, struct.unpack(f"{len(numbers) // 4}i", numbers)


if __name__ == "__main__":
    main()
