"""Constrained-order fine-tuning: learn to denoise along the orders that were good (Eq. 9).

    L_c(theta) = E_{tau ~ U(T), (x_i, x_0) in tau} [ - lambda(x_i) log p_theta(x_0 | f(x_i)) ]

Place in the flow: after both pre-training stages, on the winners that `distill.py` stored, or on
the same answers in another order. In one forward every block of an answer is shown in one state of
its trajectory, behind the clean blocks before it: a state of the run, as the sampler met it.

Choices, since the paper names lambda, f and the states but none of their forms:

- The states are x_1..x_K, drawn uniformly over the steps of each block; x_0 teaches nothing.
- log p(x_0 | f(x_i)) sums over the masked tokens and over the edited ones. Not taken: over all
  visible tokens too, nearly all of which are copies.
- lambda = b / (masked tokens of the block), the weight 1/t of the mask process at the block's own
  noise level (`elbo`), or 1 (`uniform`), which weights a state by the tokens it lacks.
- f is process B of the paper applied to the answer before masking: an answer is edited with
  probability `edit_probability`, at a ratio drawn up to the paper's largest.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.corruption import Weighting
from sdb_reference_model.data import BatchStream, collate
from sdb_reference_model.distill import check_tokenizer, read_provenance
from sdb_reference_model.edits import EditProcess, edit_answers, weigh_tokens
from sdb_reference_model.finetune import (
    Examples,
    FinetuneConfig,
    Metrics,
    check_finetune_config,
    run_updates,
)
from sdb_reference_model.model import Transformer
from sdb_reference_model.states import Batch, compute_log_probabilities, read_slabs, split
from sdb_reference_model.trajectories import Order, pad_steps, reorder


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstrainedConfig(FinetuneConfig):
    """One run of Eq. 9."""

    trajectories: str
    """Folder that `sdbench train distill` wrote."""
    block_size: int
    batch_size: int
    order: Order = "elbo"
    weighting: Weighting = "elbo"
    edit_probability: float = 0.5


def draw_states(batch: Batch, steps: Tensor, block_size: int, generator: torch.Generator) -> Tensor:
    """Draw one state per block; returns what is masked in it, bool [B, C/b, b].

    State s of a block still lacks what is revealed at step s or later.
    """
    blocks = split(steps, block_size)
    num_steps = blocks.amax(dim=-1) + 1  # [B, C/b], 0 behind the end
    drawn = (torch.rand(num_steps.shape, generator=generator) * num_steps).long()
    return blocks >= drawn[..., None]


def compute_constrained_loss(
    model: Transformer,
    batch: Batch,
    is_masked: Tensor,
    edited: Tensor,
    block_size: int,
    mask_id: int,
    weighting: Weighting,
) -> Tensor:
    """Eq. 9 at one state per block, per token of the blocks.

    Args:
        model: the model.
        batch: prompts and answers x_0.
        is_masked: bool [B, C/b, b], from `draw_states`.
        edited: int64 [B, C], the answers after f's edits, before masking.
        block_size: b.
        mask_id: id of the mask token.
        weighting: lambda.

    Returns:
        A scalar, in nats.
    """
    answers = split(batch.answer, block_size)
    slabs = split(edited, block_size).masked_fill(is_masked, mask_id)
    is_live = is_masked.any(dim=-1, keepdim=True)  # [B, C/b, 1]
    is_asked = (is_masked | (slabs != answers)) & is_live
    weight = torch.ones(is_live.shape)
    if weighting == "elbo":
        weight = block_size / is_masked.sum(dim=-1, keepdim=True).clamp(min=1)
    hidden = read_slabs(model, batch, slabs, range(answers.shape[1]))[is_asked]
    log_p = compute_log_probabilities(
        hidden, model.head_weight, answers[is_asked], forbidden=mask_id
    )
    weights = weight.expand(answers.shape)[is_asked]
    return -(weights * log_p).sum() / (is_live.sum() * block_size)


def fine_tune(
    config: ConstrainedConfig,
    checkpoint: Checkpoint,
    trajectories: Dataset,
    out: Path,
    *,
    provenance: Mapping[str, Any],
    on_update: Callable[[int, Metrics], None],
    save_every: int = 50,
) -> Path:
    """Fine-tune on the selected trajectories, or resume; see `finetune.run_updates`.

    Args:
        config: the run.
        checkpoint: already loaded from `config.init_from`.
        trajectories: from `distill.load_trajectories`; only selected rows are used.
        out: folder for state, log and checkpoint.
        provenance: stored in the checkpoint as it is.
        on_update: called after each update.
        save_every: updates between resumable states.

    Raises:
        ValueError: wrong values, too few trajectories, or trajectories of other blocks or of
            another tokenizer.
    """
    check_finetune_config(config, checkpoint)
    if not 0 <= config.edit_probability <= 1:
        raise ValueError(f"edit_probability={config.edit_probability} must be in [0, 1]")
    is_selected = list(trajectories["is_selected"])
    selected = trajectories.select([row for row, won in enumerate(is_selected) if won])
    if config.batch_size < 1 or not len(selected):
        raise ValueError(
            f"batch_size={config.batch_size} must be positive, and the trajectories have "
            f"{len(selected)} winners; more prompts or policies give more"
        )
    own_block_size = read_provenance(trajectories)["config"]["block_size"]
    if own_block_size != config.block_size:
        raise ValueError(
            f"block_size={config.block_size}, but the trajectories were made of blocks of "
            f"{own_block_size}; use {own_block_size}"
        )
    stream = BatchStream(selected, config.batch_size, config.seed)
    check_tokenizer(trajectories, checkpoint.tokenizer)
    commit_steps: list[list[int]] = list(selected["commit_steps"])
    process = build_process(config, checkpoint)

    def compute(model: Transformer, update: int) -> tuple[Metrics, Examples]:
        rows = stream.select(update)
        examples = {
            "prompt_ids": [stream.prompts[row].tolist() for row in rows],
            "answer_ids": [stream.answers[row].tolist() for row in rows],
            "commit_steps": [commit_steps[row] for row in rows],
        }
        loss = compute_update(config, checkpoint, process, model, update, examples)
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach())}, examples

    return run_updates(
        config,
        checkpoint,
        out,
        compute,
        provenance=provenance,
        on_update=on_update,
        save_every=save_every,
    )


def build_process(config: ConstrainedConfig, checkpoint: Checkpoint) -> EditProcess:
    """The augmentation f."""
    weights = weigh_tokens(checkpoint.tokenizer, checkpoint.model.config.vocab_size)
    return EditProcess(weights, probability=config.edit_probability)


def compute_update(
    config: ConstrainedConfig,
    checkpoint: Checkpoint,
    process: EditProcess,
    model: Transformer,
    update: int,
    examples: Examples,
) -> Tensor:
    """Loss of one update; all that is random in it comes from its number."""
    tokenizer = checkpoint.tokenizer
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + update)
    batch = collate(
        examples["prompt_ids"],
        examples["answer_ids"],
        tokenizer.pad_id,
        tokenizer.end_id,
        config.block_size,
    )
    steps = reorder(
        checkpoint.model,
        batch,
        pad_steps(examples["commit_steps"], batch.answer.shape[1], config.block_size),
        config.order,
        config.block_size,
        tokenizer.mask_id,
        generator,
    )
    is_masked = draw_states(batch, steps, config.block_size, generator)
    edited = edit_answers(batch, process, generator)
    return compute_constrained_loss(
        model,
        batch,
        is_masked,
        edited,
        config.block_size,
        tokenizer.mask_id,
        config.weighting,
    )


@torch.no_grad()
def replay_batch(path: Path, checkpoint: Checkpoint, model: Transformer) -> float:
    """Loss of the batch that stopped a run, with the noise that it had there.

    Args:
        path: the run's `failed_batch.json`.
        checkpoint: where the run started.
        model: any weights: the run's last saved ones, its start, or those of a sound run.
    """
    saved = json.loads(path.read_text())
    config = ConstrainedConfig(**saved["config"])
    process = build_process(config, checkpoint)
    return float(compute_update(config, checkpoint, process, model, saved["update"], saved))
