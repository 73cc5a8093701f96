"""The benchmark of training at a tiny size: MFU is what its parts say, and what is too large waits.

What this cannot show is the speed of anything.
"""

import json
from dataclasses import replace
from functools import partial
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


@pytest.mark.parametrize("objective", ["autoregressive", "diffusion"])
def test_sizes_are_timed_on_one_thread_and_two(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    monkeypatch.setitem(SIZES, "demo", replace(SIZES["test"], vocab_size=768, max_seq_len=512))
    monkeypatch.setattr(benchmark, "PEAK_WIDTH", 64)
    monkeypatch.setattr(benchmark, "read_available_bytes", lambda: 100 << 20)
    num_threads = torch.get_num_threads()
    try:
        benchmark.measure_sizes(
            ["demo", "25m"], 1, [1, 2], objective, "float32", tmp_path / "sizes.json"
        )
    finally:
        torch.set_num_threads(num_threads)
    record = json.loads((tmp_path / "sizes.json").read_text())
    rows = record["sizes"]["demo"]["rows"]
    assert [row["threads"] for row in rows] == [1, 2]
    for row in rows:
        flops_per_s = row["flops_per_token"] * row["tokens_per_s"]
        assert row["mfu"] == pytest.approx(flops_per_s / row["peak_flops_per_s"])
    assert list(record["left_out"]) == ["25m"]
    assert record["left_out"]["25m"].endswith("GiB, 0.1 are free")
    assert f"--sizes demo,25m --objective {objective}" in record["command"]


def test_a_size_whose_moments_do_not_fit_is_timed_without_update(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "demo", replace(SIZES["test"], vocab_size=768, max_seq_len=512))
    monkeypatch.setattr(benchmark, "PEAK_WIDTH", 64)
    monkeypatch.setattr(benchmark, "estimate_bytes", lambda *_: (10, 10))
    records = []
    for available in (20, 19):
        monkeypatch.setattr(benchmark, "read_available_bytes", partial(int, available))
        out = tmp_path / f"{available}.json"
        benchmark.measure_sizes(["demo"], 1, [1], "autoregressive", "bfloat16", out)
        records.append(json.loads(out.read_text())["sizes"]["demo"])
    assert [record["has_update"] for record in records] == [True, False]
    assert all(record["rows"][0]["mfu"] > 0 for record in records)


def test_an_unknown_size_is_one_clear_line(benchmark: ModuleType) -> None:
    with pytest.raises(click.BadParameter, match="no size 'huge'; use some of demo,25m"):
        benchmark.read_sizes("demo,huge")
