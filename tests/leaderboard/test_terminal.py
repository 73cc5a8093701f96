"""The table in the terminal."""

import io
from collections.abc import Callable

from rich.console import Console

from sdb_harness.records import Cell, SampleRow
from sdb_leaderboard.table import build_table
from sdb_leaderboard.terminal import print_groups, print_table

MakeCell = Callable[..., tuple[Cell, list[SampleRow]]]


def _print(cells: dict[str, Cell], rows: list[SampleRow]) -> str:
    console = Console(file=io.StringIO(), width=160)
    table = build_table(cells, rows)
    print_table(table, console)
    print_groups(table, console)
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


def test_groups_rates_and_every_k_are_printed(make_cell: MakeCell) -> None:
    outcomes = [["passed", "wrong_answer"], ["passed", "passed"], ["compile_error"] * 2]
    groups = ("go", "java", "go")
    cell, rows = make_cell(outcomes, benchmark="mbxp", groups=groups, finish_reason="length")
    output = _print({cell.compute_hash(): cell}, rows)
    (heading,) = [line for line in output.splitlines() if "configuration" in line]
    assert "95 % interval  pass@2  tok/s/user  tok/fwd  truncated %  empty %" in heading
    (line,) = [line for line in output.splitlines() if " 4.00 " in line]
    assert line.split()[-7:] == ["66.7", "100.0", "4.00", "100.0", "0.0", "33.3", "3"]
    rest = output[output.index("mbxp by group") :]
    assert [line.split() for line in rest.splitlines()[1:4]] == [
        ["go", "25.0"],
        ["java", "100.0"],
        ["mean", "of", "2", "languages", "62.5", "95", "%", "40.9", "to", "80.0"],
    ]
    plain, rows = make_cell([["passed"], ["passed"]])
    assert "by group" not in _print({plain.compute_hash(): plain}, rows)


def test_says_when_there_is_nothing() -> None:
    assert "run a sweep first" in _print({}, [])
