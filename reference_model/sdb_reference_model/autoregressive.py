"""The autoregressive baseline: the same Transformer, cache and head, one token after another.

Place in the flow: same in and out as `sampler.py`, so a comparison between the two compares the
decoding and nothing else. The first token comes from the prefill; `nfe_denoise` counts the decoding
forwards after it.

What it does not do: guess ahead (`speculative.py` does, with the same tokens).
"""

import time
from collections.abc import Sequence

import torch

from sdb_reference_model.model import KVCache, Transformer
from sdb_reference_model.sampler import Generation, check_canvas
from sdb_reference_model.selection import make_select
from sdb_reference_model.tokenizer import SpecialIds, pad_left


@torch.inference_mode()
def sample_tokens(
    model: Transformer,
    tokenizer: SpecialIds,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
) -> list[Generation]:
    """Generate one answer per prompt, left to right.

    Arguments, results and errors are those of `sampler.sample_blocks`.
    """
    started = time.perf_counter()
    check_canvas(model, prompts, 1, max_new_tokens)
    select = make_select(model.head_operand, tokenizer, temperature, top_p)
    device = model.embedding.weight.device
    prompt = pad_left(prompts, tokenizer.pad_id).to(device)  # [B, P]
    width = prompt.shape[1]
    lengths = torch.tensor([len(ids) for ids in prompts], device=device)
    row_seeds = torch.tensor(list(seeds or range(len(prompts))), device=device)
    positions = torch.arange(width + max_new_tokens, device=device) + (lengths - width)[:, None]
    is_real = positions >= 0  # [B, S]
    has_padding = bool((lengths < width).any())
    cos, sin = model.compute_rope(positions.clamp(min=0) if has_padding else positions[:1])
    cache = KVCache(model.config, len(prompts), width + max_new_tokens, model.embedding.weight)
    results = [Generation(nfe_prefill=1) for _ in prompts]

    sees = None
    if has_padding:
        sees = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        sees = sees & is_real[:, None, None, :width] | torch.eye(width, device=device).bool()
    is_last = torch.zeros_like(prompt, dtype=torch.bool)
    is_last[:, -1] = True
    rope = cos[:, :, :width], sin[:, :, :width]
    hidden = model(
        prompt, mask=sees, is_causal=not has_padding, cache=cache, rope=rope, where=is_last
    )  # [B, D]
    cache.commit(width)
    for index in range(max_new_tokens):
        token_ids, _ = select(hidden, row_seeds * 1_000_003 + index)
        ids = token_ids.tolist()  # waits for the device, so that the clock sees its work
        elapsed_s = time.perf_counter() - started
        for result, token_id in zip(results, ids, strict=True):
            if result.finish_reason == "stop":
                continue
            result.commit_times_s.append(elapsed_s)
            result.commit_tokens.append(int(token_id != tokenizer.end_id))
            if token_id == tokenizer.end_id:
                result.finish_reason = "stop"
            else:
                result.token_ids.append(token_id)
        if index + 1 == max_new_tokens or all(r.finish_reason == "stop" for r in results):
            break
        for result in results:
            result.nfe_denoise += result.finish_reason == "length"
        now = cache.length
        mask = is_real[:, None, None, : now + 1] if has_padding else None
        rope = cos[:, :, now : now + 1], sin[:, :, now : now + 1]
        hidden = model(token_ids[:, None], mask=mask, cache=cache, rope=rope)[:, 0]
        cache.commit(1)
    return results
