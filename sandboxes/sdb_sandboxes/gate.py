"""A gate for many at once or one alone: samples run side by side, a doubtful one runs by itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Readers and one writer; waiting writers go first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_inside = 0
        self._num_alone = 0
        self._is_taken = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Be inside together with others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_taken and not self._num_alone)
            self._num_inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be inside with nobody else."""
        with self._changed:
            self._num_alone += 1
            self._changed.wait_for(lambda: not self._is_taken and not self._num_inside)
            self._num_alone -= 1
            self._is_taken = True
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()
