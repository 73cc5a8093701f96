"""Packed weights against plain products, and what cannot be packed."""

import pytest
import torch

from sdb_kernels.head_select import head_select
from sdb_kernels.head_select.packed import find_first_maximum
from sdb_kernels.packed import PackedWeight, is_available, multiply

pytestmark = pytest.mark.skipif(not is_available("cpu"), reason="this PyTorch has no oneDNN")


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 3), (2, 5, 24), (33, 100), (0, 7)])
@pytest.mark.parametrize("num_outputs", [1, 7, 130])
def test_product_is_that_of_the_plain_weight(
    shape: tuple[int, ...], num_outputs: int, has_bias: bool
) -> None:
    rng = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(shape, generator=rng)
    weight = torch.randn(num_outputs, shape[-1], generator=rng)
    bias = torch.randn(num_outputs, generator=rng) if has_bias else None
    expected = torch.nn.functional.linear(x.double(), weight.double(), None)
    expected += 0 if bias is None else bias
    with torch.inference_mode():
        actual = PackedWeight(weight).multiply(x, bias)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_rounds_once() -> None:
    rng = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(9, 40, generator=rng).bfloat16() for _ in range(2))
    exact = x.double() @ weight.double().T
    actual = PackedWeight(weight).multiply(x)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.double(), exact, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("forbidden_id", [None, 4])
def test_head_select_on_packed_weights(
    forbidden_id: int | None, dtype: torch.dtype, temperature: float
) -> None:
    rng = torch.Generator().manual_seed(1)
    hidden = torch.randn(17, 40, generator=rng).to(dtype)
    weight = torch.randn(515, 40, generator=rng).to(dtype)
    weight[300] = weight[7] = 2 * weight[7]  # a tie for the first row: the smaller id wins
    hidden[0] = weight[7]
    seeds = torch.arange(17)
    expected, actual = (
        head_select(hidden, form, forbidden_id=forbidden_id, temperature=temperature, seeds=seeds)
        for form in (weight, PackedWeight(weight.float()))
    )
    assert torch.equal(actual[0], expected[0])
    torch.testing.assert_close(actual[1], expected[1], rtol=1e-4, atol=1e-6)
    assert temperature > 0 or actual[0][0] == 7


def test_what_cannot_be_packed_or_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"torch\.int64 \[2, 3\] on cpu; only matrices"):
        PackedWeight(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\[3\]"):
        PackedWeight(torch.ones(3))
    hidden, packed = torch.ones(2, 3), PackedWeight(torch.ones(5, 3))
    with pytest.raises(ValueError, match="drop backend='triton'"):
        head_select(hidden, packed, forbidden_id=None, backend="triton")
    with pytest.raises(ValueError, match=r"hidden is torch\.float64"):
        head_select(hidden.double(), packed, forbidden_id=None)


def test_float32_logits_of_either_form() -> None:
    rng = torch.Generator().manual_seed(2)
    x, weight = (torch.randn(5, 8, generator=rng).bfloat16() for _ in range(2))
    for form in (weight, PackedWeight(weight.float())):
        logits = multiply(x, form)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, (x.double() @ weight.double().T).float())


@pytest.mark.parametrize("num_columns", [1, 7, 255, 256, 257, 512, 1000])
@pytest.mark.parametrize("num_rows", [0, 1, 40])
def test_first_maximum_is_the_argmax(num_rows: int, num_columns: int) -> None:
    rng = torch.Generator().manual_seed(num_columns)
    values = torch.randint(0, 4, (num_rows, num_columns), generator=rng).float()  # many ties
    values[values == 3] = -torch.inf
    assert torch.equal(find_first_maximum(values), values.argmax(dim=1))
    values[:, num_columns // 2] = torch.nan
    columns = find_first_maximum(values)
    assert bool(((columns >= 0) & (columns < num_columns)).all())
