"""One run of a sweep, put together: resolve, open the store, record the manifest, run the cells.

Place in the flow: called by `sdbench run` and `sdbench demo`; everything it does for a cell is in
`stages`. Running a sweep that is already complete opens no sandbox and writes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sdb_harness.errors import UserError
from sdb_harness.hardware import describe_hardware
from sdb_harness.judging import Judge
from sdb_harness.provenance import build_manifest
from sdb_harness.records import Problem
from sdb_harness.stages import Observer, RunOutcome, list_judged, run_cells
from sdb_harness.store import STORE_NAME, Store
from sdb_harness.sweep import PlannedCell, Sweep, resolve_cells
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.sandbox import Sandbox

NUM_REASONS = 5
"""Reasons for which problems cannot be judged that one line tells, the most frequent first."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did."""

    store_path: Path
    num_cells: int
    num_faults: int
    """Programs left without a row by infrastructure faults; the next run tries them again."""
    sources: tuple[str, ...]
    """One line for each benchmark: which data the scores are of."""
    left_out: Mapping[str, str]
    """Data set, generator or cell that could not run -> why; the rest of the sweep ran."""
    not_judged: tuple[str, ...] = ()
    """One line for each benchmark with problems that this host cannot judge; no fault of anyone."""


def find_store_path(sweep_name: str, runs_folder: Path) -> Path:
    """Where the store of a sweep lies."""
    return runs_folder / sweep_name / STORE_NAME


def run_sweep(
    sweep: Sweep, runs_folder: Path, observer: Observer, sandbox_name: str = "embedded"
) -> RunReport:
    """Run what is missing of a sweep.

    Args:
        sweep: What to measure.
        runs_folder: Holds one folder per sweep name, made if needed.
        observer: Sees the run go by.
        sandbox_name: Where programs run, as `sdb_sandboxes.open.open_sandbox` spells it; other
            languages than Python run in containers of their own where that is Docker's; what ran
            is recorded with every row.

    Raises:
        UserError: wrong input, a store that cannot be used, or no problem that can be judged here.
        ValueError: a generator refuses the sampling.
        OSError: a loader cannot read its files or reach its server.
    """
    hardware = describe_hardware()
    resolved = resolve_cells(sweep, hardware.compute_hash())
    for warning in resolved.warnings:
        observer.warn(warning)
    for name, why in resolved.left_out.items():
        observer.warn(f"{name} left out: {why}")
    path = find_store_path(sweep.name, runs_folder)
    with Store.open_for_writing(path) as store:
        outcome = RunOutcome(0, {})
        not_judged: list[str] = []
        if not _are_complete(resolved.cells, store):
            with LanguageSandbox(sandbox_name) as sandbox:
                cells = leave_out(resolved.cells, sandbox, store)
                not_judged = describe_not_judged(cells)
                if not any(planned.problems for planned in cells):
                    raise UserError("; ".join(not_judged))
                for line in not_judged:
                    observer.warn(line)
                for planned in cells:
                    store.add_cell(planned.cell)
                    store.replace_not_judged(planned.cell.compute_hash(), planned.not_judged)
                what_runs = {
                    "sandbox": sandbox.level,
                    "sandbox_layers": " ".join(sandbox.layers),
                    "sandbox_image": sandbox.image or "none",
                }
                what_runs |= describe_protocols(resolved.cells)
                what_runs |= {
                    f"data/{planned.cell.benchmark}": planned.benchmark.describe()
                    for planned in cells
                }
                if not_judged:
                    what_runs["not judged"] = "; ".join(not_judged)
                if not _are_complete(cells, store):
                    manifest = build_manifest(hardware, what_runs)
                    store.add_manifest(manifest)
                    outcome = run_cells(cells, store, manifest.run_id, sandbox, observer)
    sources = dict.fromkeys(planned.benchmark.describe() for planned in resolved.cells)
    return RunReport(
        store_path=path,
        num_cells=len(resolved.cells),
        num_faults=outcome.num_faults,
        sources=tuple(sources),
        left_out={**resolved.left_out, **outcome.left_out},
        not_judged=tuple(not_judged),
    )


def leave_out(
    cells: Sequence[PlannedCell], sandbox: Sandbox, store: Store | None
) -> list[PlannedCell]:
    """Take the problems that this sandbox cannot judge out of cells, before they are asked.

    What is judged already, by a run with another sandbox, stays.
    """
    benchmarks = {planned.cell.benchmark: planned.benchmark for planned in cells}
    missing = {name: Judge(one, sandbox).list_missing() for name, one in benchmarks.items()}
    narrowed = []
    for planned in cells:
        reasons = missing[planned.cell.benchmark]
        judged = list_judged(store, planned.cell.compute_hash()) if store and reasons else set()
        indices = range(planned.cell.samples_per_problem)
        not_judged = {
            problem_id: why
            for problem_id, why in reasons.items()
            if not judged.issuperset((problem_id, index) for index in indices)
        }
        narrowed.append(replace(planned, not_judged=not_judged))
    return narrowed


def describe_not_judged(cells: Iterable[PlannedCell]) -> list[str]:
    """One line for each benchmark of which something cannot be judged here, with the reasons."""
    lines: dict[str, None] = {}
    for planned in cells:
        reasons = Counter(planned.not_judged.values()).most_common()
        told = [f"{number} ({why})" for why, number in reasons[:NUM_REASONS]]
        if more := reasons[NUM_REASONS:]:
            told.append(f"{sum(number for _, number in more)} for {len(more)} other reasons")
        if told:
            lines[
                f"{planned.cell.benchmark}: {len(planned.not_judged)} of "
                f"{len(planned.benchmark.problems)} problems cannot be judged here and are not "
                f"asked: {', '.join(told)}"
            ] = None
    return list(lines)


def describe_protocols(cells: Sequence[PlannedCell]) -> dict[str, str]:
    """How each benchmark was asked and judged, step by step, for the manifest."""
    return {
        f"protocol/{planned.benchmark.name}/{planned.cell.protocol}": (
            f"{planned.protocol.steps}; limits {planned.benchmark.limits}; compare "
            + ", ".join(list_comparisons(planned.benchmark.problems))
        )
        for planned in cells
    }


def list_comparisons(problems: Iterable[Problem]) -> list[str]:
    """The ways in which answers are compared: rules by name, or the kind of the check."""
    return sorted(
        {getattr(problem.check, "comparison", type(problem.check).__name__) for problem in problems}
    )


def _are_complete(cells: Iterable[PlannedCell], store: Store) -> bool:
    return all(one.keys <= list_judged(store, one.cell.compute_hash()) for one in cells)
