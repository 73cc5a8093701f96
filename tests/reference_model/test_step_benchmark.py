"""The GPU benchmark of a step at a tiny size on a CPU: it checks, times, reports and draws.

What this cannot show is the speed of anything, nor that a CUDA graph can be captured.
"""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.scripts import load_script

from sdb_reference_model.fused import Step
from sdb_reference_model.model import SIZES
from sdb_reference_model.roofline import GPUS

SCRIPT = Path(__file__).parents[2] / "reference_model" / "benchmarks" / "step.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_script(SCRIPT)


def run_once(run: object) -> float:
    assert callable(run)
    run()
    return 1.0


def test_it_checks_times_and_draws(benchmark: ModuleType, tmp_path: Path) -> None:
    model = benchmark.build_model(SIZES["test"], torch.float32, torch.device("cpu"))
    rows, bounds = [], []
    for weights, ways in (("bf16", {"fused", "modules", "compiled"}), ("e4m3", {"fused"})):
        if weights == "e4m3":
            model.quantise()
        for block_size in (4, 7):
            compiler = "aot_eager" if (weights, block_size) == ("bf16", 4) else None
            row = benchmark.measure(model, block_size, 20, GPUS["H20"], run_once, compiler)
            assert row["weights"] == weights
            assert row["error"] < 1e-4
            assert row["milliseconds"].keys() == ways - (set() if compiler else {"compiled"})
            assert row["forwards_per_s"] == 1000.0
            bounds.append(row["bound_ms"])
            rows.append({"size": "test", "block_size": block_size, **row})
    assert bounds[0] > bounds[2] > bounds[0] / 2  # the cache is as wide as before
    rows.append({"size": "test", "block_size": 9, "failed": "out of memory"})
    benchmark.draw(rows, "no GPU", tmp_path / "step.svg")
    assert "<svg" in (tmp_path / "step.svg").read_text()
    benchmark.draw(rows[-1:], "no GPU", tmp_path / "nothing.svg")
    assert not (tmp_path / "nothing.svg").exists()


def test_a_step_that_computes_something_else_ends_the_run(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = benchmark.build_model(SIZES["test"], torch.float32, torch.device("cpu"))
    read = benchmark.read_block
    monkeypatch.setattr(benchmark, "read_block", lambda *args, **kwargs: -read(*args, **kwargs))
    with pytest.raises(SystemExit, match=r"fused and modules differ by 2 of the largest"):
        benchmark.measure(model, 4, 20, None, run_once, None)
    monkeypatch.undo()
    monkeypatch.setattr(Step, "run", lambda self: None)
    with pytest.raises(SystemExit, match="was not finished"):
        benchmark.measure(model, 4, 20, None, run_once, None)


def test_gpus_are_known_by_their_names(benchmark: ModuleType) -> None:
    assert benchmark.find_gpu("NVIDIA H100 80GB HBM3") is GPUS["H100"]
    assert benchmark.find_gpu("NVIDIA H20-3e") is GPUS["H20"]
    assert benchmark.find_gpu("NVIDIA H200") is GPUS["H200"]
    assert benchmark.find_gpu("NVIDIA A100-SXM4-80GB") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and the run takes minutes")
def test_without_a_gpu_it_says_so_in_one_line(benchmark: ModuleType) -> None:
    process = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr.strip() == benchmark.NO_GPU
