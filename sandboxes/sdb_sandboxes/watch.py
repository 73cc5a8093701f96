"""One loop that looks after a running sample: moves frames, drains output, enforces limits.

Place in the flow: `slot.py` starts a cell and hands its descriptors to a `Watch`; every question
goes through `Watch.exchange`, or through `Watch.stream` where one question has many answers. Output
is read all the time and capped, so a chatty program can neither block nor fill the judge. Limits
are CPU seconds of the process tree; the wall limit is a loose backstop. Nothing is spent on a
sample's clocks before the first tick, for most samples have ended by then. What it does not do: it
never waits without a deadline, it trusts no length, and it listens to no process but the cell.
"""

import _socket
import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from sdb_sandboxes.agent.codec import LOCKED, MAX_FRAME_BYTES, ProtocolError, parse_frame
from sdb_sandboxes.errors import RunStopped, SlotLost
from sdb_sandboxes.types import ResourceLimits, Status

TAIL_BYTES = 2048
TICK_S = 0.05
TREE_SCAN_S = 0.5
FIRST_LOOK_S = 0.002
"""Answers that come one by one are collected after so long, then twice as long, up to a tick."""
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LENGTH = struct.Struct("<I")
CREDENTIALS = struct.Struct("iII")
CREDENTIALS_BYTES = socket.CMSG_SPACE(CREDENTIALS.size)


class Line:
    """The judge's end of a channel, on which the kernel says who speaks."""

    def __init__(self) -> None:
        """Make both ends; `theirs` goes to the cell."""
        self.socket, self.theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.setblocking(False)
        self.arrived = bytearray()
        self.pid = 0
        """Of the cell, once it has said something."""
        self.is_locked = False
        """Whether it has said that it is locked, which comes first."""

    def close(self) -> None:
        self.socket.close()
        self.theirs.close()


class Watch:
    """Watches one cell (or the pair of an L2 run) from the judge's side."""

    def __init__(
        self,
        stdout: int,
        stderr: int,
        limits: ResourceLimits,
        read_all_cpu_s: Callable[[int], float] | None = None,
    ) -> None:
        """Start the clocks.

        Args:
            stdout: The judge's end of the candidate's pipe; so is `stderr`.
            stderr: See `stdout`.
            limits: Of this run.
            read_all_cpu_s: CPU seconds of a cell and all it started; by default its process tree.
        """
        self.read_all_cpu_s = read_all_cpu_s or read_tree_cpu_s
        self.limits = limits
        self.started = time.monotonic()
        self.num_output_bytes = 0
        self.num_answer_bytes = 0
        self.stdout = stdout
        self.lines: list[Line] = []
        self.tails = {stdout: bytearray(), stderr: bytearray()}
        self.num_kept = {stdout: TAIL_BYTES, stderr: TAIL_BYTES}
        self.lent: Line | None = None
        self.clocks: dict[int, int] = {}
        self.next_tick = self.started + min(TICK_S, limits.cpu_s / 4)
        self.next_scan = self.started + TREE_SCAN_S
        self.poller = select.poll()
        for descriptor in (stdout, stderr):
            self.poller.register(descriptor, select.POLLIN)
            os.set_blocking(descriptor, False)

    def add(self, line: Line) -> None:
        """Watch the process at the other end of a line: its CPU counts, its end ends the run."""
        self.lines.append(line)

    def lend(self, line: Line) -> None:
        """Let the tests' process talk on the program's channel: an end hangs up, tests report it.

        What the program had said before its end is still heard, so the verdict does not depend on
        who looks first.
        """
        line.socket.setblocking(True)
        self.lent = line

    def greet(self, line: Line) -> None:
        """Wait until the cell says that it is locked. Raises RunStopped as `exchange`."""
        self.talk(line, b"", [], 0, select.POLLIN)

    def exchange(self, line: Line, frame: bytes) -> dict[str, Any]:
        """Send one frame (may be empty) and wait for the one frame that answers it.

        Raises:
            RunStopped: A limit was hit, a process ended, or the other side broke the protocol.
        """
        answers: list[dict[str, Any]] = []
        self.talk(line, frame, answers, 1, select.POLLIN)
        return answers[0]

    def stream(self, line: Line, frame: bytes, num_answers: int, answers: list[Any]) -> None:
        """Send one last frame and collect so many in `answers`, also those before an early end.

        Answers wait in the kernel and do not wake the judge, but for the end of the program.

        Raises:
            RunStopped: As `exchange`.
        """
        self.talk(line, frame, answers, num_answers, select.POLLRDHUP)

    def talk(
        self, line: Line, frame: bytes, answers: list[Any], num_answers: int, wanted: int
    ) -> None:
        """Send, then receive until there are enough answers; `wanted` says what wakes the judge."""
        outgoing, descriptor = memoryview(frame), line.socket.fileno()
        is_last = wanted == select.POLLRDHUP
        patience_s = FIRST_LOOK_S if is_last else TICK_S
        try:
            outgoing = self.send(line, outgoing, is_last)
            self.poller.register(descriptor, wanted | (select.POLLOUT if outgoing else 0))
            while not self.take_frames(line, answers, num_answers):
                now = time.monotonic()
                wait_s = max(0.0, min(self.next_tick - now, patience_s))
                ready = dict(self.poller.poll(wait_s * 1000))
                if time.monotonic() >= self.next_tick:
                    self.check_limits()
                for pipe in self.tails:
                    if pipe in ready:
                        self.drain(pipe)
                events = ready.get(descriptor, 0)
                if outgoing and events & select.POLLOUT:
                    outgoing = self.send(line, outgoing, is_last)
                    if not outgoing:
                        self.poller.modify(descriptor, wanted)
                num_bytes = self.num_answer_bytes
                if is_last or events & ~select.POLLOUT:
                    self.receive(line, answers, num_answers)
                has_little = self.num_answer_bytes - num_bytes < 1 << 15
                patience_s = min(2 * patience_s, TICK_S) if has_little else FIRST_LOOK_S
                if not events and not self.take_frames(line, answers, num_answers):
                    self.notice_ends(ready)
        except OSError:
            raise RunStopped(Status.RUNTIME_ERROR, "the channel was closed") from None
        finally:
            with contextlib.suppress(KeyError):
                self.poller.unregister(descriptor)

    def send(self, line: Line, outgoing: memoryview, is_last: bool) -> memoryview:
        """Send what fits; what is left. After the last byte nobody waits for another in vain."""
        if outgoing:
            with contextlib.suppress(BlockingIOError):
                outgoing = outgoing[line.socket.send(outgoing) :]
        if is_last and not outgoing:
            line.socket.shutdown(socket.SHUT_WR)
        return outgoing

    def notice_ends(self, ready: dict[int, int]) -> None:
        """Stop once a watched process is gone and says nothing any more."""
        ended = [pidfd for pidfd in self.clocks.values() if pidfd in ready]
        if not ended:
            return
        if self.lent is None:
            raise RunStopped(Status.RUNTIME_ERROR, "a process ended without an answer")
        self.lent.socket.shutdown(socket.SHUT_RDWR)
        self.lent = None
        for pidfd in ended:
            self.poller.unregister(pidfd)

    def feed(self, line: Line, text: bytes) -> None:
        """Send all of the standard input, close it, and wait until a process has ended.

        Raises:
            RunStopped: A limit was hit.
        """
        channel = line.socket
        self.start_clocks()
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

    def receive(self, line: Line, answers: list[Any], num_answers: int) -> None:
        """Take in all that has come. Raises RunStopped at the end of it, or if it is too much."""
        while True:
            try:
                piece, ancillary, _, _ = line.socket.recvmsg(1 << 16, CREDENTIALS_BYTES)
            except BlockingIOError:
                return
            if not piece:
                if self.take_frames(line, answers, num_answers):
                    return
                raise RunStopped(Status.RUNTIME_ERROR, "the channel was closed")
            self.check_speaker(line, CREDENTIALS.unpack(ancillary[0][2])[0] if ancillary else 0)
            line.arrived += piece
            self.num_answer_bytes += len(piece)
            if self.num_answer_bytes > self.limits.answer_bytes:
                detail = f"answered with more than answer_bytes={self.limits.answer_bytes}"
                raise RunStopped(Status.OUTPUT, detail)
            if len(piece) < 1 << 15:
                return

    def check_speaker(self, line: Line, pid: int) -> None:
        """Learn who the cell is; hear nobody else, such as a child that outlives it."""
        if pid < 1:
            raise SlotLost("the cell's process id is not visible here")
        if line.pid not in (0, pid):
            break_protocol("another process spoke")
        line.pid = pid

    def take_frames(self, line: Line, answers: list[Any], num_answers: int) -> bool:
        """Cut off whole frames up to the number wanted; what follows waits for the next question.

        Returns whether there are enough.
        """
        arrived, place = line.arrived, 0
        try:
            while (not line.is_locked or len(answers) < num_answers) and len(arrived) >= place + 4:
                (length,) = LENGTH.unpack_from(arrived, place)
                if length > MAX_FRAME_BYTES:
                    break_protocol("frame of a wrong length")
                end = place + 4 + length
                if len(arrived) < end:
                    break
                if line.is_locked:
                    answers.append(parse_frame(arrived[place + 4 : end]))
                elif arrived[place:end] != LOCKED:
                    break_protocol("spoke before it was locked")
                line.is_locked = True
                place = end
        except ProtocolError as error:
            break_protocol(str(error))
        finally:
            del arrived[:place]
        return line.is_locked and len(answers) >= num_answers

    def is_alive(self, line: Line) -> bool:
        """Whether the process at the other end of a line still runs."""
        self.start_clocks()
        return not select.select([self.clocks[line.pid]], [], [], 0)[0]

    def start_clocks(self) -> None:
        """Open a descriptor of every process that has spoken, to hear of its end."""
        for line in self.lines:
            if line.pid and line.pid not in self.clocks:
                with contextlib.suppress(ProcessLookupError):
                    self.clocks[line.pid] = os.pidfd_open(line.pid)
                    self.poller.register(self.clocks[line.pid], select.POLLIN)

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
        self.start_clocks()
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


def break_protocol(detail: str) -> NoReturn:
    """End a run whose program said what no honest one can."""
    raise RunStopped(Status.RUNTIME_ERROR, f"broke the protocol: {detail}") from None


def read_cpu_s(pid: int) -> float:
    """CPU seconds of one process, all threads: clock id as in clock_getcpuclockid(3)."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def read_waiting_s(pids: Iterable[int]) -> float:
    """Seconds that processes and their living descendants were ready but had no processor.

    Infinite where the kernel hides it.
    """
    try:
        return sum(read_own_waiting_s(pid) for root in pids for pid in read_tree(root))
    except (OSError, ValueError, IndexError):
        return float("inf")


def read_own_waiting_s(pid: int) -> float:
    """The same of one process, its first thread. Raises OSError where the kernel hides it."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


def read_tree_cpu_s(root: int) -> float:
    """CPU seconds of a process, its children that ended, its living descendants and its group."""
    return sum(read_tree(root).values())


def read_tree(root: int) -> dict[int, float]:
    """A process, its living descendants and its group: CPU seconds with children that ended."""
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
    return {pid: cpu_s.get(pid, 0.0) for pid in tree}
