"""`attention`: training without blocks, as the paper has it, against training with them.

The paper trains with full attention, samples block by block with finished blocks cached, and says
that no block-specific training is needed. Here the same start is fine-tuned twice on the same data,
under the block mask and under full attention, and each model is sampled in three ways:

    cached       a block sees prompt and finished blocks, whose keys and values stay as they are:
                 the paper's sampling; exact for the block mask, `past.Cached`
    dual cached  it sees the masks behind it too; all else is as old as the block, `past.DualCached`
    recomputed   the same with nothing cached, one forward of everything per step: what a model of
                 full attention was trained for, `past.FullUncached`

Choice: under full attention an answer is filled with end tokens to `max_new_tokens`, the canvas of
the sampler, whatever its length: else the number of masks would tell training how long it is.

What this does not do: train from nothing. Every shipped start was trained under the block mask, so
the full arm has to change its habits in the same few steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.data import collate
from sdb_reference_model.experiments.answering import COLUMNS, summarise
from sdb_reference_model.experiments.laboratory import (
    Estimate,
    Exam,
    Experiment,
    Report,
    Row,
    Supplies,
    Table,
    compare,
    draw_panels,
    estimate,
    say,
    select,
    take_exam,
)
from sdb_reference_model.experiments.mixing import MixConfig, make_training, train_on
from sdb_reference_model.experiments.tuning import START, answer_both
from sdb_reference_model.objective import Attention, compute_diffusion_loss
from sdb_reference_model.past import Cached, DualCached, FullUncached, Past

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConfig(MixConfig):
    """Of `attention`; the rates are those of `demo-edit`."""

    num_train_steps: int = 300
    muon_lr: float = 0.01
    adam_lr: float = 0.0015
    num_draws: int = 8
    """Corruptions of each held-out answer, for the loss."""


TRAININGS: dict[str, Attention] = {"blocks": "block_causal", "full": "full"}
PASTS: dict[str, Past] = {
    "cached": Cached,
    "dual cached": DualCached,
    "recomputed": FullUncached,
}


def plan(config: AttentionConfig) -> list[str]:
    return [START, *TRAININGS]


def measure(config: AttentionConfig, arm: str, seed: int, supplies: Supplies, work: Path) -> Row:
    checkpoint = load_checkpoint(config.checkpoint)
    if arm in TRAININGS:
        training = replace(make_training(config, seed), edit_fraction=0.0)
        if TRAININGS[arm] == "full":
            training = replace(
                training, attention="full", block_sizes=(), canvas_size=config.max_new_tokens
            )
        checkpoint = train_on(training, supplies, work / f"{arm}-{seed}")
    exam = take_exam(config, supplies, seed)
    row: Row = {
        f"{name}_nats": bound_answers(config, checkpoint, exam, attention, seed)
        for name, attention in TRAININGS.items()
    }
    for name, past in PASTS.items():
        answers = answer_both(config, checkpoint, exam, past)
        row |= {f"{name}_{key}": value for key, value in answers.items()}
    return row


@torch.no_grad()
def bound_answers(
    config: AttentionConfig, checkpoint: Checkpoint, exam: Exam, attention: Attention, seed: int
) -> list[float]:
    """Mask term of Eq. 6 for each reference, in nats per answer: an upper bound of -log p.

    Under the block mask the blocks are those of the sampler. An answer has all its end tokens, in
    its last block or up to the end of the canvas.
    """
    tokenizer, size = checkpoint.tokenizer, config.block_size
    multiple = size if attention == "block_causal" else config.max_new_tokens
    prompts = tokenizer.encode_batch(exam.prompts)
    references = tokenizer.encode_batch(exam.references, is_start=False)
    generator = torch.Generator().manual_seed(seed)
    bounds = []
    for prompt, reference in zip(prompts, references, strict=True):
        answer = [*reference, tokenizer.end_id]
        copies = [prompt] * config.num_draws, [answer] * config.num_draws
        batch = collate(*copies, tokenizer.pad_id, tokenizer.end_id, multiple)
        terms = compute_diffusion_loss(
            checkpoint.model, batch, size, tokenizer.mask_id, generator, attention=attention
        )
        bounds.append(round(float(terms.mask) / config.num_draws, 4))
    return bounds


def report(config: AttentionConfig, rows: Sequence[Row]) -> Report:
    arms = plan(config)

    def subtract(arm: str, name: str, other_arm: str, other_name: str) -> Estimate | None:
        if (arm, name) == (other_arm, other_name):
            return None
        own = select(rows, arm, f"{name}_slow_passed")
        other = select(rows, other_arm, f"{other_name}_slow_passed")
        return compare(own, other, are_runs=True)

    def describe(arm: str, name: str) -> dict[str, Any]:
        fast = summarise(rows, arm, f"{name}_fast_", are_runs=True)
        fast.pop("tokens/CPU s")  # answers were made in one batch
        return {
            "arm": f"{arm}, {name}",
            "one by one %": estimate(select(rows, arm, f"{name}_slow_passed"), are_runs=True),
            "minus blocks, cached %": subtract(arm, name, "blocks", "cached"),
            "minus recomputed %": subtract(arm, name, arm, "recomputed"),
            **fast,
        }

    lines = [describe(arm, name) for arm in arms for name in PASTS]
    columns = {
        "arm": "training, and what a block is read against",
        "one by one %": "pass@1 at one token per forward",
        "minus blocks, cached %": "that, minus what training under the block mask gives with exact "
        "caching, paired by seed and problem",
        "minus recomputed %": "that, minus what the same models give with nothing cached, paired",
        **{key: text for key, text in COLUMNS.items() if key != "tokens/CPU s"},
    }
    losses = {
        arm: {
            f"{name}, nats": estimate(select(rows, arm, f"{name}_nats"), are_runs=True)
            for name in TRAININGS
        }
        for arm in arms
    }
    loss_columns = {
        "arm": "",
        "blocks, nats": f"bound of -log p of a held-out answer in blocks of {config.block_size}",
        "full, nats": f"the same under full attention, on a canvas of {config.max_new_tokens}",
    }

    def draw(figure: "Figure") -> None:
        draw_panels(
            figure,
            lines,
            {
                "one by one %": "pass@1, one by one",
                "pass@1 %": f"pass@1, threshold {config.threshold}",
                "tokens/forward": "tokens per forward",
            },
        )

    loss_lines = [{"arm": arm, **values} for arm, values in losses.items()]
    tables = [
        Table("Training and sampling, equal steps", columns, lines),
        Table("Loss on held-out answers", loss_columns, loss_lines),
    ]
    by_arm = {line["arm"]: line for line in lines}
    return Report(tables, read(config, by_arm, losses), draw)


def read(
    config: AttentionConfig,
    lines: Mapping[str, Mapping[str, Any]],
    losses: Mapping[str, Mapping[str, Estimate]],
) -> str:
    """The numbers in words."""
    paper, own, blocks = (lines[x] for x in ("full, cached", "full, recomputed", "blocks, cached"))

    def passes(line: Mapping[str, Any]) -> str:
        return f"{say(line['one by one %'], points=True)} %"

    def differs(line: Mapping[str, Any], key: str) -> str:
        value = line[key]
        is_clear = value.low > 0 or value.high < 0
        return f"{say(value, points=True)} points{'' if is_clear else ', not clear of 0'}"

    def goes(line: Mapping[str, Any]) -> str:
        return f"{say(line['pass@1 %'], points=True)} % at {say(line['tokens/forward'])}"

    return (
        f"{config.num_train_steps} steps of {config.batch_size} examples from "
        f"{config.checkpoint}, itself trained under the block mask; {config.num_seeds} runs each. "
        f"At one token per forward, trained under full attention: {passes(paper)} when sampled as "
        f"in the paper, in cached blocks, {passes(own)} with everything recomputed. Trained under "
        f"the block mask: {passes(blocks)} in cached blocks; full training minus that is "
        f"{differs(paper, 'minus blocks, cached %')} in cached blocks, "
        f"{differs(own, 'minus blocks, cached %')} recomputed. What caching changes after full "
        f"training, against recomputing: blocks {differs(paper, 'minus recomputed %')}; dual cache "
        f"{differs(lines['full, dual cached'], 'minus recomputed %')}. At threshold "
        f"{config.threshold}, pass@1 and tokens per forward: full training, cached {goes(paper)}, "
        f"recomputed {goes(own)}; block training, cached {goes(blocks)}. Bound of a held-out "
        f"answer: {say(losses['full']['full, nats'])} nats after full training under full "
        f"attention, {say(losses['full']['blocks, nats'])} in blocks; "
        f"{say(losses['blocks']['blocks, nats'])} in blocks after block training."
    )


ATTENTION = Experiment(
    "attention",
    "Trained under full attention or under a block mask, equal steps: is block-specific training "
    "needed for sampling in blocks, and what does caching cost?",
    AttentionConfig,
    plan,
    measure,
    report,
)
