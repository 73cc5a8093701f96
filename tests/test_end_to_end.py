"""The main path as a user walks it: real commands, real processes, real kills."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = """
name = "killed"
benchmarks = ["minipy:num_problems=6"]
generators = ["canonical"]
[grid]
samples_per_problem = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
"""
NUM_KILLS = 10

SDBENCH = [sys.executable, "-c", "from sdb_harness.cli import main; main()"]


def run_sdbench(folder: Path, *arguments: str) -> str:
    result = subprocess.run([*SDBENCH, *arguments], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def kill_run(folder: Path, num_cells: int, delay_s: float) -> bool:
    """Start a run and kill it `delay_s` after it finished `num_cells` more cells.

    Returns:
        Whether it was still running.
    """
    command = [*SDBENCH, "run", "killed.toml"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(1 + num_cells):  # the first line announces the run
            process.stdout.readline()
        try:
            process.wait(timeout=delay_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.stdout.read()
        return process.wait() == -signal.SIGKILL


def read_keys(store: Path) -> tuple[list[str], list[str]]:
    """Keys of all completions and verdicts, sorted."""
    connection = sqlite3.connect(store)
    try:
        completions = connection.execute("SELECT key FROM completions ORDER BY key").fetchall()
        verdicts = connection.execute("SELECT key FROM verdicts ORDER BY key").fetchall()
        (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
        assert integrity == "ok"
    finally:
        connection.close()
    return [key for (key,) in completions], [key for (key,) in verdicts]


@pytest.mark.slow
def test_ten_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
        (folder / "killed.toml").write_text(SWEEP)
    rng = random.Random(0)
    counts = [0]
    num_killed = 0
    store = Path("runs") / "killed" / "store.sqlite"
    for _ in range(NUM_KILLS):
        # The later cells are the longer ones, so early kills leave most of the work to do.
        num_killed += kill_run(killed, rng.randrange(3), rng.uniform(0.0, 0.1))
        completions, verdicts = read_keys(killed / store)
        assert len(set(completions)) == len(completions) >= counts[-1]
        assert len(set(verdicts)) == len(verdicts)
        counts.append(len(completions))
    assert num_killed >= NUM_KILLS // 2, f"the kills came too late: {counts}"
    run_sdbench(killed, "run", "killed.toml")
    run_sdbench(whole, "run", "killed.toml")
    assert read_keys(killed / store) == read_keys(whole / store)
    assert [len(keys) for keys in read_keys(killed / store)] == [6 * 55, 6 * 55]


def test_page_from_really_executed_programs(tmp_path: Path) -> None:
    output = run_sdbench(
        tmp_path, "run", "--benchmark", "minipy:num_problems=5", "--generator", "canonical"
    )
    assert "100.0% passed (5 of 5)" in output
    page = tmp_path / run_sdbench(tmp_path, "leaderboard", "build").splitlines()[-1]
    assert page.is_file()
    assert "canonical" in page.read_text()


def test_run_without_a_model_never_imports_torch(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom sdb_harness.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    arguments = ["run", "--benchmark", "minipy:num_problems=2", "--generator", "canonical"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
