"""Progress on the terminal: one bar for the run and one for each stage of the cell, with ETA.

Place in the flow: the `Observer` that the command line passes to the stages. Below the bars stays
one line for each finished cell; away from a terminal (a log, a pipe) only those lines are printed.

The bars are redrawn between programs and at most twice a second, not by a thread of their own: a
drawing thread would take time from the generations that are being timed.
"""

import time
from collections.abc import Sequence
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from sdb_harness.store import Stage
from sdb_harness.sweep import PlannedCell, describe_sampling

REDRAW_EVERY_S = 0.5


class RunProgress:
    """Draws a run. Use as a context manager around it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._redrawn_s = 0.0
        self._num_cells = 0
        self._cell_number = 0
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        self._overall = self._bars.add_task("all cells", total=None)
        self._stages: dict[Stage, TaskID] = {
            "generate": self._bars.add_task("generate", total=None),
            "judge": self._bars.add_task("judge", total=None),
        }

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def warn(self, message: str) -> None:
        """Say it on stderr; the bars stay below."""
        click.echo(f"note: {message}", err=True)

    def begin_run(self, cells: Sequence[PlannedCell], num_generated: int) -> None:
        """Set the overall bar to all programs of all cells."""
        self._num_cells = len(cells)
        num_programs = sum(planned.num_programs for planned in cells)
        self._bars.update(self._overall, total=num_programs, completed=num_generated)
        noun = "cell" if self._num_cells == 1 else "cells"
        kept = f", {num_generated} already generated" if num_generated else ""
        self._console.print(f"{self._num_cells} {noun}, {num_programs} programs{kept}")

    def begin_cell(self, planned: PlannedCell, num_generated: int, num_judged: int) -> None:
        """Set both stage bars to where the store already is."""
        self._cell_number += 1
        done: dict[Stage, int] = {"generate": num_generated, "judge": num_judged}
        for stage, task in self._stages.items():
            self._bars.reset(task, total=planned.num_programs, completed=done[stage])
        self._redraw(is_forced=True)

    def advance(self, stage: Stage) -> None:
        """Move a stage's bar by one program, and the overall bar if it was generated."""
        self._bars.advance(self._stages[stage])
        if stage == "generate":
            self._bars.advance(self._overall)
        self._redraw(is_forced=False)

    def end_cell(self, planned: PlannedCell, num_judged: int, num_passed: int) -> None:
        """Leave one line with the cell's score."""
        cell = planned.cell
        share = f"{num_passed / num_judged:6.1%}" if num_judged else "   none"
        self._console.print(
            f"[{self._cell_number}/{self._num_cells}] {share} passed "
            f"({num_passed} of {num_judged}): {cell.generator} on {cell.benchmark}, "
            f"{describe_sampling(cell)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _redraw(self, *, is_forced: bool) -> None:
        now_s = time.monotonic()
        if is_forced or now_s - self._redrawn_s >= REDRAW_EVERY_S:
            self._redrawn_s = now_s
            self._bars.refresh()
