"""The losses against slow, literal definitions."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from sdb_reference_model.corruption import mask_tokens, sample_times
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.objective import (
    Batch,
    build_block_mask,
    compute_autoregressive_loss,
    compute_diffusion_loss,
)

PAD, END, MASK = 0, 1, 2


@pytest.fixture(autouse=True)
def _no_gradient_by_default() -> Iterator[None]:
    with torch.no_grad():
        yield


def make_model() -> Transformer:
    model = Transformer(SIZES["test"])
    model.initialise(torch.Generator().manual_seed(3))
    for block in model.blocks:
        for weight in block.parameters():
            weight.data *= 3
    return model


def make_batch() -> Batch:
    return Batch(
        prompt=torch.tensor([[0, 0, 5, 6, 7], [8, 9, 10, 11, 12]]),
        prompt_lengths=torch.tensor([3, 5]),
        answer=torch.tensor(
            [
                [20, 21, 22, 23, 24, 25, 1, 1, 1, 1, 1, 1],
                [30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 1],
            ]
        ),
        answer_lengths=torch.tensor([7, 12]),
    )


@pytest.mark.parametrize("block_size", [2, 4, 12])
def test_diffusion_loss_equals_block_by_block_evaluation(block_size: int) -> None:
    """One forward over [prompt | clean | noisy] = each noisy block after its own clean prefix."""
    model, batch = make_model(), make_batch()
    loss = compute_diffusion_loss(model, batch, block_size, MASK, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    blocks = batch.answer.view(-1, block_size)
    t = sample_times(len(blocks), block_size, generator)
    noisy, is_masked = mask_tokens(blocks, t, MASK, generator)
    blocks_per_row = batch.answer.shape[1] // block_size
    total, num_tokens = 0.0, 0
    for index, block in enumerate(blocks):
        row, start = index // blocks_per_row, index % blocks_per_row * block_size
        if start >= batch.answer_lengths[row]:
            continue
        prompt = batch.prompt[row, -batch.prompt_lengths[row] :]
        tokens = torch.cat((prompt, batch.answer[row, :start], noisy[index]))[None]
        block_of = torch.cat(
            (torch.zeros(len(prompt)), torch.arange(start + block_size) // block_size + 1)
        )
        sees = block_of[None] <= block_of[:, None]
        hidden = model(tokens, mask=sees[None, None])[0, -block_size:]
        logits = hidden @ model.head_weight.T
        logits[:, MASK] = -math.inf
        log_p = logits.log_softmax(dim=-1).gather(1, block[:, None])[:, 0]
        total -= float((log_p * is_masked[index]).sum() / t[index])
        num_tokens += block_size
    assert float(loss) == pytest.approx(total / num_tokens, rel=1e-5)


@pytest.mark.parametrize(
    ("block_size", "recorded"),
    [(2, 5.3314690589904785), (4, 3.8684487342834473), (12, 3.8864240646362305)],
)
def test_mask_only_loss_is_the_one_that_trained_the_shipped_checkpoint(
    block_size: int, recorded: float
) -> None:
    """Recorded with the code of the commit that ships `demo-diffusion`."""
    generator = torch.Generator().manual_seed(11)
    loss = compute_diffusion_loss(make_model(), make_batch(), block_size, MASK, generator)
    assert float(loss) == pytest.approx(recorded, rel=1e-6)


def test_autoregressive_loss_equals_row_by_row_evaluation() -> None:
    model, batch = make_model(), make_batch()
    total, num_tokens = 0.0, 0
    for row in range(2):
        prompt = batch.prompt[row, -batch.prompt_lengths[row] :]
        answer = batch.answer[row, : batch.answer_lengths[row]]
        hidden = model(torch.cat((prompt, answer))[None, :-1], is_causal=True)[0, len(prompt) - 1 :]
        logits = hidden @ model.head_weight.T
        logits[:, MASK] = -math.inf
        total -= float(logits.log_softmax(dim=-1).gather(1, answer[:, None]).sum())
        num_tokens += len(answer)
    loss = compute_autoregressive_loss(model, batch, MASK)
    assert float(loss) == pytest.approx(total / num_tokens, rel=1e-5)


def test_block_mask_shows_no_answer_to_its_own_noisy_block() -> None:
    mask = build_block_mask(torch.tensor([2]), 2, 8, 4)[0, 0]
    # columns: prompt 0-1, clean block one 2-5, noisy block one 6-9, noisy block two 10-13
    assert mask.shape == (14, 14)
    assert not mask[6:10, 2:6].any()
    assert mask[10:14, 2:6].all()
    assert not mask[:6, 6:].any()
    assert not mask[10:14, 6:10].any()
    assert not mask[:2, 2:].any()


def test_mask_token_gets_no_logit_to_learn() -> None:
    """With a head of its own, tied weights being inputs too: its row is never touched."""
    model, batch = Transformer(replace(SIZES["test"], tie_embeddings=False)), make_batch()
    model.initialise(torch.Generator().manual_seed(3))
    with torch.enable_grad():
        loss = compute_diffusion_loss(model, batch, 4, MASK, torch.Generator().manual_seed(0))
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = model.head.weight.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert not gradient[MASK].any()
    assert gradient.any(dim=1).sum() == SIZES["test"].vocab_size - 1


def test_untrained_model_costs_about_the_log_of_the_vocabulary() -> None:
    model = Transformer(SIZES["test"])
    model.initialise(torch.Generator().manual_seed(0))
    batch = make_batch()
    losses = [
        float(compute_diffusion_loss(model, batch, 4, MASK, torch.Generator().manual_seed(s)))
        for s in range(60)
    ]
    # Forcing one mask into blocks without any adds (1 - t)^b / (b t) to each token's weight.
    t = (torch.arange(10_000) / 10_000).clamp(min=1 / 4)
    inflation = 1 + float(((1 - t) ** 4 / (4 * t)).mean())
    expected = math.log(SIZES["test"].vocab_size - 1) * inflation
    assert sum(losses) / len(losses) == pytest.approx(expected, rel=0.03)
