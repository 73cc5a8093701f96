"""The candidate pool of Eq. 9: sample trajectories from a trained model, keep the best.

For each prompt the model answers under every combination of policy, temperature and seed; among
the complete answers (that a verifier accepts, if one is given) the greatest ELBO wins. All
candidates are stored, winners marked, as a `datasets` data set with its provenance.

Place in the flow: between pre-training and `constrained.py`. The composition root hands over
prompts and, as a callable, the verifier. Work is done in shards of prompts, each a file; a rerun
keeps the finished ones.

Choice: x_0 is the model's own answer (the paper does not say whether it is data). A run's order and
its answer belong together: another answer would not have been revealed in that order.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset, Features, List, Value

from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.data import collate
from sdb_reference_model.files import write_text
from sdb_reference_model.policies import (
    Policy,
    commit_above,
    commit_evenly,
    commit_in_order,
    commit_prefix,
)
from sdb_reference_model.sampler import check_canvas, sample_blocks
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.trajectories import (
    Recorder,
    Trajectory,
    Verify,
    estimate_elbo,
    select_best,
)

COLUMNS: dict[str, tuple[Any, str]] = {
    "prompt_row": (Value("int64"), "row of the prompt in the prompt data set"),
    "prompt": (Value("string"), "source to continue"),
    "completion": (Value("string"), "decoded answer"),
    "prompt_ids": (List(Value("int64")), "token ids of the prompt"),
    "answer_ids": (List(Value("int64")), "x_0: token ids of the answer, end token included"),
    "commit_steps": (
        List(Value("int64")),
        "per answer token: denoising step of its block that committed it, from 0",
    ),
    "log_p": (
        List(Value("float64")),
        "per answer token: log p in the state that committed it, nats",
    ),
    "elbo": (Value("float64"), "trajectory ELBO, the sum of log_p"),
    "monte_carlo_elbo": (Value("float64"), "mean over all orders; null if not asked for"),
    "num_steps": (Value("int64"), "denoising forwards of the whole run"),
    "is_complete": (
        Value("bool"),
        "whether the answer ended by itself, and the run overwrote nothing of its own",
    ),
    "reward": (Value("float64"), "the verifier's; null without one or after a fault of it"),
    "policy": (Value("string"), "which proposals were committed"),
    "temperature": (Value("float64"), "of the draw of tokens"),
    "seed": (Value("int64"), "of the run"),
    "is_selected": (Value("bool"), "whether this candidate won its prompt"),
}
"""Column -> (type, meaning)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """One pool. `data` is handed to the composition root, which makes the prompts."""

    init_from: str
    """Checkpoint that samples, a shipped name or a folder."""
    block_size: int
    max_new_tokens: int
    policies: tuple[str, ...]
    """`threshold:P`, `prefix:P`, `steps:N`, `leftmost:N` or `random:N`; see `build_policy`."""
    temperatures: tuple[float, ...]
    num_seeds: int
    elbo: Literal["trajectory", "monte-carlo"] = "trajectory"
    num_elbo_samples: int = 8
    """Draws per block of the Monte-Carlo ELBO."""
    must_pass: bool = True
    """Whether only answers with a full reward may win."""
    prompts_per_shard: int = 32
    seed: int = 0
    data: dict[str, Any] = field(default_factory=dict)


def check_distill_config(config: DistillConfig) -> None:
    """Reject values that give no pool, with the way out."""
    if not config.policies or not config.temperatures:
        raise ValueError("policies and temperatures need at least one entry each")
    if min(config.num_seeds, config.prompts_per_shard, config.num_elbo_samples) < 1:
        raise ValueError("num_seeds, prompts_per_shard and num_elbo_samples must be positive")
    if min(config.temperatures) < 0:
        raise ValueError(f"temperatures={list(config.temperatures)} must not be negative")
    for spec in config.policies:
        build_policy(spec, torch.Generator())


def build_policy(spec: str, generator: torch.Generator) -> Policy:
    """Make the policy that a text names.

    Args:
        spec: `threshold:0.9` commits what is more probable, `prefix:0.9` from the left as long as
            it is, `steps:4` takes that many steps per block, `leftmost:1` and `random:1` commit
            that many tokens per step in that order.
        generator: of the random order.

    Raises:
        ValueError: another text.
    """
    kind, _, number = spec.partition(":")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if kind == "threshold" and 0 <= value <= 1:
        return commit_above(value)
    if kind == "prefix" and 0 <= value <= 1:
        return commit_prefix(value)
    if kind in ("steps", "leftmost", "random") and value >= 1 and value.is_integer():
        if kind == "steps":
            return commit_evenly(int(value))
        return commit_in_order(int(value), generator if kind == "random" else None)
    raise ValueError(
        f"policy {spec!r}; use threshold:P or prefix:P with P in [0, 1], steps:N, leftmost:N or "
        "random:N"
    )


def distill(
    config: DistillConfig,
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    out: Path,
    *,
    verify: Verify | None,
    provenance: Mapping[str, Any],
    on_shard: Callable[[int, int], None],
) -> Dataset:
    """Sample, score, select and store; a rerun with the same arguments goes on where it stopped.

    Args:
        config: the pool.
        checkpoint: the model that samples, already loaded from `config.init_from`.
        prompts: one pool is made for each.
        out: folder; `out/data` holds the data set in the end, see `load_trajectories`.
        verify: judges completions, or None to judge nothing.
        provenance: hardware, versions and commit, stored as they are.
        on_shard: called with (prompts done, winners so far) after each shard.

    Returns:
        The data set, with the columns `COLUMNS`.

    Raises:
        ValueError: wrong values, a canvas that does not fit the model, a checkpoint that is no
            diffusion model, or `out` holds another pool.
    """
    check_distill_config(config)
    if checkpoint.objective != "diffusion":
        raise ValueError(
            f"init_from={config.init_from!r} was trained as {checkpoint.objective}; only a "
            "diffusion model has trajectories"
        )
    if config.must_pass and verify is None:
        raise ValueError("must_pass=true needs a verifier; give one, or set must_pass=false")
    prompt_ids = checkpoint.tokenizer.encode_batch(prompts)
    check_canvas(checkpoint.model, prompt_ids, config.block_size, config.max_new_tokens)
    identity = {"config": asdict(config), "checkpoint": checkpoint.revision}
    open_folder(out, identity)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(prompts), config.prompts_per_shard):
        path = out / "shards" / f"{start:08d}.json"
        if not path.is_file():
            own = range(start, min(start + config.prompts_per_shard, len(prompts)))
            shard = make_shard(config, checkpoint, prompts, own, verify)
            write_text(path, json.dumps(shard))
        rows += json.loads(path.read_text())
        num_done = min(start + config.prompts_per_shard, len(prompts))
        on_shard(num_done, sum(row["is_selected"] for row in rows))
    features = Features(**{name: kind for name, (kind, _) in COLUMNS.items()})  # type: ignore[no-untyped-call]
    dataset = Dataset.from_list(rows, features=features)
    fingerprint = checkpoint.tokenizer.fingerprint
    store(dataset, out, {**identity, "tokenizer": fingerprint, "provenance": dict(provenance)})
    return dataset


def open_folder(out: Path, identity: Mapping[str, Any]) -> None:
    """Create `out`, or check that it holds a part of the same pool."""
    path = out / "run.json"
    if path.is_file():
        if json.loads(path.read_text()) != json.loads(json.dumps(identity)):
            raise ValueError(f"{out} holds another pool; use another --out, or remove it")
        return
    (out / "shards").mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(identity))


def make_shard(
    config: DistillConfig,
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    own: Sequence[int],
    verify: Verify | None,
) -> list[dict[str, Any]]:
    """Sample the pools of the prompts `own`, and mark the winners."""
    tokenizer = checkpoint.tokenizer
    prompt_ids = [tokenizer.encode(prompts[row]) for row in own]
    rows: list[dict[str, Any]] = []
    for policy, temperature, seed in list_candidates(config):
        for row, ids, trajectory in zip(
            own,
            prompt_ids,
            sample_trajectories(config, checkpoint, prompt_ids, own, policy, temperature, seed),
            strict=True,
        ):
            rows.append(
                {
                    "prompt_row": row,
                    "prompt": prompts[row],
                    "completion": tokenizer.decode(trajectory.answer_ids),
                    "prompt_ids": ids,
                    "answer_ids": trajectory.answer_ids,
                    "commit_steps": trajectory.commit_steps,
                    "log_p": trajectory.log_p,
                    "elbo": trajectory.elbo,
                    "monte_carlo_elbo": None,
                    "num_steps": trajectory.num_steps,
                    "is_complete": trajectory.is_complete,
                    "reward": None,
                    "policy": policy,
                    "temperature": temperature,
                    "seed": seed,
                    "is_selected": False,
                }
            )
    if config.elbo == "monte-carlo":
        add_monte_carlo_elbo(config, checkpoint, rows, own[0])
    if verify is not None:
        rewards = verify([r["prompt_row"] for r in rows], [r["completion"] for r in rows])
        for entry, reward in zip(rows, rewards, strict=True):
            entry["reward"] = reward
    mark_winners(config, rows, own)
    return sorted(rows, key=lambda entry: entry["prompt_row"])


def list_candidates(config: DistillConfig) -> list[tuple[str, float, int]]:
    """Every (policy, temperature, seed); a run without randomness is made once."""
    return [
        (policy, temperature, seed)
        for policy, temperature, seed in product(
            config.policies, config.temperatures, range(config.num_seeds)
        )
        if seed == 0 or temperature > 0 or policy.startswith("random")
    ]


def sample_trajectories(
    config: DistillConfig,
    checkpoint: Checkpoint,
    prompt_ids: Sequence[Sequence[int]],
    own: Sequence[int],
    policy: str,
    temperature: float,
    seed: int,
) -> list[Trajectory]:
    """One trajectory per prompt; draws depend on (config.seed, seed, row) only."""
    generator = torch.Generator().manual_seed((config.seed * 1_009 + seed) * 1_000_003 + own[0])
    recorder = Recorder(build_policy(policy, generator))
    generations = sample_blocks(
        checkpoint.model,
        checkpoint.tokenizer,
        prompt_ids,
        block_size=config.block_size,
        policy=recorder,
        max_new_tokens=config.max_new_tokens,
        temperature=temperature,
        seeds=[(config.seed * 1_009 + seed) * 1_000_003 + row for row in own],
    )
    return [
        recorder.read(index, generation, checkpoint.tokenizer.end_id)
        for index, generation in enumerate(generations)
    ]


@torch.no_grad()
def add_monte_carlo_elbo(
    config: DistillConfig, checkpoint: Checkpoint, rows: Sequence[dict[str, Any]], first: int
) -> None:
    """Fill the column `monte_carlo_elbo`."""
    tokenizer = checkpoint.tokenizer
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + first)
    size = config.prompts_per_shard
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        batch = collate(
            [row["prompt_ids"] for row in part],
            [row["answer_ids"] for row in part],
            tokenizer.pad_id,
            tokenizer.end_id,
            config.block_size,
        )
        elbos = estimate_elbo(
            checkpoint.model,
            batch,
            config.block_size,
            tokenizer.mask_id,
            config.num_elbo_samples,
            generator,
        )
        for row, elbo in zip(part, elbos.tolist(), strict=True):
            row["monte_carlo_elbo"] = elbo


def mark_winners(config: DistillConfig, rows: Sequence[dict[str, Any]], own: Sequence[int]) -> None:
    """Set `is_selected` of each prompt's best candidate."""
    column = "elbo" if config.elbo == "trajectory" else "monte_carlo_elbo"
    for prompt_row in own:
        pool = [entry for entry in rows if entry["prompt_row"] == prompt_row]
        best = select_best(
            [entry[column] for entry in pool],
            [entry["is_complete"] for entry in pool],
            [entry["reward"] for entry in pool] if config.must_pass else None,
        )
        if best is not None:
            pool[best]["is_selected"] = True


def store(dataset: Dataset, out: Path, provenance: Mapping[str, Any]) -> None:
    """Write `out/data` and, beside it, what its columns mean and where it comes from."""
    dataset.info.description = json.dumps(provenance)
    if not (out / "data").is_dir():
        partial = out / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        dataset.save_to_disk(str(partial))
        partial.replace(out / "data")
    lines = [
        "# Trajectories of a block-diffusion model",
        "",
        "| column | meaning |",
        "| --- | --- |",
    ]
    lines += [f"| `{name}` | {meaning} |" for name, (_, meaning) in COLUMNS.items()]
    lines += ["", "```json", json.dumps(provenance, indent=2), "```", ""]
    write_text(out / "README.md", "\n".join(lines))


def load_trajectories(folder: Path) -> Dataset:
    """Read the data set that `distill` wrote.

    Raises:
        ValueError: there is none, or it lacks a column.
    """
    if not (folder / "data").is_dir():
        raise ValueError(
            f"{folder} holds no finished trajectories; make them with `sdbench train distill`"
        )
    dataset = Dataset.load_from_disk(str(folder / "data"))
    if missing := sorted(COLUMNS.keys() - set(dataset.column_names)):
        raise ValueError(f"{folder} lacks the column {missing[0]!r}; make it again")
    return dataset


def read_provenance(trajectories: Dataset) -> dict[str, Any]:
    """Config, checkpoint revision and provenance that `distill` stored with the data set."""
    try:
        provenance: dict[str, Any] = json.loads(trajectories.info.description)
    except json.JSONDecodeError as error:
        raise ValueError(
            "the trajectories lack their provenance; make them with `sdbench train distill`"
        ) from error
    return provenance


def check_tokenizer(trajectories: Dataset, tokenizer: CodeTokenizer) -> None:
    """Reject trajectories whose token ids mean something else to this tokenizer.

    Those from before its fingerprint was stored are judged by their texts.

    Raises:
        ValueError: they were made with another one.
    """
    fingerprint = read_provenance(trajectories).get("tokenizer")
    if fingerprint is None:
        texts = map(tokenizer.decode, trajectories["answer_ids"])
        is_same = all(a == b for a, b in zip(texts, trajectories["completion"], strict=True))
    else:
        is_same = fingerprint == tokenizer.fingerprint
    if not is_same:
        raise ValueError(
            "the trajectories were made with another tokenizer than the start checkpoint's; make "
            "them again from it, or from one of its parents, with `sdbench train distill`"
        )
