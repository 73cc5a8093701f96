"""Bars on a terminal, plain lines in a log, the same numbers in both."""

import io

import pytest
from rich.console import Console

from sdb_harness.progress import RunProgress
from sdb_harness.sweep import parse_sweep, resolve_cells


@pytest.mark.parametrize("is_terminal", [True, False])
def test_cells_leave_a_line_and_bars_only_a_terminal(is_terminal: bool) -> None:
    document: dict[str, object] = {
        "name": "s",
        "benchmarks": ["minipy:num_problems=2"],
        "generators": ["canonical"],
    }
    cells = resolve_cells(parse_sweep(document), "machine").cells
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=120)
    with RunProgress(console) as progress:
        progress.begin_run(cells, 1)
        progress.begin_cell(cells[0], 1, 0)
        progress.advance("generate")
        progress.advance("judge")
        progress.end_cell(cells[0], 1, 1)
    output = text.getvalue()
    assert "already generated" in output
    assert "[1/1] 100.0% passed (1 of 1): canonical on minipy:num_problems=2, default" in output
    assert ("all cells" in output) is is_terminal
