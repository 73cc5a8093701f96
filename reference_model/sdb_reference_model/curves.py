"""Logs of on-policy training as one picture.

    python -m sdb_reference_model.curves OUT.png "with V=LOG.jsonl" "without V=LOG.jsonl"

Place in the flow: drawn by the command line when a run ends, from `log.jsonl` alone.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

CURVES = {
    "steps_per_answer": "steps per answer",
    "tokens_per_forward": "tokens per forward",
    "pass_at_1": "pass@1 of the runs",
    "reward": "reward",
    "kl": "KL to the start, nats",
    "tokens_per_answer": "tokens per answer",
}
SMOOTHING = 0.8
"""Share of the past in the running mean that is drawn over the raw values."""


def draw_curves(logs: Mapping[str, Path], out: Path) -> None:
    """Draw one panel per curve, one line per log, into the picture `out` (PNG or SVG by its name).

    Args:
        logs: name -> `log.jsonl` of a run; names are shown where there are several.
        out: the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(2, 3).flat
    for axes, (key, label) in zip(panels, CURVES.items(), strict=True):
        lowest = 0.0
        for index, (name, log) in enumerate(logs.items()):
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            updates = [line["update"] for line in lines]
            values = [line[key] for line in lines]
            axes.plot(updates, values, color=f"C{index}", alpha=0.3, linewidth=0.8)
            axes.plot(updates, smooth(values), color=f"C{index}", label=name)
            lowest = min(lowest, *values)
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("update", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_ylim(bottom=lowest)
    if len(logs) > 1:
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(logs))
    figure.savefig(out, dpi=120)


def smooth(values: list[float]) -> list[float]:
    """Running mean that forgets, without the pull of a start value."""
    total, weight, smoothed = 0.0, 0.0, []
    for value in values:
        total, weight = SMOOTHING * total + value, SMOOTHING * weight + 1.0
        smoothed.append(total / weight)
    return smoothed


if __name__ == "__main__":
    named = (argument.partition("=") for argument in sys.argv[2:])
    draw_curves({name: Path(log) for name, _, log in named}, Path(sys.argv[1]))
