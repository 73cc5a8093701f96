"""Trajectories: in which order a run revealed its answer, and how probable that order is.

A trajectory tau = {x_0 -> ... -> x_K}, x_K all masks, is one order of the any-order view (Eq. 7).
Backwards it is a sampling run, of which we keep per token the denoising step of its block that
committed it; the states follow from that. Its ELBO is the chain along the order,

    ELBO(tau) = sum over steps r  sum over tokens i revealed at r  log p_theta(x_0[i] | x_r)

Place in the flow: `distill.py` samples a pool with a `Recorder` around every policy and keeps the
best by ELBO; `constrained.py` fine-tunes on the states of what was kept (Eq. 9).

Choice: the default ELBO is the one of the trajectory. It is exact, a by-product of sampling, and
tells orders apart; the Monte-Carlo ELBO (`estimate_elbo`) averages over all orders, so that it
rates answers only. The paper does not say which it maximises.

Choice: the sum over tokens is maximised, not the mean: both compare answers to one prompt, and only
the sum is a bound on a log-likelihood. It favours short answers, which is why answers without an
end token never win, and why a verifier may have to accept the winner.

Choice: a run that committed tokens behind an end token which came later and overwrote them is no
order of its answer (`num_discarded`), and never wins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sdb_reference_model.model import Transformer
from sdb_reference_model.policies import Policy
from sdb_reference_model.sampler import Generation
from sdb_reference_model.states import Batch, compute_log_probabilities, read_slabs, split

Verify = Callable[[Sequence[int], Sequence[str]], Sequence[float | None]]
"""(rows of the prompts in their data set, completions) -> rewards in [0, 1].

None is a fault of the verifier, not of the program: no reward is given or refused.
"""

Order = Literal["elbo", "confidence", "random", "left-to-right"]


class Recorder:
    """A sampler policy that commits like another one, and remembers when and how surely."""

    def __init__(self, policy: Policy) -> None:
        """Wrap `policy` for one call of `sample_blocks`."""
        self.policy = policy
        self.steps: list[Tensor] = []  # one int64 [B, b] per block, -1 where nothing was committed
        self.log_p: list[Tensor] = []  # one float32 [B, b] per block

    def __call__(self, confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        """Commit what the wrapped policy commits."""
        is_committed = self.policy(confidence, is_open, step)
        if step == 0:
            self.steps.append(torch.full(is_open.shape, -1))
            self.log_p.append(torch.zeros(is_open.shape))
        self.steps[-1][is_committed] = step
        self.log_p[-1][is_committed] = confidence[is_committed].log()
        return is_committed

    def read(self, row: int, generation: Generation, end_id: int) -> "Trajectory":
        """Assemble the trajectory of one row after its generation has finished."""
        has_end = generation.finish_reason == "stop"
        answer_ids = [*generation.token_ids, end_id] if has_end else list(generation.token_ids)
        num_tokens = len(answer_ids)
        steps = [int(s) for part in self.steps for s in part[row]]
        return Trajectory(
            answer_ids=answer_ids,
            commit_steps=steps[:num_tokens],
            log_p=[float(p) for part in self.log_p for p in part[row]][:num_tokens],
            has_end=has_end,
            num_discarded=sum(step >= 0 for step in steps[num_tokens:]),
            num_steps=generation.nfe_denoise,
        )


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One run: its answer and, token by token, when it was revealed."""

    answer_ids: list[int]
    """x_0 without its prompt, the end token included if there is one."""
    commit_steps: list[int]
    """Denoising step, counted from 0 within the token's block."""
    log_p: list[float]
    """Log-probability of each token in the state in which it was committed."""
    has_end: bool
    num_discarded: int
    """Tokens that were committed, then overwritten because the answer ended before them."""
    num_steps: int
    """|tau|: denoising forwards over all blocks."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer ended by itself, and the run is an order of it."""
        return self.has_end and self.num_discarded == 0

    @property
    def elbo(self) -> float:
        """Sum of log p over the answer, in nats."""
        return sum(self.log_p)


def select_best(
    elbos: Sequence[float], is_complete: Sequence[bool], rewards: Sequence[float | None] | None
) -> int | None:
    """Choose the candidate with the greatest ELBO among those that may win.

    Args:
        elbos: of one prompt's candidates.
        is_complete: `Trajectory.is_complete` of each.
        rewards: if given, only a full reward of 1 may win.

    Returns:
        Its index, the first of equals; None if no candidate may win.
    """
    allowed = [
        index
        for index in range(len(elbos))
        if is_complete[index] and (rewards is None or rewards[index] == 1.0)
    ]
    return max(allowed, key=lambda index: elbos[index], default=None)


def pad_steps(commit_steps: Sequence[Sequence[int]], answer_width: int, block_size: int) -> Tensor:
    """Stack commit steps into int64 [B, C], the tail of end tokens included.

    End tokens that fill the last block are revealed with the first end token, as the sampler does;
    blocks wholly behind it hold -1, revealed before anything: they carry no loss.
    """
    steps = torch.full((len(commit_steps), answer_width), -1)
    for row, own in enumerate(commit_steps):
        block_end = -(-len(own) // block_size) * block_size
        steps[row, : len(own)] = torch.tensor(own)
        steps[row, len(own) : block_end] = own[-1]
    return steps


def build_states(
    batch: Batch, steps: Tensor, block_size: int, mask_id: int
) -> tuple[Tensor, list[int], Tensor]:
    """List every state of every block of the given trajectories.

    Returns:
        Slabs int64 [B, M, b] in the order (block, step), the block of each slab, and which answer
        tokens are revealed in each slab, bool [B, M, b].
    """
    answers = split(batch.answer, block_size)  # [B, C/b, b]
    steps = split(steps, block_size)
    is_answer = split(locate_answer(batch), block_size)
    slabs, block_of, is_revealed = [], [], []
    for block in range(answers.shape[1]):
        for step in range(int(steps[:, block].max()) + 1):
            is_masked = steps[:, block] >= step
            slabs.append(answers[:, block].masked_fill(is_masked, mask_id))
            block_of.append(block)
            is_revealed.append((steps[:, block] == step) & is_answer[:, block])
    return torch.stack(slabs, dim=1), block_of, torch.stack(is_revealed, dim=1)


def locate_answer(batch: Batch) -> Tensor:
    """Where the answers are, first end token included and tail left out; bool [B, C]."""
    return torch.arange(batch.answer.shape[1])[None] < batch.answer_lengths[:, None]


def score_trajectories(
    model: Transformer, batch: Batch, steps: Tensor, block_size: int, mask_id: int
) -> Tensor:
    """Log-probability of every token in the state that revealed it, float32 [B, C].

    The rows' sums are the ELBOs of the trajectories. This is their definition; a `Recorder` keeps
    the same numbers while sampling.
    """
    slabs, block_of, is_revealed = build_states(batch, steps, block_size, mask_id)
    targets = split(batch.answer, block_size)[:, block_of]  # [B, M, b]
    hidden = read_slabs(model, batch, slabs, block_of)[is_revealed]
    log_p = torch.zeros(targets.shape)
    log_p[is_revealed] = compute_log_probabilities(
        hidden, model.head_weight, targets[is_revealed], forbidden=mask_id
    )
    per_token = torch.zeros(len(slabs), batch.answer.shape[1] // block_size, block_size)
    return per_token.index_add(1, torch.tensor(block_of), log_p).flatten(1)


def estimate_elbo(
    model: Transformer,
    batch: Batch,
    block_size: int,
    mask_id: int,
    num_samples: int,
    generator: torch.Generator,
) -> Tensor:
    """Monte-Carlo ELBO of each answer, averaged over all orders inside its blocks, float32 [B].

    Per block, m of its b tokens are masked, m uniform in 1..b: the mean of b/m times the masked
    tokens' log p is the mean of Eq. 7 over all one-by-one orders, without bias. The tail of end
    tokens in the last block counts, since it is data for the training loss.
    """
    num_blocks = batch.answer.shape[1] // block_size
    block_of = [block for block in range(num_blocks) for _ in range(num_samples)]
    answers = split(batch.answer, block_size)[:, block_of]  # [B, M, b]
    num_masked = torch.randint(1, block_size + 1, answers.shape[:2], generator=generator)
    rank = torch.rand(answers.shape, generator=generator).argsort(dim=-1)
    is_masked = rank < num_masked[..., None]
    hidden = read_slabs(model, batch, answers.masked_fill(is_masked, mask_id), block_of)
    starts = torch.tensor(block_of) * block_size
    is_live = starts[None] < batch.answer_lengths[:, None]  # [B, M]
    is_asked = is_masked & is_live[..., None]
    log_p = torch.zeros(answers.shape)
    log_p[is_asked] = compute_log_probabilities(
        hidden[is_asked], model.head_weight, answers[is_asked], forbidden=mask_id
    )
    return (log_p.sum(dim=-1) * block_size / num_masked).sum(dim=-1) / num_samples


@torch.no_grad()
def reorder(
    model: Transformer,
    batch: Batch,
    steps: Tensor,
    order: Order,
    block_size: int,
    mask_id: int,
    generator: torch.Generator,
) -> Tensor:
    """Give the same answers another order, with as many tokens per step as before.

    Args:
        model: asked by the order `confidence` only.
        batch: prompts and answers.
        steps: int64 [B, C], from `pad_steps`.
        order: `elbo` keeps the order; `confidence` reveals at each step the tokens of the answer
            that the model finds most probable; `random` and `left-to-right` as they say.
        block_size: b.
        mask_id: id of the mask token.
        generator: for `random`.

    Returns:
        int64 [B, C].
    """
    if order == "elbo":
        return steps
    if order == "random":
        key = torch.rand(steps.shape, generator=generator)
    elif order == "left-to-right":
        key = torch.arange(steps.shape[1]).expand(steps.shape).float()
    else:
        key = find_confidence_order(model, batch, steps, block_size, mask_id)
    is_tail = ~locate_answer(batch)
    last = int(steps.max()) + 1  # sorts behind every step
    slots = split(steps.masked_fill(is_tail, last), block_size).sort(dim=-1).values
    rank = split(key.masked_fill(is_tail, torch.inf), block_size).argsort(dim=-1).argsort(dim=-1)
    renewed = slots.gather(-1, rank).flatten(1)
    rows = zip(renewed.tolist(), batch.answer_lengths.tolist(), strict=True)
    return pad_steps([own[:length] for own, length in rows], steps.shape[1], block_size)


def find_confidence_order(
    model: Transformer, batch: Batch, steps: Tensor, block_size: int, mask_id: int
) -> Tensor:
    """Step at which a run by confidence would reveal each token of the answer, float32 [B, C]."""
    answers, own_steps = split(batch.answer, block_size), split(steps, block_size)
    is_open = split(locate_answer(batch), block_size)  # [B, C/b, b]
    is_tail = ~is_open & (own_steps >= 0)
    columns = split(torch.arange(steps.shape[1]).expand(steps.shape), block_size)
    is_end = columns == batch.answer_lengths[:, None, None] - 1
    quotas = own_steps.masked_fill(~is_open, -1)
    found = torch.zeros(answers.shape)
    for step in range(int(steps.max()) + 1):
        is_hidden_tail = is_tail & (is_open & is_end).any(dim=-1, keepdim=True)
        slabs = answers.masked_fill(is_open | is_hidden_tail, mask_id)
        hidden = read_slabs(model, batch, slabs, range(answers.shape[1]))[is_open]
        confidence = torch.full(answers.shape, -torch.inf)
        confidence[is_open] = compute_log_probabilities(
            hidden, model.head_weight, answers[is_open], forbidden=mask_id
        )
        rank = confidence.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        is_next = is_open & (rank < (quotas == step).sum(dim=-1, keepdim=True))
        found[is_next] = step
        is_open &= ~is_next
    return found.flatten(1)
