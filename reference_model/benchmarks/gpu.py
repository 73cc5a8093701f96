"""Everything that is measured on a GPU, in one run of under eight minutes.

    make bench-gpu          or    python reference_model/benchmarks/gpu.py

    texts        whole texts of `demo-onpolicy`, 0.5b, 1b: replayed steps, `sample_blocks`, the twin
    step         one denoising step at 1b, 8b, 0.5b, blocks of 1 to 128, against the roofline
    operators    each kernel at 1b and 0.5b against its peers and its floor in bytes
    tests        the GPU's: kernels against their definitions, graphs against eager steps

Each part is a process of its own and has until a moment of the whole run; what it did not reach is
left out, and what it did is in its file. A part that fails keeps no other from running. The last
thing written is a table of all files, `kernels/benchmarks/results/gpu.md`.

Every benchmark compares with the definitions before it times, so the tests can come last. Without
a CUDA device: status 2, one line. It is written for torch 2.11 and Triton 3.6 or later, and has not
been run on a GPU yet.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
NO_GPU = "bench-gpu: needs a CUDA device and found none; the CPU has `make bench-sampler`"
TESTS = ["tests/kernels", "tests/reference_model/test_fused.py"]
PARTS: Mapping[str, tuple[float, Sequence[str]]] = {
    "texts": (120, ["reference_model/benchmarks/texts.py"]),
    "step": (255, ["reference_model/benchmarks/step.py"]),
    "operators": (380, ["kernels/benchmarks/operators.py", "--sizes", "1b", "0.5b"]),
    "tests": (
        465,
        ["-m", "pytest", "-q", "-m", "not slow", "tests/reference_model/test_replay.py", *TESTS],
    ),
}
"""Name -> the second of the run at which it is stopped, and what Python runs."""
RESULTS = {
    "texts": ROOT / "reference_model" / "benchmarks" / "results" / "texts_cuda.json",
    "step": ROOT / "reference_model" / "benchmarks" / "results" / "step_cuda.json",
    "operators": ROOT / "kernels" / "benchmarks" / "results" / "operators_cuda.json",
}
TABLE = ROOT / "kernels" / "benchmarks" / "results" / "gpu.md"


def main() -> None:
    """Run all parts, write the table, and say how each part ended."""
    if not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        sys.exit(2)
    started_at, started = time.time(), time.monotonic()
    endings = {}
    for name, (until_s, command) in PARTS.items():
        print(f"\n{name}, until second {until_s:.0f} of the run", flush=True)
        endings[name] = run_part([sys.executable, *command], started + until_s)
    reports = {
        name: json.loads(path.read_text())
        for name, path in RESULTS.items()
        if path.is_file() and path.stat().st_mtime >= started_at
    }
    TABLE.write_text(make_table(reports))
    print(f"\n{TABLE.read_text()}\n{time.monotonic() - started:.0f} s in all")
    for name, ending in endings.items():
        print(f"{name}: {ending}")
    sys.exit(any(ending.startswith("failed") for ending in endings.values()))


def run_part(command: Sequence[str], deadline: float) -> str:
    """Run a process until it ends, or `time.monotonic()` is `deadline`; say how it ended."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        status = process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return "out of time; what it did until then is in its file"
    finally:  # the compilers that it started as well
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    return "done" if status == 0 else f"failed with status {status}; see above"


def make_table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown of what the files hold; a row that failed says so."""
    lines = []
    for name, report in reports.items():
        versions = f"torch {report['torch']}, triton {report['triton']}, commit {report['commit']}"
        lines += [f"### {name}", "", f"{report['gpu']}, {versions}.", ""]
        lines += {"texts": tell_texts, "step": tell_step, "operators": tell_operators}[name](
            report["results"]
        )
        lines += [
            f"{row['size']}, {row.get('operator', name)}: failed, {row['failed']}"
            for row in report["results"]
            if "failed" in row
        ]
        lines.append("")
    return "\n".join(lines)


def keep_right(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if "failed" not in row]


def tell_texts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tokens per second of whole texts."""
    lines = ["| size | replayed | blocks | twin, replayed | twin, plain |", "|---|---|---|---|---|"]
    for row in keep_right(rows):
        speeds = row["tokens_per_s"]
        values = [speeds[name] for name in ("replayed", "blocks", "twin", "twin, plain")]
        lines.append(f"| {row['size']} | {' | '.join(f'{value:,.0f}' for value in values)} |")
    return [*lines, ""]


def tell_step(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Forwards per second and share of the roofline."""
    lines = [
        "| size | weights | block | ms | modules, ms | compiled, ms | forwards/s | of roofline |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in keep_right(rows):
        ms = row["milliseconds"]
        share = f"{row['share_of_roofline']:.0%}" if "share_of_roofline" in row else ""
        lines.append(
            f"| {row['size']} | {row['weights']} | {row['block_size']} | {ms['fused']} | "
            f"{ms.get('modules', '')} | {ms.get('compiled', '')} | {row['forwards_per_s']} | "
            f"{share} |"
        )
    return [*lines, ""]


def tell_operators(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Times, share of the copy's bandwidth, and speed over the peers."""
    lines = [
        "| operator | size | block | us | of copy bandwidth | over |",
        "|---|---|---|---|---|---|",
    ]
    for row in keep_right(rows):
        over = ", ".join(f"{name} {ratio:.2f}" for name, ratio in row["speed_over"].items())
        microseconds = 1e3 * row["milliseconds"]["ours"]["median"]
        lines.append(
            f"| {row['operator']} | {row['size']} | {row['block_size']} | {microseconds:.1f} | "
            f"{row['share_of_copy_bandwidth']:.0%} | {over} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
