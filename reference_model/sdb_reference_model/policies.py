"""What the block sampler decides in a step: which proposals to commit, which tokens to take back.

    commit   x_i <- v_i  where x_i is a mask and p(v_i) > threshold                       (M2T)
    edit     x_i <- v_i  where x_i is visible, v_i != x_i and p(v_i) > edit threshold     (T2T)
    remask   x_i <- m    under the same condition, or at random by a schedule             (T2M)
    label    keep, write, delete, insert  where x_i is visible and p(label) > threshold   (T2L)

Place in the flow: `sampler.denoise_block` calls one `Policy` and at most one `Revision` per step.
Commit and edit together are the joint threshold of LLaDA2.1; remasking on disagreement is its
training-free relative; remasking at random is ReMDM (arXiv 2503.00307).

What it does not do: look at the model, or change a block; it answers with positions.

Choice: the paper rewrites visible tokens but not how many or which. Here a revision has a budget
per block, and a token that was taken from a position never returns to it by an edit and is not
remasked twice; so every block ends, after at most block size + budget + 1 steps. Labels move
tokens, so there no state of a block is revised twice, and each of the budget may open a mask: at
most block size + 2 budget + 1 steps. ReMDM has neither rule: its schedule ends by itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from sdb_kernels.head_select.reference import exponential_noise
from sdb_reference_model.policy_specs import PolicySpec
from sdb_reference_model.selection import Measure
from sdb_reference_model.tokenizer import SpecialIds

Schedule = Literal["cap", "rescale", "conf"]
"""Of ReMDM's sigma_t, see `remask_on_schedule`."""

Policy = Callable[[Tensor, Tensor, int], Tensor]
"""(confidence [B, b], is_open [B, b], step) -> which open positions to commit, bool [B, b].

Confidence is -1 where a position must not be committed now. At least one open position of each
row that has any is returned, which guarantees progress.
"""


def commit_above(threshold: float, max_steps: int | None = None) -> Policy:
    """Commit what is more probable than `threshold`, at least the best; 1.0 = one a forward.

    With `max_steps`, also the most probable ceil(open / steps left): a budget of steps per block.
    """
    if not threshold >= 0.0:
        raise ValueError(f"threshold={threshold} must be at least 0")

    def select(confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        if max_steps is None:
            first = confidence.argmax(dim=1, keepdim=True)
            is_chosen = (confidence > threshold).scatter_(1, first, True)
        else:
            quota = -(-is_open.sum(dim=1, keepdim=True) // max(1, max_steps - step))
            is_chosen = (confidence > threshold) | (rank(confidence) < quota)
        return is_chosen & is_open & (confidence >= 0)

    return select


def rank(score: Tensor) -> Tensor:
    """Place of each position in its row [B, b], 0 for the highest; of equals the left one first."""
    return score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def commit_evenly(num_steps: int) -> Policy:
    """Commit the most probable ceil(open / steps left), so that `num_steps` steps suffice."""
    return commit_above(math.inf, num_steps)


def commit_in_order(num_tokens: int, generator: torch.Generator | None) -> Policy:
    """Commit `num_tokens` per step, from the left, or at random if a generator is given."""

    def select(confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        key = torch.arange(is_open.shape[1]).expand(is_open.shape).float()
        if generator is not None:
            key = torch.rand(is_open.shape, generator=generator)
        key = key.to(is_open.device)
        may_commit = is_open & (confidence >= 0)
        rank = key.masked_fill(~may_commit, torch.inf).argsort(dim=1).argsort(dim=1)
        return may_commit & (rank < num_tokens)

    return select


def commit_prefix(threshold: float) -> Policy:
    """Commit the first mask, and those behind it as long as each is above `threshold`.

    Text grows without gaps: no token is chosen while one before it is open, as in the text that an
    autoregressive start was trained on.
    """
    if not threshold >= 0.0:
        raise ValueError(f"threshold={threshold} must be at least 0")

    def select(confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        may_commit = is_open & (confidence >= 0)
        first = may_commit.long().argmax(dim=1, keepdim=True)
        is_sure = ~may_commit | (confidence > threshold)
        return is_sure.scatter(1, first, True).long().cumprod(dim=1).bool() & may_commit

    return select


def commit_top(num_tokens: int) -> Policy:
    """Commit the `num_tokens` most probable: LLaDA's low-confidence remasking, a fixed speed."""
    if num_tokens < 1:
        raise ValueError(f"num_tokens={num_tokens} must be at least 1")

    def select(confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        return (rank(confidence) < num_tokens) & is_open & (confidence >= 0)

    return select


def commit_within(error: float) -> Policy:
    """Commit the most probable whose 1 - p add up to at most `error`, and the best in any case.

    By the union bound all of them are right with a probability of 1 - `error` or more, if each is
    with its own. It needs no entropies, and so no logits: see `commit_within_entropy`.
    """
    if not error >= 0:
        raise ValueError(f"error={error} must be at least 0")

    def select(confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        ordered, order = confidence.sort(dim=1, descending=True, stable=True)
        is_within = (1.0 - ordered).cumsum(dim=1) <= error
        is_within[:, 0] = True
        return torch.zeros_like(is_open).scatter(1, order, is_within) & is_open & (confidence >= 0)

    return select


def commit_within_entropy(bound: float) -> Policy:
    """Commit, by rising entropy H, the largest set whose sum of H, its largest left out, is within.

    EB-Sampler (arXiv 2505.24857): tokens of one forward are drawn as if they were independent, and
    what that can cost is at most the sum of their entropies but for the largest; the best is always
    committed. To be used with the measure `certainty` of `selection.py`, so that the confidence is
    exp(-H) with H in nats. SDAR's `entropy_bounded` counts the largest as well, which commits less.
    """
    if not bound >= 0:
        raise ValueError(f"bound={bound} must be at least 0")

    def select(confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        ordered, order = confidence.sort(dim=1, descending=True, stable=True)
        entropy = -ordered.clamp(min=0.0).log()  # infinite where nothing may be committed
        before = torch.nn.functional.pad(entropy.cumsum(dim=1), (1, 0))[:, :-1]
        is_within = torch.zeros_like(is_open).scatter(1, order, before <= bound)
        return is_within & is_open & (confidence >= 0)

    return select


def commit_hierarchically(threshold: float, low_threshold: float) -> Policy:
    """Commit what passes `threshold`, and the best of every run of masks above `low_threshold`.

    Tokens far apart hinder each other least, so each run of masks is split by at least one token;
    the best of the row is committed in any case. Source: hierarchical decoding of dInfer.
    """
    if not 0.0 <= low_threshold <= threshold:
        raise ValueError(f"low_threshold={low_threshold} must be in [0, threshold={threshold}]")

    def select(confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        is_first = is_open & ~torch.nn.functional.pad(is_open, (1, 0))[:, :-1]
        run = is_first.cumsum(dim=1) * is_open  # [B, b], 1, 2, ... and 0 where nothing is open
        same = run[:, :, None] == run[:, None, :]  # [B, b, b]
        index = torch.arange(is_open.shape[1], device=is_open.device)
        mine, other = confidence[:, :, None], confidence[:, None, :]
        beats = (other > mine) | ((other == mine) & (index[None, :] < index[:, None]))
        is_best_of_run = ~(same & beats).any(dim=2) & (confidence > low_threshold)
        is_chosen = (confidence > threshold) | is_best_of_run | (rank(confidence) < 1)
        return is_chosen & is_open & (confidence >= 0)

    return select


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one forward says about the tokens of a block that may be revised; all [B, b]."""

    block: Tensor
    """int64, the tokens as they are."""
    proposal: Tensor
    """int64, what the model would write."""
    confidence: Tensor
    """float32, the probability of the proposal."""
    is_visible: Tensor
    """bool, generated tokens that may be revised."""
    noise_seeds: Tensor
    """int64, of each position, the same at every step."""
    step: int
    belief: Tensor | None = None
    """float32, the probability with which a visible token was committed; `Reviser` fills it in."""


@dataclass(frozen=True, slots=True)
class Revision:
    """Which visible tokens to take back, and what becomes of them."""

    action: Literal["edit", "remask", "label"]
    """`label` is for models that know DELETE and INSERT, and reads a block when it is full."""
    select: Callable[[Judgement], Tensor]
    """Positions that should be revised, bool [B, b]; the budget may allow fewer."""
    budget: int | None
    """Revisions per block and row; None where `select` follows a schedule that ends by itself, and
    may take the same token back again."""
    reads_visible: bool = True
    """Whether `select` needs the model's opinion of visible tokens; it costs their share of the
    head, and one more step per block, which then replaces the forward that fills the cache."""

    def __post_init__(self) -> None:
        """Reject a budget that forbids everything.

        Raises:
            ValueError: if the budget is not positive.
        """
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"revision budget {self.budget} must be at least 1; or drop it")


def edit_above(threshold: float, budget: int) -> Revision:
    """Overwrite visible tokens for which another one is more probable than `threshold` (T2T)."""
    return Revision("edit", disagree_above(threshold), budget)


def remask_above(threshold: float, budget: int) -> Revision:
    """Mask visible tokens for which another one is more probable than `threshold` (T2M)."""
    return Revision("remask", disagree_above(threshold), budget)


def label_above(threshold: float, budget: int) -> Revision:
    """Keep, substitute, delete or insert, where the model is surer of it than `threshold`.

    Levenshtein editing of LLaDA2.2, see `levenshtein.py`. Choice: a block is labelled when no mask
    is left in it, because that is what labels are trained on.
    """
    return Revision("label", disagree_above(threshold), budget)


def remask_on_schedule(schedule: Schedule, eta: float, num_steps: int) -> Revision:
    """Mask each visible token with probability sigma_t, as ReMDM does (arXiv 2503.00307).

        sigma_max = min(1, (1 - alpha_s) / alpha_t),  alpha_t = step / num_steps
        cap      sigma_t = min(eta, sigma_max)
        rescale  sigma_t = eta sigma_max
        conf     sigma_t = eta_i sigma_max,  eta_i = softmax_i(-p_i), over the visible tokens

    p_i is the probability with which token i was committed; `conf` has no eta of its own. The last
    step has sigma 0. To be used with `commit_evenly(num_steps)`, which fills what was masked in the
    steps left, and the most probable first, where ReMDM fills in the same step and at random.

    Raises:
        ValueError: if eta is not in [0, 1].
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta={eta} must be in [0, 1]")

    def select(judgement: Judgement) -> Tensor:
        limit = min(1.0, max(0, num_steps - judgement.step - 1) / max(1, judgement.step))
        sigma = torch.tensor(min(eta, limit) if schedule == "cap" else eta * limit)
        if schedule == "conf":
            assert judgement.belief is not None, "a Reviser asks"
            doubt = (-judgement.belief).masked_fill(~judgement.is_visible, -torch.inf)
            sigma = doubt.softmax(dim=1) * limit  # NaN in a row without visible tokens: none taken
        seeds = ~(judgement.noise_seeds + 0x632BE5AB * (judgement.step + 1))
        noise = exponential_noise(seeds.flatten(), 1).view_as(seeds)
        return (noise < -torch.log1p(-sigma)) & judgement.is_visible

    return Revision("remask", select, None, reads_visible=False)


def disagree_above(threshold: float) -> Callable[[Judgement], Tensor]:
    """Select where the model says something else than the token, with more than `threshold`."""

    def select(judgement: Judgement) -> Tensor:
        differs = judgement.proposal != judgement.block
        return differs & (judgement.confidence > threshold) & judgement.is_visible

    return select


@dataclass(slots=True)
class Reviser:
    """A `Revision` at work on one block: spends its budget and remembers what was taken back."""

    revision: Revision
    num_left: Tensor
    """int64 [B], revisions that each row may still make."""
    last: Judgement | None = None
    removed: list[Tensor] = field(default_factory=list)
    """int64 [B, b] each: tokens taken from their positions, -1 where none was; for labels the whole
    block of a row that was revised."""

    def revise(self, judgement: Judgement) -> Tensor:
        """Positions to revise now, bool [B, b]: the most confident ones that the budget covers."""
        if self.revision.budget is None:
            return self.revision.select(self.remember(judgement))
        wanted = self.revision.select(judgement)
        is_edit, is_label = self.revision.action == "edit", self.revision.action == "label"
        candidate = judgement.proposal if is_edit else judgement.block
        for tokens in self.removed:
            is_new = candidate != tokens
            wanted &= is_new.any(dim=1, keepdim=True) if is_label else is_new
        order = judgement.confidence.masked_fill(~wanted, -torch.inf)
        is_revised = wanted & (rank(order) < self.num_left[:, None])
        self.num_left = self.num_left - is_revised.sum(dim=1)
        is_taken = is_revised.any(dim=1, keepdim=True) if is_label else is_revised
        self.removed.append(judgement.block.masked_fill(~is_taken, -1))
        return is_revised

    def remember(self, judgement: Judgement) -> Judgement:
        """Add the `belief` in tokens that have become visible since the judgement before."""
        belief = judgement.confidence
        if self.last is not None and self.last.belief is not None:
            was_open = ~self.last.is_visible
            belief = torch.where(was_open, self.last.confidence, self.last.belief)
        self.last = replace(judgement, belief=belief)
        return self.last


@dataclass(frozen=True, slots=True)
class Plan:
    """What `sample_blocks` is told to do in a step."""

    policy: Policy
    revision: Revision | None = None
    measure: Measure = "probability"


def build_plan(spec: PolicySpec) -> Plan:
    """Make what a text such as `entropy:0.3` names.

    Raises:
        ValueError: `pipelined`, which is another sampler: `pipelining.sample_pipelined`.
    """
    first, rest = spec.values[0], spec.values[1:]
    match spec.name:
        case "top":
            return Plan(commit_top(int(first)))
        case "leftmost":
            return Plan(commit_in_order(int(first), None))
        case "prefix":
            return Plan(commit_prefix(first))
        case "error":
            return Plan(commit_within(first))
        case "entropy":
            return Plan(commit_within_entropy(first), measure="certainty")
        case "hierarchical":
            return Plan(commit_hierarchically(first, rest[0]))
        case "bounded":
            return Plan(commit_above(first, int(rest[0])))
        case "remdm-cap":
            return plan_remdm("cap", first, int(rest[0]))
        case "remdm-rescale":
            return plan_remdm("rescale", first, int(rest[0]))
        case "remdm-conf":
            return plan_remdm("conf", 1.0, int(first))
        case "edit":
            return Plan(commit_above(first), edit_above(rest[0], int(rest[1])))
        case "remask":
            return Plan(commit_above(first), remask_above(rest[0], int(rest[1])))
        case "levenshtein":
            return Plan(commit_above(first), label_above(rest[0], int(rest[1])))
    raise ValueError(f"policy {spec.name} is no policy of one block; use sample_pipelined")


def plan_remdm(schedule: Schedule, eta: float, num_steps: int) -> Plan:
    """Commit evenly and mask again on the schedule, in `num_steps` steps at most."""
    return Plan(commit_evenly(num_steps), remask_on_schedule(schedule, eta, num_steps))


def start_revision(
    revision: Revision | None, tokenizer: SpecialIds, num_rows: int, device: torch.device
) -> Reviser | None:
    """Begin a block with a full budget for each row.

    Raises:
        ValueError: if the revision deletes and inserts, and the model has no token that says so.
    """
    if revision is None:
        return None
    if revision.action == "label" and tokenizer.control_ids is None:
        raise ValueError(
            "policy levenshtein needs a checkpoint trained with edit_lengths='labels', and this "
            "one has no DELETE and INSERT; use edit:THRESHOLD:EDIT_THRESHOLD:BUDGET"
        )
    return Reviser(revision, torch.full((num_rows,), revision.budget or 0, device=device))
