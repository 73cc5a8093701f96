import pytest
import torch

from sdb_kernels.testing import assert_close, nan_filled_outputs


def test_assert_close_takes_rounding_and_nothing_else() -> None:
    assert_close(torch.tensor([1.0]), torch.tensor([1.0 + 5e-6]))
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([1.0]), torch.tensor([1.0 + 5e-5]))
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([7]), torch.tensor([8]))
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64))
    with pytest.raises(AssertionError):
        assert_close(torch.zeros(2), torch.zeros(2, 1))


def test_assert_close_rejects_nan_on_either_side() -> None:
    nan = torch.tensor([torch.nan])
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([1.0]), nan)
    with pytest.raises(AssertionError, match="reference itself"):
        assert_close(nan, nan)


def test_nan_filled_outputs_fills_and_restores() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with nan_filled_outputs():
        assert torch.empty(64).isnan().all()
        assert (torch.empty(64, dtype=torch.int64) == torch.iinfo(torch.int64).max).all()
    assert torch.are_deterministic_algorithms_enabled() is before
