"""Verdicts as on-policy rewards: the same verifiers that judge a benchmark judge a rollout.

Reading order: `judge.py` (a `Judge` runs programs from any process, many at once), `shaping.py`
(from a completion to a program, from a verdict to a number), then one adapter per trainer:
`trl.py`, `verl.py`, `prime.py`. No trainer is imported here or there: the adapters only have the
signatures that the trainers call. What it does not do: no number for a fault of ours.
"""

from sdb_sandboxes.rewards.judge import Candidate, Judge
from sdb_sandboxes.rewards.shaping import (
    all_or_nothing,
    compute_reward,
    continue_prompt,
    fraction_of_tests,
    take_code_block,
)

__all__ = [
    "Candidate",
    "Judge",
    "all_or_nothing",
    "compute_reward",
    "continue_prompt",
    "fraction_of_tests",
    "take_code_block",
]
