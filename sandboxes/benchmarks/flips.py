"""Do verdicts change with the load? Every reference again and again, far more at once than cores.

Run: `python sandboxes/benchmarks/flips.py [--runs 10] [--oversubscription 8] [--part 1]`. A first
pass with one slot a core gives the verdicts at rest; then all references of HumanEval, and of MBPP
where `SDBENCH_DATA` has them, are judged so many times with eight slots a core and usual limits.
Every verdict that differs from the one at rest is a flip. Written to `results/flips.json`; exit
code 1 if there was any. What it does not do: it measures no speed.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from workloads import Sample, describe_hardware, has_data, load_humaneval, load_mbpp

from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import Status, Verdict
from sdb_sandboxes.verifiers import verify

RESULT = Path(__file__).parent / "results" / "flips.json"


def main() -> None:
    """Judge, count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--oversubscription", type=int, default=8, help="slots per core")
    parser.add_argument("--part", type=int, default=1, help="use every n-th reference only")
    parser.add_argument("--sandbox", default="embedded", help="embedded or docker")
    options = parser.parse_args()
    num_cores = len(os.sched_getaffinity(0))
    samples = (load_humaneval() + (load_mbpp() if has_data("mbpp/mbpp.jsonl.gz") else []))[
        :: options.part
    ]
    start = time.monotonic()
    with open_sandbox(options.sandbox, num_cores) as sandbox:
        at_rest = judge_all(sandbox, samples)
    flips: list[dict[str, str]] = []
    num_slots = options.oversubscription * num_cores
    with open_sandbox(options.sandbox, num_slots) as sandbox:
        level = sandbox.level
        for number in range(1, options.runs + 1):
            verdicts = judge_all(sandbox, samples)
            flips += [
                {"name": s.name, "at rest": before.status, "then": v.status, "detail": v.detail}
                for s, before, v in zip(samples, at_rest, verdicts, strict=True)
                if v.status is not before.status
            ]
            print(f"run {number} of {options.runs}: {len(flips)} flips so far", file=sys.stderr)
    report = {
        "sandbox_level": level,
        "references": len(samples),
        "passed_at_rest": sum(v.is_passed for v in at_rest),
        "not_passed_at_rest": [
            f"{s.name}: {v.status}: {v.detail}"
            for s, v in zip(samples, at_rest, strict=True)
            if v.status is not Status.PASSED
        ],
        "slots": num_slots,
        "runs": options.runs,
        "verdicts": options.runs * len(samples),
        "flips": flips,
        "hardware": describe_hardware(),
        "took_s": round(time.monotonic() - start),
    }
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    sys.exit(1 if flips else 0)


def judge_all(sandbox: Sandbox, samples: Sequence[Sample]) -> list[Verdict]:
    """Judge every sample, as many at once as there are slots."""
    with ThreadPoolExecutor(sandbox.num_slots) as pool:
        return list(pool.map(partial(judge, sandbox), samples))


def judge(sandbox: Sandbox, sample: Sample) -> Verdict:
    """Judge one with the usual limits."""
    return verify(sandbox, sample.program, sample.check)


if __name__ == "__main__":
    main()
