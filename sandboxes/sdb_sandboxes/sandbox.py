"""The one interface every sandbox offers, whatever isolates it (processes here, Docker, ...).

What a sandbox does not do: it never compares answers and never sees expected ones. That is the
verifiers' part, outside.
"""

from types import TracebackType
from typing import Protocol, Self

from sdb_sandboxes.types import (
    AssertionCheck,
    ExecutionRequest,
    ExecutionResult,
    ObjectCheck,
    ProgramRequest,
    ResourceLimits,
)


class Sandbox(Protocol):
    """A pool of slots in which untrusted programs run. Thread-safe: one call per free slot."""

    @property
    def level(self) -> str:
        """Name of the isolation that really holds, for example `embedded/native-root`."""
        ...

    @property
    def image(self) -> str:
        """Content address of the image that programs run in; empty where there is none."""
        ...

    @property
    def layers(self) -> tuple[str, ...]:
        """Every lock that holds, for the run's record."""
        ...

    @property
    def num_slots(self) -> int:
        """How many programs run at once; further calls wait."""
        ...

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        """Run a program and call its functions with plain data (trust level L3).

        A fault of ours is returned as status `INFRASTRUCTURE`, never raised.
        """
        ...

    def run_assertions(
        self, program: str, check: AssertionCheck | ObjectCheck, limits: ResourceLimits
    ) -> ExecutionResult:
        """Run `check.tests` in a test process against `program` in another (L2, L2b).

        Status is `PASSED` only if every assertion held and the candidate still answers.
        """
        ...

    def run_program(self, request: ProgramRequest) -> ExecutionResult:
        """Run a whole program once per text of standard input; `runs` says how each ended."""
        ...

    def close(self) -> None:
        """Stop every process and remove every file of this sandbox. May be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
