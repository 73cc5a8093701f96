"""What the tests and benchmarks of every operator share: one comparison, and outputs of NaN.

A kernel that forgets to write an element returns whatever lay in memory, which is often the
result of the previous call and therefore often right. `nan_filled_outputs` makes it wrong.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

RELATIVE_TOLERANCE = 1e-5
ABSOLUTE_TOLERANCE = 1e-6


def assert_close(reference: Tensor, actual: Tensor) -> None:
    """Fail unless a result equals its definition: integers exactly, floats within rounding.

    The tolerances are those of two float32 sums of the same terms in different order. They are
    not a parameter: an operator that needs wider ones has a wrong definition or a wrong kernel.

    Args:
        reference: What the definition returned.
        actual: What the implementation under test returned, of the same shape and dtype.

    Raises:
        AssertionError: Shape, dtype or a value differs, or a value is NaN.
    """
    is_float = reference.dtype.is_floating_point
    if is_float and bool(reference.isnan().any()):
        raise AssertionError("the reference itself holds NaN; the comparison would prove nothing")
    torch.testing.assert_close(
        actual,
        reference,
        rtol=RELATIVE_TOLERANCE if is_float else 0.0,
        atol=ABSOLUTE_TOLERANCE if is_float else 0.0,
        check_device=False,
    )


@contextmanager
def nan_filled_outputs() -> Iterator[None]:
    """Make `torch.empty` return NaN, or the largest integer, while the block runs.

    PyTorch fills uninitialised memory while deterministic algorithms are on; that setting is
    restored on exit.
    """
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    was_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic, warn_only=was_warning)
