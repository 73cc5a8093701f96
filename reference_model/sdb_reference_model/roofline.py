"""The least time one forward of a block can take: bytes over bandwidth, or operations over peak.

Place in the flow: `sdbench roofline` prints it, `benchmarks/step.py` draws what was measured beside
it, and a claimed speed becomes a question: how many tokens per forward would that need?

    T(b) = T_body + T_head + T_attention,   T_x = max(bytes_x / bandwidth, operations_x / peak)

Body and head read each weight once per forward and do 2 b operations with it, b being the tokens
of the forward. So T is flat up to the knee b* = peak / bandwidth * bytes per weight / 2, and linear
behind it: the tokens up to the knee are free. Attention reads keys and values of the context once.

What it does not do: count launches, activations, the sampler's own work, or more than one GPU or
row. It is a bound; what an engine reaches of it is a measurement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdb_reference_model.model import SIZES, ModelConfig

CACHE_BYTES = 2
"""Keys and values are bfloat16 at every precision of the weights."""
BLOCKS = (1, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a data sheet promises of one GPU, dense (no sparsity)."""

    bytes_per_s: float
    flops_per_s: float
    """Operations per second of the bfloat16 tensor cores."""


GPUS = {
    "H20": Gpu(4.0e12, 148e12),
    "H100": Gpu(3.35e12, 989e12),
    "H200": Gpu(4.8e12, 989e12),
}
"""NVIDIA data sheets, SXM versions. Copies reach about nine tenths of the bandwidth."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How weights are stored and multiplied."""

    weight_bytes: float
    speed_over_bf16: float
    """Of the tensor cores; 2 where the activations are 8 bits wide too."""


PRECISIONS = {
    "bf16": Precision(2.0, 1.0),
    "fp8-weights": Precision(1.0, 1.0),
    "fp8": Precision(1.0, 2.0),
}
"""`fp8-weights` widens each weight before it is multiplied (W8A16); `fp8` is W8A8."""


@dataclass(frozen=True, slots=True)
class Forward:
    """The bound of one forward by parts, in seconds."""

    body_s: float
    head_s: float
    attention_s: float
    is_bound_by_memory: bool
    """Whether reading the body's weights takes longer than multiplying with them."""

    @property
    def seconds(self) -> float:
        """The bound of the whole forward."""
        return self.body_s + self.head_s + self.attention_s


def count_body_weights(config: ModelConfig) -> int:
    """Weights of all layers' matrices; norms and biases are left out."""
    attention = config.d_model * (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    return config.num_layers * (attention + 3 * config.d_model * config.d_ff)


def count_head_weights(config: ModelConfig) -> int:
    """Weights of the language-model head. The embedding is read by rows and costs nothing."""
    return config.vocab_size * config.d_model


def count_cache_bytes(config: ModelConfig) -> int:
    """Bytes of keys and values per token of context."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * CACHE_BYTES


def predict_forward(
    config: ModelConfig, gpu: Gpu, precision: Precision, num_tokens: int, context: int
) -> Forward:
    """Bound one forward.

    Args:
        config: shape of the model.
        gpu: where it runs.
        precision: of its weights.
        num_tokens: b, tokens of the forward; all of them reach the head.
        context: tokens in the cache, which every query reads along with its block.
    """
    peak = gpu.flops_per_s * precision.speed_over_bf16

    def read_and_multiply(num_weights: int) -> tuple[float, float]:
        read_s = num_weights * precision.weight_bytes / gpu.bytes_per_s
        return read_s, 2 * num_weights * num_tokens / peak

    body_read_s, body_multiply_s = read_and_multiply(count_body_weights(config))
    query_width = config.num_layers * config.num_heads * config.head_dim
    cache_read_s = count_cache_bytes(config) * context / gpu.bytes_per_s
    # Queries times keys, and weights times values: two products of 2 operations a pair and channel.
    cache_multiply_s = 4 * query_width * num_tokens * (context + num_tokens) / gpu.flops_per_s
    return Forward(
        body_s=max(body_read_s, body_multiply_s),
        head_s=max(read_and_multiply(count_head_weights(config))),
        attention_s=max(cache_read_s, cache_multiply_s),
        is_bound_by_memory=body_read_s >= body_multiply_s,
    )


def compute_knee(gpu: Gpu, precision: Precision) -> float:
    """Tokens per forward at which multiplying takes as long as reading the weights."""
    peak = gpu.flops_per_s * precision.speed_over_bf16
    return peak / gpu.bytes_per_s * precision.weight_bytes / 2


def compute_slowdown(
    config: ModelConfig, gpu: Gpu, precision: Precision, num_tokens: int, context: int
) -> float:
    """T(b) / T(1): what a forward of `num_tokens` costs beside that of one token."""
    of_block = predict_forward(config, gpu, precision, num_tokens, context)
    return of_block.seconds / predict_forward(config, gpu, precision, 1, context).seconds


def compute_tokens_per_forward(tokens_per_s: float, forward_s: float, share: float = 1.0) -> float:
    """Tokens each forward must yield for a speed, at a share of the roofline in (0, 1]."""
    return tokens_per_s * forward_s / share


def draw_slowdown(
    out: Path, sizes: Sequence[str], blocks: Sequence[int] = BLOCKS, context: int = 1024
) -> None:
    """Draw T(b) / T(1) in bfloat16, a panel per size and a line per GPU, into an SVG or PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    dense = sorted({*blocks, *range(blocks[0], blocks[-1] + 1)})
    # The same picture gives the same file: no date, no random ids, text as text.
    with matplotlib.rc_context({"svg.hashsalt": "roofline", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 3), layout="constrained")
        panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False).flat
        for axes, size in zip(panels, sizes, strict=True):
            for name, gpu in GPUS.items():
                values = [
                    compute_slowdown(SIZES[size], gpu, PRECISIONS["bf16"], b, context)
                    for b in dense
                ]
                knee = compute_knee(gpu, PRECISIONS["bf16"])
                axes.plot(dense, values, label=f"{name}, knee at {knee:.0f}")
            axes.set_xscale("log", base=2)
            axes.set_xticks(list(blocks), [str(b) for b in blocks])
            axes.set_xlabel("tokens per forward, b")
            axes.set_title(size)
            axes.grid(alpha=0.3)
            axes.set_ylim(bottom=0)
        panels[0].set_ylabel("T(b) / T(1), bound")
        panels[0].legend(frameon=False)
        metadata = {"Date": None} if out.suffix == ".svg" else None
        figure.savefig(out, metadata=metadata)
