"""The inner loops that the projections share: a tile of x W^T, plain or behind an RMSNorm.

    rms_norm(x) W^T = (x * gain) W^T / sqrt(mean(x^2) + eps)

The divisor is a number per row, so it is applied to the product, and the loop that reads x for the
product sums its squares on the way. A pair of output columns that are needed together (a rotary
pair, a gate and its value) is computed by one program, so nothing is written in between.

Weights may be e4m3 (`fp8.py`): widened to the dtype of x, which holds them exactly, and scaled
behind the sum.

Launches say `enable_fp_fusion` themselves: its default changes with Triton 3.10.
"""

# Triton's language has no types to check; see head_select/kernel.py.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, var-annotated"

import triton
import triton.language as tl

TILE_N = 32  # rows: one diffusion block
TILE_D = 128  # features per step of the inner loop


@triton.jit
def dot_tile(
    x_ptr,  # [N, D]
    weight_ptr,  # [C, D]
    weight_scale_ptr,  # [C] float32, None unless HAS_SCALE
    row,  # [TILE_N]
    is_row,
    column,  # [TILE_C]
    is_column,
    num_features,
    x_stride_n,
    x_stride_d,
    weight_stride_c,
    weight_stride_d,
    HAS_SCALE: tl.constexpr,
    IS_WIDENED: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_C: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """Return a [TILE_N, TILE_C] tile of x W^T in float32."""
    # 64-bit offsets: C * D passes 2**31 at 256k ids of 8k features.
    x_rows = x_ptr + row.to(tl.int64)[:, None] * x_stride_n
    weight_rows = weight_ptr + column.to(tl.int64)[None, :] * weight_stride_c
    product = tl.zeros([TILE_N, TILE_C], dtype=tl.float32)
    for start in range(0, num_features, TILE_D):
        feature = start + tl.arange(0, TILE_D)
        is_feature = feature < num_features
        x = tl.load(
            x_rows + feature[None, :] * x_stride_d,
            mask=is_row[:, None] & is_feature[None, :],
            other=0.0,
        )  # [TILE_N, TILE_D]
        w = tl.load(
            weight_rows + feature[:, None] * weight_stride_d,
            mask=is_feature[:, None] & is_column[None, :],
            other=0.0,
        )  # [TILE_D, TILE_C]
        if IS_WIDENED:
            x = x.to(tl.float32)
        # ieee: TF32 would keep 10 bits of a float32 product and flip near-ties.
        product = tl.dot(x, w.to(x.dtype), product, input_precision="ieee")
    if HAS_SCALE:
        product *= tl.load(weight_scale_ptr + column, mask=is_column, other=0.0)[None, :]
    return product


@triton.jit
def dot_normalised_pair(
    x_ptr,  # [N, D]
    gain_ptr,  # [D]
    weight_ptr,  # [C, D]
    weight_scale_ptr,  # [C] float32, None unless HAS_SCALE
    row,  # [TILE_N]
    is_row,
    first_column,  # [TILE_C]
    second_column,
    is_column,
    num_features,
    eps,
    x_stride_n,
    x_stride_d,
    weight_stride_c,
    weight_stride_d,
    HAS_SCALE: tl.constexpr,
    IS_WIDENED: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_C: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """Return two [TILE_N, TILE_C] tiles of rms_norm(x) W^T in float32."""
    x_rows = x_ptr + row.to(tl.int64)[:, None] * x_stride_n
    first_rows = weight_ptr + first_column.to(tl.int64)[None, :] * weight_stride_c
    second_rows = weight_ptr + second_column.to(tl.int64)[None, :] * weight_stride_c
    first = tl.zeros([TILE_N, TILE_C], dtype=tl.float32)
    second = tl.zeros([TILE_N, TILE_C], dtype=tl.float32)
    squares = tl.zeros([TILE_N], dtype=tl.float32)
    for start in range(0, num_features, TILE_D):
        feature = start + tl.arange(0, TILE_D)
        is_feature = feature < num_features
        x = tl.load(
            x_rows + feature[None, :] * x_stride_d,
            mask=is_row[:, None] & is_feature[None, :],
            other=0.0,
        )  # [TILE_N, TILE_D]
        gain = tl.load(gain_ptr + feature, mask=is_feature, other=0.0).to(tl.float32)
        wide = x.to(tl.float32)
        squares += tl.sum(wide * wide, axis=1)
        y = wide * gain[None, :]
        if not IS_WIDENED:  # the tensor cores need it; the interpreter would cut off, not round
            y = y.to(x.dtype)
        is_weight = is_feature[:, None] & is_column[None, :]
        u = tl.load(first_rows + feature[:, None] * weight_stride_d, mask=is_weight, other=0.0)
        v = tl.load(second_rows + feature[:, None] * weight_stride_d, mask=is_weight, other=0.0)
        u, v = u.to(y.dtype), v.to(y.dtype)
        first = tl.dot(y, u, first, input_precision="ieee")
        second = tl.dot(y, v, second, input_precision="ieee")
    divisor = tl.sqrt(squares / num_features + eps)[:, None]
    first, second = first / divisor, second / divisor
    if HAS_SCALE:
        first *= tl.load(weight_scale_ptr + first_column, mask=is_column, other=0.0)[None, :]
        second *= tl.load(weight_scale_ptr + second_column, mask=is_column, other=0.0)[None, :]
    return first, second
