"""`mask_ce`: the masked, weighted cross-entropy of diffusion training, without full logits.

Training a model with a vocabulary of 150,000 on 4,096 masked tokens makes logits of 2.5 GB in
float32, and as much again for their gradient. This operator goes through the vocabulary in chunks,
forward and backward, and keeps one number per row in between. `reference.py` is the definition,
`chunked.py` the same in chunks of plain PyTorch, `kernel.py` in Triton, `README.md` the formula.

It takes the rows that are masked, already gathered, and returns their weighted sum: normalising and
the weights themselves belong to the objective.
"""

import torch
from torch import Tensor

from sdb_kernels import backend as kernel_backend
from sdb_kernels.mask_ce import chunked, reference


def mask_ce(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    row_weights: Tensor,
    *,
    forbidden_id: int | None,
    backend: str | None = None,
) -> Tensor:
    """Sum w[n] * -log softmax(hidden[n] weight^T)[targets[n]], without the forbidden id.

    Gradients flow to `hidden` and `weight`, once: they are constants to a second differentiation.
    A row of weight 0 adds nothing and has no gradient, whatever its target.

    Args:
        hidden: [N, D] float32 or bfloat16; N may be 0.
        weight: [V, D], same dtype.
        targets: [N] int64 in [0, V), not the forbidden id where the weight is not 0.
        row_weights: [N] float32.
        forbidden_id: The id without probability (the mask token), or None.
        backend: `"triton"`, `"chunked"`, `"reference"` or None; see `sdb_kernels.backend.choose`.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: An argument does not fit the description above.
        RuntimeError: The requested backend cannot run here.
    """
    _check(hidden, weight, targets, row_weights, forbidden_id)
    name = kernel_backend.choose("mask_ce", backend, hidden.device)
    forbidden = -1 if forbidden_id is None else forbidden_id
    if name == "reference":
        return reference.mask_ce(hidden, weight, targets, row_weights, forbidden)
    if name == "chunked":
        return chunked.mask_ce(hidden, weight, targets, row_weights, forbidden)
    # Imported here: Triton is optional, and reads TRITON_INTERPRET on import of the module.
    from sdb_kernels.mask_ce.kernel import mask_ce as mask_ce_triton

    return mask_ce_triton(hidden, weight, targets, row_weights, forbidden)


def _check(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    row_weights: Tensor,
    forbidden_id: int | None,
) -> None:
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden {list(hidden.shape)} and weight {list(weight.shape)} do not fit; "
            "pass [N, D] and [V, D]"
        )
    if hidden.dtype != weight.dtype or hidden.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"hidden is {hidden.dtype} and weight {weight.dtype}; pass both as torch.float32 or "
            "both as torch.bfloat16"
        )
    for name, tensor, dtype in (
        ("targets", targets, torch.int64),
        ("row_weights", row_weights, torch.float32),
    ):
        if tensor.dtype != dtype or tensor.shape != hidden.shape[:1]:
            raise ValueError(
                f"{name} is {tensor.dtype} {list(tensor.shape)}; pass {dtype} [{len(hidden)}]"
            )
    if forbidden_id is not None and not 0 <= forbidden_id < len(weight):
        raise ValueError(f"forbidden_id={forbidden_id} is outside [0, {len(weight)})")
    devices = {t.device for t in (hidden, weight, targets, row_weights)}
    if len(devices) > 1:
        raise ValueError(f"tensors are on {sorted(map(str, devices))}; move them to one device")
