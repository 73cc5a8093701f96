"""`head_select` in plain PyTorch: the definition of the operator, and what runs on CPU.

`kernel.py` must return the same tokens and confidences without ever storing the logits;
`tests/kernels/test_head_select.py` compares the two. The formula is derived in `README.md`.
"""

import math

import torch
from torch import Tensor

from sdb_kernels.packed import Weight, multiply

GOLDEN = 0x9E3779B9  # 2**32 / golden ratio: the Weyl increment of SplitMix
FMIX_1, FMIX_2 = 0x85EBCA6B, 0xC2B2AE35  # multipliers of MurmurHash3's 32-bit finalizer


def head_select(
    hidden: Tensor,
    weight: Weight,
    *,
    forbidden_id: int | None,
    temperature: float,
    seeds: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Select one token per row and the probability the model gives it; see the package docstring.

    Arguments are those of `sdb_kernels.head_select.head_select`, already checked.
    """
    logits = multiply(hidden, weight)  # [N, V]
    if forbidden_id is not None:
        logits[:, forbidden_id] = -math.inf
    return select_token(logits, temperature, seeds)


def select_token(logits: Tensor, temperature: float, seeds: Tensor | None) -> tuple[Tensor, Tensor]:
    """Select from logits float32 [N, V]: the second half of `head_select`."""
    scores = logits
    if temperature > 0.0:
        assert seeds is not None
        log_noise = exponential_noise(seeds, logits.shape[1]).log_()  # minus a Gumbel variate
        scores = (logits * (1.0 / temperature)).sub_(log_noise)
    token_ids = scores.argmax(dim=-1)  # the first of equals, so the smallest id
    confidence = logits.softmax(dim=-1).gather(-1, token_ids[:, None]).squeeze(-1)
    return token_ids, confidence


def exponential_noise(seeds: Tensor, vocabulary_size: int) -> Tensor:
    """Draw Exp(1) variates that depend on nothing but (row seed, token id).

    -log(1 - v) loses v's low bits when v is small, which is where the race between tokens is won:
    over a flat vocabulary of 150,000, about 1 % of the draws would be ties. The series has none.

    Args:
        seeds: [N] int64, any value.
        vocabulary_size: V.

    Returns:
        [N, V] float32, in [2**-32, 16.7].
    """
    bits = _shift_right(hash_bits(seeds, vocabulary_size), 1)  # [N, V], 31 of the 32
    v = bits.float().add_(0.5).mul_(2.0**-31).clamp_(max=1.0 - 2.0**-24)
    return torch.where(v < 2.0**-10, v + 0.5 * v * v, (1.0 - v).log_().neg_())


def hash_bits(seeds: Tensor, vocabulary_size: int) -> Tensor:
    """Hash (row seed, token id) to 32 bits: a SplitMix step keyed by both halves of the seed.

    Args:
        seeds: [N] int64.
        vocabulary_size: V.

    Returns:
        [N, V] int32, whose bits are those of the unsigned hash.
    """
    low, high = seeds.to(torch.int32), (seeds >> 32).to(torch.int32)  # conversions keep 32 bits
    key_0 = _fmix32(low + _int32(GOLDEN))
    key_1 = _fmix32(high ^ key_0)
    ids = torch.arange(vocabulary_size, dtype=torch.int32, device=seeds.device)
    return _fmix32(ids * _int32(GOLDEN) + key_0[:, None], key_1[:, None])


def _fmix32(h: Tensor, key: Tensor | int = 0) -> Tensor:
    """Finalize `h` in place as MurmurHash3 does, with a key mixed in; int32 arithmetic wraps."""
    h ^= _shift_right(h, 16)
    h *= _int32(FMIX_1)
    h ^= key
    h ^= _shift_right(h, 13)
    h *= _int32(FMIX_2)
    h ^= _shift_right(h, 16)
    return h


def _shift_right(h: Tensor, count: int) -> Tensor:
    """Shift in zeros; `>>` on int32 shifts in the sign."""
    return (h >> count).bitwise_and_((1 << (32 - count)) - 1)


def _int32(unsigned: int) -> int:
    """Return the signed number with the same 32 bits."""
    return unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned
