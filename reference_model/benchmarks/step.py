"""Time one denoising step on a GPU, and draw it beside what the roofline predicts.

    make bench-step          or    python reference_model/benchmarks/step.py

Random weights of the named sizes, batch 1, context 1,024. Three ways to do the same step, which is
to read a block, take the most probable token of each position and commit the confident ones:

    modules     `Transformer.forward`, full logits, softmax, argmax: PyTorch calls, no graph
    compiled    the same under torch.compile with CUDA graphs; block 32 only, it compiles for long
    fused       `fused.Step`, captured once as a CUDA graph and replayed

Then the fused step again with head and body in e4m3 (`Transformer.quantise`), beside the roofline
of 8-bit weights; the modules, which widen those at each call, are its definition and no peer.

Fused and modules must agree before anything is timed, and a replay on a finished block must change
nothing. Without a CUDA device it exits with status 2 and one line.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sdb_kernels.fp8 import Fp8Weight
from sdb_reference_model.fused import Step, read_block
from sdb_reference_model.model import SIZES, KVCache, ModelConfig, Transformer
from sdb_reference_model.replay import capture
from sdb_reference_model.roofline import GPUS, PRECISIONS, Gpu, predict_forward

RESULTS = Path(__file__).parent / "results"
NO_GPU = (
    "bench-step: needs a CUDA device and found none; `sdbench roofline` prints what one would allow"
)
BLOCK_SIZES = (4, 8, 16, 32, 64, 128)
CONTEXT = 1_024
MASK_ID = 3
PRECISION_OF = {"bf16": PRECISIONS["bf16"], "e4m3": PRECISIONS["fp8-weights"]}
"""Of the roofline, by the weights of a row."""
MAX_ERROR = 0.05
"""Of hidden states in bfloat16, fused against modules, over the largest: rounding of all layers."""

Clock = Callable[[Callable[[], object]], float]
"""Seconds of one call, the median of many."""


def main() -> None:
    """Check and time every size, print a line each, write the results and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", nargs="+", default=["0.5b", "1b", "8b"], choices=list(SIZES))
    parser.add_argument("--output", type=Path, default=RESULTS / "step_cuda.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        sys.exit(2)
    name, started = torch.cuda.get_device_name(), time.perf_counter()
    gpu = find_gpu(name)
    rows = []
    for size in arguments.sizes:
        model = build_model(SIZES[size], torch.bfloat16, torch.device("cuda"))
        for weights in PRECISION_OF:
            if weights == "e4m3":
                model.quantise()
            for block_size in BLOCK_SIZES:
                row = measure(
                    model, block_size, CONTEXT, gpu, time_on_gpu, is_compiled=block_size == 32
                )
                rows.append({"size": size, **row})
                print(json.dumps(rows[-1]), flush=True)
        del model
        torch.cuda.empty_cache()
    report = {
        "benchmark": "step",
        "gpu": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "context": CONTEXT,
        "seconds": round(time.perf_counter() - started, 1),
        "commit": read_commit(),
        "results": rows,
    }
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    draw(rows, name, arguments.output.with_suffix(".svg"))


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
    is_compiled: bool,
) -> dict[str, object]:
    """Check the fused step against the modules, then time it, and them where weights are plain.

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
        is_committed = confidence > torch.minimum(confidence.max(), confidence.new_tensor(0.9))
        return torch.where(is_committed, tokens, masks[0])

    error = check(step, masks)
    replay = capture(step.run, like.device)
    seconds = {"fused": clock(replay)}
    if weights == "bf16":
        seconds["modules"] = clock(run_modules)
    if weights == "bf16" and is_compiled and like.is_cuda:
        torch.compiler.reset()
        seconds["compiled"] = clock(torch.compile(run_modules, mode="reduce-overhead"))
    row: dict[str, object] = {
        "weights": weights,
        "block_size": block_size,
        "error": error,
        "num_graphs": int(like.is_cuda),
        "milliseconds": {name: float(f"{1e3 * s:.4g}") for name, s in seconds.items()},
        "forwards_per_s": round(1 / seconds["fused"], 1),
    }
    if gpu is not None:
        bound = predict_forward(config, gpu, PRECISION_OF[weights], block_size, context).seconds
        row["bound_ms"] = float(f"{1e3 * bound:.4g}")
        row["share_of_roofline"] = round(bound / seconds["fused"], 3)
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


def time_on_gpu(run: Callable[[], object], num_rounds: int = 30) -> float:
    """Median seconds of one call by CUDA events; weights do not fit the caches anyway."""
    for _ in range(5):
        run()
    events = []
    for _ in range(num_rounds):
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        run()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    times = sorted(start.elapsed_time(end) for start, end in events)
    return 1e-3 * float(times[len(times) // 2])


def draw(rows: list[dict[str, object]], name: str, out: Path) -> None:
    """Draw T(b) / T(4) of each size, measured and predicted; T(4) is that of bf16 weights."""
    from matplotlib.figure import Figure

    sizes = list(dict.fromkeys(str(row["size"]) for row in rows))
    figure = Figure(figsize=(3 * len(sizes) + 1, 3), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False).flat
    for axes, size in zip(panels, sizes, strict=True):
        of_size = [row for row in rows if row["size"] == size]
        has_bound = all("bound_ms" in row for row in of_size)
        measured = [1 / float(str(row["forwards_per_s"])) for row in of_size]
        bounds = [float(str(row["bound_ms"])) for row in of_size] if has_bound else []
        for weights, color in zip(PRECISION_OF, ("C0", "C1"), strict=True):
            places = [i for i, row in enumerate(of_size) if row["weights"] == weights]
            blocks = [str(of_size[i]["block_size"]) for i in places]
            for label, marker, values in (("measured", "o-", measured), ("roofline", "--", bounds)):
                if values:
                    relative = [values[i] / values[0] for i in places]
                    axes.plot(blocks, relative, marker, color=color, label=f"{weights}, {label}")
        axes.set_title(f"{size}, {name}", fontsize=9)
        axes.set_xlabel("tokens per forward, b")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    panels[0].set_ylabel(f"T(b) / T({BLOCK_SIZES[0]}), bf16")
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def read_commit() -> str | None:
    """The commit of this working tree, or None outside of one."""
    import subprocess

    process = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=RESULTS, capture_output=True, text=True, check=False
    )
    return process.stdout.strip() or None


if __name__ == "__main__":
    main()
