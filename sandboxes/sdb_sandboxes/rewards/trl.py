"""The reward function that TRL's GRPO and RLOO trainers call.

Place in the flow: `GRPOTrainer(reward_funcs=TrlReward(judge).verify, ...)`; the trainer passes each
column of the data set as a list with one entry per completion. `None` stands for a fault of ours:
the trainer leaves such a completion out of its group's baseline and gives it no advantage. Source:
the reward function interface of TRL, `trl/trainer/grpo_trainer.py`. What it does not do: TRL is
never imported.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sdb_sandboxes.rewards.judge import Candidate, Judge
from sdb_sandboxes.rewards.shaping import (
    Conversation,
    Extract,
    Shape,
    all_or_nothing,
    compute_reward,
    continue_prompt,
)
from sdb_sandboxes.types import Status, Verdict


@dataclass(frozen=True)
class TrlReward:
    """Settings of the reward; hand the trainer one of its two methods."""

    judge: Judge = field(default_factory=Judge)
    extract: Extract = continue_prompt
    shape: Shape = all_or_nothing
    column: str = "check"
    """Column of the data set that holds `check_to_json(check)`."""

    def verify(
        self, prompts: list[Conversation], completions: list[Conversation], **columns: Any
    ) -> list[float | None]:
        """Judge a batch while the trainer waits.

        Args:
            prompts: One per completion.
            completions: Texts, or lists of messages.
            columns: The data set's columns, and `log_extra` and `log_metric` of the trainer.

        Raises:
            ValueError: The column of checks is missing, or a check is malformed.
        """
        candidates = self._make_candidates(prompts, completions, columns)
        return self._report(self.judge.verify_batch(candidates), columns)

    async def verify_async(
        self, prompts: list[Conversation], completions: list[Conversation], **columns: Any
    ) -> list[float | None]:
        """The same beside other reward functions: the trainer awaits all asynchronous ones."""
        candidates = self._make_candidates(prompts, completions, columns)
        return self._report(await self.judge.verify_batch_async(candidates), columns)

    def _make_candidates(
        self,
        prompts: list[Conversation],
        completions: list[Conversation],
        columns: dict[str, Any],
    ) -> list[Candidate]:
        checks = cast(Sequence[str] | None, columns.get(self.column))
        if checks is None:
            raise ValueError(
                f"the data set has no column {self.column!r}; store check_to_json(check) there "
                "or name the column that has it with column="
            )
        return [
            Candidate(self.extract(prompt, completion), check)
            for prompt, completion, check in zip(prompts, completions, checks, strict=True)
        ]

    def _report(self, verdicts: list[Verdict], columns: dict[str, Any]) -> list[float | None]:
        """Log the verdicts, the same names on every rank, and turn them into rewards."""
        log_extra: Callable[[str, list[Any]], None] | None = columns.get("log_extra")
        log_metric: Callable[[str, float], None] | None = columns.get("log_metric")
        if log_extra is not None:
            log_extra("verdict", [str(verdict.status) for verdict in verdicts])
            log_extra("tests", [f"{v.num_tests_passed}/{v.num_tests}" for v in verdicts])
            log_extra("trust", [verdict.trust_level for verdict in verdicts])
        if log_metric is not None and verdicts:
            for name, share in measure_shares(verdicts).items():
                log_metric(name, share)
        return [compute_reward(verdict, self.shape) for verdict in verdicts]


def measure_shares(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Share of each status, and apart what was judged and passed at the weakest trust level."""
    counts = {f"verdict/{status}": 0 for status in Status} | {
        "verdict/L1": 0,
        "verdict/L1_passed": 0,
    }
    for verdict in verdicts:
        counts[f"verdict/{verdict.status}"] += 1
        if verdict.trust_level == "L1":
            counts["verdict/L1"] += 1
            counts["verdict/L1_passed"] += verdict.is_passed
    return {name: count / len(verdicts) for name, count in counts.items()}
