"""`block_attention` in plain PyTorch: the definition of the operator.

`kernel.py` and `libraries.py` must return the same; `tests/kernels/test_block_attention.py`
compares them.
"""

import torch
from torch import Tensor


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
    """Attend in float32, rounding once at the end; see the package docstring.

    Arguments are those of `sdb_kernels.block_attention.block_attention`, already checked.
    """
    rows, num_heads, num_queries, width = queries.shape
    num_groups, capacity = keys.shape[1:3]
    sees = find_visible(
        rows, num_queries, capacity, num_keys, first_key, num_causal, block_size, queries.device
    )
    # Memory that was never written may hold NaN, and zero times NaN is NaN.
    is_read = sees.any(dim=1)[:, None, :, None]  # [B, 1, S, 1]
    k, v = keys.float().masked_fill(~is_read, 0.0), values.float().masked_fill(~is_read, 0.0)
    q = queries.float().reshape(
        rows, num_groups, num_heads // num_groups, num_queries, width
    )  # [B, G, H/G, L, E]
    scores = q @ k[:, :, None].transpose(-1, -2) * scale  # [B, G, H/G, L, S]
    weights = scores.masked_fill(~sees[:, None, None], -torch.inf).softmax(dim=-1)
    weights = weights.masked_fill(~sees[:, None, None], 0.0)  # softmax over nothing is NaN
    attended: Tensor = (weights @ v[:, :, None]).flatten(1, 2)  # [B, H, L, E]
    return attended.transpose(1, 2).to(queries.dtype).contiguous().transpose(1, 2)


def find_visible(
    rows: int,
    num_queries: int,
    capacity: int,
    num_keys: int | Tensor,
    first_key: Tensor | None,
    num_causal: Tensor | None,
    block_size: int | None,
    device: torch.device,
) -> Tensor:
    """Return bool [B, L, S], True where a query sees a key."""
    end = torch.as_tensor(num_keys, device=device).expand(rows)[:, None, None]  # [B, 1, 1]
    key = torch.arange(capacity, device=device)
    sees = (key < end).expand(rows, num_queries, capacity)
    query = torch.arange(num_queries, device=device)[:, None]
    if block_size is not None:
        sees = sees & (key < end - num_queries + (query // block_size + 1) * block_size)
    if num_causal is not None:
        is_causal = query < num_causal[:, None, None]  # [B, L, 1]
        sees = sees & ((key <= end - num_queries + query) | ~is_causal)
    if first_key is not None:
        sees = sees & (key >= first_key[:, None, None])
    return sees
