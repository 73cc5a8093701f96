"""`norm_gate_up_silu` in plain PyTorch: the definition of the operator, and what runs on a CPU."""

import torch.nn.functional as F
from torch import Tensor

from sdb_kernels.fp8 import Fp8Weight
from sdb_kernels.packed import multiply


def norm_gate_up_silu(x: Tensor, gain: Tensor, weight: Tensor | Fp8Weight, eps: float) -> Tensor:
    """Compute in float32, rounding to x's dtype before the product and at the end.

    Arguments are those of `sdb_kernels.norm_gate_up_silu.norm_gate_up_silu`, already checked.
    """
    gate, up = project_normalised(x, gain, weight, eps).chunk(2, dim=-1)
    return (F.silu(gate) * up).to(x.dtype)


def project_normalised(x: Tensor, gain: Tensor, weight: Tensor | Fp8Weight, eps: float) -> Tensor:
    """Return rms_norm(x) W^T float32 [..., C], the divisor applied behind the product."""
    product = multiply((x.float() * gain.float()).to(x.dtype), weight)
    return product / (x.float().square().mean(dim=-1, keepdim=True) + eps).sqrt()
