"""Guesses make decoding faster and never change it."""

from dataclasses import replace

import pytest
import torch
from tests.reference_model.tiny import make_model, make_tokenizer

from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.model import SIZES
from sdb_reference_model.past import Uncached
from sdb_reference_model.policies import commit_above
from sdb_reference_model.sampler import sample_blocks
from sdb_reference_model.speculative import (
    DiffusionDraft,
    Draft,
    DraftModel,
    look_up,
    sample_speculatively,
)

PROMPTS = [[10, 11, 12, 13, 14, 11, 12, 13], [20, 21], [40, 41, 40, 41, 40]]


DRAFTS: dict[str, Draft] = {
    "lookup": look_up,
    "itself": lambda text, k: DraftModel(make_model(), make_tokenizer().mask_id)(text, k),
    "another": lambda text, k: DraftModel(make_model(seed=8), None)(text, k),
    "diffusion": DiffusionDraft(make_model(0.35, seed=8), make_tokenizer()),
    "nothing": lambda text, k: [],
    "nonsense": lambda text, k: [5] * k,
}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize("name", DRAFTS)
def test_tokens_are_those_of_plain_decoding(name: str, end_bias: float, temperature: float) -> None:
    model, tokenizer = make_model(end_bias), make_tokenizer()
    plain = sample_tokens(
        model, tokenizer, PROMPTS, max_new_tokens=24, temperature=temperature, seeds=[3, 4, 5]
    )
    guessed = sample_speculatively(
        model,
        tokenizer,
        PROMPTS,
        draft=DRAFTS[name],
        num_draft=4,
        max_new_tokens=24,
        temperature=temperature,
        seeds=[3, 4, 5],
    )
    for slow, fast in zip(plain, guessed, strict=True):
        assert fast.token_ids == slow.token_ids
        assert fast.finish_reason == slow.finish_reason
        assert fast.nfe_prefill + fast.nfe_denoise <= 1 + slow.nfe_denoise
        assert sum(fast.commit_tokens) == len(fast.token_ids)


def test_a_draft_that_is_always_right_takes_a_fifth_of_the_forwards_and_keeps_its_cache() -> None:
    draft = DraftModel(make_model(), make_tokenizer().mask_id)
    (generation,) = sample_speculatively(
        make_model(), make_tokenizer(), PROMPTS[:1], draft=draft, num_draft=4, max_new_tokens=26
    )
    assert generation.nfe_denoise == 6  # five times 4 + 1, the prompt read with the first
    assert generation.nfe_prefill == 0
    assert generation.nfe_draft == 20
    assert generation.commit_tokens == [5, 5, 5, 5, 5, 1]


@pytest.mark.parametrize("causal_past", [False, True])
def test_a_diffusion_draft_is_a_block_of_masks_read_against_the_blocks_before(
    causal_past: bool,
) -> None:
    config = replace(SIZES["test"], causal_past=causal_past)
    model, tokenizer = make_model(seed=8, config=config), make_tokenizer()
    draft = DiffusionDraft(model, tokenizer)
    text = PROMPTS[0]
    for block in ([], [50, 51], [52, 53, 54, 55]):
        text = text + block
        guesses = draft(text, 4)
    assert draft.num_forwards == 3
    context = Uncached(
        model,
        torch.tensor([PROMPTS[0]]),
        torch.tensor([len(PROMPTS[0])]),
        torch.empty(1, 0),
    )
    for block in ([50, 51], [52, 53, 54, 55]):
        context.append(torch.tensor([block]), torch.tensor([True]))
    masks = torch.full((1, 4), tokenizer.mask_id)
    logits = context.read(masks, masks == tokenizer.mask_id) @ model.head_weight.T
    logits[:, tokenizer.mask_id] = -torch.inf
    assert guesses == logits.argmax(dim=1).tolist()
    (alone,) = sample_blocks(
        model, tokenizer, [text], block_size=4, policy=commit_above(0.0), max_new_tokens=4
    )
    assert DiffusionDraft(model, tokenizer)(text, 4) == alone.token_ids
    draft(PROMPTS[0] + [50], 4)
    assert draft(PROMPTS[0], 4) == DiffusionDraft(model, tokenizer)(PROMPTS[0], 4)  # begun again
    assert draft(list(range(20, 20 + model.config.max_seq_len)), 4) == []


def test_lookup_prefers_the_longest_and_latest_match() -> None:
    assert look_up([1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 2) == [9, 2]
    assert look_up([2, 3, 9, 2, 3, 8, 7, 2, 3], 1) == [8]
    assert look_up([1, 2, 3], 4) == []
    assert look_up([7], 4) == []


def test_no_guesses_are_refused() -> None:
    with pytest.raises(ValueError, match="num_draft=0"):
        sample_speculatively(make_model(), make_tokenizer(), PROMPTS, num_draft=0, max_new_tokens=4)
