"""The training loop: resumable, logged, the same for diffusion and its autoregressive twin.

Place in the flow: the composition root makes a data set and calls `train`; out comes a checkpoint
folder. Everything random is drawn from (seed, train_step), so a run that was killed and resumed
ends with the weights of one that was not, on the same machine and thread count.

Optimizer: Muon for the matrices of the layers, AdamW for embedding, norms and biases. Learning
rate: warm-up, constant, linear decay to zero over the last part.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from torch import nn

from sdb_reference_model.checkpoint import (
    CheckpointError,
    Objective,
    load_tensors,
    pack_training,
    save_checkpoint,
    save_tensors,
    unpack_training,
    write_text,
)
from sdb_reference_model.config import read_config
from sdb_reference_model.data import BatchStream, tokenize
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.objective import compute_autoregressive_loss, compute_diffusion_loss
from sdb_reference_model.tokenizer import CodeTokenizer

TOKENIZER_EXAMPLES = 20_000
"""Examples on which the tokenizer is trained: its merges no longer change beyond this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run. `data` is handed to the composition root, which makes the data set."""

    size: str
    objective: Objective
    batch_size: int
    num_train_steps: int
    warmup_steps: int
    decay_fraction: float
    muon_lr: float
    adam_lr: float
    weight_decay: float
    precision: Literal["float32", "bfloat16"]
    seed: int
    data: dict[str, Any]
    block_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StepReport:
    """One line of the log."""

    train_step: int
    loss: float
    """Nats per answer token, mean since the last line."""
    learning_rate_factor: float
    tokens_per_s: float
    """Prompt and answer tokens, padding not counted."""
    elapsed_s: float


def load_config(name: str) -> TrainConfig:
    """Read a shipped configuration by name, or a TOML file by path.

    Raises:
        ValueError: if it is missing, has an unknown or missing key, or a value of a wrong kind.
    """
    config = read_config(name, TrainConfig)
    check_config(config, name)
    return config


def check_config(config: TrainConfig, name: str) -> None:
    """Reject values that cannot be trained, with the way out."""
    if config.size not in SIZES:
        raise ValueError(f"{name}: size={config.size!r}; use one of {', '.join(SIZES)}")
    if (config.objective == "diffusion") != bool(config.block_sizes):
        raise ValueError(f"{name}: block_sizes goes with objective='diffusion', and only with it")
    if min((config.batch_size, config.num_train_steps, *config.block_sizes)) < 1:
        raise ValueError(f"{name}: batch_size, num_train_steps and block_sizes must be positive")


def train(
    config: TrainConfig,
    dataset: Dataset,
    out: Path,
    *,
    provenance: Mapping[str, Any],
    on_report: Callable[[StepReport], None],
    report_every: int = 20,
    save_every: int = 200,
) -> Path:
    """Train, or resume what `out` holds, and write the final checkpoint.

    Args:
        config: what to train.
        dataset: columns `prompt` and `completion`.
        out: folder for state, log and checkpoint.
        provenance: hardware, versions and commit, stored in the checkpoint as they are.
        on_report: called with each line of the log.
        report_every: steps between log lines.
        save_every: steps between resumable states.

    Returns:
        The folder of the checkpoint.

    Raises:
        ValueError: if `out` holds a run of another configuration, or the loss stops being finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = prepare_tokenizer(config, dataset, out)
    stream = BatchStream(tokenize(dataset, tokenizer), config.batch_size, config.seed)
    model = Transformer(SIZES[config.size])
    model.initialise(torch.Generator().manual_seed(config.seed))
    optimizers = build_optimizers(model, config)
    train_step, elapsed_before_s = load_state(out, config, model, optimizers)

    started, window_started = time.perf_counter(), time.perf_counter()
    window_loss, window_tokens, window_steps = 0.0, 0, 0
    while train_step < config.num_train_steps:
        factor = compute_learning_rate_factor(train_step, config)
        loss, num_tokens = run_step(model, optimizers, stream, config, tokenizer, train_step)
        if not math.isfinite(loss):
            rows = stream.select(train_step).tolist()
            write_text(out / "failed_batch.json", json.dumps({"step": train_step, "rows": rows}))
            raise ValueError(
                f"loss is {loss} at step {train_step}; rows are in {out / 'failed_batch.json'}; "
                "lower muon_lr and adam_lr"
            )
        train_step += 1
        window_loss, window_tokens = window_loss + loss, window_tokens + num_tokens
        window_steps += 1
        now = time.perf_counter()
        if train_step % report_every == 0 or train_step == config.num_train_steps:
            report = StepReport(
                train_step,
                window_loss / window_steps,
                factor,
                window_tokens / (now - window_started),
                elapsed_before_s + now - started,
            )
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(asdict(report)) + "\n")
            on_report(report)
            window_started, window_loss, window_tokens, window_steps = now, 0.0, 0, 0
        if train_step % save_every == 0 or train_step == config.num_train_steps:
            save_state(out, config, model, optimizers, train_step, elapsed_before_s + now - started)
    elapsed_s = elapsed_before_s + time.perf_counter() - started
    training = {
        "config": asdict(config),
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "num_examples_seen": config.num_train_steps * config.batch_size,
        "elapsed_s": round(elapsed_s, 1),
        "provenance": dict(provenance),
    }
    save_checkpoint(out, model, tokenizer, config.objective, training)
    return out


def prepare_tokenizer(config: TrainConfig, dataset: Dataset, out: Path) -> CodeTokenizer:
    """Load the run's tokenizer, or train it on the first examples."""
    path = out / "tokenizer.json"
    if path.is_file():
        return CodeTokenizer.load(path)
    rows = dataset.select(range(min(TOKENIZER_EXAMPLES, len(dataset))))
    texts = [p + c for p, c in zip(rows["prompt"], rows["completion"], strict=True)]
    tokenizer = CodeTokenizer.train(texts, SIZES[config.size].vocab_size)
    tokenizer.save(path)
    return tokenizer


def build_optimizers(model: Transformer, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for everything else."""
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay),
        torch.optim.AdamW(
            others, lr=config.adam_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        ),
    ]


def compute_learning_rate_factor(train_step: int, config: TrainConfig) -> float:
    """Warm-up to 1, constant, linear decay to 0 over the last `decay_fraction` of the steps."""
    decay_steps = max(1, round(config.num_train_steps * config.decay_fraction))
    warmup = (train_step + 1) / max(1, config.warmup_steps)
    return min(1.0, warmup, (config.num_train_steps - train_step) / decay_steps)


def run_step(
    model: Transformer,
    optimizers: list[torch.optim.Optimizer],
    stream: BatchStream,
    config: TrainConfig,
    tokenizer: CodeTokenizer,
    train_step: int,
) -> tuple[float, int]:
    """One forward, backward and update; returns the loss and the number of real tokens."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + train_step)
    block_size = 1
    if config.block_sizes:
        choice = torch.randint(len(config.block_sizes), (), generator=generator)
        block_size = config.block_sizes[int(choice)]
    batch = stream.collate(
        stream.select(train_step), tokenizer.pad_id, tokenizer.end_id, block_size
    )
    autocast = (
        torch.autocast("cpu", torch.bfloat16) if config.precision == "bfloat16" else nullcontext()
    )
    with autocast:
        if config.objective == "diffusion":
            loss = compute_diffusion_loss(model, batch, block_size, tokenizer.mask_id, generator)
        else:
            loss = compute_autoregressive_loss(model, batch, tokenizer.mask_id)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    factor = compute_learning_rate_factor(train_step, config)
    for optimizer, base in zip(optimizers, (config.muon_lr, config.adam_lr), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = base * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    num_tokens = int(batch.prompt_lengths.sum() + batch.answer_lengths.sum())
    return float(loss.detach()), num_tokens


def save_state(
    out: Path,
    config: TrainConfig,
    model: Transformer,
    optimizers: list[torch.optim.Optimizer],
    train_step: int,
    elapsed_s: float,
) -> None:
    """Write weights, optimizer moments and the step as one file, replaced atomically."""
    tensors = pack_training(model, optimizers)
    tensors["progress"] = torch.tensor([train_step, elapsed_s], dtype=torch.float64)
    write_text(out / "run.json", json.dumps(asdict(config)))
    save_tensors(out / "state.safetensors", tensors)


def load_state(
    out: Path,
    config: TrainConfig,
    model: Transformer,
    optimizers: list[torch.optim.Optimizer],
) -> tuple[int, float]:
    """Restore what `save_state` wrote; returns (train_step, seconds already spent).

    The length of a run and of its decay may change as long as its rate has not begun to fall.

    Raises:
        ValueError: if the folder holds a run of another configuration.
    """
    path = out / "state.safetensors"
    if not path.is_file():
        return 0, 0.0
    tensors = load_tensors(path)
    train_step, elapsed_s = int(tensors["progress"][0]), float(tensors["progress"][1])
    old = json.loads((out / "run.json").read_text())
    old = TrainConfig(**{**old, "block_sizes": tuple(old["block_sizes"])})
    has_same_past = all(
        compute_learning_rate_factor(step, config) == compute_learning_rate_factor(step, old)
        for step in range(train_step)
    )
    shape = replace(old, num_train_steps=config.num_train_steps)
    shape = replace(shape, decay_fraction=config.decay_fraction)
    if shape != config or not has_same_past:
        raise CheckpointError(
            f"{out} holds {train_step} steps of another configuration; use another --out, "
            "or remove it"
        )
    unpack_training(tensors, model, optimizers)
    return train_step, elapsed_s
