"""`linear_add`: a projection back into the residual stream, and the sum with it, in one launch.

What ends both halves of a layer: attention's output projection and the feed-forward's way down.
`reference.py` is the definition, `kernel.py` the Triton twin, `README.md` the formula, the bytes
moved, and why plain weights are multiplied by `torch.addmm`. No backward pass.
"""

import torch
from torch import Tensor

from sdb_kernels import backend as kernel_backend
from sdb_kernels.fp8 import Fp8Weight, check_weight
from sdb_kernels.linear_add import reference


@torch.no_grad()
def linear_add(
    x: Tensor,
    hidden: Tensor,
    weight: Tensor | Fp8Weight,
    *,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Compute x + hidden W^T.

    Args:
        x: [N, C] float32 or bfloat16, the residual stream; N may be 0.
        hidden: [N, D], same dtype.
        weight: [C, D], same dtype, or in 8 bits, see `sdb_kernels.fp8`.
        out: `x` itself, to add in place, which saves `torch.addmm` a copy of it; None for a new
            tensor.
        backend: `"addmm"` (not in 8 bits), `"triton"`, `"reference"` or None; see
            `sdb_kernels.backend.choose`.

    Returns:
        [N, C], same dtype as `x`.

    Raises:
        ValueError: An argument does not fit the description above.
        RuntimeError: The requested backend cannot run here.
    """
    is_matrix = x.dim() == hidden.dim() == 2 and len(x) == len(hidden)
    if not is_matrix or tuple(weight.shape) != (x.shape[1], hidden.shape[1]):
        raise ValueError(
            f"x {list(x.shape)}, hidden {list(hidden.shape)} and weight {list(weight.shape)} do "
            "not fit; pass [N, C], [N, D] and [C, D]"
        )
    if x.dtype != hidden.dtype or x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"x is {x.dtype} and hidden {hidden.dtype}; pass both as torch.float32 or both as "
            "torch.bfloat16"
        )
    if out is not None and out is not x:
        raise ValueError("out is another tensor than x; pass x to add in place, or nothing")
    check_weight(weight, x.dtype)
    devices = {x.device, hidden.device, weight.device}
    if len(devices) > 1:
        raise ValueError(f"tensors are on {sorted(map(str, devices))}; move them to one device")
    is_fp8 = isinstance(weight, Fp8Weight)
    name = kernel_backend.choose("linear_add", backend, x.device, is_fp8=is_fp8)
    if name == "addmm":
        assert isinstance(weight, Tensor)
        return torch.addmm(x, hidden, weight.T, out=out)
    if name == "reference":
        return reference.linear_add(x, hidden, weight, out)
    # Imported here: Triton is optional, and reads TRITON_INTERPRET on import of the module.
    from sdb_kernels.linear_add.kernel import linear_add as run

    return run(x, hidden, weight, out)
