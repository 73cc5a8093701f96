"""The score functions as verl calls them, found by path and pickled."""

import asyncio
import importlib
import inspect
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sdb_sandboxes.rewards import Judge, continue_prompt, fraction_of_tests, verl
from sdb_sandboxes.rewards import judge as judge_module
from sdb_sandboxes.rewards.verl import VerlReward
from sdb_sandboxes.types import Case, FunctionCheck, Status, Verdict
from sdb_sandboxes.wire import check_to_json

CHECK = check_to_json(FunctionCheck("f", (Case((3,), 3), Case((4,), 4))))
RIGHT = "Here:\n```python\ndef f(x): return x\n```"
WRONG = "```python\ndef f(x): return 3\n```"


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    judge = Judge(num_slots=1)
    yield judge
    judge.close()


def test_a_score_is_a_dictionary_of_numbers_and_names(judge: Judge) -> None:
    score = VerlReward(judge)(
        data_source="minipy",
        solution_str=RIGHT,
        ground_truth=CHECK,
        extra_info={"num_turns": None, "rollout_reward_scores": {}},
        reward_router_address=None,
    )
    assert score == {
        "score": 1.0,
        "acc": 1.0,
        "infra": 0,
        "status": "passed",
        "num_tests": 2,
        "num_tests_passed": 2,
        "trust_l1": 0,
    }


def test_all_forms_agree(judge: Judge) -> None:
    reward = VerlReward(judge, shape=fraction_of_tests)
    assert inspect.iscoroutinefunction(reward.score_async)
    batch = reward.score_batch(["minipy"] * 2, [RIGHT, WRONG], [CHECK] * 2, extra_infos=[{}, None])
    one_by_one = [reward("minipy", text, CHECK) for text in (RIGHT, WRONG)]
    awaited = [asyncio.run(reward.score_async("minipy", text, CHECK)) for text in (RIGHT, WRONG)]
    assert batch == one_by_one == awaited
    assert [score["score"] for score in batch] == [1.0, 0.5]
    assert [score["acc"] for score in batch] == [1.0, 0.0]


def test_a_base_models_prompt_comes_from_the_extra_info(judge: Judge) -> None:
    reward = VerlReward(judge, continue_prompt)
    score = reward("minipy", "    return x\n", CHECK, {"prompt": "def f(x):\n"})
    assert score["score"] == 1.0


def test_a_fault_of_ours_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict(Status.INFRASTRUCTURE, 2, 0, 0.0, 0.0, 0, "L3", "scripted")
    num_calls = []

    def fail(*arguments: object) -> Verdict:
        num_calls.append(1)
        return verdict

    monkeypatch.setattr(judge_module, "verify", fail)
    judge = Judge(num_slots=1, max_waiting=9)
    try:
        score = VerlReward(judge)("minipy", RIGHT, CHECK)
    finally:
        judge.close()
    assert (score["score"], score["infra"], score["acc"]) == (0.0, 1, 0.0)
    assert len(num_calls) == judge_module.NUM_ATTEMPTS


def test_what_verl_loads_is_found_and_pickles() -> None:
    module = importlib.import_module("sdb_sandboxes.rewards.verl")
    for name in ("compute_score", "compute_score_async", "compute_scores"):
        function = getattr(module, name)
        copied = pickle.loads(pickle.dumps(partial(function))).func
        assert getattr(copied, "__self__", copied) == getattr(function, "__self__", function)
    parameters = list(inspect.signature(verl.compute_score).parameters)
    assert parameters[:4] == ["data_source", "solution_str", "ground_truth", "extra_info"]


def test_a_file_loaded_by_path_pickles_too(tmp_path: Path) -> None:
    """Verl loads the user's file under a name of its own, which no worker could import."""
    path = tmp_path / "reward.py"
    path.write_text(
        "from sdb_sandboxes.rewards import Judge\n"
        "from sdb_sandboxes.rewards.verl import VerlReward\n"
        "compute_score = VerlReward(Judge(num_slots=1))\n"
    )
    spec = importlib.util.spec_from_file_location("custom_module_1", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert pickle.loads(pickle.dumps(module.compute_score)) == VerlReward(Judge(num_slots=1))
