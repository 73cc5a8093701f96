"""How a commit policy is written in a sweep: `top:2`, `entropy:0.3`, `edit:0.9:0.8:8`.

Place in the flow: the harness checks texts with it before any model is opened, so there is no torch
here; `policies.build_plan` and `pipelining.py` make what a text names. A probability threshold
and a number of steps per block are axes of their own and have no text.
"""

import difflib
import math
from dataclasses import dataclass

POLICIES: dict[str, tuple[str, ...]] = {
    "top": ("tokens",),
    "leftmost": ("tokens",),
    "prefix": ("threshold",),
    "error": ("bound",),
    "entropy": ("bound",),
    "hierarchical": ("threshold", "low_threshold"),
    "bounded": ("threshold", "steps"),
    "edit": ("threshold", "edit_threshold", "budget"),
    "remask": ("threshold", "remask_threshold", "budget"),
    "remdm-cap": ("eta", "steps"),
    "remdm-rescale": ("eta", "steps"),
    "remdm-conf": ("steps",),
    "levenshtein": ("threshold", "label_threshold", "budget"),
    "pipelined": ("threshold", "share"),
}
"""Name -> its numbers. Counts are whole and from 1, a bound is from 0, the others are in [0, 1]."""

COUNTS = ("tokens", "budget", "steps")


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A text, taken apart."""

    name: str
    values: tuple[float, ...]

    def __str__(self) -> str:
        """The one spelling of it: `top:2` for `top: 2.0`."""
        return ":".join((self.name, *(f"{value:.15g}" for value in self.values)))


def parse_policy(text: str) -> PolicySpec:
    """Take `name:number:number` apart.

    Raises:
        ValueError: unknown name, or numbers that do not fit; one line with what is allowed.
    """
    name, *numbers = text.split(":")
    if name not in POLICIES:
        near = difflib.get_close_matches(name, POLICIES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(map(spell, POLICIES))}"
        raise ValueError(f"unknown policy {name!r}; {hint}")
    parameters = POLICIES[name]
    try:
        values = tuple(float(number) for number in numbers)
    except ValueError:
        values = ()
    is_valid = len(values) == len(parameters) and all(map(fits, parameters, values))
    if not is_valid or (name == "hierarchical" and values[1] > values[0]):
        raise ValueError(
            f"policy {text!r} does not fit {spell(name)}: {', '.join(COUNTS)} are whole and from "
            "1, a bound is from 0, all else in [0, 1] and low_threshold at most threshold"
        )
    return PolicySpec(name, values)


def spell(name: str) -> str:
    """Write how a policy is written: `top:TOKENS`."""
    return ":".join((name, *(parameter.upper() for parameter in POLICIES[name])))


def fits(parameter: str, value: float) -> bool:
    """Tell whether a number is one that the parameter can be."""
    if parameter in COUNTS:
        return value >= 1 and value.is_integer()
    return 0.0 <= value and (value <= 1.0 or (parameter == "bound" and math.isfinite(value)))
