"""A slot: the judge's handle on its two fork servers, and one sample's life between them.

Place in the flow: `pool.py` keeps the slots and borrows one per sample; a `Launcher` starts their
servers. A slot has one zygote for candidates and, once needed, one for tests; each keeps only its
own descriptors. What it does not do: it knows nothing of levels of isolation, never decides on
retries, and compares no answers.
"""

import contextlib
import json
import marshal
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

from sdb_sandboxes.agent.codec import (
    EXIT_FAILED,
    EXIT_MEMORY,
    Foreign,
    ProtocolError,
    UnsendableError,
    decode,
    pack_data,
    pack_order,
    simplify,
)
from sdb_sandboxes.commands import run_commands
from sdb_sandboxes.errors import RunStopped, SlotLost
from sdb_sandboxes.launch import Launcher, Server
from sdb_sandboxes.remember import Remember
from sdb_sandboxes.scripts import run_python
from sdb_sandboxes.types import (
    AssertionCheck,
    CallOutcome,
    Calls,
    ExecutionRequest,
    ExecutionResult,
    ObjectCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
)
from sdb_sandboxes.watch import Line, Watch, read_waiting_s

REPLY_S = 30
"""Seconds that a server may take to fork or to bury before it counts as lost."""
TIMEVAL = struct.Struct("ll")
MAX_PROGRAM_BYTES = 1 << 20
SIGKILL = 9
CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
SUSPECT = CONTAINERS | {Foreign}
"""Types of decoded values that may be, or hold, an object that could not travel."""


class Zygote:
    """The judge's end of the conversation with one fork server."""

    def __init__(self, server: Server) -> None:
        """Configure the server and wait until it is locked up. Raises SlotLost with its reason."""
        self.server = server
        self.control = server.control
        # In the kernel: a time-out of Python's would ask before every call whether it may block.
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.control.setsockopt(socket.SOL_SOCKET, direction, TIMEVAL.pack(REPLY_S, 0))
        try:
            hello = json.loads(self.ask(json.dumps(server.config).encode()))
        except SlotLost:
            self.close()
            raise
        self.landlock = int(hello["landlock"])

    def ask(self, order: bytes) -> bytes:
        """Send an order and return the answer. Raises SlotLost if there is none."""
        try:
            self.control.send(order)
            answer = self.control.recv(4096)
        except OSError as error:
            raise SlotLost(f"the fork server does not answer: {error}") from None
        return check_answer(answer)

    def fork(
        self,
        limits: ResourceLimits,
        descriptors: tuple[int, ...],
        job: dict[str, object] | None = None,
    ) -> None:
        """Start a cell around stdout, stderr, channel (and verdict); it will speak for itself."""
        numbers = {
            **(job or {}),
            # A hard stop in the kernel, above the exact limit that the watch enforces.
            "cpu_s": ceil(limits.cpu_s) + 1,
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
            "num_processes": limits.num_processes,
            "allow_programs": limits.allow_programs,
        }
        try:
            rights = struct.pack(f"{len(descriptors)}i", *descriptors)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            self.control.sendmsg([b"F" + marshal.dumps(numbers)], ancillary)
        except OSError as error:
            raise SlotLost(f"the fork server does not answer: {error}") from None

    def wipe(self) -> None:
        """Empty the folder that the commands of one request shared."""
        self.ask(b"W")

    def kill(self) -> tuple[int, float, int]:
        """End the cell and all it started: (wait status, CPU seconds, peak bytes)."""
        status, cpu_s, peak_bytes = struct.unpack("<idq", self.ask(b"K"))
        return int(status), float(cpu_s), int(peak_bytes)

    def close(self) -> None:
        """End the server, wherever it runs."""
        self.server.end()


@dataclass
class Run:
    """The judge's ends of one running sample."""

    watch: Watch
    line: Line


class Slot:
    """One place where one sample at a time runs."""

    def __init__(self, launcher: Launcher) -> None:
        """Start the candidates' server. Raises SlotLost."""
        self.launcher = launcher
        self.tests: Zygote | None = None
        self.waiting_s = 0.0
        try:
            self.candidates = Zygote(launcher.launch("candidate"))
            if launcher.group is not None:
                launcher.group.learn_own_bytes()
        except BaseException:
            launcher.close()
            raise

    def close(self) -> None:
        """Stop both servers and everything below them."""
        self.candidates.close()
        if self.tests is not None:
            self.tests.close()
            self.tests = None
        self.launcher.close()

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        """Run one L3 request. Raises SlotLost if the slot must be thrown away."""
        calls = find_packed_calls(request.calls)
        frame = pack_order({"program": request.program, "calls": calls})
        answers: list[dict[str, Any]] = []
        outcomes: list[CallOutcome] = []

        def answer_all(run: Run) -> None:
            check_length(request.program)
            try:
                run.watch.stream(run.line, frame, 1 + len(request.calls), answers)
            finally:
                # What it said before a bad end counts.
                if answers:
                    check_loaded(answers[0])
                for number, reply in enumerate(answers[1:], 1):
                    outcomes.append(read_outcome(reply, number))

        with self.open_run(request.limits) as run:
            result = self.finish(run, request.limits, answer_all)
        return replace(result, outcomes=tuple(outcomes))

    def run_assertions(
        self, program: str, check: AssertionCheck | ObjectCheck, limits: ResourceLimits
    ) -> ExecutionResult:
        """Run one L2 or L2b request. Raises SlotLost if the slot must be thrown away."""
        nonce, counts = secrets.token_hex(16), [0, 0]
        frame = pack_order({**asdict(check), "nonce": nonce})

        def ask_tests(run: Run) -> None:
            check_length(program)
            check_loaded(run.watch.exchange(run.line, pack_order({"program": program})))
            # From here on the test process alone talks to the candidate, and it waits patiently.
            run.watch.lend(run.line)
            try:
                report = run.watch.exchange(verdict, frame)
            except RunStopped as stopped:
                is_tests_fault = stopped.status is Status.RUNTIME_ERROR
                if is_tests_fault and run.watch.is_alive(run.line):
                    raise SlotLost("the tests' process ended without a report") from None
                raise
            counts[:] = report.get("tests", counts)
            read_report(report, nonce)

        # Started before the run: what a server takes to start is not the candidate's time.
        tests = self.tests = self.tests or Zygote(self.launcher.launch("tests"))
        with self.open_run(limits) as run, contextlib.ExitStack() as stack:
            verdict = Line()
            stack.callback(verdict.close)
            null = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, null)
            tests.fork(limits, (null, null, run.line.socket.fileno(), verdict.theirs.fileno()))
            verdict.theirs.close()
            stack.callback(tests.kill)
            run.watch.add(verdict)
            result = self.finish(run, limits, ask_tests)
        return replace(result, num_tests_run=counts[0], num_tests_passed=counts[1])

    def run_program(self, request: ProgramRequest) -> ExecutionResult:
        """Run a whole program. Raises SlotLost if the slot must be thrown away."""
        try:
            for _, text in request.files:
                check_length(text)
        except RunStopped as stopped:
            return ExecutionResult(stopped.status, (), 0.0, 0.0, 0, detail=stopped.detail)
        if request.language != "python":
            return run_commands(self, request)
        return run_python(self, request)

    @contextlib.contextmanager
    def open_run(
        self, limits: ResourceLimits, job: dict[str, object] | None = None
    ) -> Iterator[Run]:
        """Fork a locked cell with empty hands; close every descriptor at the end.

        `job` says what kind of cell, see `Zygote.fork` of the agent; a program to call if None.
        """
        if self.launcher.max_limits is not None:
            check_limits(limits, self.launcher.max_limits)
        if self.launcher.group is not None:
            self.launcher.group.prepare(limits)
        with contextlib.ExitStack() as stack:
            line = Line()
            stack.callback(line.close)
            pipes = [os.pipe(), os.pipe()]
            for reader, _ in pipes:
                stack.callback(os.close, reader)
            try:
                ends = (pipes[0][1], pipes[1][1], line.theirs.fileno())
                self.candidates.fork(limits, ends, job)
            finally:
                line.theirs.close()
                for _, writer in pipes:
                    os.close(writer)
            watch = Watch(pipes[0][0], pipes[1][0], limits, self.launcher.read_cpu_s)
            stack.callback(watch.close)
            watch.add(line)
            yield Run(watch, line)

    def finish(
        self, run: Run, limits: ResourceLimits, converse: Any, must_end_well: bool = False
    ) -> ExecutionResult:
        """Hold the conversation, end the cell, and name how it ended.

        With `must_end_well` the cell has ended by itself, and anything but exit code 0 is an error.
        """
        status, detail = Status.PASSED, ""
        try:
            converse(run)
        except RunStopped as stopped:
            status, detail = stopped.status, stopped.detail
        wall_s = time.monotonic() - run.watch.started
        self.waiting_s = read_waiting_s(run.watch.clocks) if status is Status.WALL_TIME else 0.0
        wait_status, cpu_s, peak_bytes = self.candidates.kill()
        run.watch.drain_rest()
        signal_number = os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else None
        exit_code = os.WEXITSTATUS(wait_status) if os.WIFEXITED(wait_status) else None
        group = self.launcher.group
        if group is not None:
            peak_bytes = max(peak_bytes, group.read_peak_bytes())
        if must_end_well and status is Status.PASSED and wait_status:
            status = Status.RUNTIME_ERROR
        # What the kernel says about the end outranks how it looked from the channel.
        if cpu_s > limits.cpu_s and status in (Status.PASSED, Status.RUNTIME_ERROR):
            status = Status.CPU_TIME
            detail = f"used more than cpu_s={limits.cpu_s:g} seconds of CPU"
        elif status is Status.RUNTIME_ERROR:
            if exit_code == EXIT_FAILED and not run.line.is_locked:
                raise SlotLost("the cell could not be locked")
            if group is not None and group.was_out_of_processes():
                status = Status.PROCESSES
            if exit_code == EXIT_MEMORY:
                status, detail = Status.MEMORY, "ran out of memory"
            elif group is not None and group.was_out_of_memory():
                status, detail = Status.MEMORY, "killed for memory"
            elif signal_number not in (None, SIGKILL):
                detail = f"died by signal {signal_number}"
            elif exit_code is not None and not detail.startswith("broke"):
                detail = f"the process ended with exit code {exit_code}"
        tails = [tail.decode("utf-8", "replace") for tail in run.watch.tails.values()]
        return ExecutionResult(
            status=status,
            outcomes=(),
            cpu_s=cpu_s,
            wall_s=wall_s,
            peak_memory_bytes=peak_bytes,
            stdout_tail=tails[0],
            stderr_tail=tails[1],
            signal=signal_number if status is not Status.PASSED else None,
            exit_code=exit_code,
            is_output_truncated=run.watch.num_output_bytes
            > sum(map(len, run.watch.tails.values())),
            detail=detail,
        )


def check_answer(answer: bytes) -> bytes:
    """What the server said after its `.`. Raises SlotLost if it died or could not obey."""
    if not answer:
        raise SlotLost("the fork server died")
    if answer[:1] != b".":
        raise SlotLost(answer[1:].decode("utf-8", "replace"))
    return answer[1:]


def check_limits(limits: ResourceLimits, most: ResourceLimits) -> None:
    """Refuse a request that the slot was not made for. Raises ValueError."""
    for name in ("memory_bytes", "file_bytes", "num_processes"):
        if getattr(limits, name) > getattr(most, name):
            raise ValueError(
                f"{name}={getattr(limits, name)} is above the {getattr(most, name)} of this "
                "sandbox's slots; open it with higher max_limits"
            )


def pack_calls(calls: Calls) -> bytes:
    """The calls as they travel. Raises ValueError if an argument is not plain data."""
    packed = []
    for number, (name, arguments) in enumerate(calls, 1):
        try:
            packed.append((name, simplify(arguments)))
        except UnsendableError as error:
            raise ValueError(
                f"call {number} of {name!r} has an argument that is not plain data: {error}; "
                "use None, bool, int, float, complex, str, bytes and their containers"
            ) from None
    return pack_data(packed)


find_packed_calls = Remember(pack_calls)


def check_length(program: str) -> None:
    """Refuse a program that is too long before anybody parses it. Raises RunStopped."""
    num_bytes = len(program.encode("utf-8", "surrogatepass"))
    if num_bytes > MAX_PROGRAM_BYTES:
        detail = f"a program of {num_bytes} bytes; the limit is {MAX_PROGRAM_BYTES}"
        raise RunStopped(Status.COMPILE_ERROR, detail)


def check_loaded(reply: dict[str, Any]) -> None:
    """Whether the program was loaded. Raises RunStopped if it could not be."""
    if "failed" in reply:
        name = read_name(reply["failed"])
        if reply.get("stage") == "compile":
            raise RunStopped(Status.COMPILE_ERROR, f"{name} while compiling")
        is_memory = name == "MemoryError"
        status = Status.MEMORY if is_memory else Status.RUNTIME_ERROR
        raise RunStopped(status, f"{name} while loading")
    if reply != {"ready": True}:
        raise RunStopped(Status.RUNTIME_ERROR, "broke the protocol: unknown answer")


def read_report(report: dict[str, Any], nonce: str) -> None:
    """Accept the tests' success or raise RunStopped with what went wrong."""
    name, num_calls = read_name(report.get("error")), report.get("num_calls")
    if report.get("nonce") == nonce:
        if not num_calls:
            raise RunStopped(Status.WRONG_ANSWER, "the tests never called the program")
        return
    if report.get("failure"):
        raise RunStopped(Status.WRONG_ANSWER, f"{str(report['failure'])[:200]} failed")
    if report.get("stage") != "check" and not num_calls:
        # Once the program was called, it may be what kept the tests from being loaded.
        raise RunStopped(Status.INFRASTRUCTURE, f"the tests cannot be loaded: {name}")
    if name == "CandidateGone":
        raise RunStopped(Status.RUNTIME_ERROR, f"the program ended in call {num_calls}")
    if report.get("is_candidates"):
        status = Status.MEMORY if name == "MemoryError" else Status.RUNTIME_ERROR
        raise RunStopped(status, f"call {num_calls} raised {name}")
    raise RunStopped(Status.WRONG_ANSWER, f"the tests ended with {name} after call {num_calls}")


def read_outcome(reply: dict[str, Any], number: int) -> CallOutcome:
    """Decode one answer without trusting it."""
    if reply.get("id") != number or not ("e" in reply or "v" in reply):
        raise RunStopped(Status.RUNTIME_ERROR, "broke the protocol: answer to another question")
    if "e" in reply:
        return CallOutcome(exception=read_name(reply["e"]))
    try:
        value = decode(reply["v"])
    except (ProtocolError, RecursionError) as error:
        raise RunStopped(Status.RUNTIME_ERROR, f"broke the protocol: {error}") from None
    if type(value) in SUSPECT and contains_foreign(value):
        return CallOutcome(exception="Undecodable")
    return CallOutcome(value)


def read_name(name: Any) -> str:
    """The name of an exception as one harmless word, for it ends up in records and logs."""
    is_harmless = isinstance(name, str) and name.isidentifier() and name.isascii()
    return name if is_harmless and len(name) <= 80 else "an exception of a strange name"


def contains_foreign(value: Any) -> bool:
    """Whether a decoded value holds an object that could not travel."""
    kind = type(value)
    if kind is dict:
        return contains_foreign([*value, *value.values()])
    if kind not in CONTAINERS:
        return kind is Foreign
    kinds = set(map(type, value))
    if Foreign in kinds or kinds.isdisjoint(CONTAINERS):
        return Foreign in kinds
    return any(contains_foreign(item) for item in value)
