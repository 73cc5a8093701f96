"""What the tests and benchmarks of every operator share: a comparison, outputs of NaN, a compiler.

A kernel that forgets to write an element returns whatever lay in memory, which is often the
result of the previous call and therefore often right. `nan_filled_outputs` makes it wrong.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

RELATIVE_TOLERANCE = 1e-5
ABSOLUTE_TOLERANCE = 1e-6
BFLOAT16_STEP = 2.0**-7
"""The widest gap between neighbours in bfloat16, relative to the smaller one."""


def assert_close(reference: Tensor, actual: Tensor) -> None:
    """Fail unless a result equals its definition: integers exactly, floats within rounding.

    The tolerances are those of two float32 sums of the same terms in different order, and in
    bfloat16 one step of the result, or half a step of the largest, since factors may have been
    rounded before they were summed. They are not a parameter: an operator that needs wider ones
    has a wrong definition or a wrong kernel.

    Args:
        reference: What the definition returned.
        actual: What the implementation under test returned, of the same shape and dtype.

    Raises:
        AssertionError: Shape, dtype or a value differs, or a value is NaN.
    """
    is_float = reference.dtype.is_floating_point
    if is_float and bool(reference.isnan().any()):
        raise AssertionError("the reference itself holds NaN; the comparison would prove nothing")
    rtol, atol = RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE
    if reference.dtype == torch.bfloat16:
        largest = float(reference.abs().max()) if reference.numel() else 0.0
        rtol, atol = BFLOAT16_STEP, BFLOAT16_STEP * largest / 2
    torch.testing.assert_close(
        actual,
        reference,
        rtol=rtol if is_float else 0.0,
        atol=atol if is_float else 0.0,
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
    # Triton is optional, and what is replaced here has types of its own: Any.
    target = import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    runtime: Any = import_module("triton.runtime")
    function: Any = runtime.JITFunction

    class Sm90Driver:
        """The part of a driver that a compilation asks for."""

        def get_current_target(self) -> object:
            return target

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

    launches: list[Launch] = []
    run = function.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        assert len(kernel.asm["cubin"]) > 0
        launches.append(Launch(self.__name__, kernel.metadata.shared))
        return kernel

    runtime.driver.set_active(Sm90Driver())
    function.run = compile_only
    try:
        yield launches
    finally:
        function.run = run
