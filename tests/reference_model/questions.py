"""Counting what a program asks a device, on any device: each answer would stall a GPU's queue."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ASKING_OPERATORS = {
    "_local_scalar_dense",  # item, bool, int, float
    "argwhere",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "nonzero_numpy",
    "repeat_interleave",  # by a tensor: how long is the result?
    "unique_consecutive",
    "_unique2",
}
ASKING_METHODS = {
    "tolist",
    "item",
    "numpy",
    "cpu",
    *(f"__{name}__" for name in ("array", "bool", "complex", "float", "index", "int")),
}
"""What reads memory; on a processor by no operator, or by one that a mode does not see."""


class Questions:
    """Names of the questions that were asked inside the `with`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.modes = _Operators(self.asked), _Methods(self.asked)

    def __enter__(self) -> "Questions":
        for mode in self.modes:
            mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(*error)  # type: ignore[no-untyped-call]


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, asked: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked = asked

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket.__name__
        is_by_bool = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1])
        )
        is_nonzero = name == "where" and len(args) == 1
        if name in ASKING_OPERATORS or is_by_bool or is_nonzero:
            self.asked.append(f"{name} by bool" if is_by_bool else name)
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, asked: list[str]) -> None:
        super().__init__()
        self.asked = asked

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if (resolve_name(func) or "").rpartition(".")[2] in ASKING_METHODS:
            self.asked.append(str(resolve_name(func)).rpartition(".")[2])
        return func(*args, **(kwargs or {}))
