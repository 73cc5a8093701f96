"""The autoregressive twin: `autoregressive:demo`, `:FOLDER`, or `:hf:FOLDER_OR_ID`.

Place in the flow: the fair baseline of every comparison with `seed_diffusion`: same Transformer,
cache and head, token by token, by `sdb_reference_model.autoregressive`, or on a CUDA device by its
twin of replayed steps, `replay_tokens.py`. Behind the checkpoint's name, `sampler=tokens` refuses
that twin and `sampler=replayed` asks for it, on a processor too. `sampler=lookup` guesses ahead by
what followed last time in the text, `speculative.py`, with the same tokens. Which one ran is
recorded.
"""

from sdb_harness.generators.local_model import WEIGHTS, Ids, LocalModel, Sample, parse_argument
from sdb_harness.records import SamplingConfig
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.replay import choose_sampler
from sdb_reference_model.replay_tokens import TokenReplayer
from sdb_reference_model.sampler import Generation
from sdb_reference_model.speculative import sample_speculatively

CHECKPOINTS = {"demo": "demo-ar"}
SAMPLERS = ("tokens", "replayed", "lookup")


def load(argument: str) -> LocalModel:
    """Open `demo`, a shipped checkpoint's name, or a checkpoint folder, and options behind it.

    Raises:
        ValueError: an unknown option, or the checkpoint is missing, damaged, or not
            autoregressive.
    """
    options: dict[str, tuple[str, ...]] = {"weights": WEIGHTS, "sampler": SAMPLERS}
    name, chosen = parse_argument("autoregressive", argument, options)
    request = chosen.get("sampler")
    model = LocalModel(
        CHECKPOINTS.get(name, name),
        chosen.get("weights", WEIGHTS[0]),
        "autoregressive",
        "sdb-autoregressive-sampler",
        sample,
        may_pack=request != "replayed",
    )
    device = model.checkpoint.model.embedding.weight.device
    name = choose_sampler(request, None, device, "tokens")
    model.implementations["sampler"] = name
    if name == "replayed":
        model.sample = replay_where_possible(model, request)
    elif name == "lookup":
        model.sample = sample_by_lookup
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


def sample_by_lookup(
    checkpoint: Checkpoint,
    prompts: list[Ids],
    suffixes: list[Ids] | None,
    seeds: list[int],
    sampling: SamplingConfig,
) -> list[Generation]:
    """Sample the same tokens with guesses ahead, each prompt alone.

    Raises:
        ValueError: a gap is to be filled.
    """
    refuse_gaps(suffixes)
    return sample_speculatively(
        checkpoint.model,
        checkpoint.tokenizer,
        prompts,
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seeds=seeds,
    )


def refuse_gaps(suffixes: list[Ids] | None) -> None:
    """A causal model sees nothing behind a gap. Raises ValueError if there is one."""
    if suffixes is not None:
        raise ValueError(
            "autoregressive: this checkpoint knows no fill-in-the-middle tokens and cannot see a "
            "suffix; use seed_diffusion, or a server that takes one"
        )
