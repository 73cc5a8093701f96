"""Cell lines from hand-made rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sdb_harness.records import Cell, SampleRow
from sdb_leaderboard.columns import select_columns
from sdb_leaderboard.statistics import compute_score_interval
from sdb_leaderboard.table import (
    GROUP_PREFIX,
    build_table,
    format_policy,
    summarise_spreads,
)

MakeCell = Callable[..., tuple[Cell, list[SampleRow]]]


def test_one_line_per_cell_with_its_numbers(make_cell: MakeCell) -> None:
    cell, rows = make_cell(
        [["passed"], ["wrong_answer"], ["passed"], ["memory"]],
        seconds=2.0,
        groups=("level-1", "level-2"),
        finish_reason="length",
    )
    table = build_table({cell.compute_hash(): cell}, reversed(rows))
    (line,) = table.to_dict("records")
    assert line["pass_at_1"] == 0.5
    assert line["pass_at_1_low"] < 0.5 < line["pass_at_1_high"]
    assert line["tok_s_user"] == line["tok_s_user_p10"] == line["tok_s_user_pooled"] == 50.0
    assert line["tokens_per_forward"] == 4.0
    assert line["first_block_s_p50"] == 1.0
    assert line["e2e_s_p90"] == 2.0
    assert line["truncation_rate"] == 1.0
    assert (line["empty_rate"], line["malformed_rate"]) == (0.0, 0.0)
    assert line["output_characters_mean"] == len("    pass\n")
    assert (line["num_problems"], line["num_samples"], line["coverage"]) == (4, 4, 1.0)
    assert line["is_complete"]
    assert line["is_on_frontier"]
    assert line[f"{GROUP_PREFIX}level-1"] == 1.0
    assert line[f"{GROUP_PREFIX}level-2"] == 0.0


@pytest.mark.parametrize("loss", ["infrastructure", "error"])
def test_lost_samples_are_counted_and_never_failures(make_cell: MakeCell, loss: str) -> None:
    cell, rows = make_cell([["passed"], ["passed"], [loss]])
    (line,) = build_table({cell.compute_hash(): cell}, rows).to_dict("records")
    assert line["pass_at_1"] == 1.0
    assert line["num_infrastructure"] == 1
    assert line["num_samples"] == 2
    assert line["coverage"] == pytest.approx(2 / 3)
    assert not line["is_complete"]
    assert not line["is_on_frontier"]


def test_a_cell_with_nothing_scored_has_no_score(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["infrastructure"], ["infrastructure"]])
    (line,) = build_table({cell.compute_hash(): cell}, rows).to_dict("records")
    assert line["pass_at_1"] != line["pass_at_1"]
    assert line["num_infrastructure"] == 2


def test_a_cell_that_misses_problems_of_the_view_is_incomplete(make_cell: MakeCell) -> None:
    whole, whole_rows = make_cell([["passed"]] * 4)
    part, part_rows = make_cell([["passed"]] * 4, threshold=0.5, seconds=0.1)
    cells = {cell.compute_hash(): cell for cell in (whole, part)}
    table = build_table(cells, whole_rows + part_rows[:3]).set_index("cell_hash")
    assert table.loc[part.compute_hash(), "coverage"] == 0.75
    assert not table.loc[part.compute_hash(), "is_on_frontier"]
    assert table.loc[whole.compute_hash(), "is_on_frontier"]


def test_a_problem_without_a_row_in_any_cell_leaves_them_incomplete(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["passed"]] * 3, num_problems=4)
    (line,) = build_table({cell.compute_hash(): cell}, rows).to_dict("records")
    assert line["coverage"] == 0.75
    assert not line["is_complete"]
    assert not line["is_on_frontier"]


def test_empty_answers_slow_the_median_down(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["passed"]] * 3)
    _, empty = make_cell([["wrong_answer"]] * 3, output_tokens=0, text="")
    _, unknown = make_cell([["wrong_answer"]] * 3, output_tokens=0)  # a server without counts
    cells = {cell.compute_hash(): cell}
    (line,) = build_table(cells, [rows[0], *empty[1:]]).to_dict("records")
    assert line["tok_s_user"] == 0.0
    assert not line["is_timed"]
    (line,) = build_table(cells, [*rows[:2], empty[2]]).to_dict("records")
    assert line["tok_s_user"] == line["tok_s_user_p90"] == 100.0
    assert line["tok_s_user_p10"] < 100.0
    (line,) = build_table(cells, [rows[0], *unknown[1:]]).to_dict("records")
    assert line["tok_s_user_p10"] == 100.0


@pytest.mark.parametrize("other", [{"hardware": "machine-b"}, {"batch_size": 8}])
def test_frontier_never_crosses_machines_or_batch_sizes(
    make_cell: MakeCell, other: dict[str, Any]
) -> None:
    slow, slow_rows = make_cell([["passed"], ["wrong_answer"]], seconds=9.0)
    fast, fast_rows = make_cell([["passed"], ["passed"]], **other)
    cells = {cell.compute_hash(): cell for cell in (slow, fast)}
    assert build_table(cells, slow_rows + fast_rows)["is_on_frontier"].tolist() == [True, True]


def test_recorded_text_has_a_score_and_no_rank(make_cell: MakeCell) -> None:
    cell, rows = make_cell(
        [["passed"]] * 3, generator="canonical", block_size=None, output_tokens=0
    )
    (line,) = build_table({cell.compute_hash(): cell}, rows).to_dict("records")
    assert line["kind"] == "recorded"
    assert line["pass_at_1"] == 1.0
    assert line["tok_s_user"] != line["tok_s_user"]
    assert not line["is_on_frontier"]


def test_pass_at_k_appears_with_enough_samples(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["passed"] + ["wrong_answer"] * 5, ["wrong_answer"] * 6])
    (line,) = build_table({cell.compute_hash(): cell}, rows).to_dict("records")
    assert line["pass_at_5"] == pytest.approx((5 / 6) / 2)
    assert line["pass_at_2"] == pytest.approx((2 / 6) / 2)
    of_problems = compute_score_interval(np.array([5 / 6, 0.0]))
    assert (line["pass_at_5_low"], line["pass_at_5_high"]) == pytest.approx(
        (of_problems.low, of_problems.high)
    )
    columns = {column.key: column for column in select_columns(pd.DataFrame([line]))}
    assert columns["pass_at_5"].write(pd.Series(line)) == "41.7 [5.1, 90.4]"
    assert "pass_at_10" not in line


def test_pass_at_100_appears_with_a_hundred_samples(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["passed"] + ["wrong_answer"] * 99, ["wrong_answer"] * 100])
    (line,) = build_table({cell.compute_hash(): cell}, rows).to_dict("records")
    assert line["pass_at_100"] == 0.5
    assert "pass_at_200" not in line


def test_languages_weigh_the_same_in_their_mean(make_cell: MakeCell) -> None:
    outcomes, groups = [["passed"], ["wrong_answer"], ["passed"]], ("go", "java", "go")
    for benchmark, expected in (("mbxp:language=go+java", 0.5), ("minipy", None)):
        cell, rows = make_cell(outcomes, groups=groups, benchmark=benchmark)
        (line,) = build_table({cell.compute_hash(): cell}, rows).to_dict("records")
        assert line["pass_at_1"] == pytest.approx(2 / 3)
        assert line.get("pass_at_1_macro") == expected
        if expected:
            assert line["pass_at_1_macro_low"] < expected < line["pass_at_1_macro_high"]


def test_a_sample_that_its_cell_does_not_have_is_an_error(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["passed"], ["wrong_answer"]])
    more = rows[0].model_copy(update={"sample_index": 1})  # one more pass of an easy problem
    with pytest.raises(ValueError, match=r"1 samples per problem and a row of sample 1 \(from 0\)"):
        build_table({cell.compute_hash(): cell}, [*rows, more])


def test_doubled_samples_and_unknown_cells_are_errors(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["passed"]])
    with pytest.raises(ValueError, match="stored twice"):
        build_table({cell.compute_hash(): cell}, rows * 2)
    with pytest.raises(ValueError, match="unknown cell"):
        build_table({}, rows)


def test_no_rows_make_an_empty_table() -> None:
    assert build_table({}, []).empty


def test_policies_are_spelled() -> None:
    nan = float("nan")
    assert format_policy(nan, nan, "entropy:0.3") == "entropy:0.3"
    assert format_policy(0.9, nan, "") == "p > 0.9"
    assert format_policy(1.0, nan, "") == "one by one"
    assert format_policy(nan, 8, "") == "8 steps"
    assert format_policy(nan, nan, "") == "-"


@pytest.mark.parametrize("rule", ["no_block", "diff_malformed", "whole_no_edit"])
def test_answers_without_text_or_program_are_counted(make_cell: MakeCell, rule: str) -> None:
    cell, rows = make_cell([["wrong_answer"], ["compile_error"]], text=" \n")
    rows[0] = rows[0].model_copy(update={"extraction_rule": rule})
    (line,) = build_table({cell.compute_hash(): cell}, rows).to_dict("records")
    assert (line["empty_rate"], line["malformed_rate"]) == (1.0, 1.0)


def test_the_spread_of_wordings_is_within_equal_cells(make_cell: MakeCell) -> None:
    cells, rows = {}, []
    for protocol, outcomes in (
        ("chat", [["passed"], ["passed"]]),
        ("chat/2@2", [["passed"], ["wrong_answer"]]),
        ("chat/3", [["wrong_answer"], ["wrong_answer"]]),
        ("base", [["passed"], ["wrong_answer"]]),
    ):
        cell, of_cell = make_cell(outcomes)
        cell = cell.model_copy(update={"protocol": protocol})
        cells[cell.compute_hash()] = cell
        rows += [r.model_copy(update={"cell_hash": cell.compute_hash()}) for r in of_cell]
    (line,) = summarise_spreads(build_table(cells, rows)).to_dict("records")
    assert (line["protocol"], line["num_templates"]) == ("chat", 3)
    assert (line["lowest"], line["highest"]) == (0.0, 1.0)
