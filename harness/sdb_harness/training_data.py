"""Training examples from minipy's train split, as the `datasets.Dataset` that training reads.

Place in the flow: `sdbench train` -> `read_training_data(config.data)` -> `train(dataset=...)`.
The reference model reads data sets and never imports the harness; this is the bridge.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from datasets import Dataset

from sdb_harness.benchmarks import minipy
from sdb_harness.benchmarks.minipy.families import FAMILIES
from sdb_harness.records import Problem

PARTS = ("families", *(f"level-{level}" for level in minipy.LEVELS))
"""What a mixture may name: compositions of one level, or the dependency-heavy families."""

FAMILY_LEVELS = (1, 2)


def read_training_data(data: Mapping[str, Any]) -> Dataset:
    """Make the data set that the `[data]` table of a training configuration describes.

    Raises:
        ValueError: a missing or unknown key, a value of another kind, or nothing to draw.
    """
    check_data(data)
    return make_training_data(**data)


def read_training_problems(data: Mapping[str, Any]) -> list[Problem]:
    """Make the same examples as `read_training_data`, as problems with their hidden inputs.

    Raises:
        ValueError: a missing or unknown key, a value of another kind, or nothing to draw.
    """
    check_data(data)
    check_mixture(data["num_examples"], data["mixture"])
    return [minipy.make_problem(**place) for place in draw_places(**data)]


def check_data(data: Mapping[str, Any]) -> None:
    """Reject a `[data]` table of another form."""
    kinds = {"num_examples": int, "seed": int, "mixture": dict}
    if data.keys() != kinds.keys():
        raise ValueError(f"[data] has {sorted(data)}; it needs exactly {', '.join(kinds)}")
    for key, kind in kinds.items():
        if not isinstance(data[key], kind):
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
    if num_examples < 1 or not mixture or min(mixture.values()) <= 0:
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
