"""Settings that hold for every test."""

import os
from collections.abc import Generator, Iterator

import pytest

from sdb_sandboxes.engine import Engine
from sdb_sandboxes.errors import SandboxUnavailable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small tensors, few cores


def pytest_configure() -> None:
    """Let Triton interpret kernels where no GPU can run them.

    Triton reads this when it is imported, which the first test that imports `transformers` does.
    """
    import torch

    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither see nor leave anything in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where an engine must be, a test that skips for want of it or of an image has failed."""
    report = yield
    is_required = os.environ.get("SDBENCH_REQUIRE_DOCKER") == "1"
    if report.skipped and is_required and item.get_closest_marker("docker"):
        # (file, line, reason)
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if "engine" in reason:
            report.outcome = "failed"
            report.longrepr = f"SDBENCH_REQUIRE_DOCKER=1, but it would skip: {reason}"
    return report
