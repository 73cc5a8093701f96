"""`block_attention` by PyTorch's own attention and by flash-attn: peers, and the way on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_kernels.block_attention.reference import find_visible


def block_attention_sdpa(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    num_keys: int | Tensor,
    first_key: Tensor | None,
    num_causal: Tensor | None,
    block_size: int | None,
    scale: float,
) -> Tensor:
    """Attend with `scaled_dot_product_attention`; a mask is made only where one is needed."""
    rows, num_heads, num_queries, _ = queries.shape
    if isinstance(num_keys, int):
        keys, values = keys[:, :, :num_keys], values[:, :, :num_keys]
    mask = None
    options = (first_key, num_causal, block_size)
    if isinstance(num_keys, Tensor) or any(option is not None for option in options):
        mask = find_visible(rows, num_queries, keys.shape[2], num_keys, *options, queries.device)[
            :, None
        ]  # [B, 1, L, S]
        is_read = mask.any(dim=2)[..., None]  # [B, 1, S, 1]: the rest may hold NaN
        keys, values = keys.masked_fill(~is_read, 0.0), values.masked_fill(~is_read, 0.0)
    attended = F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        scale=scale,
        enable_gqa=num_heads != keys.shape[1],
    )
    if mask is not None:
        attended = attended.masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)
    return attended.transpose(1, 2).contiguous().transpose(1, 2)


def block_attention_flash(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    num_keys: int | Tensor,
    first_key: Tensor | None,
    num_causal: Tensor | None,
    block_size: int | None,
    scale: float,
) -> Tensor:
    """Attend with `flash_attn_with_kvcache`, which has causal and full attention only.

    Raises:
        ValueError: Float32, a block size that is neither 1 nor the whole, or some causal queries.
    """
    if queries.dtype != torch.bfloat16 or block_size not in (None, 1) or num_causal is not None:
        option = f"block_size={block_size}" if num_causal is None else "num_causal"
        raise ValueError(
            f"flash_attn cannot attend in {queries.dtype} with {option}; it takes "
            "torch.bfloat16 and block_size 1 or None; use 'triton'"
        )
    from flash_attn import flash_attn_with_kvcache

    attended: Tensor = flash_attn_with_kvcache(
        queries.transpose(1, 2),  # [B, L, H, E]
        keys.transpose(1, 2),
        values.transpose(1, 2),
        cache_seqlens=num_keys,
        cache_leftpad=first_key,
        softmax_scale=scale,
        causal=block_size == 1,
    )
    return attended.transpose(1, 2)
