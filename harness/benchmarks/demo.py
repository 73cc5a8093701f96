"""Wall time and peak memory of `sdbench demo`, run from nothing in an empty folder.

    python harness/benchmarks/demo.py        (`make bench-demo`)

Memory is the proportional set size summed over the command and all its descendants, sampled ten
times a second, so pages shared by forked processes count once. Linux only. Writes
`results/demo.json` with the hardware.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sdb_harness.hardware import describe_hardware

OUT = Path(__file__).parent / "results" / "demo.json"
SAMPLE_S = 0.1


def list_tree(root: int) -> list[int]:
    """Process ids of `root` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    tree, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        tree.append(process)
        waiting += children.get(process, [])
    return tree


def read_memory(processes: list[int]) -> int:
    """Proportional set size of the processes, in bytes."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def main() -> None:
    """Run the demo once and record it."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [str(Path(sys.executable).with_name("sdbench")), "demo"]
        with subprocess.Popen(command, cwd=folder) as process:
            peak_bytes = 0
            while process.poll() is None:
                peak_bytes = max(peak_bytes, read_memory(list_tree(process.pid)))
                time.sleep(SAMPLE_S)
        wall_s = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"the demo ended with status {process.returncode}; nothing was recorded")
    record = {
        "wall_s": round(wall_s, 1),
        "peak_memory_bytes": peak_bytes,
        "length": os.environ.get("SDBENCH_DEMO", "full"),
        "load_average": os.getloadavg(),
        "hardware": describe_hardware().describe(),
    }
    print(json.dumps(record, indent=2))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
