"""`norm_qkv_rope_append` in Triton: a program computes rotary pairs of one head and stores them.

The two columns of a pair, e and e + E/2, come from the two products of one program, so the rotation
needs no exchange between programs. Definition: `reference.py`; the loop over features:
`sdb_kernels/dot.py`.
"""

# Triton's language has no types to check; see head_select/kernel.py.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, call-arg, misc"
# mypy: disable-error-code="var-annotated"

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from sdb_kernels.dot import TILE_D, TILE_N, dot_normalised_pair
from sdb_kernels.fp8 import Fp8Weight, unpack

TILE_C = 16  # pairs; small, so that 18 heads of 64 channels are 36 programs


def norm_qkv_rope_append(
    x: Tensor,
    gain: Tensor,
    weight: Tensor | Fp8Weight,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    num_past: int | Tensor,
    eps: float,
    bias: Tensor | None,
    query_gain: Tensor | None,
    key_gain: Tensor | None,
) -> Tensor:
    """Launch the kernel; arguments are those of the operator, already checked.

    Args:
        x: [B, L, D] float32 or bfloat16.
        gain: [D].
        weight: [(H + 2G) E, D].
        cos: [B, L, E/2] float32.
        sin: [B, L, E/2] float32.
        keys: [B, G, S, E], written.
        values: [B, G, S, E], written.
        num_past: A number or int32 [B].
        eps: Added to every mean square.
        bias: [(H + 2G) E], or None.
        query_gain: [E], or None.
        key_gain: [E], or None.

    Returns:
        Queries [B, H, L, E], memory in the order B, L, H, E.
    """
    rows, length, num_features = x.shape
    num_groups, width = keys.shape[1], keys.shape[3]
    matrix, scale = unpack(weight)
    num_heads = len(matrix) // width - 2 * num_groups
    queries = torch.empty(rows, length, num_heads, width, dtype=x.dtype, device=x.device)
    if queries.numel() == 0:
        return queries.transpose(1, 2)
    half = width // 2
    # The norm of a head needs all of its channels in one program.
    has_head_norm = query_gain is not None
    tile_c = max(TILE_C, triton.next_power_of_2(half)) if has_head_norm else TILE_C
    flat = x.reshape(rows * length, num_features)
    has_lengths = isinstance(num_past, Tensor)
    grid = (
        triton.cdiv(rows * length, TILE_N),
        num_heads + 2 * num_groups,
        triton.cdiv(half, tile_c),
    )
    norm_qkv_rope_append_kernel[grid](
        flat,
        gain.contiguous(),
        matrix,
        scale,
        None if bias is None else bias.contiguous(),
        None if query_gain is None else query_gain.contiguous(),
        None if key_gain is None else key_gain.contiguous(),
        cos,
        sin,
        num_past.contiguous() if isinstance(num_past, Tensor) else None,
        queries,
        keys,
        values,
        rows * length,
        num_features,
        0 if isinstance(num_past, Tensor) else num_past,
        length,
        num_heads,
        num_groups,
        eps,
        flat.stride(0),
        flat.stride(1),
        matrix.stride(0),
        matrix.stride(1),
        *cos.stride(),
        *sin.stride(),
        *keys.stride(),
        *values.stride(),
        HALF=half,
        HAS_SCALE=scale is not None,
        HAS_BIAS=bias is not None,
        HAS_HEAD_NORM=has_head_norm,
        HAS_LENGTHS=has_lengths,
        # The interpreter multiplies bfloat16 operands as if their bits were integers.
        IS_WIDENED=isinstance(norm_qkv_rope_append_kernel, InterpretedFunction),
        TILE_N=TILE_N,
        TILE_C=tile_c,
        TILE_D=TILE_D if tile_c < 64 else TILE_D // 2,
        num_stages=4,
        enable_fp_fusion=True,
    )
    return queries.transpose(1, 2)


@triton.jit
def norm_qkv_rope_append_kernel(
    x_ptr,  # [B L, D]
    gain_ptr,  # [D]
    weight_ptr,  # [(H + 2G) E, D]
    weight_scale_ptr,  # [(H + 2G) E] float32, None unless HAS_SCALE
    bias_ptr,  # [(H + 2G) E], None unless HAS_BIAS
    query_gain_ptr,  # [E], None unless HAS_HEAD_NORM
    key_gain_ptr,  # [E]
    cos_ptr,  # [B, L, E/2] float32
    sin_ptr,  # [B, L, E/2] float32
    past_ptr,  # [B] int32, None unless HAS_LENGTHS
    queries_ptr,  # [B, L, H, E]
    keys_ptr,  # [B, G, S, E]
    values_ptr,  # [B, G, S, E]
    num_rows,
    num_features,
    num_past,
    length,
    num_heads,
    num_groups,
    eps,
    x_stride_n,
    x_stride_d,
    weight_stride_c,
    weight_stride_d,
    cos_stride_b,
    cos_stride_l,
    cos_stride_e,
    sin_stride_b,
    sin_stride_l,
    sin_stride_e,
    key_stride_b,
    key_stride_g,
    key_stride_s,
    key_stride_e,
    value_stride_b,
    value_stride_g,
    value_stride_s,
    value_stride_e,
    HALF: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_HEAD_NORM: tl.constexpr,
    HAS_LENGTHS: tl.constexpr,
    IS_WIDENED: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_C: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """Compute TILE_C pairs of one head for TILE_N positions, and store them where they belong."""
    position = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)  # in [B L]
    head = tl.program_id(1)
    pair = tl.program_id(2) * TILE_C + tl.arange(0, TILE_C)
    is_position, is_pair = position < num_rows, pair < HALF
    is_stored = is_position[:, None] & is_pair[None, :]
    column = head * 2 * HALF + pair
    first, second = dot_normalised_pair(
        x_ptr,
        gain_ptr,
        weight_ptr,
        weight_scale_ptr,
        position,
        is_position,
        column,
        column + HALF,
        is_pair,
        num_features,
        eps,
        x_stride_n,
        x_stride_d,
        weight_stride_c,
        weight_stride_d,
        HAS_SCALE,
        IS_WIDENED,
        TILE_N,
        TILE_C,
        TILE_D,
    )
    if HAS_BIAS:
        first += tl.load(bias_ptr + column, mask=is_pair, other=0.0).to(tl.float32)[None, :]
        second += tl.load(bias_ptr + column + HALF, mask=is_pair, other=0.0).to(tl.float32)[None, :]

    row, step = (position // length).to(tl.int64), position % length
    if HAS_LENGTHS:
        num_past = tl.load(past_ptr + row, mask=is_position, other=0)
    if head < num_heads + num_groups:
        if HAS_HEAD_NORM:
            # Channels behind the head are zero and add nothing.
            squares = tl.sum(first * first + second * second, axis=1)
            divisor = tl.sqrt(squares / (2 * HALF) + eps)[:, None]
            gain_ptr = query_gain_ptr
            if head >= num_heads:
                gain_ptr = key_gain_ptr
            first_gain = tl.load(gain_ptr + pair, mask=is_pair, other=0.0).to(tl.float32)
            second_gain = tl.load(gain_ptr + HALF + pair, mask=is_pair, other=0.0).to(tl.float32)
            first, second = first * first_gain[None, :], second * second_gain[None, :]
            first, second = first / divisor, second / divisor
        angle = (row * cos_stride_b + step * cos_stride_l)[:, None] + pair[None, :] * cos_stride_e
        cos = tl.load(cos_ptr + angle, mask=is_stored, other=0.0)
        angle = (row * sin_stride_b + step * sin_stride_l)[:, None] + pair[None, :] * sin_stride_e
        sin = tl.load(sin_ptr + angle, mask=is_stored, other=0.0)
        first, second = first * cos - second * sin, second * cos + first * sin
    first = first.to(queries_ptr.dtype.element_ty)
    second = second.to(queries_ptr.dtype.element_ty)

    if head < num_heads:
        place = (position.to(tl.int64) * num_heads + head)[:, None] * (2 * HALF) + pair[None, :]
        tl.store(queries_ptr + place, first, mask=is_stored)
        tl.store(queries_ptr + place + HALF, second, mask=is_stored)
    elif head < num_heads + num_groups:
        group = head - num_heads
        place = row * key_stride_b + group * key_stride_g + (num_past + step) * key_stride_s
        place = place[:, None] + pair[None, :] * key_stride_e
        tl.store(keys_ptr + place, first, mask=is_stored)
        tl.store(keys_ptr + place + HALF * key_stride_e, second, mask=is_stored)
    else:
        group = head - num_heads - num_groups
        place = row * value_stride_b + group * value_stride_g + (num_past + step) * value_stride_s
        place = place[:, None] + pair[None, :] * value_stride_e
        tl.store(values_ptr + place, first, mask=is_stored)
        tl.store(values_ptr + place + HALF * value_stride_e, second, mask=is_stored)
