"""`commit_tokens` in Triton: one program per row holds its whole block on chip.

The rank of a position is the number of positions that go before it, counted over all pairs: for a
block of 32 that is one comparison per thread, and no sort. Definition: `reference.py`.
"""

# Triton's language has no types to check; see head_select/kernel.py.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, call-arg"

import torch
import triton
import triton.language as tl
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
    """Launch the kernel; arguments are those of the operator, already checked.

    Args:
        block: [B, b] int64, written.
        proposals: [B, b] int64.
        confidence: [B, b] float32.
        mask_id: The id of a mask.
        threshold: Commit strictly above this.
        is_prefix: Leave no mask in front of a token that is committed.
        end_id: The id that ends a text, or None.
        is_infill: [B] bool, or None.
        steps_left: [B] int32, written, or None.

    Returns:
        Tokens committed [B] int32 and bool [B]: no mask is left.
    """
    num_rows, block_size = block.shape
    num_committed = torch.empty(num_rows, dtype=torch.int32, device=block.device)
    is_done = torch.empty(num_rows, dtype=torch.bool, device=block.device)
    if num_rows == 0:
        return num_committed, is_done
    commit_tokens_kernel[(num_rows,)](
        block,
        proposals,
        confidence,
        is_infill,
        steps_left,
        num_committed,
        is_done,
        block_size,
        block.stride(0),
        block.stride(1),
        proposals.stride(0),
        proposals.stride(1),
        confidence.stride(0),
        confidence.stride(1),
        is_infill.stride(0) if is_infill is not None else 0,
        steps_left.stride(0) if steps_left is not None else 0,
        mask_id,
        -1 if end_id is None else end_id,
        float(threshold),
        IS_PREFIX=is_prefix,
        HAS_END=end_id is not None,
        HAS_INFILL=is_infill is not None,
        HAS_STEPS=steps_left is not None,
        TILE_L=triton.next_power_of_2(block_size),
        enable_fp_fusion=True,
    )
    return num_committed, is_done


@triton.jit
def commit_tokens_kernel(
    block_ptr,  # [B, b] int64, written
    proposals_ptr,  # [B, b] int64
    confidence_ptr,  # [B, b] float32
    is_infill_ptr,  # [B] bool, None unless HAS_INFILL
    steps_left_ptr,  # [B] int32, written, None unless HAS_STEPS
    num_committed_ptr,  # [B] int32
    is_done_ptr,  # [B] bool
    block_size,
    block_stride_b,
    block_stride_l,
    proposals_stride_b,
    proposals_stride_l,
    confidence_stride_b,
    confidence_stride_l,
    is_infill_stride,
    steps_left_stride,
    mask_id,
    end_id,
    threshold,
    IS_PREFIX: tl.constexpr,
    HAS_END: tl.constexpr,
    HAS_INFILL: tl.constexpr,
    HAS_STEPS: tl.constexpr,
    TILE_L: tl.constexpr,
):
    """Decide and write one row."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, TILE_L)
    is_place = place < block_size
    tokens_ptr = block_ptr + row * block_stride_b + place * block_stride_l
    tokens = tl.load(tokens_ptr, mask=is_place, other=0)
    is_open = is_place & (tokens == mask_id)
    proposals = tl.load(
        proposals_ptr + row * proposals_stride_b + place * proposals_stride_l,
        mask=is_open,
        other=0,
    )
    score = tl.load(
        confidence_ptr + row * confidence_stride_b + place * confidence_stride_l,
        mask=is_open,
        other=0.0,
    )
    score = tl.where(score == score, score, 0.0)  # NaN

    is_infill = False
    if HAS_INFILL:
        is_infill = tl.load(is_infill_ptr + row * is_infill_stride) != 0
    is_candidate = is_open
    if HAS_END:
        is_end = tl.where(is_open, proposals, tokens) == end_id
        # The tail starts behind the last position that is no end token.
        tail_start = tl.max(tl.where(is_place & (is_end == 0), place, -1), axis=0) + 1
        is_candidate = is_open & (place <= tail_start)
        if HAS_INFILL:
            is_candidate = is_candidate | (is_open & is_infill)
            score = tl.where(is_infill & is_end, 0.0, score)

    quota = 1
    if HAS_STEPS:
        steps = tl.maximum(tl.load(steps_left_ptr + row * steps_left_stride), 1)
        quota = tl.cdiv(tl.sum(is_open.to(tl.int32), axis=0), steps)
        tl.store(steps_left_ptr + row * steps_left_stride, tl.maximum(steps - 1, 1))
    key = tl.where(is_candidate, 0.0 if IS_PREFIX else score, -1.0)
    # [i, j]: does position j go before position i?
    is_before = (key[None, :] > key[:, None]) | (
        (key[None, :] == key[:, None]) & (place[None, :] < place[:, None])
    )
    rank = tl.sum(is_before.to(tl.int32), axis=1)
    is_committed = is_candidate & ((score > threshold) | (rank < quota))
    if IS_PREFIX:
        first_left = tl.min(tl.where(is_candidate & (is_committed == 0), place, TILE_L), axis=0)
        is_committed = is_committed & (place < first_left)

    tokens = tl.where(is_committed, proposals, tokens)
    if HAS_END:
        first_end = tl.min(tl.where(is_place & (tokens == end_id), place, TILE_L), axis=0)
        is_ended = place >= first_end
        if HAS_INFILL:
            is_ended = is_ended & (is_infill == 0)
        tokens = tl.where(is_ended, end_id, tokens)
    tl.store(tokens_ptr, tokens, mask=is_place)
    num_open = tl.sum((is_place & (tokens == mask_id)).to(tl.int32), axis=0)
    tl.store(num_committed_ptr + row, tl.sum(is_committed.to(tl.int32), axis=0))
    tl.store(is_done_ptr + row, num_open == 0)
