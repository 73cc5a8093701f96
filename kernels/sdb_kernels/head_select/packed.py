"""`head_select` on a packed weight: what runs on a CPU beside the definition.

Logits are kept, so this saves no memory: it saves the layout of the weight in each product, and
most of the argmax, which PyTorch computes on a CPU many times slower than a maximum.
"""

import math

import torch
from torch import Tensor

from sdb_kernels.head_select import reference
from sdb_kernels.packed import PackedWeight

TILE_V = 256


def head_select(
    hidden: Tensor,
    weight: PackedWeight,
    *,
    forbidden_id: int | None,
    temperature: float,
    seeds: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Select one token per row and the probability the model gives it; see the package docstring.

    Arguments are those of `sdb_kernels.head_select.head_select`, already checked.
    """
    logits = weight.multiply(hidden.to(weight.dtype)).float()  # [N, V]
    if forbidden_id is not None:
        logits[:, forbidden_id] = -math.inf
    if temperature > 0.0:
        return reference.select_token(logits, temperature, seeds)
    token_ids = find_first_maximum(logits)
    confidence = logits.softmax(dim=-1).gather(-1, token_ids[:, None]).squeeze(-1)
    return token_ids, confidence


def find_first_maximum(values: Tensor) -> Tensor:
    """Argmax of each row of [N, V], of equals the first; int64 [N]. NaN: any column."""
    num_rows, num_columns = values.shape
    num_tiles = num_columns // TILE_V
    num_whole = num_tiles * TILE_V
    tiles = values[:, :num_whole].reshape(num_rows, num_tiles, TILE_V)
    peaks = [tiles.amax(dim=2)]  # [N, V / TILE_V]
    if num_whole < num_columns:
        peaks.append(values[:, num_whole:].amax(dim=1, keepdim=True))
    start = torch.cat(peaks, dim=1).argmax(dim=1, keepdim=True) * TILE_V  # [N, 1]
    columns = start + torch.arange(TILE_V, device=values.device)
    tile = values.gather(1, columns.clamp_(max=num_columns - 1))  # the last column may repeat
    first = start.squeeze(1) + tile.argmax(dim=1)
    return first.clamp_(max=num_columns - 1)
