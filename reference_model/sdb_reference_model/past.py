"""The past of a batch in the block sampler: finished tokens, and how a block is read against them.

Place in the flow: `sampler.py` reads the current block many times and appends it once. `Cached` is
how it runs; `Uncached` is what it means: the whole sequence under an explicit block mask at every
step. Both give the same tokens (a test).
"""

from typing import Protocol

import torch
from torch import Tensor

from sdb_reference_model.model import KVCache, Transformer


class Context(Protocol):
    """The past of a batch: finished tokens, and how a block is read against them."""

    num_prefill: int
    num_append: int
    """Forwards that `append` takes when the block was not read in its final form."""

    def read(self, block: Tensor) -> Tensor:
        """Hidden states [B, b, D] of `block` int64 [B, b], given everything finished."""
        ...

    def append(self, block: Tensor, was_read: bool) -> None:
        """Make `block` part of the past; `was_read`: the last `read` saw exactly this block."""
        ...


class Cached:
    """The past as keys and values. One prefill, then only the block is computed."""

    num_prefill, num_append = 1, 1

    def __init__(self, model: Transformer, prompt: Tensor, lengths: Tensor, capacity: int) -> None:
        """Prefill: the prompt is block 0, which sees all of itself."""
        self.model, width = model, prompt.shape[1]
        self.cache = KVCache(model.config, len(prompt), width + capacity, model.head_weight)
        self.shift = (lengths - width)[:, None]  # [B, 1], minus the padding of each row
        self.is_real = torch.ones(len(prompt), width + capacity, dtype=torch.bool)
        self.is_real[:, :width] = torch.arange(width)[None] + self.shift >= 0
        self.is_real = self.is_real.to(prompt.device)
        self.has_padding = not bool(self.is_real.all())
        self.append(prompt, was_read=False)

    def read(self, block: Tensor) -> Tensor:
        start, end = self.cache.length, self.cache.length + block.shape[1]
        columns = torch.arange(start, end, device=block.device)[None]
        positions = (columns + self.shift).clamp(min=0)  # [B, b]
        mask = self.is_real[:, None, None, :end] if self.has_padding else None
        return self.model(block, positions=positions, mask=mask, cache=self.cache)  # type: ignore[no-any-return]

    def append(self, block: Tensor, was_read: bool) -> None:
        if not was_read:
            self.read(block)
        self.cache.commit(block.shape[1])


class Uncached:
    """The definition: every step reads the whole sequence under an explicit block mask."""

    num_prefill, num_append = 0, 0

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

    def append(self, block: Tensor, was_read: bool) -> None:
        own = self.block_of.max() + 1
        self.tokens = torch.cat((self.tokens, block), dim=1)
        self.block_of = torch.cat((self.block_of, own.expand(block.shape[1])))
