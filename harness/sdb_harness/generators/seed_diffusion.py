"""Our diffusion model as a generator: `seed_diffusion:demo`, `:FOLDER`, or `:hf:FOLDER_OR_ID`.

Place in the flow: the second stage of a run. The sampler is `sdb_reference_model.sampler`.
"""

from sdb_harness.generators.local_model import Ids, LocalModel
from sdb_harness.records import SamplingConfig
from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.infill import infill
from sdb_reference_model.policies import commit_above, commit_evenly
from sdb_reference_model.sampler import Generation, sample_blocks

CHECKPOINTS = {"demo": "demo-diffusion"}


def load(argument: str) -> LocalModel:
    """Open `demo`, a shipped checkpoint's name, or a checkpoint folder.

    Raises:
        ValueError: the checkpoint is missing, damaged, or not a diffusion model.
    """
    name = CHECKPOINTS.get(argument, argument)
    return LocalModel(name, "diffusion", "sdb-block-sampler", sample)


def sample(
    checkpoint: Checkpoint,
    prompts: list[Ids],
    suffixes: list[Ids] | None,
    seeds: list[int],
    sampling: SamplingConfig,
) -> list[Generation]:
    """Sample blocks under the policy that `sampling` names.

    A gap and the suffix behind it share one block, whatever `block_size` is: see `infill.py`.

    Raises:
        ValueError: no block size, or one that does not fit.
    """
    if sampling.block_size is None:
        raise ValueError(
            "seed_diffusion needs a block: set --block-size and one of --threshold, --num-steps"
        )
    if sampling.threshold is not None:
        policy = commit_above(sampling.threshold)
    else:
        assert sampling.num_steps is not None, "SamplingConfig pairs every block with a policy"
        policy = commit_evenly(sampling.num_steps)
    past = checkpoint.choose_past(sampling.block_size)
    if suffixes is not None:
        return infill(
            checkpoint.model,
            checkpoint.tokenizer,
            prompts,
            suffixes,
            num_tokens=sampling.max_new_tokens,
            policy=policy,
            temperature=sampling.temperature,
            seeds=seeds,
            past=past,
        )
    return sample_blocks(
        checkpoint.model,
        checkpoint.tokenizer,
        prompts,
        block_size=sampling.block_size,
        policy=policy,
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        seeds=seeds,
        past=past,
    )
