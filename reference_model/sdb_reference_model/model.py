"""The Transformer, used bidirectionally by diffusion and causally by its autoregressive twin.

Pre-norm decoder-style blocks: RMSNorm, rotary positions, grouped-query attention, SwiGLU. The paper
says only "a standard dense Transformer", so this is the shape of Llama, Qwen and Seed-Coder.

Shapes: B rows, L query positions, S key positions, D model width, H query heads, G key/value
heads, E head width, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sdb_kernels.packed import Weight
from sdb_reference_model import linear
from sdb_reference_model.attention import AttentionKernel, Mask, attend


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of a Transformer. Every field is part of a checkpoint's identity."""

    vocab_size: int
    d_model: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    d_ff: int
    max_seq_len: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    head_width: int | None = None
    """E where it is not `d_model / num_heads`, as in Qwen3."""
    causal_past: bool = False
    """As in its autoregressive start, the past is causal and outputs speak of the next token."""

    def __post_init__(self) -> None:
        """Reject shapes that cannot be built.

        Raises:
            ValueError: if heads do not divide the width, or groups do not divide the heads.
        """
        is_split = self.head_width is not None or self.d_model % self.num_heads == 0
        if not is_split or self.head_dim % 2:
            raise ValueError(
                f"d_model={self.d_model} over num_heads={self.num_heads} must give an even head "
                "width, or head_width one; rotary positions turn pairs of channels"
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}; "
                "use a divisor"
            )

    @property
    def head_dim(self) -> int:
        """E, channels per head."""
        return self.head_width or self.d_model // self.num_heads


SIZES: dict[str, ModelConfig] = {
    "test": ModelConfig(64, 32, 2, 4, 2, 64, 128),
    "demo": ModelConfig(768, 256, 4, 4, 2, 704, 512),
    "25m": ModelConfig(4_096, 512, 8, 8, 4, 1_408, 2_048),
    "125m": ModelConfig(32_768, 768, 16, 12, 4, 2_048, 4_096),
    "0.5b": ModelConfig(
        151_936, 896, 24, 14, 2, 4_864, 32_768, rope_theta=1e6, norm_eps=1e-6, qkv_bias=True
    ),
    "1b": ModelConfig(128_256, 2_048, 16, 32, 8, 8_192, 32_768, rope_theta=5e5),
    "8b": ModelConfig(
        155_136, 4_096, 32, 32, 8, 14_336, 32_768, rope_theta=5e5, tie_embeddings=False
    ),
}
"""Named sizes; `0.5b` has the shape of Qwen2.5-Coder-0.5B, `1b` that of Llama-3.2-1B, `8b` that of
Seed-Coder-8B."""


class KVCache:
    """Keys and values of finished positions, written in place, keys after rotation.

    Positions `[0, length)` are final. A forward writes its own L positions behind them and reads
    both; only `commit` makes them final, so a denoising step leaves nothing to undo.
    """

    def __init__(self, config: ModelConfig, batch_size: int, capacity: int, like: Tensor) -> None:
        """Allocate for `batch_size` rows and `capacity` positions with dtype/device of `like`."""
        shape = (config.num_layers, batch_size, config.num_kv_heads, capacity, config.head_dim)
        self.keys = torch.empty(shape, dtype=like.dtype, device=like.device)  # [layers, B, G, S, E]
        self.values = torch.empty_like(self.keys)
        self.length = 0
        self.num_seen = 0
        """Positions that are read at the least, also behind those being written (dual cache)."""
        self.rows: Tensor | None = None
        """int64 [R], the rows that the next forward stands for; None is all of them."""

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put k, v [R, G, L, E] behind the final positions; return all of them [R, G, S, E]."""
        end = self.length + k.shape[2]
        if end > self.keys.shape[3]:
            raise ValueError(
                f"cache holds {self.keys.shape[3]} positions, {end} are needed; allocate more"
            )
        seen = max(end, self.num_seen)
        keys, values = self.keys[layer], self.values[layer]
        if self.rows is None:
            keys[:, :, self.length : end] = k
            values[:, :, self.length : end] = v
            return keys[:, :, :seen], values[:, :, :seen]
        keys[self.rows, :, self.length : end] = k
        values[self.rows, :, self.length : end] = v
        return keys[:, :, :seen][self.rows], values[:, :, :seen][self.rows]

    def commit(self, num_positions: int) -> None:
        """Declare the `num_positions` written last as final."""
        self.length += num_positions


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions (rotate-half form) to x [B, heads, L, E]; see `compute_rope`."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)  # which may be lower under autocast
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, dims=-1), sin)


class Attention(nn.Module):
    """Grouped-query attention with one fused projection for queries, keys and values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        heads = config.num_heads + 2 * config.num_kv_heads
        self.qkv = nn.Linear(config.d_model, heads * config.head_dim, bias=config.qkv_bias)
        self.out = nn.Linear(config.num_heads * config.head_dim, config.d_model, bias=False)
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = nn.RMSNorm(config.head_dim, config.norm_eps)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Mask | None,
        is_causal: bool,
        cache: KVCache | None,
        layer: int,
        where: Tensor | None,
    ) -> Tensor:
        c = self.config
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, -1, c.head_dim).transpose(1, 2)  # [B, H+2G, L, E]
        qk, v = heads[:, : -c.num_kv_heads], heads[:, -c.num_kv_heads :]
        if c.qk_norm:
            q, k = qk[:, : c.num_heads], qk[:, c.num_heads :]
            qk = torch.cat((self.q_norm(q), self.k_norm(k)), dim=1)
        qk = rotate(qk, *rope)
        q, k = qk[:, : c.num_heads], qk[:, c.num_heads :]
        if cache is not None:
            k, v = cache.write(layer, k, v)  # [B, G, S, E]
        if where is not None and not is_causal:
            first, last = find_span(where)
            q, where = q[:, :, first:last], where[:, first:last]
            mask = mask if mask is None or mask.shape[2] == 1 else mask[:, :, first:last]
        attended = attend(q, k, v, mask, is_causal)  # [B, H, L, E]
        attended = attended.transpose(1, 2).flatten(2)  # [B, L, H*E]
        return self.out(attended if where is None else attended[where])  # type: ignore[no-any-return]


def find_span(where: Tensor) -> tuple[int, int]:
    """First and behind-last column of bool [B, L] in which any row has a True; waits for them."""
    columns = where.any(dim=0).nonzero()
    return int(columns[0]), int(columns[-1]) + 1


class FeedForward(nn.Module):
    """SwiGLU with one fused projection for gate and value."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.d_model, 2 * config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        gate = F.silu(gate)
        # In place where there are no gradients: the pages of a new tensor cost more than a product.
        gate = gate * up if torch.is_grad_enabled() else gate.mul_(up)
        return self.down(gate)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One pre-norm residual layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Mask | None,
        is_causal: bool,
        cache: KVCache | None,
        layer: int,
        where: Tensor | None,
    ) -> Tensor:
        attended = self.attention(
            self.attention_norm(x), rope, mask, is_causal, cache, layer, where
        )
        x = (x if where is None else x[where]) + attended
        return x + self.feed_forward(self.feed_forward_norm(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Token ids in, hidden states out; `head_weight` turns hidden states into logits.

    The head is not applied here, because every caller wants it on some positions only: training
    on the masked ones, sampling on those still undecided.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.d_model, config.norm_eps)
        if not config.tie_embeddings:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.inference_head: linear.PackedLinear | linear.QuantisedLinear | None = None
        self.recomputes_activations = False
        """In training, keep only each layer's input and compute its inside again when needed."""
        self.attention_kernel: AttentionKernel = "sdpa"  # these two are for `states.run_model`
        self.packs_examples = False

    @property
    def head_weight(self) -> Tensor:
        """Weight [V, D] of the language-model head; the embedding itself when tied.

        Raises:
            ValueError: after `pack` or `quantise`, which leave nothing to train or to save.
        """
        if self.inference_head is not None:
            raise ValueError(linear.INFERENCE_ONLY)
        return self.embedding.weight if self.config.tie_embeddings else self.head.weight

    @property
    def head_operand(self) -> Weight:
        """What samplers multiply by: the head weight, or what `pack` or `quantise` made of it."""
        return self.head_weight if self.inference_head is None else self.inference_head.weight

    def pack(self) -> None:
        """Lay out head and body for this processor: for good, for inference only, see `packed.py`.

        Raises:
            ValueError: on another device than a CPU with oneDNN; or packed or quantised already.
        """
        linear.replace_linears(self, linear.PackedLinear)

    def quantise(self) -> None:
        """Round head and body to e4m3: for good, for inference only, see `sdb_kernels/fp8.py`.

        Embedding, norms and biases keep their dtype, so that a tied head becomes a copy.

        Raises:
            ValueError: a weight that is not finite; or packed or quantised already.
        """
        linear.replace_linears(self, linear.QuantisedLinear)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights: normal(0, 0.02), residual outputs scaled down by depth (GPT-2)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.ones_(parameter)
                continue
            is_residual = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
            std = 0.02 / (2 * self.config.num_layers) ** 0.5 if is_residual else 0.02
            nn.init.normal_(parameter, std=std, generator=generator)

    def forward(
        self,
        token_ids: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Mask | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
        rope: tuple[Tensor, Tensor] | None = None,
        where: Tensor | None = None,
    ) -> Tensor:
        """Compute final hidden states.

        Args:
            token_ids: int64 [B, L].
            positions: int64 [B, L] rotary positions; default continues the cache: 0..L-1 + length.
            mask: bool [B or 1, 1, L, S], True where a query may attend; None attends everywhere.
            is_causal: autoregressive attention; only without `mask`, and only when L == S.
            cache: earlier keys and values; this call's own are written behind them.
            rope: `compute_rope(positions)`, for callers that have it already.
            where: bool [B, L], some True: the positions that are wanted. The last layer computes
                keys and values for all of them, and everything else for these alone.

        Returns:
            Hidden states [B, L, D] after the final norm; with `where` those [N, D] of its N
            positions, row by row.

        Raises:
            ValueError: if the default positions run past `max_seq_len`.
        """
        length = token_ids.shape[1]
        start = cache.length if cache is not None else 0
        if positions is None and rope is None:
            if start + length > self.config.max_seq_len:
                raise ValueError(
                    f"{start + length} positions exceed max_seq_len={self.config.max_seq_len}; "
                    "shorten the prompt or lower max_new_tokens"
                )
            positions = torch.arange(start, start + length, device=token_ids.device)[None]
        if rope is None:
            assert positions is not None
            rope = self.compute_rope(positions)
        x = self.embedding(token_ids)  # [B, L, D]
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            wanted = where if layer == last else None
            inputs = (x, rope, mask, is_causal, cache, layer, wanted)
            if self.recomputes_activations and torch.is_grad_enabled():
                x = checkpoint(block, *inputs, use_reentrant=False)
            else:
                x = block(*inputs)
        return self.norm(x)  # type: ignore[no-any-return]

    def compute_rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines [B, 1, L, E] for integer positions [B, L].

        Computed in float32, given in the weights' dtype. Both halves of E turn by the same angles;
        the first half of the sines is negated, so that a rotation is x cos + roll(x, E/2) sin.
        """
        half = self.config.head_dim // 2
        exponent = torch.arange(half, device=positions.device, dtype=torch.float32) / half
        angles = positions[:, None, :, None] * self.config.rope_theta**-exponent
        cos, sin, dtype = angles.cos(), angles.sin(), self.embedding.weight.dtype
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)
