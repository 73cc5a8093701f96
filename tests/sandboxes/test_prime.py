"""The reward functions as PrimeIntellect's verifiers call them."""

import asyncio
import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sdb_sandboxes.errors import SandboxError
from sdb_sandboxes.rewards import Judge
from sdb_sandboxes.rewards import judge as judge_module
from sdb_sandboxes.rewards.prime import PrimeReward
from sdb_sandboxes.types import Case, FunctionCheck, Status, Verdict
from sdb_sandboxes.wire import check_to_json

CHECK = check_to_json(FunctionCheck("f", (Case((3,), 3), Case((4,), 4))))
RIGHT = "```python\ndef f(x): return x\n```"
WRONG = "```python\ndef f(x): return 3\n```"


@pytest.fixture
def judge() -> Iterator[Judge]:
    judge = Judge(num_slots=1)
    yield judge
    judge.close()


def call_as_a_rubric(reward: PrimeReward, answer: str) -> tuple[float, dict[str, Any]]:
    """Pass what the function names, as `Rubric` does, and make a number of what it gives."""
    state: dict[str, Any] = {
        "prompt": [{"role": "user", "content": "Write f."}],
        "completion": [{"role": "assistant", "content": answer}],
        "error": None,
    }
    merged = {"prompt": state["prompt"], "completion": state["completion"], "answer": CHECK}
    merged |= {"state": state, "info": {}, "task": None, "parser": None}
    names = inspect.signature(reward.score_rollout).parameters
    plural = {"states", "prompts", "completions", "answers", "tasks", "infos"}
    assert not names.keys() & plural  # those would make it a function of a group
    awaited = reward.score_rollout(**{name: merged[name] for name in names})
    return float(asyncio.run(awaited)), state


def test_a_rollout_is_rewarded(judge: Judge) -> None:
    reward, state = call_as_a_rubric(PrimeReward(judge), RIGHT)
    assert (reward, state["verdict"], state["verdict_trust"]) == (1.0, "passed", "L3")
    reward, state = call_as_a_rubric(PrimeReward(judge), WRONG)
    assert (reward, state["verdict"], state["error"]) == (0.0, "wrong_answer", None)


def make_trace(answer: str) -> tuple[SimpleNamespace, SimpleNamespace]:
    task = SimpleNamespace(prompt="Write f.", check=CHECK)
    return task, SimpleNamespace(last_reply=answer, info={})


def test_a_trace_is_rewarded(judge: Judge) -> None:
    task, trace = make_trace(RIGHT)
    assert asyncio.run(PrimeReward(judge).score_trace(task, trace)) == 1.0
    assert trace.info == {"verdict": "passed", "verdict_trust": "L3"}


def test_a_fault_of_ours_is_an_error_of_the_type_asked_for(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = Verdict(
        Status.INFRASTRUCTURE, 2, 0, 0.0, 0.0, 0, "L3", "scripted", detail="no engine"
    )
    monkeypatch.setattr(judge_module, "verify", lambda *arguments: verdict)

    class InfraError(Exception):
        pass

    reward, state = call_as_a_rubric(PrimeReward(judge, error_type=InfraError), RIGHT)
    assert reward == 0.0
    assert isinstance(state["error"], InfraError)
    assert str(state["error"]) == "the sandbox could not judge: no engine"
    with pytest.raises(SandboxError, match="no engine"):
        asyncio.run(PrimeReward(judge).score_trace(*make_trace(RIGHT)))
