import pytest
import torch

from sdb_kernels.fp8 import LARGEST, dequantise, quantise


def test_a_weight_is_off_by_at_most_half_a_step_of_its_channel() -> None:
    weight = torch.randn(40, 200, generator=torch.Generator().manual_seed(0))
    weight *= torch.logspace(-6, 6, 40)[:, None]
    values, scale = quantise(weight)
    assert (values.dtype, scale.dtype) == (torch.float8_e4m3fn, torch.float32)
    assert values.float().abs().amax(dim=1).tolist() == [LARGEST] * 40
    # Three bits of mantissa: 1/16 of the value; below 2**-6, steps of 2**-9.
    bound = torch.maximum(weight.abs() / 16, scale[:, None] * 2.0**-10)
    assert ((dequantise(values, scale) - weight).abs() <= bound * 1.0001).all()


def test_what_e4m3_holds_comes_back_to_the_bit() -> None:
    row = torch.tensor([448.0, -224.0, 1.125, 0.0, 2.0**-9])
    weight = torch.stack((row, row * 2.0**-20, torch.zeros(5)))
    values, scale = quantise(weight)
    assert torch.equal(dequantise(values, scale), weight)
    assert scale.tolist() == [1.0, 2.0**-20, 1.0]


def test_what_cannot_be_quantised_is_an_error() -> None:
    for weight in (torch.zeros(3), torch.tensor([[1.0, torch.nan]]), torch.tensor([[torch.inf]])):
        with pytest.raises(ValueError, match="must be a matrix of finite numbers"):
            quantise(weight)
