"""Weights in 8 bits: e4m3 values and a scale per output channel.

    W[c, d] ~ scale[c] q[c, d],   scale[c] = max_d |W[c, d]| / 448

448 is the largest number of e4m3 (Micikevicius et al., arXiv 2209.05433), so that the largest
weight of a channel uses the whole range and none overflows. The operators that take `weight_scale`
widen `q` where it is used; activations stay as they are (W8A16), which halves the bytes of a
forward.
"""

import torch
from torch import Tensor

DTYPE = torch.float8_e4m3fn
LARGEST = 448.0


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight [C, D] to e4m3 with a scale per row; a row of zeros has scale 1.

    Returns:
        Values [C, D] float8_e4m3fn and scales [C] float32.

    Raises:
        ValueError: The weight is not a matrix of finite numbers.
    """
    if weight.dim() != 2 or not bool(weight.isfinite().all()):
        raise ValueError(f"weight {list(weight.shape)} must be a matrix of finite numbers")
    wide = weight.float()
    scale = wide.abs().amax(dim=1) / LARGEST
    scale = torch.where(scale > 0.0, scale, 1.0)
    return (wide / scale[:, None]).to(DTYPE), scale


def dequantise(values: Tensor, scale: Tensor) -> Tensor:
    """Return the weights [C, D] float32 that stand for values [C, D] and scales [C]."""
    return values.float() * scale[:, None]


def check_weight(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> None:
    """Reject a weight that is neither of `dtype` without a scale nor e4m3 with one.

    Raises:
        ValueError: with both, and what is allowed.
    """
    if scale is None:
        if weight.dtype != dtype:
            raise ValueError(
                f"weight is {weight.dtype} without weight_scale; pass {dtype}, or {DTYPE} with one"
            )
    elif (weight.dtype, scale.dtype, scale.shape) != (DTYPE, torch.float32, weight.shape[:1]):
        raise ValueError(
            f"weight is {weight.dtype} and weight_scale {scale.dtype} {list(scale.shape)}; pass "
            f"{DTYPE} and torch.float32 [{weight.shape[0]}]"
        )
