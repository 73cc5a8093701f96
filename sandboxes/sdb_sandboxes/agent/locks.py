"""Everything a cell gives up, as a list of system calls that is ready before the cell exists.

Place in the flow: `zygote.py` builds the list from the limits that came with an order, forks, and
the cell runs it before anything else. Prepared so, a cell copies a third of the memory pages that
the same calls through Python's modules would touch, and those copies are what a fork costs.
Sources: credentials(7), capabilities(7), setrlimit(2) and those named in `kernel.py`. What it does
not do: it decides nothing; a call that fails ends the cell.
"""

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Mapping
from typing import Any

from sdb_sandboxes.agent import kernel
from sdb_sandboxes.agent.codec import EXIT_FAILED, LOCKED

(
    OPENAT, CLOSE, DUP3, CLOSE_RANGE, SETSID, CHDIR, SETGROUPS, SETRESUID, SETRESGID, WRITE,
) = (
    (56, 57, 24, 436, 157, 49, 159, 147, 149, 64)
    if kernel.IS_ARM
    else (257, 3, 292, 436, 112, 80, 116, 117, 119, 1)
)  # fmt: skip
OWN_PID = 0x7FFFFFFF
"""Stands in a prepared filter where the cell's own process id goes."""

kernel_call = ctypes.PyDLL(None, use_errno=True).syscall
kernel_call.restype = ctypes.c_long
Call = tuple[Any, ...]


class Locks:
    """The calls of one kind of cell, with every buffer that they point to."""

    def __init__(
        self,
        descriptors: tuple[int, ...],
        folder: str,
        limits: Mapping[str, int],
        uid: int | None,
        rules: tuple[int, ...],
        code: bytes,
        has_own_pids: bool,
        line: int,
        proc: int,
    ) -> None:
        """Prepare the calls.

        Args:
            descriptors: What becomes 1, 2, 3 and so on in the cell; all above that in the server.
            folder: The working folder.
            limits: Name of a resource limit, as in `resource.RLIMIT_*`, and its value.
            uid: The user to become; None to stay.
            rules: Landlock rulesets; what all of them allow is allowed.
            code: The seccomp filter.
            has_own_pids: Whether no process of ours can be seen from the cell.
            line: Where the cell says `LOCKED`, a number of its own.
            proc: Descriptor of /proc, where the cell shares a bound on memory with its server and
                has to go first when that runs out; -1 where it does not.
        """
        self.has_own_pids = has_own_pids
        kept = list(enumerate((*descriptors, *rules), 1))
        self.calls = [prepare(SETSID), prepare(CLOSE, 0)]
        if proc >= 0:
            self.calls += [
                # The files of an undumpable process belong to root.
                prepare(kernel.PRCTL, 4, 1, 0, 0, 0),
                prepare(OPENAT, proc, b"self/oom_score_adj", os.O_WRONLY, 0),
                prepare(WRITE, 0, b"1000", 4),
                prepare(CLOSE, 0),
            ]
        # Each cell opens its own null: flags and locks of an open file outlive the cell.
        self.calls.append(prepare(OPENAT, -100, b"/dev/null", os.O_RDWR | os.O_CLOEXEC, 0))
        self.calls += [
            *(prepare(DUP3, fd, target, os.O_CLOEXEC) for target, fd in kept),
            prepare(CLOSE_RANGE, len(kept) + 1, 0xFFFFFFFF, 0),
            prepare(CHDIR, folder.encode()),
            *(prepare_limit(name, value) for name, value in limits.items()),
        ]
        if uid is not None:
            self.calls.append(prepare(SETGROUPS, 0, None))
            self.calls += [prepare(number, uid, uid, uid) for number in (SETRESGID, SETRESUID)]
        no_capability = struct.pack("<Ii", 0x20080522, 0), bytes(24)
        self.calls.append(prepare(kernel.CAPSET, *no_capability))
        # A change of user clears the first two, so they come after it.
        self.calls.append(prepare(kernel.PRCTL, 1, signal.SIGKILL, 0, 0, 0))
        if not has_own_pids or proc >= 0:
            self.calls.append(prepare(kernel.PRCTL, 4, 0, 0, 0, 0))
        self.calls.append(prepare(kernel.PRCTL, 38, 1, 0, 0, 0))
        for target, _ in kept[len(descriptors) :]:
            self.calls.append(prepare(kernel.LANDLOCK_RESTRICT, target, 0))
            self.calls.append(prepare(CLOSE, target))
        self.code, self.buffer = code, ctypes.create_string_buffer(code, len(code))
        program = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(self.buffer))
        self.calls.append(prepare(kernel.PRCTL, 22, 2, program, 0, 0))
        self.calls.append(prepare(WRITE, line, LOCKED, len(LOCKED)))

    def apply(self) -> None:
        """Run in the cell: give everything up, or end with EXIT_FAILED."""
        if not self.has_own_pids:
            # Without a process namespace the filter names the cell's own process id.
            own_pid, anyone = struct.pack("<I", os.getpid()), struct.pack("<I", OWN_PID)
            self.buffer.raw = self.code.replace(anyone, own_pid)
        for call in self.calls:
            if kernel_call(*call) < 0:
                os._exit(EXIT_FAILED)


def prepare(number: int, *arguments: int | bytes | None) -> Call:
    """A system call as the C library takes it, every argument in its final form."""
    return (
        ctypes.c_long(number),
        *(ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments),
    )


def prepare_limit(name: str, value: int) -> Call:
    """Lower one limit of the calling process for good, as far as it is not lower already."""
    which = int(getattr(resource, f"RLIMIT_{name}"))
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return prepare(kernel.PRLIMIT64, 0, which, struct.pack("<QQ", value, value), None)
