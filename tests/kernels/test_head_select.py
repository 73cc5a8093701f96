"""`head_select`: the reference against float64, and Triton against the reference.

Without a CUDA device the kernel runs on Triton's interpreter (see conftest.py); that it compiles
for a GPU is tested in test_compilation.py.
"""

from importlib.util import find_spec

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sdb_kernels.fp8 import Fp8Weight, quantise
from sdb_kernels.head_select import head_select
from sdb_kernels.head_select.reference import exponential_noise, hash_bits
from sdb_kernels.testing import assert_close, nan_filled_outputs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
BACKENDS = ("reference", pytest.param("triton", marks=needs_triton))
SIZES = [  # N, D, V: below, across and past the kernel's tiles of 32, 64 and 128
    (1, 24, 7),
    (1, 100, 515),
    (3, 40, 63),
    (3, 24, 515),
    (17, 100, 130),
    (17, 40, 7),
    (33, 40, 515),
    (33, 100, 63),
]
INT64 = torch.iinfo(torch.int64)


def inputs(
    num_rows: int, num_features: int, vocabulary_size: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden [N, D], weight [V, D] with logits of unit-ish scale, and seeds [N]."""
    rng = torch.Generator().manual_seed(
        num_rows * 1_000_003 + num_features * 1009 + vocabulary_size
    )
    hidden = torch.randn(num_rows, num_features, generator=rng)
    weight = torch.randn(vocabulary_size, num_features, generator=rng) * 3 / num_features**0.5
    seeds = torch.randint(INT64.min, INT64.max, (num_rows,), generator=rng)
    return hidden.to(DEVICE, dtype), weight.to(DEVICE, dtype), seeds.to(DEVICE)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("forbidden_id", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_greedy_is_argmax_and_softmax_in_float64(
    size: tuple[int, int, int], dtype: torch.dtype, forbidden_id: int | None, backend: str
) -> None:
    hidden, weight, _ = inputs(*size, dtype)
    logits = hidden.double() @ weight.double().T
    if forbidden_id is not None:
        logits[:, forbidden_id] = -torch.inf
    confidence, token_ids = logits.softmax(dim=-1).max(dim=-1)
    with nan_filled_outputs():
        actual = head_select(hidden, weight, forbidden_id=forbidden_id, backend=backend)
    assert_close(token_ids, actual[0])
    assert_close(confidence.float(), actual[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", [SIZES[1], SIZES[4], SIZES[7]], ids=str)
def test_a_weight_in_8_bits_is_the_weight_that_it_stands_for(
    size: tuple[int, int, int], dtype: torch.dtype, temperature: float, backend: str
) -> None:
    hidden, weight, seeds = inputs(*size, dtype)
    rounded = quantise(weight)
    with nan_filled_outputs():
        token_ids, confidence = head_select(
            hidden, rounded, forbidden_id=2, temperature=temperature, seeds=seeds, backend=backend
        )
    logits = hidden.double() @ rounded.dequantise().double().T
    logits[:, 2] = -torch.inf
    expected = head_select(
        hidden.float(), rounded.dequantise(), forbidden_id=2, temperature=temperature, seeds=seeds
    )
    assert_close(expected[0], token_ids)
    assert_close(logits.softmax(-1).gather(-1, token_ids[:, None])[:, 0].float(), confidence)


@needs_triton
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_triton_draws_what_the_reference_draws(
    size: tuple[int, int, int], dtype: torch.dtype, temperature: float
) -> None:
    hidden, weight, seeds = inputs(*size, dtype)
    expected = head_select(
        hidden, weight, forbidden_id=2, temperature=temperature, seeds=seeds, backend="reference"
    )
    with nan_filled_outputs():
        actual = head_select(
            hidden, weight, forbidden_id=2, temperature=temperature, seeds=seeds, backend="triton"
        )
    assert_close(expected[0], actual[0])
    assert_close(expected[1], actual[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_confidence_of_a_draw_is_its_probability_at_temperature_1(backend: str) -> None:
    hidden, weight, seeds = inputs(33, 40, 130)
    token_ids, confidence = head_select(
        hidden, weight, forbidden_id=5, temperature=2.5, seeds=seeds, backend=backend
    )
    logits = hidden.double() @ weight.double().T
    logits[:, 5] = -torch.inf
    assert (token_ids != logits.argmax(dim=-1)).any()
    assert_close(logits.softmax(-1).gather(-1, token_ids[:, None])[:, 0].float(), confidence)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_of_equal_logits_the_smallest_id_wins(dtype: torch.dtype, backend: str) -> None:
    # Small integers: every sum is exact, so equal means equal in any order of summation.
    weight = torch.zeros(515, 24, dtype=dtype, device=DEVICE)
    weight[[5, 127, 128, 300, 514]] = 2.0
    hidden = torch.ones(3, 24, dtype=dtype, device=DEVICE)
    in_8_bits = Fp8Weight(weight.to(torch.float8_e4m3fn), torch.full((515,), 0.5, device=DEVICE))
    for forbidden_id, winner, form in (
        (None, 5, weight),
        (5, 127, weight),
        (300, 5, weight),
        (5, 127, in_8_bits),
    ):
        token_ids, confidence = head_select(
            hidden, form, forbidden_id=forbidden_id, backend=backend
        )
        assert token_ids.tolist() == [winner] * 3
        num_equal = 5 if forbidden_id is None else 4
        assert_close(torch.full((3,), 1 / num_equal, device=DEVICE), confidence)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_flat_row_gives_id_zero_and_one_over_the_vocabulary(backend: str) -> None:
    hidden, weight, _ = inputs(3, 40, 515)
    token_ids, confidence = head_select(hidden * 0, weight, forbidden_id=514, backend=backend)
    assert token_ids.tolist() == [0, 0, 0]
    assert_close(torch.full((3,), 1 / 514, device=DEVICE), confidence)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_forbidden_id_is_never_chosen_and_has_no_mass(backend: str, temperature: float) -> None:
    hidden, weight, seeds = inputs(17, 40, 129)  # 129: the second tile holds one id
    for forbidden_id in (0, 128):
        weight_up = weight.clone()
        weight_up[forbidden_id] = hidden.sum(dim=0) * 50  # the largest logit by far in most rows
        weight_away = weight.clone()
        weight_away[forbidden_id] = 0
        up, away = (
            head_select(
                hidden, w, forbidden_id=forbidden_id, temperature=temperature, seeds=seeds,
                backend=backend,
            )
            for w in (weight_up, weight_away)
        )  # fmt: skip
        assert (up[0] != forbidden_id).all()
        assert_close(away[0], up[0])
        assert_close(away[1], up[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1.0, 1e6])
def test_a_vocabulary_of_one_allowed_id(backend: str, temperature: float) -> None:
    hidden, weight, seeds = inputs(3, 24, 2)
    token_ids, confidence = head_select(
        hidden, weight, forbidden_id=0, temperature=temperature, seeds=seeds, backend=backend
    )
    assert token_ids.tolist() == [1, 1, 1]
    assert confidence.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_rows(backend: str, temperature: float) -> None:
    hidden, weight, seeds = inputs(0, 24, 63)
    token_ids, confidence = head_select(
        hidden, weight, forbidden_id=None, temperature=temperature, seeds=seeds, backend=backend
    )
    assert (token_ids.shape, token_ids.dtype) == ((0,), torch.int64)
    assert (confidence.shape, confidence.dtype) == ((0,), torch.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_large_logits_do_not_overflow(backend: str, sign: int) -> None:
    # Multiples of 128 below 2**31: exact in float32, and no two closer than any noise.
    hidden, weight, seeds = inputs(17, 40, 515)
    hidden = (hidden.abs() * 4).round()
    weight = (weight.abs() * 1000).round() * 128 * sign
    for temperature in (0.0, 0.5):
        token_ids, confidence = head_select(
            hidden, weight, forbidden_id=1, temperature=temperature, seeds=seeds, backend=backend
        )
        logits = hidden.double() @ weight.double().T
        logits[:, 1] = -torch.inf
        assert logits.abs().max() > 1e6
        assert_close(logits.argmax(dim=-1), token_ids)
        assert_close(torch.ones(17, device=DEVICE), confidence)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, in the interpreter
def test_a_row_with_nan_says_so_and_leaves_the_others_alone(backend: str) -> None:
    hidden, weight, seeds = inputs(17, 40, 130)
    for temperature in (0.0, 0.7):
        good = head_select(
            hidden, weight, forbidden_id=1, temperature=temperature, seeds=seeds, backend=backend
        )
        broken = hidden.clone()
        broken[4, 3] = torch.nan
        token_ids, confidence = head_select(
            broken, weight, forbidden_id=1, temperature=temperature, seeds=seeds, backend=backend
        )
        assert confidence[4].isnan()
        assert 0 <= int(token_ids[4]) < 130
        others = torch.arange(17, device=DEVICE) != 4
        assert torch.equal(token_ids[others], good[0][others])
        assert torch.equal(confidence[others], good[1][others])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_row_does_not_depend_on_the_rows_beside_it(backend: str, temperature: float) -> None:
    hidden, weight, seeds = inputs(70, 40, 515)  # three row tiles of the kernel
    together = head_select(
        hidden, weight, forbidden_id=3, temperature=temperature, seeds=seeds, backend=backend
    )
    same_place = torch.arange(32, 70)  # in their tile of 32
    for rows in (same_place, torch.tensor([69]), torch.tensor([40, 2]), torch.arange(69, -1, -1)):
        is_exact = backend == "triton" and (DEVICE == "cuda" or rows is same_place)
        rows = rows.to(DEVICE)
        apart = head_select(
            hidden[rows], weight, forbidden_id=3, temperature=temperature, seeds=seeds[rows],
            backend=backend,
        )  # fmt: skip
        assert torch.equal(together[0][rows], apart[0])
        # To the bit on a GPU; the interpreter multiplies by NumPy, torch.matmul by its own library,
        # and both may sum a row in another order at another place.
        if is_exact:
            assert torch.equal(together[1][rows], apart[1])
        else:
            assert_close(together[1][rows], apart[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_may_have_any_strides(backend: str) -> None:
    hidden, weight, seeds = inputs(17, 40, 130)
    expected = head_select(
        hidden, weight, forbidden_id=1, temperature=1.0, seeds=seeds, backend="reference"
    )
    strided_hidden = hidden.repeat_interleave(2, dim=0)[::2]
    strided_weight = weight.T.contiguous().T
    strided_seeds = torch.stack([seeds, seeds + 1], dim=1)[:, 0]
    assert strided_weight.stride() == (1, 130)
    assert strided_seeds.stride() == (2,)
    actual = head_select(
        strided_hidden, strided_weight, forbidden_id=1, temperature=1.0, seeds=strided_seeds,
        backend=backend,
    )  # fmt: skip
    assert_close(expected[0], actual[0])
    assert_close(expected[1], actual[1])


@needs_triton
def test_triton_makes_no_tensor_the_size_of_the_logits() -> None:
    hidden, weight, seeds = inputs(33, 4, 515)
    for temperature in (0.0, 1.0):
        with LargestResult() as triton_run:  # type: ignore[no-untyped-call]
            head_select(
                hidden, weight, forbidden_id=1, temperature=temperature, seeds=seeds,
                backend="triton",
            )  # fmt: skip
        assert triton_run.num_elements < 33 * 515
    with LargestResult() as reference_run:  # type: ignore[no-untyped-call]
        head_select(hidden, weight, forbidden_id=1, backend="reference")
    assert reference_run.num_elements == 33 * 515


class LargestResult(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the most elements any PyTorch operation returned."""

    num_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.num_elements = max(self.num_elements, result.numel())
        return result


@pytest.mark.parametrize("spread", [1, 1 << 32], ids=["low half", "high half"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float, spread: int) -> None:
    num_draws = 20_000
    logits = torch.tensor([0.3, -1.0, 1.2, 0.0, -0.4, 0.9, -2.0])
    weight = logits[:, None].expand(7, 24).contiguous() / 24
    token_ids, _ = head_select(
        torch.ones(num_draws, 24),
        weight,
        forbidden_id=5,
        temperature=temperature,
        seeds=torch.arange(num_draws) * spread,  # neighbours: the hardest case for a hash
    )
    counts = token_ids.bincount(minlength=7).double()
    assert counts[5] == 0
    logits[5] = -torch.inf
    expected = (logits.double() / temperature).softmax(dim=-1) * num_draws
    allowed = torch.arange(7) != 5
    assert stats.chisquare(counts[allowed].numpy(), expected[allowed].numpy()).pvalue > 1e-3


def test_draws_of_neighbouring_seeds_are_independent() -> None:
    num_draws = 20_000
    token_ids, _ = head_select(
        torch.zeros(num_draws, 24),
        torch.zeros(5, 24),
        forbidden_id=None,
        temperature=1.0,
        seeds=torch.arange(num_draws),
    )
    pairs = (token_ids[:-1] * 5 + token_ids[1:]).bincount(minlength=25)
    assert stats.chisquare(pairs.numpy()).pvalue > 1e-3


def test_noise_is_exponential_and_never_zero_or_infinite() -> None:
    noise = exponential_noise(torch.arange(100), 5_000)
    assert stats.kstest(noise.flatten().double().numpy(), "expon").pvalue > 1e-3
    assert noise.min() >= 2**-32
    assert noise.max() < 16.7
    assert (
        len(set(noise.flatten().tolist())) > 0.95 * noise.numel()
    )  # few ties: the low bits survive


def test_hash_is_the_one_the_readme_states() -> None:
    seeds = [0, 1, -1, INT64.min, INT64.max, 0x0123456789ABCDEF]
    bits = hash_bits(torch.tensor(seeds), 130)
    expected = [[hash_in_integers(seed, token_id) for token_id in range(130)] for seed in seeds]
    assert (bits.long() & 0xFFFFFFFF).tolist() == expected


def hash_in_integers(seed: int, token_id: int) -> int:
    """Compute the hash of kernels/sdb_kernels/head_select/README.md with Python's integers."""

    def fmix32(h: int, key: int = 0) -> int:
        h = (h ^ h >> 16) * 0x85EBCA6B % 2**32 ^ key
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        return h ^ h >> 16

    key_0 = fmix32((seed + 0x9E3779B9) % 2**32)
    key_1 = fmix32(seed >> 32 & 0xFFFFFFFF ^ key_0)
    return fmix32((token_id * 0x9E3779B9 + key_0) % 2**32, key_1)


H, W, S = torch.zeros(3, 24), torch.zeros(7, 24), torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": torch.zeros(3, 25)}, r"\[3, 25\] and weight \[7, 24\] do not fit"),
        ({"hidden": torch.zeros(24)}, r"pass \[N, D\] and \[V, D\]"),
        ({"weight": W.bfloat16()}, "weight torch.bfloat16"),
        ({"hidden": H.double(), "weight": W.double()}, "hidden is torch.float64"),
        ({"forbidden_id": 7}, r"forbidden_id=7 is outside \[0, 7\)"),
        ({"forbidden_id": -1}, "forbidden_id=-1 is outside"),
        ({"weight": W[:1], "forbidden_id": 0}, "a vocabulary of 1 leaves no id"),
        ({"weight": W[:0]}, "a vocabulary of 0 leaves no id"),
        ({"temperature": -1.0}, "temperature=-1.0 is neither"),
        ({"temperature": 1e-9}, "neither 0 nor at least 1e-06"),
        ({"temperature": float("nan")}, "temperature=nan is neither"),
        ({"temperature": float("inf")}, "temperature=inf is neither"),
        ({"temperature": 1.0, "seeds": None}, "pass seeds, one per row"),
        ({"seeds": S[:2]}, r"seeds is torch.int64 \[2\]; pass torch.int64 \[3\]"),
        ({"seeds": S.int()}, "seeds is torch.int32"),
        ({"weight": W.to("meta")}, r"\['cpu', 'meta'\]; move them to one device"),
    ],
)
def test_wrong_arguments_are_errors(arguments: dict[str, object], message: str) -> None:
    call: dict[str, object] = {"hidden": H, "weight": W, "forbidden_id": None, "seeds": S}
    with pytest.raises(ValueError, match=message):
        head_select(**(call | arguments))  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(
    DEVICE == "cpu" or find_spec("triton") is None,
    reason="needs a CUDA device and Triton: it measures the GPU's memory",
)
def test_no_logits_are_kept() -> None:
    num_rows, width, vocabulary_size = 32, 896, 151_936
    hidden = torch.randn(num_rows, width, device=DEVICE, dtype=torch.bfloat16)
    weight = torch.randn(vocabulary_size, width, device=DEVICE, dtype=torch.bfloat16)
    logits_bytes = num_rows * vocabulary_size * 2

    def measure_peak(backend: str) -> int:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        head_select(hidden, weight, forbidden_id=3, backend=backend)
        return torch.cuda.max_memory_allocated() - before

    assert measure_peak("triton") < logits_bytes / 4
    assert measure_peak("reference") > logits_bytes  # the definition does keep them
