"""What `sdbench benchmarks verify` prints: one table for each question, and what was not judged.

Place in the flow: `cli.py` calls these; nothing is computed here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from sdb_harness.benchmarks import Benchmark
    from sdb_harness.records import Cell, SampleRow
    from sdb_harness.verification import Finding, PublishedFinding
    from sdb_harness.verification_record import Row

NUM_SHOWN = 5
"""Exceptions of one kind that are named."""


def print_findings(console: Console, findings: "Sequence[Finding]", benchmark: "Benchmark") -> int:
    """One row per kind of program and language; returns the number of exceptions.

    Those whose own data are to blame are named below and not counted, and so are its notes.
    """
    groups = {finding.group for finding in findings}
    headings = ("programs", "expected", "passed", "of", "exceptions")
    table = Table(*(("language", *headings) if len(groups) > 1 else headings))
    for finding in findings:
        more = len(finding.exceptions) - NUM_SHOWN
        named = ", ".join(finding.exceptions[:NUM_SHOWN]) or "none"
        row = (
            finding.name,
            "all pass" if finding.should_pass else "none pass",
            str(finding.num_passed),
            str(finding.num_programs),
            f"{named}, and {more} more" if more > 0 else named,
        )
        table.add_row(*((finding.group, *row) if len(groups) > 1 else row))
    console.print(table)
    for finding in findings:
        for text in finding.known:
            why = benchmark.remarks[text.rpartition(": ")[0]]
            console.print(Text(f"known fault: {finding.name}, {text}: {why}"), soft_wrap=True)
    for problem_id, note in benchmark.notes.items():
        console.print(Text(f"note: {problem_id}: {note}"), soft_wrap=True)
    return sum(len(finding.exceptions) for finding in findings)


def print_rows(console: Console, rows: "Mapping[str, Row]") -> None:
    """One row per benchmark, and below what was not judged as it should be, or not at all."""
    from sdb_harness.verification_record import HEADINGS, list_details, make_cells

    table = Table(*HEADINGS)
    for spec, row in rows.items():
        table.add_row(*make_cells(spec, row))
    console.print(table)
    for spec, row in rows.items():
        for line in list_details(spec, row):
            console.print(Text(line), soft_wrap=True)


def print_published(console: Console, findings: "Sequence[PublishedFinding]") -> None:
    """One row per language: pass@1 of the shipped samples here and as published."""
    table = Table(
        *("language", "samples", "pass@1 here", "published", "difference", "forged or loose"),
        "do not compile",
    )
    for finding in findings:
        if finding.measured is None:
            measured, difference = "not judged", ""
        else:
            error = f" ± {finding.standard_error:.1f}" if finding.standard_error else ""
            measured = f"{finding.measured:.2f}{error}"
            difference = ""
            if finding.published is not None:
                difference = f"{finding.measured - finding.published:+.2f}"
        table.add_row(
            finding.group,
            str(finding.num_samples),
            measured,
            "no one said" if finding.published is None else f"{finding.published:.2f}",
            difference,
            str(finding.num_forged),
            str(finding.num_not_compiled),
        )
    console.print(table)
    for finding in findings:
        if finding.measured is not None and not finding.is_right:
            text = f"wrong: {finding.group}: more than {finding.allowed:.1f} points from published"
            console.print(text, highlight=False, soft_wrap=True)


def print_not_judged(console: Console, findings: "Sequence[Finding | PublishedFinding]") -> None:
    """One line per reason for which programs were not judged."""
    for label, kind in (("not judged", "not_judged"), ("lost by a fault here", "lost")):
        reasons = Counter[str]()
        for finding in findings:
            reasons.update(getattr(finding, kind))
        for reason, number in reasons.most_common():
            console.print(Text(f"{label}: {number} programs: {reason}"), soft_wrap=True)


def make_console() -> Console:
    """A console for stdout; a log gets lines as long as they are, not folded at 80."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def print_tries(cells: "Sequence[tuple[Cell, Sequence[SampleRow]]]", console: Console) -> None:
    """One line per cell of aider's benchmarks: its two pass rates and the well-formed edits."""
    from sdb_harness.benchmarks.aider import score_tries

    for cell, rows in cells:
        if rows:
            scores = score_tries(rows)
            line = (
                f"{cell.generator} on {cell.benchmark}, {cell.protocol}: pass_rate_1 "
                f"{scores.pass_rate_1:.1f}, pass_rate_2 {scores.pass_rate_2:.1f}, well-formed "
                f"edits {scores.well_formed:.1f} % of {scores.num_samples}"
            )
            console.print(line, highlight=False, soft_wrap=True)
