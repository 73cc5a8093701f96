"""The loop that both fine-tuning phases share: resumable, logged, from a trained checkpoint.

Place in the flow: `constrained.py` and `onpolicy.py` say what one update is; this file repeats it,
steps the optimizer, logs, saves and resumes. An update draws everything random from its number, so
a run that was killed and resumed ends with the weights of one that was not.

Choice: AdamW for all weights. Muon, which pre-training uses for matrices, gives every update the
same size whatever the gradient, and a policy gradient is mostly noise.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdb_reference_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_tensors,
    pack_training,
    save_checkpoint,
    save_tensors,
    unpack_training,
)
from sdb_reference_model.files import write_text
from sdb_reference_model.model import Transformer


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """What both phases need to know."""

    init_from: str
    """Checkpoint to start from, a shipped name or a folder."""
    num_updates: int
    learning_rate: float
    warmup_updates: int = 0
    weight_decay: float = 0.0
    seed: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    """Handed to the composition root, which makes the prompts."""


Metrics = Mapping[str, float]
"""One line of the log; `loss` is always there."""

Examples = Mapping[str, Any]
"""What an update was shown, as JSON takes it: `prompt_ids`, `answer_ids`, what else it needs."""


def check_finetune_config(config: FinetuneConfig, checkpoint: Checkpoint) -> None:
    """Reject values that cannot be trained, with the way out."""
    if checkpoint.objective != "diffusion":
        raise ValueError(
            f"init_from={config.init_from!r} was trained as {checkpoint.objective}; this phase "
            "needs a diffusion model such as demo-diffusion"
        )
    if config.num_updates < 1 or config.warmup_updates < 0:
        raise ValueError("num_updates must be positive and warmup_updates not negative")
    if config.seed < 0 or not 0 <= config.weight_decay < math.inf:
        raise ValueError(
            f"seed={config.seed} and weight_decay={config.weight_decay} must be 0 or more"
        )
    if not 0 < config.learning_rate < math.inf:
        raise ValueError(f"learning_rate={config.learning_rate} must be positive")


def run_updates(
    config: FinetuneConfig,
    checkpoint: Checkpoint,
    out: Path,
    compute: Callable[[Transformer, int], tuple[Metrics, Examples]],
    *,
    provenance: Mapping[str, Any],
    on_update: Callable[[int, Metrics], None],
    save_every: int,
) -> Path:
    """Fine-tune, or resume what `out` holds, and write the final checkpoint.

    Args:
        config: of the phase; `out` belongs to it and to the start checkpoint.
        checkpoint: where it starts; its model is left as it is.
        out: folder for state, log and checkpoint.
        compute: (model, update) -> leaves gradients on the model; returns what to log, and what
            to save if that or the gradient is not finite.
        provenance: hardware, versions and commit, stored in the checkpoint as they are.
        on_update: called after each update with its number, from 1, its metrics and their
            `gradient_norm`; send them wherever metrics should go.
        save_every: updates between resumable states.

    Returns:
        `out`, which now is a checkpoint.

    Raises:
        ValueError: if `out` holds another run, the start has control tokens or full attention, or
            loss or gradient stop being finite.
    """
    if checkpoint.tokenizer.control_ids is not None:
        raise ValueError(
            "this phase writes text alone, and the start checkpoint also says DELETE and INSERT; "
            "start from one trained with edit_lengths='balanced'"
        )
    if checkpoint.attention not in ("block_causal", "causal_past"):
        raise ValueError(
            f"this phase reads block by block, and the start checkpoint is {checkpoint.attention}; "
            "start from one trained with attention='causal_past' or 'block_causal'"
        )
    identity = {"config": asdict(config), "checkpoint": checkpoint.revision}
    model = Transformer(checkpoint.model.config)
    model.load_state_dict(checkpoint.model.state_dict())
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    num_done, elapsed_before_s = load_progress(out, identity, model, optimizer)
    started = time.perf_counter()
    for update in range(num_done, config.num_updates):
        metrics, examples = compute(model, update)
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        metrics = {**metrics, "gradient_norm": norm}
        if not all(math.isfinite(value) for value in metrics.values()):
            failed = {"config": asdict(config), "update": update, **examples}
            write_text(out / "failed_batch.json", json.dumps(failed))
            raise ValueError(
                f"update {update} gave {metrics}; its batch is in {out / 'failed_batch.json'}; "
                f"lower learning_rate={config.learning_rate} and use another --out"
            )
        for group in optimizer.param_groups:
            warmup = (update + 1) / max(1, config.warmup_updates)
            group["lr"] = config.learning_rate * min(1.0, warmup)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        elapsed_s = elapsed_before_s + time.perf_counter() - started
        line = {"update": update + 1, **metrics}
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps({**line, "elapsed_s": round(elapsed_s, 3)}) + "\n")
        on_update(update + 1, metrics)
        if (update + 1) % save_every == 0 or update + 1 == config.num_updates:
            tensors = pack_training(model, [optimizer])
            tensors["progress"] = torch.tensor([update + 1, elapsed_s], dtype=torch.float64)
            save_tensors(out / "state.safetensors", tensors)
    elapsed_s = elapsed_before_s + time.perf_counter() - started
    training = {
        **identity,
        "parent": checkpoint.training,
        "elapsed_s": round(elapsed_s, 1),
        "provenance": dict(provenance),
    }
    save_checkpoint(out, model, checkpoint.tokenizer, "diffusion", training)
    return out


def load_progress(
    out: Path, identity: Mapping[str, Any], model: Transformer, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Restore what `out` holds; returns (updates done, seconds already spent).

    Log lines behind the saved state are dropped: their updates are done again.

    Raises:
        CheckpointError: if it is another run.
    """
    out.mkdir(parents=True, exist_ok=True)
    if (out / "run.json").is_file():
        if json.loads((out / "run.json").read_text()) != json.loads(json.dumps(identity)):
            raise CheckpointError(f"{out} holds another run; use another --out, or remove it")
    elif any(path.name != "run.json.partial" for path in out.iterdir()):
        raise CheckpointError(f"{out} holds something else; use another --out, or remove it")
    write_text(out / "run.json", json.dumps(identity))
    num_done, elapsed_s = 0, 0.0
    if (out / "state.safetensors").is_file():
        tensors = load_tensors(out / "state.safetensors")
        num_done, elapsed_s = int(tensors["progress"][0]), float(tensors["progress"][1])
        unpack_training(tensors, model, [optimizer])
    if (out / "log.jsonl").is_file():
        lines = (out / "log.jsonl").read_text().splitlines(keepends=True)
        write_text(out / "log.jsonl", "".join(lines[:num_done]))
    return num_done, elapsed_s
