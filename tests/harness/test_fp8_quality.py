"""The benchmark of quality in e4m3: its intervals hold what they promise, its reading is paired."""

import random
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tests.scripts import load_script

from sdb_reference_model.checkpoint import load_checkpoint, save_checkpoint
from sdb_reference_model.model import ModelConfig, Transformer
from sdb_reference_model.tokenizer import CodeTokenizer

SCRIPT = Path(__file__).parents[2] / "harness" / "benchmarks" / "fp8_quality.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_script(SCRIPT)


def test_the_interval_of_a_paired_difference_covers_it(benchmark: ModuleType) -> None:
    rng = random.Random(0)
    for lost, won, num_pairs in ((0.02, 0.02, 100), (0.1, 0.03, 60), (0.3, 0.1, 40)):
        num_covered = 0
        for _ in range(1000):
            draws = rng.choices("lws", (lost, won, 1 - lost - won), k=num_pairs)
            low, high = benchmark.bound_paired_difference(
                draws.count("l"), draws.count("w"), num_pairs
            )
            num_covered += low <= won - lost <= high
        assert num_covered >= 935
    low, high = benchmark.bound_paired_difference(0, 0, 100)
    assert -0.05 < low < -0.01  # nothing seen is not nothing there
    assert high == -low


def test_the_interval_of_a_ratio_is_that_of_a_mean_where_sizes_are_equal(
    benchmark: ModuleType,
) -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    ratio, (low, high) = benchmark.estimate_ratio(values, [1] * 5)
    error = np.std(values, ddof=1) / 5**0.5
    assert (ratio, low, high) == pytest.approx(
        (2.8, 2.8 - 1.96 * error, 2.8 + 1.96 * error), abs=1e-5
    )
    assert benchmark.estimate_ratio([2.0, 6.0], [1, 3]) == (2.0, [2.0, 2.0])


def test_both_models_read_the_same_masks(benchmark: ModuleType, tmp_path: Path) -> None:
    tokenizer = CodeTokenizer.train(["ab"], 300)
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 2, 4, 2, 64, 128))
    model.initialise(torch.Generator().manual_seed(0))
    save_checkpoint(tmp_path / "model", model, tokenizer, "diffusion", {})
    plain, again, rounded = (load_checkpoint(str(tmp_path / "model")) for _ in range(3))
    rounded.model.quantise()
    readings = [
        benchmark.read(
            checkpoint, "def f(x):\n", "    return x\n" * 3, torch.Generator().manual_seed(seed)
        )
        for checkpoint, seed in ((plain, 0), (again, 0), (rounded, 0), (plain, 1))
    ]
    assert readings[0].nats == readings[1].nats
    assert torch.equal(readings[0].tokens, readings[1].tokens)
    assert 0 < abs(readings[2].nats - readings[0].nats) < 0.01 * readings[0].nats
    assert len(readings[2].tokens) == len(readings[0].tokens)
    assert readings[3].nats != readings[0].nats
    found = benchmark.compare_readings([readings[0]] * 2, [readings[2]] * 2)
    per_token = (readings[2].nats - readings[0].nats) / len(readings[0].tokens)
    assert found["nats_per_token"]["difference"] == pytest.approx(per_token, abs=1e-5)
    assert found["same_token"]["num_tokens"] == 2 * len(readings[0].tokens)
