"""Two experiments about speed and quality of decoding: `block-size` and `ar-vs-diffusion`.

`block-size` is the paper's Fig. 2b, T(b) / T(1) of one forward, beside what it leaves out: quality
and tokens per second at each block size and number of steps. `ar-vs-diffusion` compares the two
shipped checkpoints, of the same size, data and engine.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sdb_kernels import packed
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.experiments.answering import (
    COLUMNS,
    Sample,
    answer,
    make_block_sampler,
    summarise,
)
from sdb_reference_model.experiments.laboratory import (
    Estimate,
    Experiment,
    ExperimentConfig,
    Report,
    Row,
    Supplies,
    Table,
    compare,
    draw_estimates,
    estimate,
    say,
    select,
    take_exam,
)
from sdb_reference_model.past import Cached
from sdb_reference_model.speculative import DiffusionDraft, sample_speculatively

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORWARD = "forward"


def load_packed(name: str) -> Checkpoint:
    """A checkpoint with its weights laid out for this processor, as `sdbench run` uses it."""
    checkpoint = load_checkpoint(name)
    if packed.is_available(checkpoint.model.embedding.weight.device):
        checkpoint.model.pack()
    return checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSizeConfig(ExperimentConfig):
    """Of `block-size`. The model was trained at blocks of 4, 8, 16 and 32."""

    block_sizes: tuple[int, ...] = (4, 16, 32, 64)
    tokens_per_step: tuple[int, ...] = (1, 4)
    """Fixed steps per block: the block size over each of these."""
    thresholds: tuple[float, ...] = (0.9,)
    forward_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """b of T(b) / T(1)."""
    past_tokens: int = 64
    num_repeats: int = 100


def plan_block_size(config: BlockSizeConfig) -> list[str]:
    if not (config.thresholds and 0 < config.tokens_per_step[0] <= min(config.block_sizes)):
        raise ValueError(
            "block-size needs thresholds, and a first number of tokens_per_step that is at most "
            f"the smallest of block_sizes={list(config.block_sizes)}"
        )
    arms = [FORWARD]
    for block_size in config.block_sizes:
        steps = [block_size // k for k in config.tokens_per_step if k <= block_size]
        arms += [f"b={block_size} steps:{number}" for number in steps]
        arms += [f"b={block_size} threshold:{number}" for number in config.thresholds]
    return arms


def measure_block_size(
    config: BlockSizeConfig, arm: str, seed: int, supplies: Supplies, work: Path
) -> Row:
    checkpoint = load_packed(config.checkpoint)
    if arm == FORWARD:
        return {"forward_s": time_forwards(config, checkpoint)}
    size, policy = arm.removeprefix("b=").split()
    exam = take_exam(config, supplies, seed)
    sample = make_block_sampler(checkpoint, int(size), policy, config.max_new_tokens)
    return answer(checkpoint, exam, sample, batch_size=1)[1]


@torch.inference_mode()
def time_forwards(config: BlockSizeConfig, checkpoint: Checkpoint) -> list[float]:
    """Median CPU seconds of one forward of b positions behind a cached past, for each b.

    The sizes take turns, so that a slow moment of the machine meets all of them.
    """
    mask_id = checkpoint.tokenizer.mask_id
    prompt = torch.full((1, config.past_tokens), checkpoint.tokenizer.end_id)
    lengths = torch.tensor([config.past_tokens])
    canvas = torch.full((1, max(config.forward_sizes)), mask_id)
    context = Cached(checkpoint.model, prompt, lengths, canvas, is_folded=False)
    seconds: dict[int, list[float]] = {size: [] for size in config.forward_sizes}
    for _ in range(config.num_repeats + 3):
        for size, own in seconds.items():
            block = canvas[:, :size]
            for _ in range(2):  # the first one pays for what a wider forward left in the caches
                started = time.process_time()
                hidden = context.read(block, block == mask_id)
                packed.multiply(hidden, checkpoint.model.head_operand)
                seconds_taken = time.process_time() - started
            own.append(seconds_taken)
    return [statistics.median(own[3:]) for own in seconds.values()]


def report_block_size(config: BlockSizeConfig, rows: Sequence[Row]) -> Report:
    forwards = select(rows, FORWARD, "forward_s")
    ratios = [[value / own[0] for value in own] for own in forwards]
    relative = [
        Estimate(statistics.mean(own), min(own), max(own)) for own in zip(*ratios, strict=True)
    ]
    first = Table(
        "One forward of b positions",
        {
            "b": "positions of the forward",
            "ms": "median CPU milliseconds, mean over seeds",
            "T(b)/T(1)": "relative to b = 1; in brackets the smallest and greatest of the seeds",
        },
        [
            {"b": size, "ms": 1000 * statistics.mean(own), "T(b)/T(1)": ratio}
            for size, own, ratio in zip(
                config.forward_sizes, zip(*forwards, strict=True), relative, strict=True
            )
        ],
    )
    arms = plan_block_size(config)[1:]
    sums = {arm: summarise(rows, arm) for arm in arms}
    lines = [{"block": arm.split()[0][2:], "rule": arm.split()[1], **sums[arm]} for arm in arms]
    second = Table(
        "Quality and speed",
        {"block": "block size", "rule": "of committing, see `distill.build_policy`", **COLUMNS},
        lines,
    )
    slowest = {b: f"b={b} steps:{b // config.tokens_per_step[0]}" for b in config.block_sizes}
    adaptive = [f"b={b} threshold:{config.thresholds[0]}" for b in config.block_sizes]
    best = max(adaptive, key=lambda arm: sums[arm]["tokens/CPU s"].mean)
    first_block = config.block_sizes[0]
    worst = min(config.block_sizes, key=lambda b: sums[slowest[b]]["pass@1 %"].mean)
    loss = compare(
        select(rows, slowest[worst], "passed"), select(rows, slowest[first_block], "passed")
    )
    coarse = f"b={config.block_sizes[-1]} steps:" + str(
        config.block_sizes[-1] // config.tokens_per_step[-1]
    )
    reading = (
        "A forward of b positions takes T(b) / T(1) = "
        + ", ".join(
            f"{ratio.mean:.2f} (b = {size})"
            for size, ratio in zip(config.forward_sizes, relative, strict=True)
        )
        + f". At {config.tokens_per_step[0]} tokens per step the worst block size is {worst}; "
        f"against {first_block} its pass@1 differs by {say(loss, points=True)} points, paired over "
        f"{config.num_seeds * config.num_problems} problems. With {adaptive[0].split()[1]} the "
        f"fastest setting is {best}: {sums[best]['tokens/CPU s'].mean:.0f} tokens per CPU second "
        f"at {sums[best]['tokens/forward'].mean:.1f} tokens per forward, pass@1 "
        f"{say(sums[best]['pass@1 %'], points=True)} %. A fixed {config.tokens_per_step[-1]} "
        f"tokens per step ({coarse}) gives {say(sums[coarse]['pass@1 %'], points=True)} %."
    )

    def draw(figure: "Figure") -> None:
        left, middle, right = figure.subplots(1, 3)
        draw_estimates(left, config.forward_sizes, relative)
        left.set(title="T(b) / T(1), one forward", xlabel="b", ylabel="relative CPU time")
        for k in config.tokens_per_step:
            sizes = [b for b in config.block_sizes if b >= k]
            for axes, key in ((middle, "pass@1 %"), (right, "tokens/CPU s")):
                own = [sums[f"b={b} steps:{b // k}"][key] for b in sizes]
                draw_estimates(axes, sizes, own, f"{k} per step")
        for threshold in config.thresholds:
            for axes, key in ((middle, "pass@1 %"), (right, "tokens/CPU s")):
                own_sums = [sums[f"b={b} threshold:{threshold}"][key] for b in config.block_sizes]
                draw_estimates(axes, config.block_sizes, own_sums, f"threshold {threshold}")
        middle.set(title="pass@1, 95 % interval", xlabel="block size")
        right.set(title="tokens per CPU second", xlabel="block size")
        for axes in (middle, right):
            axes.set_xscale("log", base=2)
            axes.set_xticks(config.block_sizes, [str(b) for b in config.block_sizes])
            axes.set_ylim(bottom=0)
        middle.legend(fontsize=7)

    return Report([first, second], reading, draw)


BLOCK_SIZE = Experiment(
    "block-size",
    "How do quality and tokens per second depend on block size and steps, and what does a wider "
    "forward cost (the paper's Fig. 2b)?",
    BlockSizeConfig,
    plan_block_size,
    measure_block_size,
    report_block_size,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinConfig(ExperimentConfig):
    """Of `ar-vs-diffusion`."""

    checkpoint: str = "demo-onpolicy"
    twin: str = "demo-ar"
    thresholds: tuple[float, ...] = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


PLAIN = "autoregressive"
LOOKUP, DRAFTED = f"{PLAIN}, prompt lookup", f"{PLAIN}, diffusion drafts"


def plan_twins(config: TwinConfig) -> list[str]:
    if not config.thresholds:
        raise ValueError("thresholds=[] leaves no diffusion setting; name at least one")
    return [
        PLAIN,
        LOOKUP,
        DRAFTED,
        *(f"diffusion threshold:{number}" for number in config.thresholds),
    ]


def measure_twins(config: TwinConfig, arm: str, seed: int, supplies: Supplies, work: Path) -> Row:
    exam = take_exam(config, supplies, seed)
    sample: Sample
    if arm.startswith(PLAIN):
        checkpoint = load_packed(config.twin)
        of_twin = (checkpoint.model, checkpoint.tokenizer)
        sample = partial(sample_tokens, *of_twin, max_new_tokens=config.max_new_tokens)
        if arm != PLAIN:
            guesses: dict[str, Any] = {}
            if arm == DRAFTED:
                draft = DiffusionDraft(load_packed(config.checkpoint).model, checkpoint.tokenizer)
                guesses = {"draft": draft, "num_draft": config.block_size}
            sample = partial(
                sample_speculatively, *of_twin, max_new_tokens=config.max_new_tokens, **guesses
            )
    else:
        checkpoint = load_packed(config.checkpoint)
        policy = arm.split()[1]
        sample = make_block_sampler(checkpoint, config.block_size, policy, config.max_new_tokens)
    return answer(checkpoint, exam, sample, batch_size=1)[1]


def report_twins(config: TwinConfig, rows: Sequence[Row]) -> Report:
    arms = plan_twins(config)
    sums = {arm: summarise(rows, arm) for arm in arms}
    differences = {
        arm: compare(select(rows, arm, "passed"), select(rows, PLAIN, "passed")) for arm in arms
    }
    groups = sorted({group for row in rows for group in row["group"]})
    lines = []
    for arm in arms:
        by_group = {f"{group} %": estimate(take_group(rows, arm, group)) for group in groups}
        difference = None if arm == PLAIN else differences[arm]
        lines.append({"arm": arm, **sums[arm], "minus twin %": difference, **by_group})
    columns = {
        "arm": "",
        **COLUMNS,
        "minus twin %": "pass@1 minus that of plain autoregression, paired by problem",
        **{f"{group} %": f"pass@1 on {group}" for group in groups},
    }
    speed = sums[PLAIN]["tokens/CPU s"].mean
    diffusion = arms[3:]
    best = max(
        diffusion, key=lambda arm: (sums[arm]["pass@1 %"].mean, sums[arm]["tokens/CPU s"].mean)
    )
    fastest = max(diffusion, key=lambda arm: sums[arm]["tokens/CPU s"].mean)
    reading = (
        f"The autoregressive twin passes {say(sums[PLAIN]['pass@1 %'], points=True)} %, the "
        f"diffusion model at its best setting ({best}) {say(sums[best]['pass@1 %'], points=True)} "
        f"%: {say(differences[best], points=True)} points, paired. Per CPU second, one prompt at a "
        f"time, that setting writes {sums[best]['tokens/CPU s'].mean / speed:.2f} times the tokens "
        f"of the twin, the fastest ({fastest}) {sums[fastest]['tokens/CPU s'].mean / speed:.2f} "
        f"times at {say(differences[fastest], points=True)} points; the twin itself, with the same "
        f"tokens, {sums[LOOKUP]['tokens/CPU s'].mean / speed:.2f} times with prompt lookup and "
        f"{sums[DRAFTED]['tokens/CPU s'].mean / speed:.2f} times where the diffusion model drafts "
        f"{config.block_size} tokens in one forward for it to judge. "
        f"{'Some' if differences[best].mean >= -0.02 else 'No'} diffusion setting comes within two "
        "points of the twin's quality in these means."
    )

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        for axes, key in ((left, "tokens/CPU s"), (right, "tokens/forward")):
            for name, own in (
                ("diffusion", diffusion),
                (PLAIN, [PLAIN]),
                (LOOKUP, [LOOKUP]),
                (DRAFTED, [DRAFTED]),
            ):
                xs = [sums[arm][key].mean for arm in own]
                draw_estimates(axes, xs, [sums[arm]["pass@1 %"] for arm in own], name)
            axes.set(xlabel=key, ylabel="pass@1, 95 % interval", ylim=(0, 1))
        for arm in diffusion:
            point = (sums[arm]["tokens/CPU s"].mean, sums[arm]["pass@1 %"].mean)
            left.annotate(
                arm.rpartition(":")[2], point, xytext=(4, 4), textcoords="offset points", fontsize=7
            )
        right.legend(fontsize=7)

    return Report([Table("The two checkpoints", columns, lines)], reading, draw)


def take_group(rows: Sequence[Row], arm: str, group: str) -> list[list[float]]:
    """Whether the problems of one group were passed, seed by seed."""
    groups, passed = select(rows, arm, "group"), select(rows, arm, "passed")
    return [
        [value for value, name in zip(own, names, strict=True) if name == group]
        for own, names in zip(passed, groups, strict=True)
    ]


AR_VS_DIFFUSION = Experiment(
    "ar-vs-diffusion",
    "Same size, data and engine: what does diffusion win in speed, and what does it cost in "
    "quality, against the autoregressive twin, also where that one guesses ahead?",
    TwinConfig,
    plan_twins,
    measure_twins,
    report_twins,
)
