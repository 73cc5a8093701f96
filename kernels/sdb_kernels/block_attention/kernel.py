"""`block_attention` in Triton: grouped heads packed into one tile, keys split over the GPU.

The first kernel attends from one tile of packed queries to one range of keys and keeps sums that
are not divided yet; the second adds the ranges up. Definition: `reference.py`; derivation:
`README.md`.

Choice: ranges start at fixed keys, so that a row's result does not depend on the rows beside it or
on the capacity of the cache.
"""

# Triton's language has no types to check; see head_select/kernel.py.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, call-arg, misc"
# mypy: disable-error-code="var-annotated"

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

SPLIT = 256  # keys of one program; 1,024 keys of 8 key heads are 32 programs
TILE_S = 64  # keys per step of the inner loop
MAX_TILE_M = 128  # packed queries: 32 positions of 4 heads
MAX_TILE_M_FLOAT32 = 32  # which takes more shared memory and registers, and no tensor core


def block_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    num_keys: int | Tensor,
    first_key: Tensor | None,
    num_causal: Tensor | None,
    block_size: int | None,
    scale: float,
) -> Tensor:
    """Launch the two kernels; arguments are those of the operator, already checked.

    Args:
        queries: [B, H, L, E] float32 or bfloat16.
        keys: [B, G, S, E], same dtype.
        values: [B, G, S, E].
        num_keys: A number or int32 [B].
        first_key: int32 [B], or None.
        num_causal: int32 [B], or None.
        block_size: b < L, or None.
        scale: Of the scores.

    Returns:
        [B, H, L, E], memory in the order B, L, H, E.
    """
    rows, num_heads, num_queries, width = queries.shape
    num_groups, capacity = keys.shape[1:3]
    group_size = num_heads // num_groups
    num_packed = num_queries * group_size
    num_splits = triton.cdiv(num_keys if isinstance(num_keys, int) else capacity, SPLIT)
    attended = torch.empty(
        rows, num_queries, num_heads, width, dtype=queries.dtype, device=queries.device
    )
    if attended.numel() == 0:
        return attended.transpose(1, 2)

    is_split = num_splits > 1
    sums, statistics = None, None
    if is_split:
        shape = (rows, num_queries, num_heads, num_splits)
        sums = torch.empty(*shape, width, dtype=torch.float32, device=queries.device)
        statistics = torch.empty(*shape, 2, dtype=torch.float32, device=queries.device)
    max_tile_m = MAX_TILE_M_FLOAT32 if queries.dtype == torch.float32 else MAX_TILE_M
    tile_m = min(max_tile_m, max(16, triton.next_power_of_2(num_packed)))
    tile_e = max(16, triton.next_power_of_2(width))
    lengths = num_keys.contiguous() if isinstance(num_keys, Tensor) else None
    starts = None if first_key is None else first_key.contiguous()
    causal = None if num_causal is None else num_causal.contiguous()
    block_attention_split_kernel[(triton.cdiv(num_packed, tile_m), rows * num_groups, num_splits)](
        queries,
        keys,
        values,
        lengths,
        starts,
        causal,
        attended,
        sums,
        statistics,
        0 if isinstance(num_keys, Tensor) else num_keys,
        num_queries,
        num_groups,
        num_splits,
        0 if block_size is None else block_size,
        scale * math.log2(math.e),
        *queries.stride(),
        *keys.stride(),
        *values.stride(),
        GROUP_SIZE=group_size,
        WIDTH=width,
        HAS_LENGTHS=lengths is not None,
        HAS_STARTS=starts is not None,
        HAS_CAUSAL=causal is not None,
        HAS_BLOCKS=block_size is not None,
        IS_SPLIT=is_split,
        # The interpreter multiplies bfloat16 operands as if their bits were integers.
        IS_WIDENED=isinstance(block_attention_split_kernel, InterpretedFunction),
        SPLIT=SPLIT,
        TILE_M=tile_m,
        TILE_S=TILE_S,
        TILE_E=tile_e,
        num_warps=8 if tile_m == MAX_TILE_M else 4,
        enable_fp_fusion=True,
    )
    if is_split:
        block_attention_combine_kernel[(rows * num_queries * num_heads,)](
            sums,
            statistics,
            attended,
            num_splits,
            WIDTH=width,
            TILE_P=triton.next_power_of_2(num_splits),
            TILE_E=tile_e,
            num_warps=1,
            enable_fp_fusion=True,
        )
    return attended.transpose(1, 2)


@triton.jit
def block_attention_split_kernel(
    queries_ptr,  # [B, H, L, E]
    keys_ptr,  # [B, G, S, E]
    values_ptr,  # [B, G, S, E]
    lengths_ptr,  # [B] int32, None unless HAS_LENGTHS
    starts_ptr,  # [B] int32, None unless HAS_STARTS
    causal_ptr,  # [B] int32, None unless HAS_CAUSAL
    attended_ptr,  # [B, L, H, E], written unless IS_SPLIT
    sums_ptr,  # [B, L, H, P, E] float32, written if IS_SPLIT
    statistics_ptr,  # [B, L, H, P, 2] float32: largest score in bits, sum of exponentials
    num_keys,
    num_queries,
    num_groups,
    num_splits,
    block_size,
    scale_in_bits,  # scale * log2(e): exponentials to the base of 2 are an instruction
    query_stride_b,
    query_stride_h,
    query_stride_l,
    query_stride_e,
    key_stride_b,
    key_stride_g,
    key_stride_s,
    key_stride_e,
    value_stride_b,
    value_stride_g,
    value_stride_s,
    value_stride_e,
    GROUP_SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    HAS_LENGTHS: tl.constexpr,
    HAS_STARTS: tl.constexpr,
    HAS_CAUSAL: tl.constexpr,
    HAS_BLOCKS: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    IS_WIDENED: tl.constexpr,
    SPLIT: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_S: tl.constexpr,
    TILE_E: tl.constexpr,
):
    """Attend from TILE_M packed queries of one key head to SPLIT keys."""
    row = (tl.program_id(1) // num_groups).to(tl.int64)
    group = tl.program_id(1) % num_groups
    split = tl.program_id(2)
    if HAS_LENGTHS:
        num_keys = tl.load(lengths_ptr + row)
    start = 0
    if HAS_STARTS:
        start = tl.load(starts_ptr + row)

    packed = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)
    is_query = packed < num_queries * GROUP_SIZE
    query = packed // GROUP_SIZE
    head = group * GROUP_SIZE + packed % GROUP_SIZE
    end = tl.zeros([TILE_M], dtype=tl.int32) + num_keys  # of what each query sees
    if HAS_BLOCKS:
        block_end = num_keys - num_queries + (query // block_size + 1) * block_size
        end = tl.minimum(end, block_end)
    if HAS_CAUSAL:
        is_causal = query < tl.load(causal_ptr + row)
        end = tl.where(is_causal, num_keys - num_queries + query + 1, end)
    end = tl.where(is_query, end, 0)

    channel = tl.arange(0, TILE_E)
    is_channel = channel < WIDTH
    q = tl.load(
        queries_ptr
        + row * query_stride_b
        + (head * query_stride_h + query * query_stride_l)[:, None]
        + channel[None, :] * query_stride_e,
        mask=is_query[:, None] & is_channel[None, :],
        other=0.0,
    )  # [TILE_M, TILE_E]
    if IS_WIDENED:
        q = q.to(tl.float32)
    key_rows = keys_ptr + row * key_stride_b + group * key_stride_g
    value_rows = values_ptr + row * value_stride_b + group * value_stride_g

    largest = tl.full([TILE_M], float("-inf"), dtype=tl.float32)
    total = tl.zeros([TILE_M], dtype=tl.float32)
    weighted = tl.zeros([TILE_M, TILE_E], dtype=tl.float32)
    first = tl.maximum(split * SPLIT, start // TILE_S * TILE_S)
    last = tl.minimum((split + 1) * SPLIT, tl.max(end, axis=0))
    for tile in range(first, last, TILE_S):
        key = tile + tl.arange(0, TILE_S)
        is_key = (key >= start) & (key < num_keys)
        place = key.to(tl.int64)
        k = tl.load(
            key_rows + place[None, :] * key_stride_s + channel[:, None] * key_stride_e,
            mask=is_channel[:, None] & is_key[None, :],
            other=0.0,
        )  # [TILE_E, TILE_S]
        v = tl.load(
            value_rows + place[:, None] * value_stride_s + channel[None, :] * value_stride_e,
            mask=is_key[:, None] & is_channel[None, :],
            other=0.0,
        )  # [TILE_S, TILE_E]
        if IS_WIDENED:
            k, v = k.to(tl.float32), v.to(tl.float32)
        scores = tl.dot(q, k, input_precision="ieee") * scale_in_bits
        scores = tl.where(is_key[None, :] & (key[None, :] < end[:, None]), scores, float("-inf"))
        larger = tl.maximum(largest, tl.max(scores, axis=1))
        # A query that has seen nothing yet has -inf, and -inf - -inf would be NaN.
        shift = tl.where(larger == float("-inf"), 0.0, larger)
        weights = tl.exp2(scores - shift[:, None])
        fade = tl.exp2(largest - shift)
        total = total * fade + tl.sum(weights, axis=1)
        weighted = tl.dot(weights.to(v.dtype), v, weighted * fade[:, None], input_precision="ieee")
        largest = larger

    place = (row * num_queries + query) * (num_groups * GROUP_SIZE) + head  # in [B, L, H]
    is_written = is_query[:, None] & is_channel[None, :]
    if IS_SPLIT:
        place = place * num_splits + split
        # A range that nobody sees is recognised by its sum of 0; the rest of it is never read.
        is_seen = total > 0.0
        tl.store(
            sums_ptr + place[:, None] * WIDTH + channel[None, :],
            weighted,
            mask=is_written & is_seen[:, None],
        )
        tl.store(statistics_ptr + place * 2, largest, mask=is_query)
        tl.store(statistics_ptr + place * 2 + 1, total, mask=is_query)
    else:
        attended = weighted / tl.where(total > 0.0, total, 1.0)[:, None]
        tl.store(
            attended_ptr + place[:, None] * WIDTH + channel[None, :],
            attended.to(attended_ptr.dtype.element_ty),
            mask=is_written,
        )


@triton.jit
def block_attention_combine_kernel(
    sums_ptr,  # [B, L, H, P, E] float32
    statistics_ptr,  # [B, L, H, P, 2] float32
    attended_ptr,  # [B, L, H, E]
    num_splits,
    WIDTH: tl.constexpr,
    TILE_P: tl.constexpr,
    TILE_E: tl.constexpr,
):
    """Add up the ranges of one query and head, in a fixed order."""
    place = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, TILE_P)
    is_split = split < num_splits
    statistics = statistics_ptr + place * num_splits * 2
    largest = tl.max(tl.load(statistics + split * 2, mask=is_split, other=float("-inf")), axis=0)
    shift = tl.where(largest == float("-inf"), 0.0, largest)

    channel = tl.arange(0, TILE_E)
    is_channel = channel < WIDTH
    attended = tl.zeros([TILE_E], dtype=tl.float32)
    denominator = 0.0
    for p in range(0, num_splits):
        total = tl.load(statistics + p * 2 + 1)
        fade = tl.exp2(tl.load(statistics + p * 2) - shift)
        if total > 0.0:
            weighted = sums_ptr + (place * num_splits + p) * WIDTH + channel
            attended += tl.load(weighted, mask=is_channel, other=0.0) * fade
        denominator += total * fade
    attended = attended / tl.where(denominator > 0.0, denominator, 1.0)
    tl.store(
        attended_ptr + place * WIDTH + channel,
        attended.to(attended_ptr.dtype.element_ty),
        mask=is_channel,
    )
