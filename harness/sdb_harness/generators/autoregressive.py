"""The autoregressive twin: `autoregressive:demo`, `:FOLDER`, or `:hf:FOLDER_OR_ID`.

Place in the flow: the fair baseline of every comparison with `seed_diffusion`: same Transformer,
cache and head, token by token, by `sdb_reference_model.autoregressive`, or on a CUDA device by its
twin of replayed steps, `replay_tokens.py`. Behind the checkpoint's name, `sampler=tokens` refuses
that twin and `sampler=replayed` asks for it, on a processor too. `sampler=lookup` guesses ahead by
what followed last time in the text, `speculative.py`, with the same tokens; `draft=CHECKPOINT` lets
another model guess, a diffusion model a block in one forward. Forwards of a draft count. Which one
ran is recorded.
"""

from sdb_harness.generators import seed_diffusion
from sdb_harness.generators.local_model import (
    WEIGHTS,
    Ids,
    LocalModel,
    Sample,
    pack_where_possible,
    parse_argument,
)
from sdb_harness.records import SamplingConfig
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.replay import choose_sampler
from sdb_reference_model.replay_tokens import TokenReplayer
from sdb_reference_model.sampler import Generation
from sdb_reference_model.speculative import (
    DiffusionDraft,
    Draft,
    DraftModel,
    look_up,
    sample_speculatively,
)

CHECKPOINTS = {"demo": "demo-ar"}
SAMPLERS = ("tokens", "replayed", "lookup")
NUM_LOOKED_UP, NUM_DRAFTED = 8, 16
"""Guesses ahead: of prompt lookup, and of a draft model (a block of the shipped ones)."""


def load(argument: str) -> LocalModel:
    """Open `demo`, a shipped checkpoint's name, or a checkpoint folder, and options behind it.

    Raises:
        ValueError: an unknown option, the checkpoint is missing, damaged, or not autoregressive, or
            its draft cannot be one.
    """
    options = {"weights": WEIGHTS, "sampler": SAMPLERS, "draft": ()}
    name, chosen = parse_argument("autoregressive", argument, options)
    request, draft = chosen.get("sampler"), chosen.get("draft")
    if draft is not None and request is not None:
        raise ValueError(f"autoregressive: draft={draft} is a sampler too; leave out sampler=")
    model = LocalModel(
        CHECKPOINTS.get(name, name),
        chosen.get("weights", WEIGHTS[0]),
        "autoregressive",
        "sdb-autoregressive-sampler",
        sample,
        may_pack=request != "replayed",
    )
    if draft is not None:
        guess, name = open_draft(draft, model.checkpoint)
        model.sample = judge_guesses(guess, NUM_DRAFTED)
        model.implementations["sampler"] = f"draft={name}"
        model.engine += f" draft={name}"
        return model
    device = model.checkpoint.model.embedding.weight.device
    name = choose_sampler(request, None, device, "tokens")
    model.implementations["sampler"] = name
    if name == "replayed":
        model.sample = replay_where_possible(model, request)
    elif name == "lookup":
        model.sample = judge_guesses(look_up, NUM_LOOKED_UP)
    if name != "tokens":
        model.engine += f" sampler={name}"
    return model


def replay_where_possible(model: LocalModel, request: str | None) -> Sample:
    """Make a `sample` that replays what `replay_tokens.py` can do, and notes what ran.

    What it cannot do goes to the other `sample`, or is an error if replays were asked for.
    """
    replayer = TokenReplayer(model.checkpoint.model, model.checkpoint.tokenizer)
    device = model.checkpoint.model.embedding.weight.device

    def run(
        checkpoint: Checkpoint,
        prompts: list[Ids],
        suffixes: list[Ids] | None,
        seeds: list[int],
        sampling: SamplingConfig,
    ) -> list[Generation]:
        obstacle = None
        if suffixes is not None:
            obstacle = "it fills no gaps"
        elif sampling.top_p < 1.0 and sampling.temperature > 0.0:
            obstacle = f"top_p={sampling.top_p}, and it draws from all tokens"
        if choose_sampler(request, obstacle, device, "tokens") == "tokens":
            model.implementations["sampler"] = "tokens"
            return sample(checkpoint, prompts, suffixes, seeds, sampling)
        model.implementations["sampler"] = replayer.implementation
        return replayer.sample(
            prompts,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            seeds=seeds,
        )

    return run


def sample(
    checkpoint: Checkpoint,
    prompts: list[Ids],
    suffixes: list[Ids] | None,
    seeds: list[int],
    sampling: SamplingConfig,
) -> list[Generation]:
    """Sample left to right; the diffusion fields of `sampling` are not read.

    Raises:
        ValueError: a gap is to be filled.
    """
    refuse_gaps(suffixes)
    return sample_tokens(
        checkpoint.model,
        checkpoint.tokenizer,
        prompts,
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seeds=seeds,
    )


def open_draft(name: str, checkpoint: Checkpoint) -> tuple[Draft, str]:
    """Open a model that guesses for `checkpoint`; returns its name with its revision too.

    Raises:
        ValueError: it is missing, damaged, of another tokenizer, or no model of blocks.
    """
    guesser = load_checkpoint(seed_diffusion.CHECKPOINTS.get(name, name))
    model, tokenizer = guesser.model, guesser.tokenizer
    if tokenizer.fingerprint != checkpoint.tokenizer.fingerprint:
        raise ValueError(f"draft={name} has another tokenizer; use one trained with the same")
    model.to(checkpoint.model.embedding.weight.device)
    pack_where_possible(model)
    source = f"{name}@{guesser.revision}"
    if guesser.objective == "autoregressive":
        return DraftModel(model, tokenizer.mask_id), source
    if guesser.attention not in ("block_causal", "causal_past"):
        raise ValueError(
            f"draft={name} is {guesser.attention}, not block_causal or causal_past; use another"
        )
    return DiffusionDraft(model, tokenizer), source


def judge_guesses(draft: Draft, num_draft: int) -> Sample:
    """Make a `sample` with the same tokens that judges `num_draft` guesses a forward.

    Each prompt is decoded alone. It raises ValueError where a gap is to be filled.
    """

    def run(
        checkpoint: Checkpoint,
        prompts: list[Ids],
        suffixes: list[Ids] | None,
        seeds: list[int],
        sampling: SamplingConfig,
    ) -> list[Generation]:
        refuse_gaps(suffixes)
        return sample_speculatively(
            checkpoint.model,
            checkpoint.tokenizer,
            prompts,
            draft=draft,
            num_draft=num_draft,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seeds=seeds,
        )

    return run


def refuse_gaps(suffixes: list[Ids] | None) -> None:
    """A causal model sees nothing behind a gap. Raises ValueError if there is one."""
    if suffixes is not None:
        raise ValueError(
            "autoregressive: this checkpoint knows no fill-in-the-middle tokens and cannot see a "
            "suffix; use seed_diffusion, or a server that takes one"
        )
