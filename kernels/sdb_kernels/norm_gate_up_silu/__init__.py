"""`norm_gate_up_silu`: the first half of a SwiGLU feed-forward in one launch.

RMSNorm, the gate and up projections, SiLU and their product: five launches and four passes over
activations as PyTorch calls, one launch that reads the weights once here. `reference.py` is the
definition, `kernel.py` the Triton twin, `README.md` the formula and the bytes moved.

The second half, down projection plus residual, is `linear_add`. No backward pass.
"""

import torch
from torch import Tensor

from sdb_kernels import backend as kernel_backend
from sdb_kernels.fp8 import Fp8Weight, check_weight
from sdb_kernels.norm_gate_up_silu import reference


@torch.no_grad()
def norm_gate_up_silu(
    x: Tensor,
    gain: Tensor,
    weight: Tensor | Fp8Weight,
    *,
    eps: float,
    backend: str | None = None,
) -> Tensor:
    """Compute silu(y W_gate^T) * (y W_up^T) for y = rms_norm(x).

    Args:
        x: [N, D] float32 or bfloat16, the residual stream.
        gain: [D], same dtype: the weight of the norm.
        weight: [2F, D], gate rows first; same dtype, or in 8 bits, see `sdb_kernels.fp8`.
        eps: Added to the mean square; positive.
        backend: `"reference"`, `"triton"` or None; see `sdb_kernels.backend.choose`.

    Returns:
        [N, F], same dtype as `x`.

    Raises:
        ValueError: An argument does not fit the description above.
        RuntimeError: The requested backend cannot run here.
    """
    is_matrix = x.dim() == len(weight.shape) == 2
    if not is_matrix or weight.shape[1] != x.shape[1] or weight.shape[0] % 2:
        raise ValueError(
            f"x {list(x.shape)} and weight {list(weight.shape)} do not fit; pass [N, D] and [2F, D]"
        )
    if x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"x is {x.dtype}; pass torch.float32 or torch.bfloat16")
    if gain.dtype != x.dtype or gain.shape != x.shape[1:]:
        raise ValueError(f"gain is {gain.dtype} {list(gain.shape)}; pass {x.dtype} [{x.shape[1]}]")
    check_weight(weight, x.dtype)
    devices = {x.device, gain.device, weight.device}
    if len(devices) > 1:
        raise ValueError(f"tensors are on {sorted(map(str, devices))}; move them to one device")
    if kernel_backend.choose("norm_gate_up_silu", backend, x.device) == "reference":
        return reference.norm_gate_up_silu(x, gain, weight, eps)
    # Imported here: Triton is optional, and reads TRITON_INTERPRET on import of the module.
    from sdb_kernels.norm_gate_up_silu.kernel import norm_gate_up_silu as run

    return run(x, gain, weight, eps)
