"""What one run of pre-training is: its configuration, checked, and what changes from step to step.

Place in the flow: `train.py` reads it; every key is a key of the TOML files in `configs/`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sdb_reference_model.attention import KernelChoice
from sdb_reference_model.checkpoint import Objective
from sdb_reference_model.config import read_config
from sdb_reference_model.corruption import EDIT_WINDOW, Weighting
from sdb_reference_model.corruption import Schedule as MaskSchedule
from sdb_reference_model.curriculum import compute_edit_ratio, compute_max_time
from sdb_reference_model.edits import EditLengths, EditSource
from sdb_reference_model.model import SIZES
from sdb_reference_model.objective import Attention, EditPlace
from sdb_reference_model.optimizers import (
    OptimizerName,
    Schedule,
    compute_learning_rate_factor,
)
from sdb_reference_model.parallel import Parallel, Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run. `data` is handed to the composition root, which makes the data set."""

    objective: Objective
    batch_size: int
    num_train_steps: int
    warmup_steps: int
    adam_lr: float
    seed: int
    data: dict[str, Any]
    block_sizes: tuple[int, ...] = ()
    """One is drawn per step: the blocks that sampling will use. Empty under full attention."""
    attention: Attention = "block_causal"
    canvas_size: int = 0
    """Tokens to which end tokens fill a shorter answer under full attention; 0 fills it to the
    longest of its batch, whose answers are alike in length, so that the masks tell it."""
    mask_schedule: MaskSchedule = "linear"
    """gamma_t."""
    mask_clip: Literal["block", "none"] = "block"
    """`block` raises gamma_t to 1 / block size, as Stable-DiffCoder does; at least one token of a
    block is masked in any case."""
    weighting: Weighting = "elbo"
    """Of the masked tokens: gamma'_t / gamma_t as in Eq. 6, or `uniform`."""
    mask_warmup_steps: int = 0
    """Steps over which the largest t rises to 1, for autoregressive starts."""
    size: str = ""
    """A name of `SIZES`; may be left out where `init_from` brings its own."""
    init_from: str = ""
    """Checkpoint to start from: a shipped name, a folder, or `hf:` and a folder or id of other
    people's. Its tokenizer comes along."""
    mask_token: str = "<|mask|>"
    """What an autoregressive start without a mask uses as one: any token that its text never has,
    or a new one, for which most models have a spare id."""
    past_weight: float = 0.0
    """Of next-token prediction on the clean answer, which `attention = "causal_past"` reads
    causally anyway; it keeps what an autoregressive start knew."""

    edit_fraction: float = 0.2
    """Last part of the steps that has both terms of Eq. 6; 0 is never."""
    edit_ramp: float = 0.5
    edit_weight: float = 1.0
    edit_place: EditPlace = "separate"
    edit_source: EditSource = "uniform"
    edit_lengths: EditLengths = "balanced"
    substitution_share: float = 0.5
    insertion_share: float = 0.5
    """Of the other edits; the rest are deletions. Balanced lengths need as many of each."""
    edit_window: int = EDIT_WINDOW
    """Of balanced lengths: largest distance between a deletion and its insertion."""

    optimizer: OptimizerName = "adamw"
    muon_lr: float = 0.02
    weight_decay: float = 0.01
    schedule: Schedule = "wsd"
    decay_fraction: float = 0.35
    precision: Precision = "auto"
    """`auto` is bfloat16 where the device has it in hardware."""
    parallel: Parallel = "ddp"
    piece_size: int = 0
    """Examples of one forward; 0 is the batch over the ranks. Smaller ones need less memory."""
    recompute_activations: bool = False
    attention_kernel: KernelChoice = "auto"
    """`auto` is `flex` on GPUs and `sdpa` on processors; see `attention.py`."""
    packing: bool = False
    """Put several examples of a piece in one row, where each sees only itself; see `packing.py`."""
    compile: bool = False
    """Through `torch.compile`, on GPUs; tested on none yet."""

    def weigh(self, losses: Sequence[Any]) -> Any:
        """What is minimised, of the losses of masks, edits and past."""
        mask, edit, past = losses
        return mask + self.edit_weight * edit + self.past_weight * past


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
    if config.size not in SIZES and (config.size or not config.init_from):
        raise ValueError(
            f"{name}: size={config.size!r}; use one of {', '.join(SIZES)}; "
            "or leave it out where init_from brings its own"
        )
    if config.attention == "causal_past" and config.objective != "diffusion":
        raise ValueError(f"{name}: attention='causal_past' needs objective='diffusion'")
    is_blockwise = config.objective == "diffusion" and config.attention != "full"
    if is_blockwise != bool(config.block_sizes):
        raise ValueError(
            f"{name}: block_sizes goes with objective='diffusion', and not with attention='full'"
        )
    if min((config.batch_size, config.num_train_steps, *config.block_sizes)) < 1:
        raise ValueError(f"{name}: batch_size, num_train_steps and block_sizes must be positive")
    weights = ("weight_decay", "edit_weight", "past_weight")
    for key in ("warmup_steps", "mask_warmup_steps", "seed", *weights):
        if not 0 <= getattr(config, key) < math.inf:
            raise ValueError(f"{name}: {key}={getattr(config, key)} must be 0 or more")
    for key in ("adam_lr", "muon_lr"):
        if not 0 < getattr(config, key) < math.inf:
            raise ValueError(f"{name}: {key}={getattr(config, key)} must be positive")
    if config.past_weight and config.attention != "causal_past":
        raise ValueError(f"{name}: past_weight needs attention='causal_past'")
    if config.canvas_size < 0 or (config.canvas_size and config.attention != "full"):
        raise ValueError(
            f"{name}: canvas_size={config.canvas_size} goes with attention='full'; 0 is none"
        )
    edits = "edit_fraction", "edit_ramp", "substitution_share", "insertion_share"
    for key in (*edits, "decay_fraction"):
        if not 0 <= getattr(config, key) <= 1:
            raise ValueError(f"{name}: {key}={getattr(config, key)} must be in [0, 1]")
    is_in_blocks = is_blockwise and config.attention == "block_causal"
    if config.edit_lengths == "labels" and not (is_in_blocks and config.edit_place == "separate"):
        raise ValueError(
            f"{name}: edit_lengths='labels' needs block_sizes, attention='block_causal' and "
            "edit_place='separate'"
        )
    if config.edit_lengths == "balanced" and config.insertion_share != 0.5:
        raise ValueError(
            f"{name}: insertion_share={config.insertion_share} needs edit_lengths='labels'; "
            "balanced edits insert as much as they delete"
        )
    if config.edit_window < 1 or (
        config.edit_lengths == "labels" and config.edit_window != EDIT_WINDOW
    ):
        raise ValueError(
            f"{name}: edit_window={config.edit_window} must be at least 1, and goes with "
            "edit_lengths='balanced'"
        )
    if config.optimizer == "muon" and config.parallel == "fsdp":
        raise ValueError(
            f"{name}: optimizer='muon' needs whole matrices; use parallel='ddp', or 'adamw'"
        )


def find_factor(train_step: int, config: TrainConfig) -> float:
    """Share of the full learning rate at a step."""
    return compute_learning_rate_factor(
        train_step,
        config.num_train_steps,
        config.warmup_steps,
        config.decay_fraction,
        config.schedule,
    )


def find_max_time(train_step: int, config: TrainConfig) -> float:
    """Largest time of the masks at a step."""
    return compute_max_time(train_step, config.mask_warmup_steps)


def find_edit_ratio(train_step: int, config: TrainConfig) -> float:
    """Largest alpha at a step; the twin has no edits."""
    if config.objective == "autoregressive":
        return 0.0
    return compute_edit_ratio(
        train_step, config.num_train_steps, config.edit_fraction, config.edit_ramp
    )
