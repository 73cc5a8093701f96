"""One loop that looks after a running sample: moves frames, drains output, enforces limits.

Place in the flow: `slot.py` starts a cell and hands its descriptors to a `Watch`; every question
goes through `Watch.exchange`. Output is read all the time and capped, so a chatty program can
neither block nor fill the judge. Limits are CPU seconds of the process tree; the wall limit is a
loose backstop. What it does not do: it never waits without a deadline, and it trusts no length.
"""

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any

from sdb_sandboxes.agent.codec import MAX_FRAME_BYTES, ProtocolError, parse_frame
from sdb_sandboxes.errors import RunStopped
from sdb_sandboxes.types import ResourceLimits, Status

TAIL_BYTES = 2048
TICK_S = 0.05
TREE_SCAN_S = 0.5
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Watch:
    """Watches one cell (or the pair of an L2 run) from the judge's side."""

    def __init__(
        self,
        pids: Iterable[int],
        stdout: int,
        stderr: int,
        limits: ResourceLimits,
        read_all_cpu_s: Callable[[int], float] | None = None,
    ) -> None:
        """Start the clocks.

        Args:
            pids: The cells.
            stdout: The judge's end of the candidate's pipe; so is `stderr`.
            stderr: See `stdout`.
            limits: Of this run.
            read_all_cpu_s: CPU seconds of a cell and all it started; by default its process tree.
        """
        self.read_all_cpu_s = read_all_cpu_s or read_tree_cpu_s
        self.limits = limits
        self.started = time.monotonic()
        self.num_output_bytes = 0
        self.num_frames = 0
        self.num_answer_bytes = 0
        self.stdout = stdout
        self.tails = {stdout: bytearray(), stderr: bytearray()}
        self.num_kept = {stdout: TAIL_BYTES, stderr: TAIL_BYTES}
        self.arrived: dict[int, bytearray] = {}
        self.line: socket.socket | None = None
        self.clocks = {pid: os.pidfd_open(pid) for pid in pids}
        self.next_tick = self.started + min(TICK_S, limits.cpu_s / 4)
        self.next_scan = self.started + TREE_SCAN_S
        self.poller = select.poll()
        for descriptor in (stdout, stderr, *self.clocks.values()):
            self.poller.register(descriptor, select.POLLIN)
        os.set_blocking(stdout, False)
        os.set_blocking(stderr, False)

    def add_process(self, pid: int) -> None:
        """Watch one more process: its CPU time counts, its end ends the run."""
        self.clocks[pid] = os.pidfd_open(pid)
        self.poller.register(self.clocks[pid], select.POLLIN)

    def lend(self, line: socket.socket) -> None:
        """Let the tests' process talk on the program's channel: an end hangs up, tests report it.

        What the program had said before its end is still heard, so the verdict does not depend on
        who looks first; a child that holds the other end has no voice.
        """
        line.setblocking(True)
        self.line = line

    def exchange(self, channel: socket.socket, frame: bytes) -> dict[str, Any]:
        """Send one frame (may be empty) and wait for the one frame that answers it.

        Raises:
            RunStopped: A limit was hit, a process ended, or the other side broke the protocol.
        """
        channel.setblocking(False)
        outgoing, descriptor = memoryview(frame), channel.fileno()
        incoming = self.arrived.setdefault(descriptor, bytearray())
        try:
            while True:
                message = None if outgoing else self.take_frame(incoming)
                if message is not None:
                    return message
                events = select.POLLIN | (select.POLLOUT if outgoing else 0)
                self.poller.register(descriptor, events)
                ready = dict(self.poller.poll(max(0.0, self.next_tick - time.monotonic()) * 1000))
                if time.monotonic() >= self.next_tick:
                    self.check_limits()
                for pipe in self.tails:
                    if pipe in ready:
                        self.drain(pipe)
                if descriptor in ready:
                    if outgoing and ready[descriptor] & select.POLLOUT:
                        outgoing = outgoing[channel.send(outgoing) :]
                    if ready[descriptor] & (select.POLLIN | select.POLLHUP | select.POLLERR):
                        self.receive(channel, incoming)
                elif ended := [pidfd for pidfd in self.clocks.values() if pidfd in ready]:
                    if self.line is not None:
                        self.line.shutdown(socket.SHUT_RDWR)
                        self.line = None
                        for pidfd in ended:
                            self.poller.unregister(pidfd)
                        continue
                    raise RunStopped(Status.RUNTIME_ERROR, "a process ended without an answer")
        except OSError:
            raise RunStopped(Status.RUNTIME_ERROR, "the channel was closed") from None
        finally:
            with contextlib.suppress(KeyError):
                self.poller.unregister(descriptor)

    def feed(self, channel: socket.socket, text: bytes) -> None:
        """Send all of the standard input, close it, and wait until a process has ended.

        Raises:
            RunStopped: A limit was hit.
        """
        channel.setblocking(False)
        outgoing = memoryview(text)
        self.poller.register(channel, select.POLLOUT)
        is_open = True
        while True:
            ready = dict(self.poller.poll(max(0.0, self.next_tick - time.monotonic()) * 1000))
            if time.monotonic() >= self.next_tick:
                self.check_limits()
            for pipe in self.tails:
                if pipe in ready:
                    self.drain(pipe)
            if is_open and channel.fileno() in ready:
                try:
                    outgoing = outgoing[channel.send(outgoing) :] if outgoing else outgoing
                except BlockingIOError:
                    continue
                except OSError:
                    outgoing = outgoing[:0]  # the program closed its standard input
                if not outgoing:
                    self.poller.unregister(channel)
                    is_open = False
                    with contextlib.suppress(OSError):
                        channel.shutdown(socket.SHUT_WR)
            if any(pidfd in ready for pidfd in self.clocks.values()):
                return

    def receive(self, channel: socket.socket, incoming: bytearray) -> None:
        """Add what has come. Raises RunStopped at the end of it, or if it is too much."""
        piece = channel.recv(1 << 20)
        if not piece:
            raise RunStopped(Status.RUNTIME_ERROR, "the channel was closed")
        incoming += piece
        self.num_answer_bytes += len(piece)
        if self.num_answer_bytes > self.limits.answer_bytes:
            detail = f"answered with more than answer_bytes={self.limits.answer_bytes}"
            raise RunStopped(Status.OUTPUT, detail)

    def take_frame(self, incoming: bytearray) -> dict[str, Any] | None:
        """Cut the first frame off, once it is whole; what follows waits for the next question."""
        if len(incoming) < 4:
            return None
        (length,) = struct.unpack_from("<I", incoming)
        if length > MAX_FRAME_BYTES:
            raise RunStopped(Status.RUNTIME_ERROR, "broke the protocol: frame of a wrong length")
        if len(incoming) < length + 4:
            return None
        body = bytes(incoming[4 : length + 4])
        del incoming[: length + 4]
        self.num_frames += 1
        try:
            return parse_frame(body)
        except ProtocolError as error:
            raise RunStopped(Status.RUNTIME_ERROR, f"broke the protocol: {error}") from None

    def is_alive(self, pid: int) -> bool:
        """Whether a watched process still runs."""
        return not select.select([self.clocks[pid]], [], [], 0)[0]

    def drain(self, pipe: int) -> None:
        """Read what the program printed, keep the tail, stop it above the output limit."""
        try:
            piece = os.read(pipe, 1 << 16)
        except BlockingIOError:
            return
        if not piece:
            self.poller.unregister(pipe)
            return
        self.num_output_bytes += len(piece)
        self.tails[pipe] += piece
        if len(self.tails[pipe]) > self.num_kept[pipe]:
            del self.tails[pipe][: -self.num_kept[pipe]]
        if self.num_output_bytes > self.limits.output_bytes:
            detail = f"printed more than output_bytes={self.limits.output_bytes}"
            raise RunStopped(Status.OUTPUT, detail)

    def drain_rest(self) -> None:
        """After the end: read what is still in the pipes, within the limit."""
        for pipe in self.tails:
            before = -1
            while before != self.num_output_bytes:
                before = self.num_output_bytes
                with contextlib.suppress(RunStopped, KeyError):
                    self.drain(pipe)
                if self.num_output_bytes > self.limits.output_bytes:
                    break

    def check_limits(self) -> None:
        """Compare CPU and wall time with the limits. Raises RunStopped at the first one hit."""
        now = time.monotonic()
        for pid in self.clocks:
            cpu_s = read_cpu_s(pid)
            if now >= self.next_scan:
                cpu_s = max(cpu_s, self.read_all_cpu_s(pid))
            if cpu_s > self.limits.cpu_s:
                detail = f"used more than cpu_s={self.limits.cpu_s:g} seconds of CPU"
                raise RunStopped(Status.CPU_TIME, detail)
        if now - self.started > self.limits.wall_s:
            raise RunStopped(Status.WALL_TIME, f"took longer than wall_s={self.limits.wall_s:g}")
        if now >= self.next_scan:
            self.next_scan = now + TREE_SCAN_S
        left_s = self.limits.wall_s - (now - self.started)
        self.next_tick = now + min(TICK_S, self.limits.cpu_s / 4, left_s + 0.001)

    def close(self) -> None:
        """Close the process descriptors; the pipes belong to the slot."""
        for pidfd in self.clocks.values():
            os.close(pidfd)
        self.clocks = {}


def read_cpu_s(pid: int) -> float:
    """CPU seconds of one process, all threads: clock id as in clock_getcpuclockid(3)."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def read_waiting_s(pid: int) -> float:
    """Seconds a process was ready but had no processor; infinite where the kernel hides it."""
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return float("inf")


def read_tree_cpu_s(root: int) -> float:
    """CPU seconds of a process, its children that ended, its living descendants and its group."""
    parents: dict[int, int] = {}
    cpu_s: dict[int, float] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            # Bytes: a process chooses its own name, and it need not be text.
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rsplit(b")", 1)[1].split()
            # Without a pid namespace orphans leave the tree, but never the group.
            parents[int(name)] = root if int(fields[2]) == root else int(fields[1])
            cpu_s[int(name)] = sum(int(field) for field in fields[11:15]) / CLOCK_TICKS_PER_S
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(cpu_s.get(pid, 0.0) for pid in tree)
