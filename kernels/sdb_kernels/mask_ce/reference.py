"""`mask_ce` in plain PyTorch, with full logits and PyTorch's own gradient: the definition."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_ce(
    hidden: Tensor, weight: Tensor, targets: Tensor, row_weights: Tensor, forbidden_id: int
) -> Tensor:
    """Sum the weighted losses in float32; see the package docstring.

    Arguments are those of `sdb_kernels.mask_ce.mask_ce`, already checked; -1 forbids none.
    """
    is_counted = row_weights != 0.0  # a forbidden target has an infinite loss, and 0 * inf is NaN
    logits = hidden[is_counted].float() @ weight.float().T  # [N, V]
    if forbidden_id >= 0:
        is_forbidden = torch.arange(len(weight), device=weight.device) == forbidden_id
        logits = logits.masked_fill(is_forbidden, -torch.inf)
    losses = F.cross_entropy(logits, targets[is_counted], reduction="none")
    return (losses * row_weights[is_counted]).sum()
