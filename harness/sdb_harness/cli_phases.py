"""The later phases of training: `sdbench train distill`, `constrained` and `onpolicy`.

Place in the flow: subcommands of `sdbench train`. This is where verifiers meet training: the
reference model knows them only as callables.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sdb_harness.errors import UserError
from sdb_harness.tensorboard import TensorBoard

if TYPE_CHECKING:
    from sdb_harness.training_data import Exercises
    from sdb_reference_model.trajectories import Verify
    from sdb_sandboxes.rewards import Judge

Command = TypeVar("Command", bound=Callable[..., None])

COLUMNS = (
    TextColumn("{task.completed}/{task.total}"),
    BarColumn(),
    TextColumn("{task.description}"),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


def take_options(example: str) -> Callable[[Command], Command]:
    """Add the options that all phases share."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option(
                "--tensorboard", is_flag=True, help="Write events into OUT/tensorboard too."
            ),
            click.option("--threads", type=click.IntRange(min=1), help="CPU threads."),
            click.option(
                "--out",
                type=click.Path(path_type=Path, file_okay=False),
                help="Folder of the results.  [default: runs/train/CONFIG]",
            ),
            click.option(
                "--config", "config_name", required=True, help=f"{example}, or a TOML file."
            ),
        ):
            command = option(command)
        return command

    return decorate


def prepare(threads: int | None) -> dict[str, Any]:
    """Set the threads and describe machine and versions, for the provenance."""
    import torch

    from sdb_harness.hardware import describe_hardware
    from sdb_harness.provenance import build_manifest

    if find_spec("datasets") is None:
        raise UserError("training needs one more package; pip install seed-diffusion-bench[train]")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("this phase runs in one process; start it without torchrun")
    if threads is not None:
        torch.set_num_threads(threads)
    manifest = build_manifest(describe_hardware(), {"threads": str(torch.get_num_threads())})
    return manifest.model_dump(exclude={"run_id", "started_at"})


def make_verifier(exercises: "Exercises", judge: "Judge") -> "Verify":
    """V from real tests: 1 if every hidden input of the row's problem is answered rightly."""
    from sdb_sandboxes.rewards import Candidate, compute_reward

    def verify(rows: Sequence[int], completions: Sequence[str]) -> list[float | None]:
        candidates = []
        for row, text in zip(rows, completions, strict=True):
            problem = exercises.problems[row]
            program, _ = exercises.protocol.extract(problem, text)
            candidates.append(Candidate(program, problem.check))
        return [compute_reward(verdict) for verdict in judge.verify_batch(candidates)]

    return verify


@click.command()
@take_options("demo-distill")
def distill(config_name: str, out: Path | None, threads: int | None, tensorboard: bool) -> None:
    """Sample trajectories, mark the best, for equation 9.

    Run the same command again to resume. OUT/data then is a data set, OUT/README.md says what its
    columns mean.
    """
    from sdb_harness.training_data import read_exercises
    from sdb_reference_model.checkpoint import load_checkpoint
    from sdb_reference_model.config import read_config
    from sdb_reference_model.distill import DistillConfig
    from sdb_reference_model.distill import distill as run_distillation
    from sdb_sandboxes.rewards import Judge

    provenance = prepare(threads)
    config = read_config(config_name, DistillConfig)
    out = out or Path("runs/train") / Path(config_name).stem
    board = TensorBoard(out / "tensorboard") if tensorboard else None
    exercises = read_exercises(config.data)
    config = replace(config, data=dict(exercises.data))
    console = Console(stderr=True)
    judge = Judge(limits=exercises.limits)
    try:
        with Progress(*COLUMNS, console=console) as progress:
            task = progress.add_task("sampling", total=len(exercises.problems))

            def show(num_done: int, num_winners: int) -> None:
                progress.update(task, completed=num_done, description=f"{num_winners} winners")
                if board is not None:
                    board.write(num_done, {"winners": num_winners})

            run_distillation(
                config,
                load_checkpoint(config.init_from),
                [problem.prompt for problem in exercises.problems],
                out,
                verify=make_verifier(exercises, judge),
                provenance=provenance,
                on_shard=show,
            )
    finally:
        judge.close()
    console.print(f"trajectories: {out}", highlight=False)


@click.command()
@take_options("demo-constrained")
@click.option(
    "--order",
    type=click.Choice(["elbo", "confidence", "random", "left-to-right"]),
    help="Order of the tokens, instead of the configuration's.",
)
def constrained(
    config_name: str,
    out: Path | None,
    threads: int | None,
    tensorboard: bool,
    order: Literal["elbo", "confidence", "random", "left-to-right"] | None,
) -> None:
    """Fine-tune along selected trajectories, equation 9; resumable."""
    from sdb_reference_model.checkpoint import load_checkpoint
    from sdb_reference_model.config import read_config
    from sdb_reference_model.constrained import ConstrainedConfig, fine_tune
    from sdb_reference_model.distill import load_trajectories

    provenance = prepare(threads)
    config = read_config(config_name, ConstrainedConfig)
    out = out or Path("runs/train") / "-".join(filter(None, (Path(config_name).stem, order)))
    if order is not None:
        config = replace(config, order=order)
    board = TensorBoard(out / "tensorboard") if tensorboard else None
    console = Console(stderr=True)
    with Progress(*COLUMNS, console=console) as progress:
        task = progress.add_task("starting", total=config.num_updates)

        def show(update: int, metrics: Any) -> None:
            progress.update(task, completed=update, description=f"loss {metrics['loss']:.3f}")
            if board is not None:
                board.write(update, metrics)

        folder = fine_tune(
            config,
            load_checkpoint(config.init_from),
            load_trajectories(Path(config.trajectories)),
            out,
            provenance=provenance,
            on_update=show,
        )
    console.print(f"checkpoint: {folder}", highlight=False)


@click.command()
@take_options("demo-onpolicy")
@click.option(
    "--verifier",
    type=click.Choice(["sandbox", "learned", "none"]),
    help="V, instead of the configuration's; none shows what happens without one.",
)
def onpolicy(
    config_name: str,
    out: Path | None,
    threads: int | None,
    tensorboard: bool,
    verifier: Literal["sandbox", "learned", "none"] | None,
) -> None:
    """Reduce steps on policy, equations 10 and 11; resumable.

    OUT/log.jsonl holds one line per update, OUT/curves.png shows it.
    """
    from sdb_harness.training_data import read_exercises
    from sdb_reference_model.checkpoint import load_checkpoint
    from sdb_reference_model.config import read_config
    from sdb_reference_model.curves import draw_curves
    from sdb_reference_model.distill import load_trajectories
    from sdb_reference_model.onpolicy import OnPolicyConfig, train_on_policy
    from sdb_reference_model.verifier_head import fit_verifier_head, make_learned_verifier
    from sdb_sandboxes.rewards import Judge

    provenance = prepare(threads)
    config = read_config(config_name, OnPolicyConfig)
    out = out or Path("runs/train") / "-".join(filter(None, (Path(config_name).stem, verifier)))
    if verifier is not None:
        config = replace(config, verifier=verifier)
    board = TensorBoard(out / "tensorboard") if tensorboard else None
    exercises = read_exercises(config.data)
    config = replace(config, data=dict(exercises.data))
    prompts = [problem.prompt for problem in exercises.problems]
    checkpoint = load_checkpoint(config.init_from)
    console = Console(stderr=True)
    judge = Judge(limits=exercises.limits)
    tests = make_verifier(exercises, judge)
    verify = None if config.verifier == "none" else tests
    if config.verifier == "learned":
        pool = load_trajectories(Path(config.trajectories))
        head = fit_verifier_head(checkpoint, pool, config.block_size)
        verify = make_learned_verifier(head, checkpoint, prompts, config.block_size)
        console.print(
            f"learned verifier: {head.held_out_accuracy:.1%} right on held-out candidates, "
            f"{head.held_out_base_rate:.1%} by always giving the more frequent answer",
            highlight=False,
        )
    try:
        with Progress(*COLUMNS, console=console) as progress:
            task = progress.add_task("starting", total=config.num_updates)

            def show(update: int, metrics: Any) -> None:
                text = (
                    f"{metrics['steps_per_answer']:.2f} steps, "
                    f"{metrics['tokens_per_forward']:.2f} tokens/forward, "
                    f"pass@1 {metrics['pass_at_1']:.1%}, KL {metrics['kl']:.4f}"
                )
                progress.update(task, completed=update, description=text)
                if board is not None:
                    board.write(update, metrics)

            folder = train_on_policy(
                config,
                checkpoint,
                prompts,
                out,
                judge=tests,
                verify=verify,
                provenance=provenance,
                on_update=show,
            )
    finally:
        judge.close()
    draw_curves({config_name: out / "log.jsonl"}, out / "curves.png")
    console.print(f"checkpoint: {folder}; curves: {out / 'curves.png'}", highlight=False)
