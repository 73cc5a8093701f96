"""`length-handling`: edits that substitute, that are balanced, or that shift and have labels.

Every arm continues the shipped checkpoint for the same number of steps, with edits from the start.
Beside pass@1, the sampler is given finished blocks with one error each, a wrong token, one too many
or one missing, behind their clean past: does its editing bring back the block as it was, all of it?
The editor of an arm is the one that it was trained for; what a deletion has let in from the next
block is part of the error, as it is where a model has forgotten a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.corruption import draw_replacements
from sdb_reference_model.data import collate
from sdb_reference_model.edits import EditLengths, weigh_tokens
from sdb_reference_model.experiments.answering import answer, make_block_sampler
from sdb_reference_model.experiments.laboratory import (
    Exam,
    Experiment,
    Report,
    Row,
    Supplies,
    Table,
    draw_panels,
    estimate,
    estimate_ratio,
    say,
    select,
    take_exam,
)
from sdb_reference_model.experiments.mixing import MixConfig, make_training, train_on
from sdb_reference_model.experiments.tuning import SHARED_COLUMNS, START, answer_both, tabulate
from sdb_reference_model.levenshtein import shift_blocks
from sdb_reference_model.policies import (
    Revision,
    commit_above,
    edit_above,
    label_above,
    start_revision,
)
from sdb_reference_model.sampler import Generation, denoise_block
from sdb_reference_model.selection import make_select
from sdb_reference_model.states import Batch, split
from sdb_reference_model.tokenizer import pad_left

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthsConfig(MixConfig):
    """Of `length-handling`; the rates are those of `demo-edit`."""

    num_train_steps: int = 400
    muon_lr: float = 0.01
    adam_lr: float = 0.0015
    edit_threshold: float = 0.5
    edit_budget: int = 16
    """A whole block, for editors that must rewrite its tail."""


HANDLINGS: dict[str, tuple[EditLengths, float]] = {
    "substitutions": ("balanced", 1.0),
    "balanced": ("balanced", 0.5),
    "labels": ("labels", 0.5),
}
"""Arm -> (lengths, share of substitutions)."""

ERRORS = {"substituted": "a wrong token", "inserted": "one too many", "deleted": "one missing"}


def plan(config: LengthsConfig) -> list[str]:
    return [START, *HANDLINGS]


def measure(config: LengthsConfig, arm: str, seed: int, supplies: Supplies, work: Path) -> Row:
    checkpoint = load_checkpoint(config.checkpoint)
    revision = edit_above(config.edit_threshold, config.edit_budget)
    if arm in HANDLINGS:
        lengths, share = HANDLINGS[arm]
        training = replace(
            make_training(config, seed),
            edit_fraction=1.0,
            edit_lengths=lengths,
            substitution_share=share,
        )
        checkpoint = train_on(training, supplies, work / f"{arm}-{seed}")
        if lengths == "labels":
            revision = label_above(config.edit_threshold, config.edit_budget)
    exam = take_exam(config, supplies, seed)
    row = answer_both(config, checkpoint, exam)
    sample = make_block_sampler(
        checkpoint,
        config.block_size,
        f"threshold:{config.threshold}",
        config.max_new_tokens,
        revision,
    )
    _, edited = answer(checkpoint, exam, sample, batch_size=config.num_problems)
    row |= {"edited_passed": edited["passed"]}
    return row | probe_blocks(config, checkpoint, revision, exam, seed)


def probe_blocks(
    config: LengthsConfig, checkpoint: Checkpoint, revision: Revision, exam: Exam, seed: int
) -> Row:
    """Let an editor loose on blocks of the references, wrong in one place and right.

    Returns:
        Per problem, for each of `ERRORS` and `clean`: `_shown` and `_right`, blocks before and
        blocks that are as they should be after. An error that changes nothing is none.
    """
    # Errors are the same for every arm: those of the start's vocabulary.
    tokenizer = load_checkpoint(config.checkpoint).tokenizer.with_controls()
    control, generator = tokenizer.control_ids, torch.Generator().manual_seed(seed)
    assert control is not None
    references = tokenizer.encode_batch(exam.references, is_start=False)
    answers = [[*ids, tokenizer.end_id] for ids in references]
    prompts = tokenizer.encode_batch(exam.prompts)
    batch = collate(prompts, answers, tokenizer.pad_id, tokenizer.end_id, config.block_size)
    weights = weigh_tokens(tokenizer, checkpoint.model.config.vocab_size)
    replacements = draw_replacements(batch.answer, weights, generator)
    clean, replacements = (split(x, config.block_size) for x in (batch.answer, replacements))
    is_text = clean != tokenizer.end_id
    noise = torch.rand(clean.shape, generator=generator).masked_fill(~is_text, -1.0)
    is_chosen = (noise == noise.amax(dim=2, keepdim=True)) & is_text
    insert, delete = (torch.full_like(clean, i) for i in (control.insert_id, control.delete_id))
    edits = dict(zip(ERRORS, (replacements, insert, delete), strict=True))
    row: Row = {}
    for name, edit in {"clean": clean, **edits}.items():
        labels = torch.where(is_chosen, edit, clean)
        shown = shift_blocks(
            clean, labels, replacements, control, tokenizer.mask_id, tokenizer.end_id
        )
        is_shown = is_text.any(dim=2) if name == "clean" else (shown != clean).any(dim=2)
        is_right = (repair(config, checkpoint, revision, batch, shown) == clean).all(dim=2)
        row[f"{name}_shown"] = is_shown.sum(dim=1).tolist()
        row[f"{name}_right"] = (is_right & is_shown).sum(dim=1).tolist()
    return row


@torch.inference_mode()
def repair(
    config: LengthsConfig,
    checkpoint: Checkpoint,
    revision: Revision,
    batch: Batch,
    blocks: Tensor,
) -> Tensor:
    """What the sampler makes of drafts int64 [B, M, b], each block behind its clean past."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    rows = zip(batch.prompt.tolist(), batch.prompt_lengths.tolist(), strict=True)
    prompts = [ids[-length:] for ids, length in rows]
    chosen = make_select(model.head_operand, tokenizer, temperature=0.0)
    repaired = []
    for index in range(blocks.shape[1]):
        before = batch.answer[:, : index * config.block_size].tolist()
        past = [prompt + text for prompt, text in zip(prompts, before, strict=True)]
        block = blocks[:, index].clone()
        context = checkpoint.choose_past(config.block_size)(
            model,
            pad_left(past, tokenizer.pad_id),
            torch.tensor([len(ids) for ids in past]),
            block,
        )
        denoise_block(
            context,
            tokenizer,
            block,
            commit_above(config.threshold),
            start_revision(revision, tokenizer, len(block), block.device),
            chosen,
            torch.zeros_like(block),
            [Generation() for _ in past],
            None,
            is_draft=torch.ones_like(block, dtype=torch.bool),
        )
        repaired.append(block)
    return torch.stack(repaired, dim=1)


def report(config: LengthsConfig, rows: Sequence[Row]) -> Report:
    arms = plan(config)

    def measure_extra(arm: str) -> dict[str, Any]:
        def rate(name: str) -> Any:
            right, shown = (select(rows, arm, f"{name}_{key}") for key in ("right", "shown"))
            return estimate_ratio(right, shown, are_runs=True)

        return {
            "edited %": estimate(select(rows, arm, "edited_passed"), are_runs=True),
            **{f"{name} %": rate(name) for name in ERRORS},
            "clean %": rate("clean"),
        }

    lines = tabulate(rows, arms, measure_extra)
    columns = {
        **SHARED_COLUMNS,
        "edited %": "pass@1 at the threshold when visible tokens may be edited above "
        f"{config.edit_threshold}, by the arm's own editor",
        **{
            f"{name} %": f"blocks with one error, {text}, that its editing brings back whole"
            for name, text in ERRORS.items()
        },
        "clean %": "blocks without an error that it leaves as they are",
    }
    own = [line for line in lines if line["arm"] != START]

    def versus(key: str) -> str:
        return ", ".join(say(line[key], points=True) for line in own)

    reading = (
        f"{config.num_train_steps} steps of {config.batch_size} examples from the same start, "
        f"{config.num_seeds} runs each; numbers are for {', '.join(HANDLINGS)}. Blocks of "
        f"{config.block_size} with one error that editing above {config.edit_threshold} brings "
        "back whole: "
        + "; ".join(f"{text} {versus(f'{name} %')}" for name, text in ERRORS.items())
        + f" %; right blocks that it leaves alone: {versus('clean %')} %. The start, with the "
        "editor of the first two: "
        + ", ".join(say(lines[0][f"{name} %"], points=True) for name in (*ERRORS, "clean"))
        + f" %. pass@1 at one token per forward: {versus('one by one %')} %; at threshold "
        f"{config.threshold} {versus('pass@1 %')} % without editing and {versus('edited %')} % "
        "with it."
    )

    def draw(figure: "Figure") -> None:
        draw_panels(
            figure,
            lines,
            {f"{name} %": f"repaired: {text}" for name, text in ERRORS.items()},
        )

    return Report([Table("Length handling, equal steps", columns, lines)], reading, draw)


LENGTH_HANDLING = Experiment(
    "length-handling",
    "Edits that substitute, balanced insertions and deletions, or LCS labels: what do equal steps "
    "give in repair of wrong, surplus and missing tokens, in false alarms and in pass@1?",
    LengthsConfig,
    plan,
    measure,
    report,
)
