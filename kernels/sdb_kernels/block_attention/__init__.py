"""`block_attention`: a block of queries against a long cache and itself, keys and values read once.

A denoising step attends from a few dozen queries to the whole past. A kernel made for one query or
for thousands leaves the GPU idle there; this one packs the query heads that share keys into one
tile, and splits the keys over the GPU. `reference.py` is the definition, `kernel.py` the Triton
twin, `README.md` the formula and the bytes moved.

It does not project, rotate or append (`norm_qkv_rope_append` does), and has no backward pass.
"""

import torch
from torch import Tensor

from sdb_kernels import backend as kernel_backend
from sdb_kernels.block_attention import libraries, reference

DTYPES = (torch.float32, torch.bfloat16)


@torch.no_grad()
def block_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    num_keys: int | Tensor,
    first_key: Tensor | None = None,
    num_causal: Tensor | None = None,
    block_size: int | None = None,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attend from L queries to the keys of a cache, of which the last L are their own.

    Query i of L sits at key `num_keys - L + i`. It sees all of [first_key, num_keys), or, with a
    block size b, those before the end of its own block: block-causal, and causal with b = 1. The
    first `num_causal` queries see nothing behind themselves, whatever b is: a finished block that a
    causal past takes in, in front of one that sees all of itself. A query that sees nothing gives
    zeros. What the cache holds outside that range is never read.

    Args:
        queries: [B, H, L, E] float32 or bfloat16.
        keys: [B, G, S, E], same dtype; G divides H, S is the capacity of the cache.
        values: [B, G, S, E].
        num_keys: Keys in use, at least L: a number for all rows, or int32 [B] on the device.
        first_key: int32 [B], where the row's padding ends; None for 0.
        num_causal: int32 [B] from 0 to L on the device; None for 0.
        block_size: b, counted from the first query; None sees everything.
        scale: Of the scores; default 1 / sqrt(E).
        backend: `"triton"`, `"sdpa"`, `"flash_attn"`, `"reference"` or None; see
            `sdb_kernels.backend.choose`. flash-attn takes bfloat16, no block size but 1 and
            no `num_causal`.

    Returns:
        [B, H, L, E], same dtype; a view of memory in the order B, L, H, E, so that joining the
        heads copies nothing.

    Raises:
        ValueError: An argument does not fit the description above.
        RuntimeError: The requested backend cannot run here.
    """
    _check(queries, keys, values, num_keys, first_key, num_causal, block_size)
    name = kernel_backend.choose("block_attention", backend, queries.device)
    if name == "triton":
        # Imported here: Triton is optional, and reads TRITON_INTERPRET on import of the module.
        from sdb_kernels.block_attention.kernel import block_attention as run
    else:
        run = {
            "sdpa": libraries.block_attention_sdpa,
            "flash_attn": libraries.block_attention_flash,
            "reference": reference.block_attention,
        }[name]
    if block_size is not None and block_size >= queries.shape[2]:
        block_size = None  # one block
    scale = queries.shape[3] ** -0.5 if scale is None else scale
    return run(queries, keys, values, num_keys, first_key, num_causal, block_size, scale)


def _check(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    num_keys: int | Tensor,
    first_key: Tensor | None,
    num_causal: Tensor | None,
    block_size: int | None,
) -> None:
    if queries.dim() != 4 or keys.dim() != 4 or keys.shape != values.shape:
        raise ValueError(
            f"queries {list(queries.shape)}, keys {list(keys.shape)} and values "
            f"{list(values.shape)} do not fit; pass [B, H, L, E] and twice [B, G, S, E]"
        )
    rows, num_heads, num_queries, width = queries.shape
    if (keys.shape[0], keys.shape[3]) != (rows, width) or num_heads % keys.shape[1]:
        raise ValueError(
            f"queries {list(queries.shape)} and keys {list(keys.shape)} do not fit; rows and "
            "head widths must be equal, and the key heads divide the query heads"
        )
    if not queries.dtype == keys.dtype == values.dtype or queries.dtype not in DTYPES:
        raise ValueError(
            f"queries are {queries.dtype}, keys {keys.dtype} and values {values.dtype}; pass all "
            "as torch.float32 or all as torch.bfloat16"
        )
    if isinstance(num_keys, int) and not num_queries <= num_keys <= keys.shape[2]:
        raise ValueError(
            f"num_keys={num_keys} must be from {num_queries}, the queries' own keys, to "
            f"{keys.shape[2]}, the capacity of the cache"
        )
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size={block_size} must be at least 1, or None")
    tensors = {"queries": queries, "keys": keys, "values": values}
    lengths = {"num_keys": num_keys, "first_key": first_key, "num_causal": num_causal}
    for name, tensor in lengths.items():
        if isinstance(tensor, Tensor):
            tensors[name] = tensor
            if tensor.dtype != torch.int32 or tensor.shape != (rows,):
                raise ValueError(
                    f"{name} is {tensor.dtype} {list(tensor.shape)}; pass torch.int32 [{rows}]"
                )
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) > 1:
        raise ValueError(f"tensors are on {sorted(map(str, devices))}; move them to one device")
