"""Several blocks at once: the next block starts before the current one is done.

    window     up to `num_blocks` blocks that are read together, each sees itself and those before
    first      commits what is more probable than the threshold, at least its best
    later      commit what is more probable than the threshold, which may be nothing
    opening    a block joins when the one before it is filled to the share `start_share`
    closing    a block in front leaves when it was read in its final form; its keys and values stay

Place in the flow: beside `sampler.sample_blocks`, for block-causal models. Every forward renews all
keys and values of the window, so caching approximates nothing: what is approximate is the order.
A token of a later block may be chosen while masks stand before it, where the model was trained with
finished blocks in front, and it is not chosen again when they are filled. With `start_share` = 1
nothing starts early, and the tokens are those of `sample_blocks` (a test). After D2F (arXiv
2508.09192) and the multi-block decoding of d3LLM, whose models are trained for it.

What it does not do: batches, each prompt is decoded alone; infilling; revisions; full attention.
"""

import time
from collections.abc import Sequence

import torch

from sdb_reference_model.model import KVCache, Transformer
from sdb_reference_model.past import see_blocks
from sdb_reference_model.sampler import Generation, check_canvas, is_behind_tail_start
from sdb_reference_model.selection import Select, make_select
from sdb_reference_model.tokenizer import SpecialIds


@torch.inference_mode()
def sample_pipelined(
    model: Transformer,
    tokenizer: SpecialIds,
    prompts: Sequence[Sequence[int]],
    *,
    block_size: int,
    threshold: float,
    start_share: float,
    num_blocks: int = 2,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
    prompt_block_size: int | None = None,
) -> list[Generation]:
    """Generate one answer per prompt, with up to `num_blocks` unfinished blocks at a time.

    The other arguments, results and errors are those of `sampler.sample_blocks`;
    `prompt_block_size` is that of `past.Cached`. Every forward counts as a denoising one.

    Raises:
        ValueError: as `sample_blocks`, or a share outside [0, 1], or no block, or a model that
            reads its past causally.
    """
    if model.config.causal_past:
        raise ValueError("blocks at once know no causal past; use sample_blocks")
    started = time.perf_counter()
    check_canvas(model, prompts, block_size, max_new_tokens)
    if not 0.0 <= start_share <= 1.0 or num_blocks < 1 or not threshold >= 0.0:
        raise ValueError(
            f"start_share={start_share} must be in [0, 1], num_blocks={num_blocks} at least 1 and "
            f"threshold={threshold} at least 0"
        )
    select = make_select(model.head_operand, tokenizer, temperature, top_p)
    results = []
    for prompt, seed in zip(prompts, seeds or range(len(prompts)), strict=True):
        cache = KVCache(model.config, 1, len(prompt) + max_new_tokens, model.embedding.weight)
        ids = torch.tensor([list(prompt)], device=model.embedding.weight.device)
        columns = torch.arange(len(prompt), device=ids.device)[None]
        mask = None if prompt_block_size is None else see_blocks(columns // prompt_block_size)
        model(ids, mask=mask, cache=cache)
        cache.commit(len(prompt))
        canvas = torch.full((max_new_tokens,), tokenizer.mask_id, device=ids.device)
        results.append(
            fill(
                model, tokenizer, cache, canvas, block_size, threshold, start_share, num_blocks,
                select, seed, started,
            )
        )  # fmt: skip
    return results


def fill(
    model: Transformer,
    tokenizer: SpecialIds,
    cache: KVCache,
    canvas: torch.Tensor,
    block_size: int,
    threshold: float,
    start_share: float,
    num_blocks: int,
    select: Select,
    seed: int,
    started: float,
) -> Generation:
    """Fill the masks of `canvas` int64 [C] in place behind the cache; times are since `started`."""
    mask_id, end_id, length = tokenizer.mask_id, tokenizer.end_id, len(canvas)
    result = Generation(nfe_prefill=1)
    first, last = 0, block_size  # the window, canvas[first:last]
    num_recorded = 0  # positions of the finished blocks at the front of the canvas
    while num_recorded < length and result.finish_reason == "length":
        window = canvas[first:last]
        is_open = window == mask_id  # [W]
        block_of = torch.arange(len(window), device=canvas.device) // block_size
        sees_past = is_open.new_ones(1, 1, len(window), cache.length)
        mask = torch.cat((sees_past, see_blocks(block_of[None])), dim=3)
        hidden = model(window[None], mask=mask, cache=cache, where=is_open[None])
        positions = torch.arange(first, last, device=canvas.device)[is_open]
        tokens, probability = select(hidden, seed * 1_000_003 + positions)
        proposal = window.masked_scatter(is_open, tokens)
        confidence = torch.full(window.shape, -1.0, device=canvas.device)
        confidence = confidence.masked_scatter(is_open, probability)
        rows = (proposal == end_id).view(-1, block_size)  # a tail of end tokens is one decision
        confidence = confidence.masked_fill(is_behind_tail_start(rows).flatten(), -1.0)
        is_committed = (confidence > threshold) & is_open
        unfinished = block_of[is_open][0]
        best = confidence.masked_fill(block_of != unfinished, -1.0).argmax()
        is_committed[best] = True
        window[is_committed] = proposal[is_committed]
        window[(window == end_id).cumsum(dim=0) > 0] = end_id
        result.nfe_denoise += 1
        result.step_commits.append(int(is_committed.sum()))
        is_final = ~is_open.view(-1, block_size).any(dim=1)  # those were read as they stay
        num_final = int(is_final.cumprod(dim=0).sum()) * block_size
        cache.commit(num_final)
        first += num_final
        num_recorded = record_finished(canvas, block_size, num_recorded, tokenizer, result, started)
        blocks = canvas[num_recorded:last].view(-1, block_size)  # those unfinished
        is_full = not len(blocks) or float((blocks[-1] != mask_id).float().mean()) >= start_share
        has_end = bool((canvas[:last] == end_id).any())
        if last < length and len(blocks) < num_blocks and is_full and not has_end:
            last += block_size
    return result


def record_finished(
    canvas: torch.Tensor,
    block_size: int,
    num_recorded: int,
    tokenizer: SpecialIds,
    result: Generation,
    started: float,
) -> int:
    """Append the blocks that are finished, and those before them, to the answer; return how far."""
    while num_recorded < len(canvas) and result.finish_reason == "length":
        ids = canvas[num_recorded : num_recorded + block_size].tolist()
        if tokenizer.mask_id in ids:
            break
        if tokenizer.end_id in ids:
            ids, result.finish_reason = ids[: ids.index(tokenizer.end_id)], "stop"
        result.token_ids += ids
        result.commit_times_s.append(time.perf_counter() - started)
        result.commit_tokens.append(len(ids))
        num_recorded += block_size
    return num_recorded
