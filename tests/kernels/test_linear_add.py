"""`linear_add`: every backend against float64, plain weights and e4m3."""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from sdb_kernels.backend import choose
from sdb_kernels.fp8 import Fp8Weight, quantise
from sdb_kernels.linear_add import linear_add
from sdb_kernels.testing import assert_close, nan_filled_outputs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
BACKENDS = ("addmm", "reference", pytest.param("triton", marks=needs_triton))
SIZES = [  # N, C, D: below, across and past the kernel's tiles of 32, 16 and 256
    (1, 7, 24),
    (33, 35, 200),
    (5, 64, 128),
    (32, 16, 257),
]


def draw(num_rows: int, num_columns: int, num_features: int, dtype: torch.dtype) -> list[Tensor]:
    """Return x [N, C], hidden [N, D] and a weight [C, D] of products of unit scale."""
    rng = torch.Generator().manual_seed(num_rows + num_columns + num_features)
    shapes = ((num_rows, num_columns), (num_rows, num_features), (num_columns, num_features))
    x, hidden, weight = (torch.randn(*shape, generator=rng) for shape in shapes)
    return [t.to(DEVICE, dtype) for t in (3 * x, hidden, weight * num_features**-0.5)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("is_fp8", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_a_product_and_a_sum(
    size: tuple[int, int, int], dtype: torch.dtype, is_fp8: bool, backend: str
) -> None:
    x, hidden, plain = draw(*size, dtype)
    weight: Tensor | Fp8Weight = plain
    wide = plain.double()
    if is_fp8:
        weight = quantise(plain)
        wide = weight.dequantise().double()
        if backend == "addmm":
            with pytest.raises(RuntimeError, match="it has no weights in 8 bits"):
                linear_add(x, hidden, weight, backend=backend)
            return
    with nan_filled_outputs():
        actual = linear_add(x, hidden, weight, backend=backend)
    assert_close((x.double() + hidden.double() @ wide.T).to(dtype), actual)


@needs_triton
def test_inputs_may_have_any_strides() -> None:
    x, hidden, weight = draw(9, 20, 40, torch.float32)
    expected = linear_add(x, hidden, weight, backend="reference")
    strided = [t.T.contiguous().T for t in (x, hidden, weight)]
    assert_close(expected, linear_add(*strided, backend="triton"))
    rounded = quantise(weight)
    scale = torch.stack((rounded.scale, rounded.scale), dim=1)[:, 0]
    strided_weight = Fp8Weight(rounded.values.T.contiguous().T, scale)
    expected = linear_add(x, hidden, rounded, backend="reference")
    assert_close(expected, linear_add(x, hidden, strided_weight, backend="triton"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_it_adds_in_place_if_told_to(dtype: torch.dtype, backend: str) -> None:
    x, hidden, weight = draw(33, 35, 200, dtype)
    strided = torch.stack((x, x), dim=2)[:, :, 0]
    expected = linear_add(x, hidden, weight, backend=backend)
    for target in (x, strided):
        assert linear_add(target, hidden, weight, out=target, backend=backend) is target
        assert_close(expected, target)
    with pytest.raises(ValueError, match="out is another tensor than x"):
        linear_add(x, hidden, weight, out=x.clone(), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rows_are_none(backend: str) -> None:
    x, hidden, weight = draw(3, 7, 24, torch.float32)
    assert linear_add(x[:0], hidden[:0], weight, backend=backend).shape == (0, 7)


def test_plain_weights_go_to_addmm_and_e4m3_to_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SDBENCH_KERNELS", raising=False)
    for device, kernel in (("cuda", "triton"), ("cpu", "reference")):
        assert choose("linear_add", None, device) == "addmm"
        assert choose("linear_add", None, device, is_fp8=True) == kernel


X, HIDDEN, WEIGHT = torch.zeros(3, 7), torch.zeros(3, 24), torch.zeros(7, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], HIDDEN, WEIGHT), r"x \[7\], hidden \[3, 24\] and weight \[7, 24\] do not fit"),
        ((X, HIDDEN[:2], WEIGHT), r"hidden \[2, 24\]"),
        ((X, HIDDEN, WEIGHT[:6]), r"weight \[6, 24\] do not fit"),
        ((X, HIDDEN, quantise(WEIGHT[:6])), r"weight \[6, 24\] do not fit"),
        ((X.double(), HIDDEN.double(), WEIGHT), r"x is torch.float64"),
        ((X, HIDDEN.bfloat16(), WEIGHT), r"hidden torch.bfloat16"),
        ((X, HIDDEN, WEIGHT.bfloat16()), r"weight is a Tensor of torch.bfloat16; pass a tensor of"),
        ((X, HIDDEN, WEIGHT.to("meta")), r"\['cpu', 'meta'\]; move them"),
    ],
)
def test_wrong_arguments_are_errors(
    arguments: tuple[Tensor, Tensor, Tensor | Fp8Weight], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        linear_add(*arguments)
