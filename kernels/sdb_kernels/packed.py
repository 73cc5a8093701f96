"""Weights laid out once for this processor, so that a product does not reorder them in each call.

    y = x W^T + b,   W packed by oneDNN into the tiles that its kernels read

A block of 32 rows shares each weight 32 times only, so that the layout costs PyTorch's own
`linear` a good part of the product. On a GPU there is nothing to pack.

What it does not do: training; a packed weight has no gradient and cannot be read back.
"""

import torch
from torch import Tensor

from sdb_kernels.fp8 import Fp8Weight

DTYPES = (torch.float32, torch.bfloat16)


def is_available(device: torch.device | str) -> bool:
    """Tell whether weights on this device can be packed."""
    is_built = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    has_operators = hasattr(torch.ops.mkldnn, "_linear_pointwise")  # what Inductor calls as well
    return torch.device(device).type == "cpu" and is_built and has_operators


class PackedWeight:
    """A weight [C, D] that can only be multiplied by; see the module docstring."""

    def __init__(self, weight: Tensor) -> None:
        """Copy and lay out `weight` [C, D].

        Raises:
            ValueError: it is no matrix of float32 or bfloat16 that this processor can pack.
        """
        if weight.dim() != 2 or weight.dtype not in DTYPES or not is_available(weight.device):
            raise ValueError(
                f"weight is {weight.dtype} {list(weight.shape)} on {weight.device}; only matrices "
                "of float32 or bfloat16 on a CPU with oneDNN can be packed"
            )
        self.shape, self.dtype, self.device = weight.shape, weight.dtype, weight.device
        self._tiles = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Compute x W^T + bias for x [..., D] of the weight's dtype; [..., C]."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._tiles, bias, "none", [], "")
        return product


Weight = Tensor | PackedWeight | Fp8Weight
"""What `multiply` and `head_select` take."""


def multiply(x: Tensor, weight: Weight) -> Tensor:
    """Compute x W^T in float32 [..., C], whatever the dtype of x [..., D] and of a plain weight.

    On a GPU the tensor cores multiply bfloat16: exact products, summed in float32. A packed weight
    of the head is one of float32: logits rounded to bfloat16 tie too often.
    """
    if isinstance(weight, PackedWeight):
        return weight.multiply(x.to(weight.dtype)).float()
    if isinstance(weight, Fp8Weight):
        return weight.multiply(x.float())
    if x.is_cuda and x.dtype == weight.dtype == torch.bfloat16:
        product = torch.mm(x.flatten(0, -2), weight.T, out_dtype=torch.float32)
        return product.view(*x.shape[:-1], -1)
    return x.float() @ weight.float().T
