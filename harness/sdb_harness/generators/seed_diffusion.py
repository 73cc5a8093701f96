"""Our diffusion model as a generator: `seed_diffusion:demo`, `:FOLDER`, or `:hf:FOLDER_OR_ID`.

Place in the flow: the second stage of a run. The sampler is `sdb_reference_model.sampler`.
"""

from typing import TypedDict

from sdb_harness.generators.local_model import Ids, LocalModel, parse_argument
from sdb_harness.records import SamplingConfig
from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.infill import infill
from sdb_reference_model.pipelining import sample_pipelined
from sdb_reference_model.policies import Plan, build_plan, commit_above, commit_evenly
from sdb_reference_model.policy_specs import PolicySpec, parse_policy
from sdb_reference_model.sampler import Generation, sample_blocks


class Settings(TypedDict):
    """Of the draw, the same for every sampler."""

    temperature: float
    top_p: float
    seeds: list[int]


CHECKPOINTS = {"demo": "demo-onpolicy"}


def load(argument: str) -> LocalModel:
    """Open `demo`, a shipped checkpoint's name, or a checkpoint folder, `,weights=e4m3` behind it.

    Raises:
        ValueError: an unknown option, or the checkpoint is missing, damaged, or not a
            diffusion model.
    """
    name, weights = parse_argument("seed_diffusion", argument)
    return LocalModel(
        CHECKPOINTS.get(name, name), weights, "diffusion", "sdb-block-sampler", sample
    )


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
