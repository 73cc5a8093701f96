"""The commands `sdbench benchmarks ...`: list, show and verify benchmarks and protocols."""

import os
import sys
from pathlib import Path

import click
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from sdb_harness.benchmarks import (
    BENCHMARKS,
    FILE_BENCHMARKS,
    load_benchmark,
    parse_benchmark_spec,
    spell_benchmark_spec,
)
from sdb_harness.benchmarks.summaries import summarize_benchmark
from sdb_harness.cli_tables import make_console
from sdb_harness.cli_verify import Verification
from sdb_harness.errors import UserError

EXIT_FAULTS = 1

SANDBOX_OPTION = click.option(
    "--sandbox",
    "sandbox_name",
    default="embedded",
    show_default=True,
    help="Where programs run: embedded, docker, or docker:IMAGE such as docker:py-numpy.",
)


@click.group()
def benchmarks() -> None:
    """List, show and verify the benchmarks."""


@benchmarks.command("list")
def list_benchmarks() -> None:
    """List the benchmarks with their size, prompt presets and licence, and what data is missing."""
    table = Table("name", "problems", "protocols", "licence", "source")
    missing = []
    for name in sorted(BENCHMARKS.keys() - FILE_BENCHMARKS):
        try:
            found = summarize_benchmark(name)
        except UserError as error:
            missing.append(f"{name}: {error}")
            continue
        num_problems = str(found.num_problems)
        table.add_row(name, num_problems, found.protocols, found.licence, found.citation)
    console = make_console()
    console.print(table)
    for line in missing:
        console.print(Text(line), soft_wrap=True)


@benchmarks.command("fetch")
@click.argument("spec")
def fetch_benchmark(spec: str) -> None:
    """Download the data of a benchmark that are missing into $SDBENCH_DATA, and check them.

    SPEC is a name with options, for example humaneval_plus or livecodebench:release=v1; what those
    options need is fetched, or made of what is published in another form. Set SDBENCH_DOWNLOAD=1 to
    have every command do so.
    """
    os.environ["SDBENCH_DOWNLOAD"] = "1"
    benchmark = load_benchmark(spec)
    make_console().print(benchmark.describe(), highlight=False, soft_wrap=True)


@benchmarks.command("show")
@click.argument("problem")
@click.option("--split", help="Split to take it from, where the benchmark has splits.")
@click.option("--level", help="Level or levels, for example 2 or 1+2, where it has levels.")
def show_problem(problem: str, split: str | None, level: str | None) -> None:
    """Show a problem and its reference, for example minipy/123 or humaneval/0."""
    name, _, index = problem.partition("/")
    if not index.isdecimal():
        raise UserError(f"problem {problem!r}; write BENCHMARK/NUMBER, for example minipy/123")
    name = name.lower()
    options = {key: value for key, value in (("split", split), ("level", level)) if value}
    if name == "minipy":  # made on demand: ask for as many as it takes
        options["num_problems"] = str(int(index) + 1)
    benchmark = load_benchmark(spell_benchmark_spec(name, options))
    if int(index) >= len(benchmark.problems):
        raise UserError(
            f"benchmark {name} has no problem {index}; use 0 to {len(benchmark.problems) - 1}"
        )
    found = benchmark.problems[int(index)]
    console = make_console()
    console.print(f"{found.problem_id} ({found.group}), prompt and reference:", highlight=False)
    console.print(Syntax(found.solution, "python", background_color="default"))
    console.print("check:", highlight=False)
    console.print(benchmark.find_check(found), soft_wrap=True)


@benchmarks.command("verify")
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@SANDBOX_OPTION
@click.option(
    "--problems",
    type=click.IntRange(min=1),
    help="A random part of so many problems of each language.  [default: all]",
)
@click.option(
    "--cheats",
    type=click.IntRange(min=1),
    help="Try programs that must fail on so many of those only.  [default: all]",
)
@click.option(
    "--load",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Judge references again beside so many busy processes a processor; 0 does not.",
)
@click.option(
    "--samples",
    help="Judge that many samples of a model for each language too, or `all`, where the data have "
    "some, and compare with the pass@1 that the authors of the benchmark published.",
)
@click.option(
    "--record",
    "record_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep what was found, samples included, in this JSON file, with the commit; a run that "
    "was stopped goes on there.",
)
def verify_benchmarks(
    specs: tuple[str, ...],
    sandbox_name: str,
    problems: int | None,
    cheats: int | None,
    load: int,
    samples: str | None,
    record_path: Path | None,
) -> None:
    """Check that references pass and that empty, `return None` or cheating programs do not.

    References are judged twice, the second time on an overloaded machine.

    SPEC is a name with options, for example humaneval or minipy:level=3,num_problems=500; `all` is
    every benchmark. With several, one table stands at the end: what has no data is left out with
    the command that gets them, and what fails does not stop the others. The exit status is 1 if
    anything was judged wrongly or lost, if pass@1 of samples is more than 0.6 points and 3 standard
    errors from the published one, or if nothing could be judged at all.

    \b
    sdbench benchmarks verify humaneval
    sdbench benchmarks verify all --cheats 10 --load 0 --record verified.json
    """  # noqa: D301
    from sdb_harness.verification_record import Record, Settings
    from sdb_sandboxes.by_language import LanguageSandbox

    if samples not in (None, "all") and not (samples.isdecimal() and int(samples)):
        raise UserError(f"--samples {samples}; use a number from 1, or all")
    every = sorted(BENCHMARKS.keys() - FILE_BENCHMARKS)
    chosen = list(
        dict.fromkeys(one for spec in specs for one in (every if spec == "all" else [spec]))
    )
    for spec in chosen:
        parse_benchmark_spec(spec)
    record = Record(record_path)
    with LanguageSandbox(sandbox_name) as sandbox:
        run = Verification(sandbox, Settings(problems, cheats, load, samples), record)
        is_right = run.verify_one(chosen[0]) if len(chosen) == 1 else run.verify_all(chosen)
    if not is_right:
        sys.exit(EXIT_FAULTS)


@benchmarks.command("protocols")
@click.argument("spec")
def show_protocols(spec: str) -> None:
    """Show how a benchmark can be asked: each protocol's steps, and whose it is.

    SPEC is a name with options, for example humaneval or mbpp:set=plus-399.
    """
    benchmark = load_benchmark(spec)
    console = make_console()
    console.print(benchmark.describe(), highlight=False, soft_wrap=True)
    for name, protocol in benchmark.protocols.items():
        console.print(Text(f"{name}: {protocol.source}", style="bold"), soft_wrap=True)
        console.print(Text(f"    {protocol.steps}"), soft_wrap=True)
    for problem_id, fault in benchmark.faults.items():
        console.print(Text(f"known fault: {problem_id}: {fault}"), soft_wrap=True)
    for problem_id, note in benchmark.notes.items():
        console.print(Text(f"note: {problem_id}: {note}"), soft_wrap=True)


@benchmarks.command("excess-code")
@click.argument("store", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@SANDBOX_OPTION
def measure_excess_code(store: Path, sandbox_name: str) -> None:
    """Print ExcessCode of every cell of a STORE whose benchmark is canitedit.

    The share of an edit that no test runs, in percent; every program that passed runs once more.
    """
    from sdb_harness.excess_code import compute_excess_code
    from sdb_harness.store import Store
    from sdb_sandboxes.by_language import LanguageSandbox

    with Store.open_for_reading(store) as reader:
        cells = reader.list_cells()
        chosen = {key: c for key, c in cells.items() if c.benchmark.startswith("canitedit")}
        rows = [row for row in reader.iterate_rows() if row.cell_hash in chosen]
    if not chosen:
        raise UserError(f"{store} holds no cell of canitedit; ExcessCode is defined for it alone")
    console = make_console()
    with LanguageSandbox(sandbox_name) as sandbox:
        for key, cell in chosen.items():
            benchmark = load_benchmark(cell.benchmark)
            of_cell = [row for row in rows if row.cell_hash == key]
            found = compute_excess_code(benchmark, sandbox, of_cell)
            text = "nothing passed"
            if found:
                error = f"standard error {found.standard_error:.2f}"
                text = f"{found.mean:.2f} % ({error}, {found.num_problems} problems)"
            line = f"{cell.generator} on {cell.benchmark}, {cell.protocol}: ExcessCode {text}"
            console.print(Text(f"{line}\n{benchmark.describe()}"), soft_wrap=True)


@benchmarks.command("judge-modes")
@click.argument("store", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@SANDBOX_OPTION
def compare_judge_modes(store: Path, sandbox_name: str) -> None:
    """Print how many verdicts of a STORE's livecodebench cells depend on the way of judging.

    Every stored completion is judged once more: as LiveCodeBench's own runner does (lcb-compat)
    where its cell was judged as a process of its own, and the other way round.
    """
    from sdb_harness.judge_modes import compare_judges
    from sdb_harness.store import Store
    from sdb_sandboxes.by_language import LanguageSandbox

    with Store.open_for_reading(store) as reader:
        cells = reader.list_cells()
        chosen = {key: c for key, c in cells.items() if c.benchmark.startswith("livecodebench")}
        rows = [row for row in reader.iterate_rows() if row.cell_hash in chosen]
    if not chosen:
        raise UserError(f"{store} holds no cell of livecodebench; only it is judged in two ways")
    console = make_console()
    with LanguageSandbox(sandbox_name) as sandbox:
        for key, cell in chosen.items():
            found = compare_judges(cell, [row for row in rows if row.cell_hash == key], sandbox)
            lost = f"; {found.num_not_judged} not judged" if found.num_not_judged else ""
            console.print(
                f"{cell.generator} on {cell.benchmark}, {cell.protocol}: {len(found.differing)} of "
                f"{found.num_compared} verdicts differ; {found.num_passed_stored} passed as "
                f"{found.stored}, {found.num_passed_other} as {found.other}{lost}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            for line in found.differing:
                console.print(Text(f"    {line}"), soft_wrap=True)
