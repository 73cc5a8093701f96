"""Every experiment end to end in a tiny setting: shipped models, real tests, real training."""

import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sdb_harness.benchmarks.minipy import LIMITS
from sdb_harness.cli import main
from sdb_harness.cli_experiments import make_exam
from sdb_sandboxes.rewards import Judge

SHARED = "num_seeds = 1\nnum_problems = 3\nlevels = [1]\n"
POOL = 'pool_policies = ["threshold:0.9"]\npool_temperatures = [0.0, 1.0]\n'
TINY = {
    "corruption-mix": "num_train_steps = 2\nbatch_size = 2\nblock_sizes = [8]\n",
    "length-handling": "num_train_steps = 2\nbatch_size = 2\nblock_sizes = [8]\n",
    "attention": "num_train_steps = 2\nbatch_size = 2\nblock_sizes = [8]\nnum_draws = 2\n",
    "block-size": "block_sizes = [8]\ntokens_per_step = [4]\nforward_sizes = [1, 16]\n"
    "num_repeats = 2\n",
    "order": POOL + "pool_prompts = 6\nbatch_size = 2\nnum_updates = 1\n",
    "trajectory-quality": "num_problems = 6\n",
    "edit-distribution": "num_problems = 8\n",
    "verifier-robustness": POOL + "pool_prompts = 12\nprompts_per_update = 1\n"
    "runs_per_prompt = 2\nnum_updates = 1\n",
    "ar-vs-diffusion": "thresholds = [0.9]\n",
}
ARMS = {
    "corruption-mix": 4,
    "length-handling": 4,
    "attention": 3,
    "block-size": 3,
    "order": 5,
    "trajectory-quality": 4,
    "edit-distribution": 6,
    "verifier-robustness": 6,
    "ar-vs-diffusion": 4,
}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["experiment", *arguments])


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_an_experiment_runs_from_problems_to_a_picture(name: str, tmp_path: Path) -> None:
    keys = {line.split(" = ")[0] for line in TINY[name].splitlines()}
    shared = "".join(f"{x}\n" for x in SHARED.splitlines() if x.split(" = ")[0] not in keys)
    (tmp_path / "tiny.toml").write_text(shared + TINY[name])
    out = tmp_path / "out"
    arguments = (name, "--config", str(tmp_path / "tiny.toml"), "--out", str(out))
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    rows = (out / "rows.jsonl").read_text()
    arms = {json.loads(line)["arm"] for line in rows.splitlines()}
    assert len(arms) == len(rows.splitlines()) == ARMS[name]
    report = json.loads((out / "table.json").read_text())
    assert all(table["lines"] for table in report["tables"])
    assert report["reading"] in (out / "README.md").read_text()
    assert "nan" not in (out / "table.md").read_text()
    assert (out / "plot.svg").read_text().startswith("<?xml")
    assert not (out / "work").exists()
    before = (out / "table.json").read_bytes()
    assert call(*arguments).exit_code == 0
    assert (out / "rows.jsonl").read_text() == rows
    assert (out / "table.json").read_bytes() == before


def test_an_unknown_name_is_one_line_that_lists_the_known_ones() -> None:
    result = call("blocksize")
    assert result.exit_code == 2
    (line,) = result.output.strip().splitlines()
    assert "no experiment 'blocksize'" in line
    assert all(name in line for name in TINY)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("block-size", "block_sises = [4]", "unknown key 'block_sises'"),
        ("block-size", "tokens_per_step = [5]", "at most the smallest of block_sizes=[4, "),
        ("ar-vs-diffusion", "thresholds = []", "thresholds=[] leaves no diffusion setting"),
        ("trajectory-quality", 'policies = ["steps:4"]', "policies needs random:1"),
        ("edit-distribution", 'checkpoint = "nowhere"', "no checkpoint 'nowhere'"),
    ],
)
def test_wrong_values_are_one_line_and_leave_nothing(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(text + "\n")
    out = tmp_path / "out"
    result = call(name, "--config", str(tmp_path / "own.toml"), "--out", str(out))
    assert result.exit_code == 2
    assert message in result.output.strip().splitlines()[-1]
    assert not out.exists()


def test_the_exam_tells_right_from_wrong_and_half_of_the_tests_know_less() -> None:
    judge = Judge(limits=LIMITS)
    try:
        exam = make_exam(judge, split="test", levels=(1,), num_problems=2, seed=0)
        assert exam.groups == ["level-1", "level-1"]
        texts = [exam.references[0], "    return undefined_thing\n", "    return (\n"]
        findings = exam.judge([0, 0, 0], texts)
        assert [f and f.is_passed for f in findings] == [True, False, False]
        assert [f and f.is_undefined_name for f in findings] == [False, True, False]
        assert [f and f.is_malformed for f in findings] == [False, False, True]
        # A program that is right on every second hidden input only.
        (whole,) = exam.judge.args  # type: ignore[attr-defined]
        cases = whole[0].cases
        table = {repr(case.args): case.expected for case in cases[::2]}
        entry = exam.prompts[0].split("(")[1].split(")")[0]
        cheat = f"    return {table!r}.get(repr(({entry},)))\n"
        assert [f and f.is_passed for f in exam.judge_half([0], [cheat])] == [True]
        assert [f and f.is_passed for f in exam.judge([0], [cheat])] == [False]
    finally:
        judge.close()


def test_exams_of_other_seeds_are_other_problems() -> None:
    judge = Judge(limits=LIMITS)
    make = partial(make_exam, judge, split="test", levels=(1, 2), num_problems=4)
    assert make(seed=0).prompts == make(seed=0).prompts != make(seed=1).prompts
