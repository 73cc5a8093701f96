"""One sandbox for every language: each program goes to the container that runs its language.

Place in the flow: the harness opens this for benchmarks of many languages. Python runs in the
sandbox that was asked for; every other language in a container of its own image, opened when its
first program comes. A language that this host cannot run is no error here and never the program's
fault: its programs get status INFRASTRUCTURE with the reason, so they are counted as not judged.
"""

import threading
from types import TracebackType
from typing import Self

from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.languages import PROJECTS, find_language
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    AssertionCheck,
    ExecutionRequest,
    ExecutionResult,
    ObjectCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
)


class LanguageSandbox:
    """Routes `run_program` by language. Implements `sandbox.Sandbox`; thread-safe."""

    def __init__(self, name: str = "embedded", num_slots: int | None = None) -> None:
        """Open the sandbox that runs Python; the others follow when they are needed.

        Args:
            name: As for `open_sandbox`; with `docker` or `docker:IMAGE` other languages run too.
            num_slots: How many programs of one language run at once.

        Raises:
            ValueError, SandboxUnavailable: As `open_sandbox`.
        """
        self._name, self._num_slots = name, num_slots
        self._python = open_sandbox(name, num_slots)
        self._by_image: dict[str, Sandbox | str] = {}  # or why there is none
        self._lock = threading.Lock()

    @property
    def level(self) -> str:
        """Isolation of the sandbox that runs Python; the others are of the same kind."""
        return self._python.level

    @property
    def image(self) -> str:
        """Content address of every image that was used, Python's first."""
        opened = (box.image for box in self._by_image.values() if not isinstance(box, str))
        return " ".join(filter(None, (self._python.image, *opened)))

    def find_image(self, language: str) -> str:
        """Content address of the image that runs a language; empty where none does."""
        found = self._find(language)
        return "" if isinstance(found, str) else found.image

    @property
    def layers(self) -> tuple[str, ...]:
        """Every lock that holds."""
        return self._python.layers

    @property
    def num_slots(self) -> int:
        """How many programs run at once."""
        return self._python.num_slots

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        """Run a Python program and call its functions (L3)."""
        return self._python.call_functions(request)

    def run_assertions(
        self, program: str, check: AssertionCheck | ObjectCheck, limits: ResourceLimits
    ) -> ExecutionResult:
        """Run Python tests in one process against the program in another (L2)."""
        return self._python.run_assertions(program, check, limits)

    def run_program(self, request: ProgramRequest) -> ExecutionResult:
        """Run a whole program where its language runs; INFRASTRUCTURE, with why, if nowhere."""
        found = self._find(request.language)
        if isinstance(found, str):
            return ExecutionResult(Status.INFRASTRUCTURE, (), 0.0, 0.0, 0, detail=found)
        return found.run_program(request)

    def explain_missing(self, language: str) -> str:
        """Why this host cannot run a language; empty if it can."""
        found = self._find(language)
        return found if isinstance(found, str) else ""

    def close(self) -> None:
        """Close every sandbox that was opened. May be called twice."""
        for opened in (self._python, *self._by_image.values()):
            if not isinstance(opened, str):
                opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _find(self, language: str) -> Sandbox | str:
        if language == "python":
            return self._python
        try:
            image = find_language(language).image
        except ValueError as error:
            return str(error)
        if self._name.partition(":")[0] != "docker":
            return f"{self.level} runs Python only, not {language}; use --sandbox docker"
        with self._lock:
            if image not in self._by_image:
                try:
                    self._by_image[image] = open_sandbox(f"docker:{image}", self._num_slots)
                except SandboxUnavailable as error:
                    self._by_image[image] = f"no {language} on this host: {error}"
            found = self._by_image[image]
        # An older image may lack the test framework, and every program would fail for that.
        if language in PROJECTS and isinstance(found, DockerSandbox) and not found.is_current:
            return f"the image {image} is not of this version; run: sdbench sandbox build {image}"
        return found
