"""A judge: verdicts from any process, thread or event loop, many at once, none lost.

Place in the flow: reward adapters and the HTTP service ask a `Judge`; it opens a sandbox in its own
process the first time, keeps a thread per slot, and calls `verifiers.verify`. A `Judge` is only
configuration: it pickles, and equal ones in one process share a sandbox. After a fork the child
opens its own; a spawned or Ray worker does so after unpickling.

Programs wait in a bounded queue in which groups take turns. Equal programs with the same check are
judged once, at the same time or later. What it does not do: a program that already runs is not
stopped by cancelling, its limits end it.
"""

import asyncio
import atexit
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.rewards.fair_queue import FairQueue, make_closed_error
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import Check, ResourceLimits, Status, Verdict
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.wire import check_from_json, check_to_json

T = TypeVar("T")

NUM_ATTEMPTS = 2
"""How often a program is judged before an infrastructure fault is reported."""

NOT_REMEMBERED = (Status.INFRASTRUCTURE, Status.WALL_TIME)
"""What may be different the next time."""


class Candidate(NamedTuple):
    """One program to judge."""

    program: str
    check: Check | str
    """A check, or its text as `wire.check_to_json` writes it."""
    limits: ResourceLimits | None = None
    """None: the judge's."""


@dataclass(frozen=True)
class Judge:
    """Configuration of a sandbox per process, with the calls that use it. Thread-safe."""

    sandbox: str = "embedded"
    """Name for `open_sandbox`."""
    num_slots: int | None = None
    """Programs at once in this process; None: one per processor. Use 1 in many workers."""
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    max_waiting: int = 1024
    """Programs that may wait; who brings more waits for a place."""
    num_remembered: int = 4096
    """Verdicts kept for equal programs with the same check; 0 judges each one anew."""

    def __post_init__(self) -> None:
        if self.max_waiting < 1:
            raise ValueError(f"max_waiting={self.max_waiting}; at least 1 is needed")
        if self.num_remembered < 0:
            raise ValueError(f"num_remembered={self.num_remembered}; use 0 to remember nothing")

    def verify(
        self,
        program: str,
        check: Check | str,
        limits: ResourceLimits | None = None,
        group: str | None = None,
    ) -> Verdict:
        """Judge one program; blocks until its verdict is there.

        Args:
            program: The whole source.
            check: A check or its JSON text.
            limits: Other limits than the judge's.
            group: Whose turn it takes in the queue; None: the check's.

        Raises:
            ValueError: The check is malformed.
            SandboxUnavailable: This host cannot isolate programs well enough.
        """
        return self.verify_batch([Candidate(program, check, limits)], group)[0]

    def verify_batch(
        self, candidates: Iterable[Candidate], group: str | None = None
    ) -> list[Verdict]:
        """Judge many; verdicts in the same order. Draws candidates only as fast as places free."""
        crew = open_crew(self)
        tickets: list[Future[Verdict]] = []
        try:
            for candidate in candidates:
                order = self._make_order(candidate, group)
                if (ticket := crew.join(order)) is None:
                    wait_for_place(crew.queue, order.group)
                    ticket = crew.submit(order)
                tickets.append(ticket)
            return [ticket.result() for ticket in tickets]
        except BaseException:
            cancel_all(tickets)
            raise

    async def verify_async(
        self,
        program: str,
        check: Check | str,
        limits: ResourceLimits | None = None,
        group: str | None = None,
    ) -> Verdict:
        """Judge one program without blocking the event loop; cancelling gives its place back."""
        return (await self.verify_batch_async([Candidate(program, check, limits)], group))[0]

    async def verify_batch_async(
        self, candidates: Iterable[Candidate], group: str | None = None
    ) -> list[Verdict]:
        """Judge many without blocking the event loop; cancelling takes back those that wait."""
        crew = await asyncio.to_thread(open_crew, self)
        tickets: list[Future[Verdict]] = []
        try:
            for candidate in candidates:
                order = self._make_order(candidate, group)
                if (ticket := crew.join(order)) is None:
                    await wait_for_place_async(crew.queue, order.group)
                    ticket = crew.submit(order)
                tickets.append(ticket)
            return [await asyncio.wrap_future(ticket) for ticket in tickets]
        except BaseException:
            cancel_all(tickets)
            raise

    async def run_async(self, run: Callable[[Sandbox], T], group: str) -> T:
        """Run anything on a slot of the sandbox, in its turn, never remembered."""
        crew = await asyncio.to_thread(open_crew, self)
        await wait_for_place_async(crew.queue, group)
        ticket = crew.submit(Order(run, group, None))
        return cast(T, await asyncio.wrap_future(ticket))

    def open(self) -> str:
        """Open this process's sandbox now rather than at the first program; returns its level.

        Raises:
            SandboxUnavailable: This host cannot isolate programs well enough.
        """
        return open_crew(self).sandbox.level

    def close(self) -> None:
        """Close this process's sandbox after the programs that run; the next call opens another."""
        with lock_of_process():
            crew = CREWS.pop((os.getpid(), self), None)
        if crew is not None:
            crew.close()

    def _make_order(self, candidate: Candidate, group: str | None) -> "Order":
        program, check, limits = candidate
        text = check if isinstance(check, str) else check_to_json(check)
        parsed = check_from_json(check) if isinstance(check, str) else check
        limits = limits or self.limits

        def run(sandbox: Sandbox) -> Verdict:
            for _ in range(NUM_ATTEMPTS):
                verdict = verify(sandbox, program, parsed, limits)
                if verdict.status is not Status.INFRASTRUCTURE:
                    break
            return verdict

        key = hash_texts(program, text, repr(limits)) if self.num_remembered else None
        return Order(run, hash_texts(text) if group is None else group, key)


class Order(NamedTuple):
    """Something to run on a slot."""

    run: Callable[[Sandbox], Any]
    group: str
    key: str | None
    """Equal keys are run once; None: run this one in any case."""


class Work:
    """An order in the queue or on a slot, with the tickets of all who wait for its result."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.tickets: list[Future[Any]] = []


class Crew:
    """The sandbox of one process with a thread per slot."""

    def __init__(self, judge: Judge) -> None:
        self.sandbox = open_sandbox(judge.sandbox, num_slots=judge.num_slots)
        self.queue: FairQueue[Work] = FairQueue(judge.max_waiting)
        self._num_remembered = judge.num_remembered
        self._lock = threading.Lock()
        self._pending: dict[str, Work] = {}
        self._remembered: OrderedDict[str, Verdict] = OrderedDict()
        self._threads = [
            threading.Thread(target=self._work, name=f"judge-{number}", daemon=True)
            for number in range(self.sandbox.num_slots)
        ]
        for thread in self._threads:
            thread.start()

    def join(self, order: Order) -> Future[Any] | None:
        """A ticket for an equal order that waits, runs or is remembered; None if there is none."""
        with self._lock:
            return self._join(order.key)

    def submit(self, order: Order) -> Future[Any]:
        """Queue an order on a place that was asked for, unless an equal one came in between."""
        with self._lock:
            ticket = self._join(order.key)
            if ticket is None:
                work = Work(order)
                self.queue.put(order.group, work)
                if order.key is not None:
                    self._pending[order.key] = work
                return self._issue_ticket(work)
        self.queue.free_place()
        return ticket

    def _join(self, key: str | None) -> Future[Any] | None:
        if key is not None and key in self._remembered:
            self._remembered.move_to_end(key)
            ticket: Future[Any] = Future()
            ticket.set_result(self._remembered[key])
            return ticket
        work = self._pending.get(key) if key is not None else None
        return None if work is None else self._issue_ticket(work)

    def _issue_ticket(self, work: Work) -> Future[Any]:
        """A future of one who waits; once the last one has cancelled, the order is taken back."""

        def leave(ended: Future[Any]) -> None:
            if not ended.cancelled():
                return
            with self._lock:
                work.tickets.remove(ended)
                order = work.order
                if not work.tickets and self.queue.remove(order.group, work) and order.key:
                    del self._pending[order.key]

        ticket: Future[Any] = Future()
        work.tickets.append(ticket)
        ticket.add_done_callback(leave)
        return ticket

    def close(self) -> None:
        """End the threads after what they run, refuse what still waits, close the sandbox."""
        for work in self.queue.close():
            self._finish(work, None, make_closed_error())
        for thread in self._threads:
            thread.join()
        self.sandbox.close()

    def _work(self) -> None:
        while (work := self.queue.take()) is not None:
            try:
                result, error = work.order.run(self.sandbox), None
            except Exception as caught:
                result, error = None, caught
            self._finish(work, result, error)

    def _finish(self, work: Work, result: Any, error: Exception | None) -> None:
        key = work.order.key
        with self._lock:
            if key is not None:
                self._pending.pop(key, None)
                if isinstance(result, Verdict) and result.status not in NOT_REMEMBERED:
                    self._remembered[key] = result
                    while len(self._remembered) > self._num_remembered:
                        self._remembered.popitem(last=False)
            tickets = list(work.tickets)
        for ticket in tickets:
            if not ticket.set_running_or_notify_cancel():
                continue
            if error is not None:
                ticket.set_exception(error)
            else:
                ticket.set_result(result)


CREWS: dict[tuple[int, Judge], Crew] = {}
"""(process id, configuration) -> what is open. A forked child never touches its parent's."""

LOCKS: dict[int, threading.Lock] = {}
"""One lock per process id: the parent's may be held by a thread that the child does not have."""


def lock_of_process() -> threading.Lock:
    """The lock of this process over `CREWS`."""
    pid = os.getpid()
    if pid not in LOCKS:
        # setdefault is atomic; only the thread whose lock won registers the end.
        mine = threading.Lock()
        if LOCKS.setdefault(pid, mine) is mine:
            atexit.register(close_all)
    return LOCKS[pid]


def open_crew(judge: Judge) -> Crew:
    """What is open in this process for this configuration, opened if it is not."""
    key = (os.getpid(), judge)
    crew = CREWS.get(key)
    if crew is None:
        with lock_of_process():
            crew = CREWS[key] = CREWS.get(key) or Crew(judge)
    return crew


def close_all() -> None:
    """Close every sandbox that judges opened in this process."""
    for pid, judge in list(CREWS):
        if pid == os.getpid():
            judge.close()


def wait_for_place(queue: FairQueue[Any], group: str) -> None:
    """Wait for a place; one that comes together with an interruption goes back."""
    place = queue.ask_place(group)
    try:
        place.result()
    except BaseException:
        give_back(queue, place)
        raise


async def wait_for_place_async(queue: FairQueue[Any], group: str) -> None:
    """Wait for a place; one that comes together with the cancellation goes back."""
    place = queue.ask_place(group)
    try:
        await asyncio.wrap_future(place)
    except BaseException:
        give_back(queue, place)
        raise


def give_back(queue: FairQueue[Any], place: Future[None]) -> None:
    """Stop asking for a place, or free it if it was given meanwhile."""
    if not place.cancel() and place.exception() is None:
        queue.free_place()


def cancel_all(tickets: Iterable[Future[Any]]) -> None:
    """Give up what is not finished."""
    for ticket in tickets:
        ticket.cancel()


def hash_texts(*texts: str) -> str:
    """One short name for equal texts; lone surrogates are allowed."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
