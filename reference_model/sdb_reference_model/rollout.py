"""The stochastic policy that on-policy training differentiates, and its log-probability.

One step of a block, given its state x (finished blocks and the block in the making). For every
open position i, kappa_i = max_v p(v | x) is the confidence, and

    commit    c_i ~ Bernoulli( sigmoid( (logit kappa_i - logit threshold) / softness ) )
              the most confident open position is always committed, and nothing behind the first
              position from which the model proposes only end tokens (the sampler's tail rule)
    token     y_i ~ softmax( logits_i / temperature )   where c_i = 1

    log pi(c, y | x) = sum over drawn c_i  log Bernoulli(c_i)  +  sum over committed i  log p(y_i)

Place in the flow: `onpolicy.py` draws groups of rollouts, rewards them, and asks for log pi again
with gradients. At softness -> 0 and temperature -> 0 this is `sampler.commit_above(threshold)`, the
rule that is used afterwards.

Choice: the commit is part of the action, and its log-odds are those of the confidence. Not taken:
tokens alone, with the commit as a part of the world (TraceRL): the number of steps would then reach
the weights through the tokens only, although confidence decides it. Not taken: a Plackett-Luce
order, which has no number of tokens per step; a separate planner head (dUltra), which would have
to be carried through inference. In log-odds a confidence near 1 commits almost surely; in
(kappa - threshold) / softness it could not at thresholds near 1.

What it does not do: rewrite visible tokens.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_reference_model.model import Transformer
from sdb_reference_model.past import Cached
from sdb_reference_model.sampler import is_behind_tail_start
from sdb_reference_model.states import Batch, compute_logits, read_slabs
from sdb_reference_model.tokenizer import CodeTokenizer, pad_left

MAX_CONFIDENCE = 1.0 - 1e-6
"""Where log-odds stop: float32 has few numbers above."""


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """The three numbers of the action distribution."""

    threshold: float
    softness: float
    temperature: float

    def __post_init__(self) -> None:
        """Reject what has no log-probability.

        Raises:
            ValueError: a threshold without finite log-odds, or a distribution without width.
        """
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(
                f"threshold={self.threshold} must be between 0 and 1, both excluded: the chance of "
                "a commit is a function of its log-odds"
            )
        if not (self.softness > 0.0 and self.temperature > 0.0):
            raise ValueError(
                f"softness={self.softness} and temperature={self.temperature} must be positive; "
                "a policy without chance has no gradient of this kind"
            )


@dataclass(frozen=True, slots=True)
class Rollouts:
    """N runs, with everything that is needed to compute log pi again.

    Slab m is block `block_of[m]` before one step; rows that had finished by then took no action.
    """

    batch: Batch
    """Prompts and final answers, filled with end tokens to whole blocks."""
    slabs: Tensor
    """int64 [N, M, b], the states."""
    block_of: list[int]
    is_drawn: Tensor
    """bool [N, M, b]: positions whose commit was left to chance."""
    is_committed: Tensor
    """bool [N, M, b]."""
    tokens: Tensor
    """int64 [N, M, b]: the tokens that were committed; elsewhere of no meaning."""
    has_end: Tensor
    """bool [N]: whether the answer ended by itself."""

    @property
    def num_steps(self) -> Tensor:
        """|tau| of each run, int64 [N]."""
        return self.is_committed.any(dim=-1).sum(dim=-1)

    def count_revealed(self) -> Tensor:
        """Tokens of the final answer that each step revealed, int64 [N, M]."""
        block_size = self.slabs.shape[-1]
        starts = torch.tensor(self.block_of) * block_size
        columns = starts[:, None] + torch.arange(block_size)  # [M, b]
        is_answer = columns[None] < self.batch.answer_lengths[:, None, None]
        return (self.is_committed & is_answer).sum(dim=-1)


def compute_commit_logits(confidence_log_p: Tensor, policy: StepPolicy) -> Tensor:
    """Log-odds of the commit, from log kappa of any shape."""
    log_kappa = confidence_log_p.clamp(max=torch.log(torch.tensor(MAX_CONFIDENCE)).item())
    log_odds = log_kappa - torch.log(-torch.expm1(log_kappa))
    threshold = torch.tensor(policy.threshold)
    return (log_odds - torch.logit(threshold)) / policy.softness


@torch.no_grad()
def roll_out(
    model: Transformer,
    tokenizer: CodeTokenizer,
    prompts: list[list[int]],
    policy: StepPolicy,
    block_size: int,
    max_new_tokens: int,
    generator: torch.Generator,
) -> Rollouts:
    """Draw one run per prompt, all of them together, against the cached past."""
    prompt = pad_left(prompts, tokenizer.pad_id)
    lengths = torch.tensor([len(ids) for ids in prompts])
    mask_id, end_id = tokenizer.mask_id, tokenizer.end_id
    context = Cached(model, prompt, lengths, torch.full((len(prompts), max_new_tokens), mask_id))
    has_end = torch.zeros(len(prompts), dtype=torch.bool)
    blocks: list[Tensor] = []
    record: dict[str, list[Tensor]] = {"slab": [], "drawn": [], "committed": [], "tokens": []}
    block_of: list[int] = []
    for index in range(max_new_tokens // block_size):
        block = torch.full((len(prompts), block_size), mask_id)
        block[has_end] = end_id
        while bool((is_open := block == mask_id).any()):
            logits = compute_logits(context.read(block, is_open), model.head_weight, mask_id)
            best_log_p, best_token = logits.log_softmax(dim=-1).max(dim=-1)
            is_drawn, is_committed = decide(
                block, is_open, best_log_p, best_token, policy, end_id, generator
            )
            p = (logits / policy.temperature).softmax(dim=-1)
            drawn_tokens = torch.multinomial(p, 1, generator=generator).squeeze(-1)
            tokens = block.masked_scatter(is_open, drawn_tokens)
            record["slab"].append(block.clone())
            record["drawn"].append(is_drawn)
            record["committed"].append(is_committed)
            record["tokens"].append(tokens)
            block_of.append(index)
            block = torch.where(is_committed, tokens, block)
            block[(block == end_id).cumsum(dim=1) > 0] = end_id
        blocks.append(block)
        has_end |= (block == end_id).any(dim=1)
        if bool(has_end.all()):
            break
        if (index + 1) * block_size < max_new_tokens:
            context.append(block, ~has_end)
    answer = torch.cat(blocks, dim=1)
    num_tokens = (answer != end_id).long().cumprod(dim=1).sum(dim=1)
    return Rollouts(
        batch=Batch(prompt, lengths, answer, num_tokens + has_end),
        slabs=torch.stack(record["slab"], dim=1),
        block_of=block_of,
        is_drawn=torch.stack(record["drawn"], dim=1),
        is_committed=torch.stack(record["committed"], dim=1),
        tokens=torch.stack(record["tokens"], dim=1),
        has_end=has_end,
    )


def decide(
    block: Tensor,
    is_open: Tensor,
    best_log_p: Tensor,
    best_token: Tensor,
    policy: StepPolicy,
    end_id: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw the commits of one step.

    Returns:
        Which positions were left to chance and which are committed, bool [N, b] each.
    """
    proposal = block.masked_scatter(is_open, best_token)
    log_kappa = torch.full(block.shape, -torch.inf).masked_scatter(is_open, best_log_p)
    is_behind = is_behind_tail_start(proposal == end_id)
    log_kappa = log_kappa.masked_fill(is_behind, -torch.inf)
    first = log_kappa.argmax(dim=1, keepdim=True)
    is_sure = torch.zeros_like(is_open).scatter(1, first, True) & is_open
    is_drawn = is_open & ~is_behind & ~is_sure
    chance = torch.sigmoid(compute_commit_logits(log_kappa, policy))
    is_hit = torch.rand(block.shape, generator=generator) < chance
    return is_drawn, is_sure | (is_drawn & is_hit)


def compute_log_pi(
    model: Transformer, rollouts: Rollouts, policy: StepPolicy, mask_id: int
) -> tuple[Tensor, Tensor]:
    """Compute log pi of every run, with gradients.

    Returns:
        float32 [N], and the log-probabilities float32 [K, V] at temperature 1 of all K positions
        that an action touched, for the divergence from another model.
    """
    is_touched = rollouts.is_drawn | rollouts.is_committed
    hidden = read_slabs(model, rollouts.batch, rollouts.slabs, rollouts.block_of)[is_touched]
    logits = compute_logits(hidden, model.head_weight, mask_id)
    log_p = logits.log_softmax(dim=-1)
    is_drawn = rollouts.is_drawn[is_touched]
    is_committed = rollouts.is_committed[is_touched]
    commit_logits = compute_commit_logits(log_p.max(dim=-1).values, policy)
    log_commit = F.logsigmoid(torch.where(is_committed, commit_logits, -commit_logits))
    tokens = rollouts.tokens[is_touched]
    log_token = (logits / policy.temperature).log_softmax(dim=-1)
    log_token = log_token.gather(-1, tokens[:, None]).squeeze(-1)
    zero = torch.zeros(())
    terms = torch.where(is_drawn, log_commit, zero) + torch.where(is_committed, log_token, zero)
    row = is_touched.nonzero()[:, 0]
    return torch.zeros(len(rollouts.slabs)).index_add(0, row, terms), log_p


@torch.no_grad()
def read_reference(model: Transformer, rollouts: Rollouts, mask_id: int) -> Tensor:
    """Another model's log-probabilities [K, V] at the positions of `compute_log_pi`."""
    is_touched = rollouts.is_drawn | rollouts.is_committed
    hidden = read_slabs(model, rollouts.batch, rollouts.slabs, rollouts.block_of)[is_touched]
    return compute_logits(hidden, model.head_weight, mask_id).log_softmax(dim=-1)


def compute_divergence(log_p: Tensor, log_q: Tensor, mask_id: int) -> Tensor:
    """Mean over positions of KL(p || q) in nats, from log-probabilities [K, V]."""
    mask = torch.tensor([mask_id])  # minus infinity in both, and minus infinity has no difference
    log_p, log_q = log_p.index_fill(1, mask, 0.0), log_q.index_fill(1, mask, 0.0)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
