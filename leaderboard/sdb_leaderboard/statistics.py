"""Estimates with honest uncertainty: pass@k, intervals, paired differences, bootstrap.

Place in the flow: `table.py` and `panel.py` hand in arrays of per-problem pass fractions; the
numbers come back with the intervals that the page shows. The unit that is resampled or counted
as independent is always the problem, never the sample: samples of one problem are correlated,
and pooling them makes a nominal 95 % interval cover 45-75 % (Miller, arXiv 2411.00640).

It does not correct for looking at many cells at once, does not model clusters of related
problems, and does not know about variation between machines or processes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sdb_leaderboard.pareto import find_frontier

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def estimate_pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """Unbiased pass@k of one problem: 1 - C(n - c, k) / C(n, k).

    Source: Chen et al., arXiv 2107.03374, equation 1. Exact integers, no rounding.

    Args:
        num_samples: Scored samples n of the problem.
        num_passed: How many of them passed, c.
        k: Size of the drawn subset.

    Raises:
        ValueError: If `k` is not in 1..n, or c is not in 0..n.
    """
    if not 1 <= k <= num_samples:
        raise ValueError(
            f"k={k} needs 1 <= k <= {num_samples} samples per problem; draw more or lower k"
        )
    if not 0 <= num_passed <= num_samples:
        raise ValueError(f"num_passed={num_passed} is outside 0..{num_samples}")
    return 1.0 - math.comb(num_samples - num_passed, k) / math.comb(num_samples, k)


@dataclass(frozen=True, slots=True)
class ScoreInterval:
    """A mean over problems with its two-sided interval, all in [0, 1]."""

    mean: float
    low: float
    high: float
    effective_n: float
    """Independent yes/no trials that would have the same standard error."""


def compute_score_interval(pass_fractions: FloatArray, confidence: float = 0.95) -> ScoreInterval:
    """Wilson interval at the effective sample size m(1 - m) / se^2.

    `se` is the standard error between problems, so correlated samples are not counted twice.
    Without any variance between problems the effective size is the number of problems; a score of
    exactly 0 or 1 then gets the exact Clopper-Pearson interval.

    Args:
        pass_fractions: Shape [P], fraction of passing samples of each problem.
        confidence: Two-sided coverage.

    Raises:
        ValueError: If there is no problem.
    """
    num_problems = len(pass_fractions)
    if num_problems == 0:
        raise ValueError("no scored problem; an interval needs at least one")
    variance = float(np.var(pass_fractions, ddof=1)) / num_problems if num_problems > 1 else 0.0
    return _bound_score(float(np.mean(pass_fractions)), variance, num_problems, confidence)


def compute_macro_interval(
    pass_fractions: FloatArray,
    languages: Sequence[str],
    tasks: Sequence[str],
    confidence: float = 0.95,
) -> ScoreInterval:
    """The plain mean of the languages' means, with the interval of `compute_score_interval`.

    The languages are given, not drawn; what is drawn are tasks. A task in several languages counts
    once: what makes it hard in one makes it hard in the others.

    Args:
        pass_fractions: Shape [P], fraction of passing samples of each problem.
        languages: P names.
        tasks: P names, equal where problems are one task in several languages.
        confidence: Two-sided coverage.

    Raises:
        ValueError: If there is no problem.
    """
    if len(pass_fractions) == 0:
        raise ValueError("no scored problem; an interval needs at least one")
    names, of_language = np.unique(languages, return_inverse=True)
    sizes = np.bincount(of_language)
    means = np.bincount(of_language, pass_fractions) / sizes
    parts = (pass_fractions - means[of_language]) / (len(names) * sizes[of_language])
    by_task = np.bincount(np.unique(tasks, return_inverse=True)[1], parts)
    num_tasks = len(by_task)
    variance = float(np.sum(by_task**2)) * num_tasks / max(1, num_tasks - 1)
    return _bound_score(float(np.mean(means)), variance, num_tasks, confidence)


def _bound_score(
    mean: float, variance: float, num_independent: int, confidence: float
) -> ScoreInterval:
    """Wilson interval of a mean with the squared standard error `variance`."""
    tail = (1.0 - confidence) / 2.0
    if mean in (0.0, 1.0):
        edge = tail ** (1.0 / num_independent)
        low, high = (0.0, 1.0 - edge) if mean == 0.0 else (edge, 1.0)
        return ScoreInterval(mean, low, high, float(num_independent))
    effective_n = mean * (1.0 - mean) / variance if variance > 0.0 else float(num_independent)
    z = NormalDist().inv_cdf(1.0 - tail)
    center = (mean + z * z / (2.0 * effective_n)) / (1.0 + z * z / effective_n)
    half = (z / (1.0 + z * z / effective_n)) * math.sqrt(
        mean * (1.0 - mean) / effective_n + z * z / (4.0 * effective_n**2)
    )
    return ScoreInterval(mean, max(0.0, center - half), min(1.0, center + half), effective_n)


@dataclass(frozen=True, slots=True)
class PairedLoss:
    """How much quality a candidate loses against a reference on the same problems."""

    mean: float
    """Reference minus candidate, in [-1, 1]; positive means the candidate is worse."""
    upper: float
    """One-sided upper confidence bound of that loss."""
    num_problems: int


def bound_paired_loss(
    reference: FloatArray, candidate: FloatArray, confidence: float = 0.95
) -> PairedLoss:
    """Paired difference by problem with a one-sided t bound.

    The margin is never below the exact bound for "nothing was seen": with P problems a change
    that hits a share q of them stays invisible with probability (1 - q)^P, so identical outcomes
    still allow a loss of 1 - (1 - confidence)^(1/P) (149 problems for two points at 95 %).

    Args:
        reference: Shape [P], pass fractions of the reference.
        candidate: Shape [P], pass fractions of the candidate, same problems in the same order.
        confidence: One-sided coverage of `upper`.

    Raises:
        ValueError: If the shapes differ or no problem is shared.
    """
    if reference.shape != candidate.shape or len(reference) == 0:
        raise ValueError(
            f"paired arrays have shapes {reference.shape} and {candidate.shape}; "
            "pass the same non-empty problems to both"
        )
    from scipy.special import stdtrit  # slow, and a table without pairs does not need it

    num_problems = len(reference)
    loss = reference - candidate
    margin = bound_unseen_share(num_problems, confidence)
    if num_problems > 1:
        standard_error = float(np.std(loss, ddof=1)) / math.sqrt(num_problems)
        margin = max(margin, float(stdtrit(num_problems - 1, confidence)) * standard_error)
    mean = float(np.mean(loss))
    return PairedLoss(mean, min(1.0, mean + margin), num_problems)


def bound_unseen_share(num_problems: int, confidence: float = 0.95) -> float:
    """Largest share of problems that can differ although none of `num_problems` did."""
    return float(1.0 - (1.0 - confidence) ** (1.0 / num_problems))


@dataclass(frozen=True, slots=True)
class CellSamples:
    """What the bootstrap needs of one cell; problems in the same order for every cell."""

    pass_fractions: FloatArray
    """Shape [P]."""
    speeds: FloatArray
    """Shape [N], tokens/s/user of each sample that has a speed."""
    speed_problems: IntArray
    """Shape [N], the problem index in 0..P-1 of each speed."""


@dataclass(frozen=True, slots=True)
class Resamples:
    """Bootstrap draws of the two axes, shapes [R, M] for R draws and M cells."""

    speeds: FloatArray
    pass_at_1: FloatArray


def resample_cells(cells: Sequence[CellSamples], num_draws: int, seed: int) -> Resamples:
    """Draw problems with replacement, the same draw for every cell and for both axes.

    Pairing keeps what two cells share (an easy problem is easy for both) out of their difference.

    Args:
        cells: M cells over the same P problems.
        num_draws: R, the number of resamples.
        seed: Of the random generator; the same seed gives the same draws.
    """
    num_problems = len(cells[0].pass_fractions)
    draws = np.random.default_rng(seed).integers(0, num_problems, (num_draws, num_problems))
    offsets = np.arange(num_draws)[:, None] * num_problems
    counts = np.bincount((draws + offsets).ravel(), minlength=num_draws * num_problems)
    weights = counts.reshape(num_draws, num_problems)  # [R, P]: how often each problem was drawn
    fractions = np.stack([cell.pass_fractions for cell in cells])  # [M, P]
    pass_at_1 = weights @ fractions.T / num_problems  # [R, M]
    speeds = [_compute_weighted_medians(c.speeds, weights[:, c.speed_problems]) for c in cells]
    return Resamples(np.stack(speeds, axis=1), pass_at_1)


def _compute_weighted_medians(values: FloatArray, weights: IntArray) -> FloatArray:
    """Median of `values` [N] repeated `weights` [R, N] times, for each of the R rows."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[:, order], axis=1)
    half = cumulative[:, -1:] / 2.0
    lower = values[order][np.argmax(cumulative >= half, axis=1)]
    upper = values[order][np.argmax(cumulative > half, axis=1)]
    return np.asarray((lower + upper) / 2.0, dtype=np.float64)


def compute_inclusion_probability(resamples: Resamples) -> FloatArray:
    """Share of bootstrap draws in which each cell is on the frontier, shape [M]."""
    flags = [
        find_frontier(speeds, pass_at_1)
        for speeds, pass_at_1 in zip(resamples.speeds, resamples.pass_at_1, strict=True)
    ]
    return np.asarray(np.mean(flags, axis=0), dtype=np.float64)
