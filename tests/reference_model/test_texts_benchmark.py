"""The GPU benchmark of whole texts at a tiny size on a CPU: it compares, times and refuses."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.scripts import load_script

from sdb_reference_model.model import SIZES

SCRIPT = Path(__file__).parents[2] / "reference_model" / "benchmarks" / "texts.py"
CONFIG = replace(SIZES["test"], max_seq_len=512)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_script(SCRIPT)


def test_it_compares_and_times(benchmark: ModuleType) -> None:
    task = benchmark.draw_task(CONFIG, torch.device("cpu"), 32)
    row = benchmark.measure(task, torch.float32, 1)
    assert row["tokens_per_s"].keys() == {"replayed", "blocks", "twin", "twin, plain"}
    per_forward = row["tokens_per_forward"]
    assert 1 < per_forward["replayed"] == per_forward["blocks"] <= 32
    assert row["implementation"].startswith("replayed, eager")
    assert row["policy"] == "threshold:0.9"


def test_the_shipped_models_are_compared_and_timed(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "NUM_PROBLEMS", 2)
    task = benchmark.load_task(torch.device("cpu"))
    assert task.model.config.causal_past
    row = benchmark.measure(task, torch.float32, 1)
    per_forward = row["tokens_per_forward"]
    assert 1 < per_forward["replayed"] == per_forward["blocks"] <= 16
    assert per_forward["twin"] == per_forward["twin, plain"]
    assert (row["policy"], row["num_texts"]) == ("prefix:0.9", 2)


def test_other_tokens_end_the_run(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    other = benchmark.Generation(token_ids=[5] * 32)
    monkeypatch.setattr(benchmark, "run_blocks", lambda *_: [other])
    task = benchmark.draw_task(CONFIG, torch.device("cpu"), 32)
    with pytest.raises(SystemExit, match="of 32 tokens agree; nothing timed"):
        benchmark.measure(task, torch.float32, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and the run takes minutes")
def test_without_a_gpu_it_says_so_in_one_line(benchmark: ModuleType) -> None:
    process = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr.strip() == benchmark.NO_GPU
