"""The leaderboard in a terminal: one Rich table per view.

Place in the flow: `sdbench` prints it when a run has ended. The short form of
the page; intervals included, because a score without one is half a number.
"""

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sdb_leaderboard.compare import Comparison
from sdb_leaderboard.diagnostics import list_warnings
from sdb_leaderboard.panel import label_cells
from sdb_leaderboard.table import (
    GROUP_PREFIX,
    PASS_AT_K,
    VIEW_COLUMNS,
    describe_judged,
    summarise_spreads,
)

RATES = ("truncation", "empty", "malformed")


def print_table(table: pd.DataFrame, console: Console) -> None:
    """Print every view of `build_table`, best pass@1 first, the observed frontier marked.

    Args:
        table: From `table.build_table`.
        console: Where to print.
    """
    if table.empty:
        console.print("No stored sample to show; run a sweep first.")
        return
    for _, view in table.groupby(VIEW_COLUMNS, sort=False):
        benchmark, revision, hardware, batch_size, _ = (view[c].iloc[0] for c in VIEW_COLUMNS)
        title = (
            f"{benchmark}{describe_judged(view.iloc[0])} · revision {revision[:8]} · "
            f"hardware {hardware} · batch {batch_size}"
        )
        console.print(_format_view(view, title))


def print_spreads(table: pd.DataFrame, console: Console) -> None:
    """Print one line for every cell that was asked in several wordings."""
    for _, line in summarise_spreads(table).iterrows():
        low, high = 100 * line["lowest"], 100 * line["highest"]
        text = (
            f"{line['generator']} on {line['benchmark']}: {line['num_templates']} wordings of "
            f"{line['protocol']}, pass@1 from {low:.1f} to {high:.1f} %, spread {high - low:.1f} "
            "points"
        )
        console.print(Text(text), soft_wrap=True)


def print_warnings(table: pd.DataFrame, console: Console, limit: int = 5) -> None:
    """Print what looks wrong with cells that ran a model, the first `limit` cells in full."""
    ran = table[table["kind"] != "recorded"] if not table.empty else table
    found = []
    for label, (_, line) in zip(label_cells(ran) if len(ran) else [], ran.iterrows(), strict=True):
        if warnings := list_warnings({str(key): value for key, value in line.items()}):
            found.append(f"{label}: {'; '.join(warnings)}")
    for text in found[:limit]:
        console.print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)
    if len(found) > limit:
        console.print(Text(f"and {len(found) - limit} more cells with warnings", style="yellow"))


def print_groups(table: pd.DataFrame, console: Console) -> None:
    """Print pass@1 of every problem group, one line each, of the best cell of each view."""
    for _, view in table.groupby(VIEW_COLUMNS, sort=False) if not table.empty else ():
        line = view.iloc[0]  # best pass@1 first
        groups = [str(name) for name in table if str(name).startswith(GROUP_PREFIX)]
        scores = {name.removeprefix(GROUP_PREFIX): line[name] for name in sorted(groups)}
        scores = {group: score for group, score in scores.items() if not pd.isna(score)}
        if not scores:
            continue
        title = f"{line['benchmark']} by group, pass@1 %, {label_cells(view)[0]}"
        console.print(Text(f"{title}{', the best of this view' if len(view) > 1 else ''}:"))
        interval = ""
        if "pass_at_1_macro" in line and not pd.isna(line["pass_at_1_macro"]):
            low, high = 100 * line["pass_at_1_macro_low"], 100 * line["pass_at_1_macro_high"]
            interval = f"  95 % {low:.1f} to {high:.1f}"
            scores[f"mean of {len(scores)} languages"] = line["pass_at_1_macro"]
        width = max(map(len, scores))
        texts = [f"  {group:{width}}  {100 * score:5.1f}" for group, score in scores.items()]
        texts[-1] += interval
        for text in texts:
            console.print(Text(text), soft_wrap=True)


def print_comparison(found: Comparison, title: str, console: Console) -> None:
    """Print the difference with its interval, and the problems that flipped."""
    change = 100 * (found.second - found.first)
    lines = [
        title,
        f"  pass@1 {100 * found.first:.1f} -> {100 * found.second:.1f} %, difference {change:+.1f} "
        f"points, 95 % {100 * found.low:+.1f} to {100 * found.high:+.1f}, paired over "
        f"{found.num_problems} problems",
    ]
    if found.num_apart:
        lines.append(f"  {found.num_apart} problems have samples in one of them only: not counted")
    for word, flips in (("gained", found.gained), ("lost", found.lost)):
        lines.append(f"  {word} {len(flips)}")
        lines += [
            f"    {key}  {before[0]}/{before[1]} -> {after[0]}/{after[1]}"
            for key, (before, after) in flips.items()
        ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def list_k(view: pd.DataFrame) -> list[int]:
    """The k of every pass@k that some cell of a view has samples for."""
    columns = (f"pass_at_{k}" for k in PASS_AT_K)
    return [
        k
        for k, column in zip(PASS_AT_K, columns, strict=True)
        if column in view and view[column].notna().any()
    ]


def _format_view(view: pd.DataFrame, title: str) -> Table:
    # Names are wrapped in Text: Rich would read square brackets in them as markup.
    output = Table(title=Text(title), title_justify="left", title_style="bold", box=None)
    output.add_column("")
    output.add_column("configuration", overflow="fold")
    for name in ("pass@1 %", "95 % interval", *(f"pass@{k}" for k in list_k(view))):
        output.add_column(name, justify="right", no_wrap=True)
    for name in ("tok/s/user", "tok/fwd", "truncated %", "empty %", "malformed %", "problems"):
        output.add_column(name, justify="right", no_wrap=True)
    for label, (_, line) in zip(label_cells(view), view.iterrows(), strict=True):
        output.add_row(
            Text("●" if line["is_on_frontier"] else ""),
            Text(label),
            _format(100 * line["pass_at_1"], "{:.1f}"),
            f"{_format(100 * line['pass_at_1_low'], '{:.1f}')} to "
            f"{_format(100 * line['pass_at_1_high'], '{:.1f}')}",
            *(_format(100 * line[f"pass_at_{k}"], "{:.1f}") for k in list_k(view)),
            _format(line["tok_s_user"], "{:.1f}"),
            _format(line["tokens_per_forward"], "{:.2f}"),
            *(_format(100 * line[f"{name}_rate"], "{:.1f}") for name in RATES),
            f"{line['num_problems']:.0f}{'' if line['is_complete'] else ', incomplete'}",
            style=None if line["is_on_frontier"] else "dim",
        )
    if view["is_on_frontier"].any():
        output.caption = "● observed frontier of speed and quality in this view"
    output.caption_justify = "left"
    return output


def _format(value: float, spec: str) -> str:
    return "-" if pd.isna(value) else spec.format(value)
