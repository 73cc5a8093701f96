"""The block sampler: text grows block by block, the tokens of a block in any order.

    for each block:            p(x_s | x_t, x_{B_0..B_n}), causal between blocks (section 3.4)
        while masks are left:  one forward of the block against the cached past
                               propose a token for every mask, commit the confident ones
        one forward of the finished block, whose keys and values become past

Place in the flow: token ids in, token ids out, with every forward counted by kind and the time of
every commit. `Cached` is how it runs; `Uncached` is what it means: the whole sequence under an
explicit block mask at every step. Both give the same tokens (a test).

What it does not do: rewrite visible tokens (the paper does not disclose how many it rewrites, or
when), drop finished rows from a batch, or stop at strings; it stops at the end token.

Choice: a block's tail of end tokens is one decision. Behind the first position from which the
model proposes nothing but end tokens nothing is committed, and a committed end token closes its
block; otherwise the answer's length, not its text, would cost most of the forwards.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from sdb_kernels.head_select import head_select
from sdb_reference_model.model import KVCache, Transformer
from sdb_reference_model.tokenizer import CodeTokenizer, pad_left

Policy = Callable[[Tensor, Tensor, int], Tensor]
"""(confidence [B, b], is_open [B, b], step) -> which open positions to commit, bool [B, b].

Confidence is -1 where a position must not be committed now. At least one open position of each
row that has any is returned, which guarantees progress.
"""


def commit_above(threshold: float) -> Policy:
    """Commit what is more probable than `threshold`, at least the best; 1.0 = one a forward."""

    def select(confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        best = confidence.argmax(dim=1, keepdim=True)
        is_best = torch.zeros_like(is_open).scatter_(1, best, True)
        return ((confidence > threshold) | is_best) & is_open

    return select


def commit_evenly(num_steps: int) -> Policy:
    """Commit the most probable ceil(open / steps left), so that `num_steps` steps suffice."""

    def select(confidence: Tensor, is_open: Tensor, step: int) -> Tensor:
        steps_left = max(1, num_steps - step)
        quota = -(-is_open.sum(dim=1, keepdim=True) // steps_left)
        rank = confidence.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return (rank < quota) & is_open & (confidence >= 0)

    return select


@dataclass(slots=True)
class Generation:
    """What came of one prompt. Times are seconds since submission."""

    token_ids: list[int] = field(default_factory=list)
    """Committed ids up to and without the first end token."""
    finish_reason: Literal["stop", "length"] = "length"
    nfe_prefill: int = 0
    nfe_denoise: int = 0
    nfe_commit: int = 0
    commit_times_s: list[float] = field(default_factory=list)
    commit_tokens: list[int] = field(default_factory=list)


class Context(Protocol):
    """The past of a batch: finished tokens, and how a block is read against them."""

    num_prefill: int

    def read(self, block: Tensor) -> Tensor:
        """Hidden states [B, b, D] of `block` int64 [B, b], given everything finished."""
        ...

    def append(self, block: Tensor) -> int:
        """Make `block` part of the past; returns how many forwards that took."""
        ...


class Cached:
    """The past as keys and values. One prefill, then only the block is computed."""

    num_prefill = 1

    def __init__(self, model: Transformer, prompt: Tensor, lengths: Tensor, capacity: int) -> None:
        """Prefill: the prompt is block 0, which sees all of itself."""
        self.model, width = model, prompt.shape[1]
        self.cache = KVCache(model.config, len(prompt), width + capacity, model.head_weight)
        self.shift = (lengths - width)[:, None]  # [B, 1], minus the padding of each row
        self.is_real = torch.ones(len(prompt), width + capacity, dtype=torch.bool)
        self.is_real[:, :width] = torch.arange(width)[None] + self.shift >= 0
        self.is_real = self.is_real.to(prompt.device)
        self.has_padding = not bool(self.is_real.all())
        self.append(prompt)

    def read(self, block: Tensor) -> Tensor:
        start, end = self.cache.length, self.cache.length + block.shape[1]
        columns = torch.arange(start, end, device=block.device)[None]
        positions = (columns + self.shift).clamp(min=0)  # [B, b]
        mask = self.is_real[:, None, None, :end] if self.has_padding else None
        return self.model(block, positions=positions, mask=mask, cache=self.cache)  # type: ignore[no-any-return]

    def append(self, block: Tensor) -> int:
        self.read(block)
        self.cache.commit(block.shape[1])
        return 1


class Uncached:
    """The definition: every step reads the whole sequence under an explicit block mask."""

    num_prefill = 0

    def __init__(self, model: Transformer, prompt: Tensor, lengths: Tensor, capacity: int) -> None:
        """Nothing is computed ahead."""
        self.model, self.tokens = model, prompt
        self.block_of = torch.zeros_like(prompt[0])  # prompt = block 0
        self.shift = (lengths - prompt.shape[1])[:, None]

    def read(self, block: Tensor) -> Tensor:
        tokens = torch.cat((self.tokens, block), dim=1)  # [B, L]
        own = self.block_of.max() + 1
        block_of = torch.cat((self.block_of, own.expand(block.shape[1])))
        columns = torch.arange(tokens.shape[1], device=tokens.device)[None] + self.shift  # [B, L]
        sees = (block_of[None, :] <= block_of[:, None])[None] & (columns >= 0)[:, None]
        sees = sees | torch.eye(len(block_of), dtype=torch.bool, device=tokens.device)  # no NaN
        hidden = self.model(tokens, positions=columns.clamp(min=0), mask=sees[:, None])
        return hidden[:, -block.shape[1] :]  # type: ignore[no-any-return]

    def append(self, block: Tensor) -> int:
        own = self.block_of.max() + 1
        self.tokens = torch.cat((self.tokens, block), dim=1)
        self.block_of = torch.cat((self.block_of, own.expand(block.shape[1])))
        return 0


@torch.inference_mode()
def sample_blocks(
    model: Transformer,
    tokenizer: CodeTokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    block_size: int,
    policy: Policy,
    max_new_tokens: int,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    use_cache: bool = True,
    on_step: Callable[[Tensor], None] | None = None,
) -> list[Generation]:
    """Generate one answer per prompt.

    Args:
        model: a diffusion model; used bidirectionally inside a block.
        tokenizer: for its mask, end and pad ids.
        prompts: B non-empty lists of ids, of any lengths.
        block_size: tokens b of one block; divides `max_new_tokens`.
        policy: which proposals are committed, see `Policy`.
        max_new_tokens: length of the canvas, per row.
        temperature: of the draw; 0 takes the most probable token.
        seeds: one per row, so that a row's draw depends on no other row; default 0..B-1.
        use_cache: False runs the slow definition.
        on_step: called after each step with the current block [B, b].

    Returns:
        B generations, in order. The same tokens for every batch composition, up to float rounding.

    Raises:
        ValueError: if the block does not divide the canvas, or the canvas does not fit the model.
    """
    started = time.perf_counter()
    check_canvas(model, prompts, block_size, max_new_tokens)
    device = model.head_weight.device
    prompt = pad_left(prompts, tokenizer.pad_id).to(device)  # [B, P]
    lengths = torch.tensor([len(ids) for ids in prompts], device=device)
    row_seeds = torch.tensor(list(seeds or range(len(prompts))), device=device)
    kind: type[Cached] | type[Uncached] = Cached if use_cache else Uncached
    context: Context = kind(model, prompt, lengths, max_new_tokens)
    results = [Generation(nfe_prefill=context.num_prefill) for _ in prompts]

    for start in range(0, max_new_tokens, block_size):
        is_running = torch.tensor([r.finish_reason == "length" for r in results], device=device)
        block = torch.full((len(prompts), block_size), tokenizer.mask_id, device=device)
        block[~is_running] = tokenizer.end_id
        offsets = torch.arange(start, start + block_size, device=device)
        noise_seeds = row_seeds[:, None] * 1_000_003 + offsets  # [B, b]
        denoise_block(
            model, context, tokenizer, block, policy, temperature, noise_seeds, results, on_step
        )
        record_block(block, is_running, tokenizer.end_id, results, time.perf_counter() - started)
        if all(result.finish_reason == "stop" for result in results):
            break
        if start + block_size < max_new_tokens:
            num_forwards = context.append(block)
            for result in results:
                result.nfe_commit += num_forwards * (result.finish_reason == "length")
    return results


def check_canvas(
    model: Transformer, prompts: Sequence[Sequence[int]], block_size: int, max_new_tokens: int
) -> None:
    """Reject what cannot be sampled, with the way out."""
    if not prompts or not all(prompts):
        raise ValueError("every prompt needs at least one token")
    if block_size < 1 or max_new_tokens < 1 or max_new_tokens % block_size:
        fitting = [b for b in (4, 8, 16, 32, 64) if max_new_tokens % b == 0] or [max_new_tokens]
        raise ValueError(
            f"block_size={block_size} does not divide max_new_tokens={max_new_tokens}; "
            f"use {' or '.join(map(str, fitting))}"
        )
    longest, limit = max(len(ids) for ids in prompts), model.config.max_seq_len
    if longest + max_new_tokens > limit:
        raise ValueError(
            f"a prompt of {longest} tokens and max_new_tokens={max_new_tokens} exceed the model's "
            f"max_seq_len={limit}; set max_new_tokens to at most {limit - longest}"
        )


def denoise_block(
    model: Transformer,
    context: Context,
    tokenizer: CodeTokenizer,
    block: Tensor,
    policy: Policy,
    temperature: float,
    noise_seeds: Tensor,
    results: Sequence[Generation],
    on_step: Callable[[Tensor], None] | None,
) -> None:
    """Fill the masks of `block` [B, b] in place, step by step."""
    is_open = block == tokenizer.mask_id  # [B, b]
    step = 0
    while bool(is_open.any()):
        for result, is_active in zip(results, is_open.any(dim=1).tolist(), strict=True):
            result.nfe_denoise += is_active
        hidden = context.read(block)[is_open]  # [N, D]: only undecided rows reach the head
        proposed, probability = head_select(
            hidden,
            model.head_weight,
            forbidden_id=tokenizer.mask_id,
            temperature=temperature,
            seeds=noise_seeds[is_open],
        )
        proposal = block.masked_scatter(is_open, proposed)  # [B, b]
        confidence = torch.full(block.shape, -1.0, device=block.device)
        confidence = confidence.masked_scatter(is_open, probability)
        confidence[is_behind_tail_start(proposal == tokenizer.end_id)] = -1.0
        is_committed = policy(confidence, is_open, step)
        block[is_committed] = proposal[is_committed]
        is_ended = (block == tokenizer.end_id).cumsum(dim=1) > 0  # from the first end token on
        block[is_ended] = tokenizer.end_id
        is_open = block == tokenizer.mask_id
        step += 1
        if on_step is not None:
            on_step(block)


def is_behind_tail_start(is_end: Tensor) -> Tensor:
    """Positions inside a row's tail of end tokens, its first position excepted; bool [B, b]."""
    is_tail = is_end.flip(1).cumprod(dim=1).flip(1).bool()
    return is_tail & torch.nn.functional.pad(is_tail, (1, 0))[:, :-1]


def record_block(
    block: Tensor,
    is_running: Tensor,
    end_id: int,
    results: Sequence[Generation],
    elapsed_s: float,
) -> None:
    """Append a finished block to the running rows, up to their first end token."""
    rows = zip(block.tolist(), is_running.tolist(), results, strict=True)
    for ids, was_running, result in rows:
        if not was_running:
            continue
        num_tokens = ids.index(end_id) if end_id in ids else len(ids)
        result.token_ids += ids[:num_tokens]
        result.commit_times_s.append(elapsed_s)
        result.commit_tokens.append(num_tokens)
        if num_tokens < len(ids):
            result.finish_reason = "stop"
