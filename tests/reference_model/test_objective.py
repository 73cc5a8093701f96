"""The losses against slow, literal definitions."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest
import torch

from sdb_reference_model.attention import build_dense_mask
from sdb_reference_model.corruption import MaskProcess, mask_tokens, sample_times
from sdb_reference_model.edits import EditProcess, edit_answers
from sdb_reference_model.model import SIZES, ModelConfig, Transformer
from sdb_reference_model.objective import (
    EditTerm,
    LossTerms,
    compute_autoregressive_loss,
    compute_diffusion_loss,
)
from sdb_reference_model.states import Batch, lay_out_slabs

PAD, END, MASK = 0, 1, 2


@pytest.fixture(autouse=True)
def _no_gradient_by_default() -> Iterator[None]:
    with torch.no_grad():
        yield


def per_token(terms: LossTerms) -> float:
    return float(terms.mask) / terms.num_tokens


def make_model(config: ModelConfig = SIZES["test"]) -> Transformer:
    model = Transformer(config)
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


@pytest.mark.parametrize(
    ("block_size", "process"),
    [
        (2, MaskProcess()),
        (4, MaskProcess()),
        (12, MaskProcess()),
        (4, MaskProcess(weighting="uniform")),
        (4, MaskProcess("cosine")),
        (4, MaskProcess(max_time=0.5)),
        (4, MaskProcess(is_clipped=False)),
    ],
    ids=str,
)
def test_diffusion_loss_equals_block_by_block_evaluation(
    block_size: int, process: MaskProcess
) -> None:
    """One forward over [prompt | clean | noisy] = each noisy block after its own clean prefix."""
    model, batch = make_model(), make_batch()
    generator = torch.Generator().manual_seed(5)
    loss = compute_diffusion_loss(model, batch, block_size, MASK, generator, process=process)
    generator = torch.Generator().manual_seed(5)
    blocks = batch.answer.view(-1, block_size)
    t = sample_times(
        len(blocks), block_size, generator, process.schedule, process.max_time, process.is_clipped
    )
    assert float(t.max()) < process.max_time
    is_linear = process.schedule == "linear"
    gamma = t if is_linear else 1 - torch.cos(t * math.pi / 2)
    weights = 1 / t if is_linear else math.pi / 2 / torch.tan(t * math.pi / 4)
    weights = weights if process.weighting == "elbo" else torch.ones_like(t)
    noisy, is_masked = mask_tokens(blocks, gamma, MASK, generator)
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
        total -= float((log_p * is_masked[index]).sum() * weights[index])
        num_tokens += block_size
    assert per_token(loss) == pytest.approx(total / num_tokens, rel=1e-5)


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
    assert per_token(loss) == pytest.approx(recorded, rel=1e-6)


@pytest.mark.parametrize("block_size", [2, 4, 12])
def test_loss_on_a_causal_past_equals_block_by_block_evaluation(block_size: int) -> None:
    """Each noisy block, shifted, after its own causal prefix; and the twin's loss beside it."""
    model, batch = make_model(replace(SIZES["test"], causal_past=True)), make_batch()
    loss = compute_diffusion_loss(
        model, batch, block_size, MASK, torch.Generator().manual_seed(5), reads_answer=True,
        process=MaskProcess(weighting="uniform"), attention="causal_past",
    )  # fmt: skip
    twin = compute_autoregressive_loss(model, batch, MASK)
    assert float(loss.past) == pytest.approx(float(twin.mask), rel=1e-5)
    generator = torch.Generator().manual_seed(5)
    blocks = batch.answer.view(-1, block_size)
    noisy, is_masked = mask_tokens(
        blocks, sample_times(len(blocks), block_size, generator), MASK, generator
    )
    blocks_per_row, total = batch.answer.shape[1] // block_size, 0.0
    for index, block in enumerate(blocks):
        row, start = index // blocks_per_row, index % blocks_per_row * block_size
        if start >= batch.answer_lengths[row]:
            continue
        prompt = batch.prompt[row, -batch.prompt_lengths[row] :]
        read = torch.cat((prompt, batch.answer[row, :start], noisy[index]))[:-1]
        sees = torch.ones(len(read), len(read), dtype=torch.bool).tril()
        sees[-block_size:] = True
        logits = model(read[None], mask=sees[None, None])[0, -block_size:] @ model.head_weight.T
        logits[:, MASK] = -math.inf
        log_p = logits.log_softmax(dim=-1).gather(1, block[:, None])[:, 0]
        total -= float((log_p * is_masked[index]).sum())
    assert float(loss.mask) == pytest.approx(total, rel=1e-5)


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
    assert per_token(loss) == pytest.approx(total / num_tokens, rel=1e-5)


def test_block_mask_shows_no_answer_to_its_own_noisy_block() -> None:
    ids = torch.zeros(1, 10, dtype=torch.int64)
    batch = Batch(ids[:, :2], torch.tensor([2]), ids[:, :8], torch.tensor([8]))
    mask = build_dense_mask(lay_out_slabs(batch, 4, range(2))[0])[0, 0]
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
    loss.mask.backward()  # type: ignore[no-untyped-call]
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
        per_token(compute_diffusion_loss(model, batch, 4, MASK, torch.Generator().manual_seed(s)))
        for s in range(60)
    ]
    # Forcing one mask into blocks without any adds (1 - t)^b / (b t) to each token's weight.
    t = (torch.arange(10_000) / 10_000).clamp(min=1 / 4)
    inflation = 1 + float(((1 - t) ** 4 / (4 * t)).mean())
    expected = math.log(SIZES["test"].vocab_size - 1) * inflation
    assert sum(losses) / len(losses) == pytest.approx(expected, rel=0.03)


def make_edit_term(place: Literal["separate", "visible"]) -> EditTerm:
    """Every answer gets as many edits as it has tokens, all of one new token."""
    weights = torch.zeros(64)
    weights[[50, 51]] = 1
    return EditTerm(EditProcess(weights, max_ratio=1.0, substitution_share=1.0), place)


def test_both_corruptions_of_one_answer_do_not_see_each_other() -> None:
    """The mask term is what it is without the edit term; the edit term reads its own blocks."""
    model, batch = make_model(), make_batch()
    alone = compute_diffusion_loss(model, batch, 4, MASK, torch.Generator().manual_seed(5))
    term = make_edit_term("separate")
    both = compute_diffusion_loss(
        model, batch, 4, MASK, torch.Generator().manual_seed(5), edit=term
    )
    assert float(both.mask) == pytest.approx(float(alone.mask), rel=1e-5)
    assert both.num_tokens == alone.num_tokens

    generator = torch.Generator().manual_seed(5)
    mask_tokens(batch.answer.view(-1, 4), sample_times(6, 4, generator), MASK, generator)
    edited = edit_answers(batch, term.process, generator)
    assert int((edited != batch.answer).sum()) > 3
    total = 0.0
    for row in range(2):
        prompt = batch.prompt[row, -batch.prompt_lengths[row] :]
        for start in range(0, int(batch.answer_lengths[row]), 4):
            tokens = torch.cat((prompt, batch.answer[row, :start], edited[row, start : start + 4]))
            block_of = torch.cat((torch.zeros(len(prompt)), torch.arange(start + 4) // 4 + 1))
            sees = block_of[None] <= block_of[:, None]
            hidden = model(tokens[None], mask=sees[None, None])[0, -4:]
            logits = hidden @ model.head_weight.T
            logits[:, MASK] = -math.inf
            truth = batch.answer[row, start : start + 4, None]
            total -= float(logits.log_softmax(dim=-1).gather(1, truth).sum())
    assert float(both.edit) == pytest.approx(total, rel=1e-5)


def test_edits_beside_masks_are_judged_where_nothing_is_masked() -> None:
    model, batch = make_model(), make_batch()
    generator = torch.Generator().manual_seed(5)
    term = make_edit_term("visible")
    terms = compute_diffusion_loss(model, batch, 4, MASK, generator, edit=term)
    generator = torch.Generator().manual_seed(5)
    mask_tokens(batch.answer.view(-1, 4), sample_times(6, 4, generator), MASK, generator)
    assert 0 < float(terms.edit) < math.inf
    assert float(terms.mask) > 0


def test_full_attention_is_one_forward_over_prompt_and_noisy_answer() -> None:
    model, batch = make_model(), make_batch()
    generator = torch.Generator().manual_seed(5)
    terms = compute_diffusion_loss(model, batch, 1, MASK, generator, attention="full")
    assert terms.num_tokens == 24
    generator = torch.Generator().manual_seed(5)
    t = sample_times(2, 12, generator)
    noisy, is_masked = mask_tokens(batch.answer, t, MASK, generator)
    total = 0.0
    for row in range(2):
        prompt = batch.prompt[row, -batch.prompt_lengths[row] :]
        hidden = model(torch.cat((prompt, noisy[row]))[None])[0, len(prompt) :]
        logits = hidden @ model.head_weight.T
        logits[:, MASK] = -math.inf
        log_p = logits.log_softmax(dim=-1).gather(1, batch.answer[row, :, None])[:, 0]
        total -= float((log_p * is_masked[row]).sum() / t[row])
    assert float(terms.mask) == pytest.approx(total, rel=1e-5)
