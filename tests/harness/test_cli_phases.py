"""The later phases as commands, with the shipped model and real tests; small, but all of it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sdb_harness.benchmarks import minipy
from sdb_harness.cli import main
from sdb_reference_model.checkpoint import load_checkpoint
from sdb_reference_model.config import read_config
from sdb_reference_model.constrained import ConstrainedConfig
from sdb_reference_model.distill import DistillConfig, load_trajectories
from sdb_reference_model.onpolicy import OnPolicyConfig
from sdb_sandboxes.types import FunctionCheck

DATA = """
[data]
num_examples = 4
seed = 1
mixture = { "level-1" = 1.0 }
"""
OWN_DATA = """
[data]
source = "own.jsonl"
"""
DISTILL = """
init_from = "demo-diffusion"
block_size = 16
max_new_tokens = 64
policies = ["threshold:0.9"]
temperatures = [0.0, 3.0]
num_seeds = 2
"""
CONSTRAINED = """
init_from = "demo-diffusion"
trajectories = "pool"
block_size = 16
batch_size = 2
num_updates = 2
learning_rate = 1e-4
"""
ON_POLICY = """
init_from = "tuned"
trajectories = "pool"
block_size = 16
max_new_tokens = 64
threshold = 0.9
prompts_per_update = 2
runs_per_prompt = 2
num_updates = 2
learning_rate = 1e-4
speed_weight = 1.0
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["train", *arguments])


def write_own_problems() -> None:
    """The problems of `DATA` as a user would write them into own.jsonl."""
    lines = []
    for index in range(4):
        problem = minipy.make_problem(index, split="train", level=1, seed=1)
        assert isinstance(problem.check, FunctionCheck)
        name = problem.entry_point
        tests = [
            f"assert {name}({', '.join(map(repr, case.args))}) == {case.expected!r}"
            for case in problem.check.cases
        ]
        lines.append(json.dumps({"prompt": problem.prompt, "entry_point": name, "tests": tests}))
    Path("own.jsonl").write_text("\n".join(lines))


@pytest.mark.slow
@pytest.mark.parametrize("data", [DATA, OWN_DATA], ids=["minipy", "own"])
def test_all_phases_run_one_after_the_other(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own_problems()
    Path("pool.toml").write_text(DISTILL + data)
    Path("tuned.toml").write_text(CONSTRAINED)
    Path("quick.toml").write_text(ON_POLICY + data)
    for command, out in (("distill", "pool"), ("constrained", "tuned"), ("onpolicy", "quick")):
        result = call(command, "--config", f"{out}.toml", "--out", out)
        assert result.exit_code == 0, result.output
    pool = load_trajectories(Path("pool"))
    assert len(pool) == 4 * 3
    assert {row["reward"] for row in pool} == {0.0, 1.0}
    assert any(row["is_selected"] for row in pool)
    assert all(row["reward"] == 1.0 for row in pool if row["is_selected"])
    log = [json.loads(line) for line in Path("quick/log.jsonl").read_text().splitlines()]
    assert [line["update"] for line in log] == [1, 2]
    assert Path("quick/curves.png").is_file()
    assert load_checkpoint("quick").training["parent"]["config"]["trajectories"] == "pool"
    result = call("onpolicy", "--config", "quick.toml", "--out", "free", "--verifier", "none")
    assert result.exit_code == 0, result.output
    assert {json.loads(x)["value"] for x in Path("free/log.jsonl").read_text().splitlines()} == {0}
    result = call("onpolicy", "--config", "quick.toml", "--out", "head", "--verifier", "learned")
    assert result.exit_code == 0, result.output
    assert "right on held-out candidates" in result.output
    values = [json.loads(x)["value"] for x in Path("head/log.jsonl").read_text().splitlines()]
    assert all(0 < value < 1 for value in values)


@pytest.mark.slow
def test_a_changed_file_of_problems_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own_problems()
    Path("pool.toml").write_text(DISTILL + OWN_DATA)
    assert call("distill", "--config", "pool.toml").exit_code == 0
    own = Path("own.jsonl")
    own.write_text(own.read_text().replace("assert", "assert ", 1))
    result = call("distill", "--config", "pool.toml")
    assert result.exit_code == 2
    assert "holds another pool" in result.output


def test_shipped_configurations_are_valid() -> None:
    pool = read_config("demo-distill", DistillConfig)
    tuned = read_config("demo-constrained", ConstrainedConfig)
    quick = read_config("demo-onpolicy", OnPolicyConfig)
    assert pool.block_size == tuned.block_size == quick.block_size
    assert tuned.trajectories.endswith("demo-distill")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --config"),
        (("--config", "demo-ar", "distill", "--config", "x"), "options behind the command"),
        (("distill", "--config", "demo-ar"), "unknown key 'adam_lr'"),
        (("constrained", "--config", "nowhere"), "no configuration 'nowhere'"),
        (("onpolicy", "--config", "demo-distill"), "unknown key"),
    ],
)
def test_wrong_input_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    (line,) = result.output.strip().splitlines()
    assert message in line


@pytest.mark.parametrize("phase", ["distill", "constrained", "onpolicy"])
def test_the_later_phases_are_refused_under_torchrun(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = call(phase, "--config", f"demo-{phase}")
    assert result.exit_code == 2
    (line,) = result.output.strip().splitlines()
    assert "runs in one process; start it without torchrun" in line


def test_missing_trajectories_name_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tuned.toml").write_text(CONSTRAINED)
    result = call("constrained", "--config", "tuned.toml")
    assert result.exit_code == 2
    assert "make them with `sdbench train distill`" in result.output


def test_dry_run_refuses_pieces_that_do_not_divide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.jsonl").write_text('{"prompt": "say red", "completion": "red"}\n' * 4)
    Path("own.toml").write_text(
        'size = "demo"\nobjective = "autoregressive"\nbatch_size = 4\npiece_size = 3\n'
        "num_train_steps = 5\nwarmup_steps = 1\nadam_lr = 0.001\nseed = 0\n"
        '[data]\nsource = "own.jsonl"\n'
    )
    result = call("--config", "own.toml", "--dry-run")
    assert result.exit_code == 2
    assert "batch_size=4 in pieces of 3 does not divide among 1 ranks" in result.output


def test_dry_run_says_what_training_needs_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.jsonl").write_text('{"prompt": "say red", "completion": "red"}\n' * 64)
    Path("own.toml").write_text(
        'size = "demo"\nobjective = "autoregressive"\ninit_from = "demo-ar"\nbatch_size = 64\n'
        "num_train_steps = 5\nwarmup_steps = 1\nadam_lr = 0.001\nseed = 0\n"
        '[data]\nsource = "own.jsonl"\n'
    )
    result = call("--config", "own.toml", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "3,148,032" in result.output
    assert "whole run, at least" in result.output
    assert not Path("runs").exists()
