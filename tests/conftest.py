"""Settings that hold for every test."""

import os
from collections.abc import Iterator

import pytest

from sdb_sandboxes.engine import Engine
from sdb_sandboxes.errors import SandboxUnavailable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small tensors, few cores


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The container engine. The only reason to skip a test is that there is none."""
    try:
        engine = Engine()
    except SandboxUnavailable as error:
        if os.environ.get("SDBENCH_REQUIRE_DOCKER") == "1":
            pytest.fail(f"SDBENCH_REQUIRE_DOCKER=1, but {error}")
        pytest.skip(str(error))
    yield engine
    engine.close()
