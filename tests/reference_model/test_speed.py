"""The costs of Eqs. 10 and 11 against brute force over real states."""

import itertools
import random

import pytest
import torch

from sdb_reference_model.speed import SpeedObjective, compute_speed_cost


def measure_levenshtein(a: list[int], b: list[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def draw_states(rng: random.Random, num_tokens: int) -> list[list[int]]:
    """A run over two tokens, so that states look alike by chance; 9 is the mask."""
    answer = [rng.randrange(2) for _ in range(num_tokens)]
    state, states = [9] * num_tokens, [[9] * num_tokens]
    hidden = list(range(num_tokens))
    rng.shuffle(hidden)
    while hidden:
        for _ in range(min(len(hidden), rng.choice([1, 1, 2, 5]))):
            position = hidden.pop()
            state[position] = answer[position]
        states.append(list(state))
    return states


def cost_of(
    counts: list[list[int]], objective: SpeedObjective, progress: float = 0.0
) -> list[float]:
    width = max(map(len, counts))
    num_revealed = torch.tensor([[*c, *[0] * (width - len(c))] for c in counts])
    is_step = torch.tensor([[True] * len(c) + [False] * (width - len(c)) for c in counts])
    return compute_speed_cost(num_revealed, is_step, objective, progress).tolist()


def test_costs_equal_brute_force_over_the_states() -> None:
    rng = random.Random(0)
    runs = [draw_states(rng, n) for n in (1, 3, 9, 9, 14, 14)]
    counts = [[a.count(9) - b.count(9) for a, b in itertools.pairwise(states)] for states in runs]
    for states, steps, adjacent, all_pairs in zip(
        runs,
        cost_of(counts, "steps"),
        cost_of(counts, "adjacent"),
        cost_of(counts, "all-pairs"),
        strict=True,
    ):
        neighbours = [1 / measure_levenshtein(a, b) for a, b in itertools.pairwise(states)]
        pairs = [1 / measure_levenshtein(a, b) for a, b in itertools.permutations(states, 2)]
        assert steps == pytest.approx((len(states) - 1) / len(states[0]))
        assert adjacent == pytest.approx(sum(neighbours) / len(neighbours))
        assert all_pairs == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize(("num_steps", "expected"), [(8, 0.0286), (64, 0.0587)])
def test_all_pairs_grow_like_the_logarithm_of_the_steps(num_steps: int, expected: float) -> None:
    counts = [[128 // num_steps] * num_steps]
    harmonic = sum(1 / k for k in range(1, num_steps + 1))
    formula = 2 / 128 * (harmonic - num_steps / (num_steps + 1))
    (cost,) = cost_of(counts, "all-pairs")
    assert cost == pytest.approx(formula, rel=1e-5)
    assert cost == pytest.approx(expected, abs=5e-5)
    assert cost_of(counts, "adjacent") == cost_of(counts, "steps") == [num_steps / 128]


def test_progressive_goes_from_all_pairs_to_adjacent_pairs() -> None:
    counts = [[1, 1, 2], [4]]
    weak, strong = cost_of(counts, "all-pairs"), cost_of(counts, "adjacent")
    assert cost_of(counts, "progressive", 0.0) == weak
    assert cost_of(counts, "progressive", 1.0) == strong
    halfway = cost_of(counts, "progressive", 0.5)
    assert halfway == pytest.approx([(w + s) / 2 for w, s in zip(weak, strong, strict=True)])


def test_a_step_that_reveals_nothing_of_the_answer_costs_most() -> None:
    assert cost_of([[0, 4]], "adjacent") == [pytest.approx((1 + 1 / 4) / 2)]
    assert cost_of([[0, 4]], "steps") == [pytest.approx(2 / 4)]
    assert cost_of([[0, 4]], "all-pairs") == [pytest.approx((1 + 1 / 4 + 1 / 4) / 3)]
