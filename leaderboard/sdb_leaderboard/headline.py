"""Speed at matched quality, in words.

Place in the flow: `panel.py` computes the comparison, this file writes the sentence, the page and
the terminal print it. A frontier alone rewards fast garbage; this number does not.

The confidence is that of one comparison. It is not corrected for having looked at every cell.
"""

import math
from dataclasses import dataclass

import pandas as pd

from sdb_leaderboard.panel import QUALITY_TOLERANCE, MatchedSpeed, Panel


@dataclass(frozen=True, slots=True)
class Headline:
    """One comparison: a figure that can stand alone and the sentence that makes it honest."""

    title: str
    figure: str
    sentence: str


def write_headlines(panel: Panel) -> list[Headline]:
    """Against the best autoregressive cell, then against the best diffusion cell."""
    lines = panel.table.set_index("cell_hash")
    return [
        _write_headline("Against the autoregressive baseline", panel.baseline, panel, lines),
        _write_headline("Against the best diffusion cell", panel.best_diffusion, panel, lines),
    ]


def _write_headline(
    title: str, match: MatchedSpeed | None, panel: Panel, lines: pd.DataFrame
) -> Headline:
    if match is None:
        kind = "autoregressive" if "autoregressive" in title else "diffusion"
        return Headline(title, "none", f"This view has no complete {kind} cell.")
    reference = lines.loc[match.reference_hash]
    named = (
        f"{reference['label']} ({reference['pass_at_1']:.1%} pass@1, "
        f"{reference['tok_s_user']:.1f} tokens/s)"
    )
    if match.cell_hash is not None and match.loss is not None:
        chosen = lines.loc[match.cell_hash]
        return Headline(
            title,
            f"{match.ratio:.2f}×",  # noqa: RUF001
            f"{chosen['label']} is the fastest cell of matched quality: "
            f"{chosen['tok_s_user']:.1f} tokens/s, {match.ratio:.2f} times the speed "
            f"(95 % interval {match.ratio_low:.2f} to {match.ratio_high:.2f}) of {named}. "
            f"{_write_loss(match)}",
        )
    if match.loss is None:
        return Headline(title, "none faster", f"No diffusion cell is faster than {named}.")
    tolerance = f"{100 * QUALITY_TOLERANCE:g} points"
    nearest = lines.loc[match.nearest_hash]
    sentence = (
        f"No cell qualifies: none is shown to lose less than {tolerance} of pass@1 against "
        f"{named}. The nearest is {nearest['label']}. {_write_loss(match)}"
    )
    if panel.smallest_visible_loss >= QUALITY_TOLERANCE:
        needed = math.ceil(math.log(0.05) / math.log(1.0 - QUALITY_TOLERANCE))
        sentence += (
            f" {panel.num_problems} problems are too few to show a loss under {tolerance} for any "
            f"cell; {needed} would be the least."
        )
    return Headline(title, "none", sentence)


def _write_loss(match: MatchedSpeed) -> str:
    loss = match.loss
    assert loss is not None
    change = f"{abs(100 * loss.mean):.1f} points {'lower' if loss.mean >= 0 else 'higher'}"
    return (
        f"Paired over {loss.num_problems} problems its pass@1 is {change}, with 95 % confidence "
        f"at most {100 * loss.upper:.1f} points lower."
    )
