"""Arms x seeds -> rows -> table, picture and a paragraph: what all experiments share.

Place in the flow: an `Experiment` names its units (an arm and a seed each), measures one of them,
and reports on all. `run` keeps a journal of one line per finished unit, so a run that was killed
goes on with the next unit; a training inside a unit resumes by itself from the unit's folder.

A seed is a sample of problems, and in training experiments also another training run. Intervals
are percentiles of a bootstrap over problems, and over seeds first where each seed is a run; with
three runs that second part is rough, and the README of a result says so.

What this does not do: know the sandbox or the benchmark. Problems, tests and training data come as
callables (`Supplies`), tests' findings as `Finding`.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset

from sdb_reference_model.checkpoint import CheckpointError, load_checkpoint
from sdb_reference_model.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUM_DRAWS = 2000
"""Bootstrap draws of an interval."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaee",
    "text.parse_math": False,
    "svg.hashsalt": "seed-diffusion-bench",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What the tests say about one answer."""

    is_passed: bool
    is_malformed: bool
    """Whether the program does not compile."""
    is_undefined_name: bool
    """Whether it failed because of a name that nothing defines."""


Judge = Callable[[Sequence[int], Sequence[str]], Sequence[Finding | None]]
"""(rows of the prompts, completions) -> findings; None is a fault of the sandbox."""


@dataclass(frozen=True, slots=True)
class Exam:
    """Problems with their tests."""

    prompts: Sequence[str]
    references: Sequence[str]
    groups: Sequence[str]
    """What a problem is counted under, for example `level-1`."""
    judge: Judge
    judge_half: Judge
    """Knows every second hidden input only."""


@dataclass(frozen=True, slots=True)
class Supplies:
    """What the composition root hands over."""

    make_exam: Callable[..., Exam]
    """(split=, levels=, num_problems=, seed=) -> problems, the same for the same arguments."""
    make_data: Callable[[Mapping[str, Any]], Dataset | IterableDataset]
    """`[data]` table of a training configuration -> columns `prompt` and `completion`."""
    provenance: Mapping[str, Any]
    on_unit: Callable[[int, int, str], None]
    """Called with (units done, of how many, the next one or an empty text)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentConfig:
    """What every experiment needs to know; small enough for a processor."""

    checkpoint: str = "demo-scratch"
    """Shipped name or folder of the diffusion model; this one has no autoregressive start."""
    num_seeds: int = 3
    num_problems: int = 34
    """Held-out problems per seed, each seed another sample."""
    levels: tuple[int, ...] = (1, 2)
    max_new_tokens: int = 64
    block_size: int = 16


Row = dict[str, Any]
"""What was measured in one unit; lists are per problem.

`arm` and `seed` are always there, and so is `elapsed_s`, of the process that finished the unit; the
first committed rows have none.
"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report: column -> meaning, and lines with a value for each column."""

    title: str
    columns: Mapping[str, str]
    lines: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is written about a finished run."""

    tables: Sequence[Table]
    reading: str
    """One paragraph, made from the numbers."""
    draw: Callable[["Figure"], None]


@dataclass(frozen=True, slots=True)
class Experiment:
    """One question, and how it is answered."""

    name: str
    question: str
    config: type[ExperimentConfig]
    plan: Callable[[Any], Sequence[str]]
    """config -> arms; each is measured once per seed."""
    measure: Callable[[Any, str, int, Supplies, Path], Row]
    """(config, arm, seed, supplies, folder for work in progress) -> the row without arm and seed.

    The folder may hold what an interrupted call has left, and is shared by all units of the run.
    """
    report: Callable[[Any, Sequence[Row]], Report]


def run(experiment: Experiment, config: ExperimentConfig, out: Path, supplies: Supplies) -> Report:
    """Measure what is missing in `out`, then write the report beside it.

    `out` then holds config.json, rows.jsonl, table.json, table.md, plot.svg, and README.md, which
    is written once and is for people to edit.

    Raises:
        ValueError: wrong values, or `out` holds a run of another configuration or checkpoint.
    """
    if min(config.num_seeds, config.num_problems, config.max_new_tokens) < 1 or not config.levels:
        raise ValueError("num_seeds, num_problems, max_new_tokens and levels must be positive")
    if config.num_seeds * config.num_problems < 2:
        raise ValueError("one problem has no interval; raise num_problems or num_seeds")
    arms = experiment.plan(config)
    claim(experiment, config, out, supplies)
    rows = read_journal(out / "rows.jsonl")
    done = {(row["arm"], row["seed"]) for row in rows}
    units = [(arm, seed) for seed in range(config.num_seeds) for arm in arms]
    for arm, seed in units:
        if (arm, seed) in done:
            continue
        claim(experiment, config, out, supplies)  # the checkpoint may have been replaced meanwhile
        supplies.on_unit(len(done), len(units), f"{arm}, seed {seed}")
        started = time.perf_counter()
        measured = experiment.measure(config, arm, seed, supplies, out / "work")
        elapsed_s = round(time.perf_counter() - started, 1)
        rows.append({"arm": arm, "seed": seed, "elapsed_s": elapsed_s, **measured})
        append_line(out / "rows.jsonl", rows[-1])
        done.add((arm, seed))
    supplies.on_unit(len(done), len(units), "")
    report = experiment.report(config, rows)
    write_report(experiment, report, out, sum(row.get("elapsed_s", 0.0) for row in rows))
    shutil.rmtree(out / "work", ignore_errors=True)
    return report


def claim(experiment: Experiment, config: ExperimentConfig, out: Path, supplies: Supplies) -> None:
    """Write config.json, or check that it is of the same run."""
    names = [config.checkpoint, *filter(None, [getattr(config, "twin", None)])]
    identity = {
        "experiment": experiment.name,
        "config": asdict(config),
        "checkpoints": {name: load_checkpoint(name).revision for name in names},
        "threads": torch.get_num_threads(),
    }
    identity = json.loads(json.dumps(identity))
    path = out / "config.json"
    if path.is_file():
        old = json.loads(path.read_text())
        if {key: old.get(key) for key in identity} != identity:
            raise CheckpointError(
                f"{out} holds a run of another configuration or checkpoint; use another --out, "
                "or remove it"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**identity, "provenance": dict(supplies.provenance)}, indent=2)
    write_text(path, text + "\n")


def read_journal(path: Path) -> list[Row]:
    """Rows of the units that were finished; a line that a kill has torn is removed."""
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if whole != lines:
        write_text(path, "".join(whole))
    return [json.loads(line) for line in whole]


def append_line(path: Path, row: Row) -> None:
    """Add a row, on disk when this returns."""
    with path.open("a") as file:
        file.write(json.dumps(row, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())


def take_exam(config: ExperimentConfig, supplies: Supplies, seed: int) -> Exam:
    """The held-out problems of one seed."""
    return supplies.make_exam(
        split="test", levels=config.levels, num_problems=config.num_problems, seed=seed
    )


def examine(judge: Judge, rows: Sequence[int], completions: Sequence[str]) -> list[Finding]:
    """Ask the tests; a sandbox that cannot answer ends the run, which can be resumed.

    Raises:
        ValueError: the sandbox had a fault.
    """
    findings = [finding for finding in judge(rows, completions) if finding is not None]
    if len(findings) != len(completions):
        raise ValueError(
            f"{len(completions) - len(findings)} answers could not be judged because of faults of "
            "the sandbox; run the same command again to resume"
        )
    return findings


def select(rows: Iterable[Row], arm: str, key: str) -> list[Any]:
    """The values of one key in the rows of one arm, seed by seed."""
    return [row[key] for row in sorted(rows, key=lambda row: row["seed"]) if row["arm"] == arm]


def estimate(values: Sequence[Sequence[float]], *, are_runs: bool = False) -> Estimate:
    """Mean over problems of all seeds, with a 95 % interval.

    Args:
        values: one list per seed, a number per problem.
        are_runs: whether seeds are training runs of their own, to be drawn as well; else the
            problems of all seeds are one sample.

    Where all numbers are the same 0 or 1, the far end is the exact bound for nothing seen.
    """
    weights = [[1.0] * len(own) for own in values]
    found = estimate_ratio(values, weights, are_runs=are_runs)
    if found.low < found.high or found.mean not in (0.0, 1.0):
        return found
    edge = 0.025 ** (1.0 / sum(len(own) for own in values))
    low, high = (0.0, 1.0 - edge) if found.mean == 0.0 else (edge, 1.0)
    return Estimate(found.mean, low, high)


def estimate_ratio(
    numerators: Sequence[Sequence[float]],
    denominators: Sequence[Sequence[float]],
    *,
    are_runs: bool = False,
) -> Estimate:
    """Sum of the numerators over the sum of the denominators; otherwise as `estimate`.

    Raises:
        ValueError: nothing to divide by.
    """
    pairs = [np.array([n, d], float) for n, d in zip(numerators, denominators, strict=True)]
    total = sum(pair.sum(axis=1) for pair in pairs)
    if not pairs or total[1] == 0:
        raise ValueError("nothing was measured that could be averaged")
    mean = float(total[0] / total[1])
    random = np.random.default_rng(0)
    groups = pairs if are_runs else [np.concatenate(pairs, axis=1)]
    drawn = np.zeros((2, NUM_DRAWS))
    for _ in groups:
        chosen = random.integers(len(groups), size=NUM_DRAWS)
        for index, own in enumerate(groups):
            problems = random.integers(own.shape[1], size=(NUM_DRAWS, own.shape[1]))
            drawn += own[:, problems].sum(axis=2) * (chosen == index)
    is_known = drawn[1] > 0
    low, high = np.percentile(drawn[0, is_known] / drawn[1, is_known], [2.5, 97.5])
    return Estimate(mean, float(low), float(high))


def compare(
    values: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    *,
    are_runs: bool = False,
) -> Estimate:
    """`estimate` of the differences problem by problem: values minus baseline.

    Where no problem differs, the ends are the exact bounds for nothing seen, on both sides.

    Raises:
        ValueError: no problem at all.
    """
    differences = [
        [a - b for a, b in zip(own, other, strict=True)]
        for own, other in zip(values, baseline, strict=True)
    ]
    flat = [value for own in differences for value in own]
    if not flat:
        raise ValueError("no problem was answered by both; take more problems")
    if any(flat):
        return estimate(differences, are_runs=are_runs)
    edge = 1.0 - 0.025 ** (1.0 / len(flat))
    return Estimate(0.0, -edge, edge)


def say(value: Estimate, *, points: bool = False) -> str:
    """An estimate in words; as percentage points where asked."""
    if not points:
        return f"{value.mean:.2f} ({value.low:.2f} to {value.high:.2f})"
    return f"{100 * value.mean:.1f} ({100 * value.low:.1f} to {100 * value.high:.1f})"


def write_report(experiment: Experiment, report: Report, out: Path, elapsed_s: float) -> None:
    """Write the tables, the picture, and README.md unless there is one.

    Args:
        experiment: whose report it is.
        report: what is written.
        out: the folder.
        elapsed_s: of all units, whenever they were measured.
    """
    tables = [
        {"title": table.title, "columns": dict(table.columns), "lines": list(table.lines)}
        for table in report.tables
    ]
    text = json.dumps({"tables": tables, "reading": report.reading}, default=asdict, indent=1)
    write_text(out / "table.json", text + "\n")
    body = "\n".join(format_table(table) for table in report.tables)
    write_text(out / "table.md", f"# {experiment.name}: tables\n\n{body}")
    draw_picture(report, out / "plot.svg")
    if not (out / "README.md").is_file():
        lines = (
            f"# {experiment.name}",
            "",
            experiment.question,
            "",
            report.reading,
            "",
            f"![{experiment.question}](plot.svg)",
            "",
            f"[Tables](table.md), [the same as JSON](table.json); `sdbench experiment "
            f"{experiment.name}` made them in {elapsed_s / 60:.1f} minutes, "
            "[config.json](config.json) says of what and where.",
        )
        write_text(out / "README.md", "\n".join(lines) + "\n")


def format_table(table: Table) -> str:
    """One table as Markdown, its columns explained below."""
    head = [f"## {table.title}", "", f"| {' | '.join(table.columns)} |"]
    head.append("| " + " | ".join("---" for _ in table.columns) + " |")
    body = [
        "| " + " | ".join(format_cell(key, line[key]) for key in table.columns) + " |"
        for line in table.lines
    ]
    notes = [f"- `{key}`: {meaning}" for key, meaning in table.columns.items() if meaning]
    return "\n".join([*head, *body, "", *notes, ""])


def format_cell(key: str, value: Any) -> str:
    """Percentages where the column's name says so; `mean (low to high)` for estimates."""
    if value is None:
        return ""
    if isinstance(value, Estimate):
        return say(value, points=key.endswith("%"))
    if isinstance(value, float):
        return f"{100 * value:.1f}" if key.endswith("%") else f"{value:.3g}"
    return str(value)


def draw_picture(report: Report, path: Path) -> None:
    """Draw with matplotlib's object interface: no display, the same bytes for the same numbers."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6), facecolor="white", layout="constrained")
        report.draw(figure)
        partial = path.with_suffix(".partial")
        figure.savefig(partial, format="svg", metadata={"Date": None, "Creator": None})
        partial.replace(path)


def draw_estimates(
    axes: "Axes", xs: Sequence[float], values: Sequence[Estimate], label: str | None = None
) -> None:
    """A line through the means with bars of the intervals."""
    means = [value.mean for value in values]
    low = [value.mean - value.low for value in values]
    high = [value.high - value.mean for value in values]
    axes.errorbar(xs, means, yerr=(low, high), marker="o", markersize=4, capsize=2, label=label)


def draw_bars(axes: "Axes", names: Sequence[str], values: Sequence[Estimate], title: str) -> None:
    """One horizontal mark per name, the first on top, with its interval."""
    for place, value in enumerate(values):
        axes.plot([value.low, value.high], [place, place], color="C0")
        axes.plot([value.mean], [place], "o", color="C0", markersize=5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)


def draw_panels(
    figure: "Figure", lines: Sequence[Mapping[str, Any]], panels: Mapping[str, str]
) -> None:
    """`draw_bars` side by side: a panel per column of the lines, under its title."""
    names = [line["arm"] for line in lines]
    for axes, (key, title) in zip(
        figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True
    ):
        draw_bars(axes, names, [line[key] for line in lines], title)
