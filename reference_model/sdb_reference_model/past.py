"""What a block is read against: the past of a batch, and for some models its future.

Place in the flow: `sampler.py` reads the current block many times and appends it once. Two kinds of
model, each with a definition that reads the whole sequence at every step and a way that runs:

    block-causal   `Uncached`      prompt and blocks, each sees itself and what stands before it
                   `Cached`        the same tokens: keys and values of finished blocks are exact
    full           `FullUncached`  every position sees every other, masks to come included
                   `PrefixCached`  keys and values before the block are as old as the last refresh
                   `DualCached`    those behind it too (Fast-dLLM, arXiv 2505.22618)

Refresh policy of the last two: the first step of a block reads the whole sequence and so renews
every key and value; the steps after it renew the block's own (`DualCached`) or those from the
block on (`PrefixCached`). `refresh_every=n` renews all in every n-th step of a block; with 1 both
are `FullUncached`. In between they are approximations, as in the engines that invented them.

`is_shifted` is for models whose hidden state at i speaks of token i + 1 (Dream): a block is then
read from the position before its first one.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_reference_model.model import KVCache, Transformer


class Context(Protocol):
    """The past of a batch: finished tokens, and how a block is read against them."""

    num_prefill: int
    num_append: int
    """Forwards that `append` takes for rows that are due."""
    keeps_reads: bool
    """Whether a block that was read in its final form need not be read again for the past."""

    def read(self, block: Tensor, where: Tensor) -> Tensor:
        """Hidden states [N, D] of `block` int64 [B, b] at `where` bool [B, b], row by row."""
        ...

    def append(self, block: Tensor, is_due: Tensor) -> None:
        """Make `block` part of the past.

        `is_due` bool [B]: rows that go on and whose last `read` did not see exactly this block.
        """
        ...


Past = Callable[[Transformer, Tensor, Tensor, Tensor], Context]
"""(model, left-padded prompts int64 [B, P], their lengths [B], canvas [B, C]) -> context: one of
the classes below, or a `functools.partial` of one."""


AttentionMode = Literal["causal", "full", "block_causal", "block_causal_prompt", "causal_past"]
"""What a model was trained to see. `block_causal_prompt`: the prompt is made of blocks as well."""


def choose_past(attention: AttentionMode, is_shifted: bool, block_size: int) -> Past:
    """What a diffusion model is read against, the fast way."""
    if attention == "full":
        return partial(DualCached, is_shifted=is_shifted)
    if attention == "block_causal_prompt":
        return partial(Cached, prompt_block_size=block_size)
    return Cached


class Cached:
    """Keys and values of a block-causal model. One prefill, then only the block is computed.

    The prefill counts as a forward of its own, also where it is the first step's.

    Rows without a wanted position are left out of a forward: who is done costs nothing.
    """

    num_prefill = 1

    def __init__(
        self,
        model: Transformer,
        prompt: Tensor,
        lengths: Tensor,
        canvas: Tensor,
        *,
        is_folded: bool = True,
        prompt_block_size: int | None = None,
    ) -> None:
        """Prefill: the prompt is block 0, which sees all of itself, or blocks of its own (SDAR).

        Under `ModelConfig.causal_past` it is causal, and its last token is read with the block.

        With `is_folded` a finished block is computed together with the first step of the next one,
        which does not see less for it: one forward of 2b positions instead of two of b. So is the
        prompt, as long as it is one block or causal.
        """
        self.model, self.is_causal = model, model.config.causal_past
        self.keeps_reads = not self.is_causal
        if self.is_causal:
            self.last, prompt, lengths = prompt[:, -1:], prompt[:, :-1], lengths - 1
        width, capacity = prompt.shape[1], prompt.shape[1] + canvas.shape[1]
        self.is_folded, self.num_append = is_folded, 0 if is_folded else 1
        self.cache = KVCache(model.config, len(prompt), capacity, model.embedding.weight)
        self.lay_out(lengths, width, capacity)
        self.pending: tuple[Tensor, Tensor] | None = None
        if prompt_block_size is not None:
            columns = torch.arange(width, device=prompt.device) + (lengths - width)[:, None]
            self.compute(prompt, None, None, see_blocks(columns // prompt_block_size))  # [B, P]
            self.cache.commit(width)
        elif width:
            self.pending = prompt, torch.ones_like(lengths, dtype=torch.bool)
            if not is_folded:
                self.settle()

    def lay_out(self, lengths: Tensor, width: int, capacity: int) -> None:
        """Positions and padding of all columns, for prompts that end at column `width`."""
        columns = torch.arange(capacity, device=lengths.device)[None]
        self.padding = width - lengths  # [B]
        positions = columns + (lengths - width)[:, None]  # [B, S]
        self.has_padding = bool((lengths < width).any())
        self.is_real = positions >= 0
        positions = positions.clamp(min=0) if self.has_padding else positions[:1]
        self.rope = self.model.compute_rope(positions)  # [B or 1, 1, S, E]

    def compute(
        self,
        tokens: Tensor,
        where: Tensor | None,
        rows: Tensor | None,
        staircase: Tensor | None = None,
    ) -> Tensor:
        """Run `tokens` [R, L] of `rows` int64 [R] behind the past; see `Transformer.forward`."""
        start, end = self.cache.length, self.cache.length + tokens.shape[1]
        rope, mask = (self.rope[0][:, :, start:end], self.rope[1][:, :, start:end]), staircase
        if self.has_padding:
            is_real = self.is_real[:, None, None, :end]
            if rows is not None:
                is_real, rope = is_real[rows], (rope[0][rows], rope[1][rows])
            mask = is_real if staircase is None else is_real & staircase
        self.cache.rows = rows
        hidden: Tensor = self.model(tokens, mask=mask, cache=self.cache, rope=rope, where=where)
        return hidden

    def shift(self, block: Tensor) -> Tensor:
        """What is read to predict `block`."""
        return torch.cat((self.last, block[:, :-1]), dim=1) if self.is_causal else block

    def read(self, block: Tensor, where: Tensor) -> Tensor:
        block = self.shift(block)
        if self.pending is None:
            rows = find_rows(where.any(dim=1))
            if rows is None:
                return self.compute(block, where, None)
            return self.compute(block[rows], where[rows], rows)
        finished, is_due = self.pending
        num_old = finished.shape[1]
        rows = find_rows(where.any(dim=1) | is_due)
        tokens, where = torch.cat((finished, block), dim=1), F.pad(where, (num_old, 0))
        if rows is not None:
            tokens, where = tokens[rows], where[rows]
        end = self.cache.length + tokens.shape[1]
        staircase = torch.ones(tokens.shape[1], end, dtype=torch.bool, device=block.device)
        staircase[:num_old, end - block.shape[1] :] = False
        if self.is_causal:
            staircase[:num_old, : end - block.shape[1]] = self.see_causally(num_old)
        hidden = self.compute(tokens, where, rows, staircase[None, None])
        self.cache.commit(num_old)
        self.pending = None
        return hidden

    def append(self, block: Tensor, is_due: Tensor) -> None:
        self.settle()
        finished = self.shift(block).clone()
        if self.is_causal:
            self.last = block[:, -1:].clone()
        if not bool(is_due.any()):
            self.cache.commit(block.shape[1])
            return
        self.pending = finished, is_due
        if not self.is_folded:
            self.settle()

    def settle(self) -> None:
        """Compute what waits for the next step now, if anything does."""
        if self.pending is not None:
            (finished, is_due), self.pending = self.pending, None
            rows, width = find_rows(is_due), finished.shape[1]
            mask = self.see_causally(width) if self.is_causal else None
            self.compute(finished if rows is None else finished[rows], None, rows, mask)
            self.cache.commit(width)

    def see_causally(self, num_new: int) -> Tensor:
        """Attention bool [1, 1, L, S] of `num_new` columns behind the past, each seeing its own."""
        end = self.cache.length + num_new
        mask = torch.ones(num_new, end, dtype=torch.bool, device=self.is_real.device)
        return mask.tril(self.cache.length)[None, None]

    def regroup(self, rows: Tensor, fresh: "Cached | None", room: int) -> None:
        """Keep `rows` int64 [R], put those of `fresh` behind them, make `room` for more columns.

        All rows end at the same column, so what is shorter gets padding on the left.
        """
        assert self.pending is None, "a block that waits for its forward cannot change its batch"
        groups = [(self, rows)]
        if fresh is not None:
            groups.append((fresh, torch.arange(len(fresh.padding), device=rows.device)))
        lengths = torch.cat([past.cache.length - past.padding[own] for past, own in groups])
        width = int(lengths.max())
        like = self.model.embedding.weight
        cache = KVCache(self.model.config, len(lengths), width + room, like)
        for tensor in (cache.keys, cache.values):
            tensor.zero_()  # padding must be finite: nothing times NaN is not nothing
        first = 0
        for past, own in groups:
            end, last = past.cache.length, first + len(own)
            start = max(0, end - width)
            span = slice(width - (end - start), width)
            cache.keys[:, first:last, :, span] = past.cache.keys[:, own, :, start:end]
            cache.values[:, first:last, :, span] = past.cache.values[:, own, :, start:end]
            first = last
        cache.commit(width)
        if self.is_causal:
            self.last = torch.cat([past.last[own] for past, own in groups])
        self.cache = cache
        self.lay_out(lengths, width, width + room)


def find_rows(is_wanted: Tensor) -> Tensor | None:
    """Indices of the True rows, or None if that is all of them."""
    return None if bool(is_wanted.all()) else is_wanted.nonzero().squeeze(1)


def see_blocks(block_of: Tensor) -> Tensor:
    """Attention bool [B, 1, L, L] in which a position sees its own block and those before it."""
    return (block_of[:, None, :] <= block_of[:, :, None])[:, None]


class Uncached:
    """The definition of `Cached`: the whole sequence under an explicit block mask, every step."""

    num_prefill, num_append, keeps_reads = 0, 0, True

    def __init__(
        self,
        model: Transformer,
        prompt: Tensor,
        lengths: Tensor,
        canvas: Tensor,
        *,
        prompt_block_size: int | None = None,
    ) -> None:
        """Nothing is computed ahead."""
        self.model, self.tokens, self.is_causal = model, prompt, model.config.causal_past
        self.shift = (lengths - prompt.shape[1])[:, None]
        columns = torch.arange(prompt.shape[1], device=prompt.device)[None] + self.shift
        self.block_of = columns // (prompt_block_size or prompt.shape[1])  # [B, P], pads below 0

    def read(self, block: Tensor, where: Tensor) -> Tensor:
        tokens = torch.cat((self.tokens, block), dim=1)  # [B, L]
        block_of = self.append_block(block)
        if self.is_causal:  # every column is a block, but those read to predict the current one
            tokens, columns = tokens[:, :-1], torch.arange(tokens.shape[1] - 1)
            block_of = columns.clamp(max=len(columns) - block.shape[1]).expand(tokens.shape)
        columns = torch.arange(tokens.shape[1], device=tokens.device)[None] + self.shift  # [B, L]
        sees = see_blocks(block_of) & (columns >= 0)[:, None, None]
        sees |= torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)  # no NaN
        hidden = self.model(tokens, positions=columns.clamp(min=0), mask=sees)
        return hidden[:, -block.shape[1] :][where]  # type: ignore[no-any-return]

    def append(self, block: Tensor, is_due: Tensor) -> None:
        self.tokens = torch.cat((self.tokens, block), dim=1)
        self.block_of = self.append_block(block)

    def append_block(self, block: Tensor) -> Tensor:
        """Block of every position [B, L], the current one included."""
        own = (self.block_of.max() + 1).expand(block.shape)
        return torch.cat((self.block_of, own), dim=1)


class FullUncached:
    """The definition for models of full attention: prompt and canvas, all of it, every step."""

    num_prefill, num_append, keeps_reads = 0, 0, True

    def __init__(
        self,
        model: Transformer,
        prompt: Tensor,
        lengths: Tensor,
        canvas: Tensor,
        *,
        is_shifted: bool = False,
    ) -> None:
        """Nothing is computed ahead."""
        self.model, self.is_shifted = model, is_shifted
        self.tokens = torch.cat((prompt, canvas), dim=1)  # [B, L]
        self.start = prompt.shape[1]
        columns = torch.arange(self.tokens.shape[1], device=prompt.device)[None]
        positions = columns + (lengths - self.start)[:, None]  # [B, L]
        self.mask = None
        if bool((lengths < self.start).any()):
            self.mask = (positions >= 0)[:, None, None]
        self.rope = model.compute_rope(positions.clamp(min=0))

    def read(self, block: Tensor, where: Tensor) -> Tensor:
        return self.compute(block, where, 0, self.tokens.shape[1], None)

    def compute(
        self, block: Tensor, where: Tensor, first: int, last: int, cache: KVCache | None
    ) -> Tensor:
        """Read columns [first, last), which hold the block, behind those of the cache."""
        self.tokens[:, self.start : self.start + block.shape[1]] = block
        before = self.start - self.is_shifted - first
        behind = last - first - before - block.shape[1]
        rope = self.rope[0][:, :, first:last], self.rope[1][:, :, first:last]
        hidden: Tensor = self.model(
            self.tokens[:, first:last],
            mask=self.mask,
            cache=cache,
            rope=rope,
            where=F.pad(where, (before, behind)),
        )
        return hidden

    def append(self, block: Tensor, is_due: Tensor) -> None:
        self.tokens[:, self.start : self.start + block.shape[1]] = block
        self.start += block.shape[1]


class DualCached(FullUncached):
    """Keys and values of prefix and suffix, renewed at every block or every few steps."""

    reads_suffix = False

    def __init__(
        self,
        model: Transformer,
        prompt: Tensor,
        lengths: Tensor,
        canvas: Tensor,
        *,
        is_shifted: bool = False,
        refresh_every: int | None = None,
    ) -> None:
        """Nothing is computed ahead: the first step of a block computes everything.

        Raises:
            ValueError: a period below 1.
        """
        super().__init__(model, prompt, lengths, canvas, is_shifted=is_shifted)
        if refresh_every is not None and refresh_every < 1:
            raise ValueError(f"refresh_every={refresh_every} must be at least 1, or left out")
        self.refresh_every, self.step = refresh_every, 0
        width = self.tokens.shape[1]
        self.cache = KVCache(model.config, len(prompt), width, model.embedding.weight)
        self.cache.num_seen = width

    def read(self, block: Tensor, where: Tensor) -> Tensor:
        first, last = self.start - self.is_shifted, self.start + block.shape[1]
        if self.reads_suffix:
            last = self.tokens.shape[1]
        if self.step == 0 or (self.refresh_every and self.step % self.refresh_every == 0):
            first, last = 0, self.tokens.shape[1]
        self.step += 1
        self.cache.length = first
        return self.compute(block, where, first, last, self.cache)

    def append(self, block: Tensor, is_due: Tensor) -> None:
        super().append(block, is_due)
        self.step = 0


class PrefixCached(DualCached):
    """Keys and values of the prefix alone; block and suffix are computed in every step."""

    reads_suffix = True
