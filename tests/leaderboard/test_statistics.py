"""Estimators against brute force, known values and simulated coverage."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest

from sdb_leaderboard.statistics import (
    CellSamples,
    bound_paired_loss,
    bound_unseen_share,
    compute_inclusion_probability,
    compute_macro_interval,
    compute_score_interval,
    estimate_pass_at_k,
    resample_cells,
)


@pytest.mark.parametrize("num_samples", [1, 2, 5, 7])
def test_pass_at_k_equals_brute_force(num_samples: int) -> None:
    for num_passed in range(num_samples + 1):
        outcomes = [True] * num_passed + [False] * (num_samples - num_passed)
        for k in range(1, num_samples + 1):
            draws = [any(draw) for draw in combinations(outcomes, k)]
            expected = sum(draws) / len(draws)
            assert estimate_pass_at_k(num_samples, num_passed, k) == pytest.approx(expected)


@pytest.mark.parametrize(("samples", "passed", "k"), [(3, 1, 4), (3, 1, 0), (3, 4, 1), (3, -1, 1)])
def test_pass_at_k_refuses_impossible_counts(samples: int, passed: int, k: int) -> None:
    with pytest.raises(ValueError, match="="):
        estimate_pass_at_k(samples, passed, k)


def test_interval_with_one_sample_per_problem_is_wilson() -> None:
    fractions = np.array([1.0] * 62 + [0.0] * 102)
    wilson = binomtest(62, 164).proportion_ci(method="wilson")
    interval = compute_score_interval(fractions)
    # The variance has P - 1 below it, so the effective size is P - 1 and not P.
    assert interval.effective_n == pytest.approx(163.0)
    assert interval.low == pytest.approx(wilson.low, abs=5e-4)
    assert interval.high == pytest.approx(wilson.high, abs=5e-4)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_interval_at_the_edge_is_exact(score: float) -> None:
    exact = binomtest(round(20 * score), 20).proportion_ci(method="exact")
    interval = compute_score_interval(np.full(20, score))
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))


def test_interval_covers_when_samples_of_a_problem_are_correlated() -> None:
    rng = np.random.default_rng(0)
    difficulties = rng.beta(0.4, 0.6, size=(600, 164))  # two heaps: mostly solved, mostly not
    fractions = rng.binomial(10, difficulties) / 10
    truth = 0.4
    intervals = [compute_score_interval(row) for row in fractions]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.97
    # What this replaces: all trials pooled as if they were independent.
    tests = [binomtest(round(row.sum() * 10), 1640) for row in fractions]
    pooled = [test.proportion_ci(method="wilson") for test in tests]
    assert np.mean([low <= truth <= high for low, high in pooled]) < 0.7


def test_macro_interval_counts_a_task_in_several_languages_once() -> None:
    rng = np.random.default_rng(2)
    passed = rng.integers(0, 2, 100).astype(float)
    once = compute_score_interval(passed)
    tasks = [str(number) for number in range(100)]
    languages = [language for language in "abcde" for _ in tasks]
    copies = compute_macro_interval(np.tile(passed, 5), languages, tasks * 5)
    assert (copies.mean, copies.low, copies.high) == pytest.approx((once.mean, once.low, once.high))
    own_tasks = [f"{language}{task}" for language in "abcde" for task in tasks]
    apart = compute_macro_interval(rng.integers(0, 2, 500).astype(float), languages, own_tasks)
    assert apart.high - apart.low < 0.6 * (once.high - once.low)


def test_macro_interval_covers_languages_of_other_sizes_and_levels() -> None:
    rng = np.random.default_rng(3)
    languages = ["go"] * 30 + ["java"] * 90
    tasks = [str(number) for number in (*range(30), *range(90))]
    covered = []
    for _ in range(400):
        difficulty = rng.random(90)  # the same task is hard in both
        go, java = difficulty[:30] < 0.3, difficulty < 0.7
        found = compute_macro_interval(np.concatenate((go, java)).astype(float), languages, tasks)
        covered.append(found.low <= 0.5 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_interval_refuses_no_problem() -> None:
    with pytest.raises(ValueError, match="at least one"):
        compute_score_interval(np.zeros(0))


def test_paired_loss_uses_the_pairing() -> None:
    rng = np.random.default_rng(1)
    reference = rng.integers(0, 2, 400).astype(float)
    candidate = reference.copy()
    candidate[np.flatnonzero(reference)[:4]] = 0.0  # loses four problems, keeps every other
    loss = bound_paired_loss(reference, candidate)
    assert loss.mean == pytest.approx(0.01)
    assert loss.upper == pytest.approx(0.01 + 1.6487 * 0.0049812, abs=1e-4)
    shuffled = bound_paired_loss(reference, rng.permutation(candidate))
    assert shuffled.upper > 3 * loss.upper


def test_identical_outcomes_do_not_prove_matched_quality() -> None:
    few = np.ones(20)
    assert bound_paired_loss(few, few).upper == pytest.approx(1 - 0.05 ** (1 / 20))
    assert bound_unseen_share(148) > 0.02 > bound_unseen_share(149)


def test_paired_loss_bound_covers() -> None:
    rng = np.random.default_rng(2)
    easiness = rng.beta(0.5, 0.5, size=(500, 150))
    reference = (rng.random((500, 150)) < easiness).astype(float)
    candidate = (rng.random((500, 150)) < 0.9 * easiness).astype(float)
    truth = 0.1 * 0.5
    covered = np.mean(
        [bound_paired_loss(a, b).upper >= truth for a, b in zip(reference, candidate, strict=True)]
    )
    assert 0.92 <= covered <= 0.98


def test_paired_loss_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="same non-empty problems"):
        bound_paired_loss(np.ones(3), np.ones(4))


def test_resamples_agree_with_explicit_repetition() -> None:
    rng = np.random.default_rng(3)
    speeds = rng.lognormal(size=14)
    cell = CellSamples(rng.random(7), speeds, np.repeat(np.arange(7), 2))
    resamples = resample_cells([cell, cell], num_draws=25, seed=9)
    draws = np.random.default_rng(9).integers(0, 7, (25, 7))
    for index, draw in enumerate(draws):
        repeated = np.concatenate([speeds[2 * p : 2 * p + 2] for p in draw])
        assert resamples.speeds[index, 0] == pytest.approx(np.median(repeated))
        assert resamples.pass_at_1[index, 0] == pytest.approx(cell.pass_fractions[draw].mean())
    np.testing.assert_array_equal(resamples.speeds[:, 0], resamples.speeds[:, 1])


def test_inclusion_is_sure_only_where_the_data_are() -> None:
    ones = np.ones(50)
    index = np.arange(50)
    best = CellSamples(ones, 10 * ones, index)
    beaten = CellSamples(0 * ones, 5 * ones, index)
    rng = np.random.default_rng(4)
    noisy = CellSamples(rng.integers(0, 2, 50).astype(float), 9 + 2 * rng.random(50), index)
    inclusion = compute_inclusion_probability(resample_cells([best, beaten, noisy], 300, seed=0))
    assert inclusion[0] == 1.0
    assert inclusion[1] == 0.0
    assert 0.0 < inclusion[2] < 1.0
