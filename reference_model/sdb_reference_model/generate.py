"""From prompts to answers by whatever sampler a policy needs, and from text to text for a person.

Place in the flow: `sample_answers` chooses among `sampler.py`, `pipelining.py` and `infill.py`; the
harness calls it too. `generate_text` is what a person uses first: one prompt, and frame by frame
for whoever wants to watch.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.infill import infill
from sdb_reference_model.pipelining import sample_pipelined
from sdb_reference_model.policies import Plan, build_plan, commit_above, commit_evenly
from sdb_reference_model.policy_specs import PolicySpec, parse_policy
from sdb_reference_model.replay import (
    COMPILERS,
    Replayer,
    choose_sampler,
    find_obstacle,
    find_rule,
)
from sdb_reference_model.sampler import Generation, sample_blocks

MASK_GLYPH = "\N{LIGHT SHADE}"
FRAME_S = 0.08
"""Pause per shown step: the model is faster than the eye. It is part of the measured time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen; exactly one of threshold, num_steps and policy is given."""

    block_size: int
    """Divides `max_new_tokens`. Without meaning for a gap, which shares one block with the suffix
    behind it, see `infill.py`."""
    max_new_tokens: int
    """Length of the canvas, or of the gap."""
    threshold: float | None = None
    """Commit tokens more probable than this."""
    num_steps: int | None = None
    """Steps per block, fixed."""
    policy: str | None = None
    """Any other one, as `policy_specs.py` writes it."""
    temperature: float = 0.0
    """0 takes the most probable token."""
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Reject what names no policy, or several.

        Raises:
            ValueError: one line, with what was given.
        """
        policies = {key: getattr(self, key) for key in ("threshold", "num_steps", "policy")}
        given = [f"{key}={value}" for key, value in policies.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of threshold, num_steps and policy, not "
                f"{' and '.join(given) or 'none'}"
            )


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """The continuation, or what fills the gap, and its record."""

    text: str
    generation: Generation


def sample_answers(
    checkpoint: Checkpoint,
    prompts: Sequence[Sequence[int]],
    suffixes: Sequence[Sequence[int]] | None,
    seeds: Sequence[int],
    sampling: Sampling,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> list[Generation]:
    """Continue prompts, or fill the gaps between prompts and suffixes.

    Args:
        checkpoint: a diffusion checkpoint.
        prompts: ids of each.
        suffixes: ids behind each gap, to the end of the text; None where there is no gap.
        seeds: of the draw, one per prompt.
        sampling: how.
        on_step: as for `sample_blocks`.

    Raises:
        ValueError: a policy that cannot do what is asked, or as the samplers.
    """
    spec = None if sampling.policy is None else parse_policy(sampling.policy)
    if spec is not None and spec.name == "pipelined":
        check_pipeline(checkpoint, spec, suffixes is not None, on_step is not None)
        is_in_blocks = checkpoint.attention == "block_causal_prompt"
        return sample_pipelined(
            checkpoint.model,
            checkpoint.tokenizer,
            prompts,
            block_size=sampling.block_size,
            threshold=spec.values[0],
            start_share=spec.values[1],
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seeds=seeds,
            prompt_block_size=sampling.block_size if is_in_blocks else None,
        )
    plan, past = choose_plan(sampling, spec), checkpoint.choose_past(sampling.block_size)
    model, tokenizer, num_tokens = checkpoint.model, checkpoint.tokenizer, sampling.max_new_tokens
    sample: Callable[..., list[Generation]]
    if suffixes is not None:
        sample = partial(infill, model, tokenizer, prompts, suffixes, num_tokens=num_tokens)
    else:
        size = sampling.block_size
        sample = partial(
            sample_blocks, model, tokenizer, prompts, block_size=size, max_new_tokens=num_tokens
        )
    return sample(
        policy=plan.policy,
        revision=plan.revision,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        measure=plan.measure,
        seeds=seeds,
        past=past,
        on_step=on_step,
    )


def check_pipeline(
    checkpoint: Checkpoint, spec: PolicySpec, has_gap: bool, shows_steps: bool
) -> None:
    """Reject what two blocks at once cannot do."""
    if has_gap or not checkpoint.attention.startswith("block_causal"):
        raise ValueError(
            f"policy {spec} needs a block-causal model and a text without a gap; "
            f"this model is {checkpoint.attention}; use another policy"
        )
    if shows_steps:
        raise ValueError(f"policy {spec} writes two blocks at once, and its steps are not shown")


def choose_plan(sampling: Sampling, spec: PolicySpec | None) -> Plan:
    """Make the one policy that `sampling` names."""
    if spec is not None:
        return build_plan(spec)
    if sampling.threshold is not None:
        return Plan(commit_above(sampling.threshold))
    assert sampling.num_steps is not None, "Sampling has exactly one policy"
    return Plan(commit_evenly(sampling.num_steps))


def generate_text(
    checkpoint: Checkpoint,
    prompt: str,
    sampling: Sampling,
    *,
    suffix: str | None = None,
    seed: int = 0,
    sampler: str | None = None,
    on_frame: Callable[[str, str], None] | None = None,
) -> GeneratedText:
    """Continue `prompt`, block by block, or token by token with an autoregressive model.

    Args:
        checkpoint: a diffusion checkpoint, or an autoregressive one, which has no blocks, no
            policy, no gaps, no `sampler` and no frames.
        prompt: source to continue, or to fill the gap behind, where there is a suffix.
        sampling: how.
        suffix: source behind the gap, to its end.
        seed: of the draw.
        sampler: `"blocks"`, `"replayed"` or `"compiled"`, see `replay.py`; default by capability.
        on_frame: called after each step with (finished text, current block with masks shown).

    Raises:
        ValueError: an empty suffix, a `sampler`, policy or frames that were asked for and cannot
            be had, or as `sample_answers`.
    """
    if suffix == "":
        raise ValueError("the suffix is empty; leave it out to continue the prompt")
    tokenizer = checkpoint.tokenizer
    prompts = [tokenizer.encode(prompt)]
    if checkpoint.objective == "autoregressive":
        if suffix is not None or sampling.threshold is None:
            raise ValueError(
                "this checkpoint is autoregressive: it fills no gaps and has no policies; leave "
                "--suffix, --num-steps and --policy out, or use a diffusion checkpoint such as "
                "demo-diffusion"
            )
        if sampler is not None or on_frame is not None:
            raise ValueError(
                "this checkpoint is autoregressive: it shows no blocks and has one sampler; leave "
                "--show and --sampler out, or use a diffusion checkpoint such as demo-diffusion"
            )
        (generation,) = sample_tokens(
            checkpoint.model,
            tokenizer,
            prompts,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            seeds=[seed],
        )
        return GeneratedText(tokenizer.decode(generation.token_ids), generation)
    obstacle = find_obstacle(checkpoint, sampling.block_size, sampling.temperature)
    rule = find_rule(sampling.threshold, sampling.policy)
    if rule is None:
        obstacle = "it commits by --threshold or --policy prefix:THRESHOLD alone"
    elif suffix is not None:
        obstacle = "it fills no gaps"
    elif on_frame is not None:
        obstacle = "it shows no steps"
    device = checkpoint.model.embedding.weight.device
    name = choose_sampler(sampler, obstacle, device)
    if name in COMPILERS:
        assert rule is not None, "nothing else is replayed"
        (generation,) = Replayer(checkpoint.model, tokenizer, compiler=COMPILERS[name]).sample(
            prompts,
            block_size=sampling.block_size,
            rule=rule,
            max_new_tokens=sampling.max_new_tokens,
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

    (generation,) = sample_answers(
        checkpoint,
        prompts,
        None if suffix is None else [tokenizer.encode(suffix, is_start=False)],
        [seed],
        sampling,
        show if on_frame else None,
    )
    return GeneratedText(tokenizer.decode(generation.token_ids), generation)
