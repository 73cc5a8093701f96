"""Trajectories: what a run's record says, its ELBO by two ways, orders, and selection."""

import itertools
from functools import partial

import pytest
import torch
from tests.reference_model.tiny import make_model as make_tiny_model
from tests.reference_model.tiny import make_tokenizer
from torch import Tensor

from sdb_reference_model.data import collate
from sdb_reference_model.policies import Policy, commit_above
from sdb_reference_model.sampler import Generation, sample_blocks
from sdb_reference_model.states import Batch, read_slabs
from sdb_reference_model.trajectories import (
    Recorder,
    Trajectory,
    estimate_elbo,
    pad_steps,
    reorder,
    score_trajectories,
    select_best,
)

PROMPTS = [[10, 11, 12, 13, 14], [20, 21], [30, 31, 32, 33, 34, 35, 36, 37, 38], [40]]
BLOCK = 4
make_model = partial(make_tiny_model, 0.3, scale=20.0)
"""Ends are likely."""


def record(policy: Policy, temperature: float = 1.0) -> tuple[list[Trajectory], list[Generation]]:
    recorder = Recorder(policy)
    generations = sample_blocks(
        make_model(),
        make_tokenizer(),
        PROMPTS,
        block_size=BLOCK,
        policy=recorder,
        max_new_tokens=16,
        temperature=temperature,
    )
    end_id = make_tokenizer().end_id
    return [recorder.read(row, g, end_id) for row, g in enumerate(generations)], generations


def batch_of(trajectories: list[Trajectory]) -> tuple[Batch, Tensor]:
    tokenizer = make_tokenizer()
    batch = collate(
        PROMPTS, [t.answer_ids for t in trajectories], tokenizer.pad_id, tokenizer.end_id, BLOCK
    )
    return batch, pad_steps([t.commit_steps for t in trajectories], batch.answer.shape[1], BLOCK)


def read_plainly(prompt: list[int], past: list[int], block: list[int]) -> Tensor:
    """Log-probabilities [b, V] of one state by a forward of its own: the definition."""
    model, tokenizer = make_model(), make_tokenizer()
    tokens = torch.tensor([[*prompt, *past, *block]])
    part = torch.cat(
        (
            torch.zeros(len(prompt)),
            torch.arange(len(past) + len(block)) // BLOCK + 1,
        )
    )
    mask = (part[None, :] <= part[:, None])[None, None]
    logits = model(tokens, mask=mask)[0, -len(block) :] @ model.head_weight.T
    logits[:, tokenizer.mask_id] = -torch.inf
    log_p: Tensor = logits.log_softmax(dim=-1)
    return log_p


def test_a_slab_is_read_as_a_forward_of_its_own() -> None:
    mask_id = make_tokenizer().mask_id
    batch, _ = batch_of(record(commit_above(1.0))[0])
    slabs = batch.answer.view(len(PROMPTS), -1, BLOCK)[:, [0, 1, 1, 0]].clone()
    slabs[:, 0, :2] = mask_id
    slabs[:, 1, 1:] = mask_id
    slabs[:, 3] = mask_id
    hidden = read_slabs(make_model(), batch, slabs, [0, 1, 1, 0])
    for row, slab in itertools.product(range(len(PROMPTS)), range(4)):
        past = batch.answer[row, : BLOCK * [0, 1, 1, 0][slab]].tolist()
        expected = read_plainly(PROMPTS[row], past, slabs[row, slab].tolist())
        logits = hidden[row, slab] @ make_model().head_weight.T
        logits[:, mask_id] = -torch.inf
        torch.testing.assert_close(logits.log_softmax(-1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threshold", [1.0, 0.4, 0.1])
def test_recorded_log_p_is_that_of_the_definition(threshold: float) -> None:
    trajectories, generations = record(commit_above(threshold))
    batch, steps = batch_of(trajectories)
    log_p = score_trajectories(make_model(), batch, steps, BLOCK, make_tokenizer().mask_id)
    assert sum(t.num_discarded == 0 for t in trajectories) >= 2
    for row, (trajectory, generation) in enumerate(zip(trajectories, generations, strict=True)):
        assert trajectory.num_steps == generation.nfe_denoise
        if trajectory.num_discarded:
            continue
        length = len(trajectory.answer_ids)
        expected = torch.tensor(trajectory.log_p)
        torch.testing.assert_close(log_p[row, :length], expected, rtol=1e-3, atol=1e-4)
        assert (log_p[row, length:] == 0).all()
        assert float(log_p[row].sum()) == pytest.approx(trajectory.elbo, rel=1e-3)


def test_overwritten_tokens_and_missing_ends_are_seen() -> None:
    trajectories, generations = record(commit_above(1.0))
    assert {t.has_end for t in trajectories} == {True, False}
    assert any(t.num_discarded for t in trajectories)
    for trajectory, generation in zip(trajectories, generations, strict=True):
        assert trajectory.has_end == (generation.finish_reason == "stop")
        assert trajectory.answer_ids[: len(generation.token_ids)] == generation.token_ids
        assert trajectory.is_complete == (trajectory.has_end and not trajectory.num_discarded)


def test_elbo_from_left_to_right_is_the_chain_of_next_token_log_probabilities() -> None:
    """One token a step from the left: each token given all before it, as in a chain rule."""
    answer, mask_id = [50, 51, 52, 53, 54, 55], make_tokenizer().mask_id
    batch = collate([PROMPTS[0]], [answer], 0, make_tokenizer().end_id, BLOCK)
    steps = pad_steps([[0, 1, 2, 3, 0, 1]], 8, BLOCK)
    chain = 0.0
    for index, token in enumerate(answer):
        start = index // BLOCK * BLOCK
        shown = answer[start:index]
        block = [*shown, *[mask_id] * (BLOCK - len(shown))]
        chain += float(read_plainly(PROMPTS[0], answer[:start], block)[len(shown), token])
    log_p = score_trajectories(make_model(), batch, steps, BLOCK, mask_id)
    assert float(log_p.sum()) == pytest.approx(chain, rel=1e-4)


def test_monte_carlo_elbo_is_the_mean_over_all_orders() -> None:
    answer, mask_id = [50, 51, 52, 53], make_tokenizer().mask_id
    orders = list(itertools.permutations(range(4)))
    batch = collate([PROMPTS[0]] * 24, [answer] * 24, 0, make_tokenizer().end_id, BLOCK)
    exact = score_trajectories(make_model(), batch, torch.tensor(orders), BLOCK, mask_id)
    one = collate([PROMPTS[0]], [answer], 0, make_tokenizer().end_id, BLOCK)
    generator = torch.Generator().manual_seed(0)
    estimates = torch.cat(
        [estimate_elbo(make_model(), one, BLOCK, mask_id, 100, generator) for _ in range(40)]
    )
    error = float(estimates.std()) / 40**0.5
    assert error < 0.2
    assert float(estimates.mean()) == pytest.approx(float(exact.sum(1).mean()), abs=4 * error)


@pytest.mark.parametrize("order", ["random", "left-to-right", "confidence", "elbo"])
def test_another_order_reveals_as_many_tokens_per_step(order: str) -> None:
    trajectories, _ = record(commit_above(0.4))
    batch, steps = batch_of(trajectories)
    generator = torch.Generator().manual_seed(1)
    mask_id = make_tokenizer().mask_id
    renewed = reorder(make_model(), batch, steps, order, BLOCK, mask_id, generator)  # type: ignore[arg-type]
    is_same = True
    for row, trajectory in enumerate(trajectories):
        length = len(trajectory.answer_ids)
        for start in range(0, length, BLOCK):
            own = slice(start, min(start + BLOCK, length))
            assert sorted(renewed[row, own].tolist()) == sorted(trajectory.commit_steps[own])
            if order == "left-to-right":
                assert renewed[row, own].tolist() == sorted(trajectory.commit_steps[own])
        is_same &= renewed[row, :length].tolist() == trajectory.commit_steps
        tail = renewed[row, length : -(-length // BLOCK) * BLOCK]
        assert (tail == renewed[row, length - 1]).all()
    assert is_same == (order == "elbo")


def test_confidence_order_reveals_the_most_probable_token_of_the_answer_first() -> None:
    answer, mask_id = [50, 51, 52, 53], make_tokenizer().mask_id
    batch = collate([PROMPTS[0]], [answer], 0, make_tokenizer().end_id, BLOCK)
    steps = torch.tensor([[0, 1, 2, 3]])
    found = reorder(make_model(), batch, steps, "confidence", BLOCK, mask_id, torch.Generator())
    is_open = [True] * 4
    for step in range(4):
        block = [mask_id if o else a for o, a in zip(is_open, answer, strict=True)]
        log_p = read_plainly(PROMPTS[0], [], block)
        best = max((i for i in range(4) if is_open[i]), key=lambda i: float(log_p[i, answer[i]]))
        assert int(found[0, best]) == step
        is_open[best] = False


def test_the_planted_best_wins_and_only_what_may() -> None:
    elbos, done = [-9.0, -1.0, -5.0, -2.0], [True, False, True, True]
    assert select_best(elbos, done, None) == 3
    assert select_best(elbos, [True] * 4, None) == 1
    assert select_best(elbos, done, [1.0, 1.0, 1.0, 0.5]) == 2
    assert select_best(elbos, done, [None, 1.0, 0.0, 0.9]) is None
    assert select_best([], [], None) is None


def test_the_tail_is_revealed_with_the_end_token() -> None:
    assert pad_steps([[0, 2, 1, 0, 1], [3]], 8, 4).tolist() == [
        [0, 2, 1, 0, 1, 1, 1, 1],
        [3, 3, 3, 3, -1, -1, -1, -1],
    ]
