"""`linear_add` in plain PyTorch: the definition of the operator."""

from torch import Tensor

from sdb_kernels.fp8 import Fp8Weight
from sdb_kernels.packed import multiply


def linear_add(x: Tensor, hidden: Tensor, weight: Tensor | Fp8Weight, out: Tensor | None) -> Tensor:
    """Compute in float32, rounding at the end.

    Arguments are those of `sdb_kernels.linear_add.linear_add`, already checked.
    """
    total = (x.float() + multiply(hidden, weight)).to(x.dtype)
    return total if out is None else out.copy_(total)
