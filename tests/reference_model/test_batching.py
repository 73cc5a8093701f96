"""A queue gives every prompt the answer that it gets alone."""

from dataclasses import replace

import pytest
from tests.reference_model.tiny import make_model, make_tokenizer

from sdb_reference_model.batching import sample_queue
from sdb_reference_model.model import SIZES, ModelConfig
from sdb_reference_model.policies import Revision, commit_above, edit_above
from sdb_reference_model.sampler import sample_blocks

LENGTHS = [5, 2, 9, 1, 30, 3, 7]
PROMPTS = [[10 + row, *range(20, 19 + length)] for row, length in enumerate(LENGTHS)]
SEEDS = list(range(5, 12))


@pytest.mark.parametrize("config", [SIZES["test"], replace(SIZES["test"], causal_past=True)])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize(
    ("temperature", "revision"), [(0.0, None), (1.0, None), (0.0, edit_above(0.3, 4))]
)
def test_answers_are_those_of_each_prompt_alone(
    temperature: float,
    revision: Revision | None,
    end_bias: float,
    batch_size: int,
    config: ModelConfig,
) -> None:
    model, tokenizer = make_model(end_bias, config=config), make_tokenizer()
    queued = sample_queue(
        model,
        tokenizer,
        PROMPTS,
        batch_size=batch_size,
        block_size=8,
        policy=commit_above(0.6),
        max_new_tokens=32,
        revision=revision,
        temperature=temperature,
        seeds=SEEDS,
    )
    for prompt, seed, generation in zip(PROMPTS, SEEDS, queued, strict=True):
        (alone,) = sample_blocks(
            model,
            tokenizer,
            [prompt],
            block_size=8,
            policy=commit_above(0.6),
            max_new_tokens=32,
            revision=revision,
            temperature=temperature,
            seeds=[seed],
        )
        assert generation.token_ids == alone.token_ids
        assert generation.finish_reason == alone.finish_reason
        assert generation.step_commits == alone.step_commits
        assert generation.commit_tokens == alone.commit_tokens
    reasons = {g.finish_reason for g in queued}
    all_end = config.causal_past and temperature > 0  # by these seeds
    assert end_bias < 0 or reasons == ({"stop"} if all_end else {"stop", "length"})


def test_a_queue_needs_a_seat() -> None:
    with pytest.raises(ValueError, match="batch_size=0"):
        sample_queue(
            make_model(-1.0),
            make_tokenizer(),
            PROMPTS,
            batch_size=0,
            block_size=8,
            policy=commit_above(1.0),
            max_new_tokens=32,
        )
