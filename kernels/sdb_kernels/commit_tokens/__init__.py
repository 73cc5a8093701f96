"""`commit_tokens`: decide on the device which proposals of a block become tokens, and write them.

Between two forwards of a block sampler stands this decision: threshold or quota, ties, the rule
for end tokens, progress, and whether a row is done. As PyTorch calls it is about twenty launches
and, in most engines, a question to the host per step; here it is one launch, and the answer stays
on the device. `reference.py` is the definition, `kernel.py` the Triton twin, `README.md` the rule.

It does not propose (`head_select` does), edit visible tokens, or look at text.
"""

import torch
from torch import Tensor

from sdb_kernels import backend as kernel_backend
from sdb_kernels.commit_tokens import reference

MAX_BLOCK_SIZE = 256
"""The kernel ranks a block by comparing all pairs of its positions."""


@torch.no_grad()
def commit_tokens(
    block: Tensor,
    proposals: Tensor,
    confidence: Tensor,
    *,
    mask_id: int,
    threshold: float,
    is_prefix: bool = False,
    end_id: int | None = None,
    is_infill: Tensor | None = None,
    steps_left: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Replace masks of `block` by proposals, in place, at least one in every row that has any.

    A mask is committed if its confidence is above the threshold, or if it is among the row's
    ceil(masks / steps left) most confident ones; of equals, the one further left. NaN counts as 0.
    With `is_prefix` text grows from the left: the first ceil(masks / steps left) are committed, and
    those behind them up to the first that is not above the threshold.

    With `end_id`, the tail of a block is one decision: behind the first position from which there
    is nothing but end tokens, committed or proposed, nothing is committed; and everything behind a
    committed end token becomes one. In an infill row there is no tail: an end token has
    confidence 0 and closes nothing.

    Args:
        block: [B, b] int64, masks where tokens are wanted; b at most 256. Written.
        proposals: [B, b] int64; read where `block` is masked.
        confidence: [B, b] float32, at least 0; read where `block` is masked.
        mask_id: The id of a mask.
        threshold: Commit strictly above this; infinity leaves the choice to the quota.
        is_prefix: Leave no mask in front of a token that is committed.
        end_id: The id that ends a text, or None if the model has none.
        is_infill: [B] bool, rows with text given behind a mask; None for no row.
        steps_left: [B] int32, steps in which the row has to be done, this one included; counted
            down in place, not below 1. None asks for one token per row and step.
        backend: `"reference"`, `"triton"` or None; see `sdb_kernels.backend.choose`.

    Returns:
        Tokens committed [B] int32, closed tail not counted, and bool [B]: no mask is left.

    Raises:
        ValueError: An argument does not fit the description above.
        RuntimeError: The requested backend cannot run here.
    """
    _check(block, proposals, confidence, mask_id, threshold, end_id, is_infill, steps_left)
    name = kernel_backend.choose("commit_tokens", backend, block.device)
    if name == "reference":
        run = reference.commit_tokens
    else:
        # Imported here: Triton is optional, and reads TRITON_INTERPRET on import of the module.
        from sdb_kernels.commit_tokens.kernel import commit_tokens as run
    return run(
        block,
        proposals,
        confidence,
        mask_id=mask_id,
        threshold=threshold,
        is_prefix=is_prefix,
        end_id=end_id,
        is_infill=is_infill,
        steps_left=steps_left,
    )


def _check(
    block: Tensor,
    proposals: Tensor,
    confidence: Tensor,
    mask_id: int,
    threshold: float,
    end_id: int | None,
    is_infill: Tensor | None,
    steps_left: Tensor | None,
) -> None:
    if block.dim() != 2 or not 1 <= block.shape[1] <= MAX_BLOCK_SIZE:
        raise ValueError(
            f"block is {list(block.shape)}; pass [B, b] with b from 1 to {MAX_BLOCK_SIZE}"
        )
    num_rows = block.shape[:1]
    for label, tensor, dtype, shape in (
        ("block", block, torch.int64, block.shape),
        ("proposals", proposals, torch.int64, block.shape),
        ("confidence", confidence, torch.float32, block.shape),
        ("is_infill", is_infill, torch.bool, num_rows),
        ("steps_left", steps_left, torch.int32, num_rows),
    ):
        if tensor is None:
            continue
        if tensor.dtype != dtype or tensor.shape != shape:
            raise ValueError(
                f"{label} is {tensor.dtype} {list(tensor.shape)}; pass {dtype} {list(shape)}"
            )
        if tensor.device != block.device:
            raise ValueError(
                f"{label} is on {tensor.device} and block on {block.device}; "
                "move them to one device"
            )
    if end_id == mask_id:
        raise ValueError(f"end_id and mask_id are both {mask_id}; they are different tokens")
    if not threshold >= 0.0:
        raise ValueError(f"threshold={threshold} must be at least 0; infinity uses the quota alone")
