"""The differentiated policy: its limit is the sampler, and its gradient is the exact one."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor

from sdb_reference_model.model import SIZES, ModelConfig, Transformer
from sdb_reference_model.onpolicy import compute_advantages, compute_policy_loss
from sdb_reference_model.policies import commit_above
from sdb_reference_model.rollout import (
    Rollouts,
    StepPolicy,
    compute_commit_logits,
    compute_divergence,
    compute_log_pi,
    read_reference,
    roll_out,
)
from sdb_reference_model.sampler import sample_blocks
from sdb_reference_model.tokenizer import CodeTokenizer

PROMPTS = [[10, 11, 12, 13, 14], [20, 21], [30, 31, 32, 33, 34, 35, 36, 37, 38], [40]]
TOKENIZER = CodeTokenizer.train(["red blue green"], 300)


@functools.cache
def make_model(end_weight: float = 2.0) -> Transformer:
    model = Transformer(replace(SIZES["test"], vocab_size=300))
    model.initialise(torch.Generator().manual_seed(7))
    for block in model.blocks:
        for weight in block.parameters():
            weight.data *= 6
    model.embedding.weight.data *= 20
    model.embedding.weight.data[TOKENIZER.end_id] *= end_weight
    return model.eval()


def draw(policy: StepPolicy, seed: int = 0) -> Rollouts:
    generator = torch.Generator().manual_seed(seed)
    return roll_out(make_model(), TOKENIZER, PROMPTS, policy, 4, 16, generator)


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.95])
def test_without_chance_it_is_the_sampler(threshold: float) -> None:
    rollouts = draw(StepPolicy(threshold, softness=1e-6, temperature=1e-6))
    expected = sample_blocks(
        make_model(),
        TOKENIZER,
        PROMPTS,
        block_size=4,
        policy=commit_above(threshold),
        max_new_tokens=16,
    )
    assert {g.finish_reason for g in expected} == {"stop", "length"}
    assert rollouts.num_steps.tolist() == [g.nfe_denoise for g in expected]
    for row, generation in enumerate(expected):
        num_tokens = len(generation.token_ids)
        assert rollouts.batch.answer[row, :num_tokens].tolist() == generation.token_ids
        has_end = generation.finish_reason == "stop"
        assert int(rollouts.batch.answer_lengths[row]) == num_tokens + has_end
        assert bool(rollouts.has_end[row]) == has_end


def test_states_follow_from_the_actions() -> None:
    rollouts = draw(StepPolicy(0.5, 0.5, 1.0))
    end_id, mask_id = TOKENIZER.end_id, TOKENIZER.mask_id
    assert not (rollouts.is_drawn & (rollouts.slabs != mask_id)).any()
    assert not (rollouts.is_committed & (rollouts.slabs != mask_id)).any()
    answers = rollouts.batch.answer.view(len(PROMPTS), -1, 4)
    for slab, block in enumerate(rollouts.block_of):
        after = torch.where(
            rollouts.is_committed[:, slab], rollouts.tokens[:, slab], rollouts.slabs[:, slab]
        )
        after[(after == end_id).cumsum(dim=1) > 0] = end_id
        is_last = slab + 1 == len(rollouts.block_of) or rollouts.block_of[slab + 1] != block
        follows = answers[:, block] if is_last else rollouts.slabs[:, slab + 1]
        assert torch.equal(after, follows)
    assert torch.equal(
        rollouts.count_revealed().sum(dim=1) <= rollouts.batch.answer_lengths,
        torch.ones(len(PROMPTS), dtype=torch.bool),
    )


def test_half_of_the_commits_happen_at_the_threshold() -> None:
    policy = StepPolicy(0.8, 0.3, 1.0)
    logits = compute_commit_logits(torch.tensor([0.2, 0.8, 0.99, 1.0]).log(), policy)
    assert torch.sigmoid(logits)[1] == pytest.approx(0.5, abs=1e-4)
    assert logits.tolist() == sorted(logits.tolist())
    assert torch.isfinite(logits).all()
    assert torch.sigmoid(logits[3]) > 0.99


# A model of two positions and four tokens, whose every run can be listed.

TOY_TOKENIZER = cast(CodeTokenizer, SimpleNamespace(pad_id=0, end_id=1, mask_id=2))
TOY_POLICY = StepPolicy(threshold=0.4, softness=0.7, temperature=0.8)
TOY_PROMPT = [3, 4]


def make_toy() -> Transformer:
    model = Transformer(ModelConfig(5, 8, 1, 2, 2, 8, 8))
    model.initialise(torch.Generator().manual_seed(1))
    for weight in model.parameters():
        if weight.dim() == 2:
            weight.data *= 20
    return model


def list_runs(
    model: Transformer, state: tuple[int, int], num_steps: int = 0
) -> Iterator[tuple[Tensor, tuple[int, int], int]]:
    """Every run from a state: (log-probability, answer, steps); each state by its own forward."""
    end, mask = TOY_TOKENIZER.end_id, TOY_TOKENIZER.mask_id
    if mask not in state:
        yield torch.zeros(()), state, num_steps
        return
    sees = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]).bool()
    hidden = model(torch.tensor([[*TOY_PROMPT, *state]]), mask=sees[None, None])[0, 2:]
    logits = hidden @ model.head_weight.T
    logits = torch.stack([logits[:, token] for token in (0, 1, 3, 4)], dim=1)  # mask left out
    ids = (0, 1, 3, 4)
    log_p = logits.log_softmax(dim=-1)
    log_draw = (logits / TOY_POLICY.temperature).log_softmax(dim=-1)
    best_log_p, best = log_p.max(dim=-1)
    proposal = [ids[int(best[i])] if state[i] == mask else state[i] for i in range(2)]
    open_ = [i for i in range(2) if state[i] == mask]
    if proposal == [end, end]:
        open_ = [i for i in open_ if i == 0]  # the second end token is not up for decision
    first = max(open_, key=lambda i: float(best_log_p[i].detach()))
    others = [i for i in open_ if i != first]
    for commits in ([first], [first, *others]) if others else ([first],):
        log_commit = torch.zeros(())
        for i in others:
            kappa = best_log_p[i].exp()
            log_odds = (kappa / (1 - kappa)).log() - torch.logit(torch.tensor(0.4))
            chance = torch.sigmoid(log_odds / TOY_POLICY.softness)
            log_commit = log_commit + (chance if i in commits else 1 - chance).log()
        for choice in range(4 ** len(commits)):
            following, log_tokens = list(state), torch.zeros(())
            for position in commits:
                token, choice = choice % 4, choice // 4
                following[position] = ids[token]
                log_tokens = log_tokens + log_draw[position, token]
            if following[0] == end:
                following[1] = end
            tail = list_runs(model, (following[0], following[1]), num_steps + 1)
            for log_rest, answer, total_steps in tail:
                yield log_commit + log_tokens + log_rest, answer, total_steps


def reward(answer: tuple[int, ...], num_steps: int) -> float:
    return 2.0 * (answer[0] == 3) + 1.0 * (answer[1] == answer[0]) - 0.7 * num_steps


def test_the_score_function_gradient_is_the_exact_gradient() -> None:
    model, mask = make_toy(), TOY_TOKENIZER.mask_id
    runs = list(list_runs(model, (mask, mask)))
    total = torch.stack([log_p.exp() for log_p, _, _ in runs]).sum()
    assert float(total.detach()) == pytest.approx(1.0, abs=1e-4)
    by_chance = [float(log_p.detach().exp()) for log_p, _, steps in runs if steps == 2]
    assert 0.1 < sum(by_chance) < 0.9  # both numbers of steps really happen
    expected_reward = torch.stack([log_p.exp() * reward(a, k) for log_p, a, k in runs]).sum()
    (-expected_reward).backward()  # type: ignore[no-untyped-call]
    exact = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    generator = torch.Generator().manual_seed(0)
    estimates = []
    for _ in range(40):
        model.zero_grad(set_to_none=True)
        rollouts = roll_out(model, TOY_TOKENIZER, [TOY_PROMPT] * 200, TOY_POLICY, 2, 2, generator)
        answers = [tuple(ids) for ids in rollouts.batch.answer.tolist()]
        rewards = torch.tensor(
            [reward(a, k) for a, k in zip(answers, rollouts.num_steps.tolist(), strict=True)]
        )
        advantages = compute_advantages(rewards, torch.ones(200, dtype=torch.bool), 4)
        log_pi, _ = compute_log_pi(model, rollouts, TOY_POLICY, mask)
        compute_policy_loss(log_pi, advantages).backward()  # type: ignore[no-untyped-call]
        estimates.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    stacked = torch.stack(estimates)
    error = stacked.std(dim=0) / 40**0.5
    moves = error > 1e-6  # weights that no run depends on
    z = ((stacked.mean(dim=0) - exact) / error)[moves]
    assert float(exact.norm() / error.norm()) > 5  # or the comparison would show nothing
    assert float(z.abs().max()) < 5
    assert float(z.square().mean()) < 2


def test_log_pi_is_that_of_the_listed_runs() -> None:
    model, mask = make_toy(), TOY_TOKENIZER.mask_id
    rollouts = roll_out(
        model, TOY_TOKENIZER, [TOY_PROMPT] * 30, TOY_POLICY, 2, 2, torch.Generator().manual_seed(3)
    )
    log_pi, _ = compute_log_pi(model, rollouts, TOY_POLICY, mask)
    listed = {
        (float(log_p.detach()), answer, steps)
        for log_p, answer, steps in list_runs(model, (mask, mask))
    }
    for row in range(30):
        answer = tuple(rollouts.batch.answer[row].tolist())
        steps = int(rollouts.num_steps[row])
        own = float(log_pi[row].detach())
        nearest = min(abs(p - own) for p, a, k in listed if (a, k) == (answer, steps))
        assert nearest < 1e-3


def test_the_divergence_pulls_back_to_the_start() -> None:
    start, moved = make_toy(), make_toy()
    generator = torch.Generator().manual_seed(5)
    rollouts = roll_out(start, TOY_TOKENIZER, [TOY_PROMPT] * 20, TOY_POLICY, 2, 2, generator)
    mask = TOY_TOKENIZER.mask_id

    def diverge() -> Tensor:
        _, log_p = compute_log_pi(moved, rollouts, TOY_POLICY, mask)
        return compute_divergence(log_p, read_reference(start, rollouts, mask), mask)

    at_start = diverge()
    at_start.backward()  # type: ignore[no-untyped-call]
    assert float(at_start.detach()) == pytest.approx(0.0, abs=1e-6)
    for weight in moved.parameters():
        assert weight.grad is not None
        assert torch.isfinite(weight.grad).all()
        assert float(weight.grad.abs().max()) < 1e-4
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    before = float(diverge().detach())
    for _ in range(20):
        moved.zero_grad()
        diverge().backward()  # type: ignore[no-untyped-call]
        for weight in moved.parameters():
            assert weight.grad is not None
            weight.data -= 0.02 * weight.grad
    assert 0 < float(diverge().detach()) < 0.7 * before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1.0, 0.5, 1.0), "threshold=1.0 must be between 0 and 1"),
        ((0.0, 0.5, 1.0), "threshold=0.0"),
        ((0.9, 0.0, 1.0), "softness=0.0"),
        ((0.9, 0.5, 0.0), "temperature=0.0 must be positive"),
    ],
)
def test_policies_without_a_gradient_are_refused(
    values: tuple[float, float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        StepPolicy(*values)
