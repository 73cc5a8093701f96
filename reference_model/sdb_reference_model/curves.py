"""The log of on-policy training as one picture.

Place in the flow: drawn by the command line when a run ends, from `log.jsonl` alone.
"""

import json
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


def draw_curves(log: Path, out: Path) -> None:
    """Draw one panel per curve of `log` into the picture `out` (PNG or SVG by its name)."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    updates = [line["update"] for line in lines]
    figure = Figure(figsize=(9, 5), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(2, 3).flat, CURVES.items(), strict=True):
        values = [line[key] for line in lines]
        axes.plot(updates, values, color="0.75", linewidth=0.8)
        axes.plot(updates, smooth(values), color="C0")
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("update", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_ylim(bottom=min(0.0, *values))
    figure.savefig(out, dpi=120)


def smooth(values: list[float]) -> list[float]:
    """Running mean that forgets, without the pull of a start value."""
    total, weight, smoothed = 0.0, 0.0, []
    for value in values:
        total, weight = SMOOTHING * total + value, SMOOTHING * weight + 1.0
        smoothed.append(total / weight)
    return smoothed
