"""The command `sdbench decontaminate`: what concerns training data and no model."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from sdb_harness.benchmarks import load_benchmark


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
@click.option("--clean", type=click.Path(path_type=Path), help="Write the other documents here.")
@click.option("--report", type=click.Path(path_type=Path), help="Write one JSON line per overlap.")
def decontaminate(
    data: Path,
    against: tuple[str, ...],
    columns: tuple[str, ...],
    clean: Path | None,
    report: Path | None,
) -> None:
    r"""Find documents of DATA (JSON lines, .gz or not) that contain a benchmark's problems.

    A document overlaps if it shares ten words in a row with a problem's prompt and reference
    solution. Words are separated by white space; upper and lower case are the same.

    \b
    sdbench decontaminate train.jsonl --against humaneval --clean train.clean.jsonl
    """
    from sdb_harness.decontaminate import (
        NGRAM_WORDS,
        NgramIndex,
        batch_documents,
        open_lines,
        read_documents,
    )

    benchmarks = [load_benchmark(spec) for spec in against]
    index = NgramIndex(benchmarks)
    num_documents, overlapping = 0, 0
    hits: Counter[str] = Counter()
    bars = (BarColumn(), DownloadColumn(), SpeedColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        file = stack.enter_context(open_lines(data))
        cleaned = stack.enter_context(clean.open("wb")) if clean else None
        listed = stack.enter_context(report.open("w")) if report else None
        bar = stack.enter_context(Progress(*bars, console=Console(stderr=True), transient=True))
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
                    listed.write(json.dumps(row) + "\n")
            num_documents += len(batch)
            overlapping += len(overlaps)
            bar.update(task, completed=file.tell())
    share = overlapping / num_documents if num_documents else 0.0
    click.echo(
        f"{overlapping:,} of {num_documents:,} documents ({share:.3%}) share {NGRAM_WORDS} words "
        "in a row with a problem"
    )
    for benchmark in benchmarks:
        found = sum(problem.problem_id in hits for problem in benchmark.problems)
        click.echo(f"{benchmark.name}: {found} of {len(benchmark.problems)} problems found")
