"""Every sandbox that this host can give, opened once for all tests."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sdb_sandboxes.embedded_sandbox import LEVELS, EmbeddedSandbox
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.sandbox import Sandbox


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
        yield opened
    del os.environ["PLANTED_SECRET"]
