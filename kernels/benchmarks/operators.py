"""Time every operator on a GPU against its peers and against the time its bytes need.

    make bench-kernels          or    python kernels/benchmarks/operators.py

Peers: the chain of PyTorch calls that the operator replaces, the same under `torch.compile`, and
the library that does the job best (cuBLAS for the bare product, SDPA, flash-attn where it is
installed). The floor is what must be read and written once, at the bandwidth of a large copy
measured in the same run. Every result is compared with its definition first, and what differs is
not timed. Medians with the caches cleared before each call, so that weights come from memory as
they do in a model. The file is written after each row, and a row that fails says so; block 32 comes
first.

Without a CUDA device it exits with status 2 and one line.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_kernels.benchmarking import Report, explain, time_on_gpu
from sdb_kernels.block_attention import block_attention
from sdb_kernels.commit_tokens import commit_tokens
from sdb_kernels.fp8 import Fp8Weight, quantise
from sdb_kernels.head_select import head_select
from sdb_kernels.linear_add import linear_add
from sdb_kernels.mask_ce import mask_ce
from sdb_kernels.norm_gate_up_silu import norm_gate_up_silu
from sdb_kernels.norm_qkv_rope_append import norm_qkv_rope_append
from sdb_kernels.packed import multiply

RESULTS = Path(__file__).parent / "results"
NO_GPU = (
    "bench-kernels: needs a CUDA device and found none; the CPU has "
    "`python kernels/benchmarks/head_select.py`"
)
MAX_ERROR = 0.02
"""Largest difference from the definition over its largest value: a few steps of bfloat16."""

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model that operators see."""

    d_model: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int


SHAPES = {
    "0.5b": Shape(896, 14, 2, 64, 4_864, 151_936),
    "1b": Shape(2_048, 32, 8, 64, 8_192, 128_256),
    "8b": Shape(4_096, 32, 8, 128, 14_336, 155_136),
}
BLOCK_SIZES = (32, 8, 128)
CONTEXT = 4_096
EPS = 1e-6


@dataclass(slots=True)
class Case:
    """An operator at one size: what runs, what must come out, and what must be moved."""

    operator: str
    runs: dict[str, Run]
    """By name: `ours` first, then the peers; `chain` runs under torch.compile too, at block 32."""
    expected: Callable[[], list[Tensor]]
    """What `ours` must return, from the definition."""
    floor_bytes: int
    is_check_exact: bool = False


def main() -> None:
    """Check and time every case, print a line each, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--output", type=Path, default=RESULTS / "operators_cuda.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        sys.exit(2)
    device = torch.device("cuda")
    bandwidth = measure_copy_bandwidth(device)
    print(f"{torch.cuda.get_device_name()}: a large copy runs at {bandwidth / 1e12:.2f} TB/s")
    report = Report(
        arguments.output, benchmark="operators", copy_bytes_per_s=bandwidth, context=CONTEXT
    )
    for block_size in BLOCK_SIZES:
        for size in arguments.sizes:
            for case in build_cases(SHAPES[size], block_size, CONTEXT, torch.bfloat16, device):
                labels = {"size": size, "block_size": block_size, "operator": case.operator}
                is_compiled = block_size == 32
                report.add(labels, partial(measure, case, bandwidth, time_on_gpu, is_compiled))
    sys.exit(report.num_failed > 0)


def build_cases(
    shape: Shape, block_size: int, context: int, dtype: torch.dtype, device: torch.device
) -> list[Case]:
    """Build the cases of one model's shape: one row, a block of `block_size` tokens."""
    rng = torch.Generator(device).manual_seed(0)

    def draw(*sizes: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*sizes, generator=rng, device=device) * scale).to(dtype)

    return [
        build_commit_tokens(block_size, device),
        build_block_attention(shape, block_size, context, draw),
        build_mask_ce(shape, 16 * block_size, draw),
        *(
            case
            for is_fp8 in (False, True)
            for case in (
                build_qkv(shape, block_size, context, draw, is_fp8),
                build_gate_up(shape, block_size, draw, is_fp8),
                build_linear_add(shape, block_size, draw, is_fp8),
                build_head_select(shape, block_size, draw, is_fp8),
            )
        ),
    ]


Draw = Callable[..., Tensor]


def choose_weight(wide: Tensor, is_fp8: bool) -> tuple[Tensor | Fp8Weight, str, int]:
    """Return the weight that our operator takes, what to add to its name, and its bytes.

    The peers of an e4m3 operator multiply by the plain weight, which has twice the bytes.
    """
    if not is_fp8:
        return wide, "", wide.numel() * wide.element_size()
    return quantise(wide), " e4m3", wide.numel() + 4 * len(wide)


def build_head_select(shape: Shape, block_size: int, draw: Draw, is_fp8: bool) -> Case:
    hidden = draw(block_size, shape.d_model)
    wide = draw(shape.vocab_size, shape.d_model, scale=3 * shape.d_model**-0.5)
    weight, suffix, weight_bytes = choose_weight(wide, is_fp8)

    def run_chain() -> tuple[Tensor, Tensor]:
        logits = F.linear(hidden, wide)
        logits[:, 3] = -torch.inf
        confidence, tokens = logits.float().softmax(dim=-1).max(dim=-1)
        return tokens, confidence

    def expect() -> list[Tensor]:
        # The token is judged by its probability: near-ties may fall either way between products.
        logits = multiply(hidden, weight)
        logits[:, 3] = -torch.inf
        return [logits.softmax(dim=-1).amax(dim=-1)]

    return Case(
        "head_select" + suffix,
        {
            "ours": lambda: head_select(hidden, weight, forbidden_id=3)[1],
            "chain": run_chain,
            "bare product": lambda: F.linear(hidden, wide),
        },
        expect,
        weight_bytes + hidden.numel() * hidden.element_size(),
    )


def build_commit_tokens(block_size: int, device: torch.device) -> Case:
    rng = torch.Generator(device).manual_seed(0)
    mask_id = 9
    start = torch.full((1, block_size), mask_id, device=device)
    proposals = torch.randint(0, 9, start.shape, generator=rng, device=device)
    confidence = torch.rand(start.shape, generator=rng, device=device)

    def run(backend: str | None) -> Tensor:
        block = start.clone()
        commit_tokens(
            block, proposals, confidence, mask_id=mask_id, threshold=0.9, end_id=7, backend=backend
        )
        return block

    return Case(
        "commit_tokens",
        {"ours": lambda: run(None), "chain": lambda: run("reference")},
        lambda: [run("reference")],
        28 * block_size,
        is_check_exact=True,
    )


def build_block_attention(shape: Shape, block_size: int, context: int, draw: Draw) -> Case:
    queries = draw(1, shape.num_heads, block_size, shape.head_dim)
    keys, values = (draw(1, shape.num_kv_heads, context, shape.head_dim) for _ in range(2))

    def run(backend: str | None) -> Tensor:
        return block_attention(queries, keys, values, num_keys=context, backend=backend)

    runs: dict[str, Run] = {
        "ours": lambda: run(None),
        "chain": lambda: run("reference"),
        "sdpa": lambda: run("sdpa"),
    }
    if find_spec("flash_attn") is not None and queries.is_cuda:
        runs["flash_attn"] = lambda: run("flash_attn")
    return Case(
        "block_attention",
        runs,
        lambda: [run("reference")],
        (2 * keys.numel() + 2 * queries.numel()) * keys.element_size(),
    )


def build_qkv(shape: Shape, block_size: int, context: int, draw: Draw, is_fp8: bool) -> Case:
    columns = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
    x = draw(1, block_size, shape.d_model)
    gain = draw(shape.d_model)
    wide = draw(columns, shape.d_model, scale=shape.d_model**-0.5)
    weight, suffix, weight_bytes = choose_weight(wide, is_fp8)
    angles = torch.arange(block_size, device=x.device)[None, :, None] * torch.linspace(
        1, 0.01, shape.head_dim // 2, device=x.device
    )
    cos, sin = angles.cos(), angles.sin()
    keys, values = (draw(1, shape.num_kv_heads, context, shape.head_dim) for _ in range(2))
    past = context - block_size

    def run(backend: str | None) -> list[Tensor]:
        queries = norm_qkv_rope_append(
            x, gain, weight, cos, sin, keys, values, num_past=past, eps=EPS, backend=backend
        )
        return [queries, keys[:, :, past:], values[:, :, past:]]

    def rotate(heads: Tensor) -> Tensor:
        first, second = heads.chunk(2, dim=-1)
        c, s = cos[:, None].to(heads.dtype), sin[:, None].to(heads.dtype)
        return torch.cat((first * c - second * s, second * c + first * s), dim=-1)

    def run_chain() -> Tensor:
        projected = F.linear(F.rms_norm(x, gain.shape, gain, EPS), wide)
        heads = projected.view(1, block_size, -1, shape.head_dim).transpose(1, 2)
        groups = shape.num_kv_heads
        q, k, v = torch.split(heads, [shape.num_heads, groups, groups], dim=1)
        keys[:, :, past:] = rotate(k)
        values[:, :, past:] = v
        return rotate(q)

    normed = F.rms_norm(x, gain.shape, gain, EPS)
    return Case(
        "norm_qkv_rope_append" + suffix,
        {
            "ours": lambda: run(None),
            "chain": run_chain,
            "bare product": lambda: F.linear(normed, wide),
        },
        lambda: [tensor.clone() for tensor in run("reference")],
        weight_bytes + (x.numel() + columns * block_size) * x.element_size(),
    )


def build_gate_up(shape: Shape, block_size: int, draw: Draw, is_fp8: bool) -> Case:
    x, gain = draw(block_size, shape.d_model), draw(shape.d_model)
    wide = draw(2 * shape.d_ff, shape.d_model, scale=shape.d_model**-0.5)
    weight, suffix, weight_bytes = choose_weight(wide, is_fp8)

    def run(backend: str | None) -> Tensor:
        return norm_gate_up_silu(x, gain, weight, eps=EPS, backend=backend)

    def run_chain() -> Tensor:
        gate, up = F.linear(F.rms_norm(x, gain.shape, gain, EPS), wide).chunk(2, dim=-1)
        return F.silu(gate) * up

    normed = F.rms_norm(x, gain.shape, gain, EPS)
    return Case(
        "norm_gate_up_silu" + suffix,
        {
            "ours": lambda: run(None),
            "chain": run_chain,
            "bare product": lambda: F.linear(normed, wide),
        },
        lambda: [run("reference")],
        weight_bytes + (x.numel() + block_size * shape.d_ff) * x.element_size(),
    )


def build_linear_add(shape: Shape, block_size: int, draw: Draw, is_fp8: bool) -> Case:
    """The way down; on a GPU ours is the Triton kernel, whatever the operator would choose."""
    x, hidden = draw(block_size, shape.d_model), draw(block_size, shape.d_ff)
    wide = draw(shape.d_model, shape.d_ff, scale=shape.d_ff**-0.5)
    weight, suffix, weight_bytes = choose_weight(wide, is_fp8)
    backend = "triton" if x.is_cuda else "reference"
    return Case(
        "linear_add" + suffix,
        {
            "ours": lambda: linear_add(x, hidden, weight, backend=backend),
            "chain": lambda: x + F.linear(hidden, wide),
            "addmm": lambda: torch.addmm(x, hidden, wide.T),
        },
        lambda: [linear_add(x, hidden, weight, backend="reference")],
        weight_bytes + (2 * x.numel() + hidden.numel()) * x.element_size(),
    )


def build_mask_ce(shape: Shape, num_rows: int, draw: Draw) -> Case:
    hidden = draw(num_rows, shape.d_model).requires_grad_()
    weight = draw(shape.vocab_size, shape.d_model, scale=shape.d_model**-0.5).requires_grad_()
    targets = torch.arange(num_rows, device=hidden.device) + 4
    row_weights = torch.linspace(0.5, 2.0, num_rows, device=hidden.device)

    def run(backend: str | None) -> list[Tensor]:
        loss = mask_ce(hidden, weight, targets, row_weights, forbidden_id=3, backend=backend)
        return [loss.detach(), *torch.autograd.grad(loss, [hidden, weight])]

    def run_chain() -> list[Tensor]:
        logits = F.linear(hidden, weight).float()
        losses = F.cross_entropy(logits, targets, reduction="none")
        return [*torch.autograd.grad((losses * row_weights).sum(), [hidden, weight])]

    # Weights are read three times and their gradient is written; products bound it, not bytes.
    floor_bytes = 4 * weight.numel() * weight.element_size()
    return Case(
        "mask_ce",
        {"ours": lambda: run(None), "chain": run_chain, "chunked": lambda: run("chunked")},
        lambda: run("reference"),
        floor_bytes,
    )


def measure(
    case: Case, bandwidth: float, clock: Callable[[Run], dict[str, float]], is_compiled: bool
) -> dict[str, object]:
    """Check one case, then time all that runs; a peer that fails is left out and named.

    Raises:
        SystemExit: A result is wrong; no time is reported.
    """
    error = check(case)
    runs = dict(case.runs)
    if is_compiled:
        torch.compiler.reset()
        runs["compiled chain"] = torch.compile(runs["chain"])
    milliseconds, failed = {"ours": clock(runs.pop("ours"))}, {}
    for name, run in runs.items():
        try:
            milliseconds[name] = clock(run)
        except Exception as failure:
            failed[name] = explain(failure)
    ours = milliseconds["ours"]["median"]
    floor_ms = 1e3 * case.floor_bytes / bandwidth
    return {
        "error": error,
        "floor_bytes": case.floor_bytes,
        "floor_ms": round(floor_ms, 5),
        "share_of_copy_bandwidth": round(floor_ms / ours, 3),
        "milliseconds": milliseconds,
        "speed_over": {
            name: round(times["median"] / ours, 3)
            for name, times in milliseconds.items()
            if name != "ours"
        },
        **({"failed_peers": failed} if failed else {}),
    }


def check(case: Case) -> float:
    """Compare with the definition and return the largest error, relative to the largest value."""
    returned = case.runs["ours"]()
    actual = list(returned) if isinstance(returned, list | tuple) else [returned]
    copies = [a.clone() for a in actual if isinstance(a, Tensor)]  # caches may be shared
    errors = [
        (wanted.double() - got.double()).abs().max() / wanted.double().abs().max().clamp(min=1e-30)
        for wanted, got in zip(case.expected(), copies, strict=True)
    ]
    worst = float(torch.stack(errors).max())  # NaN if any is, unlike Python's max
    if not worst <= (0.0 if case.is_check_exact else MAX_ERROR):
        sys.exit(f"{case.operator}: wrong by {worst:.3g} of the largest value; nothing timed")
    return worst


def measure_copy_bandwidth(device: torch.device) -> float:
    """Bytes per second of a copy of 1 GiB, read and write counted."""
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / (1e-3 * time_on_gpu(lambda: target.copy_(source))["median"])


if __name__ == "__main__":
    main()
