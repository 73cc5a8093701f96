"""Levenshtein editing as in LLaDA2.2: one label per token of a block says how it becomes another.

    KEEP         the token itself
    SUBSTITUTE   another token, to be written in its place
    DELETE       a control token: what stands behind moves to the left, a mask fills the end
    INSERT       a control token: x_i becomes [MASK] x_i, what falls off the block is dropped

Place in the flow: `edits.py` shifts blocks with `shift_blocks` and takes `label_blocks` as targets;
`sampler.py` hands what the model says about visible tokens to `apply_labels`. The block keeps its
length, so nothing moves outside of it.

Labels come from a longest common subsequence of draft and target. Its pairs are anchors, which are
kept. Between two of them the tokens of the draft are substituted one by one; those left over are
deleted; where the target has more, the anchor behind is INSERT, one per gap and round. Tokens
behind the last anchor, or all if there is none, are deleted: what belongs there is written anew.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sdb_reference_model.tokenizer import ControlIds


def find_labels(
    draft: Sequence[int], target: Sequence[int], control: ControlIds, mask_id: int
) -> list[int]:
    """Label every token of the draft; a mask may stand for any token of the target.

    Of several longest common subsequences the one that matches earliest is taken. Time and memory
    grow with the product of the lengths.

    Returns:
        As many ids as the draft has: text, `delete_id` or `insert_id`.
    """
    num_draft, num_target = len(draft), len(target)
    longest = [[0] * (num_target + 1) for _ in range(num_draft + 1)]  # of draft[i:], target[j:]
    for i in range(num_draft - 1, -1, -1):
        for j in range(num_target - 1, -1, -1):
            if draft[i] == target[j] or draft[i] == mask_id:
                longest[i][j] = 1 + longest[i + 1][j + 1]
            else:
                longest[i][j] = max(longest[i + 1][j], longest[i][j + 1])
    labels: list[int] = []
    i = j = first = 0  # the present gap is target[first:j] and what of the draft has no label yet
    while i < num_draft and j < num_target:
        if draft[i] == target[j] or draft[i] == mask_id:
            missing, surplus = target[first:j], i - len(labels)
            labels += [*missing[:surplus], *[control.delete_id] * (surplus - len(missing))]
            labels.append(control.insert_id if len(missing) > surplus else target[j])
            i, j = i + 1, j + 1
            first = j
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return labels + [control.delete_id] * (num_draft - len(labels))


def label_blocks(drafts: Tensor, targets: Tensor, control: ControlIds, mask_id: int) -> Tensor:
    """`find_labels` row by row, int64 [N, b]; rows that are right already cost nothing."""
    rows = zip(drafts.tolist(), targets.tolist(), strict=True)
    labels = [
        draft if draft == target else find_labels(draft, target, control, mask_id)
        for draft, target in rows
    ]
    return torch.tensor(labels).view_as(drafts)


def apply_labels(block: Tensor, labels: Tensor, control: ControlIds, mask_id: int) -> Tensor:
    """Do to `block` int64 [N, b] what `labels` int64 [N, b] say, and keep its length."""
    is_delete, is_insert = labels == control.delete_id, labels == control.insert_id
    tokens = torch.where(is_delete | is_insert, block, labels)
    length = block.shape[1]
    place = (1 + is_insert.long() - is_delete.long()).cumsum(dim=1) - 1  # where a token goes
    place = place.masked_fill(is_delete, length).clamp(max=length)  # the last column is dropped
    after = torch.full((len(block), length + 1), mask_id, device=block.device)
    return after.scatter_(1, place, tokens)[:, :length]


def shift_blocks(
    blocks: Tensor,
    labels: Tensor,
    replacements: Tensor,
    control: ControlIds,
    mask_id: int,
    end_id: int,
) -> Tensor:
    """Corrupt the blocks of answers by labels; text of the next block moves up where tokens go.

    A block that lacks a token is what a model writes that has forgotten one: it goes on with the
    text behind, and has an answer's last block end earlier.

    Args:
        blocks: int64 [B, M, b], clean answers.
        labels: int64 [B, M, b]; INSERT puts a new token in front.
        replacements: int64 [B, M, b], the token that an insertion puts at a position.
        control: ids of DELETE and INSERT.
        mask_id: id of the mask, which no answer has.
        end_id: what follows the last block.

    Returns:
        int64 [B, M, b].
    """
    behind = torch.cat((blocks[:, 1:], torch.full_like(blocks[:, :1], end_id)), dim=1)
    wide = torch.cat((blocks, behind), dim=2).flatten(0, 1)  # [B * M, 2b]
    wide_labels = torch.cat((labels, behind), dim=2).flatten(0, 1)
    after = apply_labels(wide, wide_labels, control, mask_id)[:, : blocks.shape[2]]
    return torch.where(after == mask_id, replacements.flatten(0, 1), after).view_as(blocks)
