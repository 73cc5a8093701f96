"""`commit_tokens`: its rules by hand, progress, and Triton against PyTorch."""

import functools
import math
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from sdb_kernels.commit_tokens import commit_tokens
from sdb_kernels.testing import nan_filled_outputs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
BACKENDS = ("reference", pytest.param("triton", marks=needs_triton))
M, E = 99, 7  # mask, end


def step(
    block: list[int],
    proposals: list[int],
    confidence: list[float],
    backend: str,
    threshold: float = 0.5,
    end_id: int | None = None,
    is_infill: bool = False,
    steps_left: int | None = None,
    is_prefix: bool = False,
) -> tuple[list[int], int, bool]:
    """Run one row and return its block, the tokens committed and whether it is done."""
    row = torch.tensor([block], device=DEVICE)
    with nan_filled_outputs():
        num_committed, is_done = commit_tokens(
            row,
            torch.tensor([proposals], device=DEVICE),
            torch.tensor([confidence], device=DEVICE),
            mask_id=M,
            threshold=threshold,
            is_prefix=is_prefix,
            end_id=end_id,
            is_infill=torch.tensor([is_infill], device=DEVICE) if is_infill else None,
            steps_left=None
            if steps_left is None
            else torch.tensor([steps_left], dtype=torch.int32, device=DEVICE),
            backend=backend,
        )
    return row[0].tolist(), int(num_committed), bool(is_done)


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_above_the_threshold_are_written_and_nothing_else(backend: str) -> None:
    result = step([M, 3, M, M], [10, 11, 12, 13], [0.9, 0.9, 0.5, 0.6], backend)
    assert result == ([10, 3, M, 13], 2, False)  # 0.5 is not above 0.5
    assert step([M, M], [10, 11], [0.8, 0.9], backend) == ([10, 11], 2, True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_best_is_written_where_none_is_above_and_of_equals_the_leftmost(backend: str) -> None:
    assert step([M, M, M], [10, 11, 12], [0.1, 0.3, 0.2], backend) == ([M, 11, M], 1, False)
    assert step([1, M, M], [10, 11, 12], [0.9, 0.2, 0.2], backend) == ([1, 11, M], 1, False)
    assert step([M, M, M], [10, 11, 12], [0.0, 0.0, 0.0], backend) == ([10, M, M], 1, False)
    assert step([M, M], [10, 11], [math.nan, math.nan], backend) == ([10, M], 1, False)
    assert step([M, M], [10, 11], [math.nan, 0.1], backend) == ([M, 11], 1, False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_quota_spreads_the_masks_over_the_steps_left(backend: str) -> None:
    confidence = [0.1, 0.4, 0.2, 0.4, 0.3]
    ids = [10, 11, 12, 13, 14]
    for steps_left, expected in (
        (2, [M, 11, M, 13, 14]),  # ceil(5 / 2) = 3
        (1, ids),
        (5, [M, 11, M, M, M]),
        (0, ids),  # too late counts as the last step
        (-3, ids),
    ):
        block, num_committed, is_done = step(
            [M] * 5, ids, confidence, backend, threshold=math.inf, steps_left=steps_left
        )
        assert block == expected
        assert num_committed == sum(token != M for token in expected)
        assert is_done is (expected == ids)


@pytest.mark.parametrize("backend", BACKENDS)
def test_from_the_left_no_mask_is_left_in_front(backend: str) -> None:
    run = functools.partial(step, backend=backend, is_prefix=True)
    ids = [10, 11, 12, 13]
    assert run([M] * 4, ids, [0.9, 0.9, 0.5, 0.9]) == ([10, 11, M, M], 2, False)
    # The first one always, what is written already counts as sure.
    assert run([M] * 4, ids, [0.1, 0.9, 0.2, 0.9]) == ([10, 11, M, M], 2, False)
    assert run([1, M, 3, M], ids, [0.0, 0.1, 0.0, 0.9]) == ([1, 11, 3, 13], 2, True)
    assert run([M] * 4, ids, [math.nan] * 4) == ([10, M, M, M], 1, False)
    # A quota counts from the left as well, and is no end.
    assert run([M] * 4, ids, [0.1, 0.2, 0.9, 0.3], steps_left=2) == ([10, 11, 12, M], 3, False)
    # Nothing behind the start of the tail.
    tail = [10, E, E, E]
    assert run([M] * 4, tail, [0.9] * 4, end_id=E) == ([10, E, E, E], 2, True)
    assert run([M] * 4, tail, [0.9, 0.1, 0.9, 0.9], end_id=E) == ([10, M, M, M], 1, False)
    assert run([M, M, 3], tail[:3], [0.1, 0.9, 0.0], end_id=E, is_infill=True) == (
        [10, M, 3],
        1,
        False,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_counted_down_to_one(backend: str) -> None:
    steps_left = torch.tensor([3, 1, -2], dtype=torch.int32, device=DEVICE)
    block = torch.full((3, 4), M, device=DEVICE)
    commit_tokens(
        block, block * 0, torch.zeros(3, 4, device=DEVICE), mask_id=M, threshold=math.inf,
        steps_left=steps_left, backend=backend,
    )  # fmt: skip
    assert steps_left.tolist() == [2, 1, 1]
    assert (block == M).sum(dim=1).tolist() == [2, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tail_of_end_tokens_is_one_decision(backend: str) -> None:
    ids = [10, E, 12, E, E, E]
    # The tail starts at 3: nothing behind it is committed, whatever its confidence.
    result = step([M] * 6, ids, [0.9, 0.1, 0.1, 0.2, 0.99, 0.99], backend, end_id=E)
    assert result == ([10, M, M, M, M, M], 1, False)
    # Its start is, and closes the block.
    result = step([M] * 6, ids, [0.9, 0.1, 0.1, 0.8, 0.99, 0.99], backend, end_id=E)
    assert result == ([10, M, M, E, E, E], 2, False)
    # So does an end token before it.
    result = step([M] * 6, ids, [0.9, 0.7, 0.1, 0.8, 0.99, 0.99], backend, end_id=E)
    assert result == ([10, E, E, E, E, E], 3, True)
    # Without an end id it is a token like any other.
    result = step([M] * 6, ids, [0.9, 0.7, 0.1, 0.8, 0.99, 0.99], backend)
    assert result == ([10, E, M, E, E, E], 5, False)
    # A block of nothing but end tokens.
    assert step([M] * 3, [E] * 3, [0.2, 0.9, 0.9], backend, end_id=E) == ([E] * 3, 1, True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_infill_row_does_not_end_before_its_text(backend: str) -> None:
    result = step([M, M, 3], [E, 11, 0], [0.9, 0.2, 0.0], backend, end_id=E, is_infill=True)
    assert result == ([M, 11, 3], 1, False)
    result = step([M, 11, 3], [E, 0, 0], [0.9, 0.0, 0.0], backend, end_id=E, is_infill=True)
    assert result == ([E, 11, 3], 1, True)  # the only one left; it closes nothing
    # Nothing but end tokens to the end, the first of them given: still one step forward.
    result = step([E, M, M], [0, E, E], [0.0, 0.9, 0.9], backend, end_id=E, is_infill=True)
    assert result == ([E, E, M], 1, False)
    assert step([E, M, M], [0, 5, E], [0.0, 0.1, 0.9], backend, end_id=E) == ([E] * 3, 1, True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_without_masks_is_done_and_untouched(backend: str) -> None:
    assert step([1, 2, E, 4], [10] * 4, [0.9] * 4, backend) == ([1, 2, E, 4], 0, True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("end_id", [None, E])
def test_every_row_ends_within_as_many_steps_as_it_has_masks(
    backend: str, end_id: int | None
) -> None:
    rng = torch.Generator().manual_seed(1)
    block = torch.where(torch.rand(20, 9, generator=rng) < 0.8, M, 3).to(DEVICE)
    bound = (block == M).sum(dim=1)
    num_steps = torch.zeros_like(bound)
    for _ in range(9):
        is_open = (block == M).any(dim=1)
        num_steps += is_open
        before = (block == M).sum(dim=1)
        num_committed, is_done = commit_tokens(
            block,
            torch.randint(5, 9, (20, 9), generator=rng).to(DEVICE),
            torch.rand(20, 9, generator=rng).to(DEVICE) * 0.1,
            mask_id=M, threshold=0.5, end_id=end_id, backend=backend,
        )  # fmt: skip
        after = (block == M).sum(dim=1)
        assert (after[is_open] < before[is_open]).all()
        assert torch.equal(is_done, after == 0)
        assert not num_committed[~is_open].any()
    assert (num_steps <= bound).all()
    assert is_done.all()


def random_inputs(num_rows: int, block_size: int) -> dict[str, Tensor]:
    """Blocks with masks, end tokens, ties and NaN, and all the options."""
    rng = torch.Generator().manual_seed(num_rows * 1009 + block_size)
    kinds = torch.randint(0, 10, (num_rows, block_size), generator=rng)
    block = torch.where(kinds < 7, M, torch.where(kinds == 7, E, kinds))
    block[::5] = M
    confidence = torch.randint(0, 8, (num_rows, block_size), generator=rng) / 8  # many ties
    confidence[torch.rand(num_rows, block_size, generator=rng) < 0.05] = torch.nan
    proposals = torch.randint(5, 10, (num_rows, block_size), generator=rng)
    tail = torch.randint(0, block_size + 1, (num_rows, 1), generator=rng)
    proposals = torch.where(torch.arange(block_size) >= tail, E, proposals)
    return {
        "block": block.to(DEVICE),
        "proposals": proposals.to(DEVICE),
        "confidence": confidence.to(DEVICE),
        "is_infill": (torch.rand(num_rows, generator=rng) < 0.3).to(DEVICE),
        "steps_left": torch.randint(-1, 9, (num_rows,), generator=rng, dtype=torch.int32).to(
            DEVICE
        ),
    }


@needs_triton
@pytest.mark.parametrize("is_prefix", [False, True])
@pytest.mark.parametrize("options", ["plain", "end", "end and infill", "steps", "all"])
@pytest.mark.parametrize("size", [(40, 1), (40, 5), (40, 32), (7, 100)], ids=str)
def test_triton_writes_what_the_reference_writes(
    size: tuple[int, int], options: str, is_prefix: bool
) -> None:
    results = []
    for backend in ("reference", "triton"):
        given = random_inputs(*size)
        with nan_filled_outputs():
            outputs = commit_tokens(
                given["block"], given["proposals"], given["confidence"], mask_id=M,
                threshold=0.75 - 0.5 * is_prefix, is_prefix=is_prefix, backend=backend,
                end_id=None if options in ("plain", "steps") else E,
                is_infill=given["is_infill"] if options in ("end and infill", "all") else None,
                steps_left=given["steps_left"] if options in ("steps", "all") else None,
            )  # fmt: skip
        results.append([*outputs, given["block"], given["steps_left"]])
    for expected, actual in zip(*results, strict=True):
        assert torch.equal(expected, actual)


@needs_triton
def test_inputs_may_have_any_strides() -> None:
    given = random_inputs(9, 12)
    expected = given["block"].clone()
    commit_tokens(
        expected, given["proposals"], given["confidence"], mask_id=M, threshold=0.5, end_id=E,
        is_infill=given["is_infill"], steps_left=given["steps_left"].clone(), backend="reference",
    )  # fmt: skip
    block = given["block"].T.contiguous().T
    commit_tokens(
        block,
        given["proposals"].T.contiguous().T,
        given["confidence"].repeat_interleave(2, dim=1)[:, ::2],
        mask_id=M,
        threshold=0.5,
        end_id=E,
        is_infill=given["is_infill"].repeat_interleave(3)[::3],
        steps_left=given["steps_left"].repeat_interleave(2)[::2],
        backend="triton",
    )
    assert torch.equal(block, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rows(backend: str) -> None:
    empty = torch.empty(0, 4, dtype=torch.int64, device=DEVICE)
    num_committed, is_done = commit_tokens(
        empty, empty, empty.float(), mask_id=M, threshold=0.5, backend=backend
    )
    assert (num_committed.shape, is_done.shape) == ((0,), (0,))


B, C = torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": torch.zeros(2, 257, dtype=torch.int64)}, r"\[2, 257\]; .* from 1 to 256"),
        ({"block": torch.zeros(4, dtype=torch.int64)}, r"block is \[4\]; pass \[B, b\]"),
        ({"block": B.int()}, r"block is torch.int32 \[2, 4\]; pass torch.int64"),
        ({"proposals": B[:1]}, r"proposals is torch.int64 \[1, 4\]; pass torch.int64 \[2, 4\]"),
        ({"confidence": C.double()}, "confidence is torch.float64"),
        ({"confidence": C.to("meta")}, "confidence is on meta and block on cpu"),
        ({"is_infill": torch.zeros(3, dtype=torch.bool)}, "is_infill is torch.bool"),
        ({"steps_left": torch.zeros(2, dtype=torch.int64)}, "steps_left is torch.int64"),
        ({"end_id": M}, "end_id and mask_id are both 99"),
        ({"threshold": -0.1}, "threshold=-0.1 must be at least 0"),
        ({"threshold": math.nan}, "threshold=nan must be at least 0"),
    ],
)
def test_wrong_arguments_are_errors(arguments: dict[str, object], message: str) -> None:
    call: dict[str, object] = {
        "block": B, "proposals": B, "confidence": C, "mask_id": M, "threshold": 0.5
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        commit_tokens(**(call | arguments))  # type: ignore[arg-type]
