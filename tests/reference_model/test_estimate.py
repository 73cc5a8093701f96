"""Estimates against counting and against a real step."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sdb_reference_model.data import BatchStream, tokenize
from sdb_reference_model.edits import EditProcess
from sdb_reference_model.estimate import (
    TrainingEstimate,
    count_parameters,
    estimate_training,
    measure_padding,
)
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.objective import (
    Attention,
    EditTerm,
    compute_autoregressive_loss,
    compute_diffusion_loss,
)
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.train_config import TrainConfig

DATASET = Dataset.from_dict({"prompt": ["say red\n"] * 8, "completion": ["    return red\n"] * 8})
CONFIG = TrainConfig(
    size="demo",
    objective="autoregressive",
    batch_size=8,
    num_train_steps=10,
    warmup_steps=1,
    adam_lr=0.01,
    seed=0,
    data={},
)


def estimate(config: TrainConfig, stream: BatchStream, num_ranks: int) -> TrainingEstimate:
    return estimate_training(config, SIZES[config.size], stream, num_ranks, torch.float32)


@pytest.fixture
def stream() -> BatchStream:
    tokenizer = CodeTokenizer.train(DATASET["prompt"], 300)
    return BatchStream(tokenize(DATASET, tokenizer), 8, seed=0)


def test_arithmetic_is_what_a_counter_counts(stream: BatchStream) -> None:
    """All rows are equally long, so there is no padding, which the estimate leaves out."""
    flops = estimate(CONFIG, stream, 1).flops_per_step
    model = Transformer(SIZES["demo"])
    batch = stream.collate(stream.select(0), 0, 1, 1)
    with FlopCounterMode(display=False) as counter:
        compute_autoregressive_loss(model, batch, 2).mask.backward()  # type: ignore[no-untyped-call]
    assert flops == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("edit_fraction", [0.0, 1.0])
@pytest.mark.parametrize(
    ("attention", "past_weight"),
    [("block_causal", 0.0), ("causal_past", 0.0), ("causal_past", 1.0)],
)
def test_arithmetic_of_diffusion_is_what_a_counter_counts(
    attention: Attention, past_weight: float, edit_fraction: float
) -> None:
    """All but attention, which the counter does not know under a mask on a processor."""
    rows = Dataset.from_dict({"prompt": ["red\n"] * 64, "completion": ["    return red\n"] * 64})
    tokenized = tokenize(rows, CodeTokenizer.train(rows["prompt"], 300))
    stream = BatchStream(tokenized, 64, seed=0)
    config = replace(CONFIG, objective="diffusion", block_sizes=(16,), batch_size=64)
    config = replace(
        config, edit_fraction=edit_fraction, attention=attention, past_weight=past_weight
    )
    batch = stream.collate(stream.select(0), 0, 1, 16)
    process = EditProcess(torch.ones(SIZES["demo"].vocab_size))
    edit = EditTerm(process) if edit_fraction else None
    model = Transformer(replace(SIZES["demo"], causal_past=attention == "causal_past"))
    generator = torch.Generator().manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        terms = compute_diffusion_loss(
            model,
            batch,
            16,
            2,
            generator,
            edit=edit,
            attention=attention,
            reads_answer=past_weight > 0,
        )
        terms.stack().sum().backward()  # type: ignore[no-untyped-call]
    found, shape = estimate(config, stream, 1), SIZES["demo"]
    length = found.positions_per_step / 64
    scores = 12 * shape.num_layers * shape.d_model * length * found.positions_per_step
    assert found.flops_per_step - scores == pytest.approx(counter.get_total_flops(), rel=0.005)


def test_memory_follows_optimizer_shards_and_recomputation(stream: BatchStream) -> None:
    plain = estimate(CONFIG, stream, 2)
    sharded = estimate(replace(CONFIG, parallel="fsdp"), stream, 2)
    muon = estimate(replace(CONFIG, optimizer="muon"), stream, 2)
    lean = estimate(replace(CONFIG, recompute_activations=True), stream, 2)
    assert plain.state_bytes == 16 * plain.num_parameters == 2 * sharded.state_bytes
    assert muon.state_bytes == 12 * plain.num_parameters
    assert lean.activation_bytes < plain.activation_bytes / 5
    assert lean.flops_per_step == pytest.approx(plain.flops_per_step * 4 / 3)


def test_two_terms_cost_another_copy_of_the_answer(stream: BatchStream) -> None:
    config = replace(CONFIG, objective="diffusion", block_sizes=(4,), edit_fraction=0.0)
    answer = int(stream.answer_lengths[0])
    width = -(-answer // 4) * 4
    prompt = int(stream.prompt_lengths[0])
    estimates = [
        estimate(replace(config, **change), stream, 1).positions_per_step
        for change in ({}, {"edit_fraction": 1.0}, {"edit_fraction": 1.0, "edit_place": "visible"})
    ]
    assert estimates == [8 * (prompt + n * width - 4) for n in (2, 3, 2)]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"objective": "diffusion", "block_sizes": (4,), "edit_fraction": 1.0},
        {"objective": "diffusion", "attention": "full", "piece_size": 16},
    ],
    ids=str,
)
def test_padding_is_what_a_forward_has(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "say it again and again, as often as you like".split()
    texts = [" ".join(words[: 1 + n % 9]) for n in range(32)]
    dataset = Dataset.from_dict({"prompt": texts, "completion": texts[::-1]})
    tokenizer = CodeTokenizer.train(texts, 300)
    stream = BatchStream(tokenize(dataset, tokenizer), 32, seed=0)
    config = replace(CONFIG, batch_size=32, **change)
    areas: list[int] = []

    def watch(model: Transformer, token_ids: Tensor, **_: Any) -> Tensor:
        areas.append(token_ids.numel())
        return torch.zeros(*token_ids.shape, model.config.d_model)

    monkeypatch.setattr(Transformer, "forward", watch)
    model = Transformer(SIZES["demo"])
    found = []
    for packs_examples in (False, True):
        model.packs_examples = packs_examples
        for piece in stream.select(0).reshape(-1, config.piece_size or 32):
            multiple = max((1, *config.block_sizes))
            batch = stream.collate(piece, tokenizer.pad_id, tokenizer.end_id, multiple)
            if config.objective == "autoregressive":
                compute_autoregressive_loss(model, batch, tokenizer.mask_id)
            else:
                compute_diffusion_loss(
                    model, batch, 4, tokenizer.mask_id, attention=config.attention
                )
        found.append(sum(areas))
        areas.clear()
    apart, packed = measure_padding(config, stream, 1)
    assert (1 - apart) * found[0] == pytest.approx((1 - packed) * found[1])
    assert packed < apart
    # What is needed is independent of either.
    prompts, answers = stream.prompt_lengths, stream.answer_lengths
    if config.block_sizes:
        needed = int((prompts + 2 * (-(-answers // 4) * 4) - 4).sum())
        assert (1 - apart) * found[0] == pytest.approx(needed)


@pytest.mark.parametrize("size", SIZES)
def test_every_named_size_has_an_estimate(
    size: str, stream: BatchStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of its size is allocated, so the largest one is estimated anywhere."""
    monkeypatch.setattr("sdb_reference_model.estimate.measure_matmul", lambda *_: 1e12)
    found = estimate(replace(CONFIG, size=size), stream, 1)
    assert found.state_bytes == 16 * found.num_parameters
    assert found.step_s == pytest.approx(found.flops_per_step / 1e12)
    assert found.flops_per_step > 6 * 0.2 * found.num_parameters * found.positions_per_step


def test_named_sizes_have_about_the_parameters_of_their_names() -> None:
    sizes = {"25m": 25e6, "125m": 125e6, "0.5b": 0.5e9, "1b": 1.2e9, "8b": 8.2e9}
    for name, expected in sizes.items():
        assert count_parameters(SIZES[name]) == pytest.approx(expected, rel=0.15), name
