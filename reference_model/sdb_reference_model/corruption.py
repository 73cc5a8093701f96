"""The two forward processes of the paper: independent masking and a few edits.

    A  q(x_t[i] = x_0[i]) = 1 - gamma_t      q(x_t[i] = m) = gamma_t                     (Eq. 2)
    B  z_0 = x_0,  z_j = o_j(z_{j-1}),  x_t = z_{k_t}                                    (Eq. 3)
       k_t = floor(|x_0| alpha_t),  alpha_t in [0, 0.1]                                  (Eq. 4)

Place in the flow: training draws a time and corrupts the answer by A, and in its last part by B;
the objective then asks the model for the clean one. `gamma_t` is the mask probability (MDLM's and
dllm's alpha is 1 - gamma_t); `alpha_t` is the paper's edit ratio.

Choice: the paper says only that gamma_t rises monotonically; the default is gamma_t = t, whose
weight gamma'_t / gamma_t = 1/t is that of MDLM's linear schedule and of LLaDA. For alpha_t it says
[0, 0.1]; we use 0.1 t.

Choice: every edit keeps the length. The loss compares position by position, so a lone insertion
would turn a Levenshtein distance of 1 into a wrong target at every later position, and the paper
does not say how it avoids that. Here an insertion and a deletion come as a pair at most `window`
positions apart: only the tokens between them move. `substitution_share = 1` gives substitutions
alone. Not default: lone insertions and deletions inside a block with labels for targets (LLaDA2.2,
`edits.shift_answers`), which need two control tokens and a decoder that knows them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Schedule = Literal["linear", "cosine"]
Weighting = Literal["elbo", "uniform"]
MIN_TIME = 1e-3
"""Least t where nothing is clipped, as in LLaDA: the weight 1/t has no bound."""
EDIT_WINDOW = 8
MAX_EDIT_RATIO = 0.1
"""Largest alpha_t of the paper: it protects the density estimation that masking teaches."""


@dataclass(frozen=True, slots=True)
class MaskProcess:
    """Process A with everything but the tokens."""

    schedule: Schedule = "linear"
    weighting: Weighting = "elbo"
    """Of masked tokens: gamma'_t / gamma_t as in Eq. 6, or `uniform`, all alike (MaskGIT), which
    bounds nothing."""
    max_time: float = 1.0
    """Times are uniform below it; see `curriculum.compute_max_time`."""
    is_clipped: bool = True
    """Whether gamma_t is at least 1 / block size, see `sample_times`."""


def compute_gamma(t: Tensor, schedule: Schedule = "linear") -> Tensor:
    """Mask probability gamma_t at time t in [0, 1]: t, or 1 - cos(pi t / 2), which masks later."""
    return t if schedule == "linear" else 1.0 - torch.cos(t * (torch.pi / 2))


def invert_gamma(gamma: Tensor, schedule: Schedule = "linear") -> Tensor:
    """Time t at which `compute_gamma` reaches `gamma` in [0, 1]."""
    return gamma if schedule == "linear" else torch.acos(1.0 - gamma) * (2 / torch.pi)


def compute_elbo_weight(t: Tensor, schedule: Schedule = "linear") -> Tensor:
    """Weight gamma'_t / gamma_t of the masked-token loss in Eqs. 5 and 6, for t in (0, 1].

    1/t for the linear schedule; (pi/2) sin(pi t/2) / (1 - cos(pi t/2)) = (pi/2) / tan(pi t/4) for
    the cosine.
    """
    return 1.0 / t if schedule == "linear" else (torch.pi / 2) / torch.tan(t * (torch.pi / 4))


def compute_transition(gamma_s: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 8 for s < t: probabilities that a token still visible at s is (kept, masked) at t.

    A token masked at s stays masked with probability 1.
    """
    return (1 - gamma_t) / (1 - gamma_s), (gamma_t - gamma_s) / (1 - gamma_s)


def sample_times(
    num_times: int,
    block_size: int,
    generator: torch.Generator | None = None,
    schedule: Schedule = "linear",
    max_time: float = 1.0,
    is_clipped: bool = True,
) -> Tensor:
    """Draw `num_times` times, evenly spread (low discrepancy) and in random order.

    One uniform offset shifts a regular grid over [0, max_time), so a batch always sees all noise
    levels: each time alone is uniform, together they cover. Choice: times at which not even one
    token of a block would be masked on average are raised to the one where gamma_t is
    1 / block_size, as in Stable-DiffCoder's block-clipped rate; the linear weight then never
    exceeds the block size. Not default, with `is_clipped` false: only to `MIN_TIME`.

    Returns:
        float32 [num_times]; where clipped, gamma is in [1 / block_size, 1].
    """
    offset = torch.rand((), generator=generator)
    t = (torch.arange(num_times) + offset) / num_times * max_time
    t = t[torch.randperm(num_times, generator=generator)]
    least = float(invert_gamma(torch.tensor(1.0 / block_size), schedule))
    return t.clamp(min=least if is_clipped else MIN_TIME)


def mask_tokens(
    x0: Tensor,
    gamma: Tensor,
    mask_id: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Process A: sample x_t ~ q_mask(. | x_0), with at least one mask in every row.

    Choice: a row in which nothing fell gets its most likely victim masked, because a row without
    masks carries no loss (1 / (B + 1) of all rows otherwise, as Stable-DiffCoder notes).

    Args:
        x0: int64 [N, B], rows of tokens (one row is one block).
        gamma: float32 [N], mask probability per row.
        mask_id: id of the mask token.
        generator: source of randomness.

    Returns:
        x_t int64 [N, B] and is_masked bool [N, B].
    """
    noise = torch.rand(x0.shape, generator=generator)
    is_masked = noise < gamma[:, None]
    first_victim = noise == noise.amin(dim=1, keepdim=True)
    is_masked |= first_victim & ~is_masked.any(dim=1, keepdim=True)
    return x0.masked_fill(is_masked, mask_id), is_masked


def mask_blocks(
    x0: Tensor, process: MaskProcess, mask_id: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask every row of x0 [N, B] at a time of its own.

    Returns:
        x_t int64 [N, B], is_masked bool [N, B], and the weight of a row's masks float32 [N].
    """
    num_rows, width = x0.shape
    t = sample_times(
        num_rows, width, generator, process.schedule, process.max_time, process.is_clipped
    )
    noisy, is_masked = mask_tokens(x0, compute_gamma(t, process.schedule), mask_id, generator)
    is_elbo = process.weighting == "elbo"
    weight = compute_elbo_weight(t, process.schedule) if is_elbo else torch.ones_like(t)
    return noisy, is_masked, weight


def count_edits(lengths: Tensor, alpha: Tensor) -> Tensor:
    """Eq. 4: k_t = floor(|x_0| alpha_t), int64 [N], from lengths [N] and edit ratios [N]."""
    return (lengths * alpha).floor().long()


def edit_tokens(
    x0: Tensor,
    lengths: Tensor,
    num_edits: Tensor,
    replacements: Tensor,
    *,
    substitution_share: float = 0.5,
    window: int = EDIT_WINDOW,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Process B: apply k edits to each row, one after the other (Eq. 3), at constant length.

    One operation takes the token at i out and puts a new one in at j. With i = j that is a
    substitution, one edit; else a deletion and an insertion, two, and the tokens between move by
    one. Later operations may undo earlier ones, so k bounds the Levenshtein distance from above,
    as the paper notes. The last edit of an odd number left is a substitution.

    Args:
        x0: int64 [N, L], clean rows.
        lengths: int64 [N]; the first `lengths[n]` positions of row n may be edited.
        num_edits: int64 [N], k of each row.
        replacements: int64 [N, L], the token that an insertion or substitution puts at a position;
            see `draw_replacements`.
        substitution_share: expected share of the edits that are substitutions; the others are
            half insertions, half deletions.
        window: largest distance between a deletion and its insertion.
        generator: source of randomness.

    Returns:
        int64 [N, L].

    Raises:
        ValueError: if the share is not in [0, 1] or the window is empty.
    """
    if not 0.0 <= substitution_share <= 1.0 or window < 1:
        raise ValueError(
            f"substitution_share={substitution_share} must be in [0, 1] and window={window} >= 1"
        )
    # A pair counts twice, so a share of edits is not the same share of operations.
    pair_probability = (1.0 - substitution_share) / (1.0 + substitution_share)
    seed = int(torch.randint(2**62, (), generator=generator))
    random = np.random.default_rng(seed)
    rows = []
    inputs = (x0.tolist(), lengths.tolist(), num_edits.tolist(), replacements.tolist())
    for z, length, num_left, new_tokens in zip(*inputs, strict=True):
        for i in random.permutation(length).tolist():
            if num_left == 0:
                break
            j = i
            if num_left > 1 and random.random() < pair_probability:
                nearby = [*range(max(0, i - window), i), *range(i + 1, min(length, i + window + 1))]
                j = int(random.choice(nearby)) if nearby else i
            z.pop(i)
            z.insert(j, new_tokens[j])
            num_left -= 1 if i == j else 2
        rows.append(z)
    return torch.tensor(rows).view_as(x0)


def draw_replacements(
    x0: Tensor, weights: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Draw for every position a token other than the true one.

    Args:
        x0: int64 [N, L], clean rows.
        weights: [V], not negative: equal for the uniform source, counts for the unigram source,
            zero for special tokens, which no sampler leaves inside an answer.
        generator: source of randomness.

    Returns:
        int64 [N, L], distributed as `weights` without the true token.

    Raises:
        ValueError: if fewer than two tokens can be drawn.
    """
    if int((weights > 0).sum()) < 2:
        raise ValueError("replacements need at least two tokens of positive weight")
    flat = x0.flatten()
    drawn = torch.multinomial(weights.float(), len(flat), replacement=True, generator=generator)
    while bool((is_same := drawn == flat).any()):
        drawn[is_same] = torch.multinomial(
            weights.float(), int(is_same.sum()), replacement=True, generator=generator
        )
    return drawn.view_as(x0)
