"""A pool of slots, whatever they are made of: borrowing, retrying, rebuilding, blaming.

Place in the flow: `EmbeddedSandbox` and `DockerSandbox` are this pool with a way to build slots;
verifiers call it from as many threads as it has slots. A slot that is lost is thrown away and its
job runs again on a new one; only a job that loses two slots while a known-good program passes is
the candidate's fault. What it does not do: it knows nothing of isolation and compares no answers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import LifoQueue
from types import TracebackType
from typing import Self

from sdb_sandboxes.errors import SlotLost
from sdb_sandboxes.gate import Gate
from sdb_sandboxes.languages import find_language
from sdb_sandboxes.slot import Slot
from sdb_sandboxes.types import (
    AssertionCheck,
    ExecutionRequest,
    ExecutionResult,
    ObjectCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
)

CANARY = ExecutionRequest("def echo(x):\n    return [x]\n", (("echo", (7,)),))


class SlotPool:
    """The part of every sandbox that is the same. Thread-safe; see `sandbox.Sandbox`."""

    def __init__(
        self,
        num_slots: int,
        build_slot: Callable[[], Slot],
        first: Slot,
        languages: tuple[str, ...] = ("python",),
    ) -> None:
        """Fill the pool with one slot that is warm already; the others are built when needed.

        Args:
            num_slots: How many samples run at once.
            build_slot: Makes a slot; raises SlotLost or OSError if it cannot.
            first: A slot that has passed `CANARY`.
            languages: What `run_program` can run here.
        """
        self._num_slots = num_slots
        self._languages = languages
        self._build_slot = build_slot
        self._gate = Gate()
        self._is_closed = False
        self._free: LifoQueue[Slot | None] = LifoQueue()
        for _ in range(num_slots - 1):
            self._free.put(None)
        self._free.put(first)

    @property
    def image(self) -> str:
        """Content address of the image that programs run in; empty where there is none."""
        return ""

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
        self, program: str, check: AssertionCheck | ObjectCheck, limits: ResourceLimits
    ) -> ExecutionResult:
        """Run tests in one process against the program in another (L2, L2b)."""
        return self._run(lambda slot: slot.run_assertions(program, check, limits))

    def run_program(self, request: ProgramRequest) -> ExecutionResult:
        """Run a whole program once per text of standard input.

        Raises:
            ValueError: A language or a path that cannot be, or the sandbox is closed.
        """
        if request.language not in self._languages:
            image = find_language(request.language).image
            raise ValueError(
                f"this sandbox runs {', '.join(self._languages)}, not {request.language}; make its "
                f"image with `sdbench sandbox build {image}` and open the Docker sandbox with it"
            )
        return self._run(lambda slot: slot.run_program(request))

    @contextmanager
    def borrow(self) -> Iterator[Slot]:
        """A slot that nothing runs in meanwhile: for looking at it. Raises SlotLost."""
        slot = self._free.get()
        try:
            slot = slot or self._build_slot()
            yield slot
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """Stop every process and remove every file. Waits for running samples."""
        if self._is_closed:
            return
        self._is_closed = True
        for _ in range(self._num_slots):
            discard(self._free.get())
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


def discard(slot: Slot | None) -> None:
    """Throw a slot away."""
    if slot is not None:
        slot.close()
