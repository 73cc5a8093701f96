"""How `sdbench benchmarks verify` goes through benchmarks, and what it shows meanwhile.

Place in the flow: `cli_benchmarks.py` reads the command line and opens the sandbox; what is judged
is in `verification.py`, what is kept in `verification_record.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sdb_harness.benchmarks import Benchmark, load_benchmark
from sdb_harness.cli_tables import (
    make_console,
    print_findings,
    print_not_judged,
    print_published,
    print_rows,
)
from sdb_harness.errors import HarnessError, MissingData
from sdb_sandboxes.errors import SandboxError

if TYPE_CHECKING:
    from sdb_harness.verification import Finding
    from sdb_harness.verification_record import Record, Row, Settings
    from sdb_sandboxes.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Verification:
    """One run of the command."""

    sandbox: "Sandbox"
    settings: "Settings"
    record: "Record"

    def verify_one(self, spec: str) -> bool:
        """Verify one benchmark with a table of every kind of program; whether all is right."""
        from sdb_harness.verification import Finding

        benchmark = load_benchmark(spec)
        row = self._verify(spec, benchmark)
        findings = [Finding(**found) for found in row["findings"]]
        console = make_console()
        console.print(benchmark.describe(), highlight=False, soft_wrap=True)
        num_wrong = print_findings(console, findings, benchmark)
        print_samples(console, row, findings)
        num_lost = sum(sum(row[key].values()) for key in ("not_judged", "lost"))
        lost = f", {num_lost} programs not judged" if num_lost else ""
        text = f"{spec}: {num_wrong} exceptions{lost}, judged by {self.sandbox.level}"
        console.print(text, highlight=False)
        return is_right(row) and any(one.num_programs for one in findings)

    def verify_all(self, specs: Sequence[str]) -> bool:
        """Verify one benchmark after the other, then print one table; whether all is right."""
        console = make_console()
        rows: dict[str, Row] = {}
        left_out: list[str] = []
        failed: list[str] = []
        for number, spec in enumerate(specs, start=1):
            try:
                benchmark = load_benchmark(spec)
                rows[spec] = row = self._verify(spec, benchmark, f"[{number}/{len(specs)}] ")
                print_samples(console, row, ())
                state = f"{len(row['exceptions'])} judged wrongly, {row['took_s']:.0f} s"
            except MissingData as error:
                left_out.append(f"{spec}: left out: {error}")
                state = "left out"
            except (HarnessError, SandboxError, OSError, RuntimeError, ValueError) as error:
                failed.append(f"{spec}: failed: {str(error) or type(error).__name__}")
                state = "failed"
            console.print(Text(f"[{number}/{len(specs)}] {spec}: {state}"), soft_wrap=True)
        print_rows(console, rows)
        for line in (*failed, *left_out):
            console.print(Text(line), soft_wrap=True)
        num_wrong = sum(len(row["exceptions"]) for row in rows.values())
        text = (
            f"{len(rows)} of {len(specs)} benchmarks verified, {num_wrong} programs judged wrongly"
            f", {len(left_out)} left out, {len(failed)} failed; judged by {self.sandbox.level}"
        )
        console.print(text, highlight=False, soft_wrap=True)
        num_judged = sum(row["judged"] + row["others"] for row in rows.values())
        is_complete = bool(num_judged) and not failed
        return is_complete and all(map(is_right, rows.values()))

    def _verify(self, spec: str, benchmark: Benchmark, prefix: str = "") -> "Row":
        """One benchmark's row, with bars meanwhile."""
        from sdb_harness.verification_record import verify_benchmark

        with show_progress(f"{prefix}{spec}") as (begin, advance):
            return verify_benchmark(
                spec, benchmark, self.sandbox, self.settings, self.record, begin, advance
            )


def print_samples(console: Console, row: "Row", findings: Sequence["Finding"]) -> None:
    """How samples of a model fare, and what was not judged of them and of the findings."""
    from sdb_harness.verification_record import read_samples

    samples = read_samples(row)
    if samples:
        print_published(console, samples)
    print_not_judged(console, [*findings, *samples])


def is_right(row: "Row") -> bool:
    """Whether nothing was judged wrongly, samples included, and no fault of ours lost anything."""
    from sdb_harness.verification_record import read_samples

    samples_are_right = all(one.is_right for one in read_samples(row))
    return samples_are_right and not (row["exceptions"] or row["lost"])


Begin = Callable[[str, int], None]


@contextmanager
def show_progress(title: str) -> Iterator[tuple[Begin, Callable[[], None]]]:
    """A bar for the trial that runs, with what remains of it; nothing away from a terminal."""
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bars.add_task(title, total=None)

    def begin(name: str, num_programs: int) -> None:
        bars.reset(task, total=num_programs, description=f"{title}, {name}")

    with bars:
        yield begin, lambda: bars.advance(task)
