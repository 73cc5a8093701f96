"""The plan bounds the forwards, scales measured seconds, and says what can be resolved."""

import pytest

from sdb_harness.plan import count_max_forwards, estimate_cells, estimate_detectable_difference
from sdb_harness.records import Cell, SamplingConfig
from sdb_harness.sweep import parse_sweep, resolve_cells


def make_cell(generator: str, sampling: SamplingConfig) -> Cell:
    return Cell(
        benchmark="minipy",
        benchmark_revision="r",
        num_problems=2,
        protocol="base",
        generator=generator,
        generator_revision="g",
        sampling=sampling,
        engine="e",
        hardware="h",
    )


@pytest.mark.parametrize(
    ("generator", "sampling", "forwards"),
    [
        ("autoregressive:demo", SamplingConfig(max_new_tokens=64), 65),
        (
            "seed_diffusion:demo",
            SamplingConfig(max_new_tokens=64, block_size=8, threshold=1.0),
            1 + 8 * 9,
        ),
        (
            "seed_diffusion:demo",
            SamplingConfig(max_new_tokens=64, block_size=16, num_steps=4),
            1 + 4 * 5,
        ),
        ("canonical", SamplingConfig(), 0),
    ],
)
def test_forwards_are_bounded(generator: str, sampling: SamplingConfig, forwards: int) -> None:
    assert count_max_forwards(make_cell(generator, sampling)) == forwards


def test_nothing_measured_is_unknown_not_guessed() -> None:
    document = {
        "name": "s",
        "benchmarks": ["minipy:num_problems=2"],
        "generators": ["canonical"],
    }
    (estimate,) = estimate_cells(resolve_cells(parse_sweep(document), "h").cells, None)
    assert estimate.remaining_s is None
    assert estimate.progress.num_generated == 0


def test_detectable_difference_agrees_with_the_simulated_one() -> None:
    # Paired differences on 164 problems with 5 samples: about 4 points in simulation.
    assert estimate_detectable_difference(164, 5) == pytest.approx(0.04, abs=0.01)
    assert estimate_detectable_difference(164, 1) > estimate_detectable_difference(164, 5)
    assert estimate_detectable_difference(656, 5) == pytest.approx(
        estimate_detectable_difference(164, 5) / 2
    )
