"""`commit_tokens` in plain PyTorch: the definition of the operator, and what runs on a CPU.

`kernel.py` must write the same blocks; `tests/kernels/test_commit_tokens.py` compares the two.
"""

import math

import torch
from torch import Tensor


def commit_tokens(
    block: Tensor,
    proposals: Tensor,
    confidence: Tensor,
    *,
    mask_id: int,
    threshold: float,
    is_prefix: bool,
    end_id: int | None,
    is_infill: Tensor | None,
    steps_left: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Replace masks of `block` by proposals, in place; see the package docstring.

    Arguments are those of `sdb_kernels.commit_tokens.commit_tokens`, already checked.
    """
    is_open = block == mask_id  # [B, b]
    filled = torch.where(is_open, proposals, block)
    candidate, score = is_open, confidence.nan_to_num(nan=0.0, posinf=math.inf)
    if end_id is not None:
        is_end = filled == end_id
        is_behind = _is_behind_tail_start(is_end)
        if is_infill is not None:
            is_behind &= ~is_infill[:, None]
            score = torch.where(is_infill[:, None] & is_end, 0.0, score)
        candidate = is_open & ~is_behind

    quota = torch.ones_like(block[:, :1])
    if steps_left is not None:
        num_steps = steps_left[:, None].clamp(min=1)
        quota = (is_open.sum(dim=1, keepdim=True) + num_steps - 1) // num_steps
        steps_left.copy_((steps_left - 1).clamp(min=1))
    key = torch.zeros_like(score) if is_prefix else score
    # Stable, so that of equals the one further left comes first.
    order = key.masked_fill(~candidate, -1.0).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    is_sure = (score > threshold) | (rank < quota)
    if is_prefix:
        is_sure = (is_sure | ~candidate).cumprod(dim=1).bool()
    is_committed = candidate & is_sure

    block.copy_(torch.where(is_committed, proposals, block))  # indexing by bool asks the host
    if end_id is not None:
        is_ended = (block == end_id).cumsum(dim=1) > 0
        if is_infill is not None:
            is_ended &= ~is_infill[:, None]
        block.masked_fill_(is_ended, end_id)
    num_committed = is_committed.sum(dim=1, dtype=torch.int32)
    return num_committed, (block != mask_id).all(dim=1)


def _is_behind_tail_start(is_end: Tensor) -> Tensor:
    """Positions inside a row's tail of end tokens, its first position excepted; bool [B, b]."""
    is_tail = is_end.flip(1).cumprod(dim=1).flip(1)
    return is_tail.cumsum(dim=1) > 1  # Inductor cannot compile a padded mask
