"""The benchmark of training at a tiny size: MFU is what its parts say, and what is too large waits.

What this cannot show is the speed of anything.
"""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import click
import pytest
import torch
from tests.scripts import load_script

from sdb_reference_model.model import SIZES

SCRIPT = Path(__file__).parents[2] / "reference_model" / "benchmarks" / "training.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_script(SCRIPT)


def test_sizes_are_timed_on_one_thread_and_two(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "demo", replace(SIZES["test"], vocab_size=768, max_seq_len=512))
    monkeypatch.setattr(benchmark, "PEAK_WIDTH", 64)
    monkeypatch.setattr(benchmark, "read_available_bytes", lambda: 100 << 20)
    num_threads = torch.get_num_threads()
    try:
        benchmark.measure_sizes(["demo", "25m"], 1, [1, 2], tmp_path / "sizes.json")
    finally:
        torch.set_num_threads(num_threads)
    record = json.loads((tmp_path / "sizes.json").read_text())
    rows = record["sizes"]["demo"]["rows"]
    assert [row["threads"] for row in rows] == [1, 2]
    for row in rows:
        flops_per_s = row["flops_per_token"] * row["tokens_per_s"]
        assert row["mfu"] == pytest.approx(flops_per_s / row["peak_flops_per_s"])
    assert record["left_out"] == {"25m": "needs 1.0 GiB, 0.1 are free"}
    assert record["command"].endswith("--sizes demo,25m")


def test_an_unknown_size_is_one_clear_line(benchmark: ModuleType) -> None:
    with pytest.raises(click.BadParameter, match="no size 'huge'; use some of demo,25m"):
        benchmark.read_sizes("demo,huge")
