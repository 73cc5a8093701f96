"""On-policy step reduction: fewer steps, as long as the verifier agrees (Eqs. 10 and 11).

    minimise  E_{prompt, tau ~ p_theta(. | prompt)} [ |tau| - V(tau[0]) ]                 (Eq. 10)

Place in the flow: the last phase. Each update draws a group of runs per prompt (`rollout.py`), asks
the verifier for V, takes a cost of `speed.py` off it, and follows the score function

    gradient = E[ A(tau) grad log pi(tau) ],   A = reward - mean reward of the group's other runs

Choice: the baseline leaves the run itself out, which is unbiased, and rewards are not divided by
the group's spread; one update per batch of runs (no ratio, no clipping); KL(theta || start) at the
touched positions as an optional penalty, differentiated as it stands.

What it does not do: teach a value function, or give credit to single steps. A run is one decision.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.finetune import (
    Examples,
    FinetuneConfig,
    Metrics,
    check_finetune_config,
    run_updates,
)
from sdb_reference_model.model import Transformer
from sdb_reference_model.rollout import (
    Rollouts,
    StepPolicy,
    compute_divergence,
    compute_log_pi,
    read_reference,
    roll_out,
)
from sdb_reference_model.sampler import check_canvas
from sdb_reference_model.speed import SpeedObjective, compute_speed_cost
from sdb_reference_model.trajectories import Verify


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPolicyConfig(FinetuneConfig):
    """One run of Eq. 10."""

    block_size: int
    max_new_tokens: int
    threshold: float
    """Confidence at which a commit is as likely as not; the sampler's threshold afterwards."""
    softness: float = 0.5
    """Width of the commit's chance, in log-odds of the confidence."""
    temperature: float = 1.0
    prompts_per_update: int
    runs_per_prompt: int
    speed_objective: SpeedObjective = "progressive"
    speed_weight: float
    """What one forward per token costs, in full rewards."""
    ramp_updates: int = 0
    """Updates over which `progressive` goes from all pairs to adjacent pairs; 0: all of them."""
    kl_weight: float = 0.0
    verifier: Literal["sandbox", "learned", "none"] = "sandbox"
    """V: the tests, a head fitted to them, or nothing (which should collapse)."""
    trajectories: str = ""
    """Folder that `sdbench train distill` wrote; only the learned verifier reads it."""


def check_on_policy_config(config: OnPolicyConfig, num_prompts: int) -> None:
    """Reject values that cannot be trained, with the way out."""
    if config.runs_per_prompt < 2:
        raise ValueError(
            f"runs_per_prompt={config.runs_per_prompt}; a group baseline needs at least 2"
        )
    if not 1 <= config.prompts_per_update <= num_prompts:
        raise ValueError(
            f"prompts_per_update={config.prompts_per_update} must be 1 to {num_prompts}, the "
            "number of prompts"
        )
    for key in ("speed_weight", "kl_weight", "ramp_updates"):
        if not 0 <= getattr(config, key) < math.inf:
            raise ValueError(f"{key}={getattr(config, key)} must be 0 or more")
    if config.speed_weight == 0 and config.verifier == "none":
        raise ValueError("speed_weight=0 with verifier='none' leaves no reward; set one of them")
    if config.verifier == "learned" and not config.trajectories:
        raise ValueError(
            "verifier='learned' needs trajectories, the folder of a pool to learn from"
        )


def compute_advantages(rewards: Tensor, is_valid: Tensor, group_size: int) -> Tensor:
    """Reward minus the mean reward of the group's other valid runs.

    Args:
        rewards: float32 [N], groups one after the other; anything where not valid.
        is_valid: bool [N]; a run that the verifier could not judge is left out.
        group_size: runs per prompt.

    Returns:
        float32 [N]; 0 for runs that are not valid or have no other.
    """
    valid = is_valid.view(-1, group_size)
    grouped = rewards.view(-1, group_size).masked_fill(~valid, 0.0)
    num_others = valid.sum(dim=1, keepdim=True) - 1
    others = (grouped.sum(dim=1, keepdim=True) - grouped) / num_others.clamp(min=1)
    return torch.where(valid & (num_others > 0), grouped - others, 0.0).flatten()


def compute_policy_loss(log_pi: Tensor, advantages: Tensor) -> Tensor:
    """The scalar whose gradient is minus the score-function estimate, averaged over runs."""
    return -(advantages.detach() * log_pi).mean()


def compute_progress(config: OnPolicyConfig, update: int) -> float:
    """Share of the progressive schedule that is done, in [0, 1]."""
    ramp = config.ramp_updates or config.num_updates
    return min(1.0, update / max(1, ramp - 1))


def train_on_policy(
    config: OnPolicyConfig,
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    out: Path,
    *,
    judge: Verify,
    verify: Verify | None,
    provenance: Mapping[str, Any],
    on_update: Callable[[int, Metrics], None],
    save_every: int = 10,
) -> Path:
    """Train, or resume; see `finetune.run_updates`.

    Args:
        config: the run.
        checkpoint: already loaded from `config.init_from`.
        prompts: what to answer; the verifiers know them by their row.
        out: folder for state, log and checkpoint.
        judge: the real tests; they give `pass_at_1` of the log, whatever V is.
        verify: V. May be `judge` itself, which is then asked once; None is no V.
        provenance: stored in the checkpoint as it is.
        on_update: called after each update with what `log.jsonl` gets: loss, reward, value,
            pass_at_1, steps_per_answer, tokens_per_answer, tokens_per_forward, speed_cost, kl,
            gradient_norm.
        save_every: updates between resumable states.

    Raises:
        ValueError: wrong values, or a canvas that does not fit the model.
    """
    check_finetune_config(config, checkpoint)
    check_on_policy_config(config, len(prompts))
    policy = StepPolicy(config.threshold, config.softness, config.temperature)
    tokenizer = checkpoint.tokenizer
    prompt_ids = tokenizer.encode_batch(prompts)
    check_canvas(checkpoint.model, prompt_ids, config.block_size, config.max_new_tokens)

    def compute(model: Transformer, update: int) -> tuple[Metrics, Examples]:
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + update)
        chosen = torch.randperm(len(prompts), generator=generator)[: config.prompts_per_update]
        rows = [int(row) for row in chosen for _ in range(config.runs_per_prompt)]
        rollouts = roll_out(
            model,
            tokenizer,
            [prompt_ids[row] for row in rows],
            policy,
            config.block_size,
            config.max_new_tokens,
            generator,
        )
        batch = rollouts.batch
        padded = zip(batch.answer.tolist(), batch.answer_lengths.tolist(), strict=True)
        answers = [ids[:length] for ids, length in padded]
        completions = [tokenizer.decode(ids) for ids in answers]
        judged = judge(rows, completions)
        known = [reward for reward in judged if reward is not None]
        values: Sequence[float | None] = [0.0] * len(rows)
        if verify is not None:
            values = judged if verify is judge else verify(rows, completions)
        cost = compute_speed_cost(
            rollouts.count_revealed(),
            rollouts.is_committed.any(dim=-1),
            config.speed_objective,
            compute_progress(config, update),
        )
        value = torch.tensor([0.0 if v is None else v for v in values])
        rewards = value - config.speed_weight * cost
        is_valid = torch.tensor([v is not None for v in values])
        advantages = compute_advantages(rewards, is_valid, config.runs_per_prompt)
        log_pi, log_p = compute_log_pi(model, rollouts, policy, tokenizer.mask_id)
        kl = compute_divergence(
            log_p, read_reference(checkpoint.model, rollouts, tokenizer.mask_id), tokenizer.mask_id
        )
        loss = compute_policy_loss(log_pi, advantages) + config.kl_weight * kl
        loss.backward()  # type: ignore[no-untyped-call]
        metrics = {
            "loss": float(loss.detach()),
            "reward": float(rewards[is_valid].mean()) if bool(is_valid.any()) else 0.0,
            "value": float(value[is_valid].mean()) if bool(is_valid.any()) else 0.0,
            "pass_at_1": known.count(1.0) / max(1, len(known)),
            **summarise_speed(rollouts),
            "speed_cost": float(cost.mean()),
            "kl": float(kl.detach()),
        }
        return metrics, {"prompt_ids": [prompt_ids[row] for row in rows], "answer_ids": answers}

    return run_updates(
        config,
        checkpoint,
        out,
        compute,
        provenance=provenance,
        on_update=on_update,
        save_every=save_every,
    )


def summarise_speed(rollouts: Rollouts) -> dict[str, float]:
    """Means over the runs of one update; end tokens count as tokens."""
    num_steps = float(rollouts.num_steps.sum())
    num_tokens = float(rollouts.batch.answer_lengths.sum())
    num_runs = len(rollouts.slabs)
    return {
        "steps_per_answer": num_steps / num_runs,
        "tokens_per_answer": num_tokens / num_runs,
        "tokens_per_forward": num_tokens / num_steps,
    }
