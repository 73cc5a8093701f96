"""Does anything pile up? Tens of thousands of programs, a quarter of them hostile, in one sandbox.

Run: `python sandboxes/benchmarks/soak.py [--programs 50000] [--sandbox embedded|docker]`. Three of
four programs are HumanEval's references, the fourth is one of the attacks of
`tests/sandboxes/attacks`, with short limits. Memory and descriptors of the judge, memory and number
of the processes below it, and control groups are sampled fifty times and written to
`results/soak.json`. Exit code 1 if a reference failed, an attack passed, anything was blamed on us,
or something grew: descriptors, processes or groups at all, memory by more than a tenth since the
first fifth. What it does not do: it measures no speed.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from workloads import LIMITS, describe_hardware, load_humaneval

from sdb_sandboxes.cgroups import PREFIX, find_parents
from sdb_sandboxes.corpus import CHECKS, read_corpus
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import Check, ResourceLimits
from sdb_sandboxes.verifiers import verify

RESULT = Path(__file__).parent / "results" / "soak.json"
ATTACKS = Path(__file__).parents[2] / "tests" / "sandboxes" / "attacks"
NUM_SAMPLINGS = 50
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Job(NamedTuple):
    """One program, what judges it, and whether it must pass (else it must not)."""

    name: str
    program: str
    check: Check
    limits: ResourceLimits
    is_right: bool


def main() -> None:
    """Judge, watch, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=50_000)
    parser.add_argument("--sandbox", default="embedded", help="embedded or docker")
    options = parser.parse_args()
    batch = max(4, options.programs // NUM_SAMPLINGS)
    jobs = list_jobs()
    samplings: list[dict[str, int]] = []
    statuses: Counter[str] = Counter()
    complaints: list[str] = []
    start = time.monotonic()
    with open_sandbox(options.sandbox) as sandbox:
        with ThreadPoolExecutor(sandbox.num_slots) as pool:
            for first in range(0, options.programs, batch):
                some = list(islice(cycle(jobs), first % len(jobs), first % len(jobs) + batch))
                for status, complaint in pool.map(partial(judge, sandbox), some):
                    statuses[status] += 1
                    complaints += [complaint] if complaint else []
                samplings.append({"programs": first + batch, **sample_resources()})
                print(samplings[-1], len(complaints), "complaints", file=sys.stderr)
        level = sandbox.level
    growth = find_growth(samplings)
    report = {
        "sandbox_level": level,
        "programs": sum(statuses.values()),
        "statuses": dict(statuses),
        "complaints": complaints[:50],
        "growth": growth,
        "hardware": describe_hardware(),
        "took_s": round(time.monotonic() - start),
        "samplings": samplings,
    }
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({**report, "samplings": samplings[-1:]}, indent=2))
    sys.exit(1 if complaints or growth else 0)


def list_jobs() -> list[Job]:
    """Three references, one attack, and so on until every attack had its turn."""
    attacks = [
        Job(
            entry.id,
            entry.program,
            CHECKS[name],
            replace(entry.limits, cpu_s=0.2, wall_s=2.0),
            False,
        )
        for entry in read_corpus(ATTACKS)
        for name in entry.checks
        if not entry.is_honest
    ]
    references = cycle(Job(s.name, s.program, s.check, LIMITS, True) for s in load_humaneval())
    return [job for attack in attacks for job in (*islice(references, 3), attack)]


def judge(sandbox: Sandbox, job: Job) -> tuple[str, str]:
    """Status, and what is wrong with it, if anything."""
    verdict = verify(sandbox, job.program, job.check, job.limits)
    is_ours = verdict.status == "infrastructure"
    is_wrong = is_ours or verdict.is_passed != job.is_right
    return verdict.status, f"{job.name}: {verdict.status}: {verdict.detail}" if is_wrong else ""


def sample_resources() -> dict[str, int]:
    """What the judge and everything below it hold at the moment."""
    tree = list_tree()
    own = f"{PREFIX}-{os.getpid()}-*"
    groups = [group for parent in find_parents() or () for group in parent.glob(own)]
    return {
        "judge_kb": read_resident_kb(os.getpid()),
        "judge_descriptors": len(os.listdir("/proc/self/fd")),
        "servers": len(tree),
        "servers_kb": sum(map(read_resident_kb, tree)),
        "server_descriptors": sum(map(count_descriptors, tree)),
        "groups": len(groups),
    }


def list_tree() -> list[int]:
    """Processes below this one, between two batches: the fork servers."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_bytes().rsplit(b")", 1)[1].split()
            parents[int(entry.name)] = int(fields[1])
        except OSError:
            continue
    tree = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sorted(tree - {os.getpid()})


def read_resident_kb(pid: int) -> int:
    """Resident kilobytes of a process; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES // 1024
    except (OSError, IndexError):
        return 0


def count_descriptors(pid: int) -> int:
    """Open descriptors of a process; 0 if it is gone or hidden."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def find_growth(samplings: list[dict[str, int]]) -> list[str]:
    """What is larger at the end than after the first fifth: once warm, everything stays flat."""
    early, late = samplings[len(samplings) // 5], samplings[-1]
    return [
        f"{name}: {early[name]} -> {late[name]}"
        for name in early
        if name != "programs" and late[name] > early[name] * (1.1 if name.endswith("_kb") else 1.0)
    ]


if __name__ == "__main__":
    main()
