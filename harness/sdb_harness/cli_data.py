"""The commands `decontaminate` and `export`: what concerns data and no model."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from sdb_harness.benchmarks import load_benchmark
from sdb_harness.errors import UserError
from sdb_harness.sample_files import FORMATS, write_samples
from sdb_harness.store import Store


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--against",
    multiple=True,
    required=True,
    metavar="BENCHMARK",
    help="Benchmark with options, as in `sdbench run`; may be given several times.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    default=("text",),
    show_default=True,
    help="Column with the text; several are joined.",
)
@click.option(
    "--clean",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the other documents here, packed if the name ends in .gz.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write one JSON line per overlap.",
)
def decontaminate(
    data: Path,
    against: tuple[str, ...],
    columns: tuple[str, ...],
    clean: Path | None,
    report: Path | None,
) -> None:
    """Find documents of DATA (JSON lines, .gz or not) that contain a benchmark's problems.

    A document overlaps if it shares ten words in a row with a problem's prompt and reference
    solution. Words are separated by white space; upper and lower case are the same.

    \b
    sdbench decontaminate train.jsonl --against humaneval --clean train.clean.jsonl
    """  # noqa: D301
    from sdb_harness.decontaminate import (
        NGRAM_WORDS,
        NgramIndex,
        batch_documents,
        open_lines,
        read_documents,
        write_whole,
    )

    for path in filter(None, (clean, report)):
        if path.resolve() == data.resolve():
            raise UserError(f"{path} is the data itself; write what is found to another file")
    if clean and report and clean.resolve() == report.resolve():
        raise UserError(f"--clean and --report are both {clean}; name two files")
    benchmarks = [load_benchmark(spec) for spec in against]
    index = NgramIndex(benchmarks)
    num_documents, overlapping = 0, 0
    hits: Counter[str] = Counter()
    bars = (BarColumn(), DownloadColumn(), SpeedColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        file = stack.enter_context(open_lines(data))
        cleaned = stack.enter_context(write_whole(clean)) if clean else None
        listed = stack.enter_context(write_whole(report)) if report else None
        console = Console(stderr=True)
        bar = stack.enter_context(
            Progress(*bars, console=console, transient=True, disable=not console.is_terminal)
        )
        task = bar.add_task("", total=data.stat().st_size if data.suffix != ".gz" else None)
        for batch in batch_documents(read_documents(file, str(data), columns)):
            overlaps = {o.position: o for o in index.find([d.text for d in batch])}
            for position, document in enumerate(batch):
                overlap = overlaps.get(position)
                if overlap is None:
                    if cleaned is not None:
                        cleaned.write(document.line.rstrip(b"\n") + b"\n")
                    continue
                hits.update(overlap.problem_ids)
                if listed is not None:
                    row = {
                        "line": document.line_number,
                        "problems": overlap.problem_ids,
                        "words": overlap.ngram,
                    }
                    listed.write(json.dumps(row).encode() + b"\n")
            num_documents += len(batch)
            overlapping += len(overlaps)
            bar.update(task, completed=file.tell())
        if not num_documents:
            raise UserError(f"{data} holds no document; give JSON lines, one document each")
    share = overlapping / num_documents
    click.echo(
        f"{overlapping:,} of {num_documents:,} documents ({share:.3%}) share {NGRAM_WORDS} words "
        "in a row with a problem"
    )
    for benchmark in benchmarks:
        found = sum(problem.problem_id in hits for problem in benchmark.problems)
        click.echo(f"{benchmark.name}: {found} of {len(benchmark.problems)} problems found")


@click.command()
@click.argument("store", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--format",
    "form",
    default="human-eval",
    show_default=True,
    type=click.Choice(FORMATS),
    help="Whose sample file: completions (human-eval, lm-eval) or whole programs.",
)
@click.option("--cell", help="First digits of a cell's hash, where the store holds several.")
def export(store: Path, out: Path, form: str, cell: str | None) -> None:
    """Write the judged programs of STORE as a sample file OUT of another harness.

    \b
    sdbench export runs/demo/store.sqlite samples.jsonl --format evalplus
    sdbench run --benchmark humaneval --protocol as-is --generator replay:samples.jsonl
    """  # noqa: D301
    with Store.open_for_reading(store) as opened:
        cells = opened.list_cells()
        chosen = [cell_hash for cell_hash in cells if cell_hash.startswith(cell or "")]
        if len(chosen) != 1:
            known = "; ".join(
                f"{cell_hash[:8]} ({one.generator} on {one.benchmark}, {one.protocol})"
                for cell_hash, one in list(cells.items())[:20]
            )
            raise UserError(f"--cell {cell or ''} names {len(chosen)} cells; {store} holds {known}")
        rows = list(opened.iterate_rows(chosen[0]))
    if not rows:
        raise UserError(f"cell {chosen[0]} of {store} holds no judged program; run it first")
    benchmark = load_benchmark(cells[chosen[0]].benchmark)
    if benchmark.revision != cells[chosen[0]].benchmark_revision:
        raise UserError(
            f"{store} holds answers to another revision of {benchmark.name} than its data here; "
            "export it where those data are"
        )
    text = write_samples(rows, form, benchmark.problems)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; name another file") from error
    click.echo(f"{len(rows)} programs: {out}")
