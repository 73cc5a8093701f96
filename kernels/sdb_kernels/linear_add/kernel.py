"""`linear_add` in Triton: a program computes a tile of the product and adds the residual to it.

Definition: `reference.py`; the loop over features: `sdb_kernels/dot.py`.

Choice: a program sums over all features. Splitting the sum would give more programs than the few
columns of a residual stream do, but needs a second launch, or atomic sums in an order of their own.
"""

# Triton's language has no types to check; see head_select/kernel.py.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, call-arg"

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from sdb_kernels.dot import TILE_N, dot_tile
from sdb_kernels.fp8 import Fp8Weight, unpack

TILE_C = 16  # columns; 2,048 of them are 128 programs for an H100's 132 processors
TILE_D = 256  # features per step: few programs, so each has more bytes of weights on their way


def linear_add(x: Tensor, hidden: Tensor, weight: Tensor | Fp8Weight, out: Tensor | None) -> Tensor:
    """Launch the kernel; arguments are those of the operator, already checked.

    Args:
        x: [N, C] float32 or bfloat16.
        hidden: [N, D], same dtype.
        weight: [C, D].
        out: x, or None for a new tensor.

    Returns:
        [N, C].
    """
    num_rows, num_columns = x.shape
    matrix, scale = unpack(weight)
    if out is None:
        out = torch.empty(num_rows, num_columns, dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    # Row tiles vary fastest: programs that share a tile of weights run side by side.
    linear_add_kernel[(triton.cdiv(num_rows, TILE_N), triton.cdiv(num_columns, TILE_C))](
        x,
        hidden,
        matrix,
        scale,
        out,
        num_rows,
        num_columns,
        hidden.shape[1],
        x.stride(0),
        x.stride(1),
        hidden.stride(0),
        hidden.stride(1),
        matrix.stride(0),
        matrix.stride(1),
        out.stride(0),
        out.stride(1),
        HAS_SCALE=scale is not None,
        # The interpreter multiplies bfloat16 operands as if their bits were integers.
        IS_WIDENED=isinstance(linear_add_kernel, InterpretedFunction),
        TILE_N=TILE_N,
        TILE_C=TILE_C,
        TILE_D=TILE_D,
        num_stages=4,
        enable_fp_fusion=True,
    )
    return out


@triton.jit
def linear_add_kernel(
    x_ptr,  # [N, C], which may be out: a program reads its tile before it writes it
    hidden_ptr,  # [N, D]
    weight_ptr,  # [C, D]
    weight_scale_ptr,  # [C] float32, None unless HAS_SCALE
    out_ptr,  # [N, C]
    num_rows,
    num_columns,
    num_features,
    x_stride_n,
    x_stride_c,
    hidden_stride_n,
    hidden_stride_d,
    weight_stride_c,
    weight_stride_d,
    out_stride_n,
    out_stride_c,
    HAS_SCALE: tl.constexpr,
    IS_WIDENED: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_C: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """Compute one [TILE_N, TILE_C] tile of the result."""
    row = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    column = tl.program_id(1) * TILE_C + tl.arange(0, TILE_C)
    is_row, is_column = row < num_rows, column < num_columns
    product = dot_tile(
        hidden_ptr,
        weight_ptr,
        weight_scale_ptr,
        row,
        is_row,
        column,
        is_column,
        num_features,
        hidden_stride_n,
        hidden_stride_d,
        weight_stride_c,
        weight_stride_d,
        HAS_SCALE,
        IS_WIDENED,
        TILE_N,
        TILE_C,
        TILE_D,
    )
    is_stored = is_row[:, None] & is_column[None, :]
    wide_row = row.to(tl.int64)[:, None]
    place = wide_row * x_stride_n + column[None, :] * x_stride_c
    x = tl.load(x_ptr + place, mask=is_stored, other=0.0).to(tl.float32)
    tl.store(
        out_ptr + wide_row * out_stride_n + column[None, :] * out_stride_c,
        (x + product).to(out_ptr.dtype.element_ty),
        mask=is_stored,
    )
