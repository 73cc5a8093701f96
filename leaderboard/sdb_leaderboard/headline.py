"""Speed at matched quality, in words.

Place in the flow: `panel.py` computes the comparison, this file writes the sentence, the page and
the terminal print it. A frontier alone rewards fast garbage; this number does not.

The confidence is that of one comparison. It is not corrected for having looked at every cell.
"""

import math
from dataclasses import dataclass

import pandas as pd

from sdb_leaderboard.panel import QUALITY_TOLERANCE, MatchedSpeed, Panel

MAX_TOKEN_SIZES = 1.1
"""Ratio of two cells' characters per token above which the sentence says how they differ."""


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
        _write_headline(
            "Against the best diffusion configuration", panel.best_diffusion, panel, lines
        ),
    ]


def _write_headline(
    title: str, match: MatchedSpeed | None, panel: Panel, lines: pd.DataFrame
) -> Headline:
    if match is None:
        kind = "autoregressive" if "autoregressive" in title else "diffusion"
        return Headline(title, "none", f"This view has no complete {kind} configuration.")
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
            f"{chosen['label']} is the fastest configuration of matched quality: "
            f"{chosen['tok_s_user']:.1f} tokens/s, {match.ratio:.2f} times the speed "
            f"(95 % interval {match.ratio_low:.2f} to {match.ratio_high:.2f}) of {named}. "
            f"{_write_loss(match)}{_write_token_sizes(match, lines)}",
        )
    if match.loss is None:
        sentence = f"No diffusion configuration is faster than {named}."
        return Headline(title, "none faster", sentence)
    tolerance = f"{100 * QUALITY_TOLERANCE:g} points"
    nearest = lines.loc[match.nearest_hash]
    sentence = (
        f"None qualifies: no configuration is shown to lose less than {tolerance} of pass@1 "
        f"against {named}. The nearest is {nearest['label']}. {_write_loss(match)}"
    )
    if panel.smallest_visible_loss >= QUALITY_TOLERANCE:
        needed = math.ceil(math.log(0.05) / math.log(1.0 - QUALITY_TOLERANCE))
        sentence += (
            f" {panel.num_problems} problems are too few to show a loss under {tolerance} for any "
            f"configuration; {needed} would be the least."
        )
    return Headline(title, "none", sentence)


def _write_token_sizes(match: MatchedSpeed, lines: pd.DataFrame) -> str:
    """What a ratio of tokens hides where tokens differ in length: a tokenizer is no speed."""
    pair = lines.loc[[match.cell_hash, match.reference_hash]]
    sizes = (pair["output_characters_mean"] / pair["output_tokens_mean"]).tolist()
    if min(sizes) == 0.0 or max(sizes) <= MAX_TOKEN_SIZES * min(sizes):
        return ""
    speed, other = pair["characters_s_user"].tolist()
    return (
        f" Its tokens hold {sizes[0]:.1f} characters, the other's {sizes[1]:.1f}: in characters a "
        f"second it is {speed / other:.2f} times as fast."
    )


def _write_loss(match: MatchedSpeed) -> str:
    loss = match.loss
    assert loss is not None
    change = f"{abs(100 * loss.mean):.1f} points {'lower' if loss.mean >= 0 else 'higher'}"
    return (
        f"Paired over {loss.num_problems} problems its pass@1 is {change}, with 95 % confidence "
        f"at most {100 * loss.upper:.1f} points lower."
    )
