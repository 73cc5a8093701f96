"""Training examples as the data set that training reads: minipy's, or a user's own.

Place in the flow: `sdbench train` -> `read_training_data(config.data)` -> `train(dataset=...)`; the
later phases, which judge answers, -> `read_exercises(config.data)`. The reference model reads data
sets and never imports the harness; this is the bridge.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset, load_dataset

from sdb_harness.benchmarks import PromptProtocol, jsonl, minipy
from sdb_harness.benchmarks.minipy.families import FAMILIES
from sdb_harness.records import Problem
from sdb_sandboxes.types import ResourceLimits

PARTS = ("families", *(f"level-{level}" for level in minipy.LEVELS))
"""What a mixture may name: compositions of one level, or the dependency-heavy families."""

FAMILY_LEVELS = (1, 2)


def read_training_data(data: Mapping[str, Any]) -> Dataset | IterableDataset:
    """Make the data set that the `[data]` table of a training configuration describes.

    With `source`, a user's own: "hub:NAME", or a local .jsonl, .json, .parquet or .csv file;
    `prompt` and `completion` name its columns, `split` the hub's part, and `streaming = true` reads
    it as training goes instead of into memory first. Without, drawn from minipy.

    Raises:
        ValueError: a missing or unknown key, a value of another kind, or nothing to read.
    """
    if "source" in data:
        return load_training_data(**check_source(data))
    check_data(data)
    return make_training_data(**data)


def check_source(data: Mapping[str, Any]) -> dict[str, Any]:
    """Reject keys and kinds that `load_training_data` does not take."""
    known = ("source", "prompt", "completion", "split")
    for key, value in data.items():
        if key == "streaming" and isinstance(value, bool):
            continue
        if key not in known or not isinstance(value, str):
            raise ValueError(
                f"[data] {key}={value!r}: with source, use {', '.join(known)} as text, "
                "and streaming as true or false"
            )
    return dict(data)


def load_training_data(
    source: str,
    prompt: str = "prompt",
    completion: str = "completion",
    split: str = "train",
    streaming: bool = False,
) -> Dataset | IterableDataset:
    """Read a data set of the hub or a local file, and keep its two columns.

    Raises:
        ValueError: the source cannot be read, or lacks a column.
    """
    formats = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
    suffix = Path(source).suffix
    if not source.startswith("hub:") and (suffix not in formats or not Path(source).is_file()):
        raise ValueError(
            f"[data] source={source!r} is no file that ends in {', '.join(formats)}; "
            "for a data set of the hub write hub:NAME"
        )
    try:
        if source.startswith("hub:"):
            path, files = source.removeprefix("hub:"), None
        else:
            path, files, split = formats[suffix], source, "train"
        dataset = (
            load_dataset(path, data_files=files, split=split, streaming=True)
            if streaming
            else load_dataset(path, data_files=files, split=split)
        )
        names = dataset.column_names or list(next(iter(dataset), {}))
    except StopIteration:  # how JSON that holds nothing is told
        names = []
    except Exception as error:  # datasets raises many kinds, some of the formats' own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"[data] source={source!r} cannot be read: {reason}") from error
    if not names:
        raise ValueError(f"[data] source={source!r} holds no examples")
    if missing := {prompt, completion} - set(names):
        raise ValueError(
            f"[data] source={source!r} lacks the columns {sorted(missing)}; it has "
            f"{sorted(names)}; name yours with prompt= and completion="
        )
    if prompt == completion:
        raise ValueError(f"[data] prompt and completion both name {prompt!r}; name two columns")
    columns = {prompt: "prompt", completion: "completion"}
    chosen: Dataset | IterableDataset = dataset.select_columns(list(columns))
    renamed = {old: new for old, new in columns.items() if old != new}
    return chosen.rename_columns(renamed) if renamed else chosen


@dataclass(frozen=True, slots=True)
class Exercises:
    """Problems whose prompts are source to continue, and how answers to them are judged."""

    problems: Sequence[Problem]
    protocol: PromptProtocol
    """How an answer becomes a program."""
    limits: ResourceLimits
    data: Mapping[str, Any]
    """The `[data]` table, with the revision of a user's file: a changed file is another run."""


def read_exercises(data: Mapping[str, Any]) -> Exercises:
    """Make what the later phases answer: problems with their hidden inputs.

    With `source`, those of a user's JSONL file, in the form of `--benchmark jsonl:FILE`. Without,
    the same examples of minipy as `read_training_data` makes.

    Raises:
        ValueError: a missing or unknown key, a value of another kind, nothing to draw, or a
            prompt that is no source.
        UserError: the file cannot be read, or a line is no problem.
    """
    if "source" in data:
        return load_exercises(data)
    check_data(data)
    check_mixture(data["num_examples"], data["mixture"])
    problems = [minipy.make_problem(**place) for place in draw_places(**data)]
    return Exercises(problems, minipy.PROTOCOLS["base"], minipy.LIMITS, data)


def load_exercises(data: Mapping[str, Any]) -> Exercises:
    """Read the problems of a user's file."""
    source = data["source"]
    if data.keys() != {"source"} or not isinstance(source, str) or source.startswith("hub:"):
        raise ValueError(
            f"[data] is {dict(data)}; this phase judges answers: give source alone, a JSONL file "
            "of problems as --benchmark jsonl:FILE reads it"
        )
    benchmark = jsonl.load({"file": source})
    for problem in benchmark.problems:
        if not problem.prompt:
            raise ValueError(
                f"{source}: the prompt of {problem.problem_id} lacks `def {problem.entry_point}(`; "
                "these phases continue source, so write the signature into it, or leave it out"
            )
    return Exercises(
        benchmark.problems,
        benchmark.protocols["base"],
        benchmark.limits,
        {**data, "revision": benchmark.revision},
    )


def check_data(data: Mapping[str, Any]) -> None:
    """Reject a `[data]` table of another form."""
    kinds = {"num_examples": int, "seed": int, "mixture": dict}
    if data.keys() != kinds.keys():
        raise ValueError(
            f"[data] has {sorted(data)}; it needs exactly {', '.join(kinds)}, or source for data "
            "of your own"
        )
    for key, kind in kinds.items():
        if not isinstance(data[key], kind) or isinstance(data[key], bool):
            raise ValueError(f"[data] {key}={data[key]!r} must be of type {kind.__name__}")
    for part, weight in data["mixture"].items():
        if not isinstance(weight, int | float):
            raise ValueError(f"[data] mixture weight {part}={weight!r} must be a number")


def make_training_data(num_examples: int, seed: int, mixture: Mapping[str, float]) -> Dataset:
    """Draw examples of the train split in the given proportions.

    Args:
        num_examples: how many.
        seed: another seed is another sample; the same arguments give the same data set anywhere.
        mixture: weight of each part, see `PARTS`.

    Returns:
        Columns `prompt` and `completion`.

    Raises:
        ValueError: an unknown part, or nothing to draw.
    """
    check_mixture(num_examples, mixture)
    places = draw_places(num_examples, seed, mixture)
    examples = [minipy.make_example(**place) for place in places]
    return Dataset.from_dict(
        {"prompt": [p for p, _ in examples], "completion": [c for _, c in examples]}
    )


def check_mixture(num_examples: int, mixture: Mapping[str, float]) -> None:
    """Reject what gives no examples."""
    if unknown := sorted(mixture.keys() - set(PARTS)):
        raise ValueError(f"mixture names {unknown[0]!r}; use {', '.join(PARTS)}")
    if num_examples < 1 or not mixture or not all(0 < w < math.inf for w in mixture.values()):
        raise ValueError(
            f"num_examples={num_examples} and mixture={dict(mixture)} must be positive"
        )


def draw_places(
    num_examples: int, seed: int, mixture: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """Yield the arguments of `make_example`; parts are drawn from (seed, index) in order."""
    chooser = random.Random(f"minipy-mixture/{seed}")
    parts, weights = list(mixture), list(mixture.values())
    families = tuple(FAMILIES)
    for index in range(num_examples):
        place: dict[str, Any] = {"index": index, "split": "train", "seed": seed}
        part = chooser.choices(parts, weights)[0]
        if part == "families":
            level = FAMILY_LEVELS[index // len(families) % len(FAMILY_LEVELS)]
            yield {**place, "level": level, "group": families[index % len(families)]}
        else:
            yield {**place, "level": int(part.removeprefix("level-"))}
