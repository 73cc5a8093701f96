"""Losses: the masked-diffusion term of Eq. 6 over blocks, and next-token prediction.

    L_mask(theta) = - E_{q_mask, t} [ gamma'_t / gamma_t  sum_i 1[x_t[i] = m] log p(x_0[i] | x_t) ]

Place in the flow: `train.py` hands over a `Batch`; the model is run once; a scalar comes back.

The model never predicts the mask token (its logit is minus infinity, section 3.1 of the paper),
and visible tokens are not copied to the output (no carry-over unmasking, Remark 3.1): each
position gets a fresh distribution, of which this term reads the masked ones.

Choice: training shows the model exactly what the cached block sampler will show it. The sequence
is [prompt | clean answer | noisy answer] under the block mask of BD3-LM: a noisy block sees the
prompt, the clean blocks before it and itself, so that all blocks learn in one forward. The block
size is drawn per batch; a block as long as the answer is the paper's own full-sequence training.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_reference_model.corruption import (
    compute_elbo_weight,
    compute_gamma,
    mask_tokens,
    sample_times,
)
from sdb_reference_model.model import Transformer


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
    """int64 [B, C]; C is a multiple of the block size for the diffusion loss."""
    answer_lengths: Tensor
    """int64 [B]; real tokens of each answer, its first end token included."""


def build_block_mask(
    prompt_lengths: Tensor, prompt_width: int, answer_width: int, block_size: int
) -> Tensor:
    """Who may attend to whom in [prompt | clean answer but its last block | noisy answer].

    The prompt is block 0. A clean block sees blocks up to its own; a noisy block sees the clean
    blocks before its own, and itself. Nobody looks at the last clean block, so it is left out.

    Returns:
        bool [B, 1, L, L] with L = P + 2C - block_size, True where the query (dim 2) may attend
        to the key (dim 3).
    """
    prompt_block = torch.zeros(prompt_width, dtype=torch.long)
    answer_block = torch.arange(answer_width) // block_size + 1
    block = torch.cat((prompt_block, answer_block[:-block_size], answer_block))  # [L]
    is_noisy = torch.arange(len(block)) >= len(block) - answer_width
    query, key = block[:, None], block[None, :]
    sees_clean = ~is_noisy[None, :] & torch.where(is_noisy[:, None], key < query, key <= query)
    sees_noisy = is_noisy[None, :] & is_noisy[:, None] & (key == query)
    column = torch.arange(len(block))
    is_padding = column[None] < prompt_width - prompt_lengths[:, None]  # [B, L]
    sees = (sees_clean | sees_noisy)[None] & ~is_padding[:, None, :]
    # A padding query would attend to nothing, and softmax over nothing is NaN.
    sees |= torch.eye(len(block), dtype=torch.bool)[None]
    return sees[:, None]


def compute_positions(prompt_lengths: Tensor, prompt_width: int, answer_width: int) -> Tensor:
    """Rotary positions int64 [B, P + C]: 0 at the first real prompt token, answers follow on."""
    columns = torch.arange(prompt_width + answer_width)[None]
    return (columns - (prompt_width - prompt_lengths)[:, None]).clamp(min=0)


def compute_diffusion_loss(
    model: Transformer,
    batch: Batch,
    block_size: int,
    mask_id: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Second term of Eq. 6, per answer token: an upper bound on nats per token.

    Forcing one mask into a block that drew none makes the bound looser by a factor of at most
    1.15 (blocks of 4 or more); its minimiser is the same.

    Choice: end tokens that fill the last block of an answer count as data, because the sampler
    denoises that block whole; blocks wholly behind the end are left out.
    """
    num_rows, answer_width = batch.answer.shape
    prompt_width = batch.prompt.shape[1]
    blocks = batch.answer.view(-1, block_size)  # [N, b], N = B * C / b
    t = sample_times(len(blocks), block_size, generator)
    noisy, is_masked = mask_tokens(blocks, compute_gamma(t), mask_id, generator)
    starts = torch.arange(0, answer_width, block_size)[None]
    is_live = (starts < batch.answer_lengths[:, None]).view(-1, 1)  # [N, 1]

    clean = torch.cat((batch.prompt, batch.answer), dim=1)[:, :-block_size]
    tokens = torch.cat((clean, noisy.view(num_rows, answer_width)), dim=1)  # [B, L]
    positions = compute_positions(batch.prompt_lengths, prompt_width, answer_width)
    positions = torch.cat((positions[:, :-block_size], positions[:, prompt_width:]), dim=1)
    mask = build_block_mask(batch.prompt_lengths, prompt_width, answer_width, block_size)
    hidden = model(tokens, positions=positions, mask=mask)[:, -answer_width:]

    is_asked = (is_masked & is_live).view(num_rows, answer_width)
    log_p = compute_log_probabilities(
        hidden[is_asked], model.head_weight, batch.answer[is_asked], forbidden_id=mask_id
    )
    weight = compute_elbo_weight(t)[:, None].expand(-1, block_size)[is_masked & is_live]
    return -(weight * log_p).sum() / (is_live.sum() * block_size)


def compute_autoregressive_loss(model: Transformer, batch: Batch, mask_id: int) -> Tensor:
    """Mean negative log-likelihood of the answer tokens, the end token included, in nats."""
    prompt_width, answer_width = batch.prompt.shape[1], batch.answer.shape[1]
    tokens = torch.cat((batch.prompt, batch.answer), dim=1)[:, :-1]
    positions = compute_positions(batch.prompt_lengths, prompt_width, answer_width)[:, :-1]
    length = tokens.shape[1]
    is_padding = torch.arange(length)[None] < prompt_width - batch.prompt_lengths[:, None]
    sees = torch.ones(length, length, dtype=torch.bool).tril()[None] & ~is_padding[:, None, :]
    sees |= torch.eye(length, dtype=torch.bool)[None]
    hidden = model(tokens, positions=positions, mask=sees[:, None])[:, prompt_width - 1 :]
    is_asked = torch.arange(answer_width)[None] < batch.answer_lengths[:, None]
    log_p = compute_log_probabilities(
        hidden[is_asked], model.head_weight, batch.answer[is_asked], forbidden_id=mask_id
    )
    return -log_p.mean()


def compute_log_probabilities(
    hidden: Tensor, head_weight: Tensor, targets: Tensor, forbidden_id: int
) -> Tensor:
    """Compute log p(target) float32 [N] from hidden [N, D], `forbidden_id` left out."""
    logits = F.linear(hidden, head_weight).float()  # [N, V]
    logits[:, forbidden_id] = -torch.inf
    return -F.cross_entropy(logits, targets, reduction="none")
