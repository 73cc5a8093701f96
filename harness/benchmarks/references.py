"""Every benchmark's references judged on this machine, beside what they should come to.

Run: `python harness/benchmarks/references.py [SPEC ...] [--sandbox docker] [--others 10]`. What
`sdbench benchmarks verify` does, one benchmark after the other: all references, and of every other
kind of program (empty, `return None`, cheats) those of `--others` problems of each language.
Benchmarks that are named replace their rows of `results/references.json`, the others keep theirs;
`results/references.md` is the same as a table. Exit code 1 if anything was judged wrongly.

What it does not do: it judges no samples of models (`sandboxes/benchmarks/languages.py` does), and
it does not load the machine on purpose (`sandboxes/benchmarks/flips.py` does).
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sdb_harness.benchmarks import Benchmark, load_benchmark
from sdb_harness.hardware import describe_hardware
from sdb_harness.provenance import build_manifest
from sdb_harness.verification import (
    PROGRAM_KINDS,
    excuse,
    judge_programs,
    summarize,
    verify_judging,
)
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.sandbox import Sandbox

RESULT = Path(__file__).parent / "results" / "references.json"
AIMS = {
    "minipy": "200 of 200",
    "humaneval": "164 of 164",
    "humaneval_plus": "164 of 164",
    "mbpp": "499 of 500: 367 is broken upstream",
    "mbpp_plus": "378 of 378",
    "humaneval_infilling": "1033 of 1033",
    "aider_edit": "133 of 133",
    "aider_polyglot": "34 of 34 in Python",
    "canitedit": "105 less what needs absent packages",
    "bigcodebench:subset=hard": "148 less what needs absent packages and 18 known to fail",
    "mbxp:language=python": "964 of 974: 10 are broken upstream",
    "multilingual_humaneval:language=python": "164 of 164",
}
"""Benchmark -> references that should pass. Those that publish no references are left out."""

NUM_REASONS = 6
"""Reasons of programs that were not judged that the table names; the record has all."""


def main() -> None:
    """Judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("specs", nargs="*", default=list(AIMS))
    parser.add_argument("--sandbox", default="embedded")
    parser.add_argument("--others", type=int, default=10, help="problems of each other kind")
    options = parser.parse_args()
    record: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    with LanguageSandbox(options.sandbox) as sandbox:
        for spec in options.specs:
            row = measure(load_benchmark(spec), sandbox, options.others)
            what_ran = {"sandbox": sandbox.level, "image": sandbox.image}
            manifest = build_manifest(describe_hardware(), what_ran)
            record[spec] = {**row, "manifest": manifest.model_dump()}
            RESULT.write_text(json.dumps(record, indent=1) + "\n")
            RESULT.with_suffix(".md").write_text(render(record))
            print(render({spec: record[spec]}), flush=True)
    sys.exit(any(record[spec]["exceptions"] for spec in options.specs))


def measure(benchmark: Benchmark, sandbox: Sandbox, num_others: int) -> dict[str, Any]:
    """Judge all references of a benchmark, and other programs of some of its problems."""
    start = time.monotonic()
    programs = [(one, one.solution) for one in benchmark.problems if one.reference]
    verdicts = judge_programs(benchmark, sandbox, programs)
    finding = summarize("reference", True, "all", programs, verdicts)
    found = excuse(finding, benchmark.faults)
    others = [
        one
        for one in verify_judging(benchmark, sandbox, num_others)
        if one.name not in PROGRAM_KINDS or not PROGRAM_KINDS[one.name][0]
    ]
    return {
        "data": benchmark.describe(),
        "references": len(programs),
        "judged": found.num_programs,
        "passed": found.num_passed,
        "exceptions": [
            *found.exceptions,
            *(f"{one.name}, {text}" for one in others for text in one.exceptions),
        ],
        "known_faults": [
            *(f"{text}: {benchmark.faults[text.rpartition(': ')[0]]}" for text in found.known),
            *(f"{one.name}, {text}" for one in others for text in one.known),
        ],
        "not_judged": dict(found.not_judged or {}),
        "others": sum(one.num_programs for one in others),
        "others_passed": sum(one.num_passed for one in others),
        "trust_levels": dict(Counter(verdict.trust_level for verdict in verdicts)),
        "took_s": round(time.monotonic() - start),
    }


def render(record: dict[str, Any]) -> str:
    """One row a benchmark, and below what was not judged as it should be."""
    lines = [
        "# References of every benchmark, judged here",
        "",
        "Written by `harness/benchmarks/references.py`; which data, sandbox and machine stand in",
        "`references.json`. The last column counts empty, `return None` and cheating programs.",
        "",
        "| benchmark | references pass | should | not judged | trust levels | others pass |",
        "|---|---|---|---|---|---|",
    ]
    details = []
    for spec, row in record.items():
        levels = ", ".join(f"{level} {count}" for level, count in row["trust_levels"].items())
        not_judged = sum(row["not_judged"].values())
        aim = AIMS.get(spec, "")
        lines.append(
            f"| {spec} | {row['passed']} of {row['judged']} | {aim} | {not_judged} | {levels} | "
            f"{row['others_passed']} of {row['others']} |"
        )
        details += [f"- {spec}: {text}" for text in row["exceptions"]]
        details += [f"- {spec}, known fault: {text}" for text in row["known_faults"]]
        reasons = Counter(row["not_judged"]).most_common()
        details += [f"- {spec}, not judged: {n}: {why}" for why, n in reasons[:NUM_REASONS]]
        if len(reasons) > NUM_REASONS:
            details.append(f"- {spec}, not judged: {len(reasons) - NUM_REASONS} reasons more")
    return "\n".join([*lines, "", *details] if details else lines) + "\n"


if __name__ == "__main__":
    main()
