"""The Transformer: masks, cache, configuration."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sdb_kernels.fp8 import Fp8Weight
from sdb_kernels.packed import is_available
from sdb_reference_model.checkpoint import save_checkpoint
from sdb_reference_model.model import SIZES, KVCache, ModelConfig, Transformer
from sdb_reference_model.objective import compute_diffusion_loss
from sdb_reference_model.states import Batch
from sdb_reference_model.tokenizer import CodeTokenizer

VARIANTS = {
    "plain": {},
    "bias_and_norms": {"qkv_bias": True, "qk_norm": True, "tie_embeddings": False},
}


def make_model(**changes: bool) -> Transformer:
    small = SIZES["test"]
    values = {field: getattr(small, field) for field in small.__dataclass_fields__} | changes
    model = Transformer(ModelConfig(**values))
    model.initialise(torch.Generator().manual_seed(0))
    for block in model.blocks:  # larger than training's start, so that differences are visible
        for weight in block.parameters():
            weight.data *= 3
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_causal_attention_ignores_the_future(changes: dict[str, bool]) -> None:
    model = make_model(**changes)
    tokens = torch.arange(12)[None] + 3
    changed = tokens.clone()
    changed[0, 8] = 50
    before, after = model(tokens, is_causal=True), model(changed, is_causal=True)
    torch.testing.assert_close(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:], atol=1e-3)


def test_bidirectional_attention_sees_the_future() -> None:
    model = make_model()
    tokens = torch.arange(12)[None] + 3
    changed = tokens.clone()
    changed[0, 8] = 50
    assert not torch.allclose(model(tokens)[:, 0], model(changed)[:, 0], atol=1e-3)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_causal_cache_equals_one_forward(changes: dict[str, bool]) -> None:
    model = make_model(**changes)
    tokens = torch.arange(12)[None] + 3
    whole = model(tokens, is_causal=True)
    cache = KVCache(model.config, 1, 12, model.head_weight)
    parts = [model(tokens[:, :7], is_causal=True, cache=cache)]
    cache.commit(7)
    for index in range(7, 12):
        parts.append(model(tokens[:, index : index + 1], cache=cache))
        cache.commit(1)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_uncommitted_forward_leaves_the_cache_as_it_was() -> None:
    model = make_model()
    cache = KVCache(model.config, 1, 12, model.head_weight)
    model(torch.arange(4)[None] + 3, cache=cache)
    cache.commit(4)
    block = torch.arange(4)[None] + 20
    first = model(block, cache=cache)
    model(block + 9, cache=cache)
    torch.testing.assert_close(model(block, cache=cache), first)


def test_rotary_positions_are_relative() -> None:
    model = make_model()
    tokens = torch.arange(6)[None] + 3
    positions = torch.arange(6)[None]
    moved = model(tokens, positions=positions + 40)
    torch.testing.assert_close(moved, model(tokens, positions=positions), atol=1e-4, rtol=1e-4)


def test_named_sizes_have_the_published_numbers_of_parameters() -> None:
    counts = {}
    for name, config in SIZES.items():
        with torch.device("meta"):
            counts[name] = sum(p.numel() for p in Transformer(config).parameters())
    assert 3e6 <= counts["demo"] <= 8e6
    assert counts["0.5b"] == pytest.approx(494e6, rel=0.01)  # Qwen2.5-Coder-0.5B: 0.49 B
    assert counts["8b"] == pytest.approx(8.2e9, rel=0.02)  # Seed-Coder-8B


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "head width"),
        ({"num_kv_heads": 3}, "use a divisor"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, int], message: str) -> None:
    small = SIZES["test"]
    values = {field: getattr(small, field) for field in small.__dataclass_fields__} | changes
    with pytest.raises(ValueError, match=message):
        ModelConfig(**values)


def test_too_many_positions_are_refused() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="max_seq_len=128"):
        model(torch.zeros(1, 129, dtype=torch.long))
    cache = KVCache(model.config, 1, 8, model.head_weight)
    with pytest.raises(ValueError, match="cache holds 8"):
        model(torch.zeros(1, 9, dtype=torch.long), cache=cache)


INFERENCE = {
    "pack": pytest.param(
        Transformer.pack,
        marks=pytest.mark.skipif(not is_available("cpu"), reason="this PyTorch has no oneDNN"),
    ),
    "quantise": Transformer.quantise,
}


@pytest.mark.parametrize("again", INFERENCE.values(), ids=INFERENCE)
@pytest.mark.parametrize("once", INFERENCE.values(), ids=INFERENCE)
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_what_was_made_for_inference_is_neither_made_again_nor_trained_nor_saved(
    changes: dict[str, bool],
    once: Callable[[Transformer], None],
    again: Callable[[Transformer], None],
    tmp_path: Path,
) -> None:
    model = make_model(**changes)
    once(model)
    with pytest.raises(ValueError, match=r"packed or quantised.*; load the model again to train"):
        again(model)
    batch = Batch(*(torch.full((1, 8), 5), torch.tensor([8])) * 2)
    with pytest.raises(ValueError, match="load the model again to train"):
        compute_diffusion_loss(model, batch, 4, 3)
    tokenizer = CodeTokenizer.train(["ab"], 300)
    with pytest.raises(ValueError, match="load the model again to train, save"):
        save_checkpoint(tmp_path / "model", model, tokenizer, "diffusion", {})
    assert not (tmp_path / "model").exists()


def test_a_quantised_model_moves_but_keeps_its_dtype() -> None:
    model = make_model()
    model.quantise()
    assert isinstance(model.head_operand, Fp8Weight)
    assert model.embedding.weight.dtype == torch.float32
    model.to("meta")
    assert model.head_operand.device == torch.device("meta")
    with pytest.raises(ValueError, match="quantise a model after it has its dtype"):
        _ = model.bfloat16().head_operand
