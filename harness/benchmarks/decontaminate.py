"""Megabytes a second and core of `sdbench decontaminate`, reading included, against a plain set.

Run: `python harness/benchmarks/decontaminate.py`, a minute. The data is the standard library's own
source as JSON lines, searched for two sets of benchmarks, a small and a larger one; the peer is the
definition (`list_ngrams` against a set), on the same lines.
"""

import json
import statistics
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sdb_harness.benchmarks import load_benchmark
from sdb_harness.decontaminate import (
    NgramIndex,
    batch_documents,
    list_ngrams,
    open_lines,
    read_documents,
)
from sdb_harness.hardware import describe_hardware
from sdb_harness.provenance import build_manifest

RESULT = Path(__file__).parent / "results" / "decontaminate.json"
ROUNDS = 5
INDICES = (("humaneval", "minipy"), ("humaneval", "mbpp", "mbpp_plus"))
"""Of the second, `mbpp` needs its data, see `sdbench benchmarks fetch`."""


def main() -> None:
    """Measure each index, print and write."""
    with TemporaryDirectory() as folder:
        data = Path(folder) / "data.jsonl"
        num_bytes = write_data(data)
        report = {
            "workload": f"{num_bytes / 1e6:.1f} MB of text as JSON lines, reading included",
            "indices": [measure_index(specs, data, num_bytes) for specs in INDICES],
            "manifest": build_manifest(describe_hardware(), {}).model_dump(),
        }
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def measure_index(specs: Sequence[str], data: Path, num_bytes: int) -> dict[str, Any]:
    """Both searches for the problems of some benchmarks, in interleaved rounds.

    Raises:
        RuntimeError: they find different documents.
    """
    index = NgramIndex(map(load_benchmark, specs))

    def search_fast() -> int:
        with open_lines(data) as file:
            documents = read_documents(file, str(data), ["text"])
            return sum(
                len(index.find([document.text for document in batch]))
                for batch in batch_documents(documents)
            )

    def search_plainly() -> int:
        with open_lines(data) as file:
            return sum(
                any(ngram in index.problems for ngram in list_ngrams(document.text))
                for document in read_documents(file, str(data), ["text"])
            )

    searches = {"decontaminate": search_fast, "set of word tuples": search_plainly}
    if search_fast() != search_plainly():
        raise RuntimeError("the two searches disagree; no speed without correctness")
    rates: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(ROUNDS):
        for name, search in searches.items():
            rates[name].append(num_bytes / 1e6 / measure_cpu_s(search))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "benchmarks": specs,
        "ngrams": len(index.problems),
        "mb_per_cpu_s": {
            name: {
                "median": round(medians[name], 1),
                "min": round(min(v), 1),
                "max": round(max(v), 1),
            }
            for name, v in rates.items()
        },
        "ratio_of_medians": round(medians["decontaminate"] / medians["set of word tuples"], 1),
    }


def write_data(path: Path) -> int:
    """Write the standard library's modules as documents; returns the bytes of text."""
    num_bytes = 0
    with path.open("w") as file:
        for module in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
            text = module.read_text()
            num_bytes += len(text)
            file.write(json.dumps({"text": text}) + "\n")
    return num_bytes


def measure_cpu_s(search: Callable[[], int]) -> float:
    start = time.process_time()
    search()
    return time.process_time() - start


if __name__ == "__main__":
    main()
