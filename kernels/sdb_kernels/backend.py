"""Which implementation of an operator runs: the PyTorch definition, a Triton kernel, or a library.

Every operator asks `choose` before it runs, and a caller that records provenance asks the same
question with the same arguments, so what is recorded is what ran. A backend that was asked for
and cannot run is an error; nothing is swapped behind the caller's back.
"""

import importlib.util
import os

import torch

OPERATORS: dict[str, tuple[str, ...]] = {
    "head_select": ("triton", "reference"),
    "commit_tokens": ("triton", "reference"),
    "norm_qkv_rope_append": ("triton", "reference"),
    "norm_gate_up_silu": ("triton", "reference"),
    "linear_add": ("addmm", "triton", "reference"),
    "mask_ce": ("triton", "chunked", "reference"),
    "block_attention": ("triton", "sdpa", "reference", "flash_attn"),
}
"""The backends of each operator, best first; `reference` is its definition."""

REQUEST_VARIABLE = "SDBENCH_KERNELS"


def choose(
    op: str, requested: str | None, device: torch.device | str, *, is_fp8: bool = False
) -> str:
    """Name the implementation of an operator that runs on a device.

    Without a request it is the first of `OPERATORS[op]` that can run. Triton's interpreter runs
    only on request, since it is there for tests and thousands of times slower than the reference.

    Args:
        op: Operator name, a key of `OPERATORS`.
        requested: One of the operator's backends, or None to read the environment variable
            `SDBENCH_KERNELS` and, where that is unset or empty, choose by capability.
        device: Where the operator's tensors live.
        is_fp8: Whether its weight is an `Fp8Weight`.

    Returns:
        One of `OPERATORS[op]`.

    Raises:
        ValueError: The request is not a backend of this operator.
        RuntimeError: The requested backend cannot run here.
    """
    backends = OPERATORS[op]
    request = requested or os.environ.get(REQUEST_VARIABLE) or None
    place = torch.device(device)
    if request is None:
        return next(
            name
            for name in backends
            if _what_stops(name, place, is_asked=False, is_fp8=is_fp8) is None
        )
    if request not in backends:
        raise ValueError(
            f"kernel backend {request!r} is unknown to {op}; use one of {', '.join(backends)}"
        )
    obstacle = _what_stops(request, place, is_asked=True, is_fp8=is_fp8)
    if obstacle is not None:
        raise RuntimeError(f"{op}: the {request} backend cannot run: {obstacle}")
    return request


def _what_stops(backend: str, device: torch.device, is_asked: bool, is_fp8: bool) -> str | None:
    """Return why a backend cannot run on a device and the way out, or None if it can."""
    if backend == "addmm":
        return "it has no weights in 8 bits; request 'triton' or 'reference'" if is_fp8 else None
    if backend == "flash_attn":
        if importlib.util.find_spec("flash_attn") is None:
            return "flash-attn is not installed; pip install flash-attn, or request 'triton'"
        return None if device.type == "cuda" else f"device {str(device)!r} is not a CUDA device"
    if backend != "triton":
        return None
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; install seed-diffusion-bench[gpu] or request 'reference'"
    if device.type == "cuda":
        return None
    if not is_asked or os.environ.get("TRITON_INTERPRET") != "1":
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
