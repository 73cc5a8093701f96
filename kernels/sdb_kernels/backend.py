"""Which implementation of an operator runs: the PyTorch definition or the Triton kernel.

Every operator asks `choose` before it runs, and a caller that records provenance asks the same
question with the same arguments, so what is recorded is what ran. A backend that was asked for
and cannot run is an error; nothing is swapped behind the caller's back.
"""

import importlib.util
import os

import torch

BACKENDS = ("reference", "triton")
REQUEST_VARIABLE = "SDBENCH_KERNELS"


def choose(op: str, requested: str | None, device: torch.device | str) -> str:
    """Name the implementation of an operator that runs on a device.

    Without a request the choice is by capability: Triton on a CUDA device where Triton is
    installed, the reference everywhere else. Triton's interpreter runs only on request, since it
    is there for tests and thousands of times slower than the reference.

    Args:
        op: Operator name, used in the error message, e.g. `"head_select"`.
        requested: `"reference"`, `"triton"`, or None to read the environment variable
            `SDBENCH_KERNELS` and, where that is unset or empty, choose by capability.
        device: Where the operator's tensors live.

    Returns:
        `"reference"` or `"triton"`.

    Raises:
        ValueError: The request is not a backend's name.
        RuntimeError: Triton was requested and cannot run here.
    """
    request = requested or os.environ.get(REQUEST_VARIABLE) or None
    if request is not None and request not in BACKENDS:
        raise ValueError(f"kernel backend {request!r} is unknown; use one of {', '.join(BACKENDS)}")
    is_cuda = torch.device(device).type == "cuda"
    if request == "reference" or (request is None and not is_cuda):
        return "reference"
    obstacle = _what_stops_triton(torch.device(device))
    if obstacle is None:
        return "triton"
    if request is None:
        return "reference"
    raise RuntimeError(f"{op}: the triton backend cannot run: {obstacle}")


def _what_stops_triton(device: torch.device) -> str | None:
    """Return why Triton cannot run on a device and the way out, or None if it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; install seed-diffusion-bench[gpu] or request 'reference'"
    if device.type == "cuda":
        return None
    if os.environ.get("TRITON_INTERPRET") != "1":
        return (
            f"device {str(device)!r} is not a CUDA device; move the tensors, set "
            "TRITON_INTERPRET=1 to interpret the kernel, or request 'reference'"
        )
    if not _is_interpreting():
        return (
            "TRITON_INTERPRET=1 was set after triton had been imported; set it before Python "
            "starts, or request 'reference'"
        )
    return None


def _is_interpreting() -> bool:
    """Tell whether Triton's own library was loaded in interpreter mode.

    Triton reads the variable when a function is decorated, and its library (`tl.max`, `tl.sum`)
    is decorated on first import, so the variable alone does not say what will happen.
    """
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction

    return isinstance(tl.max, InterpretedFunction)
