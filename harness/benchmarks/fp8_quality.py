"""Measure what weights in e4m3 change in a shipped checkpoint: `weights=e4m3` against none.

    python harness/benchmarks/fp8_quality.py

Both read the same held-out minipy problems of both trained levels, so every difference is paired:

    pass@1          an ordinary run of two generators, greedy: generated, executed, judged
    same answer     of the same programs, the text of the answer
    nats, token     reference answers read block by block behind what stands before, a random share
                    of each block masked, the same for both: nats of the masked tokens, and whether
                    the most probable token is the same

Intervals are 95 %. For pass@1 that of a paired difference by Agresti and Min (2005), which adds
half a problem to each of the four outcomes, so that a few changed verdicts are not taken for none;
for same answers Wilson's; for tokens the ratio estimator's over problems, since the tokens of a
problem are not independent. What it does not do: measure speed, which these samplers do not gain.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from scipy.stats import binomtest
from torch import Tensor

from sdb_harness.benchmarks import load_benchmark
from sdb_harness.generators.seed_diffusion import CHECKPOINTS
from sdb_harness.progress import RunProgress
from sdb_harness.provenance import read_git_state
from sdb_harness.records import SampleRow
from sdb_harness.runner import run_sweep
from sdb_harness.store import Store
from sdb_harness.sweep import Sweep
from sdb_kernels.packed import multiply
from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.tokenizer import find_non_text_ids

RESULTS = Path(__file__).parent / "results"
BLOCK_SIZE, THRESHOLD, MAX_NEW_TOKENS = 16, 0.99, 128
Z = 1.96
"""Standard errors of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reference answer as a model reads it."""

    nats: float
    """Of its N masked tokens together."""
    tokens: Tensor
    """int64 [N], the most probable ones."""


def main() -> None:
    """Run, read, compare; print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--checkpoint", default="demo", help="As in seed_diffusion:CHECKPOINT.")
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--output", type=Path, default=RESULTS / "fp8_quality.json")
    arguments = parser.parse_args()
    if arguments.problems < 2:
        parser.error(f"--problems {arguments.problems} leaves nothing to compare; give at least 2")

    started = time.perf_counter()
    benchmark = f"minipy:split=test,level=1+2,num_problems={arguments.problems}"
    results = {
        **compare_answers(*run(benchmark, arguments.checkpoint)),
        **compare_readings(*read_references(benchmark, arguments.checkpoint)),
    }
    for name, value in results.items():
        print(f"{name}: {json.dumps(value)}")
    report = {
        "benchmark": "fp8_quality",
        "checkpoint": arguments.checkpoint,
        "problems": benchmark,
        "block_size": BLOCK_SIZE,
        "threshold": THRESHOLD,
        "seconds": round(time.perf_counter() - started, 1),
        "commit": read_git_state(Path(__file__).parent)[0],
        "results": results,
    }
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def run(benchmark: str, checkpoint: str) -> tuple[list[SampleRow], list[SampleRow]]:
    """Generate and judge with both weights; the rows of each, in the same order of problems."""
    generators = (f"seed_diffusion:{checkpoint}", f"seed_diffusion:{checkpoint},weights=e4m3")
    grid = {
        "block_size": (BLOCK_SIZE,),
        "threshold": (THRESHOLD,),
        "max_new_tokens": (MAX_NEW_TOKENS,),
    }
    sweep = Sweep("fp8-quality", (benchmark,), generators, grid=grid)
    with TemporaryDirectory() as folder, RunProgress(Console(stderr=True)) as progress:
        report = run_sweep(sweep, Path(folder), progress)
        if report.num_faults:
            raise SystemExit(f"{report.num_faults} programs were lost; run again")
        with Store.open_for_reading(report.store_path) as store:
            hash_of = {cell.generator: key for key, cell in store.list_cells().items()}
            plain, rounded = (list(store.iterate_rows(hash_of[name])) for name in generators)
    return plain, rounded


def compare_answers(plain: list[SampleRow], rounded: list[SampleRow]) -> dict[str, object]:
    """Pass@1 of both, its difference, and the share of the same answers."""
    pairs = list(zip(plain, rounded, strict=True))
    assert all(a.problem_id == b.problem_id for a, b in pairs)
    verdicts = [(a.status == "passed", b.status == "passed") for a, b in pairs]
    num_lost, num_won = verdicts.count((True, False)), verdicts.count((False, True))
    num_same = sum(a.completion.text == b.completion.text for a, b in pairs)
    interval = binomtest(num_same, len(pairs)).proportion_ci(method="wilson")
    return {
        "pass_at_1": {
            "as it is": round(sum(a for a, _ in verdicts) / len(pairs), 4),
            "e4m3": round(sum(b for _, b in verdicts) / len(pairs), 4),
            "difference": round((num_won - num_lost) / len(pairs), 4),
            "interval": bound_paired_difference(num_lost, num_won, len(pairs)),
            "only as it is": num_lost,
            "only e4m3": num_won,
        },
        "same_answer": {
            "share": round(num_same / len(pairs), 4),
            "interval": [round(float(interval.low), 4), round(float(interval.high), 4)],
        },
    }


def bound_paired_difference(num_lost: int, num_won: int, num_pairs: int) -> list[float]:
    """Interval of (won - lost) / pairs: Wald's after half a pair more of each of four outcomes.

    Source: Agresti and Min, Statistics in Medicine 24 (2005), section 3.
    """
    lost, won, pairs = num_lost + 0.5, num_won + 0.5, num_pairs + 2
    center = (won - lost) / pairs
    margin = Z * math.sqrt(won + lost - (won - lost) ** 2 / pairs) / pairs
    return [round(max(center - margin, -1.0), 4), round(min(center + margin, 1.0), 4)]


def read_references(benchmark: str, checkpoint: str) -> tuple[list[Reading], list[Reading]]:
    """Let both models read the references under the same masks."""
    name = CHECKPOINTS.get(checkpoint, checkpoint)
    plain, rounded = load_checkpoint(name), load_checkpoint(name)
    rounded.model.quantise()
    problems = load_benchmark(benchmark).problems
    readings: tuple[list[Reading], list[Reading]] = [], []
    for seed, problem in enumerate(problems):
        for model, found in zip((plain, rounded), readings, strict=True):
            generator = torch.Generator().manual_seed(seed)
            found.append(read(model, problem.prompt, problem.reference, generator))
    return readings


@torch.inference_mode()
def read(
    checkpoint: Checkpoint, prompt: str, reference: str, generator: torch.Generator
) -> Reading:
    """Read a reference block by block, of each a random share masked, at least one token."""
    tokenizer = checkpoint.tokenizer
    ids = torch.tensor([tokenizer.encode(prompt)])
    answer = [*tokenizer.encode(reference), tokenizer.end_id]
    answer += [tokenizer.end_id] * (-len(answer) % BLOCK_SIZE)
    canvas = torch.tensor([answer])
    past = checkpoint.choose_past(BLOCK_SIZE)
    context = past(checkpoint.model, ids, torch.tensor([ids.shape[1]]), canvas)
    nats, tokens = 0.0, []
    for block in torch.split(canvas, BLOCK_SIZE, dim=1):
        order = torch.rand(BLOCK_SIZE, generator=generator).argsort()
        num_masked = int(torch.randint(1, BLOCK_SIZE + 1, (), generator=generator))
        is_masked = (order < num_masked)[None]  # [1, b]
        hidden = context.read(block.masked_fill(is_masked, tokenizer.mask_id), is_masked)
        logits = multiply(hidden, checkpoint.model.head_operand)  # [N, V]
        logits[:, find_non_text_ids(tokenizer)] = -torch.inf
        log_p = logits.log_softmax(dim=-1)
        nats -= float(log_p.gather(1, block[is_masked][:, None]).sum())
        tokens.append(log_p.argmax(dim=-1))
        context.append(block, torch.ones(1, dtype=torch.bool))
    return Reading(nats, torch.cat(tokens))


def compare_readings(plain: list[Reading], rounded: list[Reading]) -> dict[str, object]:
    """Nats per masked token of both, their difference, and the share of the same tokens."""
    sizes = [len(reading.tokens) for reading in plain]
    changes = [b.nats - a.nats for a, b in zip(plain, rounded, strict=True)]
    same = [float((a.tokens == b.tokens).sum()) for a, b in zip(plain, rounded, strict=True)]
    difference, of_difference = estimate_ratio(changes, sizes)
    share, of_share = estimate_ratio(same, sizes)
    return {
        "nats_per_token": {
            "as it is": round(sum(a.nats for a in plain) / sum(sizes), 4),
            "e4m3": round(sum(b.nats for b in rounded) / sum(sizes), 4),
            "difference": difference,
            "interval": of_difference,
        },
        "same_token": {"share": share, "interval": of_share, "num_tokens": sum(sizes)},
    }


def estimate_ratio(values: Sequence[float], sizes: Sequence[int]) -> tuple[float, list[float]]:
    """Sum of values over sum of sizes, with an interval that resamples whole problems would give.

    The linearised standard error sqrt(n / (n - 1) sum (v - r s)^2) / sum s (Cochran, Sampling
    Techniques, section 6.4).
    """
    ratio, num = sum(values) / sum(sizes), len(values)
    squares = sum((v - ratio * s) ** 2 for v, s in zip(values, sizes, strict=True))
    margin = Z * math.sqrt(squares * num / (num - 1)) / sum(sizes)
    return round(ratio, 5), [round(ratio - margin, 5), round(ratio + margin, 5)]


if __name__ == "__main__":
    main()
