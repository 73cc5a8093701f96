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
    row = benchmark.measure(CONFIG, torch.device("cpu"), torch.float32, 32, 1)
    assert row["tokens_per_s"].keys() == {"replayed", "blocks", "twin", "twin, plain"}
    per_forward = row["tokens_per_forward"]
    assert 1 < per_forward["replayed"] == per_forward["blocks"] <= 32
    assert row["implementation"].startswith("replayed, eager")


def test_other_tokens_end_the_run(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    other = benchmark.Generation(token_ids=[5] * 32)
    monkeypatch.setattr(benchmark, "run_blocks", lambda *_: other)
    with pytest.raises(SystemExit, match="of 32 tokens agree; nothing timed"):
        benchmark.measure(CONFIG, torch.device("cpu"), torch.float32, 32, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and the run takes minutes")
def test_without_a_gpu_it_says_so_in_one_line(benchmark: ModuleType) -> None:
    process = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr.strip() == benchmark.NO_GPU
