"""From stored records to the published files: one page, two pictures, one CSV file.

Place in the flow: the last step. `build_leaderboard` reads nothing but its arguments and writes
`index.html` (self-contained: script, style and data inside, no request to anywhere), `frontier.svg`
and `frontier.png` (the first view, drawn without a browser), and `cells.csv`. The same input
gives the same bytes.

Everything that came from data is escaped where it enters HTML (by Jinja), JSON inside a script
element, or plotly's label dialect. A content security policy allows only the page's own two
scripts, by hash.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from sdb_harness.records import Cell, RunManifest, SampleRow
from sdb_leaderboard.columns import COLUMNS, Column, select_columns
from sdb_leaderboard.figures import draw_frontier
from sdb_leaderboard.headline import Headline, write_headlines
from sdb_leaderboard.panel import ALL_GROUPS, QUALITY_TOLERANCE, Panel, build_panels
from sdb_leaderboard.reported import Reported, load_reported, select_reported
from sdb_leaderboard.series import (
    DARK_COLORS,
    LIGHT_COLORS,
    NEUTRAL_DARK,
    NEUTRAL_LIGHT,
    Series,
    compute_series_key,
    list_series,
)
from sdb_leaderboard.static_figure import render_static
from sdb_leaderboard.table import NotJudged, describe_judged, flatten_rows

PLOTLY_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
"""Of `plotly.js-basic-dist-min` 4.1.1 from npm, MIT licence beside the file."""


def build_leaderboard(
    cells: Mapping[str, Cell],
    rows: Iterable[SampleRow],
    manifests: Mapping[str, RunManifest],
    out_dir: Path,
    not_judged: NotJudged | None = None,
) -> Path:
    """Write the page, the pictures and the CSV file.

    Args:
        cells: Cell hash -> cell.
        rows: All stored samples; read once.
        manifests: Run id -> manifest; a run without one is named as such on the page.
        out_dir: Created if it is missing; the four files in it are replaced.
        not_judged: As the stores list it; nothing if None.

    Returns:
        The path of `index.html`.

    Raises:
        ValueError: If there is no row, a row names an unknown cell, or a sample occurs twice.
    """
    samples = flatten_rows(cells, rows, not_judged)
    panels = build_panels(cells, samples)
    if not panels:
        raise ValueError("no stored sample to show; run a sweep first")
    overviews = [panel for panel in panels if panel.group == ALL_GROUPS]
    looks = list_series(pd.concat([panel.table for panel in overviews], ignore_index=True))
    reported = load_reported()
    machines = _name_machines(cells, samples, manifests)
    csv = _write_csv(overviews)
    first = overviews[0]
    svg, png = render_static(
        first,
        _title_views(panels, machines)[0],
        looks,
        select_reported(reported, first.benchmark),
    )
    page = _render_page(panels, looks, reported, machines, samples, manifests, csv, svg)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "cells.csv").write_text(csv, encoding="utf-8")
    (out_dir / "frontier.svg").write_bytes(svg)
    (out_dir / "frontier.png").write_bytes(png)
    path = out_dir / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


@dataclass(frozen=True, slots=True)
class _Block:
    """What the template shows for one panel. `view` and `position` number it for the selectors."""

    id: str
    view: int
    position: int
    title: str
    panel: Panel
    headlines: list[Headline]
    columns: list[Column]
    legend: list[Series]
    reported: tuple[Reported, ...]
    data: str
    """Release, licence and citation of the benchmark's data, as its runs recorded them."""

    @property
    def lines(self) -> list[pd.Series]:
        return [line for _, line in self.panel.table.iterrows()]


def _render_page(
    panels: list[Panel],
    looks: Mapping[tuple[str, str], Series],
    reported: tuple[Reported, ...],
    machines: Mapping[str, str],
    samples: pd.DataFrame,
    manifests: Mapping[str, RunManifest],
    csv: str,
    svg: bytes,
) -> str:
    blocks = _list_blocks(panels, looks, reported, machines, manifests)
    figures = {
        block.id: draw_frontier(block.panel, looks, block.reported).to_plotly_json()
        for block in blocks
    }
    plotly, script = _read_plotly(), _read_template("page.js")
    environment = Environment(
        loader=PackageLoader("sdb_leaderboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        blocks=blocks,
        all_groups=ALL_GROUPS,
        definitions=COLUMNS,
        tolerance=f"{100 * QUALITY_TOLERANCE:g}",
        machines=machines,
        runs={run_id: manifests.get(run_id) for run_id in sorted(set(samples["run_id"]))},
        themes=[
            ("light", NEUTRAL_LIGHT, LIGHT_COLORS),
            ("dark", NEUTRAL_DARK, DARK_COLORS),
        ],
        figures=_encode_json(figures),
        csv_uri=_encode_uri("text/csv", csv.encode()),
        svg_uri=_encode_uri("image/svg+xml", svg),
        style=_read_template("page.css"),
        plotly=plotly,
        script=script,
        script_hashes=" ".join(f"'sha256-{_hash_script(text)}'" for text in (plotly, script)),
    )


def _list_blocks(
    panels: list[Panel],
    looks: Mapping[tuple[str, str], Series],
    reported: tuple[Reported, ...],
    machines: Mapping[str, str],
    manifests: Mapping[str, RunManifest],
) -> list[_Block]:
    blocks: list[_Block] = []
    view = -1
    titles = _title_views(panels, machines)
    for position, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        view += panel.group == ALL_GROUPS
        timed = panel.table[panel.table["is_timed"]]
        keys = {compute_series_key(line) for _, line in timed.iterrows()}
        blocks.append(
            _Block(
                id=f"panel-{position}",
                view=view,
                position=position,
                title=title,
                panel=panel,
                headlines=write_headlines(panel),
                columns=select_columns(panel.table),
                legend=[look for key, look in looks.items() if key in keys],
                reported=select_reported(reported, panel.benchmark),
                data=_describe_data(panel, manifests),
            )
        )
    return blocks


def _describe_data(panel: Panel, manifests: Mapping[str, RunManifest]) -> str:
    """The line that a run stored about this revision; empty for runs of before there was one."""
    for manifest in manifests.values():
        line = manifest.implementations.get(f"data/{panel.benchmark}", "")
        if panel.benchmark_revision[:16] in line:
            return line
    return ""


def _name_machines(
    cells: Mapping[str, Cell], samples: pd.DataFrame, manifests: Mapping[str, RunManifest]
) -> dict[str, str]:
    """Hardware hash -> GPU names, or the CPU's where there is none, or the hash if unrecorded."""
    names = {}
    for cell_hash, run_id in samples[["cell_hash", "run_id"]].drop_duplicates().to_numpy():
        key = cells[cell_hash].hardware
        parts = manifests[run_id].hardware if run_id in manifests else {}
        gpus = parts.get("gpus", "none")
        names[key] = parts.get("cpu", f"machine {key}") if gpus == "none" else gpus
    return names


def _title_views(panels: Sequence[Panel], machines: Mapping[str, str]) -> list[str]:
    """The title of each panel's view; revision and hardware are named where two look the same."""
    titles = [_title_view(panel, machines) for panel in panels]
    pairs = list(zip(titles, panels, strict=True))
    num_views = Counter(title for title, panel in pairs if panel.group == ALL_GROUPS)
    return [
        title
        if num_views[title] == 1
        else f"{title}, revision {panel.benchmark_revision[:8]}, hardware {panel.hardware}"
        for title, panel in pairs
    ]


def _title_view(panel: Panel, machines: Mapping[str, str]) -> str:
    judged = describe_judged(panel.table.iloc[0])
    title = f"{panel.benchmark}{judged} on {machines[panel.hardware]}"
    return title if panel.batch_size == 1 else f"{title}, batch {panel.batch_size}"


def _write_csv(overviews: list[Panel]) -> str:
    """All cells over all problems, every column, full precision."""
    table = pd.concat([panel.table for panel in overviews], ignore_index=True)
    return table.to_csv(index=False, lineterminator="\n")


def _read_plotly() -> str:
    """Read the vendored library; refuse one that is not the file we reviewed.

    Raises:
        ValueError: If its hash is not `PLOTLY_SHA256`.
    """
    text = _read_template("plotly-basic.min.js")
    actual = hashlib.sha256(text.encode()).hexdigest()
    if actual != PLOTLY_SHA256:
        raise ValueError(
            f"plotly-basic.min.js has SHA-256 {actual}, expected {PLOTLY_SHA256}; reinstall"
        )
    return text


def _read_template(name: str) -> str:
    data = files("sdb_leaderboard").joinpath("templates", name).read_bytes()
    return data.decode("utf-8")


def _encode_json(value: object) -> str:
    """JSON that cannot close a script element: `<` is written as an escape."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _encode_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _hash_script(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
