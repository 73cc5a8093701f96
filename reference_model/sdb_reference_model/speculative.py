"""Lossless speculative decoding: the autoregressive baseline at its fastest.

    guess k tokens cheaply; one forward of the model reads them all, each against those before it;
    keep the guesses that are what the model itself would have written, and its next token

Place in the flow: beside `autoregressive.py`, with the same tokens, so that a block sampler is
compared with the best that the causal model can do. Source: Leviathan et al. (arXiv 2211.17192);
prompt lookup after Saxena (2023); a diffusion model that drafts a block in one forward after
Christopher et al. (arXiv 2408.05636).

Choice: a draw here is a function of (logits, seed, position), see `sdb_kernels.head_select`, so a
guess is right or wrong at every temperature, and the answer is that of plain decoding, token for
token. The option not taken, acceptance by the ratio of two distributions, keeps the distribution
but not the tokens.

What it does not do: batches; each prompt is decoded alone. Trees of guesses.
"""

import time
from collections.abc import Callable, Sequence

import torch

from sdb_kernels.head_select import head_select
from sdb_reference_model.model import KVCache, Transformer
from sdb_reference_model.sampler import Generation, check_canvas
from sdb_reference_model.selection import Select, make_select
from sdb_reference_model.tokenizer import SpecialIds

Draft = Callable[[Sequence[int], int], list[int]]
"""(text so far, k) -> at most k guesses of what follows; none is fine."""


def look_up(text: Sequence[int], num_tokens: int, max_ngram: int = 3) -> list[int]:
    """Guess what followed the last time that the text ended like this: no model at all."""
    text = list(text)
    for size in range(min(max_ngram, len(text) - 1), 0, -1):
        ending = text[-size:]
        for start in range(len(text) - size - 1, -1, -1):
            if text[start : start + size] == ending:
                return text[start + size : start + size + num_tokens]
    return []


class DraftModel:
    """Guesses of a smaller causal model with the same vocabulary, greedy, with its own cache."""

    def __init__(self, model: Transformer, forbidden_id: int | None) -> None:
        """Wrap `model`; `forbidden_id` is never guessed."""
        self.model, self.forbidden_id, self.num_forwards = model, forbidden_id, 0
        self.cache = KVCache(model.config, 1, model.config.max_seq_len, model.embedding.weight)
        self.read: list[int] = []

    def __call__(self, text: Sequence[int], num_tokens: int) -> list[int]:
        """Guess; keys and values of what is unchanged since the last call are kept."""
        num_tokens = min(num_tokens, self.model.config.max_seq_len - len(text))
        shared = 0
        while shared < min(len(self.read), len(text) - 1) and self.read[shared] == text[shared]:
            shared += 1
        self.read, self.cache.length = list(text[:shared]), shared
        guesses: list[int] = []
        new = list(text[shared:])
        while len(guesses) < num_tokens:
            hidden = read_causally(self.model, self.cache, new)[-1:]
            self.cache.commit(len(new))
            self.read += new
            self.num_forwards += 1
            token, _ = head_select(
                hidden, self.model.head_operand, forbidden_id=self.forbidden_id, temperature=0.0
            )
            new = token.tolist()
            guesses += new
        return guesses


class DiffusionDraft:
    """Guesses of a block-diffusion model with the same vocabulary: a block of masks, one forward.

    What it guesses wrong costs time and no quality, so nothing is gained by more steps a block.
    """

    def __init__(self, model: Transformer, tokenizer: SpecialIds) -> None:
        """Wrap `model`, which was trained to read blocks behind a clean past."""
        self.model, self.tokenizer, self.num_forwards = model, tokenizer, 0
        self.cache = KVCache(model.config, 1, model.config.max_seq_len, model.embedding.weight)
        self.read: list[int] = []

    def __call__(self, text: Sequence[int], num_tokens: int) -> list[int]:
        """Guess up to the first end token; text that is new becomes a block of the past."""
        num_tokens = min(num_tokens, self.model.config.max_seq_len - len(text))
        if num_tokens < 1:
            return []
        # On a causal past the last token is read with the masks, one of which is then not needed.
        num_past = len(text) - self.model.config.causal_past
        if self.read != list(text[: min(len(self.read), num_past)]):
            self.read, self.cache.length = [], 0
        num_new = num_past - len(self.read)
        ids = list(text[len(self.read) :]) + [self.tokenizer.mask_id] * num_tokens
        ids = ids[: num_new + num_tokens]
        device = self.model.embedding.weight.device
        mask = torch.ones(len(ids), self.cache.length + len(ids), dtype=torch.bool)
        mask[:num_new, -num_tokens:] = False  # text does not see the masks behind it
        if self.model.config.causal_past:
            mask[:num_new] = mask[:num_new].tril(self.cache.length)
        hidden = self.model(
            torch.tensor([ids], device=device),
            mask=mask[None, None].to(device),
            cache=self.cache,
            where=torch.arange(len(ids), device=device)[None] >= num_new,
        )
        self.cache.commit(num_new)
        self.read = list(text[:num_past])
        self.num_forwards += 1
        token, _ = head_select(
            hidden,
            self.model.head_operand,
            forbidden_id=self.tokenizer.mask_id,
            temperature=0.0,
        )
        guesses: list[int] = token.tolist()
        end_id = self.tokenizer.end_id
        return guesses[: guesses.index(end_id) + 1] if end_id in guesses else guesses


def read_causally(model: Transformer, cache: KVCache, tokens: Sequence[int]) -> torch.Tensor:
    """Hidden states [L, D] of `tokens` behind the cache, each seeing itself and what is before."""
    device = model.embedding.weight.device
    length, seen = len(tokens), cache.length + len(tokens)
    mask = torch.ones(length, seen, dtype=torch.bool, device=device).tril(cache.length)
    ids = torch.tensor([list(tokens)], device=device)
    hidden: torch.Tensor = model(ids, mask=mask[None, None], cache=cache)[0]
    return hidden


@torch.inference_mode()
def sample_speculatively(
    model: Transformer,
    tokenizer: SpecialIds,
    prompts: Sequence[Sequence[int]],
    *,
    draft: Draft = look_up,
    num_draft: int = 8,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
) -> list[Generation]:
    """Generate one answer per prompt, left to right, several tokens per forward where guesses hit.

    Guesses are made by `draft`, which is `look_up`, a `DraftModel` or a `DiffusionDraft`,
    `num_draft` per forward. The other arguments are those of `autoregressive.sample_tokens`, whose
    tokens these are.

    Raises:
        ValueError: as `sample_tokens`, or `num_draft` below 1.
    """
    started = time.perf_counter()
    check_canvas(model, prompts, 1, max_new_tokens)
    if num_draft < 1:
        raise ValueError(f"num_draft={num_draft} must be at least 1; or use sample_tokens")
    select = make_select(model.head_operand, tokenizer, temperature, top_p)
    results = []
    for prompt, seed in zip(prompts, seeds or range(len(prompts)), strict=True):
        before = draft.num_forwards if isinstance(draft, DraftModel | DiffusionDraft) else 0
        result = sample_one(
            model, tokenizer, prompt, draft, num_draft, max_new_tokens, select, seed, started
        )
        if isinstance(draft, DraftModel | DiffusionDraft):
            result.nfe_draft = draft.num_forwards - before
        results.append(result)
    return results


def sample_one(
    model: Transformer,
    tokenizer: SpecialIds,
    prompt: Sequence[int],
    draft: Draft,
    num_draft: int,
    max_new_tokens: int,
    select: Select,
    seed: int,
    started: float,
) -> Generation:
    """One answer; times count from `started`."""
    device = model.embedding.weight.device
    cache = KVCache(model.config, 1, len(prompt) + max_new_tokens, model.embedding.weight)
    result = Generation()
    unread = list(prompt)  # tokens of the text without keys and values
    while True:
        num_done = len(result.token_ids)
        room = max_new_tokens - num_done - 1
        guesses = draft([*prompt, *result.token_ids], min(num_draft, room)) if room else []
        hidden = read_causally(model, cache, [*unread, *guesses])[-len(guesses) - 1 :]
        offsets = torch.arange(num_done, num_done + len(hidden), device=device)
        drawn, _ = select(hidden, seed * 1_000_003 + offsets)
        tokens = drawn.tolist()
        num_right = 0
        while num_right < len(guesses) and tokens[num_right] == guesses[num_right]:
            num_right += 1
        tokens = tokens[: num_right + 1]
        if tokenizer.end_id in tokens:
            tokens = tokens[: tokens.index(tokenizer.end_id)]
            result.finish_reason = "stop"
        cache.commit(len(unread) + num_right)
        if num_done or guesses:
            result.nfe_denoise += 1
        else:  # a first forward that judges guesses too is no mere prefill
            result.nfe_prefill = 1
        result.token_ids += tokens
        result.commit_times_s.append(time.perf_counter() - started)
        result.commit_tokens.append(len(tokens))
        if result.finish_reason == "stop" or len(result.token_ids) == max_new_tokens:
            return result
        unread = tokens[-1:]
