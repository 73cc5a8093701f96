"""The fused forward against the modules, and a step against the sampler's own rules."""

import dataclasses
import os
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from sdb_kernels.fp8 import quantise
from sdb_kernels.packed import is_available, multiply
from sdb_reference_model.fused import Step, read_block
from sdb_reference_model.model import KVCache, ModelConfig, Transformer

BASE = ModelConfig(50, 32, 2, 4, 2, 48, 64)
CONFIGS = {
    "plain": BASE,
    "bias": dataclasses.replace(BASE, qkv_bias=True, tie_embeddings=False),
    "q/k norm": dataclasses.replace(BASE, qk_norm=True, head_width=10),
    "one key head": dataclasses.replace(BASE, num_kv_heads=1),
}
MASK_ID, END_ID = 49, 48


def build(config: ModelConfig) -> Transformer:
    model = Transformer(config)
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():  # wide, so that attention and norms matter
        for name, parameter in model.named_parameters():
            parameter.mul_(8) if parameter.dim() == 2 else parameter.add_(
                torch.linspace(-0.5, 0.5, len(parameter))
            )
            assert parameter.isfinite().all(), name
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_it_computes_what_the_modules_compute(name: str) -> None:
    model = build(CONFIGS[name])
    rng = torch.Generator().manual_seed(1)
    prompt = torch.randint(0, 48, (2, 9), generator=rng)
    block = torch.randint(0, 50, (2, 5), generator=rng)
    ours, theirs = (KVCache(model.config, 2, 20, model.head_weight) for _ in range(2))
    with torch.inference_mode():
        expected = model(prompt, cache=theirs)
        theirs.commit(9)
        expected_block = model(block, cache=theirs)
    actual = read_block(model, prompt, ours, num_past=torch.tensor([0, 0], dtype=torch.int32))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    actual = read_block(model, block, ours, num_past=torch.tensor([9, 9], dtype=torch.int32))
    torch.testing.assert_close(actual, expected_block, rtol=1e-4, atol=1e-5)
    for cache, wanted in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
        torch.testing.assert_close(cache[:, :, :, :14], wanted[:, :, :, :14], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_in_8_bits_it_computes_what_the_rounded_weights_compute(name: str) -> None:
    rounded, quantised = (build(CONFIGS[name]) for _ in range(2))
    quantised.quantise()
    with torch.no_grad():
        for matrix in (p for p in rounded.blocks.parameters() if p.dim() == 2):
            matrix.copy_(quantise(matrix).dequantise())
    tokens = torch.randint(0, 48, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, unrounded = rounded(tokens), build(CONFIGS[name])(tokens)
        of_modules = quantised(tokens)
    cache = KVCache(quantised.config, 2, 20, quantised.embedding.weight)
    zero = torch.zeros(2, dtype=torch.int32)
    fused = read_block(quantised, tokens, cache, num_past=zero)
    largest = float(expected.abs().max())
    for actual in (of_modules, fused):
        assert float((actual - expected).abs().max()) <= 1e-5 * largest
    assert float((unrounded - expected).abs().max()) > 1e-3 * largest


@pytest.mark.skipif(not is_available("cpu"), reason="this PyTorch has no oneDNN")
def test_a_packed_model_is_refused_in_one_line() -> None:
    model = build(BASE)
    cache = KVCache(BASE, 1, 20, model.head_weight)
    model.pack()
    with pytest.raises(ValueError, match="packed weights are read by"):
        read_block(model, torch.zeros(1, 3).long(), cache, num_past=torch.zeros(1).int())


def test_rows_may_have_padding_and_lengths_of_their_own() -> None:
    model = build(BASE)
    rng = torch.Generator().manual_seed(2)
    prompt = torch.randint(0, 48, (1, 6), generator=rng)
    block = torch.randint(0, 50, (1, 4), generator=rng)
    alone = KVCache(BASE, 1, 20, model.head_weight)
    read_block(model, prompt, alone, num_past=torch.tensor([0], dtype=torch.int32))
    expected = read_block(model, block, alone, num_past=torch.tensor([6], dtype=torch.int32))

    padded = torch.cat((torch.zeros(1, 3, dtype=torch.long), prompt), dim=1)  # 3 on the left
    first_key = torch.tensor([3], dtype=torch.int32)
    cache = KVCache(BASE, 1, 20, model.head_weight)
    zero, nine = (torch.tensor([n], dtype=torch.int32) for n in (0, 9))
    read_block(model, padded, cache, num_past=zero, first_key=first_key)
    actual = read_block(model, block, cache, num_past=nine, first_key=first_key)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_blocks_in_one_call_are_blocks_one_after_the_other() -> None:
    model = build(BASE)
    tokens = torch.randint(0, 48, (1, 12), generator=torch.Generator().manual_seed(3))
    together, apart = (KVCache(BASE, 1, 20, model.head_weight) for _ in range(2))
    zero = torch.zeros(1, dtype=torch.int32)
    at_once = read_block(model, tokens, together, num_past=zero, block_size=4)
    for start in (0, 4, 8):
        block = tokens[:, start : start + 4]
        hidden = read_block(model, block, apart, num_past=zero + start)
        torch.testing.assert_close(at_once[:, start : start + 4], hidden, rtol=1e-4, atol=1e-5)


def make_step(
    backend: str | None, is_quantised: bool = False, is_causal: bool = False, num_before: int = 0
) -> Step:
    model = build(dataclasses.replace(CONFIGS["bias"], causal_past=is_causal))
    if is_quantised:
        model.quantise()
    cache = KVCache(model.config, 1, 20, model.embedding.weight)
    prompt = torch.randint(0, 48, (1, 7), generator=torch.Generator().manual_seed(4))
    zero = torch.zeros(1, dtype=torch.int32)
    read_block(model, prompt, cache, num_past=zero, block_size=1 if is_causal else None)
    return Step(
        model,
        cache,
        block=torch.full((1, 6), MASK_ID),
        before=prompt[:, 7 - num_before :],
        num_past=torch.tensor([7 - num_before], dtype=torch.int32),
        is_done=torch.zeros(1, dtype=torch.bool),
        mask_id=MASK_ID,
        end_id=None,
        threshold=0.5,
        is_prefix=is_causal,
        backend=backend,
    )


@pytest.mark.parametrize("is_quantised", [False, True])
def test_steps_fill_a_block_as_the_rule_says_and_then_change_nothing(is_quantised: bool) -> None:
    step = make_step(None, is_quantised)
    num_steps = 0
    while not bool(step.is_done):
        before = step.block.clone()
        with torch.inference_mode():
            reader = KVCache(step.model.config, 1, 20, step.model.embedding.weight)
            reader.keys.copy_(step.cache.keys)
            reader.values.copy_(step.cache.values)
            reader.length = 7
            logits = multiply(step.model(before, cache=reader)[0], step.model.head_operand)
            logits[:, MASK_ID] = -torch.inf
        confidence, tokens = logits.softmax(dim=-1).max(dim=-1)
        is_open = before[0] == MASK_ID
        best = confidence.masked_fill(~is_open, -1.0).argmax()
        is_committed = is_open & ((confidence > 0.5) | (torch.arange(6) == best))
        step.run()
        assert torch.equal(step.block[0], torch.where(is_committed, tokens, before[0]))
        num_steps += 1
        assert num_steps <= 6
    finished = step.block.clone()
    step.run()
    assert torch.equal(step.block, finished)


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="needs Triton and TRITON_INTERPRET=1, which tests set where there is no GPU",
)
@pytest.mark.parametrize(
    "arguments", [(False,), (True,), (False, True, 1), (False, True, 7)], ids=str
)
def test_a_step_on_the_interpreter_writes_the_same_block(arguments: tuple[Any, ...]) -> None:
    expected, actual = make_step("reference", *arguments), make_step("triton", *arguments)
    for _ in range(8):  # the last of them on a full block
        expected.run()
        actual.run()
        assert torch.equal(expected.block, actual.block)
        torch.testing.assert_close(
            actual.cache.keys[..., :12, :], expected.cache.keys[..., :12, :], rtol=1e-4, atol=1e-5
        )
    assert bool(actual.is_done)
