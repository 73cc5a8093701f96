"""Failure signatures: counted rightly, warned of by name, silent for sound cells."""

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from sdb_harness.records import Cell, SampleRow
from sdb_leaderboard.diagnostics import compute_repetition, list_warnings, read_signature
from sdb_leaderboard.table import build_table
from sdb_leaderboard.terminal import print_warnings

MakeCell = Callable[..., tuple[Cell, list[SampleRow]]]

SOUND: dict[str, Any] = {
    "kind": "diffusion",
    "threshold": 0.9,
    "tokens_per_forward": 2.0,
    "repetition": 0.1,
    "undefined_name_rate": 0.0,
    "malformed_rate": 0.0,
    "truncation_rate": 0.0,
}


@pytest.mark.parametrize(
    ("items", "expected"),
    [("", 0.0), ("abc", 0.0), ("abcdefgh", 0.0), ("aaaaaaaa", 0.8), ("abcdabcd", 0.2)],
)
def test_repetition_is_the_share_of_ngrams_seen_before(items: str, expected: float) -> None:
    assert compute_repetition(items) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"repetition": 0.7}, "the decoder loops: raise the threshold"),
        ({"undefined_name_rate": 0.2}, "undefined names in 20% of the answers"),
        ({"undefined_name_rate": 0.2, "kind": "autoregressive"}, "train longer"),
        ({"malformed_rate": 0.3}, "30% of the answers are no program"),
        ({"truncation_rate": 0.5}, "raise max_new_tokens"),
        ({"tokens_per_forward": 1.0}, "slow: 1.00 tokens per forward at threshold 0.9"),
    ],
)
def test_each_signature_names_its_likely_cause(change: dict[str, Any], words: str) -> None:
    assert list_warnings(SOUND) == []
    (warning,) = list_warnings(SOUND | change)
    assert words in warning


def test_one_token_a_forward_is_not_slow_where_it_was_asked_for() -> None:
    assert list_warnings(SOUND | {"threshold": 1.0, "tokens_per_forward": 1.0}) == []
    assert list_warnings(SOUND | {"threshold": float("nan"), "tokens_per_forward": 1.0}) == []


def test_rows_give_signatures_and_cells_give_warnings(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["wrong_answer"]] * 4, text="x = x = x = x = x = x = x\n")
    rows[0] = rows[0].model_copy(update={"detail": "call 1: raised NameError"})
    assert read_signature(rows[0])["is_undefined_name"] == 1.0
    assert read_signature(rows[1]) == {"repetition": pytest.approx(0.8), "is_undefined_name": 0.0}
    table = build_table({cell.compute_hash(): cell}, rows)
    console = Console(record=True, width=300)
    print_warnings(table, console)
    text = console.export_text()
    assert "80% of the 4-grams" in text
    assert "undefined names in 25% of the answers" in text


def test_nothing_to_warn_of_is_no_output(make_cell: MakeCell) -> None:
    cell, rows = make_cell([["passed"]] * 4)
    console = Console(record=True)
    print_warnings(build_table({cell.compute_hash(): cell}, rows), console)
    print_warnings(build_table({}, []), console)
    assert console.export_text() == ""
