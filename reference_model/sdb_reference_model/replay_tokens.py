"""The autoregressive twin by replayed steps: the tokens of `sample_tokens`, and few questions.

    load      prompts into the buffers of their shape, one prefill, the first token
    replay    k times: read the last token, draw the next one, write it
    poll      ask the device which rows have ended

Place in the flow: what `replay.py` is to `sample_blocks`, so that a speed of the block sampler is
held against an autoregressive one that wastes no more. `sample_tokens` is the definition: same
tokens, at every temperature, same reasons to finish, same counts of forwards.

What it does not do: a nucleus, which needs logits; guess ahead (`speculative.py`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdb_kernels.head_select import head_select
from sdb_reference_model.fused import read_block
from sdb_reference_model.model import KVCache, Transformer
from sdb_reference_model.replay import (
    CAPACITY_STEP,
    NUM_WARM_UP_RUNS,
    POLL_EVERY,
    Steps,
    describe,
    find_step,
)
from sdb_reference_model.sampler import Generation, check_canvas
from sdb_reference_model.tokenizer import SpecialIds, find_forbidden_id, pad_left


@dataclass(frozen=True, slots=True)
class TokenShape:
    """What a captured step cannot change."""

    num_rows: int
    num_columns: int
    """Tokens of a text, those behind its end included."""
    temperature: float
    capacity: int
    """Positions of the cache."""


class TokenReplayer:
    """A causal model's replayed steps, one per shape, kept from call to call."""

    def __init__(
        self, model: Transformer, tokenizer: SpecialIds, *, poll_every: int = POLL_EVERY
    ) -> None:
        """Bind a causal model that is not packed; nothing is captured yet.

        Args:
            model: its weights must stay where they are.
            tokenizer: for its mask, end and pad ids, no more.
            poll_every: replays k between two questions to the device.

        Raises:
            ValueError: no replays between polls.
        """
        if poll_every < 1:
            raise ValueError(f"poll_every={poll_every} must be at least 1")
        self.model, self.tokenizer, self.poll_every = model, tokenizer, poll_every
        self.steps: Steps[TokenShape, TokenCanvas] = {}

    @property
    def implementation(self) -> str:
        """What runs, for the record."""
        return describe(self.model, self.poll_every, None)

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
    ) -> list[Generation]:
        """Generate one answer per prompt; commit times are those of the poll that saw the token.

        Arguments and errors are those of `sample_tokens`.
        """
        check_canvas(self.model, prompts, 1, max_new_tokens)
        width = max(map(len, prompts))
        # Replays behind a text's end, and the runs before a capture, write somewhere too.
        num_columns = max_new_tokens + max(self.poll_every, NUM_WARM_UP_RUNS + 2)
        capacity = -(-(width + num_columns) // CAPACITY_STEP) * CAPACITY_STEP
        canvas, replay = self.prepare(TokenShape(len(prompts), num_columns, temperature, capacity))
        started = time.perf_counter()  # as in `replay.py`: no answer pays for the capture
        canvas.load(
            pad_left(prompts, self.tokenizer.pad_id),  # [B, P]
            torch.tensor([width - len(ids) for ids in prompts]),
            torch.tensor(list(seeds or range(len(prompts)))),
        )
        results = [Generation(nfe_prefill=1) for _ in prompts]
        num_written, is_done = 1, canvas.poll()
        seen_at_s = [time.perf_counter() - started]
        while num_written < max_new_tokens and not all(is_done):
            for _ in range(self.poll_every):
                replay()
            num_written, is_done = num_written + self.poll_every, canvas.poll()
            seen_at_s += [time.perf_counter() - started] * self.poll_every
        for result, row in zip(results, canvas.text.tolist(), strict=True):
            record(row[: min(num_written, max_new_tokens)], self.tokenizer, seen_at_s, result)
        return results

    def prepare(self, shape: TokenShape) -> tuple["TokenCanvas", Callable[[], object]]:
        """The buffers of a shape and what replays its step, new or from an earlier call."""
        return find_step(
            self.steps, shape, lambda: TokenCanvas(self.model, self.tokenizer, shape), None
        )


def record(
    row: list[int], tokenizer: SpecialIds, seen_at_s: Sequence[float], result: Generation
) -> None:
    """Read a text up to its end token into a generation; every token but the first is a forward."""
    if tokenizer.end_id in row:
        row = row[: row.index(tokenizer.end_id) + 1]
        result.finish_reason = "stop"
    result.token_ids = [i for i in row if i != tokenizer.end_id]
    result.commit_tokens = [int(i != tokenizer.end_id) for i in row]
    result.commit_times_s = list(seen_at_s[: len(row)])
    result.nfe_denoise = len(row) - 1


class TokenCanvas:
    """The buffers of one shape on the model's device, and the step that moves them on."""

    def __init__(self, model: Transformer, tokenizer: SpecialIds, shape: TokenShape) -> None:
        """Allocate empty texts, in which a step may run before there is a prompt."""
        device, rows = model.embedding.weight.device, shape.num_rows
        self.model, self.tokenizer, self.temperature = model, tokenizer, shape.temperature
        self.forbidden_id = find_forbidden_id(tokenizer)
        self.cache = KVCache(model.config, rows, shape.capacity, model.embedding.weight)
        self.num_past = torch.zeros(rows, dtype=torch.int32, device=device)
        self.first_key = torch.zeros_like(self.num_past)
        self.seeds = torch.zeros(rows, dtype=torch.int64, device=device)
        self.index = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        """Column of the next token, the same in every row."""
        self.token = torch.full((rows, 1), tokenizer.end_id, device=device)
        self.text = torch.zeros(rows, shape.num_columns, dtype=torch.int64, device=device)
        self.is_done = torch.zeros(rows, dtype=torch.bool, device=device)

    @torch.no_grad()
    def load(self, prompt: Tensor, first_key: Tensor, row_seeds: Tensor) -> None:
        """Begin texts behind prompts [B, P], left-padded by `first_key` [B]; one forward."""
        self.first_key.copy_(first_key)
        self.seeds.copy_(row_seeds * 1_000_003)
        for buffer in (self.num_past, self.index, self.is_done):
            buffer.zero_()
        hidden = self.read(prompt.to(self.text.device))
        self.num_past.fill_(prompt.shape[1])
        self.draw(hidden[:, -1])

    @torch.no_grad()
    def run(self) -> None:
        """One step of every row, all on the device."""
        hidden = self.read(self.token)
        self.num_past.add_(1)
        self.draw(hidden[:, 0])

    def read(self, tokens: Tensor) -> Tensor:
        """Hidden states [B, L, D] of tokens [B, L], each seeing what stands before it."""
        return read_block(
            self.model,
            tokens,
            self.cache,
            num_past=self.num_past,
            first_key=self.first_key,
            block_size=1,
        )

    def draw(self, hidden: Tensor) -> None:
        """Draw and write the next token of every row; behind its end a row has end tokens only."""
        token, _ = head_select(
            hidden,
            self.model.head_operand,
            forbidden_id=self.forbidden_id,
            temperature=self.temperature,
            seeds=self.seeds + self.index[:, 0],
        )
        token = token.masked_fill(self.is_done, self.tokenizer.end_id)
        self.token.copy_(token[:, None])
        self.text.scatter_(1, self.index, self.token)
        self.is_done.logical_or_(token == self.tokenizer.end_id)
        self.index.add_(1)

    def poll(self) -> list[bool]:
        """Ask the device which rows have ended; waits."""
        rows: list[bool] = self.is_done.tolist()
        return rows
