"""The interactive frontier as a plotly figure. No files, no network, no browser.

Place in the flow: `page.py` embeds the figure as JSON. Colours are the light theme's; every
coloured trace names its role in `meta`, and the page's script swaps the theme's colour in.
Plotly reads a small HTML dialect in labels, so everything that came from data is escaped.
"""

import html
import math
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from sdb_leaderboard.panel import Panel
from sdb_leaderboard.pareto import FloatArray, trace_staircase
from sdb_leaderboard.reported import Reported
from sdb_leaderboard.series import (
    NEUTRAL_LIGHT,
    REPORTED_SHAPE,
    Series,
    compute_series_key,
    group_series,
)
from sdb_leaderboard.table import format_policy

NOTHING_TIMED = "No configuration of this view has a measured speed."
SPEED_TITLE = "Median speed of one user, tokens per second (log) →"
QUALITY_TITLE = "pass@1 →"
BAND_COLOR = "rgba(110, 125, 142, 0.16)"
FRONTIER_COLOR = "#7b8896"
LABEL_WIDTH, LABEL_HEIGHT = 0.0125, 0.035
"""Of a label's letter, as parts of the axes."""

_CURVE_COLUMNS = [
    "generator",
    "generator_revision",
    "block_size",
    "temperature",
    "top_p",
    "batch_size",
    "max_new_tokens",
    "seed",
    "precision",
    "engine",
    "protocol",
]
"""Cells that share these and the kind of policy are joined by a thin line."""


def draw_frontier(
    panel: Panel, looks: Mapping[tuple[str, str], Series], reported: Sequence[Reported]
) -> go.Figure:
    """Speed against quality with band, observed frontier, faded rest and hollow quoted points.

    Args:
        panel: The view to draw.
        looks: From `series.list_series`, shared by all panels of a page.
        reported: Quoted points of this benchmark; drawn, not ranked.
    """
    drawn = panel.table[panel.table["is_timed"]]
    left, right, bottom, top = limits = compute_limits(drawn, reported)
    drawn = drawn.assign(label_place=place_labels(drawn, limits))
    figure = go.Figure()
    _add_band(figure, panel, left, bottom)
    _add_curves(figure, drawn, looks)
    _add_staircase(figure, drawn, left, bottom)
    for key, of_series in group_series(drawn):
        is_front = of_series["is_on_frontier"]
        _add_points(figure, panel, of_series[~is_front], looks[key], is_front=False)
        _add_points(figure, panel, of_series[is_front], looks[key], is_front=True)
    _add_reported(figure, reported, right)
    if drawn.empty:
        figure.add_annotation(
            text=NOTHING_TIMED, xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False
        )
    ticks = list_speed_ticks(left, right)
    figure.update_layout(
        template="none",
        showlegend=False,
        hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 62, "r": 16, "t": 14, "b": 56},
        hoverlabel={"align": "left"},
        xaxis={
            "type": "log",
            "title": {"text": SPEED_TITLE},
            "range": [math.log10(left), math.log10(right)],
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
            "zeroline": False,
        },
        yaxis={
            "title": {"text": QUALITY_TITLE},
            "range": [bottom, top],
            "tickformat": ".0%",
            "zeroline": False,
        },
    )
    return figure


def compute_limits(
    drawn: pd.DataFrame, reported: Sequence[Reported]
) -> tuple[float, float, float, float]:
    """Left, right (tokens/s) and bottom, top (pass@1) with room around every point and bar."""
    speeds = [*drawn["tok_s_user"], *(entry.tok_s for entry in reported)]
    lows = [*drawn["pass_at_1_low"], *(entry.pass_at_1 for entry in reported)]
    highs = [*drawn["pass_at_1_high"], *(entry.pass_at_1 for entry in reported)]
    if not speeds:
        return 1.0, 100.0, 0.0, 1.0
    bottom, top = max(0.0, min(lows) - 0.02), min(1.0, max(highs) + 0.02)
    slack = 0.015 * (top - bottom)  # a marker at 0 or 1 is not cut in half
    return min(speeds) / 1.3, max(speeds) * 1.3, bottom - slack, top + slack


def list_speed_ticks(left: float, right: float) -> list[float]:
    """Round values inside the limits, more of them if 1-2-5 gives under three.

    Plotly's own log ticks print bare digits.
    """
    decades = range(math.floor(math.log10(left)), math.ceil(math.log10(right)) + 1)
    for mantissas in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [mantissa * 10.0**decade for decade in decades for mantissa in mantissas]
        inside = [tick for tick in ticks if left <= tick <= right]
        if len(inside) >= 3:
            break
    return inside


def label_point(line: pd.Series) -> str:
    """What stands beside a frontier point: its commit threshold, steps, policy, or nothing."""
    if not math.isnan(line["threshold"]):
        return f"{line['threshold']:g}"
    if not math.isnan(line["num_steps"]):
        return f"{line['num_steps']:.0f} steps"
    return str(line["policy"])


def place_labels(drawn: pd.DataFrame, limits: tuple[float, float, float, float]) -> pd.Series:
    """Where each point's label stands: above right, or below left if the one before is in its way.

    Args:
        drawn: Cells with a speed.
        limits: Of the axes, from `compute_limits`.
    """
    left, right, bottom, top = limits
    places = dict.fromkeys(drawn.index, "top right")
    end_x, end_y = -math.inf, -math.inf  # of the last label above, as parts of the axes
    for index, line in drawn[drawn["is_on_frontier"]].sort_values("tok_s_user").iterrows():
        x = math.log(line["tok_s_user"] / left) / math.log(right / left)
        y = (line["pass_at_1"] - bottom) / (top - bottom)
        if x < end_x and abs(y - end_y) < LABEL_HEIGHT:
            places[index] = "bottom left"
        else:
            end_x, end_y = x + LABEL_WIDTH * (1 + len(label_point(line))), y
    return pd.Series(places, drawn.index, dtype=str)


def describe_cell(line: pd.Series, num_problems: int) -> list[tuple[str, str]]:
    """What the hover card says of a cell, as (name, value) pairs, unescaped."""
    return [
        ("pass@1", _format_score(line)),
        (
            "tokens/s/user",
            f"{line['tok_s_user']:.1f} median, {line['tok_s_user_p10']:.1f} p10, "
            f"{line['tok_s_user_p90']:.1f} p90, {line['tok_s_user_pooled']:.1f} pooled",
        ),
        ("tokens per forward", _format_number(line["tokens_per_forward"], ".2f")),
        (
            "forwards per sample",
            f"{line['nfe_prefill_mean']:.1f} prefill, {line['nfe_denoise_mean']:.1f} denoise, "
            f"{line['nfe_commit_mean']:.1f} commit",
        ),
        ("block size", _format_number(line["block_size"], ".0f")),
        ("commit policy", format_policy(line["threshold"], line["num_steps"], line["policy"])),
        (
            "first block",
            f"{_format_seconds(line['first_block_s_p50'])} p50, "
            f"{_format_seconds(line['first_block_s_p90'])} p90",
        ),
        (
            "end to end",
            f"{_format_seconds(line['e2e_s_p50'])} p50, {_format_seconds(line['e2e_s_p90'])} p90",
        ),
        (
            "output",
            f"{line['output_tokens_mean']:.1f} tokens, {line['truncation_rate']:.1%} truncated",
        ),
        (
            "samples",
            f"{line['num_samples']:.0f} on {line['num_problems']:.0f} of {num_problems} problems, "
            f"{line['num_infrastructure']:.0f} lost",
        ),
        ("on the frontier", _format_standing(line)),
    ]


def _add_band(figure: go.Figure, panel: Panel, left: float, bottom: float) -> None:
    """Where the frontier lies in 5 to 95 % of the resamples."""
    if panel.band is None:
        return
    for border, fill in ((panel.band.sure, None), (panel.band.possible, "tonexty")):
        xs, ys = trace_staircase(*border, left, bottom)
        _add_line(figure, xs, ys, line={"width": 0}, fill=fill, fillcolor=BAND_COLOR)


def _add_staircase(figure: go.Figure, drawn: pd.DataFrame, left: float, bottom: float) -> None:
    front = drawn[drawn["is_on_frontier"]]
    xs, ys = trace_staircase(
        front["tok_s_user"].to_numpy(), front["pass_at_1"].to_numpy(), left, bottom
    )
    _add_line(figure, xs, ys, line={"width": 1.6, "dash": "dot", "color": FRONTIER_COLOR})


def _add_curves(
    figure: go.Figure, drawn: pd.DataFrame, looks: Mapping[tuple[str, str], Series]
) -> None:
    """Join cells that differ in the numbers of one policy only, in order of speed."""
    diffusion = drawn[drawn["kind"] == "diffusion"]
    kind = diffusion["policy"].astype(str).str.split(":").str[0]
    kind = kind.mask(diffusion["threshold"].notna(), "threshold").rename("policy_kind")
    for _, curve in diffusion.groupby([*(diffusion[c] for c in _CURVE_COLUMNS), kind]):
        look = looks[compute_series_key(curve.iloc[0])]
        ordered = curve.sort_values("tok_s_user")
        figure.add_trace(
            go.Scatter(
                x=ordered["tok_s_user"].tolist(),
                y=ordered["pass_at_1"].tolist(),
                mode="lines",
                line={"width": 1.2, "color": look.light},
                opacity=0.35,
                hoverinfo="skip",
                meta={"role": look.role},
            )
        )


def _add_line(figure: go.Figure, xs: FloatArray, ys: FloatArray, **style: object) -> None:
    figure.add_trace(
        go.Scatter(x=xs.tolist(), y=ys.tolist(), mode="lines", hoverinfo="skip", **style)
    )


def _add_points(
    figure: go.Figure, panel: Panel, points: pd.DataFrame, look: Series, *, is_front: bool
) -> None:
    if points.empty:
        return
    is_baseline = bool((points["kind"] == "autoregressive").all())
    symbols = [
        look.shape.plotly if complete else "x-thin-open" for complete in points["is_complete"]
    ]
    figure.add_trace(
        go.Scatter(
            x=points["tok_s_user"].tolist(),
            y=points["pass_at_1"].tolist(),
            mode="markers+text" if is_front else "markers",
            text=[label_point(line) if is_front else "" for _, line in points.iterrows()],
            textposition=points["label_place"].tolist(),
            textfont={"size": 11},
            cliponaxis=False,  # a label of the best point may stand above the axes
            marker={
                "symbol": symbols,
                "size": 14 if is_front else 12 if is_baseline else 9,
                "color": look.light,
                "line": {"width": 1.5, "color": look.light},
            },
            opacity=1.0 if is_front or is_baseline else 0.5,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (points["pass_at_1_high"] - points["pass_at_1"]).tolist(),
                "arrayminus": (points["pass_at_1"] - points["pass_at_1_low"]).tolist(),
                "thickness": 1.5 if is_front else 0.8,
                "width": 0,
                "color": look.light,
            },
            hoverinfo="text",
            hovertext=[_write_card(line, panel.num_problems) for _, line in points.iterrows()],
            meta={"role": look.role},
        )
    )


def _add_reported(figure: go.Figure, reported: Sequence[Reported], right: float) -> None:
    if not reported:
        return
    cards = [
        f"<b>{html.escape(entry.model)}</b><br>reported, not measured here<br>"
        f"pass@1 {entry.pass_at_1:.1%} · {entry.tok_s:g} tokens/s<br>"
        f"{html.escape(entry.hardware)}<br>{html.escape(entry.source)}"
        for entry in reported
    ]
    figure.add_trace(
        go.Scatter(
            x=[entry.tok_s for entry in reported],
            y=[entry.pass_at_1 for entry in reported],
            mode="markers+text",
            text=[html.escape(entry.model.split(",")[0]) for entry in reported],
            # Beside the right border a centred name would be cut.
            textposition=[
                f"bottom {'left' if entry.tok_s * 1.6 > right else 'center'}" for entry in reported
            ],
            textfont={"size": 10.5},
            marker={
                "symbol": REPORTED_SHAPE.plotly,
                "size": 11,
                "color": NEUTRAL_LIGHT,
                "line": {"width": 1.5},
            },
            opacity=0.75,
            hoverinfo="text",
            hovertext=cards,
            meta={"role": "neutral"},
        )
    )


def _write_card(line: pd.Series, num_problems: int) -> str:
    facts = [f"{name}: {html.escape(value)}" for name, value in describe_cell(line, num_problems)]
    return "<br>".join([f"<b>{html.escape(line['label'])}</b>", *facts])


def _format_standing(line: pd.Series) -> str:
    if not line["is_complete"]:
        return "not ranked, incomplete"
    observed = "yes" if line["is_on_frontier"] else "no"
    return f"{observed}; in {line['inclusion_probability']:.0%} of resamples"


def _format_score(line: pd.Series) -> str:
    low, high = line["pass_at_1_low"], line["pass_at_1_high"]
    return f"{line['pass_at_1']:.1%} (95 % interval {low:.1%} to {high:.1%})"


def _format_number(value: float, spec: str) -> str:
    return "-" if math.isnan(value) else format(value, spec)


def _format_seconds(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1.0 else f"{value:.2f} s"
