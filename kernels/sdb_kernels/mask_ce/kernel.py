"""`mask_ce` in Triton: logits live in a tile on chip, and leave it only as their gradient.

Forward: one float per row and tile of 128 ids, the logarithm of its sum of exponentials, and the
logit of the target. Backward: the gradient of one chunk of logits at a time, made by a kernel that
multiplies and subtracts in one go, then two matrix products of PyTorch. Definition: `reference.py`.
"""

# Triton's language has no types to check; see head_select/kernel.py.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, call-arg, misc"
# mypy: disable-error-code="var-annotated, untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from triton.runtime.interpreter import InterpretedFunction

TILE_N = 64
TILE_V = 128
TILE_D = 64
CHUNK = 8_192
"""Ids whose gradient exists at a time: with 4,096 rows 67 MB in bfloat16."""


def mask_ce(
    hidden: Tensor, weight: Tensor, targets: Tensor, row_weights: Tensor, forbidden_id: int
) -> Tensor:
    """Sum the weighted losses; arguments are those of the operator, already checked.

    Args:
        hidden: [N, D] float32 or bfloat16.
        weight: [V, D], same dtype.
        targets: [N] int64.
        row_weights: [N] float32.
        forbidden_id: Id without probability; -1 forbids none.

    Returns:
        A float32 scalar with a gradient.
    """
    loss: Tensor = TritonMaskCe.apply(hidden, weight, targets, row_weights, forbidden_id)
    return loss


class TritonMaskCe(torch.autograd.Function):
    """Forward keeps log Z; backward goes through the vocabulary again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        row_weights: Tensor,
        forbidden_id: int,
    ) -> Tensor:
        """Return the loss; keep the inputs and log Z [N]."""
        targets, row_weights = targets.contiguous(), row_weights.contiguous()
        num_rows, num_tiles = len(hidden), triton.cdiv(len(weight), TILE_V)
        log_sums = torch.empty(num_rows, num_tiles, dtype=torch.float32, device=hidden.device)
        target_logits = torch.empty(num_rows, dtype=torch.float32, device=hidden.device)
        if num_rows > 0:
            mask_ce_forward_kernel[(triton.cdiv(num_rows, TILE_N), num_tiles)](
                hidden,
                weight,
                targets,
                log_sums,
                target_logits,
                num_rows,
                len(weight),
                hidden.shape[1],
                num_tiles,
                forbidden_id,
                *hidden.stride(),
                *weight.stride(),
                IS_WIDENED=isinstance(mask_ce_forward_kernel, InterpretedFunction),
                TILE_N=TILE_N,
                TILE_V=TILE_V,
                TILE_D=TILE_D,
                enable_fp_fusion=True,
            )
        log_z = log_sums.logsumexp(dim=1)
        ctx.save_for_backward(hidden, weight, targets, row_weights, log_z)
        ctx.forbidden_id = forbidden_id
        losses = (log_z - target_logits).masked_fill(row_weights == 0.0, 0.0)
        return (losses * row_weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of hidden and weight."""
        hidden, weight, targets, row_weights, log_z = ctx.saved_tensors
        factor = row_weights * grad
        num_rows, vocabulary_size = len(hidden), len(weight)
        hidden_grad = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        weight_grad = torch.zeros_like(weight)
        for start in range(0, vocabulary_size if num_rows > 0 else 0, CHUNK):
            width = min(CHUNK, vocabulary_size - start)
            logits_grad = torch.empty(num_rows, width, dtype=hidden.dtype, device=hidden.device)
            mask_ce_gradient_kernel[(triton.cdiv(num_rows, TILE_N), triton.cdiv(width, TILE_V))](
                hidden,
                weight,
                targets,
                log_z,
                factor,
                logits_grad,
                num_rows,
                vocabulary_size,
                hidden.shape[1],
                start,
                width,
                ctx.forbidden_id,
                *hidden.stride(),
                *weight.stride(),
                IS_WIDENED=isinstance(mask_ce_gradient_kernel, InterpretedFunction),
                TILE_N=TILE_N,
                TILE_V=TILE_V,
                TILE_D=TILE_D,
                enable_fp_fusion=True,
            )
            hidden_grad += logits_grad @ weight[start : start + width]
            weight_grad[start : start + width] = logits_grad.T @ hidden
        return hidden_grad.to(hidden.dtype), weight_grad, None, None, None


@triton.jit
def _compute_logits(
    hidden_ptr,  # [N, D]
    weight_ptr,  # [V, D]
    row,  # [TILE_N]
    is_row,
    token_id,  # [TILE_V]
    is_id,
    num_features,
    hidden_stride_n,
    hidden_stride_d,
    weight_stride_v,
    weight_stride_d,
    IS_WIDENED: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_V: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """Return [TILE_N, TILE_V] logits in float32."""
    hidden_rows = hidden_ptr + row.to(tl.int64)[:, None] * hidden_stride_n
    weight_rows = weight_ptr + token_id.to(tl.int64)[None, :] * weight_stride_v
    logits = tl.zeros([TILE_N, TILE_V], dtype=tl.float32)
    for start in range(0, num_features, TILE_D):
        feature = start + tl.arange(0, TILE_D)
        is_feature = feature < num_features
        h = tl.load(
            hidden_rows + feature[None, :] * hidden_stride_d,
            mask=is_row[:, None] & is_feature[None, :],
            other=0.0,
        )
        w = tl.load(
            weight_rows + feature[:, None] * weight_stride_d,
            mask=is_feature[:, None] & is_id[None, :],
            other=0.0,
        )
        if IS_WIDENED:  # the interpreter multiplies bfloat16 as if its bits were integers
            h, w = h.to(tl.float32), w.to(tl.float32)
        logits = tl.dot(h, w, logits, input_precision="ieee")
    return logits


@triton.jit
def mask_ce_forward_kernel(
    hidden_ptr,  # [N, D]
    weight_ptr,  # [V, D]
    targets_ptr,  # [N] int64
    log_sums_ptr,  # [N, P] float32, P tiles of the vocabulary
    target_logits_ptr,  # [N] float32, written by the tile that holds the target
    num_rows,
    vocabulary_size,
    num_features,
    num_tiles,
    forbidden_id,  # -1 forbids none
    hidden_stride_n,
    hidden_stride_d,
    weight_stride_v,
    weight_stride_d,
    IS_WIDENED: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_V: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """Reduce one tile of logits to a log-sum-exp per row."""
    tile = tl.program_id(1)
    row = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    token_id = tile * TILE_V + tl.arange(0, TILE_V)
    is_row, is_id = row < num_rows, token_id < vocabulary_size
    logits = _compute_logits(
        hidden_ptr,
        weight_ptr,
        row,
        is_row,
        token_id,
        is_id,
        num_features,
        hidden_stride_n,
        hidden_stride_d,
        weight_stride_v,
        weight_stride_d,
        IS_WIDENED,
        TILE_N,
        TILE_V,
        TILE_D,
    )
    is_allowed = is_id & (token_id != forbidden_id)
    logits = tl.where(is_allowed[None, :], logits, float("-inf"))
    largest = tl.max(logits, axis=1)
    shift = tl.where(largest == float("-inf"), 0.0, largest)  # -inf - -inf would be NaN
    total = tl.sum(tl.exp(logits - shift[:, None]), axis=1)
    # A tile without an allowed id: the logarithm of nothing.
    log_sum = tl.where(
        total == 0.0, float("-inf"), shift + tl.log(tl.where(total == 0.0, 1.0, total))
    )
    tl.store(log_sums_ptr + row.to(tl.int64) * num_tiles + tile, log_sum, mask=is_row)

    target = tl.load(targets_ptr + row, mask=is_row, other=-1)
    is_target = token_id[None, :] == target[:, None]
    target_logit = tl.sum(tl.where(is_target, logits, 0.0), axis=1)
    is_here = (target >= tile * TILE_V) & (target < (tile + 1) * TILE_V)
    tl.store(target_logits_ptr + row, target_logit, mask=is_row & is_here)


@triton.jit
def mask_ce_gradient_kernel(
    hidden_ptr,  # [N, D]
    weight_ptr,  # [V, D]
    targets_ptr,  # [N] int64
    log_z_ptr,  # [N] float32
    factor_ptr,  # [N] float32, row weight times the incoming gradient
    logits_grad_ptr,  # [N, C]
    num_rows,
    vocabulary_size,
    num_features,
    start,  # first id of the chunk
    width,  # C, ids of the chunk
    forbidden_id,
    hidden_stride_n,
    hidden_stride_d,
    weight_stride_v,
    weight_stride_d,
    IS_WIDENED: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_V: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """Compute the gradient of one tile of logits: factor * (softmax - one hot)."""
    row = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    column = tl.program_id(1) * TILE_V + tl.arange(0, TILE_V)
    token_id = start + column
    is_row, is_id = row < num_rows, (column < width) & (token_id < vocabulary_size)
    logits = _compute_logits(
        hidden_ptr,
        weight_ptr,
        row,
        is_row,
        token_id,
        is_id,
        num_features,
        hidden_stride_n,
        hidden_stride_d,
        weight_stride_v,
        weight_stride_d,
        IS_WIDENED,
        TILE_N,
        TILE_V,
        TILE_D,
    )
    log_z = tl.load(log_z_ptr + row, mask=is_row, other=0.0)
    factor = tl.load(factor_ptr + row, mask=is_row, other=0.0)
    target = tl.load(targets_ptr + row, mask=is_row, other=-1)
    is_allowed = (is_id & (token_id != forbidden_id))[None, :] & is_row[:, None]
    exponent = tl.where(is_allowed, logits - log_z[:, None], float("-inf"))
    is_target = token_id[None, :] == target[:, None]
    gradient = factor[:, None] * (tl.exp(exponent) - tl.where(is_target, 1.0, 0.0))
    place = row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(
        logits_grad_ptr + place,
        gradient.to(logits_grad_ptr.dtype.element_ty),
        mask=is_row[:, None] & is_id[None, :],
    )
