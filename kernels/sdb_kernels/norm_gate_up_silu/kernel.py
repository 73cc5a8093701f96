"""`norm_gate_up_silu` in Triton: a program computes a gate tile and its value tile, and joins them.

Definition: `reference.py`; the loop over features: `sdb_kernels/dot.py`.
"""

# Triton's language has no types to check; see head_select/kernel.py.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, call-arg"
# mypy: disable-error-code="var-annotated"

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from sdb_kernels.dot import TILE_D, TILE_N, dot_normalised_pair
from sdb_kernels.fp8 import Fp8Weight, unpack

TILE_C = 32  # columns; 4,864 of them are 152 programs for an H100's 132 processors


def norm_gate_up_silu(x: Tensor, gain: Tensor, weight: Tensor | Fp8Weight, eps: float) -> Tensor:
    """Launch the kernel; arguments are those of the operator, already checked.

    Args:
        x: [N, D] float32 or bfloat16.
        gain: [D].
        weight: [2F, D].
        eps: Added to the mean square.

    Returns:
        [N, F].
    """
    num_rows, num_features = x.shape
    matrix, scale = unpack(weight)
    num_columns = len(matrix) // 2
    out = torch.empty(num_rows, num_columns, dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    # Row tiles vary fastest: programs that share a tile of weights run side by side.
    norm_gate_up_silu_kernel[(triton.cdiv(num_rows, TILE_N), triton.cdiv(num_columns, TILE_C))](
        x,
        gain.contiguous(),
        matrix,
        scale,
        out,
        num_rows,
        num_features,
        num_columns,
        eps,
        x.stride(0),
        x.stride(1),
        matrix.stride(0),
        matrix.stride(1),
        HAS_SCALE=scale is not None,
        # The interpreter multiplies bfloat16 operands as if their bits were integers.
        IS_WIDENED=isinstance(norm_gate_up_silu_kernel, InterpretedFunction),
        TILE_N=TILE_N,
        TILE_C=TILE_C,
        TILE_D=TILE_D,
        num_stages=4,
        enable_fp_fusion=True,
    )
    return out


@triton.jit
def norm_gate_up_silu_kernel(
    x_ptr,  # [N, D]
    gain_ptr,  # [D]
    weight_ptr,  # [2F, D]
    weight_scale_ptr,  # [2F] float32, None unless HAS_SCALE
    out_ptr,  # [N, F]
    num_rows,
    num_features,
    num_columns,
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
    """Compute one [TILE_N, TILE_C] tile of the result."""
    row = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    column = tl.program_id(1) * TILE_C + tl.arange(0, TILE_C)
    is_row, is_column = row < num_rows, column < num_columns
    gate, up = dot_normalised_pair(
        x_ptr,
        gain_ptr,
        weight_ptr,
        weight_scale_ptr,
        row,
        is_row,
        column,
        num_columns + column,
        is_column,
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
    decay = tl.exp(-tl.abs(gate))  # at most 1: a sigmoid that cannot overflow
    sigmoid = tl.where(gate >= 0.0, 1.0, decay) / (1.0 + decay)
    place = row.to(tl.int64)[:, None] * num_columns + column[None, :]
    tl.store(
        out_ptr + place,
        (gate * sigmoid * up).to(out_ptr.dtype.element_ty),
        mask=is_row[:, None] & is_column[None, :],
    )
