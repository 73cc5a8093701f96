"""The command `sdbench`: the composition root. It may import every room; nothing imports it.

Rooms that need torch or plotly are imported inside the commands that use them, so that `--help` and
runs without a model stay quick. Every user error ends in one line on stderr and exit status 2,
infrastructure faults in status 1 with a count, Ctrl-C in status 130 with how to resume. Set
SDBENCH_TRACEBACK=1 to see where an error came from.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from sdb_harness.benchmarks import parse_benchmark_spec, spell_benchmark_spec
from sdb_harness.cli_benchmarks import EXIT_FAULTS, SANDBOX_OPTION, benchmarks
from sdb_harness.cli_data import decontaminate, export
from sdb_harness.cli_experiments import experiment
from sdb_harness.cli_model import generate, train
from sdb_harness.cli_roofline import roofline
from sdb_harness.cli_sandbox import sandbox
from sdb_harness.cli_tables import make_console, print_tries
from sdb_harness.demo import find_demo_sweep
from sdb_harness.errors import HarnessError, UserError
from sdb_harness.hardware import describe_hardware
from sdb_harness.plan import CellEstimate, estimate_cells, estimate_detectable_difference
from sdb_harness.progress import RunProgress
from sdb_harness.records import Cell, RunManifest, SampleRow
from sdb_harness.runner import (
    RunReport,
    describe_not_judged,
    find_store_path,
    leave_out,
    run_sweep,
)
from sdb_harness.store import STORE_NAME, Store
from sdb_harness.sweep import (
    Sweep,
    describe_sampling,
    make_sweep_name,
    parse_sweep,
    read_sweep,
    resolve_cells,
)
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.errors import SandboxError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

RUNS_OPTION = click.option(
    "--runs",
    "runs_folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder that holds one folder per sweep.",
)


HELP = """Measure quality and speed of code models on the same generations.

A benchmark gives problems, a generator writes programs, a sandbox executes them, a store keeps one
row per program, a page shows the frontier. Every run resumes where it stopped.

\b
Start here:
  sdbench demo                          a frontier page in minutes, without a GPU
  sdbench benchmarks verify humaneval   does this machine judge rightly?
  sdbench run --benchmark humaneval --generator canonical

\b
A model behind any OpenAI-compatible server, 8 requests at once:
  sdbench run --benchmark humaneval --protocol chat \\
      --generator openai:http://localhost:8000/v1,model=NAME,concurrency=8

\b
A sweep over block sizes and thresholds, written in a file:
  sdbench plan sweeps/demo.toml         cells, cost, what is done
  sdbench run sweeps/demo.toml          runs or resumes it
  sdbench leaderboard build             the page, from everything in runs/
  sdbench compare STORE STORE           which problems flipped, and by how much
"""


class OneLineErrors(click.Group):
    """A command group whose every expected error is one line on stderr."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command and exit with the status that this module's docstring promises."""
        kwargs["standalone_mode"] = False
        try:
            result = super().main(*args, **kwargs)
        except (click.Abort, KeyboardInterrupt):
            self._leave("stopped; nothing finished is lost, run the same command again to resume")
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(EXIT_USER_ERROR)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            where = context.command_path if context else "sdbench"
            self._fail(f"{error.format_message()} See `{where} --help`.", error)
        except (HarnessError, SandboxError, ValueError, OSError) as error:
            self._fail(str(error) or type(error).__name__, error)
        sys.exit(result if isinstance(result, int) else 0)

    def _fail(self, message: str, error: Exception) -> NoReturn:
        if os.environ.get("SDBENCH_TRACEBACK") == "1":
            raise error
        print(f"sdbench: error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)

    def _leave(self, message: str) -> NoReturn:
        print(f"sdbench: {message}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


@click.group(
    "sdbench",
    cls=OneLineErrors,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="seed-diffusion-bench", prog_name="sdbench")
def main() -> None:
    """Hold the commands below; `HELP` is what a user reads."""


# Plan, run, status


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@RUNS_OPTION
@SANDBOX_OPTION
def plan(file: Path, runs_folder: Path, sandbox_name: str) -> None:
    """Print a sweep's cells, cost and progress.

    Also which problems the sandbox cannot judge (a run does not ask them), and the smallest
    difference that the others can tell from noise. Exit status 1: something would be left out.
    """
    sweep = read_sweep(file)
    resolved = resolve_cells(sweep, describe_hardware().compute_hash())
    path = find_store_path(sweep.name, runs_folder)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store.open_for_reading(path)) if path.is_file() else None
        sandbox = stack.enter_context(LanguageSandbox(sandbox_name))
        cells = leave_out(resolved.cells, sandbox, store)
        estimates = estimate_cells(cells, store)
    console = make_console()
    table = Table("#")
    for header in ("generator", "benchmark", "setting"):
        table.add_column(header, overflow="fold")
    for header in ("generated", "judged", "max forwards", "time to go"):
        table.add_column(header, justify="right", no_wrap=True)
    for number, estimate in enumerate(estimates, start=1):
        cell, total = estimate.planned.cell, estimate.planned.num_programs
        table.add_row(
            str(number),
            cell.generator,
            cell.benchmark,
            describe_sampling(cell),
            f"{estimate.progress.num_generated} / {total}",
            f"{estimate.progress.num_judged} / {total}",
            f"{estimate.max_forwards:,}",
            _format_seconds(estimate.remaining_s),
        )
    console.print(table)
    left_out = (f"{name} left out: {why}" for name, why in resolved.left_out.items())
    for warning in (*resolved.warnings, *left_out, *describe_not_judged(cells)):
        print(f"note: {warning}", file=sys.stderr)
    _print_plan_summary(console, estimates)
    if resolved.left_out:
        sys.exit(EXIT_FAULTS)


def _print_plan_summary(console: Console, estimates: Sequence[CellEstimate]) -> None:
    num_forwards = sum(estimate.max_forwards for estimate in estimates)
    known = [e.remaining_s for e in estimates if e.remaining_s is not None]
    num_unknown = len(estimates) - len(known)
    time_left = _format_seconds(sum(known)) if known else "unknown"
    unknown = f" and {num_unknown} cells never measured" if known and num_unknown else ""
    noun = "cell" if len(estimates) == 1 else "cells"
    lines = [
        f"{len(estimates)} {noun}, at most {num_forwards:,} forwards to go, time to go {time_left}"
        f"{unknown}; judging not counted"
    ]
    sizes = {
        (len(e.planned.problems), _count_independent_samples(e.planned.cell))
        for e in estimates
        if e.planned.problems
    }
    for num_problems, num_samples in sorted(sizes):
        difference = estimate_detectable_difference(num_problems, num_samples)
        lines.append(
            f"{num_problems} problems x {num_samples} independent samples resolve paired "
            f"differences in pass rate from about {100 * difference:.1f} points (95 %)"
        )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _count_independent_samples(cell: Cell) -> int:
    """Greedy decoding repeats itself: more samples a problem then tell nothing new."""
    return cell.samples_per_problem if cell.sampling.temperature > 0 else 1


@main.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@RUNS_OPTION
@click.option("--benchmark", help="One cell without a file: for example minipy:split=test,level=2.")
@click.option(
    "--generator",
    help="canonical, replay:FILE, seed_diffusion:demo[,weights=e4m3], openai:URL,model=..",
)
@click.option("--protocol", help="Prompt and extraction preset; default: the benchmark's first.")
@click.option("--templates", type=int, help="Ask in so many wordings, for example 3; default 1.")
@click.option("--block-size", type=int, help="Tokens in one diffusion block.")
@click.option("--threshold", type=float, help="Commit tokens with more probability than this.")
@click.option("--num-steps", type=int, help="Fixed denoising steps per block instead.")
@click.option("--policy", help="Another commit policy: top:2, entropy:0.3, edit:0.9:0.8:8, ...")
@click.option("--top-p", type=float, help="Draw among the tokens of this share, default 1 (all).")
@click.option("--temperature", type=float, help="0 is greedy, the default.")
@click.option("--samples-per-problem", type=int, help="Programs per problem, default 1.")
@click.option("--batch-size", type=int, help="Programs at once, default 1.")
@click.option("--max-new-tokens", type=int, help="Token budget of a program, default 256.")
@click.option("--seed", type=int, help="Seed of the sampling, default 0.")
@click.option("--name", help="Folder below runs; default: from benchmark and generator.")
@SANDBOX_OPTION
def run(
    file: Path | None,
    runs_folder: Path,
    benchmark: str | None,
    generator: str | None,
    protocol: str | None,
    templates: int | None,
    name: str | None,
    sandbox_name: str,
    **settings: int | float | str | None,
) -> None:
    """Run or resume a sweep FILE or one cell.

    Give the FILE, or --benchmark and --generator with settings; rerun the same to resume. A cell is
    generated completely before its programs are executed, so that judging does not slow down the
    generations that are timed. Problems that the sandbox cannot judge are named and not asked.
    What cannot be opened or asked (a missing data set, a bad server) is left out of a sweep; exit
    status 1 counts it. Ctrl-C or a kill loses at most the programs in the making.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    if file is not None:
        if benchmark or generator or protocol or templates or name or given:
            raise UserError(f"give either the sweep {file} or --benchmark and --generator")
        sweep = read_sweep(file)
    else:
        if not benchmark or not generator:
            raise UserError("give a sweep file, or both --benchmark and --generator")
        sweep = _make_one_cell_sweep(benchmark, generator, protocol, templates, name, given)
    console = make_console()
    report = _run_and_report(sweep, runs_folder, console, sandbox_name)
    console.print(f"store: {report.store_path}", highlight=False, soft_wrap=True)
    _exit_on_faults(report)


def _make_one_cell_sweep(
    benchmark: str,
    generator: str,
    protocol: str | None,
    templates: int | None,
    name: str | None,
    given: dict[str, int | float | str],
) -> Sweep:
    spec = f"{spell_benchmark_spec(*parse_benchmark_spec(benchmark))}-{generator}"
    document: dict[str, object] = {
        "name": make_sweep_name(spec) if name is None else name,
        "benchmarks": [benchmark],
        "generators": [generator],
        "grid": {"seeds" if key == "seed" else key: [value] for key, value in given.items()},
    }
    if protocol is not None:
        document["protocol"] = protocol
    if templates is not None:
        document["templates"] = templates
    return parse_sweep(document)


def _run_and_report(
    sweep: Sweep, runs_folder: Path, console: Console, sandbox_name: str = "embedded"
) -> RunReport:
    """Run, then print the table of everything in the store."""
    with RunProgress(console) as progress:
        report = run_sweep(sweep, runs_folder, progress, sandbox_name)

    from sdb_leaderboard.table import build_table
    from sdb_leaderboard.terminal import (
        print_groups,
        print_spreads,
        print_table,
        print_warnings,
    )

    with Store.open_for_reading(report.store_path) as store:
        table = build_table(store.list_cells(), store.iterate_rows(), store.list_not_judged())
        tries = [
            (cell, list(store.iterate_rows(cell_hash)))
            for cell_hash, cell in store.list_cells().items()
            if cell.benchmark.startswith("aider_")
        ]
    print_table(table, console)
    print_groups(table, console)
    print_tries(tries, console)
    print_spreads(table, console)
    print_warnings(table, console)
    for line in (*report.sources, *report.not_judged):
        console.print(line, highlight=False, soft_wrap=True)
    return report


def _exit_on_faults(report: RunReport) -> None:
    if report.num_faults:
        print(
            f"sdbench: {report.num_faults} programs could not be generated or judged because of "
            "infrastructure faults (not wrong answers); run the same command again to retry them",
            file=sys.stderr,
        )
    if report.left_out:
        print(
            f"sdbench: left out {len(report.left_out)}, for the reasons noted above: "
            f"{'; '.join(report.left_out)}; mend them and run the same command again",
            file=sys.stderr,
        )
    if report.num_faults or report.left_out:
        sys.exit(EXIT_FAULTS)


@main.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@RUNS_OPTION
def status(file: Path | None, runs_folder: Path) -> None:
    """Print what the stores hold.

    Of one sweep FILE cell by cell, or of all runs in one line each.
    """
    console = make_console()
    if file is not None:
        path = find_store_path(read_sweep(file).name, runs_folder)
        with Store.open_for_reading(path) as store:
            table = Table("generator", "benchmark", "setting", "generated", "judged", "passed")
            for cell_hash, cell in store.list_cells().items():
                done = store.measure_progress(cell_hash)
                table.add_row(
                    cell.generator,
                    cell.benchmark,
                    describe_sampling(cell),
                    str(done.num_generated),
                    str(done.num_judged),
                    str(done.num_passed),
                )
            num_faults = store.count_faults()
        console.print(table)
        console.print(f"{path}: {num_faults} infrastructure faults so far", highlight=False)
        return
    table = Table("run", "cells", "generated", "judged", "passed", "faults so far")
    for path in _list_stores(runs_folder):
        with Store.open_for_reading(path) as store:
            counts = [store.measure_progress(cell_hash) for cell_hash in store.list_cells()]
            table.add_row(
                path.parent.name,
                str(len(counts)),
                str(sum(done.num_generated for done in counts)),
                str(sum(done.num_judged for done in counts)),
                str(sum(done.num_passed for done in counts)),
                str(store.count_faults()),
            )
    console.print(table)


@main.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--cells",
    nargs=2,
    metavar="CELL CELL",
    help="Compare these two: the start of a cell's hash in each store (last column of the page).",
)
def compare(first: Path, second: Path, cells: tuple[str, str] | None) -> None:
    """Name the problems that two runs judge differently.

    FIRST and SECOND are store files (or one twice, with --cells). Cells of the same benchmark are
    paired; prints which problems were gained and lost, and the difference of pass@1 with its paired
    95 % interval.
    """
    from sdb_leaderboard.compare import compare_outcomes, count_outcomes, match_cells
    from sdb_leaderboard.terminal import print_comparison

    console = make_console()
    with Store.open_for_reading(first) as one, Store.open_for_reading(second) as other:
        ours, theirs = one.list_cells(), other.list_cells()
        pairs = (
            [(_find_cell(ours, cells[0], first), _find_cell(theirs, cells[1], second))]
            if cells
            else match_cells(ours, theirs)
        )
        if not pairs:
            raise UserError(
                f"no cells of {first} and {second} match: they need one cell each of a benchmark "
                "revision, or equal settings; name two with --cells CELL CELL"
            )
        apart = []
        for before, after in pairs:
            if ours[before].benchmark_revision != theirs[after].benchmark_revision:
                raise UserError(f"cells {before} and {after} are not of one benchmark revision")
            outcomes = [
                count_outcomes(store.iterate_rows(key))
                for store, key in ((one, before), (other, after))
            ]
            if not outcomes[0].keys() & outcomes[1].keys():
                apart.append(f"cells {before} and {after} share no judged problem; run them")
                continue
            names = [
                f"{cell.generator}, {describe_sampling(cell)} ({cell.compute_hash()})"
                for cell in (ours[before], theirs[after])
            ]
            revision = ours[before].benchmark_revision[:16]
            title = f"{ours[before].benchmark} ({revision}): {names[0]} -> {names[1]}"
            print_comparison(compare_outcomes(*outcomes), title, console)
    if len(apart) == len(pairs):
        raise UserError("; ".join(apart))
    for line in apart:
        print(f"note: {line}", file=sys.stderr)


def _find_cell(cells: Mapping[str, Cell], start: str, path: Path) -> str:
    found = [key for key in cells if key.startswith(start)]
    if len(found) != 1:
        listed = ", ".join(cells)
        raise UserError(f"{len(found)} cells of {path} start with {start!r}; it has {listed}")
    return found[0]


# Leaderboard and demo


@main.group()
def leaderboard() -> None:
    """Build the frontier page from stored rows."""


@leaderboard.command("build")
@RUNS_OPTION
@click.option(
    "--store",
    "stores",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A store file; may be repeated. Default: every store below --runs.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the page. Default: `leaderboard` below --runs.",
)
def build(runs_folder: Path, stores: tuple[Path, ...], out: Path | None) -> None:
    """Write one self-contained HTML page with its figures and tables beside it."""
    page = _build_page(stores or _list_stores(runs_folder), out or runs_folder / "leaderboard")
    print(page)


def _build_page(stores: Sequence[Path], out: Path) -> Path:
    from sdb_leaderboard.page import build_leaderboard

    cells: dict[str, Cell] = {}
    manifests: dict[str, RunManifest] = {}
    not_judged: dict[str, set[str]] = {}
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Store.open_for_reading(path)) for path in stores]
        for reader in readers:
            cells |= reader.list_cells()
            manifests |= reader.list_manifests()
            for cell_hash, reasons in reader.list_not_judged().items():
                not_judged.setdefault(cell_hash, set()).update(reasons)
        rows = chain.from_iterable(reader.iterate_rows() for reader in readers)
        return build_leaderboard(cells, _drop_repeated(rows), manifests, out, not_judged)


def _drop_repeated(rows: Iterator[SampleRow]) -> Iterator[SampleRow]:
    """Keep the first row of each program: two stores may hold the same cell."""
    seen: set[tuple[str, str, int]] = set()
    for row in rows:
        key = (row.cell_hash, row.problem_id, row.sample_index)
        if key not in seen:
            seen.add(key)
            yield row


@main.command()
@RUNS_OPTION
def demo(runs_folder: Path) -> None:
    """Run the shipped demo and build its page.

    The shipped diffusion model at 20 settings beside its autoregressive twin: some minutes on 2
    cores, resumable. SDBENCH_DEMO=short makes it half a minute. Prints the path of the page last.
    """
    sweep = read_sweep(find_demo_sweep())
    console = make_console()
    report = _run_and_report(sweep, runs_folder, console)
    page = _build_page([report.store_path], report.store_path.parent / "leaderboard")
    print(page)
    _exit_on_faults(report)


# Benchmark, model and sandbox commands live in files of their own

main.add_command(benchmarks)
main.add_command(decontaminate)
main.add_command(experiment)
main.add_command(export)
main.add_command(train)
main.add_command(generate)
main.add_command(generate, "sample")
main.add_command(roofline)
main.add_command(sandbox)


# What several commands share


def _list_stores(runs_folder: Path) -> list[Path]:
    paths = sorted(runs_folder.glob(f"*/{STORE_NAME}"))
    if not paths:
        raise UserError(f"no store below {runs_folder}; run `sdbench run` first or give --runs")
    return paths


def _format_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
