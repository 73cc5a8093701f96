"""How answers are edited in training: process B with a source of new tokens, at two lengths.

Place in the flow: the first term of Eq. 6 (`objective.py`) and f of Eq. 9 (`constrained.py`) hand
over a batch; an edited copy of its answers comes back. The process itself is
`corruption.edit_tokens`.

Choice: the paper does not say where inserted and substituted tokens come from. `uniform` draws any
ordinary token, `unigram` one of those that the answers beside it are made of, as often as they
have it. `draft` draws from what the model itself would have put there, with the true token left
out, so that training errors look like sampling errors; it costs one more forward.

Choice: nor does it say what happens to the length. `balanced` keeps it (`corruption.edit_tokens`),
and the targets are the clean tokens. `labels` really shifts within a block, and the targets are
those of `levenshtein.py`: keep, write this token, delete, insert.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_reference_model.corruption import (
    EDIT_WINDOW,
    MAX_EDIT_RATIO,
    count_edits,
    draw_replacements,
    edit_tokens,
)
from sdb_reference_model.levenshtein import label_blocks, shift_blocks
from sdb_reference_model.model import Transformer
from sdb_reference_model.states import Batch, split
from sdb_reference_model.tokenizer import CodeTokenizer, ControlIds, find_non_text_ids

EditSource = Literal["uniform", "unigram", "draft"]
EditLengths = Literal["balanced", "labels"]


@dataclass(frozen=True, slots=True)
class EditProcess:
    """Process B with everything but the batch."""

    token_weights: Tensor
    """[V], how likely a token is put in; 0 for special tokens."""
    max_ratio: float = MAX_EDIT_RATIO
    """Largest alpha; an answer's own is uniform below it (alpha_t = max_ratio t)."""
    probability: float = 1.0
    """Of an answer to be edited at all."""
    substitution_share: float = 0.5
    insertion_share: float = 0.5
    """Of the edits that are no substitutions; the others are deletions. `balanced` has half."""
    window: int = EDIT_WINDOW
    """Of `balanced`: largest distance between a deletion and its insertion."""
    source: EditSource = "uniform"
    control: ControlIds | None = None
    """With these, lengths are those of `labels`."""


def weigh_tokens(tokenizer: CodeTokenizer, vocab_size: int) -> Tensor:
    """Equal weights float32 [V] for ordinary tokens, 0 for special ones and unused ids."""
    weights = torch.ones(vocab_size)
    weights[tokenizer.vocab_size :] = 0
    weights[[tokenizer.pad_id, tokenizer.end_id, *find_non_text_ids(tokenizer)]] = 0
    return weights


def add_labels(tokenizer: CodeTokenizer, model: Transformer) -> CodeTokenizer:
    """The tokenizer with DELETE and INSERT, and a model that may learn to say them.

    Choice: their head rows are turned round. As bytes that no text has they were taught to be
    unlikely, everywhere alike, and unlearning that would come before all else.

    Raises:
        ValueError: if the vocabulary is not made of bytes.
    """
    if tokenizer.control_ids is not None:
        return tokenizer
    tokenizer = tokenizer.with_controls()
    with torch.no_grad():
        model.head_weight[list(tokenizer.control_ids or ())] *= -1.0
    return tokenizer


def edit_answers(
    batch: Batch,
    process: EditProcess,
    generator: torch.Generator | None = None,
    replacements: Tensor | None = None,
) -> Tensor:
    """Corrupt answers by process B, their end tokens left alone.

    Args:
        batch: prompts and answers.
        process: how.
        generator: source of randomness.
        replacements: int64 [B, C], the tokens to put in; default: `draw_new_tokens`.

    Returns:
        int64 [B, C].
    """
    lengths = batch.answer_lengths - 1
    num_edits = draw_num_edits(lengths, process, generator)
    if replacements is None:
        replacements = draw_new_tokens(batch.answer, process, generator)
    return edit_tokens(
        batch.answer,
        lengths,
        num_edits,
        replacements,
        substitution_share=process.substitution_share,
        window=process.window,
        generator=generator,
    )


def draw_new_tokens(
    answer: Tensor, process: EditProcess, generator: torch.Generator | None
) -> Tensor:
    """Draw a token to put in at every position of `answer` [B, C], drafts excepted."""
    weights = process.token_weights
    if process.source == "unigram":
        counts = weights * torch.bincount(answer.flatten(), minlength=len(weights))
        if int((counts > 0).sum()) > 1:  # else there is nothing to put in but the truth
            weights = counts
    return draw_replacements(answer, weights, generator)


def draw_num_edits(
    lengths: Tensor, process: EditProcess, generator: torch.Generator | None
) -> Tensor:
    """Draw k of each answer, int64 [B], from its length [B]."""
    is_edited = torch.rand(len(lengths), generator=generator) < process.probability
    alpha = torch.rand(len(lengths), generator=generator) * process.max_ratio * is_edited
    return count_edits(lengths, alpha)


def edit_blocks(
    batch: Batch,
    process: EditProcess,
    block_size: int,
    mask_id: int,
    generator: torch.Generator | None = None,
    replacements: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Corrupt answers by process B, at either of the lengths.

    With `labels`, k positions of an answer get an edit each: substitutions by their share, the
    others insertions and deletions in equal parts. What follows moves within the block.

    Args:
        batch: prompts and answers; the width of the answers is a multiple of the block size.
        process: how.
        block_size: tokens b of a block.
        mask_id: id of the mask.
        generator: source of randomness.
        replacements: as for `edit_answers`.

    Returns:
        Blocks int64 [B, M, b], and their targets: clean tokens, or labels.
    """
    answers, control = split(batch.answer, block_size), process.control
    if control is None:
        edited = edit_answers(batch, process, generator, replacements)
        return split(edited, block_size), answers
    lengths = batch.answer_lengths - 1
    num_edits = draw_num_edits(lengths, process, generator)
    if replacements is None:
        replacements = draw_new_tokens(batch.answer, process, generator)
    is_text = torch.arange(batch.answer.shape[1])[None] < lengths[:, None]  # [B, C]
    order = torch.rand(batch.answer.shape, generator=generator).masked_fill(~is_text, 2.0)
    is_edited = order.argsort(dim=1).argsort(dim=1) < num_edits[:, None]
    kind, share = torch.rand(batch.answer.shape, generator=generator), process.substitution_share
    is_insert = kind >= 1 - (1 - share) * process.insertion_share
    edits = torch.where(is_insert, control.insert_id, control.delete_id)
    edits = torch.where(kind < share, replacements, edits)
    edits = torch.where(is_edited, edits, batch.answer)
    shifted = shift_blocks(
        answers,
        split(edits, block_size),
        split(replacements, block_size),
        control,
        mask_id,
        int(batch.answer[0, -1]),  # every answer is filled with end tokens
    )
    labels = label_blocks(shifted.flatten(0, 1), answers.flatten(0, 1), control, mask_id)
    return shifted, labels.view_as(shifted)


def draw_drafts(
    hidden: Tensor,
    model: Transformer,
    answer: Tensor,
    token_weights: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw at every position a wrong token from the model's own distribution.

    Args:
        hidden: [B, C, D], the model's states of masked answers, without gradient.
        model: for its head.
        answer: int64 [B, C], the true tokens, which are left out.
        token_weights: [V]; tokens of weight 0 are left out too.
        generator: source of randomness.

    Returns:
        int64 [B, C].
    """
    logits = F.linear(hidden.flatten(0, 1), model.head_weight).float().cpu()  # [B * C, V]
    logits[:, token_weights <= 0] = -torch.inf
    logits.scatter_(1, answer.reshape(-1, 1), -torch.inf)
    drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
    return drawn.view_as(answer)
