"""Many states of a block-sampling run, read in one forward.

A state of a run is: prompt, finished blocks, one block in the making. All states of a run share
their past, so one sequence holds them all:

    [prompt | clean answer but its last block | slab | slab | ...]

A slab is one block in one state. It sees the prompt, the clean blocks before its own, and itself:
exactly what `sampler.Cached` showed the model at that step.

Place in the flow: the ELBO of a trajectory, Eq. 9 and Eq. 10 all ask the model about states of
runs; `trajectories.py`, `constrained.py` and `onpolicy.py` ask through `read_slabs`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_reference_model.model import Transformer
from sdb_reference_model.objective import Batch, compute_positions


def read_slabs(model: Transformer, batch: Batch, slabs: Tensor, block_of: Sequence[int]) -> Tensor:
    """Compute the hidden states of every slab.

    Args:
        model: read with gradients, unless the caller turns them off.
        batch: prompts and clean answers; the width of the answers is a multiple of b.
        slabs: int64 [B, M, b], M states of blocks.
        block_of: for each of the M slabs the block that it is a state of, from 0.

    Returns:
        [B, M, b, D].
    """
    num_rows, num_slabs, block_size = slabs.shape
    prompt_width, answer_width = batch.prompt.shape[1], batch.answer.shape[1]
    past = torch.cat((batch.prompt, batch.answer[:, :-block_size]), dim=1)
    tokens = torch.cat((past, slabs.reshape(num_rows, -1)), dim=1)  # [B, L]
    starts = torch.tensor(block_of)[:, None] * block_size + prompt_width
    columns = (starts + torch.arange(block_size)).flatten()  # [M * b]
    columns = torch.cat((torch.arange(past.shape[1]), columns))
    positions = compute_positions(batch.prompt_lengths, prompt_width, answer_width)[:, columns]
    mask = build_slab_mask(batch.prompt_lengths, prompt_width, answer_width, block_size, block_of)
    hidden = model(tokens, positions=positions, mask=mask)[:, past.shape[1] :]
    return hidden.view(num_rows, num_slabs, block_size, -1)  # type: ignore[no-any-return]


def build_slab_mask(
    prompt_lengths: Tensor,
    prompt_width: int,
    answer_width: int,
    block_size: int,
    block_of: Sequence[int],
) -> Tensor:
    """Who may attend to whom in [prompt | clean answer but its last block | slabs].

    The prompt is block 0, as in `objective.build_block_mask`, of which this is the form with any
    number of noisy copies per block.

    Returns:
        bool [B, 1, L, L], True where the query (dim 2) may attend to the key (dim 3).
    """
    past = torch.arange(prompt_width + answer_width - block_size)
    past_block = torch.where(past < prompt_width, 0, (past - prompt_width) // block_size + 1)
    slab_block = torch.tensor(block_of).repeat_interleave(block_size) + 1
    block = torch.cat((past_block, slab_block))  # [L]
    slab = torch.arange(len(block_of)).repeat_interleave(block_size)
    slab = torch.cat((torch.full_like(past, -1), slab))  # [L], -1 in the past
    query, key = block[:, None], block[None, :]
    is_past = (slab == -1)[None, :]
    sees_past = is_past & torch.where(is_past.T, key <= query, key < query)
    sees = sees_past | (~is_past & (slab[:, None] == slab[None, :]))
    is_padding = torch.arange(len(block))[None] < prompt_width - prompt_lengths[:, None]  # [B, L]
    visible = sees[None] & ~is_padding[:, None, :]
    # A padding query would attend to nothing, and softmax over nothing is NaN.
    visible |= torch.eye(len(block), dtype=torch.bool)[None]
    return visible[:, None]


def compute_logits(hidden: Tensor, head_weight: Tensor, mask_id: int) -> Tensor:
    """Logits float32 [N, V] from hidden [N, D]; the mask token is impossible (section 3.1)."""
    logits = F.linear(hidden, head_weight).float()
    logits[:, mask_id] = -torch.inf
    return logits
