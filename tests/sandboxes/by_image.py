"""Sandboxes of the Docker images, for the tests of languages and of projects."""

import os
from contextlib import ExitStack

import pytest

from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.languages import LANGUAGES, PROJECTS


class Sandboxes:
    """One sandbox of one slot per image, opened when a test first asks."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.opened: dict[str, DockerSandbox] = {}

    def open(self, name: str) -> DockerSandbox:
        """That of a language or of a project's framework; skips if there is no image."""
        image = (LANGUAGES | PROJECTS)[name].image
        if image not in self.opened:
            try:
                sandbox = DockerSandbox(1, image)
            except SandboxUnavailable as error:
                if os.environ.get("SDBENCH_REQUIRE_DOCKER") == "1":
                    raise
                pytest.skip(str(error))
            self.opened[image] = self.stack.enter_context(sandbox)
        return self.opened[image]
