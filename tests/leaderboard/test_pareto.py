"""Frontier functions against their definitions."""

import numpy as np
import pytest

from sdb_leaderboard.pareto import (
    compute_attainment,
    find_fastest_matched,
    find_frontier,
    trace_staircase,
)


@pytest.mark.parametrize("seed", range(20))
def test_frontier_equals_brute_force_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    speeds, qualities = rng.integers(0, 6, (2, 25)).astype(float)
    expected = [
        not any(
            (speeds[j] >= speeds[i] and qualities[j] >= qualities[i])
            and (speeds[j] > speeds[i] or qualities[j] > qualities[i])
            for j in range(25)
        )
        for i in range(25)
    ]
    np.testing.assert_array_equal(find_frontier(speeds, qualities), expected)


def test_floor_removes_points_and_promotes_none() -> None:
    speeds, qualities = np.array([1.0, 2.0, 3.0, 1.5]), np.array([0.9, 0.6, 0.1, 0.55])
    np.testing.assert_array_equal(
        find_frontier(speeds, qualities, quality_floor=0.5), [True, True, False, False]
    )


def test_frontier_of_nothing_is_empty() -> None:
    assert find_frontier(np.zeros(0), np.zeros(0)).shape == (0,)


def test_staircase_steps_down_at_each_point() -> None:
    xs, ys = trace_staircase(np.array([3.0, 1.0]), np.array([0.2, 0.8]), left=0.5, bottom=0.0)
    np.testing.assert_array_equal(xs, [0.5, 1.0, 1.0, 3.0, 3.0])
    np.testing.assert_array_equal(ys, [0.8, 0.8, 0.2, 0.2, 0.0])


def test_attainment_of_equal_draws_is_their_frontier() -> None:
    speeds = np.tile([1.0, 2.0, 1.5], (10, 1))
    qualities = np.tile([0.9, 0.5, 0.4], (10, 1))
    for xs, ys in compute_attainment(speeds, qualities).values():
        np.testing.assert_array_equal(xs, [1.0, 2.0])
        np.testing.assert_array_equal(ys, [0.9, 0.5])


def test_attainment_orders_the_sure_and_the_possible_border() -> None:
    speeds = np.linspace(1.0, 2.0, 101)[:, None]
    borders = compute_attainment(speeds, np.full((101, 1), 0.5))
    assert borders[95.0][0] == pytest.approx(1.05, abs=0.011)
    assert borders[5.0][0] == pytest.approx(1.95, abs=0.011)


def test_fastest_matched_respects_the_tolerance() -> None:
    speeds, bounds = np.array([5.0, 9.0, 7.0]), np.array([0.0, 0.02, 0.019])
    assert find_fastest_matched(speeds, bounds, 0.02) == 2
    assert find_fastest_matched(speeds, bounds, 0.0) is None
