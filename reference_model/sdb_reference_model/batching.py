"""Continuous batching: a queue of prompts through a batch of fixed size, block by block.

    while prompts wait or run:  seats of finished answers go to the prompts that wait
                                one block for every seat, each at its own place in its answer

Place in the flow: `sampler.sample_blocks` for many prompts and throughput; a block is the unit of
scheduling, so that its policy and revision are those of one batch, and who is done with a block
early is not computed any more. The tokens are those of each prompt alone (a test).

What it does not do: models of full attention, whose answer has a place for every token from the
start; infilling; arrivals over time, all prompts are there when it starts.
"""

import time
from collections import deque
from collections.abc import Sequence

import torch

from sdb_reference_model.model import Transformer
from sdb_reference_model.past import Cached
from sdb_reference_model.policies import Policy, Revision, start_revision
from sdb_reference_model.sampler import Generation, check_canvas, denoise_block, record_block
from sdb_reference_model.selection import make_select
from sdb_reference_model.tokenizer import SpecialIds, pad_left


@torch.inference_mode()
def sample_queue(
    model: Transformer,
    tokenizer: SpecialIds,
    prompts: Sequence[Sequence[int]],
    *,
    batch_size: int,
    block_size: int,
    policy: Policy,
    max_new_tokens: int,
    revision: Revision | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
) -> list[Generation]:
    """Generate one answer per prompt, at most `batch_size` of them at a time.

    The other arguments, results and errors are those of `sampler.sample_blocks`; times count from
    this call, the wait for a seat included.

    Raises:
        ValueError: as `sample_blocks`, or no seats.
    """
    started = time.perf_counter()
    check_canvas(model, prompts, block_size, max_new_tokens)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    select = make_select(model.head_operand, tokenizer, temperature, top_p)
    device = model.embedding.weight.device
    row_seeds = torch.tensor(list(seeds or range(len(prompts))), device=device)
    canvas = torch.empty(1, max_new_tokens, dtype=torch.int64)  # as long as any answer
    results = [Generation(nfe_prefill=1) for _ in prompts]
    waiting = deque(range(len(prompts)))
    seats: list[int] = []  # index of the prompt in each
    num_done = [0] * len(prompts)
    context: Cached | None = None
    while True:
        new = [waiting.popleft() for _ in range(min(batch_size - len(seats), len(waiting)))]
        if new:
            padded = pad_left([prompts[i] for i in new], tokenizer.pad_id).to(device)
            lengths = torch.tensor([len(prompts[i]) for i in new], device=device)
            fresh = Cached(model, padded, lengths, canvas, is_folded=False)
            if context is None:
                context = fresh
            else:
                rows = torch.arange(len(seats), device=device)
                context.regroup(rows, fresh, max_new_tokens)
            seats += new
        assert context is not None
        block = torch.full((len(seats), block_size), tokenizer.mask_id, device=device)
        is_all = torch.ones_like(block, dtype=torch.bool)
        start = torch.tensor([[num_done[i]] for i in seats], device=device)
        offsets = start + torch.arange(block_size, device=device)  # [B, b]
        own_seeds = row_seeds[torch.tensor(seats, device=device)]
        own = [results[i] for i in seats]
        was_read = denoise_block(
            context,
            tokenizer,
            block,
            policy,
            start_revision(revision, tokenizer, len(seats), device),
            select,
            own_seeds[:, None] * 1_000_003 + offsets,
            own,
            None,
        )
        elapsed_s = time.perf_counter() - started
        record_block(block, is_all, is_all[:, 0], tokenizer.end_id, own, elapsed_s)
        for i in seats:
            num_done[i] += block_size
        goes_on = [
            results[i].finish_reason == "length" and num_done[i] < max_new_tokens for i in seats
        ]
        if not any(goes_on) and not waiting:
            return results
        # A batch that changes pays for its block now; else it rides with the next one.
        context.is_folded = all(goes_on)
        is_due = torch.tensor(goes_on, device=device) & ~was_read
        context.append(block, is_due)
        for result, is_paid in zip(own, is_due.tolist(), strict=True):
            result.nfe_commit += is_paid and not context.is_folded
        if not all(goes_on):
            rows = torch.tensor([row for row, stays in enumerate(goes_on) if stays], device=device)
            seats = [i for i, stays in zip(seats, goes_on, strict=True) if stays]
            if seats:
                context.regroup(rows, None, max_new_tokens)
            else:
                context = None
