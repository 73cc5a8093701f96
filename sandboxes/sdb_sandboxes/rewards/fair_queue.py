"""A bounded queue in which groups take turns, so that a flood of one cannot starve the others.

Place in the flow: `judge.py` puts work in, its threads take work out. What it does not do: it knows
nothing of programs, and it never drops anything by itself.
"""

import threading
from collections import OrderedDict, deque
from concurrent.futures import Future
from typing import Generic, TypeVar

from sdb_sandboxes.errors import SandboxError

T = TypeVar("T")


class Turns(Generic[T]):
    """Items in lines, one line per group; the lines take turns."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, group: str, item: T) -> None:
        """Put an item at the end of its group's line."""
        self._lines.setdefault(group, deque()).append(item)

    def pop(self) -> T:
        """Take the first item of the line whose turn it is; that line is last from now on."""
        group, line = self._lines.popitem(last=False)
        item = line.popleft()
        if line:
            self._lines[group] = line
        return item

    def remove(self, group: str, item: T) -> bool:
        """Take an item out of its line; False if it is not there any more."""
        line = self._lines.get(group)
        if line is None or item not in line:
            return False
        line.remove(item)
        if not line:
            del self._lines[group]
        return True


class FairQueue(Generic[T]):
    """At most `max_waiting` items; who comes later waits for a place, in turns as well."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._items: Turns[T] = Turns()
        self._asking: Turns[Future[None]] = Turns()
        self._num_places_taken = 0
        self._is_closed = False

    def ask_place(self, group: str) -> Future[None]:
        """Ask for a place: done at once, or when one is free. A place must be used or given back.

        Its exception is SandboxError once the queue is closed.
        """
        place: Future[None] = Future()
        with self._changed:
            if self._is_closed:
                place.set_exception(make_closed_error())
            elif self._num_places_taken < self._max_waiting:
                self._num_places_taken += 1
                place.set_result(None)
            else:
                self._asking.add(group, place)
        return place

    def free_place(self) -> None:
        """Give a place to the next who asks for one and still wants it."""
        with self._changed:
            while self._asking:
                place = self._asking.pop()
                if place.set_running_or_notify_cancel():
                    place.set_result(None)
                    return
            self._num_places_taken -= 1

    def put(self, group: str, item: T) -> None:
        """Put an item on a place that was asked for. Raises SandboxError once closed."""
        with self._changed:
            if self._is_closed:
                raise make_closed_error()
            self._items.add(group, item)
            self._changed.notify()

    def take(self) -> T | None:
        """Wait for the next item; None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or self._is_closed)
            if self._is_closed:
                return None
            item = self._items.pop()
        self.free_place()
        return item

    def remove(self, group: str, item: T) -> bool:
        """Take back an item; False if somebody has taken it already."""
        with self._changed:
            was_there = self._items.remove(group, item)
        if was_there:
            self.free_place()
        return was_there

    def close(self) -> list[T]:
        """Wake everyone who takes or waits for a place; returns what was left, in turn order."""
        with self._changed:
            self._is_closed = True
            left = []
            while self._items:
                left.append(self._items.pop())
            while self._asking:
                place = self._asking.pop()
                if place.set_running_or_notify_cancel():
                    place.set_exception(make_closed_error())
            self._changed.notify_all()
        return left


def make_closed_error() -> SandboxError:
    """What everyone is told who comes too late."""
    return SandboxError("the judge was closed before this program ran")
