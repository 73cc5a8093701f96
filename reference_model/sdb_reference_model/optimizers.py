"""Optimizers and learning-rate schedules of pre-training.

Place in the flow: `train.py` builds them once and asks for the factor of every step.
"""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

OptimizerName = Literal["adamw", "muon"]
Schedule = Literal["wsd", "cosine"]


def orthogonalise(x: Tensor, num_iterations: int = 5) -> Tensor:
    """Bring the singular values of a matrix [m, n] near 1 (Newton-Schulz, quintic).

    Coefficients of Muon (Jordan et al. 2024), chosen for a steep start: singular values end
    between about 0.7 and 1.2. Computed in the dtype of `x`.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(num_iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for matrices (Jordan et al. 2024); `torch.optim.Muon` is its twin.

    That one always orthogonalises in bfloat16, which costs some thirty times float32 on a
    processor without such arithmetic; this one takes bfloat16 where it is native.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take matrices only; `dtype` is that of the orthogonalisation."""
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "dtype": dtype}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffer = state["momentum_buffer"]
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(buffer, group["momentum"])  # Nesterov
                update = orthogonalise(update.to(group["dtype"])).to(parameter.dtype)
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))


def build_optimizers(
    model: nn.Module,
    layers: nn.Module,
    name: OptimizerName,
    weight_decay: float,
    dtype: torch.dtype,
) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters, or Muon for the matrices of `layers` and AdamW for the others.

    Rates are set at every step; parameters of one dimension are not decayed.
    """
    matrices = [p for p in layers.parameters() if p.dim() == 2] if name == "muon" else []
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in others if p.dim() > 1], "weight_decay": weight_decay * (not chosen)},
        {"params": [p for p in others if p.dim() == 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)
    return [Muon(matrices, 0.0, weight_decay, dtype=dtype), adam] if matrices else [adam]


def compute_learning_rate_factor(
    train_step: int,
    num_train_steps: int,
    warmup_steps: int,
    decay_fraction: float,
    schedule: Schedule = "wsd",
) -> float:
    """Share of the full rate at a step, in (0, 1].

    `wsd`: warm-up, stable, linear decay to zero over the last `decay_fraction` of the steps.
    `cosine`: warm-up, then half a cosine to zero over all other steps.
    """
    warmup = (train_step + 1) / max(1, warmup_steps)
    num_left = num_train_steps - train_step
    if schedule == "cosine":
        progress = 1 - num_left / max(1, num_train_steps - warmup_steps)
        return min(1.0, warmup, 0.5 * (1 + math.cos(math.pi * max(0.0, progress))))
    return min(1.0, warmup, num_left / max(1, round(num_train_steps * decay_fraction)))
