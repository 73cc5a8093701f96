"""Infilling: what is given stays, what is asked for comes back, and both sides are seen."""

import pytest
import torch
from tests.reference_model.tiny import make_model, make_tokenizer

from sdb_reference_model.infill import infill
from sdb_reference_model.past import Cached, Past, Uncached
from sdb_reference_model.policies import commit_above, edit_above

PREFIXES = [[10, 11, 12, 13], [20, 21]]
SUFFIXES = [[40, 41], [30, 31, 32, 33, 34]]


@pytest.mark.parametrize("past", [Cached, Uncached])
def test_hole_is_what_a_plain_loop_over_the_whole_text_fills_in(past: Past) -> None:
    """Greedy, one token at a time: mask by mask, the most confident first."""
    model, tokenizer = make_model(), make_tokenizer()
    generations = infill(
        model,
        tokenizer,
        PREFIXES[:1],
        SUFFIXES[:1],
        num_tokens=5,
        policy=commit_above(1.0),
        past=past,
    )
    prefix, hole = PREFIXES[0], [tokenizer.mask_id] * 5
    text = [*prefix, *hole, *SUFFIXES[0], tokenizer.end_id]
    sees = torch.ones(len(text), len(text), dtype=torch.bool)
    sees[: len(prefix), len(prefix) :] = False  # the prompt is read once, before the hole
    for _ in range(5):
        hidden = model(torch.tensor([text]), mask=sees[None, None])[0]
        logits = hidden @ model.head_weight.T
        logits[:, tokenizer.mask_id] = -torch.inf
        best, token_ids = logits.softmax(dim=-1).max(dim=-1)
        best[torch.tensor(text) != tokenizer.mask_id] = -1
        text[int(best.argmax())] = int(token_ids[best.argmax()])
    assert generations[0].token_ids == text[4:9]
    assert generations[0].nfe_denoise == 5


def test_suffix_changes_the_hole_and_is_not_returned() -> None:
    def fill(suffix: list[int]) -> list[int]:
        (generation,) = infill(
            make_model(),
            make_tokenizer(),
            PREFIXES[:1],
            [suffix],
            num_tokens=6,
            policy=commit_above(0.6),
        )
        return generation.token_ids

    assert len(fill([40, 41])) == len(fill([50, 51])) == 6
    assert fill([40, 41]) != fill([50, 51])


@pytest.mark.parametrize("end_bias", [-1.0, 0.5])
def test_suffixes_of_several_lengths_and_edits_leave_what_is_given(end_bias: float) -> None:
    generations = infill(
        make_model(end_bias),
        make_tokenizer(),
        PREFIXES,
        SUFFIXES,
        num_tokens=6,
        policy=commit_above(0.6),
        revision=edit_above(0.3, 4),
    )
    for generation in generations:
        assert len(generation.token_ids) <= 6
        assert sum(generation.step_commits) == 6
        assert make_tokenizer().end_id not in generation.token_ids
        assert generation.finish_reason == "stop"
        assert sum(generation.commit_tokens) == len(generation.token_ids)
    assert sum(sum(g.step_edits) for g in generations) > 0


def test_requests_that_cannot_be_filled_are_refused() -> None:
    for num_tokens, suffixes in ((0, SUFFIXES), (4, SUFFIXES[:1])):
        with pytest.raises(ValueError, match="num_tokens="):
            infill(
                make_model(),
                make_tokenizer(),
                PREFIXES,
                suffixes,
                num_tokens=num_tokens,
                policy=commit_above(1.0),
            )
