"""Our diffusion model as a generator: `seed_diffusion:demo`, `:FOLDER`, or `:hf:FOLDER_OR_ID`.

Place in the flow: the second stage of a run. The sampler is `sdb_reference_model.sampler`, or on a
CUDA device, for a threshold and greedy tokens, its twin of replayed steps, `replay.py`. Behind the
checkpoint's name, `sampler=blocks` refuses the twin, and `sampler=replayed` asks for it, on a
processor too: then what it cannot do is an error. `sampler=compiled` is the twin of a step that
torch.compile made. Which one ran is recorded.
"""

from typing import TypedDict

from sdb_harness.generators.local_model import WEIGHTS, Ids, LocalModel, Sample, parse_argument
from sdb_harness.records import SamplingConfig
from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.infill import infill
from sdb_reference_model.pipelining import sample_pipelined
from sdb_reference_model.policies import Plan, build_plan, commit_above, commit_evenly
from sdb_reference_model.policy_specs import PolicySpec, parse_policy
from sdb_reference_model.replay import COMPILERS, Replayer, choose_sampler, find_obstacle
from sdb_reference_model.sampler import Generation, sample_blocks


class Settings(TypedDict):
    """Of the draw, the same for every sampler."""

    temperature: float
    top_p: float
    seeds: list[int]


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
        if sampling.threshold is None:
            obstacle = "it commits by a threshold alone; set --block-size and --threshold"
        elif suffixes is not None:
            obstacle = "it fills no gaps"
        if choose_sampler(request, obstacle, device) == "blocks":
            model.implementations["sampler"] = "blocks"
            return sample(checkpoint, prompts, suffixes, seeds, sampling)
        assert sampling.threshold is not None
        assert sampling.block_size is not None, "SamplingConfig pairs every policy with a block"
        model.implementations["sampler"] = replayer.implementation
        return replayer.sample(
            prompts,
            block_size=sampling.block_size,
            threshold=sampling.threshold,
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
    settings: Settings = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seeds": seeds,
    }
    spec = None if sampling.policy is None else parse_policy(sampling.policy)
    if spec is not None and spec.name == "pipelined":
        if suffixes is not None or not checkpoint.attention.startswith("block_causal"):
            raise ValueError(
                f"policy {sampling.policy} needs a block-causal model and a text without a gap; "
                f"this model is {checkpoint.attention}; use another policy"
            )
        is_in_blocks = checkpoint.attention == "block_causal_prompt"
        return sample_pipelined(
            checkpoint.model,
            checkpoint.tokenizer,
            prompts,
            block_size=sampling.block_size,
            threshold=spec.values[0],
            start_share=spec.values[1],
            max_new_tokens=sampling.max_new_tokens,
            prompt_block_size=sampling.block_size if is_in_blocks else None,
            **settings,
        )
    plan = choose_plan(sampling, spec)
    past = checkpoint.choose_past(sampling.block_size)
    if suffixes is not None:
        return infill(
            checkpoint.model,
            checkpoint.tokenizer,
            prompts,
            suffixes,
            num_tokens=sampling.max_new_tokens,
            policy=plan.policy,
            revision=plan.revision,
            measure=plan.measure,
            past=past,
            **settings,
        )
    return sample_blocks(
        checkpoint.model,
        checkpoint.tokenizer,
        prompts,
        block_size=sampling.block_size,
        policy=plan.policy,
        revision=plan.revision,
        measure=plan.measure,
        max_new_tokens=sampling.max_new_tokens,
        past=past,
        **settings,
    )


def choose_plan(sampling: SamplingConfig, spec: PolicySpec | None) -> Plan:
    """Make the one policy that `sampling` names."""
    if spec is not None:
        return build_plan(spec)
    if sampling.threshold is not None:
        return Plan(commit_above(sampling.threshold))
    assert sampling.num_steps is not None, "SamplingConfig pairs every block with a policy"
    return Plan(commit_evenly(sampling.num_steps))
