"""One run of a sweep, put together: resolve, open the store, record the manifest, run the cells.

Place in the flow: called by `sdbench run` and `sdbench demo`; everything it does for a cell is in
`stages`. Running a sweep that is already complete opens no sandbox and writes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdb_harness.hardware import describe_hardware
from sdb_harness.provenance import build_manifest
from sdb_harness.records import Problem
from sdb_harness.stages import Observer, run_cells
from sdb_harness.store import STORE_NAME, Store
from sdb_harness.sweep import PlannedCell, Sweep, resolve_cells
from sdb_sandboxes.by_language import LanguageSandbox


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did."""

    store_path: Path
    num_cells: int
    num_faults: int
    """Programs left without a row by infrastructure faults; the next run tries them again."""
    sources: tuple[str, ...]
    """One line for each benchmark: which data the scores are of."""


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
        UserError: wrong input, or a store that cannot be used.
        ValueError: a generator refuses the sampling.
        OSError: a loader cannot read its files or reach its server.
    """
    hardware = describe_hardware()
    resolved = resolve_cells(sweep, hardware.compute_hash())
    for warning in resolved.warnings:
        observer.warn(warning)
    path = find_store_path(sweep.name, runs_folder)
    with Store.open_for_writing(path) as store:
        num_faults = 0
        if not all(_is_complete(planned, store) for planned in resolved.cells):
            with LanguageSandbox(sandbox_name) as sandbox:
                what_runs = {
                    "sandbox": sandbox.level,
                    "sandbox_layers": " ".join(sandbox.layers),
                    "sandbox_image": sandbox.image or "none",
                }
                what_runs |= describe_protocols(resolved.cells)
                manifest = build_manifest(hardware, what_runs)
                store.add_manifest(manifest)
                num_faults = run_cells(resolved.cells, store, manifest.run_id, sandbox, observer)
    sources = dict.fromkeys(planned.benchmark.describe() for planned in resolved.cells)
    return RunReport(path, len(resolved.cells), num_faults, tuple(sources))


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


def _is_complete(planned: PlannedCell, store: Store) -> bool:
    progress = store.measure_progress(planned.cell.compute_hash())
    return progress.num_judged == planned.num_programs
