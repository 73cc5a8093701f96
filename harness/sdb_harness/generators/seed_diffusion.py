"""Our diffusion model as a generator: `seed_diffusion:demo`, `:FOLDER`, or `:hf:FOLDER_OR_ID`.

Place in the flow: the second stage of a run. The sampler is `sdb_reference_model.sampler`, or on a
CUDA device, for greedy tokens by a threshold or `prefix:P`, its twin of replayed steps,
`replay.py`. Behind the checkpoint's name, `sampler=blocks` refuses the twin, and `sampler=replayed`
asks for it, on a processor too: then what it cannot do is an error. `sampler=compiled` is the twin
of a step that torch.compile made. Which one ran is recorded.
"""

from sdb_harness.generators.local_model import WEIGHTS, Ids, LocalModel, Sample, parse_argument
from sdb_harness.records import SamplingConfig
from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.generate import Sampling, sample_answers
from sdb_reference_model.replay import (
    COMPILERS,
    Replayer,
    choose_sampler,
    find_obstacle,
    find_rule,
)
from sdb_reference_model.sampler import Generation

CHECKPOINTS = {"demo": "demo-onpolicy"}
SAMPLERS = ("blocks", *COMPILERS)


def load(argument: str) -> LocalModel:
    """Open `demo`, a shipped checkpoint's name, or a checkpoint folder, and options behind it.

    Raises:
        ValueError: an unknown option, the checkpoint is missing, damaged, or not a diffusion
            model, or it cannot be replayed and that was asked for.
    """
    options: dict[str, tuple[str, ...]] = {"weights": WEIGHTS, "sampler": SAMPLERS}
    name, chosen = parse_argument("seed_diffusion", argument, options)
    request = chosen.get("sampler")
    model = LocalModel(
        CHECKPOINTS.get(name, name),
        chosen.get("weights", WEIGHTS[0]),
        "diffusion",
        "sdb-block-sampler",
        sample,
        may_pack=request not in COMPILERS,
    )
    device = model.checkpoint.model.embedding.weight.device
    name = choose_sampler(request, find_obstacle(model.checkpoint), device)
    model.implementations["sampler"] = name
    if name in COMPILERS:
        model.sample = replay_where_possible(model, request, COMPILERS[name])
        model.engine += f" sampler={name}"
    return model


def replay_where_possible(model: LocalModel, request: str | None, compiler: str | None) -> Sample:
    """Make a `sample` that replays what `replay.py` can do, and notes what ran.

    What it cannot do goes to the other `sample`, or is an error if replays were asked for.
    """
    replayer = Replayer(model.checkpoint.model, model.checkpoint.tokenizer, compiler=compiler)
    device = model.checkpoint.model.embedding.weight.device

    def run(
        checkpoint: Checkpoint,
        prompts: list[Ids],
        suffixes: list[Ids] | None,
        seeds: list[int],
        sampling: SamplingConfig,
    ) -> list[Generation]:
        obstacle = find_obstacle(checkpoint, sampling.block_size, sampling.temperature)
        rule = find_rule(sampling.threshold, sampling.policy)
        if rule is None:
            obstacle = (
                "it commits by a threshold alone; set --block-size and --threshold, or --policy "
                "prefix:THRESHOLD"
            )
        elif suffixes is not None:
            obstacle = "it fills no gaps"
        if choose_sampler(request, obstacle, device) == "blocks":
            model.implementations["sampler"] = "blocks"
            return sample(checkpoint, prompts, suffixes, seeds, sampling)
        assert rule is not None
        assert sampling.block_size is not None, "SamplingConfig pairs every policy with a block"
        model.implementations["sampler"] = replayer.implementation
        return replayer.sample(
            prompts,
            block_size=sampling.block_size,
            rule=rule,
            max_new_tokens=sampling.max_new_tokens,
        )

    return run


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
        ValueError: no block size or one that does not fit, or a policy that the model cannot run.
    """
    if sampling.block_size is None:
        raise ValueError(
            "seed_diffusion needs a block: set --block-size and one of --threshold, --num-steps, "
            "--policy"
        )
    return sample_answers(
        checkpoint,
        prompts,
        suffixes,
        seeds,
        Sampling(
            block_size=sampling.block_size,
            max_new_tokens=sampling.max_new_tokens,
            threshold=sampling.threshold,
            num_steps=sampling.num_steps,
            policy=sampling.policy,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
        ),
    )
