"""A nucleus cuts the tail and changes nothing else."""

from types import SimpleNamespace

import pytest
import torch

from sdb_kernels.head_select import head_select
from sdb_kernels.packed import PackedWeight, is_available
from sdb_reference_model.selection import draw_from_nucleus, make_select
from sdb_reference_model.tokenizer import ControlIds

SPECIAL = SimpleNamespace(pad_id=0, end_id=1, mask_id=2, control_ids=None)


def test_frequencies_are_those_of_the_renormalised_nucleus() -> None:
    p = torch.tensor([0.5, 0.1, 0.3, 0.1])
    logits = p.log().expand(20_000, 4)
    token_ids, probability = draw_from_nucleus(logits, 1.0, 0.7, torch.arange(20_000))
    share = torch.bincount(token_ids, minlength=4) / 20_000
    assert share.tolist() == pytest.approx([0.625, 0.0, 0.375, 0.0], abs=0.015)
    torch.testing.assert_close(probability, p[token_ids])  # before the cut, as thresholds expect


def test_a_wide_nucleus_draws_what_the_operator_draws_and_a_narrow_one_the_best() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 16, generator=generator)
    weight = torch.randn(50, 16, generator=generator) * 0.2
    seeds = torch.arange(64)
    drawn, probability = head_select(hidden, weight, forbidden_id=2, temperature=0.8, seeds=seeds)
    wide = make_select(weight, SPECIAL, 0.8, 1.0 - 1e-7)(hidden, seeds)
    assert torch.equal(wide[0], drawn)
    torch.testing.assert_close(wide[1], probability)
    best, _ = head_select(hidden, weight, forbidden_id=2, temperature=0.0)
    narrow, _ = make_select(weight, SPECIAL, 0.8, 1e-6)(hidden, seeds)
    assert torch.equal(narrow, best)
    assert not torch.equal(drawn, best)
    alone, _ = make_select(weight, SPECIAL, 0.8, 0.6)(hidden[5:6], seeds[5:6])
    assert alone == make_select(weight, SPECIAL, 0.8, 0.6)(hidden, seeds)[0][5]


@pytest.mark.parametrize("top_p", [0.0, 1.5, -1.0])
def test_shares_that_are_none_are_refused(top_p: float) -> None:
    with pytest.raises(ValueError, match="top_p="):
        make_select(torch.zeros(4, 2), SPECIAL, 1.0, top_p)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (0.8, 1.0), (0.8, 0.7)])
@pytest.mark.parametrize("is_packed", [False, True])
def test_certainty_is_that_of_the_whole_row_and_moves_no_token(
    is_packed: bool, temperature: float, top_p: float
) -> None:
    if is_packed and not is_available("cpu"):
        pytest.skip("this PyTorch has no oneDNN")
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 16, generator=generator)
    weight = torch.randn(50, 16, generator=generator)
    form, seeds = PackedWeight(weight) if is_packed else weight, torch.arange(64)
    plain, _ = make_select(weight, SPECIAL, temperature, top_p)(hidden, seeds)
    tokens, certainty = make_select(form, SPECIAL, temperature, top_p, "certainty")(hidden, seeds)
    assert torch.equal(tokens, plain)
    logits = hidden.double() @ weight.double().T
    logits = logits[:, [i for i in range(50) if i != SPECIAL.mask_id]]
    log_p = logits.log_softmax(dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    torch.testing.assert_close(-certainty.double().log(), entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_delete_and_insert_are_said_of_labelled_rows_only(temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, seeds = torch.randn(400, 16, generator=generator), torch.arange(400)
    weight = torch.randn(20, 16, generator=generator) * 0.3
    control = SimpleNamespace(pad_id=0, end_id=1, mask_id=2, control_ids=ControlIds(18, 19))
    plain = make_select(weight, SPECIAL, temperature)(hidden, seeds)
    is_label = torch.arange(400) % 2 == 0
    select = make_select(weight, control, temperature)
    mixed, confidence = select(hidden, seeds, is_label)
    assert torch.equal(mixed[is_label], plain[0][is_label])
    torch.testing.assert_close(confidence[is_label], plain[1][is_label])
    assert (mixed[is_label] >= 18).sum() > 5
    text, _ = select(hidden, seeds)
    assert torch.equal(mixed[~is_label], text[~is_label])
    assert (text < 18).all()
    is_same = plain[0] < 18
    assert torch.equal(text[is_same], plain[0][is_same])
