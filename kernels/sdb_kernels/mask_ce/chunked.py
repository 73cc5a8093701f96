"""`mask_ce` in chunks of the vocabulary, forward and backward, in plain PyTorch: for any device.

    log Z = logsumexp over chunks;   dz[n, v] = w[n] (exp(z[n, v] - log Z[n]) - 1[v = target])

Logits are computed twice and never kept: the price is one more product, the gain is the memory.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 4_096
"""Ids per chunk: with 4,096 rows 67 MB in float32, whatever the vocabulary."""


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
    loss: Tensor = ChunkedMaskCe.apply(hidden, weight, targets, row_weights, forbidden_id)  # type: ignore[no-untyped-call]
    return loss


class ChunkedMaskCe(torch.autograd.Function):
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
        rows = hidden.float()
        log_z = torch.full_like(row_weights, -torch.inf)
        target_logits = torch.full_like(row_weights, -torch.inf)
        for start, logits in _iterate_logits(rows, weight, forbidden_id):
            log_z = torch.logaddexp(log_z, logits.logsumexp(dim=1))
            is_here = (targets >= start) & (targets < start + logits.shape[1])
            place = (targets - start).clamp(0, logits.shape[1] - 1)[:, None]
            target_logits = torch.where(is_here, logits.gather(1, place)[:, 0], target_logits)
        ctx.save_for_backward(hidden, weight, targets, row_weights, log_z)
        ctx.forbidden_id = forbidden_id
        losses = (log_z - target_logits).masked_fill(row_weights == 0.0, 0.0)
        return (losses * row_weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of hidden and weight."""
        hidden, weight, targets, row_weights, log_z = ctx.saved_tensors
        rows, factor = hidden.float(), (row_weights * grad)[:, None]
        hidden_grad = torch.zeros_like(rows)
        weight_grad = torch.empty_like(weight)
        for start, logits in _iterate_logits(rows, weight, ctx.forbidden_id):
            end = start + logits.shape[1]
            logits_grad = logits.sub_(log_z[:, None]).exp_()
            is_here = ((targets >= start) & (targets < end)).to(logits_grad.dtype)
            place = (targets - start).clamp(0, logits.shape[1] - 1)[:, None]
            logits_grad.scatter_add_(1, place, -is_here[:, None])
            logits_grad *= factor
            hidden_grad += logits_grad @ weight[start:end].float()
            weight_grad[start:end] = logits_grad.T @ rows
        return hidden_grad.to(hidden.dtype), weight_grad, None, None, None


def _iterate_logits(
    rows: Tensor, weight: Tensor, forbidden_id: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield (first id, logits [N, at most CHUNK] float32) over the vocabulary."""
    for start in range(0, len(weight), CHUNK):
        logits = rows @ weight[start : start + CHUNK].float().T
        if start <= forbidden_id < start + CHUNK:
            logits[:, forbidden_id - start] = -torch.inf
        yield start, logits
