import pytest
import torch

from sdb_kernels.fp8 import LARGEST, Fp8Weight, quantise


def test_a_weight_is_off_by_at_most_half_a_step_of_its_channel() -> None:
    weight = torch.randn(40, 200, generator=torch.Generator().manual_seed(0))
    weight *= torch.logspace(-6, 6, 40)[:, None]
    rounded = quantise(weight)
    values, scale = rounded.values, rounded.scale
    assert (values.dtype, scale.dtype) == (torch.float8_e4m3fn, torch.float32)
    assert values.float().abs().amax(dim=1).tolist() == [LARGEST] * 40
    # Three bits of mantissa: 1/16 of the value; below 2**-6, steps of 2**-9.
    bound = torch.maximum(weight.abs() / 16, scale[:, None] * 2.0**-10)
    assert ((rounded.dequantise() - weight).abs() <= bound * 1.0001).all()


def test_what_e4m3_holds_comes_back_to_the_bit() -> None:
    row = torch.tensor([448.0, -224.0, 1.125, 0.0, 2.0**-9])
    weight = torch.stack((row, row * 2.0**-20, torch.zeros(5)))
    rounded = quantise(weight)
    assert torch.equal(rounded.dequantise(), weight)
    assert rounded.scale.tolist() == [1.0, 2.0**-20, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_widening_is_a_cast(dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).view(16, 16)
    for values in (every, every.view(torch.uint8).T.contiguous().T.view(torch.float8_e4m3fn)):
        widened = Fp8Weight(values, torch.ones(16)).widen(dtype)
        assert widened.dtype == dtype
        assert torch.equal(widened.nan_to_num(nan=1e9), values.to(dtype).nan_to_num(nan=1e9))


def test_what_cannot_be_quantised_is_an_error() -> None:
    for weight in (torch.zeros(3), torch.tensor([[1.0, torch.nan]]), torch.tensor([[torch.inf]])):
        with pytest.raises(ValueError, match="must be a matrix of finite numbers"):
            quantise(weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_scale_may_be_applied_behind_the_sum(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 3, 40, generator=rng).to(dtype), torch.randn(7, 40, generator=rng)
    rounded = quantise(weight)
    product = rounded.multiply(x)
    assert product.dtype == dtype
    exact = x.double() @ rounded.dequantise().double().T
    rtol = 1e-5 if dtype == torch.float32 else 2**-7  # the sum is rounded, and the result
    torch.testing.assert_close(product.double(), exact, rtol=rtol, atol=1e-5)


def test_parts_that_do_not_belong_together_are_an_error() -> None:
    values, scale = torch.zeros(3, 5).to(torch.float8_e4m3fn), torch.ones(3)
    for wrong in (
        (values.bfloat16(), scale.bfloat16()),  # what casting a model does to both
        (values, torch.ones(5)),
        (values[0], scale),
        (values, scale.to("meta")),
    ):
        with pytest.raises(ValueError, match=r"values are torch.* on cpu and scale torch.*; pass"):
            Fp8Weight(*wrong)
