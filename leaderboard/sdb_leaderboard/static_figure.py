"""The frontier as SVG and PNG without a browser.

Place in the flow: `page.py` writes both files and embeds the SVG for readers without JavaScript.
Drawn with matplotlib's object interface (no pyplot, no global state, no display); the limits,
ticks, looks and the staircase are those of the interactive figure, so the two cannot diverge.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sdb_leaderboard.figures import (
    NOTHING_TIMED,
    compute_limits,
    label_point,
    list_speed_ticks,
    place_labels,
)
from sdb_leaderboard.panel import Panel
from sdb_leaderboard.pareto import trace_staircase
from sdb_leaderboard.reported import Reported
from sdb_leaderboard.series import NEUTRAL_LIGHT, REPORTED_SHAPE, Series, group_series

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same
    "font.size": 9.5,
    "axes.edgecolor": "#c4ccd4",
    "axes.labelcolor": "#27313c",
    "text.color": "#27313c",
    "xtick.color": "#5a6672",
    "ytick.color": "#5a6672",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "svg.hashsalt": "seed-diffusion-bench",
}


def render_static(
    panel: Panel,
    title: str,
    looks: Mapping[tuple[str, str], Series],
    reported: Sequence[Reported],
) -> tuple[bytes, bytes]:
    """Draw one panel.

    Returns:
        SVG and PNG files; the same input gives the same bytes on the same matplotlib.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.6, 5.2), facecolor="white", layout="constrained")
        _draw_panel(figure.subplots(), panel, title, looks, reported)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


def _draw_panel(
    axes: Axes,
    panel: Panel,
    title: str,
    looks: Mapping[tuple[str, str], Series],
    reported: Sequence[Reported],
) -> None:
    drawn = panel.table[panel.table["is_timed"]]
    left, right, bottom, top = limits = compute_limits(drawn, reported)
    drawn = drawn.assign(label_place=place_labels(drawn, limits))
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    ticks = list_speed_ticks(left, right)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(color="#e6eaee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("median speed of one user, tokens per second (log)")
    axes.set_ylabel("pass@1, 95 % interval")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color="#16202b")
    if panel.band is not None:
        for border in (panel.band.possible, panel.band.sure):
            xs, ys = trace_staircase(*border, left, bottom)
            is_inner = border is panel.band.sure
            color, order = ("white", 0.2) if is_inner else ("#e9edf1", 0.1)
            name = None if is_inner else "frontier in 5 to 95 % of resamples"
            axes.fill_between(xs, ys, bottom, color=color, linewidth=0, zorder=order, label=name)
    front = drawn[drawn["is_on_frontier"]]
    xs, ys = trace_staircase(
        front["tok_s_user"].to_numpy(), front["pass_at_1"].to_numpy(), left, bottom
    )
    name = "observed frontier"
    axes.plot(xs, ys, color="#7b8896", linewidth=1.3, linestyle=":", zorder=2, label=name)
    for key, of_series in group_series(drawn):
        _draw_series(axes, of_series, looks[key])
    if reported:
        axes.scatter(
            [entry.tok_s for entry in reported],
            [entry.pass_at_1 for entry in reported],
            marker=REPORTED_SHAPE.matplotlib,
            s=45,
            facecolors="none",
            edgecolors=NEUTRAL_LIGHT,
            alpha=0.7,
            label="reported, not measured here",
        )
    if drawn.empty:
        axes.text(0.5, 0.5, NOTHING_TIMED, transform=axes.transAxes, ha="center")
        return
    axes.legend(
        title="beside a frontier point: commit threshold",
        alignment="left",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize=8.5,
        title_fontsize=8.0,
        handletextpad=0.3,
    )


def _draw_series(axes: Axes, of_series: pd.DataFrame, look: Series) -> None:
    """Frontier points large and full, the rest small and faded, incomplete ones crossed."""
    is_on_frontier, is_complete = of_series["is_on_frontier"], of_series["is_complete"]
    for is_wanted, is_front, marker in (
        (~is_complete, False, "x"),
        (is_complete & ~is_on_frontier, False, look.shape.matplotlib),
        (is_on_frontier, True, look.shape.matplotlib),
    ):
        points = of_series[is_wanted]
        is_baseline = bool((points["kind"] == "autoregressive").all())
        alpha = 1.0 if is_front or is_baseline else 0.45
        axes.vlines(
            points["tok_s_user"],
            points["pass_at_1_low"],
            points["pass_at_1_high"],
            color=look.light,
            alpha=alpha,
            linewidth=1.2 if is_front else 0.7,
        )
        axes.scatter(
            points["tok_s_user"],
            points["pass_at_1"],
            marker=marker,
            s=85 if is_front else 55 if is_baseline else 28,
            color=look.light,
            alpha=alpha,
            linewidths=1.2 if marker == "x" else 0,
            zorder=4 if is_front else 3,
        )
        for _, point in points.iterrows():
            if is_front:
                is_above = point["label_place"] == "top right"
                axes.annotate(
                    label_point(point),
                    (point["tok_s_user"], point["pass_at_1"]),
                    xytext=(5, 4) if is_above else (-5, -4),
                    textcoords="offset points",
                    ha="left" if is_above else "right",
                    va="bottom" if is_above else "top",
                    fontsize=8,
                )
    axes.scatter(
        [], [], marker=look.shape.matplotlib, s=45, color=look.light, linewidths=0, label=look.name
    )
