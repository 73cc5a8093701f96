import pytest
import torch

from sdb_kernels import backend
from sdb_kernels.backend import choose


@pytest.fixture(autouse=True)
def no_request_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDBENCH_KERNELS", raising=False)


def test_cpu_runs_the_reference_unless_asked() -> None:
    assert choose("head_select", None, "cpu") == "reference"
    assert choose("head_select", None, torch.device("cpu")) == "reference"


def test_cuda_runs_triton_unless_asked() -> None:
    assert choose("head_select", None, "cuda") == "triton"
    assert choose("head_select", "reference", "cuda") == "reference"


def test_environment_requests_and_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDBENCH_KERNELS", "reference")
    assert choose("head_select", None, "cuda") == "reference"
    assert choose("head_select", "triton", "cuda") == "triton"
    monkeypatch.setenv("SDBENCH_KERNELS", "")
    assert choose("head_select", None, "cuda") == "triton"


@pytest.mark.parametrize("by_variable", [False, True])
def test_triton_on_cpu_without_interpreter_is_an_error(
    monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if by_variable:
        monkeypatch.setenv("SDBENCH_KERNELS", "triton")
    with pytest.raises(RuntimeError, match=r"head_select: .*'cpu' is not a CUDA device"):
        choose("head_select", None if by_variable else "triton", "cpu")


def test_interpreter_set_too_late_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(backend, "_is_interpreting", lambda: False)
    with pytest.raises(RuntimeError, match="set it before Python starts"):
        choose("head_select", "triton", "cpu")


def test_interpreter_runs_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(backend, "_is_interpreting", lambda: True)
    assert choose("head_select", "triton", "cpu") == "triton"
    assert choose("head_select", None, "cpu") == "reference"


def test_triton_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose("head_select", None, "cuda") == "reference"
    with pytest.raises(RuntimeError, match=r"not installed; install seed-diffusion-bench\[gpu\]"):
        choose("head_select", "triton", "cuda")


def test_unknown_backend_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'cutlass' is unknown; use one of reference, triton"):
        choose("head_select", "cutlass", "cpu")
    monkeypatch.setenv("SDBENCH_KERNELS", "cutlass")
    with pytest.raises(ValueError, match="'cutlass' is unknown"):
        choose("head_select", None, "cuda")
