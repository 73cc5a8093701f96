"""`mask_ce`: loss and gradients of every backend against PyTorch's in float64, on odd sizes."""

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_kernels.mask_ce import mask_ce
from sdb_kernels.testing import assert_close, nan_filled_outputs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
TRITON = pytest.param("triton", marks=needs_triton)
BACKENDS = ("reference", "chunked", TRITON)
SIZES = [(1, 24, 7), (3, 100, 129), (65, 40, 515), (17, 16, 300)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks even of a small vocabulary, and a last one that is not full."""
    monkeypatch.setattr("sdb_kernels.mask_ce.chunked.CHUNK", 200)
    if find_spec("triton") is not None:
        monkeypatch.setattr("sdb_kernels.mask_ce.kernel.CHUNK", 256)


def inputs(
    size: tuple[int, int, int], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return hidden [N, D], weight [V, D], targets [N] other than 2, row weights [N], some 0."""
    num_rows, num_features, vocabulary_size = size
    rng = torch.Generator().manual_seed(sum(size))
    hidden = torch.randn(num_rows, num_features, generator=rng)
    weight = torch.randn(vocabulary_size, num_features, generator=rng) * 3 / num_features**0.5
    targets = torch.randint(3, vocabulary_size, (num_rows,), generator=rng)
    row_weights = torch.rand(num_rows, generator=rng) * 4
    row_weights[1::4] = 0.0
    targets[1::4] = 2  # forbidden, but without weight
    return (
        hidden.to(DEVICE, dtype).requires_grad_(),
        weight.to(DEVICE, dtype).requires_grad_(),
        targets.to(DEVICE),
        row_weights.to(DEVICE),
    )


def compute_in_float64(
    hidden: Tensor, weight: Tensor, targets: Tensor, row_weights: Tensor, forbidden_id: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return 3 times the loss's gradients, and the loss."""
    h, w = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    is_allowed = torch.arange(len(w), device=w.device) != (
        -1 if forbidden_id is None else forbidden_id
    )
    logits = (h @ w.T).masked_fill(~is_allowed, -torch.inf)
    losses = F.cross_entropy(logits, targets, reduction="none")
    loss = (losses[row_weights != 0] * row_weights[row_weights != 0].double()).sum()
    torch.autograd.backward(3 * loss)
    assert h.grad is not None
    assert w.grad is not None
    return loss.detach(), h.grad, w.grad


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("forbidden_id", [None, 2])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_loss_and_gradients_are_those_of_float64(
    size: tuple[int, int, int], forbidden_id: int | None, backend: str
) -> None:
    hidden, weight, targets, row_weights = inputs(size)
    expected = compute_in_float64(hidden, weight, targets, row_weights, forbidden_id)
    with nan_filled_outputs():
        loss = mask_ce(
            hidden, weight, targets, row_weights, forbidden_id=forbidden_id, backend=backend
        )
        torch.autograd.backward(3 * loss)
    assert loss.dtype == torch.float32
    for wanted, actual in zip(expected, (loss.detach(), hidden.grad, weight.grad), strict=True):
        assert actual is not None
        # Sums of up to 65 terms that cancel: rounding relative to the largest.
        scale = max(1.0, float(wanted.abs().max()))
        assert_close(wanted.float() / scale, actual / scale)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_is_within_its_steps(backend: str) -> None:
    hidden, weight, targets, row_weights = inputs((33, 40, 515), torch.bfloat16)
    expected = compute_in_float64(hidden, weight, targets, row_weights, 2)
    loss = mask_ce(hidden, weight, targets, row_weights, forbidden_id=2, backend=backend)
    torch.autograd.backward(3 * loss)
    assert_close(expected[0].float(), loss.detach())
    assert hidden.grad is not None
    assert weight.grad is not None
    assert_close(expected[1].bfloat16(), hidden.grad)
    assert_close(expected[2].bfloat16(), weight.grad)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_masked_and_no_weight_give_zero(backend: str) -> None:
    hidden, weight, targets, row_weights = inputs((3, 24, 130))
    for rows, scale in ((slice(0, 0), 1.0), (slice(0, 3), 0.0)):
        hidden.grad = weight.grad = None
        loss = mask_ce(
            hidden[rows], weight, targets[rows], row_weights[rows] * scale, forbidden_id=2,
            backend=backend,
        )  # fmt: skip
        torch.autograd.backward(loss)
        assert loss.item() == 0.0
        for grad in (hidden.grad, weight.grad):
            assert grad is not None
            assert not grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_logits_do_not_overflow(backend: str) -> None:
    hidden, weight, targets, row_weights = inputs((5, 24, 300))
    with torch.no_grad():
        hidden *= 300
    expected = compute_in_float64(hidden, weight, targets, row_weights, 2)
    loss = mask_ce(hidden, weight, targets, row_weights, forbidden_id=2, backend=backend)
    assert expected[0] > 1000
    assert_close(expected[0].float(), loss.detach())


@pytest.mark.parametrize("backend", ["chunked", TRITON])
def test_inputs_may_have_any_strides(backend: str) -> None:
    hidden, weight, targets, row_weights = inputs((9, 24, 300))
    expected = mask_ce(hidden, weight, targets, row_weights, forbidden_id=2, backend="reference")
    actual = mask_ce(
        hidden.T.contiguous().T,
        weight.T.contiguous().T,
        targets.repeat_interleave(2)[::2],
        row_weights.repeat_interleave(2)[::2],
        forbidden_id=2,
        backend=backend,
    )
    assert_close(expected.detach(), actual.detach())


H, W, Y, P = (
    torch.zeros(3, 24),
    torch.zeros(7, 24),
    torch.zeros(3, dtype=torch.int64),
    torch.ones(3),
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": H[:, :5]}, r"\[3, 5\] and weight \[7, 24\] do not fit"),
        ({"hidden": H.bfloat16()}, "hidden is torch.bfloat16 and weight torch.float32"),
        ({"targets": Y.int()}, r"targets is torch.int32 \[3\]; pass torch.int64 \[3\]"),
        ({"row_weights": P[:2]}, r"row_weights is torch.float32 \[2\]"),
        ({"forbidden_id": 7}, r"forbidden_id=7 is outside \[0, 7\)"),
        ({"row_weights": P.to("meta")}, r"\['cpu', 'meta'\]; move them to one device"),
    ],
)
def test_wrong_arguments_are_errors(arguments: dict[str, object], message: str) -> None:
    call: dict[str, object] = {
        "hidden": H, "weight": W, "targets": Y, "row_weights": P, "forbidden_id": None
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        mask_ce(**(call | arguments))  # type: ignore[arg-type]
