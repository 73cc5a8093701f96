"""Blocks that start early, against a loop without a cache, and against the sampler that waits."""

import functools
from dataclasses import replace

import pytest
import torch
from tests.reference_model.tiny import make_model, make_tokenizer

from sdb_reference_model.model import SIZES
from sdb_reference_model.past import Cached
from sdb_reference_model.pipelining import sample_pipelined
from sdb_reference_model.policies import commit_above
from sdb_reference_model.sampler import Generation, sample_blocks

PROMPTS = [[10, 11, 12, 13, 14], [20, 21], [30, 31, 32, 33, 34, 35, 36, 37, 38]]
LENGTH, BLOCK_SIZE, THRESHOLD = 32, 8, 0.5


def sample(
    end_bias: float,
    share: float,
    num_blocks: int = 2,
    temperature: float = 0.0,
    prompt_block_size: int | None = None,
) -> list[Generation]:
    return sample_pipelined(
        make_model(end_bias),
        make_tokenizer(),
        PROMPTS,
        block_size=BLOCK_SIZE,
        threshold=THRESHOLD,
        start_share=share,
        num_blocks=num_blocks,
        max_new_tokens=LENGTH,
        temperature=temperature,
        prompt_block_size=prompt_block_size,
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize("prompt_block_size", [None, 4])
def test_with_nothing_started_early_it_is_the_block_sampler(
    prompt_block_size: int | None, end_bias: float, temperature: float
) -> None:
    waiting = sample_blocks(
        make_model(end_bias),
        make_tokenizer(),
        PROMPTS,
        block_size=BLOCK_SIZE,
        policy=commit_above(THRESHOLD),
        max_new_tokens=LENGTH,
        temperature=temperature,
        past=functools.partial(Cached, prompt_block_size=prompt_block_size),
    )
    for num_blocks, share in ((2, 1.0), (1, 0.0)):
        piped = sample(end_bias, share, num_blocks, temperature, prompt_block_size)
        for ours, theirs in zip(piped, waiting, strict=True):
            assert ours.token_ids == theirs.token_ids
            assert ours.finish_reason == theirs.finish_reason
            assert ours.nfe_denoise == theirs.nfe_denoise
            assert ours.commit_tokens == theirs.commit_tokens


def pipe_plainly(prompt: list[int], end_bias: float, share: float, num_blocks: int) -> list[int]:
    """The definition: the whole text in every forward, under an explicit mask of blocks."""
    model, tokenizer = make_model(end_bias), make_tokenizer()
    mask_id, end_id = tokenizer.mask_id, tokenizer.end_id
    canvas, num_open = [mask_id] * LENGTH, 1
    while mask_id in canvas[: num_open * BLOCK_SIZE]:
        width = num_open * BLOCK_SIZE
        text = torch.tensor([[*prompt, *canvas[:width]]])
        block_of = torch.tensor([-1] * len(prompt) + [i // BLOCK_SIZE for i in range(width)])
        sees = block_of[None, :] <= block_of[:, None]
        hidden = model(text, mask=sees[None, None])[0, len(prompt) :]
        logits = hidden @ model.head_weight.T
        logits[:, mask_id] = -torch.inf
        confidence, proposal = (x.tolist() for x in logits.softmax(dim=-1).max(dim=-1))
        is_first = True
        for start in range(0, width, BLOCK_SIZE):
            block = range(start, start + BLOCK_SIZE)
            masks = [i for i in block if canvas[i] == mask_id]
            if not masks:
                continue
            filled = [proposal[i] if i in masks else canvas[i] for i in block]
            tail = BLOCK_SIZE
            while tail and filled[tail - 1] == end_id:
                tail -= 1
            masks = [i for i in masks if i - start <= tail]
            best = max(masks, key=lambda i: confidence[i])
            for i in masks:
                if confidence[i] > THRESHOLD or (is_first and i == best):
                    canvas[i] = proposal[i]
            is_first = False
        if end_id in canvas:
            canvas = canvas[: canvas.index(end_id)]
            canvas += [end_id] * (LENGTH - len(canvas))
            continue
        blocks = [canvas[s : s + BLOCK_SIZE] for s in range(0, width, BLOCK_SIZE)]
        num_unfinished = len(blocks)
        while num_unfinished and mask_id not in blocks[-num_unfinished]:
            num_unfinished -= 1
        is_due = sum(i != mask_id for i in blocks[-1]) >= share * BLOCK_SIZE
        if width < LENGTH and num_unfinished < num_blocks and (is_due or not num_unfinished):
            num_open += 1
    return canvas[: canvas.index(end_id)] if end_id in canvas else canvas


@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize(("share", "num_blocks"), [(0.0, 2), (0.0, 4), (0.25, 3), (0.5, 2)])
def test_cached_equals_the_plain_loop(end_bias: float, share: float, num_blocks: int) -> None:
    piped = sample(end_bias, share, num_blocks)
    for prompt, generation in zip(PROMPTS, piped, strict=True):
        assert generation.token_ids == pipe_plainly(prompt, end_bias, share, num_blocks)
        assert sum(generation.commit_tokens) == len(generation.token_ids)
        assert generation.nfe_denoise == len(generation.step_commits)


def test_an_early_start_takes_fewer_forwards_and_other_tokens() -> None:
    """That is the trade: less order for fewer steps."""
    early, waiting = sample(-1.0, 0.25, 4), sample(-1.0, 1.0)
    assert sum(g.nfe_denoise for g in early) < sum(g.nfe_denoise for g in waiting)
    assert [g.token_ids for g in early] != [g.token_ids for g in waiting]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"start_share=1\.5 must be in \[0, 1\]"):
        sample(-1.0, 1.5)
    with pytest.raises(ValueError, match="num_blocks=0 at least 1"):
        sample(-1.0, 1.0, 0)
    model = make_model(config=replace(SIZES["test"], causal_past=True))
    with pytest.raises(ValueError, match="blocks at once know no causal past; use sample_blocks"):
        sample_pipelined(
            model, make_tokenizer(), PROMPTS, block_size=BLOCK_SIZE, threshold=0.5,
            start_share=1.0, max_new_tokens=LENGTH,
        )  # fmt: skip
