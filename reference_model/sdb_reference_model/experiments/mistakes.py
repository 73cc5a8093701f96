"""`edit-distribution`: do the errors that the edit process makes look like the model's own?

The edit term of Eq. 6 teaches repair of what process B does to right answers. It can teach repair
of sampling errors as far as both look alike. Both are aligned with the reference by Levenshtein
operations, and three things about an operation are compared: its type, where in the answer it is,
and which class of token it hits.

Choice: a mistake is an operation in a complete greedy answer that fails the tests; an answer that
passes with other words is none. Of several shortest alignments the one with substitutions as far
right as possible is taken, for both sides alike.
"""

import keyword
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.data import collate
from sdb_reference_model.edits import EditProcess, draw_drafts, edit_answers, weigh_tokens
from sdb_reference_model.experiments.answering import answer, make_block_sampler
from sdb_reference_model.experiments.laboratory import (
    NUM_DRAWS,
    Estimate,
    Exam,
    Experiment,
    ExperimentConfig,
    Report,
    Row,
    Supplies,
    Table,
    say,
    select,
    take_exam,
)
from sdb_reference_model.states import Batch, read_slabs, split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["substitute", "delete", "insert"]
KINDS: tuple[Kind, ...] = ("substitute", "delete", "insert")
CLASSES = ("name", "keyword", "number", "operator", "space", "string")
NUM_FIFTHS = 5
FEATURES: dict[str, tuple[int, tuple[Any, ...]]] = {
    "operation": (1, KINDS),
    "position": (2, tuple(range(NUM_FIFTHS))),
    "token class": (3, CLASSES),
}
"""Feature -> (its place in an operation's list, its values)."""

OWN = "own mistakes"


@dataclass(frozen=True, slots=True, kw_only=True)
class MistakesConfig(ExperimentConfig):
    """Of `edit-distribution`."""

    own_policy: str = "threshold:1.0"
    fast_policy: str = "threshold:0.5"
    num_problems: int = 80


def plan(config: MistakesConfig) -> list[str]:
    return [OWN, f"{OWN}, {config.fast_policy}", *EDITS]


EDITS: dict[str, tuple[Literal["uniform", "draft"], float]] = {
    "edits, uniform tokens": ("uniform", 0.5),
    "edits, uniform, substitutions": ("uniform", 1.0),
    "edits, draft tokens": ("draft", 0.5),
    "edits, draft, substitutions": ("draft", 1.0),
}
"""Arm -> (source of new tokens, share of substitutions)."""


def measure(config: MistakesConfig, arm: str, seed: int, supplies: Supplies, work: Path) -> Row:
    """Every operation as [problem, type, fifth of the answer, class], and distances per answer."""
    checkpoint = load_checkpoint(config.checkpoint)
    tokenizer = checkpoint.tokenizer
    exam = take_exam(config, supplies, seed)
    references = tokenizer.encode_batch(exam.references, is_start=False)
    if arm in EDITS:
        generator = torch.Generator().manual_seed(seed)
        source, share = EDITS[arm]
        wrong = edit(checkpoint, exam, references, source, share, config.block_size, generator)
        problems: Sequence[int] = range(len(references))
    else:
        policy = config.own_policy if arm == OWN else config.fast_policy
        sample = make_block_sampler(checkpoint, config.block_size, policy, config.max_new_tokens)
        completions, row = answer(checkpoint, exam, sample, batch_size=config.num_problems)
        flags = zip(row["passed"], row["truncated"], strict=True)
        problems = [i for i, (ok, cut) in enumerate(flags) if not ok and not cut]
        texts = [completions[index] for index in problems]
        wrong = tokenizer.encode_batch(texts, is_start=False)
    operations: list[list[Any]] = []
    distances, lengths, neighbours = [], [], []
    for problem, ids in zip(problems, wrong, strict=True):
        own = align(references[problem], ids)
        if not own:
            continue
        distances.append(len(own))
        lengths.append(len(references[problem]))
        places = [place for _, place, _ in own]
        neighbours.append(sum(is_beside_another(places, index) for index in range(len(places))))
        for kind, place, token in own:
            fifth = min(NUM_FIFTHS - 1, place * NUM_FIFTHS // max(1, len(references[problem])))
            operations.append([problem, kind, fifth, classify(tokenizer.decode([token]))])
    return {
        "operations": operations,
        "distance": distances,
        "length": lengths,
        "clustered": neighbours,
    }


@torch.no_grad()
def edit(
    checkpoint: Checkpoint,
    exam: Exam,
    references: Sequence[Sequence[int]],
    source: Literal["uniform", "draft"],
    substitution_share: float,
    block_size: int,
    generator: torch.Generator,
) -> list[list[int]]:
    """References after process B as training applies it, end tokens left out."""
    tokenizer = checkpoint.tokenizer
    answers = [[*ids, tokenizer.end_id] for ids in references]
    prompts = tokenizer.encode_batch(exam.prompts)
    batch = collate(prompts, answers, tokenizer.pad_id, tokenizer.end_id, block_size)
    weights = weigh_tokens(tokenizer, checkpoint.model.config.vocab_size)
    replacements = None
    if source == "draft":
        replacements = draft(checkpoint, batch, weights, block_size, generator)
    process = EditProcess(weights, substitution_share=substitution_share)
    edited = edit_answers(batch, process, generator, replacements).tolist()
    return [row[: len(ids)] for row, ids in zip(edited, references, strict=True)]


def draft(
    checkpoint: Checkpoint,
    batch: Batch,
    weights: Tensor,
    block_size: int,
    generator: torch.Generator,
) -> Tensor:
    """What the model offers in place of each answer token, every block masked: int64 [B, L]."""
    blank = split(torch.full_like(batch.answer, checkpoint.tokenizer.mask_id), block_size)
    hidden = read_slabs(checkpoint.model, batch, blank, range(blank.shape[1])).flatten(1, 2)
    return draw_drafts(hidden, checkpoint.model, batch.answer, weights, generator)


def align(right: Sequence[int], wrong: Sequence[int]) -> list[tuple[Kind, int, int]]:
    """Shortest list of operations that turns `right` into `wrong`, from the left.

    Returns:
        (type, position in `right`, token): the token that was replaced or deleted, or the new one
        that was inserted before the position.
    """
    rows, columns = len(right), len(wrong)
    cost = np.zeros((rows + 1, columns + 1), dtype=np.int64)
    cost[:, 0], cost[0, :] = np.arange(rows + 1), np.arange(columns + 1)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            cost[i, j] = min(
                cost[i - 1, j - 1] + (right[i - 1] != wrong[j - 1]),
                cost[i - 1, j] + 1,
                cost[i, j - 1] + 1,
            )
    i, j = rows, columns
    operations: list[tuple[Kind, int, int]] = []
    while i or j:
        is_same = i > 0 and j > 0 and right[i - 1] == wrong[j - 1]
        if i and j and cost[i, j] == cost[i - 1, j - 1] + (not is_same):
            if not is_same:
                operations.append(("substitute", i - 1, right[i - 1]))
            i, j = i - 1, j - 1
        elif i and cost[i, j] == cost[i - 1, j] + 1:
            operations.append(("delete", i - 1, right[i - 1]))
            i -= 1
        else:
            operations.append(("insert", i, wrong[j - 1]))
            j -= 1
    return operations[::-1]


def is_beside_another(places: Sequence[int], index: int) -> bool:
    """Whether another operation is at the same or a neighbouring position."""
    others = [place for other, place in enumerate(places) if other != index]
    return any(abs(place - places[index]) <= 1 for place in others)


def classify(text: str) -> str:
    """Class of one token by its text."""
    core = text.strip()
    if not core:
        return "space"
    if keyword.iskeyword(core):
        return "keyword"
    if core.isdigit():
        return "number"
    if core[0] in "\"'":
        return "string"
    return "name" if core.isidentifier() else "operator"


def report(config: MistakesConfig, rows: Sequence[Row]) -> Report:
    arms = plan(config)
    by_problem = {arm: group_operations(rows, arm) for arm in arms}
    counts = {
        (arm, name): count_values(by_problem[arm], place, values)
        for arm in arms
        for name, (place, values) in FEATURES.items()
    }
    lines: list[dict[str, Any]] = []
    for arm in arms:
        distance, length = flatten(rows, arm, "distance"), flatten(rows, arm, "length")
        clustered = flatten(rows, arm, "clustered")
        lines.append(
            {
                "arm": arm,
                "answers": len(distance),
                "edits per answer": float(np.mean(distance)) if distance else 0.0,
                "edits per token %": sum(distance) / max(1, sum(length)),
                "clustered %": sum(clustered) / max(1, sum(distance)),
                **{
                    f"{value} %": share
                    for value, share in zip(
                        KINDS, normalise(counts[arm, "operation"].sum(axis=0)), strict=True
                    )
                },
            }
        )
    first = Table(
        "How many errors, and of which type",
        {
            "arm": "",
            "answers": "wrong answers with at least one error",
            "edits per answer": "Levenshtein distance to the reference, mean",
            "edits per token %": "the same, per token of the reference",
            "clustered %": "errors with another one at the same or the next position",
            **{f"{value} %": "of all errors" for value in KINDS},
        },
        lines,
    )
    distances = {
        (arm, name): measure_distance(counts[OWN, name], counts[arm, name])
        for arm in arms[1:]
        for name in FEATURES
    }
    floor = {name: halve(counts[OWN, name]) for name in FEATURES}
    second = Table(
        f"Total variation distance to '{OWN}'",
        {
            "arm": "'halves' is the distance between two random halves of the own mistakes: what "
            "chance alone gives",
            **{name: "0 equal, 1 disjoint; interval over problems" for name in FEATURES},
        },
        [
            {"arm": f"{OWN}, halves", **floor},
            *({"arm": arm, **{n: distances[arm, n] for n in FEATURES}} for arm in arms[1:]),
        ],
    )
    third = Table(
        "Shares by feature",
        {
            "arm": "",
            **{f"{v} %": "" for v in CLASSES},
            **{f"fifth {k + 1} %": "" for k in range(NUM_FIFTHS)},
        },
        [
            {
                "arm": arm,
                **dict(
                    zip(
                        [f"{v} %" for v in CLASSES],
                        normalise(counts[arm, "token class"].sum(axis=0)),
                        strict=True,
                    )
                ),
                **dict(
                    zip(
                        [f"fifth {k + 1} %" for k in range(NUM_FIFTHS)],
                        normalise(counts[arm, "position"].sum(axis=0)),
                        strict=True,
                    )
                ),
            }
            for arm in arms
        ],
    )
    default = next(iter(EDITS))
    nearest = {
        name: min(EDITS, key=lambda arm, n=name: distances[arm, n].mean)  # type: ignore[misc]
        for name in FEATURES
    }
    reading = (
        f"{lines[0]['answers']} failing answers hold {lines[0]['edits per answer']:.1f} errors "
        f"each, {100 * lines[0]['edits per token %']:.0f} per 100 tokens, against "
        f"{100 * lines[2]['edits per token %']:.0f} of the edit process where it makes any. "
        f"{100 * lines[0]['clustered %']:.0f} % of the own errors stand beside another one, "
        f"{100 * lines[2]['clustered %']:.0f} % of the process's. From '{OWN}' the default "
        f"process ({default}) differs by "
        + ", ".join(f"{say(distances[default, n])} in {n}" for n in FEATURES)
        + " (total variation; chance alone gives "
        + ", ".join(f"{floor[n].mean:.2f}" for n in FEATURES)
        + "). Nearest are "
        + ", ".join(
            f"'{nearest[n]}' in {n} ({distances[nearest[n], n].mean:.2f})" for n in FEATURES
        )
        + "."
    )

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, 3)
        for axes, (name, (_, values)) in zip(panels, FEATURES.items(), strict=True):
            for index, arm in enumerate((OWN, default, "edits, draft tokens")):
                shares = normalise(counts[arm, name].sum(axis=0))
                xs = np.arange(len(values)) + 0.27 * (index - 1)
                axes.bar(xs, shares, width=0.25, label=arm)
            labels = [str(value + 1) if name == "position" else value for value in values]
            axes.set_xticks(range(len(values)), labels, rotation=30)
            axes.set_title(f"share of errors by {name}", fontsize=9)
        panels[0].legend(fontsize=7)

    return Report([first, second, third], reading, draw)


def flatten(rows: Sequence[Row], arm: str, key: str) -> list[int]:
    """One list over all seeds."""
    return [value for own in select(rows, arm, key) for value in own]


def group_operations(rows: Sequence[Row], arm: str) -> list[list[list[Any]]]:
    """Operations of each wrong answer, over all seeds."""
    groups: dict[tuple[int, int], list[list[Any]]] = {}
    for seed, own in enumerate(select(rows, arm, "operations")):
        for operation in own:
            groups.setdefault((seed, operation[0]), []).append(operation)
    return list(groups.values())


def count_values(
    answers: Sequence[Sequence[Sequence[Any]]], place: int, values: Sequence[Any]
) -> "np.ndarray[Any, Any]":
    """How often each value occurs in each answer, float [N, number of values]."""
    counted = [Counter(operation[place] for operation in own) for own in answers]
    table = [[float(counts[value]) for value in values] for counts in counted]
    return np.array(table).reshape(len(answers), len(values))


def normalise(counts: "np.ndarray[Any, Any]") -> list[float]:
    """Shares of the total."""
    return list((counts / max(1.0, float(counts.sum()))).tolist())


def compute_distance(a: "np.ndarray[Any, Any]", b: "np.ndarray[Any, Any]") -> float:
    """Total variation distance of the pooled counts of two sets of answers."""
    pairs = zip(normalise(a.sum(axis=0)), normalise(b.sum(axis=0)), strict=True)
    return 0.5 * sum(abs(x - y) for x, y in pairs)


def measure_distance(a: "np.ndarray[Any, Any]", b: "np.ndarray[Any, Any]") -> Estimate:
    """Distance of two sets of answers, with an interval over answers."""
    return bootstrap_distance(
        compute_distance(a, b), lambda random: (resample(a, random), resample(b, random))
    )


def halve(a: "np.ndarray[Any, Any]") -> Estimate:
    """Distance between random halves of one set: its mean and the range of 95 % of them."""

    def cut(random: np.random.Generator) -> tuple[Any, Any]:
        order = random.permutation(len(a))
        return a[order[: len(a) // 2]], a[order[len(a) // 2 :]]

    return bootstrap_distance(None, cut)


def resample(a: "np.ndarray[Any, Any]", random: np.random.Generator) -> "np.ndarray[Any, Any]":
    """Draw answers with replacement."""
    return a[random.integers(len(a), size=len(a))] if len(a) else a


def bootstrap_distance(
    mean: float | None, draw: Callable[[np.random.Generator], tuple[Any, Any]]
) -> Estimate:
    """Percentiles of the distance over draws of two sets.

    They are biased upward, as the distance of two samples of one distribution is never 0: read a
    distance against that of the halves, and an interval as its spread, not as a test of 0.
    """
    random = np.random.default_rng(0)
    draws = [compute_distance(*draw(random)) for _ in range(NUM_DRAWS // 4)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(float(np.mean(draws)) if mean is None else mean, float(low), float(high))


EDIT_DISTRIBUTION = Experiment(
    "edit-distribution",
    "Do the errors of the edit process look like the model's own mistakes: types, positions, "
    "classes of tokens?",
    MistakesConfig,
    plan,
    measure,
    report,
)
