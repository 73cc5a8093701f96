"""What was made of a check, kept for the next program that is judged by it.

Place in the flow: many answers to one problem share a check, and packing a thousand inputs takes
longer than most programs. What it does not do: nothing that came out of a sandbox is kept here.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Source = TypeVar("Source")
Made = TypeVar("Made")
MAX_KEPT = 256


class Remember(Generic[Source, Made]):
    """A function of an object that does not change, computed once for each of the latest objects.

    Objects are told apart by identity: to compare all inputs of a check would cost more than a
    call. Thread-safe.
    """

    def __init__(self, make: Callable[[Source], Made], max_kept: int = MAX_KEPT) -> None:
        self.make = make
        self.max_kept = max_kept
        self.lock = threading.Lock()
        self.kept: dict[int, tuple[Source, Made]] = {}

    def __call__(self, source: Source) -> Made:
        """What `make` gives, which may raise; an object that is kept cannot lend its id."""
        known = self.kept.get(id(source))
        if known is not None:
            return known[1]
        made = self.make(source)
        with self.lock:
            self.kept[id(source)] = source, made
            if len(self.kept) > self.max_kept:
                del self.kept[next(iter(self.kept))]
        return made
