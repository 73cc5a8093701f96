"""Checkpoints: a folder with `model.safetensors`, `config.json` and `tokenizer.json`.

Nothing is ever unpickled. `config.json` holds the model's shape, its objective and how it was
trained. Training state (optimizer included) is one more safetensors file, replaced atomically.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdb_reference_model.files import replace_durably, write_text
from sdb_reference_model.linear import INFERENCE_ONLY
from sdb_reference_model.model import ModelConfig, Transformer
from sdb_reference_model.past import AttentionMode, Past, choose_past
from sdb_reference_model.tokenizer import CodeTokenizer, ControlIds

Objective = Literal["diffusion", "autoregressive"]

SHIPPED = Path(__file__).parent / "checkpoints"
"""Small checkpoints that come with the package, by name."""


class CheckpointError(ValueError):
    """A checkpoint is missing, truncated or of another shape; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model with all that is needed to sample from it."""

    model: Transformer
    tokenizer: CodeTokenizer
    objective: Objective
    revision: str
    """First 16 hex digits of the SHA-256 over the three files."""
    training: dict[str, Any]
    """How it was trained: config, steps, hardware, versions, commit."""
    attention: AttentionMode = "block_causal"
    is_shifted: bool = False
    """Whether hidden states speak of the next token; see `past.py`."""

    def choose_past(self, block_size: int) -> Past:
        """What the block sampler reads this model against."""
        return choose_past(self.attention, self.is_shifted, block_size)


def save_checkpoint(
    folder: Path,
    model: Transformer,
    tokenizer: CodeTokenizer,
    objective: Objective,
    training: dict[str, Any],
) -> None:
    """Write the three files; weights are stored in bfloat16, half the size of float32.

    Raises:
        ValueError: a model that was packed or quantised.
    """
    if model.inference_head is not None:
        raise ValueError(INFERENCE_ONLY)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: w.detach().bfloat16().contiguous() for name, w in model.state_dict().items()}
    save_tensors(folder / "model.safetensors", weights)
    tokenizer.save(folder / "tokenizer.json")
    config = {
        "model": asdict(model.config),
        "objective": objective,
        "special_ids": [tokenizer.pad_id, tokenizer.end_id, tokenizer.mask_id],
        "training": training,
    }
    if tokenizer.control_ids is not None:
        config["control_ids"] = list(tokenizer.control_ids)
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def load_checkpoint(name: str, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Load a shipped checkpoint by name, any checkpoint by folder, or somebody else's.

    Args:
        name: for example `demo-diffusion`, a path, or `hf:` and the folder or id of a model in
            Hugging Face's form, see `hugging_face.py`.
        dtype: dtype of the weights in memory.

    Raises:
        CheckpointError: if it is missing, truncated, or its parts do not fit together.
    """
    if name.startswith("hf:"):
        # Imported here: that module speaks of checkpoints too.
        from sdb_reference_model.hugging_face import load_hugging_face_checkpoint

        return load_hugging_face_checkpoint(name.removeprefix("hf:"), dtype)
    folder = SHIPPED / name if (SHIPPED / name).is_dir() else Path(name)
    if not folder.is_dir():
        shipped = sorted(path.name for path in SHIPPED.glob("*/")) or ["none"]
        raise CheckpointError(
            f"no checkpoint {name!r}; shipped: {', '.join(shipped)}; or give the folder of one"
        )
    digest = hashlib.sha256()
    for part in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / part).is_file():
            raise CheckpointError(f"checkpoint {folder} lacks {part}; copy or train it again")
        digest.update((folder / part).read_bytes())
    try:
        config = json.loads((folder / "config.json").read_text())
        model_config = ModelConfig(**config["model"])
        objective, training = config["objective"], config["training"]
        special_ids = config.get("special_ids")  # the first checkpoints have the usual spelling
        control_ids = config.get("control_ids")
        tokenizer = CodeTokenizer.load(
            folder / "tokenizer.json",
            special_ids and tuple(map(int, special_ids)),
            control_ids and ControlIds(*map(int, control_ids)),
        )
    except Exception as error:  # `tokenizers` raises bare Exception on bad JSON
        raise CheckpointError(
            f"checkpoint {folder} cannot be read ({type(error).__name__}: {error}); "
            "copy or train it again"
        ) from error
    if objective not in ("diffusion", "autoregressive"):
        raise CheckpointError(f"checkpoint {folder} has the unknown objective {objective!r}")
    if tokenizer.vocab_size > model_config.vocab_size:
        raise CheckpointError(
            f"checkpoint {folder}: tokenizer has {tokenizer.vocab_size} ids, the model only "
            f"{model_config.vocab_size}; these files do not belong together"
        )
    with torch.device("meta"):
        model = Transformer(model_config)
    tensors = load_tensors(folder / "model.safetensors")
    check_tensors(folder, model, tensors)
    model.load_state_dict({k: w.to(dtype) for k, w in tensors.items()}, assign=True)
    attention = training.get("config", {}).get("attention", "block_causal")
    return Checkpoint(
        model.eval().requires_grad_(False),
        tokenizer,
        objective,
        digest.hexdigest()[:16],
        training,
        "causal_past" if model_config.causal_past else attention,
    )


def check_tensors(folder: Path, model: Transformer, tensors: dict[str, Tensor]) -> None:
    """Compare names and shapes with the model's own, and say the first difference."""
    expected = {name: tuple(w.shape) for name, w in model.state_dict().items()}
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    if missing or surplus:
        raise CheckpointError(
            f"checkpoint {folder} lacks {missing[:3]} and has surplus {surplus[:3]}; "
            "its config.json is of another model"
        )
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"checkpoint {folder}: {name} is {tuple(tensors[name].shape)}, "
                f"config.json wants {shape}"
            )


def pack_training(
    model: Transformer, optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Flatten weights and optimizer moments into named tensors, for `save_tensors`."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{parameter}.{k}": v for k, v in state.items()}
    return tensors


def unpack_training(
    tensors: dict[str, Tensor], model: Transformer, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Put back what `pack_training` took; other names are ignored."""
    model.load_state_dict(
        {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    for index, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimizer.{index}."):
                _, _, parameter, name = key.split(".", 3)
                state.setdefault(int(parameter), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: if it is truncated or no safetensors file.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is truncated or damaged ({error}); copy or train it again"
        ) from error


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file so that a kill leaves the old one or the new one, never half."""
    temporary = path.with_name(path.name + ".partial")
    save_file(tensors, temporary)
    replace_durably(temporary, path)
