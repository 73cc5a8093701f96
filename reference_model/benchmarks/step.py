"""Time one denoising step on a GPU, and draw it beside what the roofline predicts.

    make bench-step          or    python reference_model/benchmarks/step.py

Random weights of the named sizes, batch 1, context 1,024. Three ways to do the same step, which is
to read a block, take the most probable token of each position and commit the confident ones:

    modules     `Transformer.forward`, full logits, softmax, argmax: PyTorch calls, no graph
    fused       `fused.Step`, captured once as a CUDA graph and replayed
    compiled    the same step of PyTorch's calls, made by torch.compile, captured as well; of 1b at
                block 32, last of all, since it compiles for long

Then the fused step again with head and body in e4m3 (`Transformer.quantise`), beside the roofline
of 8-bit weights; the modules, which widen those at each call, are its definition and no peer.

Fused and modules must agree before anything is timed, and a replay on a finished block must change
nothing. Results are written after each row, and a row that fails says so. Without a CUDA device it
exits with status 2 and one line.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdb_kernels.benchmarking import Report, time_on_gpu
from sdb_kernels.fp8 import Fp8Weight
from sdb_reference_model.fused import Step, read_block
from sdb_reference_model.model import SIZES, KVCache, ModelConfig, Transformer
from sdb_reference_model.replay import capture
from sdb_reference_model.roofline import GPUS, PRECISIONS, Gpu, compute_slowdown, predict_forward

RESULTS = Path(__file__).parent / "results"
NO_GPU = (
    "bench-step: needs a CUDA device and found none; `sdbench roofline` prints what one would allow"
)
BLOCK_SIZES = (1, 4, 8, 16, 32, 64, 128)
COMPILED_SIZE, COMPILED_BLOCK = "1b", 32
CONTEXT = 1_024
MASK_ID = 3
PRECISION_OF = {"bf16": PRECISIONS["bf16"], "e4m3": PRECISIONS["fp8-weights"]}
"""Of the roofline, by the weights of a row."""
MAX_ERROR = 0.05
"""Of hidden states in bfloat16, fused against modules, over the largest: rounding of all layers."""

Clock = Callable[[Callable[[], object]], float]
"""Milliseconds of one call, the median of many."""


def main() -> None:
    """Check and time every size, print a line each, write the results and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", nargs="+", default=["1b", "8b", "0.5b"], choices=list(SIZES))
    parser.add_argument("--output", type=Path, default=RESULTS / "step_cuda.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        sys.exit(2)
    name = torch.cuda.get_device_name()
    gpu, device = find_gpu(name), torch.device("cuda")
    report = Report(arguments.output, benchmark="step", context=CONTEXT)

    def add(size: str, model: Transformer, block_size: int, compiler: str | None) -> None:
        run = partial(measure, model, block_size, CONTEXT, gpu, clock, compiler)
        report.add({"size": size, "block_size": block_size}, run)

    for size in arguments.sizes:
        model = build_model(SIZES[size], torch.bfloat16, device)
        for weights in PRECISION_OF:
            if weights == "e4m3":
                model.quantise()
            for block_size in BLOCK_SIZES:
                add(size, model, block_size, None)
        del model
        torch.cuda.empty_cache()
        draw(report.rows, name, arguments.output.with_suffix(".svg"))
    if COMPILED_SIZE in arguments.sizes:
        model = build_model(SIZES[COMPILED_SIZE], torch.bfloat16, device)
        add(COMPILED_SIZE, model, COMPILED_BLOCK, "inductor")
    sys.exit(report.num_failed > 0)


def clock(run: Callable[[], object]) -> float:
    """Milliseconds of a step, whose weights do not fit the caches anyway."""
    return time_on_gpu(run, is_flushed=False)["median"]


def find_gpu(name: str) -> Gpu | None:
    """The data sheet of a device by its name, e.g. `NVIDIA H100 80GB HBM3`; None if unknown."""
    words = name.replace("-", " ").split()
    return next((gpu for key, gpu in GPUS.items() if key in words), None)


def build_model(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Transformer:
    """A Transformer of random weights, made on the device."""
    with torch.device("meta"):
        model = Transformer(config).to(dtype)
    model.to_empty(device=device)
    with torch.no_grad():
        model.initialise(torch.Generator(device).manual_seed(0))
    return model.eval().requires_grad_(False)


def measure(
    model: Transformer,
    block_size: int,
    context: int,
    gpu: Gpu | None,
    clock: Clock,
    compiler: str | None,
) -> dict[str, object]:
    """Check the fused step against the modules, then time it, and them where weights are plain.

    With a `compiler`, a backend of torch.compile, time the step that it makes too.

    Raises:
        SystemExit: They disagree; no time is reported.
    """
    config, like = model.config, model.embedding.weight
    weights = "e4m3" if isinstance(model.head_operand, Fp8Weight) else "bf16"
    rng = torch.Generator(like.device).manual_seed(1)
    prompt = torch.randint(
        MASK_ID + 1, config.vocab_size, (1, context), generator=rng, device=like.device
    )
    masks = torch.full((1, block_size), MASK_ID, device=like.device)
    cache = KVCache(config, 1, context + block_size, like)
    past = torch.full((1,), context, dtype=torch.int32, device=like.device)
    read_block(model, prompt, cache, num_past=torch.zeros_like(past))
    cache.length = context
    step = Step(
        model,
        cache,
        block=masks.clone(),
        before=masks[:, :0],
        num_past=past,
        is_done=torch.zeros(1, dtype=torch.bool, device=like.device),
        mask_id=MASK_ID,
        end_id=None,
        threshold=0.9,
    )

    @torch.inference_mode()
    def run_modules() -> Tensor:
        hidden = model(masks, cache=cache)  # [1, b, D]
        logits = hidden[0] @ model.head_weight.T
        logits[:, MASK_ID] = -torch.inf
        confidence, tokens = logits.float().softmax(dim=-1).max(dim=-1)
        is_committed = confidence >= confidence.max().clamp(max=0.9)
        return torch.where(is_committed, tokens, masks[0])

    error = check(step, masks)
    replay = capture(step.run, like.device)
    milliseconds = {"fused": clock(replay)}
    if weights == "bf16":
        milliseconds["modules"] = clock(run_modules)
    if compiler is not None:
        plain = replace(step, block=masks.clone(), backend="reference")
        milliseconds["compiled"] = clock(capture(plain.run, like.device, compiler))
    row: dict[str, object] = {
        "weights": weights,
        "error": error,
        "num_graphs": int(like.is_cuda),
        "milliseconds": {name: float(f"{ms:.4g}") for name, ms in milliseconds.items()},
        "forwards_per_s": round(1e3 / milliseconds["fused"], 1),
    }
    if gpu is not None:
        precision = PRECISION_OF[weights]
        bound_ms = 1e3 * predict_forward(config, gpu, precision, block_size, context).seconds
        row["bound_ms"] = float(f"{bound_ms:.4g}")
        row["share_of_roofline"] = round(bound_ms / milliseconds["fused"], 3)
    return row


def check(step: Step, masks: Tensor) -> float:
    """Compare hidden states with the modules', and replay a finished block; return the error."""
    with torch.inference_mode():
        expected = step.model(masks, cache=step.cache).float()
        actual = read_block(step.model, masks, step.cache, num_past=step.num_past).float()
    error = float((expected - actual).abs().max() / expected.abs().max())
    if not error <= MAX_ERROR:
        sys.exit(f"fused and modules differ by {error:.3g} of the largest; nothing timed")
    for _ in range(masks.shape[1]):
        step.run()
    finished = step.block.clone()
    step.run()
    if not bool(step.is_done) or not torch.equal(finished, step.block):
        sys.exit("a block was not finished after as many steps as masks; nothing timed")
    step.block.copy_(masks)
    return error


def draw(rows: Sequence[dict[str, Any]], name: str, out: Path) -> None:
    """Draw T(b) / T(1) as measured in bf16 and e4m3, and as the roofline has it for three GPUs.

    T(1) is that of bf16 weights. Rows that failed are left out.
    """
    from matplotlib.figure import Figure

    rows = [row for row in rows if "failed" not in row and "compiled" not in row["milliseconds"]]
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    if not sizes:
        return
    figure = Figure(figsize=(3.5 * len(sizes) + 1, 3.5), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False).flat
    for axes, size in zip(panels, sizes, strict=True):
        of_size = [row for row in rows if row["size"] == size]
        blocks = sorted({row["block_size"] for row in of_size})
        first_ms = of_size[0]["milliseconds"]["fused"]
        for weights, color in zip(PRECISION_OF, ("C0", "C1"), strict=True):
            points = {
                row["block_size"]: row["milliseconds"]["fused"] / first_ms
                for row in of_size
                if row["weights"] == weights
            }
            places = [blocks.index(block) for block in points]
            axes.plot(
                places, list(points.values()), "o-", color=color, label=f"{weights}, measured"
            )
        for gpu, color in zip(GPUS, ("C2", "C3", "C4"), strict=True):
            predicted = [
                compute_slowdown(SIZES[size], GPUS[gpu], PRECISION_OF["bf16"], block, CONTEXT)
                for block in blocks
            ]
            axes.plot(predicted, "--", color=color, label=f"bf16, roofline of {gpu}")
        axes.set_xticks(range(len(blocks)), [str(block) for block in blocks])
        axes.set_title(f"{size}, {name}", fontsize=9)
        axes.set_xlabel("tokens per forward, b")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("T(b) / T(1) of bf16")
    panels[0].legend(frameon=False, fontsize=7)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
