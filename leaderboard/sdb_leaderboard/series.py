"""Which cells share a colour and a shape, and which colours and shapes there are.

Place in the flow: the plotly figure, the static picture and the legend of the page all take
their look from here, so that they cannot disagree. Colour and shape change together, so neither
has to be told apart alone; the colours keep 3:1 contrast on both backgrounds and stay apart under
the common colour-vision deficiencies (after Okabe and Ito, 2008, darkened or lightened).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, slots=True)
class Shape:
    """One marker in the three notations that draw it."""

    plotly: str
    matplotlib: str
    glyph: str


DIFFUSION_SHAPES = (
    Shape("circle", "o", "●"),
    Shape("diamond", "D", "◆"),
    Shape("triangle-up", "^", "▲"),
    Shape("pentagon", "p", "⬟"),
    Shape("triangle-down", "v", "▼"),
    Shape("hexagon", "h", "⬢"),
    Shape("star", "*", "★"),
)
AUTOREGRESSIVE_SHAPES = (
    Shape("square", "s", "■"),
    Shape("cross", "P", "✚"),
    Shape("triangle-left", "<", "◀"),
    Shape("triangle-right", ">", "▶"),
)
REPORTED_SHAPE = Shape("circle-open", "o", "○")

LIGHT_COLORS = ("#0072b2", "#c74e00", "#00805c", "#a0478f", "#8a6a00", "#4b4bc3", "#00798c")
DARK_COLORS = ("#5db7f0", "#ff9a57", "#3ed3a4", "#ec93d3", "#e3c14a", "#aaa6ff", "#4fd3e0")
NEUTRAL_LIGHT, NEUTRAL_DARK = "#27313c", "#e2e8ee"
"""Autoregressive baselines and quoted numbers."""


@dataclass(frozen=True, slots=True)
class Series:
    """Cells of one generator with one block size."""

    name: str
    shape: Shape
    role: str
    """Name of the colour, `series-0` or `neutral`; the page maps it to the theme's colour."""
    light: str


def list_series(table: pd.DataFrame) -> dict[tuple[str, str], Series]:
    """Assign looks to all timed series: baselines are neutral, the rest take turns.

    When the colours begin anew, each meets another shape than before.

    Returns:
        `compute_series_key` -> series, generators in order of name and blocks in order of size.
    """
    keys = sorted(
        {compute_series_key(line) for line in _iterate(table[table["is_timed"]])}, key=_order_key
    )
    looks = {}
    num_diffusion = sum(block.isdigit() for _, block in keys)  # they come first
    for index, (generator, block) in enumerate(keys):
        if block.isdigit():
            turn, color = divmod(index, len(LIGHT_COLORS))
            shape = DIFFUSION_SHAPES[(color + turn) % len(DIFFUSION_SHAPES)]
            name = f"{generator}, block {block}"
            looks[generator, block] = Series(name, shape, f"series-{color}", LIGHT_COLORS[color])
        else:
            shape = AUTOREGRESSIVE_SHAPES[(index - num_diffusion) % len(AUTOREGRESSIVE_SHAPES)]
            name = f"{generator}, baseline"
            looks[generator, block] = Series(name, shape, "neutral", NEUTRAL_LIGHT)
    return looks


def compute_series_key(line: pd.Series) -> tuple[str, str]:
    """(generator, block size as text), or the kind in place of the size where there is none."""
    is_diffusion = line["kind"] == "diffusion"
    return str(line["generator"]), f"{line['block_size']:.0f}" if is_diffusion else line["kind"]


def group_series(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Split a table by series, in the order of the legend."""
    keys = [compute_series_key(line) for line in _iterate(table)]
    return [
        (key, table[[other == key for other in keys]]) for key in sorted(set(keys), key=_order_key)
    ]


def _order_key(key: tuple[str, str]) -> tuple[bool, str, int, str]:
    generator, block = key
    return not block.isdigit(), generator, int(block) if block.isdigit() else 0, block


def _iterate(table: pd.DataFrame) -> Iterable[pd.Series]:
    return (line for _, line in table.iterrows())
