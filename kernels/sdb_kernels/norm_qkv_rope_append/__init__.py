"""`norm_qkv_rope_append`: from the residual stream to queries, and keys and values in the cache.

RMSNorm, the fused projection, bias, the optional norms of queries and keys, rotary positions and
the write into the static cache: eight to twelve launches as PyTorch calls, one here, which reads
the weights once and writes keys and values where attention will read them. `reference.py` is the
definition, `kernel.py` the Triton twin, `README.md` the formula and the bytes moved.

It makes nothing final: which positions of the cache count is the caller's number. No backward pass.
"""

import torch
from torch import Tensor

from sdb_kernels import backend as kernel_backend
from sdb_kernels.fp8 import Fp8Weight, check_weight
from sdb_kernels.norm_qkv_rope_append import reference


@torch.no_grad()
def norm_qkv_rope_append(
    x: Tensor,
    gain: Tensor,
    weight: Tensor | Fp8Weight,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    num_past: int | Tensor,
    eps: float,
    bias: Tensor | None = None,
    query_gain: Tensor | None = None,
    key_gain: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Project rms_norm(x), rotate queries and keys, and write keys and values into the cache.

    Args:
        x: [B, L, D] float32 or bfloat16, the residual stream.
        gain: [D], same dtype: the weight of the norm.
        weight: [(H + 2G) E, D], rows of queries, keys, values; same dtype, or in 8 bits, see
            `sdb_kernels.fp8`.
        cos: [B or 1, L, E/2] float32, of each position's angles; pairs are (e, e + E/2).
        sin: [B or 1, L, E/2] float32.
        keys: [B, G, S, E], same dtype; positions [num_past, num_past + L) are written.
        values: [B, G, S, E].
        num_past: A number for all rows, or int32 [B] on the device.
        eps: Added to every mean square; positive.
        bias: [(H + 2G) E], same dtype.
        query_gain: [E], same dtype: queries are normed before they are rotated; with `key_gain`.
        key_gain: [E].
        backend: `"reference"`, `"triton"` or None; see `sdb_kernels.backend.choose`.

    Returns:
        Queries [B, H, L, E], same dtype; a view of memory in the order B, L, H, E.

    Raises:
        ValueError: An argument does not fit the description above.
        RuntimeError: The requested backend cannot run here.
    """
    _check(x, gain, weight, cos, sin, keys, values, num_past, bias, query_gain, key_gain)
    check_weight(weight, x.dtype)
    if kernel_backend.choose("norm_qkv_rope_append", backend, x.device) == "reference":
        run = reference.norm_qkv_rope_append
    else:
        # Imported here: Triton is optional, and reads TRITON_INTERPRET on import of the module.
        from sdb_kernels.norm_qkv_rope_append.kernel import norm_qkv_rope_append as run
    return run(
        x,
        gain,
        weight,
        cos.expand(len(x), -1, -1),
        sin.expand(len(x), -1, -1),
        keys,
        values,
        num_past=num_past,
        eps=eps,
        bias=bias,
        query_gain=query_gain,
        key_gain=key_gain,
    )


def _check(
    x: Tensor,
    gain: Tensor,
    weight: Tensor | Fp8Weight,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    num_past: int | Tensor,
    bias: Tensor | None,
    query_gain: Tensor | None,
    key_gain: Tensor | None,
) -> None:
    if x.dim() != 3 or x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"x is {x.dtype} {list(x.shape)}; pass torch.float32 or torch.bfloat16 [B, L, D]"
        )
    rows, length, num_features = x.shape
    if keys.dim() != 4 or len(keys) != rows or keys.shape != values.shape:
        raise ValueError(
            f"keys {list(keys.shape)} and values {list(values.shape)} do not fit; pass twice "
            f"[{rows}, G, S, E]"
        )
    num_groups, capacity, width = keys.shape[1:]
    num_query_columns = weight.shape[0] - 2 * num_groups * width
    fits = len(weight.shape) == 2 and weight.shape[1] == num_features and width % 2 == 0
    if not fits or num_query_columns < width or num_query_columns % width:
        raise ValueError(
            f"weight {list(weight.shape)} does not fit x {list(x.shape)} and keys "
            f"{list(keys.shape)}; pass [(H + 2G) E, D] with an even E"
        )
    if (query_gain is None) != (key_gain is None):
        raise ValueError("pass both of query_gain and key_gain, or neither")
    if isinstance(num_past, int) and not 0 <= num_past <= capacity - length:
        raise ValueError(
            f"num_past={num_past} and {length} new positions do not fit a cache of {capacity}; "
            "allocate more"
        )
    for name, tensor, dtype, shape in (
        ("gain", gain, x.dtype, (num_features,)),
        ("keys", keys, x.dtype, tuple(keys.shape)),
        ("values", values, x.dtype, tuple(keys.shape)),
        ("cos", cos, torch.float32, (len(cos) if len(cos) == 1 else rows, length, width // 2)),
        ("sin", sin, torch.float32, tuple(cos.shape)),
        ("bias", bias, x.dtype, (weight.shape[0],)),
        ("query_gain", query_gain, x.dtype, (width,)),
        ("key_gain", key_gain, x.dtype, (width,)),
        ("num_past", num_past, torch.int32, (rows,)),
    ):
        if not isinstance(tensor, Tensor):
            continue
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} is {tensor.dtype} {list(tensor.shape)}; pass {dtype} {list(shape)}"
            )
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device} and x on {x.device}; move one")
