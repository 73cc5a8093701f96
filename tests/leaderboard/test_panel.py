"""Views, groups and speed at matched quality."""

from collections.abc import Callable

import pytest

from sdb_harness.records import Cell, SampleRow
from sdb_leaderboard.headline import write_headlines
from sdb_leaderboard.panel import ALL_GROUPS, Panel, build_panels
from sdb_leaderboard.table import flatten_rows

MakeCell = Callable[..., tuple[Cell, list[SampleRow]]]
P, F = ["passed"], ["wrong_answer"]


def _build(made: list[tuple[Cell, list[SampleRow]]]) -> list[Panel]:
    cells = {cell.compute_hash(): cell for cell, _ in made}
    return build_panels(cells, flatten_rows(cells, [row for _, rows in made for row in rows]))


def test_views_and_groups_become_panels(make_cell: MakeCell) -> None:
    panels = _build(
        [
            make_cell([P, F, P, F], groups=("level-1", "level-2")),
            make_cell([P, P, P, F], groups=("level-1", "level-2"), threshold=0.5),
            make_cell([P, F], benchmark="humaneval"),
        ]
    )
    names = [(panel.benchmark, panel.group) for panel in panels]
    assert names == [
        ("minipy", ALL_GROUPS),
        ("minipy", "level-1"),
        ("minipy", "level-2"),
        ("humaneval", ALL_GROUPS),
    ]
    assert panels[2].table["pass_at_1"].tolist() == [0.5, 0.0]


def test_matched_speed_takes_the_fastest_sure_cell(make_cell: MakeCell) -> None:
    base = [P] * 150 + [F] * 50
    worse = [P] * 100 + [F] * 100
    panel = _build(
        [
            make_cell(base, generator="ar", block_size=None, seconds=4.0),
            make_cell(base, threshold=0.9, seconds=2.0),
            make_cell(base, threshold=0.8, seconds=1.0),
            make_cell(worse, threshold=0.5, seconds=0.1),
        ]
    )[0]
    assert panel.baseline is not None
    assert panel.baseline.ratio == pytest.approx(4.0)
    assert panel.baseline.ratio_low == pytest.approx(4.0)
    headlines = write_headlines(panel)
    assert headlines[0].figure.startswith("4.00")
    assert "block 8 · p > 0.8 is the fastest" in headlines[0].sentence
    # Equal quality: the faster of the two is the reference, and only garbage is faster still.
    assert headlines[1].figure == "none"
    assert "None qualifies" in headlines[1].sentence


def test_a_tokenizer_of_short_tokens_is_no_speed(make_cell: MakeCell) -> None:
    text = "x" * 300
    cells = [
        make_cell([P] * 200, generator="ar", block_size=None, output_tokens=100, text=text),
        make_cell([P] * 200, output_tokens=300, text=text),  # a token a character
    ]
    headline = write_headlines(_build(cells)[0])[0]
    assert headline.figure.startswith("3.00")
    assert "Its tokens hold 1.0 characters, the other's 3.0" in headline.sentence
    assert headline.sentence.endswith("in characters a second it is 1.00 times as fast.")


def test_too_few_problems_are_named(make_cell: MakeCell) -> None:
    panel = _build(
        [
            make_cell([P] * 20, generator="ar", block_size=None, seconds=4.0),
            make_cell([P] * 20),
        ]
    )[0]
    headline = write_headlines(panel)[0]
    assert headline.figure == "none"
    assert "20 problems are too few" in headline.sentence
    assert "149 would be the least" in headline.sentence


def test_missing_baseline_is_said(make_cell: MakeCell) -> None:
    headlines = write_headlines(_build([make_cell([P, F])])[0])
    assert headlines[0].sentence == "This view has no complete autoregressive configuration."
    assert "No diffusion configuration is faster" in headlines[1].sentence


def test_incomplete_cells_are_neither_baseline_nor_in_the_bootstrap(make_cell: MakeCell) -> None:
    panel = _build(
        [
            make_cell([P, P, ["infrastructure"]], generator="ar", block_size=None),
            make_cell([P, F, P]),
        ]
    )[0]
    assert panel.baseline is None
    lines = panel.table.set_index("kind")
    assert lines["inclusion_probability"].isna()["autoregressive"]
    assert lines.loc["diffusion", "inclusion_probability"] == 1.0


def test_part_of_a_benchmark_is_ranked_apart_and_never_against_the_whole(
    make_cell: MakeCell,
) -> None:
    whole = make_cell([P, P, F, F], seconds=9.0)
    parts = [make_cell([P, P, F, F], threshold=t, seconds=s) for t, s in ((0.5, 2.0), (0.4, 1.0))]
    cells = {cell.compute_hash(): cell for cell, _ in (whole, *parts)}
    part_hashes = [cell.compute_hash() for cell, _ in parts]
    rows = [row for _, rows in (whole, *parts) for row in rows]
    missing = "problem/002"
    not_judged = {key: [missing] for key in part_hashes}
    kept = [r for r in rows if r.problem_id not in not_judged.get(r.cell_hash, ())]
    panels = build_panels(cells, flatten_rows(cells, kept, not_judged))
    assert [panel.num_not_judged for panel in panels] == [1, 0]
    apart, alone = panels
    assert set(apart.table["cell_hash"]) == set(part_hashes)
    assert apart.table["is_ranked"].all()
    assert apart.table["pass_at_1"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert apart.num_on_frontier == 1
    assert alone.table["is_on_frontier"].tolist() == [True]  # slower, and on a frontier of its own
    # A store that has judged the problem after all makes the cell whole again.
    again = build_panels(cells, flatten_rows(cells, rows, not_judged))
    assert [(panel.num_not_judged, len(panel.table)) for panel in again] == [(0, 3)]
    # Cells that lack different problems are no rivals.
    other = {part_hashes[0]: [missing], part_hashes[1]: ["problem/003"]}
    kept = [r for r in rows if r.problem_id not in other.get(r.cell_hash, ())]
    assert len(build_panels(cells, flatten_rows(cells, kept, other))) == 3


def test_samples_of_a_problem_that_is_judged_in_part_do_not_count(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["passed", "passed"], ["wrong_answer", "wrong_answer"]])
    cells = {cell.compute_hash(): cell}
    (panel,) = build_panels(
        cells, flatten_rows(cells, rows[:3], {cell.compute_hash(): ["problem/001"]})
    )
    (line,) = panel.table.to_dict("records")
    assert (line["pass_at_1"], line["num_samples"], line["is_complete"]) == (1.0, 2, True)
