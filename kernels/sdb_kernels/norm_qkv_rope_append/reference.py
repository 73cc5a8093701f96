"""`norm_qkv_rope_append` in plain PyTorch: the definition, and what runs on a CPU."""

import torch
from torch import Tensor

from sdb_kernels.fp8 import Fp8Weight
from sdb_kernels.norm_gate_up_silu.reference import project_normalised


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
    """Compute in float32, rounding to x's dtype before the product and at the end.

    Arguments are those of `sdb_kernels.norm_qkv_rope_append.norm_qkv_rope_append`, already
    checked; cos and sin are [B, L, E/2].
    """
    rows, length, _ = x.shape
    num_groups, width = keys.shape[1], keys.shape[3]
    projected = project_normalised(x, gain, weight, eps)  # [B, L, (H + 2G) E]
    if bias is not None:
        projected = projected + bias.float()
    heads = projected.view(rows, length, -1, width).transpose(1, 2)  # [B, H + 2G, L, E]
    num_heads = heads.shape[1] - 2 * num_groups
    q, k, v = torch.split(heads, [num_heads, num_groups, num_groups], dim=1)
    if query_gain is not None and key_gain is not None:
        q, k = _norm(q, query_gain, eps), _norm(k, key_gain, eps)
    q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
    place = torch.arange(length, device=x.device)[None] + torch.as_tensor(
        num_past, device=x.device
    ).view(-1, 1)  # [B or 1, L]
    place = place.expand(rows, length)[:, None, :, None].expand_as(k)
    keys.scatter_(2, place, k.to(x.dtype))
    values.scatter_(2, place, v.to(x.dtype))
    return q.transpose(1, 2).to(x.dtype).contiguous().transpose(1, 2)


def _norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return x * gain.float() / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (e, e + E/2) of x [B, heads, L, E]; cos, sin [B, L, E/2]."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
