"""Every sandbox that this host can give, opened once for all tests."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.embedded_sandbox import LEVELS, EmbeddedSandbox
from sdb_sandboxes.engine import Engine
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.sandbox import Sandbox


def has_engine() -> bool:
    """Whether a container engine answers; CI says that one must."""
    try:
        Engine().close()
    except SandboxUnavailable:
        if os.environ.get("SDBENCH_REQUIRE_DOCKER") == "1":
            raise
        return False
    return True


@pytest.fixture(scope="session")
def sandboxes() -> Iterator[dict[str, Sandbox]]:
    """Every kind and level by its name, one slot each, with a secret in the judge's environment."""
    os.environ["PLANTED_SECRET"] = "a secret"
    opened: dict[str, Sandbox] = {}
    with ExitStack() as stack:
        for level in LEVELS:
            try:
                sandbox = EmbeddedSandbox(1, min_level=level, max_level=level)
            except SandboxUnavailable:
                continue
            opened[sandbox.level] = stack.enter_context(sandbox)
        if has_engine():
            docker = stack.enter_context(DockerSandbox(1))
            opened[docker.level] = docker
        yield opened
    os.environ.pop("PLANTED_SECRET", None)
