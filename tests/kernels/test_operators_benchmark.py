"""The GPU benchmark's cases at a tiny size on a CPU: they are right, timed and reported.

What this cannot show is the speed of anything, nor that CUDA events are read correctly.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.scripts import load_script

from sdb_kernels.benchmarking import Report, summarise

SCRIPT = Path(__file__).parents[2] / "kernels" / "benchmarks" / "operators.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_script(SCRIPT)


def test_every_case_passes_its_check_and_gives_a_row(benchmark: ModuleType) -> None:
    def clock(run: object) -> dict[str, float]:
        assert callable(run)
        start = time.perf_counter()
        run()
        milliseconds = 1e3 * (time.perf_counter() - start)
        return {"median": milliseconds, "p20": milliseconds, "p80": milliseconds}

    shape = benchmark.Shape(32, 4, 2, 16, 48, 130)
    cases = benchmark.build_cases(shape, 4, 40, torch.bfloat16, torch.device("cpu"))
    rows = [benchmark.measure(case, 1e9, clock, is_compiled=False) for case in cases]
    operators = {case.operator.removesuffix(" e4m3") for case in cases}
    from sdb_kernels.backend import OPERATORS

    assert operators == set(OPERATORS)
    for row in rows:
        assert row["error"] <= benchmark.MAX_ERROR
        assert row["floor_bytes"] > 0
        assert "chain" in row["speed_over"]


def test_what_fails_is_named_and_the_rest_is_run(benchmark: ModuleType, tmp_path: Path) -> None:
    def refuse() -> None:
        raise ImportError("no such library\nand more")

    def clock(run: Callable[[], object]) -> dict[str, float]:
        run()
        return {"median": 2.0}

    ones = benchmark.Case(
        "ones", {"ours": lambda: torch.ones(3), "library": refuse}, lambda: [torch.ones(3)], 1
    )
    twos = replace(ones, runs={"ours": lambda: 2 * torch.ones(3)})
    report = Report(tmp_path / "rows.json", benchmark="toy")
    for case in (twos, ones):
        run = partial(benchmark.measure, case, 1e9, clock, is_compiled=False)
        report.add({"operator": case.operator}, run)
    assert report.num_failed == 1
    written = json.loads((tmp_path / "rows.json").read_text())
    assert written["benchmark"] == "toy"
    assert written["torch"] == torch.__version__
    wrong, right = written["results"]
    assert wrong["failed"].startswith("ones: wrong by 1 of the largest value")
    assert right["failed_peers"] == {"library": "ImportError: no such library"}
    assert right["milliseconds"] == {"ours": {"median": 2.0}}


def test_a_median_stands_between_its_percentiles() -> None:
    assert summarise([5.0, 1.0, 4.0, 2.0, 3.0, 6.0]) == {"median": 3.0, "p20": 2.0, "p80": 5.0}
    assert summarise([7.0]) == {"median": 7.0, "p20": 7.0, "p80": 7.0}


def test_a_wrong_result_ends_the_case(benchmark: ModuleType) -> None:
    case = benchmark.Case(
        "wrong", {"ours": lambda: torch.ones(3)}, lambda: [torch.tensor([1.0, 1.0, 2.0])], 1
    )
    with pytest.raises(SystemExit, match=r"wrong: wrong by 0\.5 of the largest value"):
        benchmark.check(case)
    case.runs["ours"] = lambda: torch.tensor([1.0, torch.nan, 2.0])
    with pytest.raises(SystemExit, match="wrong by nan"):
        benchmark.check(case)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and the run takes minutes")
def test_without_a_gpu_it_says_so_in_one_line(benchmark: ModuleType) -> None:
    process = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr.strip() == benchmark.NO_GPU
