"""The score functions that verl calls: one answer, one answer awaited, or a batch.

Place in the flow: verl's `custom_reward_function.path` and `.name` point here or at a file of yours
that builds a `VerlReward`; `ground_truth` is the text of `check_to_json`. verl knows no missing
score, so a fault of ours that outlives the judge's retries is score 0 with `infra` 1: leave those
rows out. Source: `verl/workers/reward_manager/` and `verl/experimental/reward_loop/`. What it does
not do: verl is never imported, and its `prime` manager, which reads no dictionaries, is not served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdb_sandboxes.rewards.judge import Candidate, Judge
from sdb_sandboxes.rewards.shaping import (
    Extract,
    Shape,
    all_or_nothing,
    compute_reward,
    take_code_block,
)
from sdb_sandboxes.types import Verdict

Score = dict[str, float | int | str]


@dataclass(frozen=True)
class VerlReward:
    """Settings of the score; calling it is verl's `compute_score`. Pickles as its settings."""

    judge: Judge = field(default_factory=Judge)
    extract: Extract = take_code_block
    """Its prompt is `extra_info["prompt"]`, or empty where the data set has none."""
    shape: Shape = all_or_nothing

    def __call__(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
        **unused: Any,
    ) -> Score:
        """Judge one answer.

        Returns:
            `score` (the shaped reward), `acc` (1.0 if passed), `infra`, `status`, `num_tests`,
            `num_tests_passed` and `trust_l1`; verl logs all but the first.

        Raises:
            ValueError: `ground_truth` is no check.
        """
        candidate = self._make_candidate(solution_str, ground_truth, extra_info)
        return self._score(self.judge.verify(*candidate))

    async def score_async(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
        **unused: Any,
    ) -> Score:
        """The same for the reward loop, which awaits coroutine functions."""
        candidate = self._make_candidate(solution_str, ground_truth, extra_info)
        return self._score(await self.judge.verify_async(*candidate))

    def score_batch(
        self,
        data_sources: Sequence[str],
        solution_strs: Sequence[str],
        ground_truths: Sequence[str],
        extra_infos: Sequence[Mapping[str, Any] | None] | None = None,
        **unused: Any,
    ) -> list[Score]:
        """The same for the `batch` manager: all answers at once."""
        infos = [None] * len(solution_strs) if extra_infos is None else extra_infos
        rows = zip(solution_strs, ground_truths, infos, strict=True)
        verdicts = self.judge.verify_batch([self._make_candidate(*row) for row in rows])
        return [self._score(verdict) for verdict in verdicts]

    def _make_candidate(
        self, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any] | None
    ) -> Candidate:
        prompt = (extra_info or {}).get("prompt", "")
        return Candidate(self.extract(prompt, solution_str), ground_truth)

    def _score(self, verdict: Verdict) -> Score:
        reward = compute_reward(verdict, self.shape)
        return {
            "score": 0.0 if reward is None else reward,
            "acc": float(verdict.is_passed),
            "infra": int(reward is None),
            "status": str(verdict.status),
            "num_tests": verdict.num_tests,
            "num_tests_passed": verdict.num_tests_passed,
            "trust_l1": int(verdict.trust_level == "L1"),
        }


compute_score = VerlReward()
"""For `path=pkg://sdb_sandboxes.rewards.verl name=compute_score`: code blocks, all or nothing."""

compute_score_async = compute_score.score_async
compute_scores = compute_score.score_batch
