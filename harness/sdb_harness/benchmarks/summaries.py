"""What `sdbench benchmarks list` says of a benchmark, remembered from the last time it was loaded.

Place in the flow: `list` calls `summarize_benchmark`; whoever needs problems calls
`load_benchmark`, which is the definition: a summary is remembered only as long as the code of the
benchmarks and size and time of every data file that was read are the same. Loading them all takes
some ten CPU seconds, mostly for turning tests into checks.

It lies in `$XDG_CACHE_HOME/sdbench` (`~/.cache/sdbench`), and may be removed at any time. Where
that cannot be written nothing is remembered.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from sdb_harness.benchmarks import load_benchmark
from sdb_harness.benchmarks.data_files import watch_files


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of the list."""

    num_problems: int
    protocols: str
    licence: str
    citation: str


def summarize_benchmark(name: str) -> Summary:
    """Summarize a benchmark, from memory where nothing changed.

    Raises:
        UserError: its data is missing or damaged; that is never remembered.
    """
    path = find_folder() / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(path.read_text())
        if known["stamp"] == stamp_files([*list_sources(), *map(Path, known["files"])]):
            return Summary(**known["summary"])
    with watch_files() as files:
        benchmark = load_benchmark(name)
    summary = Summary(
        len(benchmark.problems),
        ", ".join(benchmark.protocols),
        benchmark.licence,
        benchmark.citation,
    )
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "stamp": stamp_files([*list_sources(), *files]),
            "files": [str(file) for file in files],
            "summary": asdict(summary),
        }
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(told))
        scratch.replace(path)
    return summary


def find_folder() -> Path:
    """Where summaries lie; one folder for each data folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    data = os.environ.get("SDBENCH_DATA", "")
    return Path(home) / "sdbench" / hashlib.sha256(data.encode()).hexdigest()[:16]


def list_sources() -> list[Path]:
    """The code of all benchmarks."""
    return sorted(Path(__file__).parent.rglob("*.py"))


def stamp_files(paths: Iterable[Path]) -> str:
    """One hash over path, size and time of files. Raises OSError if one is missing."""
    stats = sorted((str(path), path.stat()) for path in paths)
    told = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
