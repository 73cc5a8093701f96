from pathlib import Path

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
    with pytest.raises(
        ValueError, match="'cutlass' is unknown to head_select; use one of triton, reference"
    ):
        choose("head_select", "cutlass", "cpu")
    monkeypatch.setenv("SDBENCH_KERNELS", "cutlass")
    with pytest.raises(ValueError, match="'cutlass' is unknown"):
        choose("head_select", None, "cuda")


def test_an_operator_takes_its_own_backends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("block_attention", None, "cuda") == "triton"
    assert choose("block_attention", None, "cpu") == "sdpa"
    assert choose("block_attention", "reference", "cuda") == "reference"
    with pytest.raises(ValueError, match="'sdpa' is unknown to head_select"):
        choose("head_select", "sdpa", "cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose("block_attention", None, "cuda") == "sdpa"
    with pytest.raises(RuntimeError, match=r"block_attention: .* flash-attn is not installed"):
        choose("block_attention", "flash_attn", "cuda")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert choose("block_attention", "flash_attn", "cuda") == "flash_attn"
    with pytest.raises(RuntimeError, match="'cpu' is not a CUDA device"):
        choose("block_attention", "flash_attn", "cpu")


def test_every_operator_has_a_definition_and_a_kernel() -> None:
    folder = Path(backend.__file__).parent
    assert {path.parent.name for path in folder.glob("*/reference.py")} == set(backend.OPERATORS)
    for op, backends in backend.OPERATORS.items():
        assert {"reference", "triton"} <= set(backends)
        assert {path.name for path in (folder / op).iterdir() if path.is_file()} >= {
            "__init__.py", "reference.py", "kernel.py", "README.md"
        }  # fmt: skip
