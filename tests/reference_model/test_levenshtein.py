"""Labels against cases by hand and a brute-force subsequence; and that following them arrives."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.reference_model.tiny import make_tokenizer

from sdb_reference_model.corruption import draw_replacements
from sdb_reference_model.edits import EditProcess, add_labels, edit_blocks
from sdb_reference_model.levenshtein import apply_labels, find_labels, label_blocks, shift_blocks
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.objective import EditTerm, compute_diffusion_loss
from sdb_reference_model.states import Batch, compute_logits, read_slabs
from sdb_reference_model.tokenizer import ControlIds

PAD, END, MASK, DEL, INS = 0, 1, 2, 3, 4
CONTROL = ControlIds(DEL, INS)
WORDS = st.integers(10, 13)


@pytest.mark.parametrize(
    ("draft", "target", "labels", "after"),
    [
        ([10, 11, 12, 13], [10, 11, 12, 13], [10, 11, 12, 13], [10, 11, 12, 13]),
        # one wrong token
        ([10, 20, 12, 13], [10, 11, 12, 13], [10, 11, 12, 13], [10, 11, 12, 13]),
        # one too many: the rest moves up
        ([10, 20, 11, 12], [10, 11, 12, 13], [10, DEL, 11, 12], [10, 11, 12, MASK]),
        # one missing: the next block's 14 stands behind the last anchor
        ([10, 12, 13, 14], [10, 11, 12, 13], [10, INS, 13, DEL], [10, MASK, 12, 13]),
        # two missing in one gap: one INSERT a round
        ([10, 13, 14, 15], [10, 11, 12, 13], [10, INS, DEL, DEL], [10, MASK, 13, MASK]),
        # a gap of one against two: written, and one inserted
        ([10, 20, 13, 14], [10, 11, 12, 13], [10, 11, INS, DEL], [10, 11, MASK, 13]),
        # a gap of two against one: written, and one deleted
        ([10, 20, 21, 12], [10, 11, 12, 13], [10, 11, DEL, 12], [10, 11, 12, MASK]),
        # missing before the first anchor; 13 falls off the block
        ([11, 12, 13, 20], [10, 11, 12, 13], [INS, 12, 13, DEL], [MASK, 11, 12, 13]),
        ([20, 21, 22, 23], [10, 11, 12, 13], [DEL] * 4, [MASK] * 4),
        # what an INSERT pushes out of the block is lost
        ([10, 12, 13, 14], [10, 11, 12, 14], [10, INS, DEL, 14], [10, MASK, 12, 14]),
        # a mask is any token, and is told which
        ([10, MASK, 12, MASK], [10, 11, 12, 13], [10, 11, 12, 13], [10, 11, 12, 13]),
    ],
)
def test_labels_and_what_they_do_by_hand(
    draft: list[int], target: list[int], labels: list[int], after: list[int]
) -> None:
    assert find_labels(draft, target, CONTROL, MASK) == labels
    found = apply_labels(torch.tensor([draft]), torch.tensor([labels]), CONTROL, MASK)
    assert found[0].tolist() == after


def test_an_insertion_pushes_the_last_tokens_off_the_block() -> None:
    block = torch.tensor([[10, 11, 12, 13]])
    labels = torch.tensor([[INS, INS, 12, DEL]])
    assert apply_labels(block, labels, CONTROL, MASK).tolist() == [[MASK, 10, MASK, 11]]


def find_longest(draft: tuple[int, ...], target: tuple[int, ...]) -> int:
    """Length of the longest common subsequence, by trying them all."""
    return max(
        size
        for size in range(len(draft) + 1)
        for chosen in combinations(draft, size)
        if chosen in set(combinations(target, size))
    )


@given(st.lists(WORDS, min_size=1, max_size=6), st.lists(WORDS, min_size=1, max_size=6))
def test_anchors_are_a_longest_common_subsequence(draft: list[int], target: list[int]) -> None:
    labels = find_labels(draft, target, CONTROL, MASK)
    anchors = [x for x, label in zip(draft, labels, strict=True) if label in (x, INS)]
    assert len(anchors) == find_longest(tuple(draft), tuple(target))
    assert tuple(anchors) in set(combinations(target, len(anchors)))


@given(st.data(), st.integers(1, 12))
def test_an_editor_that_follows_the_labels_reaches_the_target(data: st.DataObject, b: int) -> None:
    """Masks that open are filled by an oracle. Every round makes the right prefix longer."""
    draft, target = (data.draw(st.lists(WORDS, min_size=b, max_size=b)) for _ in range(2))
    block, goal = torch.tensor([draft]), torch.tensor([target])
    for _ in range(b):
        labels = label_blocks(block, goal, CONTROL, MASK)
        block = apply_labels(block, labels, CONTROL, MASK)
        filled = label_blocks(block, goal, CONTROL, MASK)
        block = torch.where(block == MASK, filled, block)
        assert not (block == MASK).any()
    assert torch.equal(block, goal)


def test_shifted_blocks_go_on_with_the_text_behind() -> None:
    blocks = torch.tensor([[[10, 11, 12, 13], [14, 15, 16, END]]])
    labels = torch.tensor([[[DEL, 11, 20, 13], [14, INS, DEL, END]]])
    new = torch.full_like(blocks, 30)
    shifted = shift_blocks(blocks, labels, new, CONTROL, MASK, END)
    assert shifted.tolist() == [[[11, 20, 13, 14], [14, 30, 15, END]]]
    labels[0, 1] = torch.tensor([DEL, DEL, DEL, END])
    shifted = shift_blocks(blocks, labels, new, CONTROL, MASK, END)
    assert shifted[0, 1].tolist() == [END] * 4


def make_batch(num_rows: int, num_text: int, width: int) -> Batch:
    answer = torch.full((num_rows, width), END)
    answer[:, :num_text] = torch.arange(num_text) + 10
    prompt = torch.full((num_rows, 3), 9)
    lengths = torch.full((num_rows,), num_text + 1)
    return Batch(prompt, torch.full((num_rows,), 3), answer, lengths)


@pytest.mark.parametrize(
    ("share", "insertion_share"), [(0.0, 0.5), (0.5, 0.5), (1.0, 0.5), (0.2, 0.85)]
)
def test_training_blocks_hold_the_asked_for_edits_and_their_labels(
    share: float, insertion_share: float
) -> None:
    batch = make_batch(400, 60, 64)
    weights = torch.ones(200)
    weights[:100] = 0
    process = EditProcess(
        weights,
        0.1,
        substitution_share=share,
        insertion_share=insertion_share,
        control=CONTROL,
    )
    generator = torch.Generator().manual_seed(0)
    replacements = draw_replacements(batch.answer, weights, generator)
    blocks, labels = edit_blocks(batch, process, 8, MASK, generator, replacements)
    clean = batch.answer.view_as(blocks)
    assert not (blocks == MASK).any()
    assert not (labels == MASK).any()
    is_changed = (blocks != clean).any(dim=2)
    assert 0.1 < float(is_changed.float().mean()) < 0.5  # three edits in eight blocks on average
    assert torch.equal(labels[~is_changed], clean[~is_changed])
    # 400 answers with floor(60 alpha) edits, 2.5 on average; deletions bring nothing new.
    num_new = int((blocks >= 100).sum())
    assert num_new == pytest.approx(1000 * (share + (1 - share) * insertion_share), rel=0.1)
    num_inserted, num_deleted = int((labels == INS).sum()), int((labels == DEL).sum())
    if share == 1.0:  # written anew, or behind the last anchor
        num_written = int(((labels != blocks) & (labels != DEL)).sum())
        assert (num_inserted, num_written + num_deleted) == (0, num_new)
    else:
        # What was inserted is to be deleted, and the other way round.
        assert num_deleted > 1000 * (1 - share) * insertion_share * 0.7
        assert num_inserted > 1000 * (1 - share) * (1 - insertion_share) * 0.7
    after = apply_labels(blocks.flatten(0, 1), labels.flatten(0, 1), CONTROL, MASK)
    is_right = (after == clean.flatten(0, 1)) | (after == MASK)
    assert is_right.all(dim=1).float().mean() > 0.95  # else a gap misses more than one token


def test_a_tiny_model_learns_to_say_what_was_done_to_a_block() -> None:
    """Answers count on from the prompt, one of two, so every wrong token can be told."""
    model = Transformer(SIZES["test"])
    model.initialise(torch.Generator().manual_seed(0))
    weights = torch.zeros(64)
    weights[10:] = 1
    process = EditProcess(weights, 0.5, substitution_share=0.3, control=CONTROL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(1)

    def draw() -> Batch:
        batch, first = make_batch(32, 12, 16), torch.randint(5, 7, (32, 1), generator=generator) * 5
        answer = torch.where(batch.answer == END, END, batch.answer - 10 + first)
        return Batch(first.expand(32, 3), batch.prompt_lengths, answer, batch.answer_lengths)

    for _ in range(300):
        terms = compute_diffusion_loss(model, draw(), 8, MASK, generator, edit=EditTerm(process))
        ((terms.mask + terms.edit) / terms.num_tokens).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    batch = draw()
    blocks, labels = edit_blocks(batch, process, 8, MASK, generator)
    with torch.no_grad():
        hidden = read_slabs(model, batch, blocks, range(2)).flatten(0, 2)
    said = compute_logits(hidden, model.head_weight, MASK).argmax(dim=-1).view_as(labels)
    is_right = said == labels
    for is_one in (labels == DEL, labels == INS, (labels != blocks) & (labels > INS)):
        assert is_one.sum() >= 10
        assert is_right[is_one].float().mean() > 0.5
    assert is_right[labels == blocks].float().mean() > 0.95
    repaired = apply_labels(blocks.flatten(0, 1), said.flatten(0, 1), CONTROL, MASK)
    is_clean = (repaired == batch.answer.view(-1, 8)) | (repaired == MASK)
    assert is_clean.float().mean() > (blocks == batch.answer.view_as(blocks)).float().mean() + 0.1


def test_labels_are_added_once_and_their_rows_turned_round() -> None:
    plain = make_tokenizer()
    model = Transformer(replace(SIZES["test"], vocab_size=plain.vocab_size))
    model.initialise(torch.Generator().manual_seed(0))
    before = model.head_weight.detach().clone()
    tokenizer = add_labels(plain, model)
    assert tokenizer.control_ids is not None
    is_control = torch.zeros(plain.vocab_size, dtype=torch.bool)
    is_control[list(tokenizer.control_ids)] = True
    expected = torch.where(is_control[:, None], -before, before)
    assert torch.equal(model.head_weight, expected)
    assert add_labels(tokenizer, model) is tokenizer
    assert torch.equal(model.head_weight, expected)
