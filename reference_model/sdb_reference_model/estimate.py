"""What a training run will need, before it starts: memory, arithmetic, time.

Place in the flow: `sdbench train --dry-run` -> `estimate_training` -> a table.

Sources: 6 floating-point operations per parameter and position (Kaplan et al. 2020), attention's
12 L d per position and layer on top; states of AdamW and Muon by counting.

What this does not do: it knows no overlap, no allocator and no data loading. Activations are
counted for the layers' matrices and the attention of one piece, which is most of them.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sdb_reference_model.data import BatchStream
from sdb_reference_model.model import ModelConfig, Transformer
from sdb_reference_model.packing import place
from sdb_reference_model.train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class TrainingEstimate:
    """Per rank where it says so; bytes and seconds."""

    num_parameters: int
    positions_per_step: int
    """Of the whole batch, padding within a batch not counted."""
    flops_per_step: float
    state_bytes: int
    """Weights, gradients and optimizer moments in float32, per rank."""
    activation_bytes: int
    """Kept for the backward pass of one piece, per rank."""
    matmul_flops_per_s: float
    """Measured here, in the shape of the model's widest layer."""
    step_s: float
    """Lower bound on this device: arithmetic at the measured rate, shared by the ranks."""


def count_parameters(config: ModelConfig) -> int:
    """Count without allocating."""
    with torch.device("meta"):
        return sum(p.numel() for p in Transformer(config).parameters())


def count_positions(
    config: TrainConfig, prompts: NDArray[np.int64], answers: NDArray[np.int64], block_size: int
) -> NDArray[np.floating[Any]]:
    """Positions that a step computes for examples with prompts and answers of these lengths [N]."""
    if config.objective == "autoregressive":
        return (prompts + answers - 1).astype(np.float64)
    copies = 1 + (config.edit_place == "separate") * config.edit_fraction
    if config.attention == "full":
        return copies * (prompts + np.maximum(answers, config.canvas_size))
    width = -(-answers // block_size) * block_size
    # Next-token prediction reads all of the clean answer, masks look at all but its last block; a
    # causal past leaves its last token to the blocks.
    past = width if config.past_weight else width - block_size
    return prompts + past - (config.attention == "causal_past") + copies * width


def count_judged(
    config: TrainConfig, answers: NDArray[np.int64], block_size: int
) -> NDArray[np.floating[Any]]:
    """Tokens that a step asks the head about, for answers of these lengths [N]."""
    if config.objective == "autoregressive":
        return answers.astype(np.float64)
    # Half of the masked copy is masked; an edited copy is judged whole, or where it is visible.
    share = 0.5 + config.edit_fraction * (1.0 if config.edit_place == "separate" else 0.5)
    width = answers if config.attention == "full" else -(-answers // block_size) * block_size
    return share * width + (config.past_weight > 0) * answers


def measure_padding(
    config: TrainConfig, stream: BatchStream, num_ranks: int
) -> tuple[float, float]:
    """Share of padding among the positions of an epoch's forwards: a row each, and packed.

    Steps without edits; the mean over the block sizes.
    """
    config = replace(config, edit_fraction=0.0)
    piece_size = config.piece_size or max(1, config.batch_size // num_ranks)
    needed, apart, packed = 0, 0, 0
    for step in range(stream.steps_per_epoch):
        rows = stream.select(step)
        for piece in np.split(rows, range(piece_size, len(rows), piece_size)):
            prompts, answers = stream.prompt_lengths[piece], stream.answer_lengths[piece]
            if config.attention == "full":  # where the tail of an answer is data
                answers = np.full_like(answers, answers.max())
            for block_size in config.block_sizes or (1,):
                lengths = count_positions(config, prompts, answers, block_size)
                widest = count_positions(config, prompts.max(), answers.max(), block_size)
                _, _, num_rows, width = place([int(length) for length in lengths])
                needed += int(lengths.sum())
                apart += len(piece) * int(widest)
                packed += num_rows * width
    return 1 - needed / apart, 1 - needed / packed


def estimate_training(
    config: TrainConfig, shape: ModelConfig, stream: BatchStream, num_ranks: int, dtype: torch.dtype
) -> TrainingEstimate:
    """Estimate one step of `config` on the data of `stream`.

    Args:
        config: the run.
        shape: of its model.
        stream: its data, or a sample of it.
        num_ranks: processes that share a batch.
        dtype: of the matrix products.
    """
    num_parameters = count_parameters(shape)
    per_block_size = [
        count_positions(config, stream.prompt_lengths, stream.answer_lengths, block_size).mean()
        for block_size in config.block_sizes or (1,)
    ]
    per_example = float(np.mean(per_block_size))
    positions = per_example * config.batch_size
    embedding = shape.vocab_size * shape.d_model
    layers = num_parameters - embedding * (1 if shape.tie_embeddings else 2)
    judged = [count_judged(config, stream.answer_lengths, b) for b in config.block_sizes or (1,)]
    num_judged = float(np.mean(judged)) * config.batch_size
    attention = 12 * shape.num_layers * shape.num_heads * shape.head_dim * per_example
    flops = positions * (6 * layers + attention) + 6 * embedding * num_judged
    flops *= 4 / 3 if config.recompute_activations else 1
    moments = 2 if config.optimizer == "adamw" else 1
    shards = num_ranks if config.parallel == "fsdp" else 1
    piece_size = config.piece_size or config.batch_size // num_ranks
    width = shape.d_model if config.recompute_activations else count_kept_channels(shape)
    activations = piece_size * per_example * shape.num_layers * width * dtype.itemsize
    rate = measure_matmul(shape, dtype)
    return TrainingEstimate(
        num_parameters=num_parameters,
        positions_per_step=round(positions),
        flops_per_step=flops,
        state_bytes=num_parameters * 4 * (2 + moments) // shards,
        activation_bytes=round(activations),
        matmul_flops_per_s=rate,
        step_s=flops / rate / num_ranks,
    )


def count_kept_channels(shape: ModelConfig) -> int:
    """Numbers that one layer keeps per position: inputs of its matrices, norms and attention."""
    heads = (2 * shape.num_heads + 4 * shape.num_kv_heads) * shape.head_dim
    return 6 * shape.d_model + heads + 4 * shape.d_ff


def measure_matmul(shape: ModelConfig, dtype: torch.dtype, num_rows: int = 2048) -> float:
    """Floating-point operations per second of the layer's widest product, best of five."""
    return time_matmul(num_rows, shape.d_model, 2 * shape.d_ff, dtype)


def time_matmul(num_rows: int, num_inputs: int, num_outputs: int, dtype: torch.dtype) -> float:
    """Floating-point operations per second of one matrix product, best of five."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(num_rows, num_inputs, dtype=dtype, device=device)
    weight = torch.randn(num_outputs, num_inputs, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        F.linear(x, weight)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * num_rows * weight.numel() / best
