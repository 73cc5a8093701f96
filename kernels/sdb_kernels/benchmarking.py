"""What the GPU benchmarks share: a clock, the machine they ran on, results that outlive a crash.

Place in the flow: `kernels/benchmarks/` and those of the reference model; no operator needs it.
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

FLUSH_BYTES = 1 << 30
"""Written before each call: many times any cache, and long enough on a GPU (0.3 ms) for the host to
queue the launches of the call behind it, so that what is timed is the device's work."""
ROUND_S, MIN_ROUNDS, MAX_ROUNDS = 0.05, 7, 50


def time_on_gpu(run: Callable[[], object], *, is_flushed: bool = True) -> dict[str, float]:
    """Milliseconds of a call by CUDA events: median, and the 20th and 80th percentile.

    Args:
        run: queues its work on the current stream.
        is_flushed: clear the caches before each call, so that weights come from memory as they do
            in a model. A call that reads more than the caches hold needs no flush, and then the
            host's own time shows where it is what takes longest.
    """
    flush = torch.empty(FLUSH_BYTES if is_flushed else 0, dtype=torch.uint8, device="cuda")
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    torch.cuda.synchronize()
    once_s = time.perf_counter() - started
    events = []
    for _ in range(int(min(MAX_ROUNDS, max(MIN_ROUNDS, ROUND_S / once_s)))):
        flush.zero_()
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        run()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return summarise([start.elapsed_time(end) for start, end in events])


def summarise(milliseconds: list[float]) -> dict[str, float]:
    """Median, 20th and 80th percentile, to 0.01 us."""
    ordered = sorted(milliseconds)
    last = len(ordered) - 1
    places = {"median": 0.5, "p20": 0.2, "p80": 0.8}
    return {name: round(ordered[round(share * last)], 5) for name, share in places.items()}


class Report:
    """Rows of a benchmark, written to a file after each one."""

    def __init__(self, path: Path, **head: object) -> None:
        """Begin an empty one; `head` stands in front of the rows, behind what `describe_run` says.

        Nothing is written yet: a run that fails before its first row leaves the last results.
        """
        self.path, self.started = path, time.perf_counter()
        self.head = {**describe_run(path.parent), **head}
        self.rows: list[dict[str, Any]] = []

    def add(self, labels: Mapping[str, object], run: Callable[[], Mapping[str, object]]) -> None:
        """Add a row of labels and what `run` returns, print it, and write the file.

        What fails becomes a row that says so, and the rows after it are still run.
        """
        try:
            row = {**labels, **run()}
        except (Exception, SystemExit) as error:
            row = {**labels, "failed": explain(error)}
        self.rows.append(row)
        print(json.dumps(row), flush=True)  # noqa: T201
        seconds = round(time.perf_counter() - self.started, 1)
        text = json.dumps({**self.head, "seconds": seconds, "results": self.rows}, indent=2)
        self.path.parent.mkdir(exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        draft.write_text(text + "\n")
        draft.replace(self.path)

    @property
    def num_failed(self) -> int:
        """Rows that say so."""
        return sum("failed" in row for row in self.rows)


def explain(error: BaseException) -> str:
    """One line of an error."""
    line = str(error).strip().partition("\n")[0]
    return line if isinstance(error, SystemExit) else f"{type(error).__name__}: {line}"


def describe_run(folder: Path) -> dict[str, object]:
    """Hardware, versions, and the commit of the working tree around `folder`; None where absent."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=folder if folder.is_dir() else None,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "num_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": __import__("triton").__version__ if find_spec("triton") else None,
        "flash_attn": find_spec("flash_attn") is not None,
        "commit": commit or None,
    }
