"""The block sampler: text grows block by block, the tokens of a block in any order.

    for each block:            p(x_s | x_t, x_{B_0..B_n}), causal between blocks (section 3.4)
        while masks are left:  one forward of the block against the cached past
                               propose a token for every mask, commit the confident ones
                               if asked: judge the visible tokens too, revise the doubtful ones
        the finished block becomes past: with the next block's first forward, or in its own

Place in the flow: token ids in, token ids out, with every forward counted by kind and the time of
every commit. What a block is read against is `past.py`: keys and values, or everything again. Only
rows that still have something to decide are computed, and only their open positions reach the head.

What it does not do: decide what to commit or revise (`policies.py`), or stop at strings; it stops
at the end token, and never revises one.

Choice: a block's tail of end tokens is one decision. Behind the first position from which the
model proposes nothing but end tokens nothing is committed, and a committed end token closes its
block; otherwise the answer's length, not its text, would cost most of the forwards.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from sdb_reference_model.levenshtein import apply_labels
from sdb_reference_model.model import Transformer
from sdb_reference_model.past import Cached, Context, Past
from sdb_reference_model.policies import Judgement, Policy, Reviser, Revision, start_revision
from sdb_reference_model.selection import Measure, Select, make_select
from sdb_reference_model.tokenizer import SpecialIds, pad_left


@dataclass(slots=True)
class Generation:
    """What came of one prompt. Times are seconds since submission."""

    token_ids: list[int] = field(default_factory=list)
    """Committed ids up to and without the first end token."""
    finish_reason: Literal["stop", "length"] = "length"
    nfe_prefill: int = 0
    nfe_denoise: int = 0
    nfe_commit: int = 0
    nfe_draft: int = 0
    """Forwards of a second, smaller model; see `speculative.py`."""
    commit_times_s: list[float] = field(default_factory=list)
    commit_tokens: list[int] = field(default_factory=list)
    step_commits: list[int] = field(default_factory=list)
    """Masks committed by each denoising forward; the closed tail of a block is not counted."""
    step_edits: list[int] = field(default_factory=list)
    """Visible tokens overwritten, deleted or inserted before, after each denoising forward."""
    step_remasks: list[int] = field(default_factory=list)
    """Visible tokens masked again after each denoising forward."""


@torch.inference_mode()
def sample_blocks(
    model: Transformer,
    tokenizer: SpecialIds,
    prompts: Sequence[Sequence[int]],
    *,
    block_size: int,
    policy: Policy,
    max_new_tokens: int,
    revision: Revision | None = None,
    canvas: Tensor | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    measure: Measure = "probability",
    seeds: Sequence[int] | None = None,
    past: Past = Cached,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> list[Generation]:
    """Generate one answer per prompt.

    Args:
        model: a diffusion model; used bidirectionally inside a block.
        tokenizer: for its mask, end and pad ids, no more.
        prompts: B non-empty lists of ids, of any lengths.
        block_size: tokens b of one block; divides `max_new_tokens`.
        policy: which proposals are committed, see `Policy`.
        max_new_tokens: length of the canvas, per row.
        revision: which visible tokens are edited or masked again, see `policies.py`.
        canvas: int64 [B, max_new_tokens], masks where tokens are wanted and given tokens elsewhere,
            see `infill.py`; default all masks.
        temperature: of the draw; 0 takes the most probable token.
        top_p: draw among the most probable tokens that make up this share, see `selection.py`.
        measure: what the policy takes for confidence, see `selection.py`.
        seeds: one per row, so that a row's draw depends on no other row; default 0..B-1.
        past: what a block is read against, see `past.py`; `Uncached` is the definition.
        on_step: called after each step with the start of the block and the block [B, b].

    Returns:
        B generations, in order. The same tokens for every batch composition, up to float rounding.

    Raises:
        ValueError: if the block does not divide the canvas, the canvas does not fit the model, or
            the revision does not fit the model or given text.
    """
    started = time.perf_counter()
    check_canvas(model, prompts, block_size, max_new_tokens)
    if canvas is not None and revision is not None and revision.action == "label":
        raise ValueError("levenshtein moves tokens, and given text must stay; use another policy")
    select = make_select(model.head_operand, tokenizer, temperature, top_p, measure)
    device = model.embedding.weight.device
    prompt = pad_left(prompts, tokenizer.pad_id).to(device)  # [B, P]
    lengths = torch.tensor([len(ids) for ids in prompts], device=device)
    row_seeds = torch.tensor(list(seeds or range(len(prompts))), device=device)
    if canvas is None:
        canvas = torch.full((len(prompts), max_new_tokens), tokenizer.mask_id)
    canvas = canvas.to(device)
    context = past(model, prompt, lengths, canvas)
    results = [Generation(nfe_prefill=context.num_prefill) for _ in prompts]
    is_running = torch.ones_like(lengths, dtype=torch.bool)

    for start in range(0, max_new_tokens, block_size):
        block = canvas[:, start : start + block_size].clone()
        block[~is_running] = tokenizer.end_id
        is_hole = block == tokenizer.mask_id
        offsets = torch.arange(start, start + block_size, device=device)
        noise_seeds = row_seeds[:, None] * 1_000_003 + offsets  # [B, b]
        reviser = start_revision(revision, tokenizer, len(prompts), device)
        was_read = denoise_block(
            context,
            tokenizer,
            block,
            policy,
            reviser,
            select,
            noise_seeds,
            results,
            partial(on_step, start) if on_step else None,
        )
        record_block(
            block, is_hole, is_running, tokenizer.end_id, results, time.perf_counter() - started
        )
        is_running = torch.tensor([r.finish_reason == "length" for r in results], device=device)
        if not any(result.finish_reason == "length" for result in results):
            break
        if start + block_size < max_new_tokens:
            is_due = is_running & ~was_read
            context.append(block, is_due)
            for result, is_paid in zip(results, is_due.tolist(), strict=True):
                result.nfe_commit += context.num_append * is_paid
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
        way_out = f"set max_new_tokens to at most {limit - longest}"
        raise ValueError(
            f"a prompt of {longest} tokens and max_new_tokens={max_new_tokens} exceed the model's "
            f"max_seq_len={limit}; {way_out if longest < limit else 'shorten the prompt'}"
        )


def denoise_block(
    context: Context,
    tokenizer: SpecialIds,
    block: Tensor,
    policy: Policy,
    reviser: Reviser | None,
    select: Select,
    noise_seeds: Tensor,
    results: Sequence[Generation],
    on_step: Callable[[Tensor], None] | None,
    is_draft: Tensor | None = None,
) -> Tensor:
    """Fill the masks of `block` [B, b] in place, step by step, and revise until nothing changes.

    What stands in the block is given, and stays, but for `is_draft` bool [B, b].

    Returns:
        bool [B], rows whose last forward saw them in their final form, which is what a cache needs.
    """
    mask_id, end_id = tokenizer.mask_id, tokenizer.end_id
    is_open = block == mask_id  # [B, b]
    is_given = ~is_open if is_draft is None else ~is_open & ~is_draft
    # Text given behind a mask: the answer cannot end before it.
    is_infill = (is_given & (block != end_id)).any(dim=1, keepdim=True)  # [B, 1]
    is_visible, is_revised = ~is_open & ~is_given & (block != end_id), torch.zeros_like(is_open)
    is_active = (is_open | is_visible).any(dim=1)  # [B]
    was_read = torch.zeros_like(is_active)
    reads_visible = reviser is not None and reviser.revision.reads_visible
    action = None if reviser is None else reviser.revision.action
    has_end = block.is_cuda or bool((block == end_id).any())  # a GPU is not waited for
    counts: list[Tensor] = []
    while bool(is_active.any()):
        step = len(counts)
        is_judged = is_open | is_visible if reads_visible else is_open
        hidden = context.read(block, is_judged)  # [N, D]: nothing else reaches the head
        is_label = is_visible[is_judged] if action == "label" else None
        proposed, probability = select(hidden, noise_seeds[is_judged], is_label)
        proposal = block.masked_scatter(is_judged, proposed)  # [B, b]
        confidence = torch.full(block.shape, -1.0, device=block.device)
        confidence = confidence.masked_scatter(is_judged, probability)
        willingness = confidence.masked_fill(~is_open, -1.0) if reads_visible else confidence
        has_end = has_end or bool((proposed == end_id).any())
        if has_end:
            is_end = torch.where(is_open, proposal, block) == end_id
            willingness = willingness.masked_fill(is_behind_tail_start(is_end), -1.0)
            willingness = torch.where(is_infill & is_open & is_end, 0.0, willingness)
        is_committed = is_written = policy(willingness, is_open, step)
        if reviser is not None:
            is_revised = reviser.revise(
                Judgement(block, proposal, confidence, is_visible, noise_seeds, step)
            )
            if action != "remask":
                is_written = is_committed | is_revised
        after = torch.where(is_written, proposal, block)
        if action == "remask":
            after = after.masked_fill(is_revised, mask_id)
        elif action == "label" and tokenizer.control_ids is not None:
            after = apply_labels(block, after, tokenizer.control_ids, mask_id)
        if has_end:  # from the first end token on
            is_ended = ((after == end_id).cumsum(dim=1) > 0) & ~is_infill
            after = after.masked_fill(is_ended, end_id)
        counts.append(
            torch.stack((is_active, is_committed.sum(dim=1), is_revised.sum(dim=1)), dim=1)
        )
        is_changed = (after != block).any(dim=1)
        block.copy_(after)
        is_open = block == mask_id
        was_active, is_active = is_active, is_open.any(dim=1)
        if reviser is not None:
            is_visible = ~is_open & ~is_given & (block != end_id)
            if reads_visible:  # else an active row changed, and was not read in its final form
                was_read = torch.where(was_active, ~is_changed, was_read)
                is_active |= is_changed & (reviser.num_left > 0) & is_visible.any(dim=1)
            is_visible &= is_active[:, None]
            if action == "label":
                is_visible &= ~is_open.any(dim=1, keepdim=True)
        if on_step is not None:
            on_step(block)
    record_steps(counts, action == "remask", results)
    return was_read & context.keeps_reads


def record_steps(counts: list[Tensor], is_remask: bool, results: Sequence[Generation]) -> None:
    """Note for each step and row int64 [B, 3]: whether it was active, its commits and revisions."""
    for step in torch.stack(counts).tolist() if counts else ():
        for result, (was_active, num_commits, num_revisions) in zip(results, step, strict=True):
            if was_active:
                result.nfe_denoise += 1
                result.step_commits.append(num_commits)
                result.step_edits.append(0 if is_remask else num_revisions)
                result.step_remasks.append(num_revisions if is_remask else 0)


def is_behind_tail_start(is_end: Tensor) -> Tensor:
    """Positions inside a row's tail of end tokens, its first position excepted; bool [B, b]."""
    is_tail = is_end.flip(1).cumprod(dim=1).flip(1).bool()
    return is_tail & torch.nn.functional.pad(is_tail, (1, 0))[:, :-1]


def record_block(
    block: Tensor,
    is_hole: Tensor,
    is_running: Tensor,
    end_id: int,
    results: Sequence[Generation],
    elapsed_s: float,
) -> None:
    """Append what was generated in a block to the running rows, up to their first end token."""
    rows = zip(block.tolist(), is_hole.tolist(), is_running.tolist(), results, strict=True)
    for ids, was_hole, was_running, result in rows:
        if not was_running:
            continue
        generated = [i for i, hole in zip(ids, was_hole, strict=True) if hole and i != end_id]
        result.token_ids += generated
        result.commit_times_s.append(elapsed_s)
        result.commit_tokens.append(len(generated))
        if end_id in ids:
            result.finish_reason = "stop"
