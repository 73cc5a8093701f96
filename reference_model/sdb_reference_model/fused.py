"""The Transformer's forward against its cache in six launches a layer, and one whole step.

Place in the flow: what `Transformer.forward` with a cache computes, by the operators of
`sdb_kernels`, which choose Triton on a GPU and their definitions elsewhere. The number of finished
positions may live on the device, so that one CUDA graph serves every step of a text.

    norm_qkv_rope_append, block_attention (2), linear_add, norm_gate_up_silu, linear_add

What it does not do: train, return logits, choose a policy beyond a threshold, in any order or from
the left, read packed weights.

Choice: the operators round less often than the modules do in bfloat16, so the two agree within
rounding there, and within 1e-5 in float32.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_kernels.block_attention import block_attention
from sdb_kernels.commit_tokens import commit_tokens
from sdb_kernels.head_select import head_select
from sdb_kernels.linear_add import linear_add
from sdb_kernels.norm_gate_up_silu import norm_gate_up_silu
from sdb_kernels.norm_qkv_rope_append import norm_qkv_rope_append
from sdb_reference_model.linear import PackedLinear
from sdb_reference_model.model import Block, KVCache, Transformer


@torch.no_grad()
def read_block(
    model: Transformer,
    token_ids: Tensor,
    cache: KVCache,
    *,
    num_past: Tensor,
    first_key: Tensor | None = None,
    num_causal: Tensor | None = None,
    block_size: int | None = None,
    backend: str | None = None,
) -> Tensor:
    """Compute final hidden states of a block behind the cache, and write its keys and values.

    Args:
        model: its dtype is that of the cache; plain or quantised.
        token_ids: int64 [B, L].
        cache: [num_past, num_past + L) of every layer is written; `cache.length` is not read.
        num_past: int32 [B], finished positions of each row in the cache, padding included.
        first_key: int32 [B], padding on the left of each row; None for none. Rotary positions
            count from there.
        num_causal: int32 [B], positions of each row that see nothing behind themselves, whatever
            `block_size` is; None for none.
        block_size: None lets the block see all of itself; b makes it block-causal, 1 causal.
        backend: of every operator: `"triton"`; `"reference"` for PyTorch's calls alone, among them
            its own attention; None chooses by capability.

    Returns:
        Hidden states [B, L, D] after the final norm.

    Raises:
        ValueError: the model is packed.
    """
    if isinstance(model.inference_head, PackedLinear):
        raise ValueError("packed weights are read by Transformer.forward alone; load it again")
    config = model.config
    rows, length = token_ids.shape
    start = num_past if first_key is None else num_past - first_key
    steps = torch.arange(length, device=token_ids.device, dtype=torch.int32)
    angles = compute_angles(start[:, None] + steps, config.head_dim, config.rope_theta)
    cos, sin = angles.cos(), angles.sin()  # [B, L, E/2]
    num_keys = num_past + length
    attention_backend = "sdpa" if backend == "reference" else backend
    x = model.embedding(token_ids).view(rows * length, -1)  # [B L, D]
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        attention, feed_forward = block.attention, block.feed_forward
        keys, values = cache.keys[layer], cache.values[layer]
        queries = norm_qkv_rope_append(
            x.view(rows, length, -1),
            block.attention_norm.weight,
            attention.qkv.weight,
            cos,
            sin,
            keys,
            values,
            num_past=num_past,
            eps=config.norm_eps,
            bias=attention.qkv.bias,
            query_gain=attention.q_norm.weight if config.qk_norm else None,
            key_gain=attention.k_norm.weight if config.qk_norm else None,
            backend=backend,
        )  # [B, H, L, E]
        attended = block_attention(
            queries,
            keys,
            values,
            num_keys=num_keys,
            first_key=first_key,
            num_causal=num_causal,
            block_size=block_size,
            backend=attention_backend,
        )
        joined = attended.transpose(1, 2).reshape(rows * length, -1)  # [B L, H E]
        x = linear_add(x, joined, attention.out.weight, out=x, backend=backend)
        hidden = norm_gate_up_silu(
            x,
            block.feed_forward_norm.weight,
            feed_forward.gate_up.weight,
            eps=config.norm_eps,
            backend=backend,
        )  # [B L, F]
        x = linear_add(x, hidden, feed_forward.down.weight, out=x, backend=backend)
    x = F.rms_norm(x, x.shape[-1:], model.norm.weight, config.norm_eps)
    return x.view(rows, length, -1)


def compute_angles(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    """Rotary angles float32 [B, L, E/2] of integer positions [B, L]; padding counts as 0."""
    half = head_dim // 2
    exponent = torch.arange(half, device=positions.device, dtype=torch.float32) / half
    angles: Tensor = positions.clamp(min=0)[:, :, None] * theta**-exponent
    return angles


@dataclass(slots=True)
class Step:
    """One denoising step as a closed loop on the device: read, propose, commit, all in place.

    Nothing is allocated outside, and nothing asks the host, so that it can be captured once and
    replayed (`replay.py`); a step on a finished block changes nothing.
    """

    model: Transformer
    cache: KVCache
    block: Tensor
    """int64 [B, b], written."""
    before: Tensor
    """int64 [B, p], the p tokens in front of `block` that are read with it. A finished block among
    them is blind to `block`, and its keys and values are final from then on. On a causal past the
    last one is always there: the first of `block` is predicted where it stands."""
    num_past: Tensor
    """int32 [B], finished positions in front of what is read, padding included."""
    is_done: Tensor
    """bool [B], written: no mask is left."""
    mask_id: int
    end_id: int | None
    threshold: float
    is_prefix: bool = False
    """Whether text grows from the left, see `commit_tokens`."""
    first_key: Tensor | None = None
    """int32 [B], padding on the left of each row."""
    backend: str | None = None

    @torch.no_grad()
    def run(self) -> Tensor:
        """Read the block once and commit what is more probable than the threshold.

        On a causal past a full block is read causally, as text: that makes it past.

        Returns:
            Tokens committed, int32 [B].
        """
        size, num_causal = self.block.shape[1], None
        window = torch.cat((self.before, self.block), dim=1)  # [B, p + b]
        if self.model.config.causal_past:
            window = window[:, :-1]
            is_full = (self.block != self.mask_id).all(dim=1)
            num_causal = (window.shape[1] - size * ~is_full).int()
        hidden = read_block(
            self.model,
            window,
            self.cache,
            num_past=self.num_past,
            first_key=self.first_key,
            num_causal=num_causal,
            block_size=size,
            backend=self.backend,
        )
        proposals, confidence = head_select(
            hidden[:, -size:].flatten(0, 1),
            self.model.head_operand,
            forbidden_id=self.mask_id,
            backend=self.backend,
        )
        num_committed, is_done = commit_tokens(
            self.block,
            proposals.view_as(self.block),
            confidence.view_as(self.block),
            mask_id=self.mask_id,
            threshold=self.threshold,
            is_prefix=self.is_prefix,
            end_id=self.end_id,
            backend=self.backend,
        )
        self.is_done.copy_(is_done)
        return num_committed
