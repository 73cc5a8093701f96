"""Packed examples against the same examples a row each."""

from itertools import pairwise

import pytest
import torch

from sdb_reference_model.attention import build_dense_mask
from sdb_reference_model.edits import EditProcess, EditSource
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.objective import (
    Attention,
    EditTerm,
    LossTerms,
    compute_autoregressive_loss,
    compute_diffusion_loss,
)
from sdb_reference_model.packing import MAX_WIDENING, place, plan_packing
from sdb_reference_model.states import Batch, lay_out_slabs

MASK = 2
BLOCK = 4


def make_batch() -> Batch:
    """Nine examples of very different length: prompts of 1 to 9 tokens, answers of 1 to 24."""
    generator = torch.Generator().manual_seed(1)
    prompt_lengths = torch.tensor([9, 1, 4, 4, 2, 7, 1, 3, 5])
    answer_lengths = torch.tensor([1, 24, 4, 5, 9, 3, 2, 12, 6])
    answer = torch.randint(3, 60, (9, 24), generator=generator)
    answer[torch.arange(24)[None] >= answer_lengths[:, None] - 1] = 1
    prompt = torch.randint(3, 60, (9, 9), generator=generator)
    prompt[torch.arange(9)[None] < 9 - prompt_lengths[:, None]] = 0
    return Batch(prompt, prompt_lengths, answer, answer_lengths)


def compute_loss(model: Transformer, objective: str) -> LossTerms:
    batch = make_batch()
    if objective == "causal":
        return compute_autoregressive_loss(model, batch, MASK)
    weights = torch.ones(64)
    weights[:3] = 0
    source: EditSource = "draft" if objective == "drafts" else "uniform"
    attention: Attention = "full" if objective == "full" else "block_causal"
    return compute_diffusion_loss(
        model,
        batch,
        BLOCK,
        MASK,
        torch.Generator().manual_seed(5),
        edit=EditTerm(EditProcess(weights, max_ratio=1.0, source=source)),
        attention=attention,
    )


@pytest.mark.parametrize("objective", ["block_causal", "drafts", "full", "causal"])
def test_packed_loss_and_gradients_are_those_of_a_row_each(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, shapes = [], []
    forward = Transformer.forward

    def watch(model: Transformer, token_ids: torch.Tensor, **rest: object) -> torch.Tensor:
        shapes.append(tuple(token_ids.shape))
        return forward(model, token_ids, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Transformer, "forward", watch)
    for packs_examples in (False, True):
        model = Transformer(SIZES["test"])
        model.initialise(torch.Generator().manual_seed(3))
        for block in model.blocks:
            for weight in block.parameters():
                weight.data *= 3
        model.packs_examples = packs_examples
        terms = compute_loss(model, objective)
        (terms.mask + terms.edit).backward()  # type: ignore[no-untyped-call]
        results.append((terms, [p.grad for p in model.parameters()]))
    (apart, gradients), (packed, packed_gradients) = results
    assert packed.num_tokens == apart.num_tokens
    torch.testing.assert_close(packed.mask, apart.mask, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(packed.edit, apart.edit, rtol=1e-5, atol=0.0)
    scale = max(float(g.abs().max()) for g in gradients if g is not None)
    for ours, reference in zip(packed_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-6 * scale)
    areas = [rows * width for rows, width in shapes]
    num_forwards = len(areas) // 2
    # Under full attention the tail of an answer is data, so only prompts are padded.
    share = 0.95 if objective == "full" else 0.6
    assert sum(areas[num_forwards:]) < share * sum(areas[:num_forwards])
    assert all(rows < 9 for rows, _ in shapes[num_forwards:])


def test_neighbours_in_a_row_do_not_see_each_other() -> None:
    layout, is_needed = lay_out_slabs(make_batch(), BLOCK, range(6))
    packing = plan_packing(is_needed)
    packed = packing.pack_layout(layout)
    mask = build_dense_mask(packed)[:, 0]
    documents = packed.document
    is_same = documents[:, :, None] == documents[:, None, :]
    assert not (mask & ~is_same).any()
    assert mask.any(dim=-1).all()  # softmax over nothing is NaN
    apart = build_dense_mask(layout)[:, 0]
    for example in range(9):
        row = int((documents == example).any(dim=1).nonzero()[0])
        own = documents[row] == example
        needed = is_needed[example]
        assert torch.equal(mask[row][own][:, own], apart[example][needed][:, needed])


@pytest.mark.parametrize(
    "lengths", [[5], [7] * 6, [1, 1, 1, 50], list(range(1, 40)), [30, 29, 28, 31, 30, 29]]
)
def test_places_do_not_overlap_and_waste_no_more_than_a_row_each(lengths: list[int]) -> None:
    rows, starts, num_rows, width = place(lengths)
    assert place(lengths) == (rows, starts, num_rows, width)
    for row in range(num_rows):
        spans = sorted(
            (s, s + n) for r, s, n in zip(rows, starts, lengths, strict=True) if r == row
        )
        assert spans[0][0] == 0
        assert all(before[1] == after[0] for before, after in pairwise(spans))
        assert spans[-1][1] <= width
    assert sum(lengths) <= num_rows * width <= len(lengths) * max(lengths)
    assert width <= (MAX_WIDENING + 1) * max(lengths)


def test_many_lengths_leave_little_padding() -> None:
    lengths = torch.randint(5, 200, (64,), generator=torch.Generator().manual_seed(0)).tolist()
    _, _, num_rows, width = place(lengths)
    assert 1 - sum(lengths) / (num_rows * width) < 0.03 < 0.4 < 1 - sum(lengths) / (64 * 199)


def test_packing_moves_numbers_and_back() -> None:
    batch = make_batch()
    _, is_needed = lay_out_slabs(batch, BLOCK, range(6))
    packing = plan_packing(is_needed)
    values = torch.arange(is_needed.numel()).view_as(is_needed)
    packed = packing.pack(values, -1)
    back = packing.unpack(packed[..., None].float())[..., 0].long()
    assert torch.equal(back, values * is_needed)
    assert int((packed >= 0).sum()) == int(is_needed.sum())
