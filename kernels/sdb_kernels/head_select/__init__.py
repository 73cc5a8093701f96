"""`head_select`: from hidden states to one token and its probability per row, with no logits kept.

A denoising step of a block sampler needs two numbers per position: the token it would commit and
how sure the model is. This operator returns exactly those. `reference.py` is the definition,
`kernel.py` the Triton twin, `README.md` the formula and the bytes moved.

It does not decide which positions are committed: thresholds, budgets and block logic live in the
sampler of the reference model.
"""

import math

import torch
from torch import Tensor

from sdb_kernels import backend as kernel_backend
from sdb_kernels.fp8 import Fp8Weight
from sdb_kernels.head_select import packed, reference
from sdb_kernels.packed import DTYPES, PackedWeight, Weight

MIN_TEMPERATURE = 1e-6


@torch.no_grad()
def head_select(
    hidden: Tensor,
    weight: Weight,
    *,
    forbidden_id: int | None,
    temperature: float = 0.0,
    seeds: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Select one token per row, and the probability the model gives it.

    With logits = hidden weight^T in float32 and logits[:, forbidden_id] = -inf, the token is the
    argmax (of equals, the smallest id) at temperature 0, and a draw from
    softmax(logits / temperature) otherwise. The confidence is softmax(logits)[token]: always at
    temperature 1, so that a threshold means the same at every temperature.

    A draw depends on its row's logits and seed only, not on the other rows of the call. Both
    backends draw the same token unless two candidates are within float32 rounding. A row with a
    NaN has confidence NaN and an unspecified token in [0, V).

    Args:
        hidden: [N, D] float32 or bfloat16; N may be 0.
        weight: [V, D], same dtype and device as `hidden`; or in 8 bits, see `sdb_kernels.fp8`; or
            packed, in float32, for a CPU.
        forbidden_id: The id that may never be chosen and has no probability (the mask token), or
            None.
        temperature: 0, or at least 1e-6.
        seeds: [N] int64 on the same device, one per row, any values; needed when temperature > 0
            and not read otherwise. Rows with equal seeds share their noise.
        backend: `"reference"`, `"triton"` or None; see `sdb_kernels.backend.choose`.

    Returns:
        Token ids [N] int64 and confidences [N] float32.

    Raises:
        ValueError: An argument does not fit the description above.
        RuntimeError: The requested backend cannot run here.
    """
    _check(hidden, weight, forbidden_id, temperature, seeds)
    if isinstance(weight, PackedWeight):
        if backend is not None:
            raise ValueError(
                f"a packed weight is multiplied by oneDNN; drop backend={backend!r} or pass the "
                "weight itself"
            )
        return packed.head_select(
            hidden, weight, forbidden_id=forbidden_id, temperature=temperature, seeds=seeds
        )
    name = kernel_backend.choose("head_select", backend, hidden.device)
    if name == "reference":
        return reference.head_select(
            hidden, weight, forbidden_id=forbidden_id, temperature=temperature, seeds=seeds
        )
    # Imported here: Triton is optional, and reads TRITON_INTERPRET when this module is imported.
    from sdb_kernels.head_select.kernel import head_select as head_select_triton

    return head_select_triton(
        hidden, weight, forbidden_id=forbidden_id, temperature=temperature, seeds=seeds
    )


def _check(
    hidden: Tensor,
    weight: Weight,
    forbidden_id: int | None,
    temperature: float,
    seeds: Tensor | None,
) -> None:
    if hidden.dim() != 2 or len(weight.shape) != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden {list(hidden.shape)} and weight {list(weight.shape)} do not fit; "
            "pass [N, D] and [V, D]"
        )
    is_wide = isinstance(weight, PackedWeight) and weight.dtype == torch.float32
    is_free = is_wide or isinstance(weight, Fp8Weight)
    if not (is_free or hidden.dtype == weight.dtype) or hidden.dtype not in DTYPES:
        raise ValueError(
            f"hidden is {hidden.dtype} and weight {weight.dtype}; pass both as torch.float32 or "
            "both as torch.bfloat16, or the weight as an Fp8Weight"
        )
    vocabulary_size = weight.shape[0]
    if forbidden_id is not None and not 0 <= forbidden_id < vocabulary_size:
        raise ValueError(f"forbidden_id={forbidden_id} is outside [0, {vocabulary_size})")
    if vocabulary_size - (forbidden_id is not None) < 1:
        raise ValueError(f"a vocabulary of {vocabulary_size} leaves no id to choose from")
    if not (temperature == 0.0 or MIN_TEMPERATURE <= temperature < math.inf):
        raise ValueError(f"temperature={temperature} is neither 0 nor at least {MIN_TEMPERATURE}")
    if temperature > 0.0 and seeds is None:
        raise ValueError(f"temperature={temperature} draws at random; pass seeds, one per row")
    if seeds is not None and (seeds.dtype != torch.int64 or seeds.shape != hidden.shape[:1]):
        raise ValueError(
            f"seeds is {seeds.dtype} {list(seeds.shape)}; pass torch.int64 [{hidden.shape[0]}]"
        )
    devices = {t.device for t in (hidden, weight, seeds) if t is not None}
    if len(devices) > 1:
        raise ValueError(f"tensors are on {sorted(map(str, devices))}; move them to one device")
