"""From text to text with one call, and frame by frame for whoever wants to watch.

Place in the flow: what a person uses first; the harness goes to `sampler.py` directly.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.policies import commit_above
from sdb_reference_model.replay import COMPILERS, Replayer, choose_sampler, find_obstacle
from sdb_reference_model.sampler import Generation, sample_blocks

MASK_GLYPH = "\N{LIGHT SHADE}"
FRAME_S = 0.08
"""Pause per shown step: the model is faster than the eye. It is part of the measured time."""


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """The continuation and its record."""

    text: str
    generation: Generation


def generate_text(
    checkpoint: Checkpoint,
    prompt: str,
    *,
    block_size: int,
    threshold: float,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    sampler: str | None = None,
    on_frame: Callable[[str, str], None] | None = None,
) -> GeneratedText:
    """Continue `prompt`, block by block, or token by token with an autoregressive model.

    Args:
        checkpoint: a diffusion checkpoint, or an autoregressive one, which has no blocks, no
            threshold, no `sampler` and no frames.
        prompt: source to continue.
        block_size: tokens per block; divides `max_new_tokens`.
        threshold: commit tokens more probable than this.
        max_new_tokens: length of the canvas.
        temperature: 0 takes the most probable tokens.
        seed: of the draw.
        sampler: `"blocks"`, `"replayed"` or `"compiled"`, see `replay.py`; default by capability.
        on_frame: called after each step with (finished text, current block with masks shown).

    Raises:
        ValueError: an empty prompt, a canvas that does not fit, or a `sampler` or frames that were
            asked for and cannot be had.
    """
    tokenizer = checkpoint.tokenizer
    if checkpoint.objective == "autoregressive":
        if sampler is not None or on_frame is not None:
            raise ValueError(
                "this checkpoint is autoregressive: it shows no blocks and has one sampler; leave "
                "--show and --sampler out, or use a diffusion checkpoint such as demo-diffusion"
            )
        (generation,) = sample_tokens(
            checkpoint.model,
            tokenizer,
            [tokenizer.encode(prompt)],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seeds=[seed],
        )
        return GeneratedText(tokenizer.decode(generation.token_ids), generation)
    obstacle = find_obstacle(checkpoint, block_size, temperature)
    if on_frame is not None:
        obstacle = "it shows no steps"
    device = checkpoint.model.embedding.weight.device
    name = choose_sampler(sampler, obstacle, device)
    if name in COMPILERS:
        (generation,) = Replayer(checkpoint.model, tokenizer, compiler=COMPILERS[name]).sample(
            [tokenizer.encode(prompt)],
            block_size=block_size,
            threshold=threshold,
            max_new_tokens=max_new_tokens,
        )
        return GeneratedText(tokenizer.decode(generation.token_ids), generation)
    shown: list[int] = []

    def show(start: int, block: Tensor) -> None:
        """Replace the text from the current block on."""
        ids = block[0].tolist()
        shown[start:] = ids
        done = shown[:start]
        pending = [i for i in ids if i != tokenizer.end_id]
        text = "".join(
            MASK_GLYPH if i == tokenizer.mask_id else tokenizer.decode([i]) for i in pending
        )
        assert on_frame is not None
        on_frame(tokenizer.decode(done), text)
        time.sleep(FRAME_S)

    (generation,) = sample_blocks(
        checkpoint.model,
        tokenizer,
        [tokenizer.encode(prompt)],
        block_size=block_size,
        policy=commit_above(threshold),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seeds=[seed],
        past=checkpoint.choose_past(block_size),
        on_step=show if on_frame else None,
    )
    return GeneratedText(tokenizer.decode(generation.token_ids), generation)
