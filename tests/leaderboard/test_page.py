"""The published files: self-contained, escaped, deterministic, and complete without scripts."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sdb_harness.records import Cell, RunManifest, SampleRow
from sdb_leaderboard.page import build_leaderboard
from sdb_leaderboard.series import list_series
from sdb_leaderboard.table import build_table

MakeCell = Callable[..., tuple[Cell, list[SampleRow]]]
HOSTILE = "</script><img src=x onerror=alert(1)>$x_[red]"
URL_ATTRIBUTES = {"src", "href", "action", "srcset", "data", "poster", "xlink:href"}


class _Elements(HTMLParser):
    """Collects start tags, and the texts of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == ("script", {}) and data.strip():
            self.scripts.append(data)


@pytest.fixture
def cells_and_rows(make_cell: MakeCell) -> tuple[dict[str, Cell], list[SampleRow]]:
    passed, failed = ["passed"], ["wrong_answer"]
    made = [
        make_cell([passed, failed, passed], groups=("a", HOSTILE), generator=HOSTILE),
        make_cell([passed, passed, failed], groups=("a", HOSTILE), threshold=0.5, seconds=0.5),
        make_cell([passed, ["infrastructure"], failed], groups=("a", HOSTILE), threshold=0.4),
        make_cell([passed, passed, failed], groups=("a", HOSTILE), generator="ar", block_size=None),
        make_cell([passed, failed], benchmark="humaneval:limit=2", hardware="machine-b"),
        make_cell([passed], benchmark="recorded", generator="canonical", output_tokens=0),
    ]
    cells = {cell.compute_hash(): cell for cell, _ in made}
    return cells, [row for _, rows in made for row in rows]


def _build(
    data: tuple[dict[str, Cell], list[SampleRow]], manifest: RunManifest, out_dir: Path
) -> tuple[str, _Elements]:
    hostile = manifest.model_copy(update={"command": HOSTILE})
    path = build_leaderboard(data[0], iter(data[1]), {"run-1": hostile}, out_dir)
    text = path.read_text(encoding="utf-8")
    elements = _Elements()
    elements.feed(text)
    return text, elements


def test_writes_four_files_with_the_same_bytes_every_time(
    cells_and_rows: tuple[dict[str, Cell], list[SampleRow]], manifest: RunManifest, tmp_path: Path
) -> None:
    cells, rows = cells_and_rows
    _build((cells, rows), manifest, tmp_path / "one")
    _build((dict(reversed(cells.items())), rows[::-1]), manifest, tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["cells.csv", "frontier.png", "frontier.svg", "index.html"]
    for name in names:
        first, second = (tmp_path / folder / name for folder in ("one", "two"))
        assert first.read_bytes() == second.read_bytes(), name
    assert (tmp_path / "one" / "cells.csv").read_text().count("\n") >= 7
    assert (tmp_path / "one" / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_labels_above_the_axes_are_not_cut(
    cells_and_rows: tuple[dict[str, Cell], list[SampleRow]], manifest: RunManifest, tmp_path: Path
) -> None:
    text, _ = _build(cells_and_rows, manifest, tmp_path)
    found = re.search(r'id="figures">(.*?)</script>', text)
    assert found
    traces = [one for figure in json.loads(found[1]).values() for one in figure["data"]]
    points = [one for one in traces if one["mode"] == "markers+text" and "error_y" in one]
    assert points
    assert all(one["cliponaxis"] is False for one in points)


def test_page_loads_nothing_from_anywhere(
    cells_and_rows: tuple[dict[str, Cell], list[SampleRow]], manifest: RunManifest, tmp_path: Path
) -> None:
    _, elements = _build(cells_and_rows, manifest, tmp_path)
    addresses = [
        value or ""
        for _, attributes in elements.tags
        for name, value in attributes.items()
        if name in URL_ATTRIBUTES
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    policy = next(a["content"] for _, a in elements.tags if "http-equiv" in a) or ""
    assert "default-src 'none'" in policy
    assert "http" not in policy
    hashes = re.findall(r"'sha256-([^']+)'", policy)
    digests = [hashlib.sha256(script.encode()).digest() for script in elements.scripts]
    assert [base64.b64encode(digest).decode() for digest in digests] == hashes
    assert len(hashes) == 2


def test_hostile_names_stay_text(
    cells_and_rows: tuple[dict[str, Cell], list[SampleRow]], manifest: RunManifest, tmp_path: Path
) -> None:
    text, elements = _build(cells_and_rows, manifest, tmp_path)
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror" in text
    assert not any("onerror" in attributes for _, attributes in elements.tags)
    assert text.count("</script>") == 3  # data, library, page


def test_every_cell_is_in_the_page_without_scripts(
    cells_and_rows: tuple[dict[str, Cell], list[SampleRow]], manifest: RunManifest, tmp_path: Path
) -> None:
    text, _ = _build(cells_and_rows, manifest, tmp_path)
    for cell_hash in cells_and_rows[0]:
        assert f">{cell_hash}</td>" in text
    assert "Test CPU" in text
    assert "with uncommitted changes" in text


def test_reported_numbers_appear_on_their_benchmark_only(
    cells_and_rows: tuple[dict[str, Cell], list[SampleRow]],
    make_cell: MakeCell,
    manifest: RunManifest,
    tmp_path: Path,
) -> None:
    with_humaneval, _ = _build(cells_and_rows, manifest, tmp_path / "with")
    assert with_humaneval.count("Reported elsewhere, not measured here") == 1
    cell, rows = make_cell([["passed"], ["wrong_answer"]])
    without, _ = _build(({cell.compute_hash(): cell}, rows), manifest, tmp_path / "without")
    assert "Mercury" not in without


def test_a_run_without_manifest_is_named(make_cell: MakeCell, tmp_path: Path) -> None:
    cell, rows = make_cell([["passed"], ["wrong_answer"]])
    path = build_leaderboard({cell.compute_hash(): cell}, rows, {}, tmp_path)
    assert "Run run-1: no manifest stored" in path.read_text(encoding="utf-8")


def test_a_view_without_any_speed_is_shown_as_such(
    make_cell: MakeCell, manifest: RunManifest, tmp_path: Path
) -> None:
    cell, rows = make_cell(
        [["passed"]] * 3, generator="canonical", block_size=None, output_tokens=0
    )
    data = {cell.compute_hash(): cell}, rows
    text, _ = _build(data, manifest, tmp_path)
    assert "No configuration of this view has a measured speed." in text
    assert "no speed</td>" in text


def test_data_are_named_with_licence_citation_and_whole_hash(
    make_cell: MakeCell, manifest: RunManifest, tmp_path: Path
) -> None:
    cell, rows = make_cell([["passed"]])
    line = f"minipy 1.0: 1 problems, sha256 {cell.benchmark_revision[:16]}, MIT; Who & Wer 2026"
    other = manifest.model_copy(update={"implementations": {"data/minipy": "minipy: older data"}})
    manifest = manifest.model_copy(update={"implementations": {"data/minipy": line}})
    runs = {"run-0": other, "run-1": manifest}
    text = build_leaderboard({cell.compute_hash(): cell}, rows, runs, tmp_path).read_text()
    assert f"Data: {line.replace('&', '&amp;')}. SHA-256" in text
    assert f"SHA-256 of this revision {cell.benchmark_revision}." in text


def test_a_benchmark_judged_in_part_says_so(
    make_cell: MakeCell, manifest: RunManifest, tmp_path: Path
) -> None:
    cell, rows = make_cell([["passed"], ["wrong_answer"], ["passed"]])
    cells, not_judged = {cell.compute_hash(): cell}, {cell.compute_hash(): ["problem/002"]}
    path = build_leaderboard(cells, rows[:2], {"run-1": manifest}, tmp_path, not_judged)
    text = path.read_text(encoding="utf-8")
    assert "<h2>minipy, 2 of 3 problems judged on Test CPU</h2>" in text
    assert "1 other problems could not be judged on their host" in text
    assert "incomplete</td>" not in text


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run a sweep first"):
        build_leaderboard({}, [], {}, tmp_path)


def test_many_series_keep_looks_of_their_own(make_cell: MakeCell) -> None:
    sizes = (None, 1, 2, 4, 8, 16, 32, 64)
    made = [
        make_cell([["passed"]], generator=generator, block_size=size)
        for generator in ("one", "two")
        for size in sizes
    ]
    cells = {cell.compute_hash(): cell for cell, _ in made}
    looks = list_series(build_table(cells, [row for _, rows in made for row in rows])).values()
    assert len({(look.role, look.shape) for look in looks}) == 2 * len(sizes)


def test_views_that_would_be_called_the_same_are_told_apart(
    make_cell: MakeCell, manifest: RunManifest, tmp_path: Path
) -> None:
    made = [make_cell([["passed"]], hardware=name) for name in ("machine-a", "machine-b")]
    data = (
        {cell.compute_hash(): cell for cell, _ in made},
        [row for _, rows in made for row in rows],
    )
    text, _ = _build(data, manifest, tmp_path)  # both machines have the same processor
    titles = re.findall(r"<option[^>]*>(minipy on [^<]*)</option>", text)
    assert len(titles) == len(set(titles)) == 2
