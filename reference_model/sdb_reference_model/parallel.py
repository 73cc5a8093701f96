"""One process or many: joining, sharding, and the state that a run resumes from.

Place in the flow: `train.py` asks who it is (`join_world`), lets its module be wrapped (`shard`),
and saves and loads its state here. Alone it is a world of one, and nothing else changes.

What this does not do: tensor or pipeline parallelism.
"""

import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from sdb_reference_model.checkpoint import CheckpointError
from sdb_reference_model.files import write_text

Parallel = Literal["ddp", "fsdp"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class World:
    """Who this process is."""

    rank: int
    size: int
    device: torch.device

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Return when every rank got here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world() -> Iterator[World]:
    """Join the processes that `torchrun` started; without it, be alone.

    One process per GPU with NCCL where there are GPUs, else gloo on processors. A group that the
    caller has already started is used and left as it is.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if size == 1 or dist.is_initialized():
        yield World(rank, size, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products run in hardware; emulated they cost some 30 times float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Dtype of the matrix products."""
    is_bfloat16 = precision == "bfloat16" or (precision == "auto" and has_native_bfloat16(device))
    return torch.bfloat16 if is_bfloat16 else torch.float32


def shard(
    module: nn.Module,
    layers: Iterable[nn.Module],
    world: World,
    parallel: Parallel,
    dtype: torch.dtype,
) -> nn.Module:
    """Wrap what computes the loss so that gradients are averaged over the ranks.

    Args:
        module: its forward is the whole loss; all parameters are inside.
        layers: its repeated parts; FSDP gathers one at a time.
        world: from `join_world`.
        parallel: `ddp` keeps a copy per rank, `fsdp` (FSDP2) a shard.
        dtype: of the arithmetic under `fsdp`; under `ddp` autocast decides.
    """
    if world.size == 1:
        return module
    if parallel == "ddp":
        return DistributedDataParallel(module)
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)  # changes the module in place
    return module


@contextmanager
def synchronise(module: nn.Module, is_last: bool) -> Iterator[None]:
    """Average gradients over the ranks in the last of several backward passes only."""
    if isinstance(module, DistributedDataParallel) and not is_last:
        with module.no_sync():
            yield
        return
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(is_last)
    yield


def save_state(
    folder: Path,
    world: World,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Tensor,
) -> None:
    """Write a resumable state; a kill leaves the old one or the new one, never half of one.

    Weights and optimizer moments go to `folder/state-STEP` by `torch.distributed.checkpoint`, whose
    form is the same for any number of ranks. `folder/latest` names the one that counts.

    Args:
        folder: of the run.
        world: every rank calls this.
        model: without the wrapping of `shard`.
        optimizers: of the model.
        progress: float64 [2], steps done and seconds spent.
    """
    name = f"state-{int(progress[0])}"
    if world.rank == 0:
        shutil.rmtree(folder / name, ignore_errors=True)
    world.wait()
    with quiet(world):
        weights, moments = get_state_dict(model, optimizers)
        save(
            {"model": weights, "optimizers": moments, "progress": progress},
            checkpoint_id=folder / name,
            no_dist=world.size == 1,
        )
    world.wait()
    if world.rank == 0:
        write_text(folder / "latest", name)
        for old in folder.glob("state-*"):
            if old.name != name:
                shutil.rmtree(old)


def load_state(
    folder: Path, world: World, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> Tensor:
    """Restore what `save_state` wrote; returns its `progress`, zeros where nothing was written.

    Raises:
        CheckpointError: if the state is damaged or of another model.
    """
    progress = torch.zeros(2, dtype=torch.float64)
    if not (folder / "latest").is_file():
        return progress
    path = folder / (folder / "latest").read_text().strip()
    try:
        with quiet(world):
            weights, moments = get_state_dict(model, optimizers)
            state: dict[str, Any] = {"model": weights, "optimizers": moments, "progress": progress}
            load(state, checkpoint_id=path, no_dist=world.size == 1)
            set_state_dict(model, optimizers, model_state_dict=weights, optim_state_dict=moments)
    except (OSError, ValueError, RuntimeError, CheckpointException) as error:
        reason = str(error).strip().splitlines()[-1]
        raise CheckpointError(
            f"{path} cannot be resumed ({reason}); remove {folder} and train again"
        ) from error
    return progress


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """Whole weights on rank 0, in host memory; every rank calls this."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(model, options=options)  # type: ignore[return-value]


@contextmanager
def quiet(world: World) -> Iterator[None]:
    """Alone, `torch.distributed.checkpoint` warns that it is alone, which is no news."""
    with warnings.catch_warnings():
        if world.size == 1:
            warnings.simplefilter("ignore")
        yield
