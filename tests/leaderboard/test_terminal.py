"""The table in the terminal."""

import io
from collections.abc import Callable

from rich.console import Console

from sdb_harness.records import Cell, SampleRow
from sdb_leaderboard.table import build_table
from sdb_leaderboard.terminal import print_table

MakeCell = Callable[..., tuple[Cell, list[SampleRow]]]


def _print(cells: dict[str, Cell], rows: list[SampleRow]) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_table(build_table(cells, rows), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_prints_scores_intervals_and_marks_the_frontier(make_cell: MakeCell) -> None:
    good, good_rows = make_cell([["passed"], ["wrong_answer"]], generator="model[bold]")
    bad, bad_rows = make_cell([["wrong_answer"], ["infrastructure"]], threshold=0.1)
    output = _print({c.compute_hash(): c for c in (good, bad)}, good_rows + bad_rows)
    lines = output.splitlines()
    (line,) = [line for line in lines if "model[bold]" in line]
    assert "●" in line
    assert "50.0" in line
    assert "5.5 to 94.5" in line
    (line,) = [line for line in lines if "p > 0.1" in line]
    assert "●" not in line
    assert "1, incomplete" in line


def test_says_when_there_is_nothing() -> None:
    assert "run a sweep first" in _print({}, [])
