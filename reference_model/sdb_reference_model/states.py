"""A batch of examples, and many states of a block-sampling run read in one forward.

A state of a run is: prompt, finished blocks, one block in the making. All states of a run share
their past, so one sequence holds them all:

    [prompt | clean answer but its last block | slab | slab | ...]

A slab is one block in one state. It sees the prompt, the clean blocks before its own, and itself:
exactly what `sampler.Cached` showed the model at that step.

Place in the flow: every training phase asks the model about such states, always through
`read_slabs`: Eq. 6 about corrupted blocks, Eqs. 9 and 10 and the ELBO of a trajectory about those
that a sampler met.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_reference_model.attention import Layout
from sdb_reference_model.model import Transformer
from sdb_reference_model.packing import plan_packing


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples of similar length: prompts padded on the left, answers filled on the right.

    `answer` ends with one end token and is filled with end tokens to a common length.
    """

    prompt: Tensor
    """int64 [B, P]."""
    prompt_lengths: Tensor
    """int64 [B]; the last `prompt_lengths[b]` ids of row b are real."""
    answer: Tensor
    """int64 [B, C]; C is a multiple of the block size wherever blocks are read."""
    answer_lengths: Tensor
    """int64 [B]; real tokens of each answer, its first end token included."""


def split(x: Tensor, block_size: int) -> Tensor:
    """View [B, C] as blocks [B, C/b, b]."""
    return x.reshape(len(x), -1, block_size)


def compute_positions(prompt_lengths: Tensor, prompt_width: int, answer_width: int) -> Tensor:
    """Rotary positions int64 [B, P + C]: 0 at the first real prompt token, answers follow on."""
    columns = torch.arange(prompt_width + answer_width)[None]
    return (columns - (prompt_width - prompt_lengths)[:, None]).clamp(min=0)


def read_answers(model: Transformer, batch: Batch, answers: Tensor) -> Tensor:
    """Compute hidden states [B, C, D] of whole answers under full attention.

    The paper's own training: no blocks, and the prompt sees the corrupted answer as well.

    Args:
        model: read with gradients, unless the caller turns them off.
        batch: for its prompts.
        answers: int64 [B, C], corrupted answers.
    """
    prompt_width, answer_width = batch.prompt.shape[1], answers.shape[1]
    tokens = torch.cat((batch.prompt, answers), dim=1)
    positions = compute_positions(batch.prompt_lengths, prompt_width, answer_width)
    is_needed = locate_text(batch.prompt_lengths, prompt_width, tokens.shape[1])
    column = torch.zeros(1, tokens.shape[1], dtype=torch.int64)
    layout = Layout(is_needed.long() - 1, column, torch.full_like(column, -1))
    return run_model(model, tokens, positions, layout, is_needed)[:, prompt_width:]


def read_causally(model: Transformer, batch: Batch) -> Tensor:
    """Compute the hidden states [B, C, D] that predict each answer token from those before it.

    Behind an answer's end they mean nothing.
    """
    prompt_width, answer_width = batch.prompt.shape[1], batch.answer.shape[1]
    tokens = torch.cat((batch.prompt, batch.answer), dim=1)[:, :-1]
    positions = compute_positions(batch.prompt_lengths, prompt_width, answer_width)[:, :-1]
    column = torch.arange(tokens.shape[1])[None]
    is_text = locate_text(batch.prompt_lengths, prompt_width, tokens.shape[1])
    # An answer's last token is predicted but not read.
    is_needed = is_text & (column < prompt_width + batch.answer_lengths[:, None] - 1)
    layout = Layout(is_text.long() - 1, column, torch.full_like(column, -1))
    return run_model(model, tokens, positions, layout, is_needed)[:, prompt_width - 1 :]


def locate_text(prompt_lengths: Tensor, prompt_width: int, width: int) -> Tensor:
    """Bool [B, L], False in the padding before the prompts."""
    return torch.arange(width)[None] >= prompt_width - prompt_lengths[:, None]


def run_model(
    model: Transformer, tokens: Tensor, positions: Tensor, layout: Layout, is_needed: Tensor
) -> Tensor:
    """Hidden states [B, L, D] on the model's device; noise and layouts are made on the processor.

    Where examples are packed, they are zero at positions that are not needed, bool [B, L].
    """
    device = model.embedding.weight.device
    packing = None
    if model.packs_examples:
        packing = plan_packing(is_needed)
        tokens, positions = packing.pack(tokens, 0), packing.pack(positions, 0)
        layout = packing.pack_layout(layout)
    mask = layout.to(device).build_mask(model.attention_kernel)
    hidden: Tensor = model(tokens.to(device), positions=positions.to(device), mask=mask)
    return hidden if packing is None else packing.unpack(hidden)


def read_slabs(model: Transformer, batch: Batch, slabs: Tensor, block_of: Sequence[int]) -> Tensor:
    """Hidden states [B, M, b, D] of every slab, see `read_answers_and_slabs`."""
    return read_answers_and_slabs(model, batch, slabs, block_of)[1]


def read_answers_and_slabs(
    model: Transformer,
    batch: Batch,
    slabs: Tensor,
    block_of: Sequence[int],
    *,
    reads_answer: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute the hidden states of every slab, and those that predict the clean answer.

    Args:
        model: read with gradients, unless the caller turns them off.
        batch: prompts and clean answers; the width of the answers is a multiple of b.
        slabs: int64 [B, M, b], M states of blocks.
        block_of: for each of the M slabs the block that it is a state of, from 0.
        reads_answer: read the answers' last blocks too, which no slab looks at; for a causal past.

    Returns:
        [B, C, D] of the answers, if they are read, and [B, M, b, D]; where examples are packed,
        zeros behind an answer's end.
    """
    num_rows, num_slabs, block_size = slabs.shape
    prompt_width, answer_width = batch.prompt.shape[1], batch.answer.shape[1]
    text = torch.cat((batch.prompt, batch.answer), dim=1)
    is_shifted = int(model.config.causal_past)
    starts = torch.tensor(block_of) * block_size + prompt_width - is_shifted  # [M]
    if is_shifted:
        slabs = torch.cat((text[:, starts, None], slabs[..., :-1]), dim=2)
    past = text[:, : text.shape[1] - (0 if reads_answer else block_size) - is_shifted]
    tokens = torch.cat((past, slabs.reshape(num_rows, -1)), dim=1)  # [B, L]
    columns = (starts[:, None] + torch.arange(block_size)).flatten()  # [M * b]
    columns = torch.cat((torch.arange(past.shape[1]), columns))
    positions = compute_positions(batch.prompt_lengths, prompt_width, answer_width)[:, columns]
    layout, is_needed = lay_out_slabs(
        batch, block_size, block_of, is_causal=bool(is_shifted), reads_answer=reads_answer
    )
    hidden = run_model(model, tokens, positions, layout, is_needed)
    of_slabs = hidden[:, past.shape[1] :].reshape(num_rows, num_slabs, block_size, -1)
    return hidden[:, prompt_width - 1 : past.shape[1]], of_slabs


def lay_out_slabs(
    batch: Batch,
    block_size: int,
    block_of: Sequence[int],
    *,
    is_causal: bool = False,
    reads_answer: bool = False,
) -> tuple[Layout, Tensor]:
    """Lay out [prompt | clean answer but its last block | slabs].

    The prompt is block 0 and sees all of itself. A clean block sees blocks up to its own; a slab
    sees the clean blocks before its own, and itself. Nobody looks at the last clean block, so it
    is left out, but where predictions of the answer are wanted (`reads_answer`). With one slab per
    block this is the mask of BD3-LM. With `is_causal` the past is causal, and both it and the
    slabs end one position earlier.

    Returns:
        The layout, and what of it is needed, bool [B, L]: no block behind an answer's end, and no
        clean copy of its last one.
    """
    prompt_width = batch.prompt.shape[1] - is_causal
    width = prompt_width + batch.answer.shape[1]
    past = torch.arange(width if reads_answer else width - block_size)
    past_block = torch.where(past < prompt_width, 0, (past - prompt_width) // block_size + 1)
    slab_block = torch.tensor(block_of).repeat_interleave(block_size) + 1
    slab = torch.arange(len(block_of)).repeat_interleave(block_size)
    num_blocks = (batch.answer_lengths[:, None] + block_size - 1) // block_size  # [B, 1]
    is_needed = torch.cat((past_block < num_blocks + reads_answer, slab_block <= num_blocks), dim=1)
    if is_causal:  # every column of the past is a block
        past_block, slab_block = past, (slab_block - 1) * block_size + prompt_width
    is_text = locate_text(batch.prompt_lengths, batch.prompt.shape[1], is_needed.shape[1])
    layout = Layout(
        is_text.long() - 1,
        torch.cat((past_block, slab_block))[None],
        torch.cat((torch.full_like(past, -1), slab))[None],
    )
    return layout, is_text & is_needed


def compute_logits(hidden: Tensor, head_weight: Tensor, forbidden: int | list[int]) -> Tensor:
    """Logits float32 [N, V] from hidden [N, D]; forbidden ids, as the mask's, are impossible."""
    logits = F.linear(hidden, head_weight).float()
    logits[:, forbidden] = -torch.inf
    return logits


def compute_log_probabilities(
    hidden: Tensor, head_weight: Tensor, targets: Tensor, forbidden: int | list[int]
) -> Tensor:
    """Compute log p(target) float32 [N] from hidden [N, D], without what is forbidden."""
    logits = compute_logits(hidden, head_weight, forbidden)
    return -F.cross_entropy(logits, targets.to(logits.device), reduction="none")
