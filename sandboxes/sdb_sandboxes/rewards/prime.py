"""The reward functions that PrimeIntellect's verifiers call: in a rubric, or in a task.

Place in the flow: up to release 0.3 a `Rubric(funcs=[PrimeReward(...).score_rollout])` calls with
the arguments it finds by name, and `answer` is the text of `check_to_json`; since 0.4 a task's
`@vf.reward` method returns `await PrimeReward(...).score_trace(task, trace)`, and the task's data
has a field `check`. Source: `verifiers/rubrics/rubric.py` (0.1) and `verifiers/v1/task.py` (0.4).

A rubric turns every exception into 0.0, so a fault of ours is written to `state["error"]`, where
the environment's retries and the trainer's filters look for it; a task's exception is an error of
its trace, without a reward. What it does not do: verifiers is never imported; pass its own error
class as `error_type` and its retries apply.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from sdb_sandboxes.errors import SandboxError
from sdb_sandboxes.rewards.judge import Judge
from sdb_sandboxes.rewards.shaping import (
    Conversation,
    Extract,
    Shape,
    all_or_nothing,
    compute_reward,
    take_code_block,
)
from sdb_sandboxes.types import Verdict


@dataclass(frozen=True)
class PrimeReward:
    """Settings of the reward; hand over one of its methods."""

    judge: Judge = field(default_factory=Judge)
    extract: Extract = take_code_block
    shape: Shape = all_or_nothing
    error_type: type[Exception] = SandboxError
    """What a fault of ours is reported as; `vf.SandboxError` lets verifiers retry the rollout."""

    async def score_rollout(
        self,
        prompt: Conversation,
        completion: Conversation,
        answer: str,
        state: MutableMapping[str, Any],
    ) -> float:
        """Judge one rollout of a rubric; `state["verdict"]` is its status afterwards.

        Returns:
            The reward; 0.0 with `state["error"]` set for a fault of ours.
        """
        verdict = await self.judge.verify_async(self.extract(prompt, completion), answer)
        state["verdict"] = str(verdict.status)
        state["verdict_trust"] = verdict.trust_level
        reward = compute_reward(verdict, self.shape)
        if reward is None:
            state["error"] = self._make_error(verdict)
            return 0.0
        return reward

    async def score_trace(self, task: Any, trace: Any) -> float:
        """Judge the last reply of a trace. Raises `error_type` for a fault of ours."""
        prompt = task.prompt if task.prompt is not None else ""
        verdict = await self.judge.verify_async(self.extract(prompt, trace.last_reply), task.check)
        trace.info["verdict"] = str(verdict.status)
        trace.info["verdict_trust"] = verdict.trust_level
        reward = compute_reward(verdict, self.shape)
        if reward is None:
            raise self._make_error(verdict)
        return reward

    def _make_error(self, verdict: Verdict) -> Exception:
        return self.error_type(f"the sandbox could not judge: {verdict.detail}")
