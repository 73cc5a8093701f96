"""Full attention: what the caches approximate, and where they may not differ from it at all."""

import functools
from dataclasses import replace

import pytest
import torch
from tests.reference_model.tiny import make_model, make_tokenizer

from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.past import DualCached, FullUncached, Past, PrefixCached
from sdb_reference_model.policies import commit_above
from sdb_reference_model.sampler import Generation, sample_blocks

PROMPTS = [[10, 11, 12, 13, 14], [20, 21], [30, 31, 32, 33, 34, 35, 36, 37, 38]]


def make_layers(num_layers: int) -> Transformer:
    return make_model(config=replace(SIZES["test"], num_layers=num_layers))


def sample(past: Past, num_layers: int = 2, rows: slice = slice(3)) -> list[Generation]:
    return sample_blocks(
        make_layers(num_layers),
        make_tokenizer(),
        PROMPTS[rows],
        block_size=8,
        policy=commit_above(0.6),
        max_new_tokens=24,
        past=past,
    )


def decode_plainly(prompt: list[int], num_layers: int, is_shifted: bool) -> list[int]:
    """Full attention over prompt and canvas, one forward per step, no padding and no cache."""
    model, mask_id = (
        make_layers(num_layers),
        make_tokenizer().mask_id,
    )
    text = torch.tensor([*prompt, *[mask_id] * 24])
    for start in range(len(prompt), len(text), 8):
        while bool((is_open := text[start : start + 8] == mask_id).any()):
            first = start - is_shifted
            logits = model(text[None])[0, first : first + 8] @ model.head_weight.T
            logits[:, mask_id] = -torch.inf
            confidence, token_ids = logits.softmax(dim=-1).max(dim=-1)
            confidence[~is_open] = -1
            is_chosen = confidence > 0.6
            is_chosen[confidence.argmax()] = True
            text[start : start + 8][is_chosen] = token_ids[is_chosen]
    return text[len(prompt) :].tolist()


@pytest.mark.parametrize("is_shifted", [False, True])
def test_definition_is_a_plain_loop_in_any_batch(is_shifted: bool) -> None:
    past = functools.partial(FullUncached, is_shifted=is_shifted)
    together = sample(past)
    for row, prompt in enumerate(PROMPTS):
        (alone,) = sample(past, rows=slice(row, row + 1))
        expected = decode_plainly(prompt, 2, is_shifted)
        assert alone.token_ids == together[row].token_ids == expected


@pytest.mark.parametrize("is_shifted", [False, True])
@pytest.mark.parametrize("kind", [DualCached, PrefixCached])
def test_renewed_at_every_step_a_cache_is_the_definition(
    kind: type[DualCached], is_shifted: bool
) -> None:
    fast = sample(functools.partial(kind, is_shifted=is_shifted, refresh_every=1))
    slow = sample(functools.partial(FullUncached, is_shifted=is_shifted))
    assert [g.token_ids for g in fast] == [g.token_ids for g in slow]


@pytest.mark.parametrize("is_shifted", [False, True])
@pytest.mark.parametrize("kind", [DualCached, PrefixCached])
def test_caches_are_exact_where_keys_and_values_depend_on_their_own_token_alone(
    kind: type[DualCached], is_shifted: bool
) -> None:
    """Which is so in a model of one layer: whatever is stale there is a fault of the cache."""
    fast = sample(functools.partial(kind, is_shifted=is_shifted), num_layers=1)
    slow = sample(functools.partial(FullUncached, is_shifted=is_shifted), num_layers=1)
    assert [g.token_ids for g in fast] == [g.token_ids for g in slow]


@pytest.mark.parametrize("kind", [DualCached, PrefixCached])
def test_a_row_does_not_depend_on_its_batch(kind: type[DualCached]) -> None:
    together = sample(kind)
    for row, generation in enumerate(together):
        (alone,) = sample(kind, rows=slice(row, row + 1))
        assert alone.token_ids == generation.token_ids
        assert alone.nfe_denoise == generation.nfe_denoise
        assert alone.nfe_prefill == alone.nfe_commit == 0


def test_period_of_the_refresh_must_be_positive() -> None:
    with pytest.raises(ValueError, match="refresh_every=0"):
        sample(functools.partial(DualCached, refresh_every=0))
