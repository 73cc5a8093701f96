"""The command `sdbench roofline`: what a GPU allows, before anybody measures."""

import math
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

GPU_NAMES = ("H20", "H100", "H200")
SIZE_NAMES = ("0.5b", "1b", "8b")
PRECISION_NAMES = ("bf16", "fp8-weights", "fp8")
SHARES = (1.0, 0.75, 0.5, 0.25)


@click.command()
@click.option("--gpu", default="H20", show_default=True, type=click.Choice(GPU_NAMES))
@click.option("--size", default="8b", show_default=True, type=click.Choice(SIZE_NAMES))
@click.option("--precision", default="bf16", show_default=True, type=click.Choice(PRECISION_NAMES))
@click.option("--block-size", default=32, show_default=True, type=click.IntRange(min=1))
@click.option("--context", default=1024, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--tokens-per-s",
    default=2146.0,
    show_default=True,
    type=click.FloatRange(min=0.0, min_open=True),
    help="A claimed speed; the default is Seed Diffusion's, over H20 GPUs.",
)
@click.option(
    "--svg",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also draw T(b)/T(1) of 1b and 8b on every GPU into this file.",
)
def roofline(
    gpu: str,
    size: str,
    precision: str,
    block_size: int,
    context: int,
    tokens_per_s: float,
    svg: Path | None,
) -> None:
    """Bound the speed of one forward of a block: batch 1, one GPU, every weight read once.

    \b
    Example:
      sdbench roofline --gpu H20 --size 8b --tokens-per-s 2146
    """  # noqa: D301
    if not math.isfinite(tokens_per_s):
        raise click.BadParameter(f"{tokens_per_s} is no speed", param_hint="--tokens-per-s")
    from sdb_reference_model import roofline as model
    from sdb_reference_model.model import SIZES

    config, hardware = SIZES[size], model.GPUS[gpu]
    storage = model.PRECISIONS[precision]
    bound = model.predict_forward(config, hardware, storage, block_size, context)
    gigabytes = (
        (model.count_body_weights(config) + model.count_head_weights(config))
        * storage.weight_bytes
        / 1e9
    )
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{size} in {precision} on one {gpu} ({hardware.bytes_per_s / 1e12:.2f} TB/s, "
        f"{hardware.flops_per_s / 1e12:.0f} TFLOP/s bf16), batch 1, context {context:,}"
    )
    console.print(
        f"bound  {1e3 * bound.seconds:.2f} ms a forward of {block_size} tokens, "
        f"{1 / bound.seconds:,.0f} forwards/s, by "
        f"{'memory' if bound.is_bound_by_memory else 'arithmetic'}: {gigabytes:.2f} GB of weights; "
        f"body {1e3 * bound.body_s:.2f}, head {1e3 * bound.head_s:.2f}, "
        f"attention {1e3 * bound.attention_s:.2f} ms"
    )
    knee = model.compute_knee(hardware, storage)
    console.print(f"knee   {knee:.0f} tokens per forward: up to there a token more costs nothing")
    needed = "  ".join(
        f"{model.compute_tokens_per_forward(tokens_per_s, bound.seconds, share):.2f} at {share:.0%}"
        for share in SHARES
    )
    console.print(f"{tokens_per_s:,.0f} tok/s needs tokens per forward: {needed} of the bound")

    table = Table("tokens per forward", *map(str, model.BLOCKS), box=None, pad_edge=False)
    forwards = [
        model.predict_forward(config, hardware, storage, b, context).seconds for b in model.BLOCKS
    ]
    table.add_row("ms", *(f"{1e3 * seconds:.2f}" for seconds in forwards))
    table.add_row("forwards/s", *(f"{1 / seconds:,.0f}" for seconds in forwards))
    table.add_row("T(b)/T(1)", *(f"{seconds / forwards[0]:.2f}" for seconds in forwards))
    console.print(table)
    if svg is not None:
        model.draw_slowdown(svg, ("1b", "8b"))
        console.print(f"picture: {svg}")
