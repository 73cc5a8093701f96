"""Problems that this host cannot judge: said before anything runs, not asked, nobody's fault."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sdb_harness.cli import main
from sdb_harness.errors import UserError
from sdb_harness.generators.canonical import CanonicalGenerator
from sdb_harness.judging import Judge
from sdb_harness.records import Problem
from sdb_harness.store import Store

SWEEP = """
name = "small"
benchmarks = ["minipy:num_problems=4"]
generators = ["canonical"]
[grid]
samples_per_problem = [2]
"""
LACKING = "2 of 4 problems cannot be judged here and are not asked: 2 (needs a swift nobody has)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SWEEP)
    return tmp_path


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Ids of the problems that the host cannot judge; a test may change them."""
    ids = {"minipy/1", "minipy/3"}

    def explain(_: Judge, problem: Problem) -> str:
        return "needs a swift nobody has" if problem.problem_id in ids else ""

    monkeypatch.setattr(Judge, "explain_missing", explain)
    return ids


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def list_stored(folder: Path) -> tuple[list[str], int, int]:
    """Ids of the judged programs, stored faults and runs."""
    with Store.open_for_reading(folder / "runs" / "small" / "store.sqlite") as store:
        rows = [row.problem_id for row in store.iterate_rows()]
        return rows, store.count_faults(), len(store.list_manifests())


def test_what_cannot_be_judged_is_named_and_not_asked(folder: Path, missing: set[str]) -> None:
    planned = call("plan", "small.toml")
    assert planned.exit_code == 0, planned.output
    assert LACKING in planned.stderr
    assert "0 / 4" in planned.stdout
    assert "2 problems x 1 independent" in planned.stdout
    done = call("run", "small.toml")
    assert done.exit_code == 0, done.output
    assert done.stderr.count(LACKING) == done.stdout.count(LACKING) == 1
    assert "1 cell, 4 programs" in done.stdout
    assert list_stored(folder) == (["minipy/0", "minipy/0", "minipy/2", "minipy/2"], 0, 1)
    with Store.open_for_reading(folder / "runs" / "small" / "store.sqlite") as store:
        (manifest,) = store.list_manifests().values()
    assert LACKING in manifest.implementations["not judged"]
    assert "Apache-2.0; minipy, generated" in manifest.implementations["data/minipy:num_problems=4"]
    again = call("run", "small.toml")
    assert (again.exit_code, LACKING in again.stderr) == (0, True)
    assert "[1/1]" not in again.stdout  # nothing is asked or judged again
    assert list_stored(folder)[1:] == (0, 1)


def test_a_host_that_can_judge_them_completes_the_cell(folder: Path, missing: set[str]) -> None:
    assert call("run", "small.toml").exit_code == 0
    missing.clear()
    done = call("run", "small.toml")
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(list_stored(folder)[0]) == 8
    missing.add("minipy/0")  # judged before: stays, and nobody needs to be told
    again = call("run", "small.toml")
    assert (again.exit_code, again.stderr) == (0, "")
    with Store.open_for_reading(folder / "runs" / "small" / "store.sqlite") as store:
        assert store.list_not_judged() == {}


def test_what_was_generated_before_waits_for_a_judge(folder: Path, missing: set[str]) -> None:
    path = folder / "runs" / "small" / "store.sqlite"
    missing.clear()
    assert call("run", "small.toml").exit_code == 0
    with Store.open_for_writing(path) as store:
        store._connection.execute("DELETE FROM verdicts")
    missing.add("minipy/3")
    done = call("run", "small.toml")
    assert done.exit_code == 0, done.output
    assert sorted(set(list_stored(folder)[0])) == ["minipy/0", "minipy/1", "minipy/2"]
    with Store.open_for_reading(path) as store:
        (reasons,) = store.list_not_judged().values()
        assert reasons == {"minipy/3": "needs a swift nobody has"}


def test_nothing_to_judge_is_wrong_input(folder: Path, missing: set[str]) -> None:
    missing.update(f"minipy/{number}" for number in range(4))
    result = call("run", "small.toml")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "4 of 4 problems cannot be judged here" in result.stderr


SERVER = "openai:http://127.0.0.1:1/v1,model=m"


def test_a_sweep_goes_on_without_what_cannot_be_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDBENCH_DATA", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    text = SWEEP.replace('["minipy', '["mbpp", "minipy').replace('"canon', f'"{SERVER}", "canon')
    (folder / "small.toml").write_text(text)
    planned = call("plan", "small.toml")
    assert (planned.exit_code, "note: mbpp left out: " in planned.stderr) == (1, True)
    done = call("run", "small.toml")
    assert done.exit_code == 1, done.output
    assert "note: mbpp left out: mbpp/mbpp.jsonl is missing" in done.stderr
    cell = f"{SERVER} on minipy:num_problems=4, 2 samples"
    assert f"note: {cell} left out: openai: cannot talk to" in done.stderr
    assert f"left out 2, for the reasons noted above: mbpp; {cell}; mend" in done.stderr
    assert len(list_stored(folder)[0]) == 8


def test_a_cell_that_cannot_run_does_not_stop_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [UserError("the server answers\nHTML; is that its address?")]

    def warm_up(*_: object) -> None:
        if refusals:
            raise refusals.pop()

    monkeypatch.setattr(CanonicalGenerator, "warm_up", warm_up)
    (folder / "small.toml").write_text(SWEEP.replace("[2]", "[1, 2]"))
    done = call("run", "small.toml")
    assert done.exit_code == 1, done.output
    name = "canonical on minipy:num_problems=4, default"
    assert f"note: {name} left out: the server answers HTML; is that its address?" in done.stderr
    assert f"left out 1, for the reasons noted above: {name}; mend" in done.stderr
    assert len(list_stored(folder)[0]) == 8
    again = call("run", "small.toml")
    assert (again.exit_code, again.stderr) == (0, "")
    assert len(list_stored(folder)[0]) == 12
