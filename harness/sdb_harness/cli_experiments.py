"""`sdbench experiment NAME`: minipy and the sandbox meet the reference model's questions.

Place in the flow: the experiments of `sdb_reference_model.experiments` know problems, tests and
data as callables only; here they are made.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress

from sdb_harness.cli_phases import COLUMNS, prepare
from sdb_sandboxes.types import FunctionCheck

if TYPE_CHECKING:
    from sdb_harness.benchmarks.minipy.generate import Split
    from sdb_reference_model.experiments.laboratory import Exam, Finding
    from sdb_sandboxes.rewards import Judge


def make_exam(
    judge: "Judge", *, split: "Split", levels: Sequence[int], num_problems: int, seed: int
) -> "Exam":
    """Make minipy's problems with their tests, whole and every second one of them."""
    from sdb_harness.benchmarks.minipy import PROTOCOLS, load_problems
    from sdb_reference_model.experiments.laboratory import Exam, Finding
    from sdb_sandboxes.rewards import Candidate
    from sdb_sandboxes.types import Status

    problems = load_problems(split=split, levels=levels, num_problems=num_problems, seed=seed)
    whole: list[FunctionCheck] = []
    for problem in problems:
        assert isinstance(problem.check, FunctionCheck), "minipy calls functions"
        whole.append(problem.check)
    halves = [FunctionCheck(check.entry_point, check.cases[::2]) for check in whole]

    def examine(
        checks: Sequence[FunctionCheck], rows: Sequence[int], completions: Sequence[str]
    ) -> "list[Finding | None]":
        candidates = [
            Candidate(PROTOCOLS["base"].extract(problems[row], text)[0], checks[row])
            for row, text in zip(rows, completions, strict=True)
        ]
        return [
            None
            if verdict.status is Status.INFRASTRUCTURE
            else Finding(
                is_passed=verdict.is_passed,
                is_malformed=verdict.status is Status.COMPILE_ERROR,
                is_undefined_name=any(
                    name in verdict.detail for name in ("NameError", "UnboundLocalError")
                ),
            )
            for verdict in judge.verify_batch(candidates)
        ]

    return Exam(
        prompts=[problem.prompt for problem in problems],
        references=[problem.reference or "" for problem in problems],
        groups=[problem.group or "" for problem in problems],
        judge=partial(examine, whole),
        judge_half=partial(examine, halves),
    )


@click.command()
@click.argument("name")
@click.option(
    "--config", "config_file", help="TOML file with other values than the experiment's defaults."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the results.  [default: runs/experiments/NAME]",
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1))
def experiment(name: str, config_file: str | None, out: Path | None, threads: int) -> None:
    """Run or resume one experiment of the reference model.

    \b
    corruption-mix       edits never, late or always: calibration and repair
    length-handling      edits that substitute, are balanced, or insert and delete by labels
    attention            trained in blocks or under full attention, sampled in three ways
    block-size           quality and speed against block size and steps
    order                fine-tuning along four orders of the same answers
    trajectory-quality   does a trajectory's ELBO predict that its answer passes?
    edit-distribution    do the edit process's errors look like the model's own?
    verifier-robustness  on-policy training under verifiers of falling quality
    ar-vs-diffusion      the two shipped checkpoints side by side

    OUT then holds config.json, rows.jsonl, table.json, table.md, plot.svg and README.md. After a
    kill the same command goes on with what is missing.
    """  # noqa: D301
    provenance = prepare(threads)
    from datasets import disable_progress_bars

    from sdb_harness.benchmarks.minipy import LIMITS
    from sdb_harness.training_data import read_training_data
    from sdb_reference_model.config import read_config
    from sdb_reference_model.experiments import find_experiment
    from sdb_reference_model.experiments.laboratory import Supplies, run
    from sdb_sandboxes.rewards import Judge

    found = find_experiment(name)
    config = found.config() if config_file is None else read_config(config_file, found.config)
    out = out or Path("runs/experiments") / name
    disable_progress_bars()
    console = Console(stderr=True)
    judge = Judge(limits=LIMITS)
    try:
        with Progress(*COLUMNS, console=console) as progress:
            task = progress.add_task("starting", total=None)

            def show(num_done: int, num_units: int, unit: str) -> None:
                progress.update(task, completed=num_done, total=num_units, description=unit)

            report = run(
                found,
                config,
                out,
                Supplies(
                    make_exam=partial(make_exam, judge),
                    make_data=read_training_data,
                    provenance=provenance,
                    on_unit=show,
                ),
            )
    finally:
        judge.close()
    console.print(report.reading, highlight=False, soft_wrap=True)
    console.print(f"results: {out}", highlight=False)
