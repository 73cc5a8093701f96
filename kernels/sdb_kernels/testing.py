"""What the tests and benchmarks of every operator share: a comparison, outputs of NaN, a compiler.

A kernel that forgets to write an element returns whatever lay in memory, which is often the
result of the previous call and therefore often right. `nan_filled_outputs` makes it wrong.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

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


class Launch(NamedTuple):
    """One kernel that was compiled instead of launched."""

    name: str
    shared_bytes: int
    """Shared memory of one program; an H100 has 227 KiB."""


@contextmanager
def compiling_for_sm_90() -> Iterator[list[Launch]]:
    """Compile every Triton launch inside the block for sm_90 (H100, H200, H20), and run none.

    It takes tensors of any device and needs no GPU, since arguments are specialised exactly as a
    launch would specialise them. To be used in a process without TRITON_INTERPRET, of its own:
    Triton's driver is replaced for good.

    Yields:
        What has been compiled so far, in order.
    """
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    class Sm90Driver:
        """The part of a driver that a compilation asks for."""

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

    launches: list[Launch] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        assert len(kernel.asm["cubin"]) > 0
        launches.append(Launch(self.__name__, kernel.metadata.shared))
        return kernel

    driver.set_active(Sm90Driver())
    JITFunction.run = compile_only
    try:
        yield launches
    finally:
        JITFunction.run = run
