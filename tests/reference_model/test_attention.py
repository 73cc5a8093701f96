"""FlexAttention against SDPA under every mask of training, on a processor.

torch 2.13 refuses to differentiate `flex_attention` on a processor. Its own dense implementation of
the backward pass, which GPUs do not use, runs there once the check of the device is lifted; so
masks, groups of heads and gradients are compared here, but not the kernels of a GPU.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import BlockMask

from sdb_reference_model.attention import (
    AttentionKernel,
    Layout,
    attend,
    build_block_mask,
    build_dense_mask,
    choose_kernel,
)
from sdb_reference_model.model import SIZES, ModelConfig, Transformer
from sdb_reference_model.states import (
    Batch,
    lay_out_slabs,
    read_answers,
    read_causally,
    read_slabs,
    split,
)

KERNELS: tuple[AttentionKernel, ...] = ("sdpa", "flex")
BLOCK = 3
MASK = 2


@pytest.fixture
def _differentiable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)
    torch._dynamo.reset()  # of the shapes that another test has shown it


pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),  # by the tracer itself
]


def make_model(config: ModelConfig) -> Transformer:
    model = Transformer(config)
    model.initialise(torch.Generator().manual_seed(3))
    for block in model.blocks:
        for weight in block.parameters():
            weight.data *= 3
    return model


def make_batch() -> Batch:
    """Three prompts of widths 1 to 7, answers of 1 to 4 blocks of 3: no width is even."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([4, 12, 1])
    answer = torch.randint(3, 60, (3, 12), generator=generator)
    answer[torch.arange(12)[None] >= lengths[:, None] - 1] = 1
    prompt_lengths = torch.tensor([7, 1, 4])
    prompt = torch.randint(3, 60, (3, 7), generator=generator)
    prompt[torch.arange(7)[None] < 7 - prompt_lengths[:, None]] = 0
    return Batch(prompt, prompt_lengths, answer, lengths)


def read_twice(model: Transformer, batch: Batch) -> Tensor:
    """Two states of each block but the first, which has one."""
    blocks = split(batch.answer, BLOCK)
    slabs = torch.cat((blocks.clone().masked_fill_(blocks > 30, MASK), blocks[:, 1:]), dim=1)
    return read_slabs(model, batch, slabs, [0, 1, 2, 3, 1, 2, 3]).flatten(1, 2)


def weigh(hidden: Tensor) -> Tensor:
    weight = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))
    return (hidden * weight).mean()


READERS: dict[str, Callable[[Transformer, Batch], Tensor]] = {
    "slabs": read_twice,
    "full": lambda model, batch: read_answers(model, batch, batch.answer),
    "causal": read_causally,
}


@pytest.mark.usefixtures("_differentiable")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
def test_flex_gives_outputs_and_gradients_of_sdpa(reader: str, num_kv_heads: int) -> None:
    batch = make_batch()
    results: list[list[Tensor | None]] = []
    for kernel in KERNELS:
        model = make_model(replace(SIZES["test"], num_kv_heads=num_kv_heads, qk_norm=True))
        model.attention_kernel = kernel
        hidden = READERS[reader](model, batch)
        weigh(hidden).backward()  # type: ignore[no-untyped-call]
        results.append([hidden, *(p.grad for p in model.parameters())])
        assert float(hidden.detach().std()) > 0.1
    for ours, reference in zip(results[1], results[0], strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_differentiable")
def test_flex_runs_under_autocast_and_with_recomputed_activations() -> None:
    batch, results = make_batch(), []
    for kernel in KERNELS:
        model = make_model(SIZES["test"])
        model.attention_kernel, model.recomputes_activations = kernel, True
        with torch.autocast("cpu", torch.bfloat16):
            hidden = read_twice(model, batch)
        weigh(hidden.float()).backward()  # type: ignore[no-untyped-call]
        gradient = model.embedding.weight.grad
        assert gradient is not None
        results.append((hidden.detach(), gradient))
    for ours, reference in zip(*results, strict=True):
        assert float((ours - reference).norm() / reference.norm()) < 0.05


def test_flex_gets_one_dtype_where_autocast_left_two() -> None:
    """As on GPUs, whose autocast gives RMSNorm of queries and keys float32."""
    layout, _ = lay_out_slabs(make_batch(), BLOCK, range(4))
    q = torch.randn(3, 4, layout.document.shape[1], 8)
    attended = attend(q, q, q.bfloat16(), build_block_mask(layout), is_causal=False)
    low = q.bfloat16()
    expected = attend(low, low, low, build_dense_mask(layout), is_causal=False)
    torch.testing.assert_close(attended, expected, rtol=0.02, atol=0.02)


def test_processors_train_attention_in_float32_under_autocast() -> None:
    layout, _ = lay_out_slabs(make_batch(), BLOCK, range(4))
    q = torch.randn(3, 4, layout.document.shape[1], 8, dtype=torch.bfloat16, requires_grad=True)
    mask = build_dense_mask(layout)
    with torch.autocast("cpu", torch.bfloat16):
        attended = attend(q, q, q, mask, is_causal=False)
        with torch.no_grad():
            sampled = attend(q, q, q, mask, is_causal=False)
    wide = q.float()
    torch.testing.assert_close(attended, attend(wide, wide, wide, mask, is_causal=False))
    assert sampled.dtype == torch.bfloat16


def test_no_dense_mask_goes_to_flex(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(layout: Layout) -> Tensor:
        raise AssertionError("a dense mask was made")

    def watch(q: Tensor, k: Tensor, v: Tensor, block_mask: BlockMask, enable_gqa: bool) -> Tensor:
        seen.append(block_mask)
        return torch.zeros_like(q)

    seen: list[BlockMask] = []
    monkeypatch.setattr("sdb_reference_model.attention.build_dense_mask", refuse)
    monkeypatch.setattr("sdb_reference_model.attention.flex_attention", watch)
    model = make_model(SIZES["test"])
    model.attention_kernel = "flex"
    read_causally(model, make_batch())
    assert len(seen) == SIZES["test"].num_layers
    assert seen[0] is seen[1]  # made once for all layers


def test_both_forms_of_a_mask_say_the_same_for_every_pair_over_several_tiles() -> None:
    batch = make_batch()
    wide = replace(batch, answer=batch.answer.repeat(1, 12), answer_lengths=torch.tensor([144] * 3))
    layout, _ = lay_out_slabs(wide, BLOCK, range(48))
    dense, sparse = build_dense_mask(layout), build_block_mask(layout)
    rows, width = layout.document.shape
    assert width > 2 * 128
    pairs = torch.meshgrid(*map(torch.arange, (rows, width, width)), indexing="ij")
    assert torch.equal(sparse.mask_mod(pairs[0], pairs[0] * 0, *pairs[1:]), dense[:, 0])
    tiles = sparse.to_dense()[:, 0].bool()  # [B, tiles, tiles]
    for row, i, j in itertools.product(range(rows), range(tiles.shape[1]), range(tiles.shape[2])):
        part = dense[row, 0, 128 * i : 128 * (i + 1), 128 * j : 128 * (j + 1)]
        assert bool(tiles[row, i, j]) == bool(part.any())
    assert not tiles.all()


def test_what_cannot_run_is_refused_and_auto_chooses_what_can() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose_kernel("auto", cpu, 64) == choose_kernel("sdpa", gpu, 64) == "sdpa"
    assert choose_kernel("auto", gpu, 64) == choose_kernel("flex", gpu, 16) == "flex"
    assert choose_kernel("auto", gpu, 8) == "sdpa"
    with pytest.raises(ValueError, match="on a processor FlexAttention has no backward"):
        choose_kernel("flex", cpu, 64)
    with pytest.raises(ValueError, match="needs heads of 16 channels or more"):
        choose_kernel("flex", gpu, 8)


def test_torch_still_has_no_backward_pass_on_a_processor() -> None:
    """When this fails, `choose_kernel` may allow `flex` there."""
    q = torch.randn(1, 1, 4, 16, requires_grad=True)
    with pytest.raises(NotImplementedError, match="does not support backward on CPU"):
        flex.flex_attention(q, q, q)
