"""The sandbox that needs no container engine: locked processes forked from small servers.

Place in the flow: verifiers call it from as many threads as it has slots. It finds out at start
which isolation this host really gives, refuses to run below the level that was asked for, borrows
one slot per sample, and rebuilds a slot that is lost.

What it does not do: it compares no answers; it does not hide timing or load of neighbouring
samples; below `embedded/native-user` it does not hide other processes; it runs the standard
library only.
"""

import os
import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import LifoQueue
from types import TracebackType
from typing import Literal, Self

from sdb_sandboxes.errors import SandboxUnavailable, SlotLost
from sdb_sandboxes.gate import Gate
from sdb_sandboxes.slot import Isolation, Slot
from sdb_sandboxes.types import (
    AssertionCheck,
    ExecutionRequest,
    ExecutionResult,
    ResourceLimits,
    Status,
)

Level = Literal["native-root", "native-user", "minimal"]

CANARY = ExecutionRequest("def echo(x):\n    return [x]\n", (("echo", (7,)),))


def list_ladder() -> list[tuple[Level, Isolation]]:
    """Every level this user could have, strongest first."""
    is_root = os.geteuid() == 0
    # Without a jail a user of its own must be able to reach the interpreter's folders.
    has_own_uid = is_root and is_public(Path(os.__file__).resolve())
    ladder: list[tuple[Level, Isolation]] = [
        ("native-root", Isolation("root")),
        ("native-user", Isolation("user", has_own_uid=False)),
        ("minimal", Isolation("none", has_own_uid=has_own_uid)),
    ]
    return ladder if is_root else ladder[1:]


def is_public(path: Path) -> bool:
    """Whether every folder on the way may be entered by any user."""
    return all(folder.stat().st_mode & 0o001 for folder in path.parents)


LEVELS: tuple[Level, ...] = ("minimal", "native-user", "native-root")


class EmbeddedSandbox:
    """A pool of slots on this machine. Implements `sandbox.Sandbox`; thread-safe."""

    def __init__(
        self,
        num_slots: int | None = None,
        min_level: Level = "minimal",
        max_level: Level = "native-root",
    ) -> None:
        """Start the slots at the strongest level that holds.

        Args:
            num_slots: How many samples run at once; the number of processors if None.
            min_level: Refuse to start below this.
            max_level: Do not try above this: for tests of the lower levels.

        Raises:
            ValueError: A wrong argument.
            SandboxUnavailable: The host does not give `min_level`.
        """
        num_slots = num_slots if num_slots is not None else len(os.sched_getaffinity(0))
        if num_slots < 1:
            raise ValueError(f"num_slots={num_slots}; at least 1 is needed")
        self._uids = 20_000 + 64 * secrets.randbelow(600)
        self._uid_lock = threading.Lock()
        self._gate = Gate()
        self._num_slots = num_slots
        self._is_closed = False
        self._level, self._isolation, first = choose_level(min_level, max_level, self._take_uid())
        self._landlock = first.candidates.landlock
        self._has_groups = first.group is not None
        self._free: LifoQueue[Slot | None] = LifoQueue()
        for _ in range(num_slots - 1):
            self._free.put(None)
        self._free.put(first)

    @property
    def level(self) -> str:
        """`embedded/` and the isolation that really holds."""
        return f"embedded/{self._level}"

    @property
    def layers(self) -> tuple[str, ...]:
        """Every lock that holds, for the run's record."""
        isolation = self._isolation
        held = {
            "namespaces": isolation.jail != "none",
            "own-uid": isolation.has_own_uid,
            "seccomp": True,
            f"landlock-{self._landlock}": self._landlock > 0,
            "cgroup": self._has_groups,
            "rlimits": True,
        }
        return tuple(name for name, is_held in held.items() if is_held)

    @property
    def num_slots(self) -> int:
        """How many samples run at once."""
        return self._num_slots

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        """Run a program and call its functions with plain data (trust level L3).

        Raises:
            ValueError: An argument in `request.calls` is not plain data, or the sandbox is closed.
        """
        return self._run(lambda slot: slot.call_functions(request))

    def run_assertions(
        self, program: str, check: AssertionCheck, limits: ResourceLimits
    ) -> ExecutionResult:
        """Run tests in one process against the program in another (trust level L2)."""
        return self._run(lambda slot: slot.run_assertions(program, check, limits))

    def close(self) -> None:
        """Stop every process and remove every file. Waits for running samples."""
        if self._is_closed:
            return
        self._is_closed = True
        for _ in range(self._num_slots):
            slot = self._free.get()
            if slot is not None:
                slot.close()
        for _ in range(self._num_slots):
            self._free.put(None)  # for callers that still wait: they find it closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, job: Callable[[Slot], ExecutionResult]) -> ExecutionResult:
        """Run a job on a free slot; retry what was our fault, and a stall once, alone."""
        slot = self._free.get()
        if self._is_closed:
            self._free.put(slot)
            raise ValueError("this sandbox is closed; open a new one")
        try:
            with self._gate.shared():
                slot, result = self._run_with_retry(slot, job)
            is_late = result.status is Status.WALL_TIME
            if is_late and slot is not None and slot.waiting_s > 0.1 * result.wall_s:
                # The machine was too busy to tell: once more, with nothing beside.
                with self._gate.alone():
                    slot, result = self._run_with_retry(slot, job)
            return result
        except BaseException:
            slot = None  # thrown away already: what it was doing is not finished
            raise
        finally:
            self._free.put(slot)

    def _run_with_retry(
        self, slot: Slot | None, job: Callable[[Slot], ExecutionResult]
    ) -> tuple[Slot | None, ExecutionResult]:
        """Two attempts; a canary between a candidate's second loss and blaming ourselves."""
        reason = ""
        for _ in range(2):
            try:
                slot = slot or self._build_slot()
                return slot, job(slot)
            except (SlotLost, OSError) as error:
                reason = str(error)
                discard(slot)
                slot = None
            except BaseException:
                discard(slot)
                raise
        try:
            slot = self._build_slot()
            is_alive = slot.call_functions(CANARY).status is Status.PASSED
        except (SlotLost, OSError) as error:
            reason = str(error)
            is_alive = False
        if is_alive:
            detail = f"ended its slot twice while a known-good program passes: {reason}"
            return slot, ExecutionResult(Status.RUNTIME_ERROR, (), 0.0, 0.0, 0, detail=detail)
        discard(slot)
        return None, ExecutionResult(Status.INFRASTRUCTURE, (), 0.0, 0.0, 0, detail=reason)

    def _build_slot(self) -> Slot:
        return Slot(self._isolation, self._take_uid())

    def _take_uid(self) -> int:
        """A pair of user ids that no other slot of this sandbox uses at the moment."""
        with self._uid_lock:
            self._uids = 20_000 + (self._uids - 20_000 + 2) % 40_000
            return self._uids


def discard(slot: Slot | None) -> None:
    """Throw a slot away."""
    if slot is not None:
        slot.close()


def choose_level(min_level: Level, max_level: Level, uid: int) -> tuple[Level, Isolation, Slot]:
    """Try the ladder from the top: the first level at which a known-good program passes.

    Raises:
        SandboxUnavailable: Nothing at or above `min_level` holds; the message says why.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxUnavailable(
            f"the embedded sandbox needs Linux, this is {sys.platform}; run it in a Linux container"
        )
    reasons = []
    for level, isolation in list_ladder():
        rank = LEVELS.index(level)
        if rank > LEVELS.index(max_level) or rank < LEVELS.index(min_level):
            continue
        slot: Slot | None = None
        try:
            slot = Slot(isolation, uid)
            if level == "minimal" and not isolation.has_own_uid and slot.candidates.landlock < 3:
                raise SlotLost("a program with our user needs Landlock 3 to keep off our files")
            result = slot.call_functions(CANARY)
            if result.status is Status.PASSED:
                return level, isolation, slot
            reasons.append(f"{level}: a known-good program gave {result.status}: {result.detail}")
        except (SlotLost, OSError) as error:
            reasons.append(f"{level}: {error}")
        discard(slot)
    raise SandboxUnavailable(
        f"no isolation at or above min_level={min_level!r} holds on this host "
        f"({'; '.join(reasons) or 'nothing to try'}); use a lower min_level or another host"
    )
