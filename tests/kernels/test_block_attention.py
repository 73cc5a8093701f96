"""`block_attention`: every backend against a loop over queries in float64, on odd sizes."""

from collections.abc import Sequence
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from sdb_kernels.block_attention import block_attention
from sdb_kernels.testing import assert_close, nan_filled_outputs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
BACKENDS = ("reference", "sdpa", pytest.param("triton", marks=needs_triton))
SIZES = [  # B, H, G, L, S, E: heads alone and grouped, one range of 256 keys and several
    (1, 1, 1, 1, 1, 8),
    (1, 4, 2, 5, 70, 8),
    (2, 14, 2, 4, 300, 64),
    (3, 6, 6, 33, 65, 24),
    (1, 8, 1, 20, 530, 16),
]
DTYPES = [torch.float32, torch.bfloat16]


def inputs(
    size: tuple[int, int, int, int, int, int], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries [B, H, L, E], keys and values [B, G, S, E]."""
    rows, num_heads, num_groups, num_queries, capacity, width = size
    rng = torch.Generator().manual_seed(sum(size))
    queries = torch.randn(rows, num_heads, num_queries, width, generator=rng) * 2
    keys = torch.randn(rows, num_groups, capacity, width, generator=rng)
    values = torch.randn(rows, num_groups, capacity, width, generator=rng)
    return queries.to(DEVICE, dtype), keys.to(DEVICE, dtype), values.to(DEVICE, dtype)


def attend_one_by_one(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    num_keys: list[int],
    first_key: list[int],
    block_size: int | None,
    num_causal: Sequence[int] = (0, 0, 0),
) -> Tensor:
    """Attend in float64, one query after the other, over nothing but the keys it sees."""
    attended = torch.zeros(queries.shape, dtype=torch.float64, device=queries.device)
    rows, num_heads, num_queries, width = queries.shape
    for row in range(rows):
        for head in range(num_heads):
            group = head * keys.shape[1] // num_heads
            for query in range(num_queries):
                end = num_keys[row]
                if block_size is not None:
                    own_block = query // block_size
                    end = min(end, end - num_queries + (own_block + 1) * block_size)
                if query < num_causal[row]:
                    end = num_keys[row] - num_queries + query + 1
                seen = slice(first_key[row], end)
                if first_key[row] < end:
                    k, v = keys[row, group, seen].double(), values[row, group, seen].double()
                    scores = k @ queries[row, head, query].double() / width**0.5
                    attended[row, head, query] = scores.softmax(dim=0) @ v
    return attended


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_full_block_is_softmax_attention(
    size: tuple[int, int, int, int, int, int], dtype: torch.dtype, backend: str
) -> None:
    queries, keys, values = inputs(size, dtype)
    rows, _, _, num_queries, capacity, _ = size
    num_keys = max(num_queries, capacity - 2)
    expected = attend_one_by_one(queries, keys, values, [num_keys] * rows, [0] * rows, None)
    with nan_filled_outputs():
        actual = block_attention(queries, keys, values, num_keys=num_keys, backend=backend)
    assert_close(expected.to(dtype), actual)
    assert actual.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("block_size", "num_causal"),
    [(None, None), (1, None), (3, None), (4, None), (20, None), (None, [0, 4, 9]), (4, [6, 0, 3])],
)
def test_blocks_and_padding_and_lengths_per_row(
    block_size: int | None, num_causal: list[int] | None, backend: str
) -> None:
    queries, keys, values = inputs((3, 4, 2, 9, 300, 8))
    # The last row's padding reaches into its queries: some of them see nothing.
    num_keys, first_key = [300, 9, 20], [0, 0, 16]
    for row in range(3):  # what is not in use was never written
        keys[row, :, num_keys[row] :] = torch.nan
        values[row, :, num_keys[row] :] = torch.nan
    expected = attend_one_by_one(
        queries, keys, values, num_keys, first_key, block_size, num_causal or [0, 0, 0]
    ).float()
    is_blind = block_size in (1, 3, 4) or num_causal is not None
    assert bool((expected[2] == 0).all(dim=-1).any()) == is_blind
    with nan_filled_outputs():
        actual = block_attention(
            queries,
            keys,
            values,
            num_keys=torch.tensor(num_keys, dtype=torch.int32, device=DEVICE),
            first_key=torch.tensor(first_key, dtype=torch.int32, device=DEVICE),
            num_causal=None
            if num_causal is None
            else torch.tensor(num_causal, dtype=torch.int32, device=DEVICE),
            block_size=block_size,
            backend=backend,
        )
    assert_close(expected, actual)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_scores_do_not_overflow_and_a_scale_is_a_scale(backend: str) -> None:
    queries, keys, values = inputs((1, 2, 1, 3, 40, 8))
    by_scale = block_attention(queries, keys, values, num_keys=40, scale=200.0, backend=backend)
    winner = (queries.double() @ keys.double().transpose(-1, -2)).argmax(dim=-1)  # [1, 2, 3]
    assert_close(values[0, 0][winner], by_scale)


@needs_triton
def test_a_row_does_not_depend_on_its_neighbours_or_the_capacity() -> None:
    queries, keys, values = inputs((2, 4, 2, 5, 600, 8))
    lengths = torch.tensor([530, 100], dtype=torch.int32, device=DEVICE)
    together = block_attention(queries, keys, values, num_keys=lengths, backend="triton")
    for row, length in enumerate(lengths.tolist()):
        own = slice(row, row + 1)
        for capacity in (length, 600):
            apart = block_attention(
                queries[own], keys[own, :, :capacity], values[own, :, :capacity],
                num_keys=length, backend="triton",
            )  # fmt: skip
            assert torch.equal(together[own], apart)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_may_have_any_strides(backend: str) -> None:
    queries, keys, values = inputs((2, 4, 2, 5, 70, 8))
    expected = block_attention(queries, keys, values, num_keys=60, backend="reference")
    actual = block_attention(
        queries.transpose(1, 2).contiguous().transpose(1, 2),
        keys.transpose(1, 3).contiguous().transpose(1, 3),
        torch.stack((values, values * 0), dim=2)[:, :, 0],
        num_keys=60,
        backend=backend,
    )
    assert_close(expected, actual)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rows(backend: str) -> None:
    queries, keys, values = inputs((2, 4, 2, 5, 70, 8))
    attended = block_attention(queries[:0], keys[:0], values[:0], num_keys=60, backend=backend)
    assert attended.shape == (0, 4, 5, 8)


Q, K = torch.zeros(2, 4, 5, 8), torch.zeros(2, 2, 20, 8)
INT = torch.zeros(2, dtype=torch.int32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": K[:, :, :9]}, r"values \[2, 2, 9, 8\] do not fit"),
        ({"queries": Q[:, 0]}, r"queries \[2, 5, 8\], .* do not fit; pass \[B, H, L, E\]"),
        ({"queries": Q[:1]}, "rows and head widths must be equal"),
        ({"queries": Q[:, :3]}, "the key heads divide the query heads"),
        ({"queries": Q.bfloat16()}, "queries are torch.bfloat16, keys torch.float32"),
        ({"num_keys": 4}, "num_keys=4 must be from 5, the queries' own keys, to 20"),
        ({"num_keys": 21}, "num_keys=21 must be from 5"),
        ({"num_keys": INT.long()}, r"num_keys is torch.int64 \[2\]; pass torch.int32 \[2\]"),
        ({"first_key": INT[:1]}, r"first_key is torch.int32 \[1\]; pass torch.int32 \[2\]"),
        ({"first_key": INT.to("meta")}, r"\['cpu', 'meta'\]; move them to one device"),
        ({"num_causal": INT.long()}, r"num_causal is torch.int64 \[2\]; pass torch.int32 \[2\]"),
        ({"block_size": 0}, "block_size=0 must be at least 1, or None"),
    ],
)
def test_wrong_arguments_are_errors(arguments: dict[str, object], message: str) -> None:
    call: dict[str, object] = {"queries": Q, "keys": K, "values": K, "num_keys": 20}
    with pytest.raises(ValueError, match=message):
        block_attention(**(call | arguments))  # type: ignore[arg-type]


def test_flash_attn_is_refused_where_it_cannot_run() -> None:
    if DEVICE == "cpu":
        with pytest.raises(RuntimeError, match="block_attention: the flash_attn backend cannot"):
            block_attention(Q, K, K, num_keys=20, backend="flash_attn")


@pytest.mark.gpu
@pytest.mark.skipif(
    DEVICE == "cpu" or find_spec("flash_attn") is None, reason="needs a GPU and flash-attn"
)
def test_flash_attn_agrees() -> None:
    queries, keys, values = inputs((2, 14, 2, 32, 300, 64), torch.bfloat16)
    for block_size in (None, 1):
        expected, actual = (
            block_attention(
                queries, keys, values, num_keys=290, block_size=block_size, backend=backend
            )
            for backend in ("reference", "flash_attn")
        )
        torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.01)
    with pytest.raises(ValueError, match=r"flash_attn cannot attend in .* with block_size=4"):
        block_attention(queries, keys, values, num_keys=290, block_size=4, backend="flash_attn")
    two = torch.tensor([2, 2], dtype=torch.int32, device=DEVICE)
    with pytest.raises(ValueError, match=r"flash_attn cannot attend in .* with num_causal"):
        block_attention(queries, keys, values, num_keys=290, num_causal=two, backend="flash_attn")
