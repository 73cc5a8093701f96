"""Every sandbox that this host can give, opened once for all tests."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.sandboxes.by_image import Sandboxes

from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.embedded_sandbox import LEVELS, EmbeddedSandbox
from sdb_sandboxes.engine import Engine
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.images.build import IMAGES
from sdb_sandboxes.sandbox import Sandbox


def has_image() -> bool:
    """Whether a container engine answers and has the image `py`; CI says that it must."""
    try:
        with contextlib.closing(Engine()) as engine:
            engine.find_image(IMAGES["py"].tag)
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
        if has_image():
            docker = stack.enter_context(DockerSandbox(1))
            opened[docker.level] = docker
        yield opened
    os.environ.pop("PLANTED_SECRET", None)


@pytest.fixture(scope="module")
def images(engine: Engine) -> Iterator[Sandboxes]:
    """Sandboxes by language, opened as a module's tests ask for them."""
    with ExitStack() as stack:
        yield Sandboxes(stack)
