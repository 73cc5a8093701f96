"""The two fused projections: against PyTorch's modules in float64, and Triton against both."""

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_kernels.fp8 import Fp8Weight, quantise
from sdb_kernels.norm_gate_up_silu import norm_gate_up_silu
from sdb_kernels.norm_qkv_rope_append import norm_qkv_rope_append
from sdb_kernels.testing import assert_close, nan_filled_outputs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
BACKENDS = ("reference", pytest.param("triton", marks=needs_triton))
DTYPES = [torch.float32, torch.bfloat16]
EPS = 1e-5


def draw(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype) -> Tensor:
    rng = torch.Generator().manual_seed(seed + sum(shape))
    return (torch.randn(*shape, generator=rng) * scale).to(DEVICE, dtype)


def draw_weight(
    num_columns: int, num_features: int, dtype: torch.dtype, is_fp8: bool
) -> tuple[Tensor | Fp8Weight, Tensor]:
    """Return a weight, and what it stands for in float64."""
    weight = draw(num_columns, num_features, dtype=dtype, scale=num_features**-0.5)
    if not is_fp8:
        return weight, weight.double()
    rounded = quantise(weight)
    return rounded, rounded.dequantise().double()


def norm(x: Tensor, gain: Tensor) -> Tensor:
    return F.rms_norm(x.double(), gain.shape, gain.double(), EPS)


def project(x: Tensor, gain: Tensor, weight: Tensor) -> Tensor:
    """Return rms_norm(x) W^T in float64, but for the rounding that the definition names."""
    rounded = (x * gain).double()
    return rounded @ weight.T / (x.double().square().mean(dim=-1, keepdim=True) + EPS).sqrt()


def assert_near(expected: Tensor, actual: Tensor) -> None:
    assert_close(expected.to(actual.dtype), actual)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("is_fp8", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", [(1, 24, 7), (33, 200, 35), (5, 128, 64)], ids=str)
def test_gate_up_is_a_swiglu(
    size: tuple[int, int, int], dtype: torch.dtype, is_fp8: bool, backend: str
) -> None:
    num_rows, num_features, num_columns = size
    x = draw(num_rows, num_features, dtype=dtype, scale=3.0)
    gain = draw(num_features, dtype=dtype) + 1
    weight, wide = draw_weight(2 * num_columns, num_features, dtype, is_fp8)
    with nan_filled_outputs():
        actual = norm_gate_up_silu(x, gain, weight, eps=EPS, backend=backend)
    gate, up = project(x, gain, wide).chunk(2, dim=-1)
    assert_near(F.silu(gate) * up, actual)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_closed_gate_does_not_overflow(backend: str) -> None:
    x = torch.tensor([[1.0, -1.0]], device=DEVICE)
    weight = torch.tensor([[400.0, 0.0], [0.0, 400.0], [1.0, 0.0], [0.0, 1.0]], device=DEVICE)
    out = norm_gate_up_silu(x, torch.ones(2, device=DEVICE), weight, eps=1e-12, backend=backend)
    assert out.tolist() == [[400.0, 0.0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_of_zeros_stays_zero_and_no_rows_are_none(backend: str) -> None:
    weight, gain = draw(6, 8, dtype=torch.float32), torch.ones(8, device=DEVICE)
    zeros = torch.zeros(2, 8, device=DEVICE)
    assert not norm_gate_up_silu(zeros, gain, weight, eps=EPS, backend=backend).any()
    assert norm_gate_up_silu(zeros[:0], gain, weight, eps=EPS, backend=backend).shape == (0, 3)


def rotate_one_by_one(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair (e, e + E/2) of x [B, heads, L, E] as a complex number."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat((turned.real, turned.imag), dim=-1)


CASES = [  # B, L, D, H, G, E; bias, norm of heads, fp8, past per row, bfloat16
    ((1, 1, 24, 1, 1, 8), False, False, False, False, False),
    ((2, 5, 40, 4, 2, 8), True, False, False, True, False),
    ((2, 5, 40, 4, 2, 8), True, True, False, True, True),
    ((1, 33, 136, 3, 3, 64), False, True, False, False, False),
    ((2, 9, 64, 7, 1, 48), True, False, True, True, True),
    ((1, 4, 64, 2, 1, 80), False, True, True, True, False),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("size", "has_bias", "has_head_norm", "is_fp8", "has_lengths", "is_bf16"), CASES
)
def test_queries_keys_and_values_are_those_of_the_modules(
    size: tuple[int, ...],
    has_bias: bool,
    has_head_norm: bool,
    is_fp8: bool,
    has_lengths: bool,
    is_bf16: bool,
    backend: str,
) -> None:
    rows, length, num_features, num_heads, num_groups, width = size
    dtype = torch.bfloat16 if is_bf16 else torch.float32
    columns = (num_heads + 2 * num_groups) * width
    x = draw(rows, length, num_features, dtype=dtype, scale=3.0)
    gain = draw(num_features, dtype=dtype) + 1
    weight, wide = draw_weight(columns, num_features, dtype, is_fp8)
    bias = draw(columns, dtype=dtype) if has_bias else None
    query_gain = draw(width, dtype=dtype) + 1 if has_head_norm else None
    key_gain = draw(width, dtype=dtype, seed=1) + 1 if has_head_norm else None
    angles = draw(rows, length, width // 2, dtype=torch.float32, scale=3.0)
    keys = torch.full((rows, num_groups, length + 12, width), 7.0, dtype=dtype, device=DEVICE)
    values = keys.clone()
    past = list(range(3, 3 + rows)) if has_lengths else [4] * rows

    with nan_filled_outputs():
        queries = norm_qkv_rope_append(
            x, gain, weight, angles.cos(), angles.sin(), keys, values,
            num_past=torch.tensor(past, dtype=torch.int32, device=DEVICE) if has_lengths else 4,
            eps=EPS, bias=bias, query_gain=query_gain, key_gain=key_gain, backend=backend,
        )  # fmt: skip

    projected = project(x, gain, wide)
    if bias is not None:
        projected = projected + bias.double()
    heads = projected.view(rows, length, -1, width).transpose(1, 2)
    q, k, v = torch.split(heads, [num_heads, num_groups, num_groups], dim=1)
    if query_gain is not None and key_gain is not None:
        q, k = norm(q, query_gain), norm(k, key_gain)
    q, k = rotate_one_by_one(q, angles.double()), rotate_one_by_one(k, angles.double())
    assert_near(q, queries)
    assert queries.transpose(1, 2).is_contiguous()
    for row, start in enumerate(past):
        written = slice(start, start + length)
        assert_near(k[row], keys[row, :, written])
        assert_near(v[row], values[row, :, written])
        for cache in (keys, values):  # and nothing else was touched
            assert (cache[row, :, :start] == 7.0).all()
            assert (cache[row, :, start + length :] == 7.0).all()


@needs_triton
def test_inputs_may_have_any_strides_and_angles_serve_all_rows() -> None:
    x, gain = draw(2, 5, 24, dtype=torch.float32), draw(24, dtype=torch.float32)
    weight = draw(32, 24, dtype=torch.float32)
    angles = draw(1, 5, 4, dtype=torch.float32)
    results = []
    for backend in ("reference", "triton"):
        is_strided = backend == "triton"
        caches = [torch.zeros(2, 9, 8, 1, device=DEVICE).permute(0, 3, 1, 2) for _ in range(2)]
        queries = norm_qkv_rope_append(
            x.transpose(0, 1).contiguous().transpose(0, 1) if is_strided else x,
            gain,
            weight.T.contiguous().T if is_strided else weight,
            angles.cos(),
            angles.sin().transpose(1, 2).contiguous().transpose(1, 2),
            caches[0],
            caches[1],
            num_past=2,
            eps=EPS,
            backend=backend,
        )
        results.append([queries, *caches])
    for expected, actual in zip(*results, strict=True):
        assert_close(expected, actual)


X, GAIN, QKV = torch.zeros(2, 5, 24), torch.zeros(24), torch.zeros(32, 24)
ANGLES, CACHE = torch.zeros(2, 5, 4), torch.zeros(2, 1, 9, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X[0]}, r"x is torch.float32 \[5, 24\]; pass"),
        ({"x": X.double()}, r"x is torch.float64"),
        ({"gain": GAIN[:3]}, r"gain is torch.float32 \[3\]; pass torch.float32 \[24\]"),
        ({"weight": QKV[:30]}, r"weight \[30, 24\] does not fit"),
        ({"weight": QKV[:16]}, r"weight \[16, 24\] does not fit"),
        ({"weight": QKV.bfloat16()}, r"weight is a Tensor of torch.bfloat16; pass a tensor of"),
        (
            {"cos": ANGLES[:, :4]},
            r"cos is torch.float32 \[2, 4, 4\]; pass torch.float32 \[2, 5, 4\]",
        ),
        ({"values": CACHE[:, :, :3]}, "do not fit; pass twice"),
        ({"num_past": 5}, "num_past=5 and 5 new positions do not fit a cache of 9"),
        ({"num_past": torch.zeros(2)}, "num_past is torch.float32"),
        ({"query_gain": torch.zeros(8)}, "pass both of query_gain and key_gain"),
        ({"bias": torch.zeros(8)}, r"bias is torch.float32 \[8\]"),
        ({"gain": GAIN.to("meta")}, "gain is on meta and x on cpu"),
    ],
)
def test_wrong_arguments_of_the_projection_are_errors(
    arguments: dict[str, object], message: str
) -> None:
    call: dict[str, object] = {
        "x": X, "gain": GAIN, "weight": QKV, "cos": ANGLES, "sin": ANGLES, "keys": CACHE,
        "values": CACHE, "num_past": 0, "eps": EPS,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        norm_qkv_rope_append(**(call | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X}, r"x \[2, 5, 24\] and weight \[32, 24\] do not fit"),
        ({"weight": QKV[:3]}, r"weight \[3, 24\] do not fit"),
        ({"x": X[0].half()}, r"x is torch.float16"),
        ({"gain": GAIN.bfloat16()}, "gain is torch.bfloat16"),
        ({"weight": QKV.bfloat16()}, r"weight is a Tensor of torch.bfloat16; pass a tensor of"),
        ({"gain": GAIN.to("meta")}, r"\['cpu', 'meta'\]; move them"),
    ],
)
def test_wrong_arguments_of_the_gate_are_errors(arguments: dict[str, object], message: str) -> None:
    call: dict[str, object] = {"x": X[0], "gain": GAIN, "weight": QKV, "eps": EPS}
    with pytest.raises(ValueError, match=message):
        norm_gate_up_silu(**(call | arguments))  # type: ignore[arg-type]


def test_without_rounding_the_projection_is_that_of_the_norm_module() -> None:
    x, gain = draw(5, 24, dtype=torch.float64), draw(24, dtype=torch.float64)
    weight = draw(32, 24, dtype=torch.float64)
    torch.testing.assert_close(project(x, gain, weight), norm(x, gain) @ weight.T)
