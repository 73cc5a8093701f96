"""The commands `sdbench train` and `sdbench generate` (or `sample`): straight to the model."""

import os
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sdb_harness.cli_phases import constrained, distill, onpolicy
from sdb_harness.errors import UserError
from sdb_harness.tensorboard import TensorBoard

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from sdb_reference_model.train_config import TrainConfig


@click.group(invoke_without_command=True)
@click.option(
    "--config",
    "config_name",
    help="demo-diffusion, demo-edit, demo-ar, demo-mask, demo-scratch, or a TOML file like these.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for state, log and checkpoint.  [default: runs/train/CONFIG]",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@click.option("--tensorboard", is_flag=True, help="Write events into OUT/tensorboard too.")
@click.option("--dry-run", is_flag=True, help="Print what it will need; train nothing.")
@click.pass_context
def train(
    context: click.Context,
    config_name: str | None,
    out: Path | None,
    threads: int | None,
    tensorboard: bool,
    dry_run: bool,
) -> None:
    """Train a model; run the same command again to resume after any stop.

    Without a further command this is pre-training. The folder then holds model.safetensors,
    config.json and tokenizer.json, which `sdbench run --generator seed_diffusion:FOLDER` reads,
    and log.jsonl. On N GPUs: `torchrun --nproc-per-node N --no-python sdbench train ...`.
    """
    if context.invoked_subcommand is not None:
        if config_name or out or threads or tensorboard or dry_run:
            raise UserError(f"write options behind the command: train {context.invoked_subcommand}")
        return
    if config_name is None:
        raise UserError("give --config, for example demo-diffusion")
    import torch

    from sdb_harness.hardware import describe_hardware
    from sdb_harness.provenance import build_manifest

    if find_spec("datasets") is None:
        raise UserError("training needs one more package; pip install seed-diffusion-bench[train]")
    from sdb_harness.training_data import read_training_data
    from sdb_reference_model.train import StepReport
    from sdb_reference_model.train import train as run_training
    from sdb_reference_model.train_config import load_config

    config = load_config(config_name)
    out = out or Path("runs/train") / Path(config_name).stem
    board = TensorBoard(out / "tensorboard") if tensorboard else None
    if threads is not None:
        torch.set_num_threads(threads)
    # Under torchrun one process speaks for all.
    console = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")
    console.print("making the data set", highlight=False)
    dataset = read_training_data(config.data)
    if dry_run:
        print_estimate(config, dataset)
        return
    manifest = build_manifest(describe_hardware(), {"threads": str(torch.get_num_threads())})
    provenance = manifest.model_dump(exclude={"run_id", "started_at"})
    columns = (
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("tokenizing", total=config.num_train_steps)

        def show(report: StepReport) -> None:
            edit = f" + edit {report.edit_loss:.3f}" if report.edit_ratio else ""
            speed = f"loss {report.mask_loss:.3f}{edit}  {report.tokens_per_s:,.0f} tokens/s"
            progress.update(task, completed=report.train_step, description=speed)
            if board is not None:
                board.write(report.train_step, asdict(report))

        folder = run_training(config, dataset, out, on_report=show, provenance=provenance)
    console.print(f"checkpoint: {folder}", highlight=False)


def print_estimate(config: "TrainConfig", dataset: "Dataset | IterableDataset") -> None:
    """Print memory, arithmetic and time of a run, from the lengths of its first examples."""
    import torch

    from sdb_reference_model.attention import choose_kernel
    from sdb_reference_model.checkpoint import load_checkpoint
    from sdb_reference_model.data import BatchStream, take, tokenize
    from sdb_reference_model.estimate import estimate_training, measure_padding
    from sdb_reference_model.parallel import World, choose_dtype
    from sdb_reference_model.preparation import check_pieces, find_shape, make_tokenizer

    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    sample = take(dataset, max(4096, config.batch_size))
    start = load_checkpoint(config.init_from) if config.init_from else None
    tokenized = tokenize(sample, make_tokenizer(config, start, sample))
    stream = BatchStream(tokenized, config.batch_size, 0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_pieces(config, World(0, num_ranks, device))
    dtype = choose_dtype(config.precision, device)
    shape = find_shape(config, start)
    kernel = choose_kernel(config.attention_kernel, device, shape.head_dim)
    estimate = estimate_training(config, shape, stream, num_ranks, dtype)
    padding, packed_padding = measure_padding(config, stream, num_ranks)
    rows = (
        ("parameters", f"{estimate.num_parameters:,}"),
        ("ranks", f"{num_ranks} ({device.type}, {str(dtype).removeprefix('torch.')})"),
        ("attention", kernel),
        ("weights, gradients, optimizer", f"{estimate.state_bytes / 2**30:.2f} GiB a rank"),
        ("activations of one piece", f"{estimate.activation_bytes / 2**30:.2f} GiB a rank"),
        ("positions per step", f"{estimate.positions_per_step:,}"),
        ("padding beside them", f"{padding:.1%}, packed {packed_padding:.1%}"),
        ("arithmetic per step", f"{estimate.flops_per_step:.2e} operations"),
        (
            "matrix products here",
            f"{estimate.matmul_flops_per_s:.2e} operations/s a rank, measured",
        ),
        ("time per step, at least", f"{estimate.step_s:.2f} s"),
        ("whole run, at least", f"{estimate.step_s * config.num_train_steps / 3600:.1f} h"),
    )
    table = Table(show_header=False, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


train.add_command(distill)
train.add_command(constrained)
train.add_command(onpolicy)


@click.command()
@click.argument("prompt")
@click.option(
    "--checkpoint",
    "--model",
    "checkpoint",
    default="demo-onpolicy",
    show_default=True,
    help="Name, folder, or hf:FOLDER_OR_ID.",
)
@click.option("--block-size", type=click.IntRange(min=1), help="Tokens per block.  [default: 16]")
@click.option(
    "--threshold",
    type=click.FloatRange(0.0, 1.0),
    help="Commit tokens more probable than this; 1.0 = one token per forward.  [default: 0.99, but "
    "--policy prefix:0.9 for the shipped models and others on a causal past]",
)
@click.option("--num-steps", type=click.IntRange(min=1), help="Or: so many steps per block.")
@click.option("--policy", help="Or another one: entropy:0.2, edit:0.9:0.9:4, remdm-cap:0.1:8, ...")
@click.option(
    "--suffix",
    help="Source behind a gap: fill it, given both sides, which then share one block.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    help="Length of the answer at most, or of the gap.  [default: 64, with --suffix 24]",
)
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(min=0.0))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
@click.option(
    "--weights",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "bfloat16", "e4m3"]),
    help="Fewer bits, other answers; e4m3 rounds head and body to 8, and gains no speed on a CPU.",
)
@click.option(
    "--sampler",
    type=click.Choice(["blocks", "replayed", "compiled"]),
    help="replayed: one step, replayed without questions, a CUDA graph on a GPU; the same tokens, "
    "no speed on a CPU. compiled: the same of a step that torch.compile made. Default: replayed "
    "where the model is on a GPU, else blocks.",
)
@click.option("--show", is_flag=True, help="Show the block being denoised, live.")
def generate(
    prompt: str,
    checkpoint: str,
    block_size: int | None,
    threshold: float | None,
    num_steps: int | None,
    policy: str | None,
    suffix: str | None,
    max_new_tokens: int | None,
    temperature: float,
    seed: int,
    weights: str,
    sampler: str | None,
    show: bool,
) -> None:
    """Continue PROMPT, source code with a signature and a docstring, by diffusion.

    An autoregressive checkpoint continues it token by token, without blocks and threshold.
    `generate` and `sample` are the same command.

    A sentence without `def` is wrapped into a function of one list, which is what the demo model
    knows; a `\\n` in PROMPT or --suffix is a line break.

    \b
    Examples:
      sdbench generate "Keep the even numbers, then take their sum." --show
      sdbench generate "Keep the even numbers, then take their sum." --policy entropy:0.2
      sdbench generate "def f(nums):\\n    return sum(" --suffix ")\\n" --max-new-tokens 8
    """  # noqa: D301
    import torch

    from sdb_reference_model.checkpoint import load_checkpoint
    from sdb_reference_model.generate import Sampling, generate_text
    from sdb_reference_model.memory import explain_out_of_memory, place

    if suffix is not None and block_size is not None:
        raise UserError("a gap and its suffix share one block; leave --block-size out")
    loaded = load_checkpoint(checkpoint, torch.bfloat16 if weights == "bfloat16" else torch.float32)
    if threshold is None and num_steps is None and policy is None:
        # Surest from the left, as its autoregressive start was; a gap knows its right side too.
        if loaded.attention == "causal_past" and suffix is None:
            policy = "prefix:0.9"
        else:
            threshold = 0.99
    sampling = Sampling(
        block_size=block_size or 16,
        max_new_tokens=max_new_tokens or (64 if suffix is None else 24),
        threshold=threshold,
        num_steps=num_steps,
        policy=policy,
        temperature=temperature,
    )
    behind = None if suffix is None else suffix.replace("\\n", "\n")
    source = prompt.replace("\\n", "\n")
    if "def " not in source:
        source = f'def solve(nums):\n    """{source}"""\n'
    place(loaded.model)
    if weights == "e4m3":
        loaded.model.quantise()
    console = Console()
    with Live(console=console, auto_refresh=False) as live:

        def draw(done: str, pending: str, rest: str = "") -> None:
            parts = ((source, "dim"), (done, "bold"), (pending, "cyan"), (rest, "dim"))
            live.update(Text.assemble(*parts), refresh=True)

        try:
            result = generate_text(
                loaded,
                source,
                sampling,
                suffix=behind,
                seed=seed,
                sampler=sampler,
                on_frame=draw if show else None,
            )
        except torch.OutOfMemoryError as error:
            num_positions = len(loaded.tokenizer.encode(source + (behind or "")))
            num_positions += sampling.max_new_tokens
            raise UserError(explain_out_of_memory(loaded.model, 1, num_positions)) from error
        draw(result.text, "", behind or "")
    generation = result.generation
    num_forwards = generation.nfe_denoise + generation.nfe_commit
    num_tokens = len(generation.token_ids)
    seconds = "" if show else f" in {generation.commit_times_s[-1]:.3f} s"  # the show has pauses
    console.print(
        f"{num_tokens} tokens{seconds}; {num_forwards} forwards, "
        f"{num_tokens / num_forwards:.2f} tokens per forward",
        style="dim",
        highlight=False,
    )
