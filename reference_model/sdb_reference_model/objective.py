"""Losses: the two terms of Eq. 6, and next-token prediction for the twin.

    L(theta) = - E_{q_edit, t} [ log p(x_0 | x_t) ]
               - E_{q_mask, t} [ gamma'_t / gamma_t  sum_i 1[x_t[i] = m] log p(x_0[i] | x_t) ]

Place in the flow: `train.py` hands over a `Batch`; the model is run once; sums come back.

The model never predicts the mask token (its logit is minus infinity, section 3.1 of the paper),
and visible tokens are not copied to the output (no carry-over unmasking, Remark 3.1): each
position gets a fresh distribution. The mask term reads the masked ones, the edit term all.

Choice: training shows the model what the cached sampler will show it. [prompt | clean answer |
noisy blocks] is read under the mask of BD3-LM: a noisy block sees the prompt, the clean blocks
before it and itself. `attention="full"` is the paper's training, which knows no blocks.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sdb_reference_model.corruption import MaskProcess, mask_blocks
from sdb_reference_model.edits import EditProcess, draw_drafts, edit_blocks
from sdb_reference_model.model import Transformer
from sdb_reference_model.states import (
    Batch,
    compute_log_probabilities,
    read_answers,
    read_answers_and_slabs,
    read_causally,
    split,
)

Attention = Literal["block_causal", "causal_past", "full"]
EditPlace = Literal["separate", "visible"]


@dataclass(frozen=True, slots=True)
class EditTerm:
    """The first term of Eq. 6."""

    process: EditProcess
    place: EditPlace = "separate"
    """`separate`: a second corruption of the same x_0, as Eq. 6 is written. `visible`: edits on
    what masking left visible, which is what a sampler that edits will meet."""


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Sums over a batch, in nats, 0 for what is left out; over `num_tokens` they are per token."""

    mask: Tensor
    edit: Tensor
    past: Tensor
    """Of next-token prediction on the clean answers."""
    num_tokens: int

    def stack(self) -> Tensor:
        """float32 [3]: the three sums."""
        return torch.stack((self.mask, self.edit, self.past))


def compute_diffusion_loss(
    model: Transformer,
    batch: Batch,
    block_size: int,
    mask_id: int,
    generator: torch.Generator | None = None,
    *,
    process: MaskProcess = MaskProcess(),  # noqa: B008
    edit: EditTerm | None = None,
    attention: Attention = "block_causal",
    reads_answer: bool = False,
) -> LossTerms:
    """Both terms of Eq. 6; the mask term alone bounds the nats per token from above.

    Forcing one mask into a block that drew none makes the bound looser by a factor of at most
    1.15 (blocks of 4 or more); its minimiser is the same.

    Choice: end tokens that fill the last block of an answer count as data, because the sampler
    denoises that block whole; blocks wholly behind the end are left out.

    Args:
        model: the model.
        batch: the width of its answers is a multiple of the block size.
        block_size: tokens that share a noise level; ignored under full attention, where an answer
            is one block.
        mask_id: id of the mask token.
        generator: source of randomness.
        process: of the masks.
        edit: the first term; None leaves it out.
        attention: what a noisy token sees.
        reads_answer: add next-token prediction on clean answers, which needs a causal past.
    """
    block_size = batch.answer.shape[1] if attention == "full" else block_size
    answers = split(batch.answer, block_size)  # [B, M, b]
    num_blocks = answers.shape[1]
    noisy, is_masked, weight = mask_blocks(answers.flatten(0, 1), process, mask_id, generator)
    noisy, is_masked = noisy.view_as(answers), is_masked.view_as(answers)
    is_live = (torch.arange(num_blocks) * block_size < batch.answer_lengths[:, None])[..., None]

    def read(*states: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        if attention == "full":
            return None, [read_answers(model, batch, state[:, 0])[:, None] for state in states]
        block_of = [*range(num_blocks)] * len(states)
        of_answer, hidden = read_answers_and_slabs(
            model, batch, torch.cat(states, dim=1), block_of, reads_answer=reads_answer
        )
        return of_answer if reads_answer else None, list(hidden.chunk(len(states), dim=1))

    def compute_log_p(hidden: Tensor, is_asked: Tensor, y: Tensor, forbidden: list[int]) -> Tensor:
        asked = hidden[is_asked.to(hidden.device)]
        return compute_log_probabilities(asked, model.head_weight, y[is_asked], forbidden)

    is_asked = is_masked & is_live
    states, is_judged, targets = [noisy], is_live.expand_as(is_masked), answers
    non_text = [mask_id, *(edit.process.control or ())] if edit else [mask_id]
    if edit is not None:
        drafts = None
        if edit.process.source == "draft":
            with torch.no_grad():
                blank = read(torch.full_like(answers, mask_id))[1][0].flatten(1, 2)
                drafts = draw_drafts(
                    blank, model, batch.answer, edit.process.token_weights, generator
                )
        edited, targets = edit_blocks(batch, edit.process, block_size, mask_id, generator, drafts)
        if edit.place == "separate":
            states = [noisy, edited]
        else:
            states, is_judged = [edited.masked_fill(is_masked, mask_id)], is_live & ~is_masked
    of_answer, hidden = read(*states)
    weight = weight.view(-1, num_blocks, 1).expand_as(is_asked)[is_asked].to(hidden[0].device)
    mask_sum = -(weight * compute_log_p(hidden[0], is_asked, answers, non_text)).sum()
    edit_sum = past_sum = mask_sum.new_zeros(())
    if edit is not None:
        edit_sum = -compute_log_p(hidden[-1], is_judged, targets, [mask_id]).sum()
    if of_answer is not None:
        is_text = torch.arange(batch.answer.shape[1])[None] < batch.answer_lengths[:, None]
        past_sum = -compute_log_p(of_answer, is_text, batch.answer, [mask_id]).sum()
    return LossTerms(mask_sum, edit_sum, past_sum, int(is_live.sum()) * block_size)


def compute_autoregressive_loss(model: Transformer, batch: Batch, mask_id: int) -> LossTerms:
    """Negative log-likelihood of the answer tokens, the end token included, in nats."""
    hidden = read_causally(model, batch)
    is_asked = torch.arange(hidden.shape[1])[None] < batch.answer_lengths[:, None]
    asked = hidden[is_asked.to(hidden.device)]
    log_p = compute_log_probabilities(asked, model.head_weight, batch.answer[is_asked], mask_id)
    return LossTerms(-log_p.sum(), log_p.new_zeros(()), log_p.new_zeros(()), len(log_p))
