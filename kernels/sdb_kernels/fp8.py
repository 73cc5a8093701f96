"""Weights in 8 bits: e4m3 values and a scale per output channel.

    W[c, d] ~ scale[c] q[c, d],   scale[c] = max_d |W[c, d]| / 448
    x W^T   = scale (x q^T)

448 is the largest number of e4m3 (Micikevicius et al., arXiv 2209.05433), so that the largest
weight of a channel uses the whole range and none overflows. Operators widen `q` where it is used
and apply the scale behind the sum; activations stay as they are (W8A16), which halves the bytes of
a forward.

What it does not do: training; rounded weights have no gradient.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DTYPE = torch.float8_e4m3fn
LARGEST = 448.0


@dataclass(frozen=True, slots=True)
class Fp8Weight:
    """A weight [C, D] in 8 bits: the projections and `head_select` take it in place of a tensor."""

    values: Tensor
    """[C, D] float8_e4m3fn."""
    scale: Tensor
    """[C] float32, on the same device."""

    def __post_init__(self) -> None:
        """Reject what a cast of the model or half a move leaves behind.

        Raises:
            ValueError: with what was given and what is allowed.
        """
        kinds = (self.values.dtype, self.values.dim(), self.scale.dtype, self.scale.device)
        wanted = (DTYPE, 2, torch.float32, self.values.device)
        if kinds != wanted or self.scale.shape != self.values.shape[:1]:
            raise ValueError(
                f"values are {self.values.dtype} {list(self.values.shape)} on {self.values.device} "
                f"and scale {self.scale.dtype} {list(self.scale.shape)} on {self.scale.device}; "
                f"pass {DTYPE} [C, D] and torch.float32 [C] on one device, and quantise a model "
                "after it has its dtype"
            )

    @property
    def shape(self) -> torch.Size:
        """[C, D]."""
        return self.values.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Of both tensors."""
        return self.values.device

    def dequantise(self) -> Tensor:
        """Return the weights [C, D] float32 that this stands for."""
        return self.widen(torch.float32) * self.scale[:, None]

    def multiply(self, x: Tensor) -> Tensor:
        """Compute x W^T for x [..., D]; [..., C] in its dtype, in which the sum is rounded too.

        It widens all values at each call: right everywhere, and fast nowhere.
        """
        return (F.linear(x, self.widen(x.dtype)) * self.scale).to(x.dtype)

    def widen(self, dtype: torch.dtype) -> Tensor:
        """Return the values [C, D] in a wider dtype, exactly.

        On a CPU by a table of all 256 of them, which PyTorch reads faster than it casts.
        """
        if self.device.type != "cpu":
            return self.values.to(dtype)
        table = torch.arange(256, dtype=torch.uint8).view(DTYPE).to(dtype)
        places = self.values.view(torch.uint8).int().flatten()
        return table.index_select(0, places).view(self.shape)


def quantise(weight: Tensor) -> Fp8Weight:
    """Round a weight [C, D] to e4m3 with a scale per row; a row of zeros has scale 1.

    Raises:
        ValueError: The weight is not a matrix of finite numbers.
    """
    if weight.dim() != 2 or not bool(weight.isfinite().all()):
        raise ValueError(f"weight {list(weight.shape)} must be a matrix of finite numbers")
    wide = weight.detach().float()
    scale = wide.abs().amax(dim=1) / LARGEST
    scale = torch.where(scale > 0.0, scale, 1.0)
    return Fp8Weight((wide / scale[:, None]).to(DTYPE), scale)


def check_weight(weight: Tensor | Fp8Weight, dtype: torch.dtype) -> None:
    """Reject a weight that is neither a tensor of the activations' `dtype` nor an `Fp8Weight`.

    Raises:
        ValueError: with what it is and what is allowed.
    """
    is_plain = isinstance(weight, Tensor) and weight.dtype == dtype
    if not is_plain and not isinstance(weight, Fp8Weight):
        raise ValueError(
            f"weight is a {type(weight).__name__} of {weight.dtype}; pass a tensor of {dtype}, or "
            "an Fp8Weight"
        )


def unpack(weight: Tensor | Fp8Weight) -> tuple[Tensor, Tensor | None]:
    """Return the matrix that a kernel reads, and its scale if it is in 8 bits."""
    if isinstance(weight, Fp8Weight):
        return weight.values, weight.scale.contiguous()
    return weight, None
