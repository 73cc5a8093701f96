"""The reward function as TRL calls it."""

import asyncio
import inspect
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdb_sandboxes.rewards import Judge, fraction_of_tests, take_code_block
from sdb_sandboxes.rewards import judge as judge_module
from sdb_sandboxes.rewards.trl import TrlReward
from sdb_sandboxes.types import Case, FunctionCheck, ResourceLimits, Status, Verdict
from sdb_sandboxes.wire import check_to_json

ROOT = Path(__file__).parents[2]
CHECK = check_to_json(FunctionCheck("f", (Case((3,), 3), Case((4,), 4))))
PROMPT = "def f(x):\n"


class Log:
    """What the trainer hands over to be logged with."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = defaultdict(list)
        self.metrics: dict[str, list[float]] = defaultdict(list)

    def log_extra(self, column: str, values: list[Any]) -> None:
        self.columns[column].extend(values)

    def log_metric(self, name: str, value: float) -> None:
        self.metrics[name].append(value)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    judge = Judge(num_slots=1, limits=ResourceLimits(cpu_s=0.2))
    yield judge
    judge.close()


def call(reward: TrlReward, completions: list[Any], log: Log, **columns: Any) -> list[float | None]:
    """Call with everything that the trainer passes."""
    return reward.verify(
        prompts=[PROMPT] * len(completions),
        completions=completions,
        completion_ids=[[1]] * len(completions),
        trainer_state=object(),
        log_extra=log.log_extra,
        log_metric=log.log_metric,
        **columns,
    )


def test_rewards_are_those_of_the_verdicts(judge: Judge) -> None:
    log = Log()
    completions = ["    return x\n", "    return 3\n", "    return ("]
    rewards = call(TrlReward(judge), completions, log, check=[CHECK] * 3)
    assert rewards == [1.0, 0.0, 0.0]
    assert call(TrlReward(judge, shape=fraction_of_tests), completions, log, check=[CHECK] * 3) == [
        1.0,
        0.5,
        0.0,
    ]
    assert log.columns["verdict"][:3] == ["passed", "wrong_answer", "compile_error"]
    assert log.columns["tests"][:3] == ["2/2", "1/2", "0/2"]
    assert log.columns["trust"][:3] == ["L3"] * 3
    assert log.metrics["verdict/passed"] == [pytest.approx(1 / 3)] * 2


def test_the_asynchronous_form_gives_the_same(judge: Judge) -> None:
    reward = TrlReward(judge, take_code_block, column="tests")
    answer = [{"role": "assistant", "content": f"```python\n{PROMPT}    return x\n```"}]
    question = [{"role": "user", "content": "Write f."}]
    awaited = reward.verify_async([question], [answer], tests=[CHECK])
    assert asyncio.run(awaited) == [1.0]


def test_every_batch_logs_the_same_names(judge: Judge) -> None:
    first, second = Log(), Log()
    call(TrlReward(judge), ["    return x\n"], first, check=[CHECK])
    call(TrlReward(judge), ["    while True: pass", "    return 3"], second, check=[CHECK] * 2)
    assert first.metrics.keys() == second.metrics.keys()
    assert {f"verdict/{status}" for status in Status} < first.metrics.keys()
    assert first.columns.keys() == second.columns.keys() == {"verdict", "tests", "trust"}


def test_a_trainer_without_logging_is_served(judge: Judge) -> None:
    assert TrlReward(judge).verify([PROMPT], ["    return x\n"], check=[CHECK]) == [1.0]


def test_a_fault_of_ours_is_none_and_weak_trust_is_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {
        "a": Verdict(Status.INFRASTRUCTURE, 2, 0, 0.0, 0.0, 0, "L3", "scripted"),
        "b": Verdict(Status.PASSED, 2, 2, 0.0, 0.0, 0, "L1", "scripted"),
        "c": Verdict(Status.WRONG_ANSWER, 2, 1, 0.0, 0.0, 0, "L1", "scripted"),
        "d": Verdict(Status.PASSED, 2, 2, 0.0, 0.0, 0, "L3", "scripted"),
    }
    monkeypatch.setattr(
        judge_module, "verify", lambda sandbox, program, *rest: answers[program[-1]]
    )
    judge, log = Judge(num_slots=1, max_waiting=9), Log()
    try:
        rewards = call(TrlReward(judge), list(answers), log, check=[CHECK] * 4)
    finally:
        judge.close()
    assert rewards == [None, 1.0, 0.0, 1.0]
    assert log.metrics["verdict/infrastructure"] == [0.25]
    assert log.metrics["verdict/L1"] == [0.5]
    assert log.metrics["verdict/L1_passed"] == [0.25]
    assert log.columns["trust"] == ["L3", "L1", "L1", "L3"]


def test_a_missing_column_is_named(judge: Judge) -> None:
    with pytest.raises(ValueError, match="no column 'check'; store check_to_json"):
        call(TrlReward(judge), ["x"], Log(), answer=["1"])


def test_the_two_forms_are_told_apart_and_named() -> None:
    """By what TRL looks at: `inspect` decides, the name becomes the metric's."""
    reward = TrlReward()
    forms = (reward.verify, reward.verify_async)
    assert [inspect.iscoroutinefunction(form) for form in forms] == [False, True]
    assert [form.__name__ for form in forms] == ["verify", "verify_async"]


def test_no_trainer_is_imported() -> None:
    program = (
        "import sys, sdb_sandboxes.rewards.trl, sdb_sandboxes.rewards.verl\n"
        "import sdb_sandboxes.rewards.prime, sdb_sandboxes.wire\n"
        "print({'trl', 'verl', 'ray', 'verifiers', 'torch', 'numpy', 'docker', 'fastapi'}"
        " & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


@pytest.mark.slow
def test_the_grpo_example_trains() -> None:
    """A few real steps; FutureWarnings are TRL's own, of transformers' next release."""
    result = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-W", "ignore::FutureWarning"),
            *(ROOT / "sandboxes/examples/grpo_minipy.py", "--steps", "2"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    steps = [line for line in result.stdout.splitlines() if line.startswith("reward ")]
    assert len(steps) == 2
    assert all("wrong_answer" in line or "compile_error" in line for line in steps)
    norms = [
        float(line.split("'grad_norm': '")[1].split("'")[0])
        for line in result.stdout.splitlines()
        if "grad_norm" in line
    ]
    assert len(norms) == 2
    assert max(norms) > 0
