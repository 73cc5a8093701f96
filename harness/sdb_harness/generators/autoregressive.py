"""The autoregressive twin: `autoregressive:demo`, `:FOLDER`, or `:hf:FOLDER_OR_ID`.

Place in the flow: the fair baseline of every comparison with `seed_diffusion`: same Transformer,
cache and head, token by token, by `sdb_reference_model.autoregressive`.
"""

from sdb_harness.generators.local_model import WEIGHTS, Ids, LocalModel, parse_argument
from sdb_harness.records import SamplingConfig
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.sampler import Generation

CHECKPOINTS = {"demo": "demo-ar"}


def load(argument: str) -> LocalModel:
    """Open `demo`, a shipped checkpoint's name, or a checkpoint folder, `,weights=e4m3` behind it.

    Raises:
        ValueError: an unknown option, or the checkpoint is missing, damaged, or not
            autoregressive.
    """
    name, options = parse_argument("autoregressive", argument, {"weights": WEIGHTS})
    return LocalModel(
        CHECKPOINTS.get(name, name),
        options.get("weights", WEIGHTS[0]),
        "autoregressive",
        "sdb-autoregressive-sampler",
        sample,
    )


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
    if suffixes is not None:
        raise ValueError(
            "autoregressive: this checkpoint knows no fill-in-the-middle tokens and cannot see a "
            "suffix; use seed_diffusion, or a server that takes one"
        )
    return sample_tokens(
        checkpoint.model,
        checkpoint.tokenizer,
        prompts,
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seeds=seeds,
    )
