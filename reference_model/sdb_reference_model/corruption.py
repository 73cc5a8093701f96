"""Forward process A of the paper: independent masking (Eqs. 1, 2 and 8).

    q(x_t[i] = x_0[i]) = 1 - gamma_t        q(x_t[i] = m) = gamma_t                      (Eq. 2)

Place in the flow: training draws a time, turns it into a mask probability, and hides tokens; the
objective then asks the model for them. `gamma_t` is the mask probability (MDLM's and dllm's
alpha is 1 - gamma_t).

Choice: the paper says only that gamma_t rises monotonically; we use gamma_t = t. Its weight
gamma'_t / gamma_t = 1/t is that of MDLM's linear schedule and of LLaDA.
"""

import torch
from torch import Tensor


def compute_gamma(t: Tensor) -> Tensor:
    """Mask probability gamma_t at time t in [0, 1] (linear schedule)."""
    return t


def compute_elbo_weight(t: Tensor) -> Tensor:
    """Weight gamma'_t / gamma_t of the masked-token loss in Eqs. 5 and 6; 1/t here."""
    return 1.0 / t


def compute_transition(gamma_s: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 8 for s < t: probabilities that a token still visible at s is (kept, masked) at t.

    A token masked at s stays masked with probability 1.
    """
    return (1 - gamma_t) / (1 - gamma_s), (gamma_t - gamma_s) / (1 - gamma_s)


def sample_times(
    num_times: int, block_size: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw `num_times` times, evenly spread (low discrepancy) and in random order.

    One uniform offset shifts a regular grid over [0, 1), so a batch always sees all noise levels:
    each time alone is uniform, together they cover. Choice: times below 1 / block_size, where not
    even one token of a block would be masked on average, are raised to it, as in
    Stable-DiffCoder's block-clipped rate; the weight then never exceeds the block size.

    Returns:
        float32 [num_times] in [1 / block_size, 1].
    """
    offset = torch.rand((), generator=generator)
    t = (torch.arange(num_times) + offset) / num_times
    t = t[torch.randperm(num_times, generator=generator)]
    return t.clamp(min=1.0 / block_size)


def mask_tokens(
    x0: Tensor,
    gamma: Tensor,
    mask_id: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample x_t ~ q_mask(. | x_0), with at least one mask in every row.

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
