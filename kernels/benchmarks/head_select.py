"""Time `head_select` against the chain of PyTorch calls that block samplers run in its place.

    python kernels/benchmarks/head_select.py

Two peers. `float64_chain` is what Fast-dLLM's `get_transfer_index` does: logits in the model's
dtype, argmax, softmax in float64, gather; with a temperature its `add_gumbel_noise` makes the
float64 noise too. `float32_chain` is the same in float32, which gives up nothing that matters.
Tokens and confidences are compared with a float64 definition before anything is timed, and a
mismatch ends the run. Peers and operator are timed in turn within each round, so a neighbour's
load falls on all of them; a ratio is taken within its round. The caches are warm.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sdb_kernels import backend
from sdb_kernels.head_select import head_select

RESULTS = Path(__file__).parent / "results"
FORBIDDEN_ID = 3
MAX_CONFIDENCE_ERROR = 1e-3

Selection = tuple[Tensor, Tensor]


class Case(NamedTuple):
    """One problem size; the field names are the keys of the results file."""

    num_rows: int
    num_features: int
    vocabulary_size: int
    dtype: str
    temperature: float


CPU_CASES = (
    Case(32, 256, 4_096, "float32", 0.0),
    Case(8, 256, 4_096, "float32", 0.0),
    Case(32, 256, 4_096, "float32", 0.8),
    Case(32, 256, 4_096, "bfloat16", 0.0),
    Case(32, 512, 32_768, "float32", 0.0),
    Case(32, 512, 32_768, "float32", 0.8),
)
CUDA_CASES = (
    Case(32, 896, 151_936, "bfloat16", 0.0),  # the head of a 0.5B model
    Case(8, 896, 151_936, "bfloat16", 0.0),
    Case(32, 896, 151_936, "bfloat16", 0.8),
    Case(128, 896, 151_936, "bfloat16", 0.0),
    Case(32, 4_096, 151_936, "bfloat16", 0.0),  # and of an 8B one
)


def main() -> None:
    """Check, time, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="1 on a shared machine: threads that wait for each other time the scheduler",
    )
    parser.add_argument("--output", type=Path, help="default: results/head_select_<device>.json")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)

    load_before = os.getloadavg()[0]
    cases = CUDA_CASES if device.type == "cuda" else CPU_CASES
    results = [measure(case, device, arguments.rounds) for case in cases]
    for result in results:
        print(json.dumps(result))
    report = {
        "operator": "head_select",
        "backend": backend.choose("head_select", None, device),
        "rounds": arguments.rounds,
        "hardware": describe_hardware(device),
        "load_average_1min": {"before": load_before, "after": os.getloadavg()[0]},
        "results": results,
    }
    output = arguments.output or RESULTS / f"head_select_{device.type}.json"
    output.write_text(json.dumps(report, indent=2) + "\n")


def measure(case: Case, device: torch.device, rounds: int) -> dict[str, object]:
    """Check one case, then time the operator and its peers in turn.

    Raises:
        SystemExit: A result is wrong; no time is reported.
    """
    rng = torch.Generator().manual_seed(0)
    dtype = getattr(torch, case.dtype)
    hidden = torch.randn(case.num_rows, case.num_features, generator=rng).to(device, dtype)
    weight = torch.randn(case.vocabulary_size, case.num_features, generator=rng)
    weight = (weight * 3 / case.num_features**0.5).to(device, dtype)
    seeds = torch.arange(case.num_rows, device=device)

    def run_head_select() -> Selection:
        return head_select(
            hidden, weight, forbidden_id=FORBIDDEN_ID, temperature=case.temperature, seeds=seeds
        )

    runs: dict[str, Callable[[], Selection]] = {
        "head_select": run_head_select,
        "float64_chain": lambda: run_chain(hidden, weight, case.temperature, torch.float64),
        "float32_chain": lambda: run_chain(hidden, weight, case.temperature, torch.float32),
    }
    confidence_error = check(*run_head_select(), hidden, weight, case)

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds + 2):
        first = number % len(names)  # each finds the caches as each of the others left them
        for name in names[first:] + names[:first]:
            seconds[name].append(clock(runs[name], device))
    timed = {name: values[2:] for name, values in seconds.items()}  # two rounds to warm up
    return case._asdict() | {
        "max_confidence_error": confidence_error,
        "milliseconds": {name: summarise([1e3 * s for s in timed[name]]) for name in runs},
        "speed_over": {
            name: summarise(
                [
                    theirs / ours
                    for theirs, ours in zip(timed[name], timed["head_select"], strict=True)
                ]
            )
            for name in runs
            if name != "head_select"
        },
    }


@torch.no_grad()
def run_chain(hidden: Tensor, weight: Tensor, temperature: float, dtype: torch.dtype) -> Selection:
    """Select as Fast-dLLM does, with probabilities and noise in `dtype`.

    Source: NVlabs/Fast-dLLM, llada/generate.py, `add_gumbel_noise` and `get_transfer_index`.
    """
    logits = hidden @ weight.T  # [N, V]
    logits[:, FORBIDDEN_ID] = -torch.inf
    scores = logits
    if temperature > 0.0:
        noise = torch.rand_like(logits, dtype=dtype)
        scores = logits.to(dtype).exp() / (-torch.log(noise)) ** temperature
    token_ids = scores.argmax(dim=-1)
    probabilities = logits.to(dtype).softmax(dim=-1)
    return token_ids, probabilities.gather(-1, token_ids[:, None]).squeeze(-1)


def check(
    token_ids: Tensor, confidence: Tensor, hidden: Tensor, weight: Tensor, case: Case
) -> float:
    """Compare with float64 and return the largest error of a confidence.

    Raises:
        SystemExit: A token that is not the argmax at temperature 0, or a confidence that is off.
    """
    logits = hidden.double() @ weight.double().T
    logits[:, FORBIDDEN_ID] = -torch.inf
    chosen = token_ids[:, None]
    expected = logits.softmax(dim=-1).gather(-1, chosen).squeeze(-1)
    error = float((confidence - expected).abs().max())
    shortfall = float((logits.amax(dim=-1) - logits.gather(-1, chosen).squeeze(-1)).max())
    # 1e-5: two logits closer than that are equal in float32.
    if error > MAX_CONFIDENCE_ERROR or (case.temperature == 0.0 and shortfall > 1e-5):
        sys.exit(f"{case}: wrong by {error} in confidence, {shortfall} in logits; nothing timed")
    return error


def clock(run: Callable[[], Selection], device: torch.device) -> float:
    """Return the seconds one call takes, the device's work included."""
    synchronise(device)
    start = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def summarise(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def describe_hardware(device: torch.device) -> dict[str, object]:
    return {
        "cpu": read_cpu_name(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def read_cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
