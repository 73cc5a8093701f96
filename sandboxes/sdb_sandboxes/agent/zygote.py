"""The zygote: a clean, small interpreter that forks one locked cell a sample and buries it.

Place in the flow: `slot.py` starts it with a cleared environment and one socket on descriptor 0. It
imports what programs commonly import, enters its jail, and from then on knows two orders: `F` (fork
a cell around the descriptors that come with the order; nothing is answered) and `K` (kill the cell,
reap, wipe its folder, report). The cell locks itself and only then reads its own request, over a
descriptor the zygote has closed.

Every page that this process writes to while a cell lives is a page to copy, so it does as little as
it can between the two orders. What it does not do: it never reads a byte of a program, a test or an
expected value.
"""

import _socket
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import marshal
import os
import random
import resource
import select
import signal
import site
import struct
import sys
from typing import Any, NoReturn

from sdb_sandboxes.agent import kernel
from sdb_sandboxes.agent.cell import (
    CHANNEL,
    VERDICT,
    rehearse,
    rehearse_tests,
    run_tests,
    serve_candidate,
)
from sdb_sandboxes.agent.codec import EXIT_FAILED, EXIT_MEMORY
from sdb_sandboxes.agent.command import serve_command
from sdb_sandboxes.agent.locks import OWN_PID, Locks, kernel_call, prepare

PRELOADED = (
    "abc bisect builtins collections copy dataclasses datetime decimal enum fractions functools "
    "heapq io itertools math numbers operator random re statistics string struct sys time typing"
).split()
"""Imported once in the zygote. A fresh `import typing` in every cell would cost 8 ms; but every
megabyte and every library that is here costs every fork 0.03 ms."""
ANCILLARY_BYTES = _socket.CMSG_SPACE(8 * 4)
SIGKILL = int(signal.SIGKILL)
STARTING = ("command", "starter")
"""Cells that may execute what the image has and what lies in their folder."""
HIGH = 100
"""The server's own descriptors start here; those that come with an order lie below."""


class Zygote:
    """Forks one locked cell at a time and buries it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.role: str = config["role"]
        self.has_jail: bool = config["jail"] in ("root", "user")
        self.has_container: bool = config["jail"] == "container"
        self.uid: int | None = config["uid"]
        # The slot's control group, which holds this process and its cells: to be left and removed
        # at the end, and out of reach once in the jail.
        self.groups = [
            (open_folder(os.path.dirname(folder)), os.path.basename(folder), open_folder(home))
            for folder, home in config["folders"]
        ]
        # Cells share its bound on memory with this process, and have to go first.
        is_bound = self.has_container or bool(self.groups)
        self.proc = keep(open_folder("/proc")) if is_bound else -1
        # Where no user of its own bounds the cell, the limit counts what the user runs already.
        self.other_tasks = 0 if self.uid is not None else count_tasks(os.geteuid())
        with open("/proc/self/statm") as file:
            self.own_bytes = int(file.read().split()[0]) * resource.getpagesize()
        # clone(2) must keep the C library's idea of the thread's id right, as fork() does.
        address = ctypes.c_ulong(0)
        has_address = kernel.libc.prctl(40, ctypes.byref(address), 0, 0, 0) == 0
        flags = (kernel.NEW_PIDS if self.has_jail else 0) | signal.SIGCHLD
        flags |= 0x01200000 if has_address else 0
        self.clone_call = prepare(kernel.CLONE, flags, 0, 0, address.value, address.value)
        self.landlock = kernel.read_landlock_version()
        own_pid = OWN_PID if config["jail"] == "none" else None
        self.filters = [
            kernel.build_seccomp_filter(own_pid, is_command) for is_command in (False, True)
        ]
        self.base_rules: tuple[int, ...] = ()
        if self.has_jail:
            kernel.enter_jail(config["jail"] == "user")
            self.work, self.readable = "/work", ["/"]
        elif self.has_container:
            self.work, self.readable = "/work/cell", list_container_paths()
        else:
            kernel.set_process_option(36, 1)
            visible, hidden = kernel.list_runtime_paths()
            self.readable = [p for path in visible for p in kernel.list_visible(path, hidden)]
            folder = make_folder()
            self.work = folder + "/cell"
            if self.landlock:
                # Hundreds of paths, once; the rules for each new folder then need not name them.
                # A command has rules of its own, for it may execute what it reads.
                rules = kernel.build_landlock_rules(self.landlock, self.readable, folder)
                self.base_rules, self.readable = (keep(rules),), ["/"]
        self.has_own_pids = self.has_jail or self.has_container
        self.rules, self.rules_for = -1, ""
        self.work_state: tuple[tuple[int, ...], int] = ((), 0)
        self.key: tuple[bytes, tuple[int, ...]] = b"", ()
        self.order: dict[str, Any] = {}
        self.locks: Locks | None = None
        self.ready_bytes = 0
        self.failure = b""
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
            options = f"size={2 * file_bytes},nr_inodes=32768,mode=700,uid={owner}"
            flags = kernel.NOSUID | kernel.NODEV
            kernel.mount("tmpfs", self.work, "tmpfs", flags, options)
        else:
            if os.path.isdir(self.work):
                remove_folder(self.work)
            os.mkdir(self.work, 0o700)
            if self.uid is not None:
                os.chown(self.work, owner, owner)
        self.work_state = (read_state(self.work), file_bytes)
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
            return self.work_state[0] == read_state(self.work) and not os.listdir(self.work)
        except FileNotFoundError:
            return False

    def find_job(self) -> str:
        """What the next cell is: its role, a command, or a candidate that may start programs.

        The last in a container only, where all that it can start is the image's or its own.
        """
        job = str(self.order.get("job", self.role))
        is_starter = self.order["allow_programs"] and self.has_container and job == "candidate"
        return "starter" if is_starter else job

    def prepare_rules(self, job: str) -> None:
        """Landlock's rules for the next cell: those of the last one, if its folder is the same."""
        if not self.landlock or self.rules_for == job:
            return
        last, can_execute = self.rules, job in STARTING
        if last >= 0:
            os.close(last)
        readable = kernel.list_tool_paths() if can_execute else self.readable
        rules = kernel.build_landlock_rules(self.landlock, readable, self.work, can_execute)
        self.rules, self.rules_for = keep(rules), job
        if self.rules != last:
            self.locks = None

    def prepare_locks(self, job: str, descriptors: tuple[int, ...]) -> Locks:
        """The calls that lock the next cell."""
        order, is_command = self.order, job == "command"
        # A runtime that reserves addresses without using them is held by what it may write to.
        has_free_addresses = is_command and not order["is_address_space_bound"]
        base_rules = () if is_command else self.base_rules
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
        return Locks(
            descriptors=descriptors,
            folder=self.work,
            limits=limits,
            uid=self.uid,
            rules=(*base_rules, self.rules) if self.rules >= 0 else (),
            code=self.filters[job in STARTING],
            has_own_pids=self.has_own_pids,
            line=VERDICT if job == "tests" else CHANNEL,
            proc=self.proc,
        )

    def fork(self, order: bytes, descriptors: tuple[int, ...]) -> None:
        """Start a cell.

        The order holds the limits and, for a cell that becomes another program, `job: command`;
        `keeps_folder` then leaves the files of the request's earlier cells where they are. Most
        orders are the last one again, and then everything is ready: folder, rules and calls.
        """
        if self.key != (order, descriptors):
            self.key, self.order = (order, descriptors), marshal.loads(order)
            self.locks = None
        if self.ready_bytes != self.order["file_bytes"] and not self.order.get("keeps_folder"):
            self.prepare_work(self.order["file_bytes"])
        job = self.find_job()
        self.prepare_rules(job)
        if self.locks is None:
            self.locks = self.prepare_locks(job, descriptors)
        self.ready_bytes = 0
        self.cell = self.clone()
        if self.cell == 0:
            try:
                self.locks.apply()
                gc.enable()
                if job == "starter":
                    for output in (1, 2):
                        os.set_inheritable(output, True)
                if job == "command":
                    serve_command(CHANNEL)
                (serve_candidate if self.role == "candidate" else run_tests)()
            except MemoryError:
                os._exit(EXIT_MEMORY)
            finally:
                os._exit(EXIT_FAILED)

    def clone(self) -> int:
        """fork(), in a jail into a pid namespace whose death takes every descendant along.

        Python's own work around a fork repairs what other threads may have held; there are none
        here, and every page that it would touch is a page to copy.
        """
        cell = int(kernel_call(*self.clone_call))
        if cell < 0:
            raise OSError(ctypes.get_errno(), "the kernel refused to start a process")
        return cell

    def kill(self) -> bytes:
        """End the cell and everything it started; returns status, CPU seconds and peak bytes."""
        if not self.has_jail:
            # In a container everything but us: a fork in flight sees the signal and starts nothing.
            # Else the group, which the filter lets nobody leave: no fork can outrun one call.
            try:
                os.kill(-1 if self.has_container else -self.cell, SIGKILL)
            except ProcessLookupError:
                pass
        os.kill(self.cell, SIGKILL)
        _, status, usage = os.wait4(self.cell, 0)
        self.cell = 0
        cpu_s = usage.ru_utime + usage.ru_stime
        if not self.has_jail:
            # Orphans come to us (subreaper); with a pid namespace there are none.
            try:
                while True:
                    usage = os.wait4(-1, 0)[2]
                    cpu_s += usage.ru_utime + usage.ru_stime
            except ChildProcessError:
                pass
        return struct.pack("<idq", status, cpu_s, usage.ru_maxrss * 1024)

    def wipe(self) -> None:
        """Make the folder ready for a cell like the last one: its files are memory that counts."""
        self.prepare_work(self.order["file_bytes"])
        self.ready_bytes = self.order["file_bytes"]

    def obey(self, order: bytes, descriptors: tuple[int, ...]) -> bytes:
        """Do what the judge wants; the answer, empty where it waits for none."""
        try:
            if order[:1] == b"F":
                self.fork(order[1:], descriptors)
                return b""
            if order == b"W":
                self.wipe()
                return b"."
            if self.failure:
                return b"!" + self.failure
            answer = b"." + self.kill()
            if self.order.get("job") != "command":
                self.wipe()
            return answer
        except OSError as error:
            # The judge hears of a failed fork when it asks how the cell ended.
            self.failure = str(error).encode()[:200]
            return b"" if order[:1] == b"F" else b"!" + self.failure

    def close(self) -> NoReturn:
        """The judge is gone or done: leave nothing behind."""
        if self.cell:
            self.kill()
        for parent, name, home in self.groups:
            with contextlib.suppress(OSError):
                write_file(home, "cgroup.procs", b"0")
                os.rmdir(name, dir_fd=parent)
        if not self.has_jail and not self.has_container:
            if os.path.isdir(self.work):
                remove_folder(self.work)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(self.work))
        os._exit(0)


def read_state(path: str) -> tuple[int, ...]:
    """What a cell could leave at an empty folder: mode and dates.

    All three: where the clock is coarse, a change right after the folder was made is not dated.
    """
    state = os.stat(path)
    return state.st_mode, state.st_mtime_ns, state.st_ctime_ns


def open_folder(path: str) -> int:
    """A descriptor to reach what is in a folder, for this process only."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def keep(descriptor: int) -> int:
    """Move a descriptor out of the way of the numbers that a cell gives its own."""
    kept = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(descriptor)
    return kept


def write_file(folder: int, name: str, text: bytes) -> None:
    """Write to a file in a folder. Raises OSError."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


def make_folder() -> str:
    """A new folder that nobody else may list, in one for temporary files. Raises OSError."""
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        path = f"{place}/sdb-work-{os.urandom(8).hex()}"
        with contextlib.suppress(OSError):
            os.mkdir(path)
            os.chmod(path, 0o711)
            return path
    raise OSError("no folder for temporary files can be written")


def list_container_paths() -> list[str]:
    """What a program may read of an image: interpreter, libraries, time zones, file types.

    The last because `mimetypes` fails where that file is seen and cannot be read.
    """
    folders = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo")
    paths = (*folders, "/etc/mime.types")
    return sorted({os.path.realpath(path) for path in paths if os.path.exists(path)})


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
        control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        control.connect(address)
        # The first process of a container hears only what it asks to hear.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    else:
        control = _socket.socket(fileno=0)
        watcher.register(kernel.call_kernel(434, os.getppid(), 0), select.POLLIN)
    control = _socket.socket(fileno=fcntl.fcntl(control.detach(), fcntl.F_DUPFD_CLOEXEC, HIGH))
    null = os.open("/dev/null", os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(null, target)
    os.close(null)
    sys.dont_write_bytecode = True
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
    rehearse() if zygote.role == "candidate" else rehearse_tests()
    gc.collect()
    with contextlib.suppress(AttributeError):
        kernel.libc.malloc_trim(0)  # What imports have left unused need not be shared with cells.
    gc.freeze()
    gc.disable()
    watcher.register(control, select.POLLIN)
    line = control.fileno()
    try:
        while True:
            # The judge may be gone while a process forked from it still holds the line.
            if line not in dict(watcher.poll()):
                break
            order, descriptors = receive_order(control)
            if not order:
                break
            answer = zygote.obey(order, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            if answer:
                control.send(answer, _socket.MSG_NOSIGNAL)
    except ConnectionError:
        pass  # it died in the middle of a question
    zygote.close()


def receive_order(control: _socket.socket) -> tuple[bytes, tuple[int, ...]]:
    """One order and the descriptors that came with it."""
    order, ancillary, _, _ = control.recvmsg(512, ANCILLARY_BYTES)
    if not ancillary:
        return order, ()
    numbers = b"".join(data for _, _, data in ancillary)
    return order, struct.unpack(f"{len(numbers) // 4}i", numbers)


if __name__ == "__main__":
    main()
