"""Two runs problem by problem."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from sdb_harness.cli import main
from sdb_harness.records import Cell, SampleRow
from sdb_harness.store import Store
from sdb_leaderboard.compare import compare_outcomes, count_outcomes, match_cells

MakeCell = Callable[..., tuple[Cell, list[SampleRow]]]


def test_flips_are_named_and_the_difference_is_paired(make_cell: MakeCell) -> None:
    _, before = make_cell([["passed"]] * 60 + [["wrong_answer"]] * 40)
    passed, failed = [["passed"]], [["memory"]]
    _, after = make_cell(passed * 59 + failed + passed * 11 + failed * 29)
    found = compare_outcomes(count_outcomes(before), count_outcomes(after))
    assert found.first == pytest.approx(0.60)
    assert found.second == pytest.approx(0.70)
    assert found.lost == {"problem/059": ((1, 1), (0, 1))}
    assert list(found.gained) == [f"problem/{number:03}" for number in range(60, 71)]
    # Paired by problem: 12 of 100 differ, so 10 points +- 1.98 * sqrt(0.1111 / 100).
    assert found.low == pytest.approx(0.034, abs=1e-3)
    assert found.high == pytest.approx(0.166, abs=1e-3)


def test_equal_runs_still_leave_room_for_what_was_not_seen(make_cell: MakeCell) -> None:
    _, rows = make_cell([["passed"], ["wrong_answer"]] * 50)
    found = compare_outcomes(count_outcomes(rows), count_outcomes(rows[:-1]))
    assert (found.gained, found.lost, found.num_problems, found.num_apart) == ({}, {}, 99, 1)
    assert found.low == -found.high
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 99))


def test_lost_samples_are_no_flips(make_cell: MakeCell) -> None:
    _, rows = make_cell([["passed", "error"], ["infrastructure", "infrastructure"]])
    assert count_outcomes(rows) == {"problem/000": (1, 1)}


def test_cells_are_paired_where_no_others_can_be_meant(make_cell: MakeCell) -> None:
    made = [make_cell([["passed"]], **kind)[0] for kind in ({}, {"threshold": 0.5})]
    both = {cell.compute_hash(): cell for cell in made}
    moved = {c.compute_hash(): c for c in (m.model_copy(update={"hardware": "b"}) for m in made)}
    assert match_cells(both, moved) == list(zip(both, moved, strict=True))
    other = make_cell([["passed"]], generator="ar", block_size=None)[0]
    one = {made[0].compute_hash(): made[0]}
    assert match_cells(one, {other.compute_hash(): other}) == [(*one, other.compute_hash())]
    assert match_cells(both, {other.compute_hash(): other}) == []
    stranger = make_cell([["passed"]], benchmark="humaneval")[0]
    assert match_cells(one, {stranger.compute_hash(): stranger}) == []


def test_the_command_compares_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_cell: MakeCell
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f'{{"task_id": "minipy/{n}", "completion": "    return 0"}}\n' for n in range(3)]
    Path("samples.jsonl").write_text("".join(lines))
    run = CliRunner().invoke
    for name, generator in (("a", "replay:samples.jsonl"), ("b", "canonical")):
        options = [
            "--benchmark=minipy:num_problems=3",
            f"--generator={generator}",
            f"--name={name}",
        ]
        assert run(main, ["run", *options]).exit_code == 0
    stores = [f"runs/{name}/store.sqlite" for name in "ab"]
    done = run(main, ["compare", *stores])
    assert done.exit_code == 0, done.output
    assert "pass@1 0.0 -> 100.0 %, difference +100.0 points" in done.stdout
    assert "gained 3\n    minipy/0  0/1 -> 1/1\n" in done.stdout
    assert "lost 0" in done.stdout
    empty = make_cell([["passed"]], benchmark="humaneval")[0]
    for path in stores:  # begun and without a row: the others are compared nevertheless
        with Store.open_for_writing(Path(path)) as store:
            store.add_cell(empty)
    more = run(main, ["compare", *stores])
    assert (more.exit_code, more.stdout) == (0, done.stdout)
    key = empty.compute_hash()
    assert more.stderr == f"note: cells {key} and {key} share no judged problem; run them\n"
    alone = run(main, ["compare", *stores, "--cells", key, key])
    assert (alone.exit_code, alone.stderr.count("\n")) == (2, 1)
    assert "share no judged problem" in alone.stderr
    wrong = run(main, ["compare", *stores, "--cells", "zz", "zz"])
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    assert "0 cells of runs/a/store.sqlite start with 'zz'; it has " in wrong.stderr
