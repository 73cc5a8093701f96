"""`corruption-mix`: Eq. 6 with edits never, in the last part of the steps, or from the start.

Every arm continues the shipped checkpoint for the same number of steps. Beside pass@1, finished
blocks with wrong tokens in them are shown to each model: does it find them, does it leave the
others alone, and is it as often right as it is sure?
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.corruption import (
    MAX_EDIT_RATIO,
    Weighting,
    draw_replacements,
    edit_tokens,
)
from sdb_reference_model.data import collate
from sdb_reference_model.edits import weigh_tokens
from sdb_reference_model.experiments.answering import answer, make_block_sampler
from sdb_reference_model.experiments.laboratory import (
    Estimate,
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
from sdb_reference_model.experiments.mistakes import draft
from sdb_reference_model.experiments.tuning import (
    SHARED_COLUMNS,
    START,
    TuningConfig,
    answer_both,
    tabulate,
)
from sdb_reference_model.policies import edit_above
from sdb_reference_model.states import compute_logits, read_slabs, split
from sdb_reference_model.train import train
from sdb_reference_model.train_config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_BINS = 15
"""Of the calibration error, equal steps of confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixConfig(TuningConfig):
    """Of `corruption-mix`."""

    size: str = "demo"
    num_train_steps: int = 200
    batch_size: int = 16
    block_sizes: tuple[int, ...] = (4, 8, 16, 32)
    weighting: Weighting = "uniform"
    """As `demo-scratch` was trained."""
    muon_lr: float = 0.005
    adam_lr: float = 0.00075
    edit_threshold: float = 0.9
    """Of the answers that may be edited."""
    edit_budget: int = 8


MIXES = {"mask only": 0.0, "80 / 20": 0.2, "edits from the start": 1.0}
"""Arm -> part of the steps that has both terms of Eq. 6."""


def plan_mix(config: MixConfig) -> list[str]:
    return [START, *MIXES]


def measure_mix(config: MixConfig, arm: str, seed: int, supplies: Supplies, work: Path) -> Row:
    checkpoint = load_checkpoint(config.checkpoint)
    if arm in MIXES:
        training = replace(make_training(config, seed), edit_fraction=MIXES[arm])
        folder = work / f"{arm.replace(' ', '').replace('/', '-')}-{seed}"
        checkpoint = train_on(training, supplies, folder)
    exam = take_exam(config, supplies, seed)
    row = answer_both(config, checkpoint, exam)
    policy, editing = (
        f"threshold:{config.threshold}",
        edit_above(config.edit_threshold, config.edit_budget),
    )
    sample = make_block_sampler(
        checkpoint, config.block_size, policy, config.max_new_tokens, editing
    )
    _, edited = answer(checkpoint, exam, sample, batch_size=config.num_problems)
    row |= {"edited_passed": edited["passed"]}
    for source in ("uniform", "draft"):
        probe = probe_visible(config, checkpoint, exam, source, seed)
        row |= {f"{source}_{key}": value for key, value in probe.items()}
    return row


def make_training(config: MixConfig, seed: int) -> TrainConfig:
    """How every arm continues the shipped checkpoint, but for its edits."""
    return TrainConfig(
        size=config.size,
        objective="diffusion",
        init_from=config.checkpoint,
        batch_size=config.batch_size,
        num_train_steps=config.num_train_steps,
        warmup_steps=config.num_train_steps // 20,
        adam_lr=config.adam_lr,
        muon_lr=config.muon_lr,
        optimizer="muon",
        decay_fraction=0.5,
        seed=1 + seed,
        block_sizes=config.block_sizes,
        weighting=config.weighting,
        data={
            "num_examples": config.num_train_steps * config.batch_size,
            "seed": 11 + seed,
            "mixture": {f"level-{level}": 1.0 for level in config.levels},
        },
    )


def train_on(training: TrainConfig, supplies: Supplies, folder: Path) -> Checkpoint:
    """Train, or resume what a killed run has left in the folder."""
    train(
        training,
        supplies.make_data(training.data),
        folder,
        provenance=supplies.provenance,
        on_report=lambda report: None,
        save_every=50,
    )
    return load_checkpoint(str(folder))


@torch.no_grad()
def probe_visible(
    config: MixConfig,
    checkpoint: Checkpoint,
    exam: Exam,
    source: Literal["uniform", "draft"],
    seed: int,
) -> Row:
    """Show finished blocks with wrong tokens in them and ask for every token again.

    A tenth of the tokens of each reference, at least one, is substituted: by any token, or by one
    that the start model's own distribution offers. The drafts are those of the shipped checkpoint
    for every arm, so that all arms are shown the same errors.

    Returns:
        `injected` and `repaired` (the wrong tokens of an answer, and those whose most probable
        token is the true one), `intact` and `alarmed` (right tokens, and those which the model
        would replace), and `bins`: per confidence bin [positions, sum of confidence, right ones].
    """
    start = load_checkpoint(config.checkpoint)
    tokenizer, model = start.tokenizer, checkpoint.model
    generator = torch.Generator().manual_seed(seed)
    references = tokenizer.encode_batch(exam.references, is_start=False)
    answers = [[*ids, tokenizer.end_id] for ids in references]
    prompts = tokenizer.encode_batch(exam.prompts)
    batch = collate(prompts, answers, tokenizer.pad_id, tokenizer.end_id, config.block_size)
    weights = weigh_tokens(tokenizer, model.config.vocab_size)
    if source == "draft":
        replacements = draft(start, batch, weights, config.block_size, generator)
    else:
        replacements = draw_replacements(batch.answer, weights, generator)
    lengths = batch.answer_lengths - 1
    shown = edit_tokens(
        batch.answer,
        lengths,
        (lengths * MAX_EDIT_RATIO).long().clamp(min=1),
        replacements,
        substitution_share=1.0,
        generator=generator,
    )
    slabs = split(shown, config.block_size)
    hidden = read_slabs(model, batch, slabs, range(slabs.shape[1])).flatten(1, 2)
    logits = compute_logits(hidden.flatten(0, 1), model.head_weight, tokenizer.mask_id)
    confidence, choice = logits.softmax(dim=-1).max(dim=-1)
    confidence, choice = confidence.view_as(shown), choice.view_as(shown)
    is_text = torch.arange(shown.shape[1])[None] < lengths[:, None]
    is_wrong, is_right = is_text & (shown != batch.answer), is_text & (shown == batch.answer)
    is_found = choice == batch.answer
    place = (confidence[is_text] * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    bins = torch.zeros(NUM_BINS, 3, dtype=torch.float64)
    ones = torch.ones_like(confidence[is_text])
    facts = torch.stack((ones, confidence[is_text], is_found[is_text].float()), dim=1).double()
    bins.index_add_(0, place, facts)
    return {
        "injected": is_wrong.sum(dim=1).tolist(),
        "repaired": (is_wrong & is_found).sum(dim=1).tolist(),
        "intact": is_right.sum(dim=1).tolist(),
        "alarmed": (is_right & (choice != shown)).sum(dim=1).tolist(),
        "bins": [[round(value, 4) for value in own] for own in bins.tolist()],
    }


def compute_calibration_error(bins: Sequence[Sequence[float]]) -> float:
    """Expected calibration error: mean over positions of |share right - mean confidence|."""
    total = sum(count for count, _, _ in bins)
    return sum(abs(right - confidence) for _, confidence, right in bins) / total


def spread(values: Sequence[float]) -> Estimate:
    """Mean, and the smallest and greatest of the seeds."""
    return Estimate(sum(values) / len(values), min(values), max(values))


def report_mix(config: MixConfig, rows: Sequence[Row]) -> Report:
    arms = plan_mix(config)

    def measure_extra(arm: str) -> dict[str, Any]:
        extra: dict[str, Any] = {
            "edited %": estimate(select(rows, arm, "edited_passed"), are_runs=True)
        }
        for source in ("uniform", "draft"):
            for name, part, whole in (
                ("repaired", "repaired", "injected"),
                ("alarms", "alarmed", "intact"),
            ):
                pair = (select(rows, arm, f"{source}_{k}") for k in (part, whole))
                extra[f"{name}, {source} %"] = estimate_ratio(*pair, are_runs=True)
            errors = [compute_calibration_error(b) for b in select(rows, arm, f"{source}_bins")]
            extra[f"ECE, {source} %"] = spread(errors)
        return extra

    lines = tabulate(rows, arms, measure_extra)
    columns = {
        **SHARED_COLUMNS,
        "edited %": "pass@1 at the threshold when visible tokens may be "
        f"edited above {config.edit_threshold}",
    }
    for source, text in (
        ("uniform", "any tokens"),
        ("draft", "tokens that the start model offers"),
    ):
        columns |= {
            f"repaired, {source} %": f"injected errors ({text}) whose most probable token is the "
            "true one",
            f"alarms, {source} %": "right visible tokens that the model would replace",
            f"ECE, {source} %": "calibration error of visible tokens, "
            f"{NUM_BINS} bins; in brackets the smallest and greatest of the seeds",
        }
    by_arm = {line["arm"]: line for line in lines}
    plain, late, early = (by_arm[arm] for arm in MIXES)

    def versus(key: str) -> str:
        own = (plain, late, early)
        return ", ".join(say(line[key], points=True) for line in own)

    reading = (
        f"{config.num_train_steps} steps of {config.batch_size} examples from the same start, "
        f"{config.num_seeds} runs each; numbers are for mask only, 80 / 20 and edits from the "
        f"start. pass@1 at one token per forward: {versus('one by one %')} %. Injected errors "
        f"repaired: {versus('repaired, uniform %')} % of uniform ones and "
        f"{versus('repaired, draft %')} % of the model's own kind; right tokens that would be "
        f"replaced: {versus('alarms, uniform %')} %. Calibration error of visible tokens: "
        f"{versus('ECE, uniform %')} %. Repeated n-grams at threshold {config.threshold}: "
        f"{versus('repetition %')} %. With editing allowed, pass@1 is {versus('edited %')} % "
        f"against {versus('pass@1 %')} % without, at that threshold."
    )

    def draw(figure: "Figure") -> None:
        draw_panels(
            figure,
            lines,
            {
                "one by one %": "pass@1, one by one",
                "repaired, uniform %": "injected errors repaired",
                "ECE, uniform %": "calibration error of visible",
            },
        )

    return Report([Table("Mask and edit, equal steps", columns, lines)], reading, draw)


CORRUPTION_MIX = Experiment(
    "corruption-mix",
    "Mask only, 80 % mask then mask + edit, or edits from the start: what do equal steps give in "
    "pass@1, calibration and repair of wrong visible tokens?",
    MixConfig,
    plan_mix,
    measure_mix,
    report_mix,
)
