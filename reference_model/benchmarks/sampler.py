"""Tokens per second of the samplers on the shipped checkpoints, cached against uncached.

    python reference_model/benchmarks/sampler.py        (`make bench-sampler`)

One process, one set of weights, batch 1, greedy. Every round runs all contestants once on the
same held-out problems, in turn, so that a busy moment hits all of them; the table shows medians and
ranges over the rounds. Correctness first: cached and uncached must give the same tokens, or no time
is shown. Weights are float32; one row has bfloat16, whose tokens are its own. Writes
`results/sampler.json` with hardware, versions and commit.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sdb_harness.benchmarks.minipy import load_problems
from sdb_harness.hardware import describe_hardware
from sdb_kernels.benchmarking import describe_run
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.past import Cached, Uncached
from sdb_reference_model.policies import Policy, commit_above, commit_prefix
from sdb_reference_model.sampler import Generation, sample_blocks
from sdb_reference_model.speculative import DiffusionDraft, sample_speculatively

NUM_PROBLEMS = 40
NUM_ROUNDS = 5
MAX_NEW_TOKENS = 128
SETTINGS = {
    f"block {block_size}, {name}": (block_size, policy)
    for block_size in (4, 16, 32)
    for name, policy in (
        ("one by one", commit_above(1.0)),
        ("threshold 0.99", commit_above(0.99)),
        ("prefix 0.95", commit_prefix(0.95)),
        ("prefix 0.9", commit_prefix(0.9)),
    )
}
OUT = Path(__file__).parent / "results" / "sampler.json"

TWIN = "autoregressive, cached"

Contestant = Callable[[list[int]], Generation]


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over rounds; a round's figure is all tokens over all seconds."""

    name: str
    tokens_per_s: float
    tokens_per_s_range: tuple[float, float]
    tokens_per_forward: float
    forwards_per_s: float
    speed_over_uncached: float | None
    speed_over_twin: float


def build_contestants(
    diffusion: Checkpoint, narrow: Checkpoint, twin: Checkpoint
) -> dict[str, Contestant]:
    """Name -> function from prompt ids to a generation; `narrow` is `diffusion` in bfloat16."""

    def sample_one(
        prompt: list[int],
        block_size: int,
        policy: Policy,
        use_cache: bool,
        checkpoint: Checkpoint = diffusion,
    ) -> Generation:
        return sample_blocks(
            checkpoint.model,
            checkpoint.tokenizer,
            [prompt],
            block_size=block_size,
            policy=policy,
            max_new_tokens=MAX_NEW_TOKENS,
            past=Cached if use_cache else Uncached,
        )[0]

    contestants: dict[str, Contestant] = {}
    for name, (block_size, policy) in SETTINGS.items():
        for cached in (True, False):
            contestants[f"{name}, {'' if cached else 'un'}cached"] = partial(
                sample_one, block_size=block_size, policy=policy, use_cache=cached
            )
    contestants["block 16, prefix 0.9, cached, bfloat16"] = partial(
        sample_one, block_size=16, policy=commit_prefix(0.9), use_cache=True, checkpoint=narrow
    )
    contestants[TWIN] = lambda prompt: sample_tokens(
        twin.model, twin.tokenizer, [prompt], max_new_tokens=MAX_NEW_TOKENS
    )[0]
    contestants["autoregressive, prompt lookup"] = lambda prompt: sample_speculatively(
        twin.model, twin.tokenizer, [prompt], max_new_tokens=MAX_NEW_TOKENS
    )[0]
    contestants["autoregressive, diffusion drafts"] = lambda prompt: sample_speculatively(
        twin.model,
        twin.tokenizer,
        [prompt],
        draft=DiffusionDraft(diffusion.model, diffusion.tokenizer),
        num_draft=16,
        max_new_tokens=MAX_NEW_TOKENS,
    )[0]
    return contestants


def check_equal(contestants: dict[str, Contestant], prompts: list[list[int]]) -> None:
    """Compare the tokens of each cached contestant with its definition."""
    for name, contestant in contestants.items():
        slow = contestants.get(name.replace(", cached", ", uncached"))
        if name.endswith((", prompt lookup", ", diffusion drafts")):
            slow = contestants[TWIN]
        if slow is not None and slow is not contestant:
            for prompt in prompts:
                if contestant(prompt).token_ids != slow(prompt).token_ids:
                    raise SystemExit(
                        f"{name}: tokens differ from the definition; no speed is shown"
                    )


def measure(contestants: dict[str, Contestant], prompts: list[list[int]]) -> list[Row]:
    """Time all contestants in turn, `NUM_ROUNDS` times."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    counts: dict[str, tuple[int, int]] = {}
    for _ in track(range(NUM_ROUNDS), description="rounds"):
        for name, contestant in contestants.items():
            started = time.perf_counter()
            generations = [contestant(prompt) for prompt in prompts]
            seconds = time.perf_counter() - started
            num_tokens = sum(len(g.token_ids) for g in generations)
            num_forwards = sum(g.nfe_denoise + g.nfe_commit + g.nfe_draft for g in generations)
            counts[name] = num_tokens, num_forwards
            speeds[name].append(num_tokens / seconds)
    rows = []
    for name, values in speeds.items():
        num_tokens, num_forwards = counts[name]
        slow = speeds.get(name.replace(", cached", ", uncached"))
        ratio = None
        if slow is not None and name.endswith(", cached"):
            ratio = statistics.median(a / b for a, b in zip(values, slow, strict=True))
        speed = statistics.median(values)
        tokens_per_forward = num_tokens / num_forwards
        rows.append(
            Row(
                name,
                speed,
                (min(values), max(values)),
                tokens_per_forward,
                speed / tokens_per_forward,
                ratio,
                statistics.median(a / b for a, b in zip(values, speeds[TWIN], strict=True)),
            )
        )
    return rows


def main() -> None:
    """Check, measure, print, write."""
    diffusion, twin = load_checkpoint("demo-onpolicy"), load_checkpoint("demo-ar")
    narrow = load_checkpoint("demo-onpolicy", torch.bfloat16)
    problems = load_problems(split="test", levels=(1,), num_problems=NUM_PROBLEMS, seed=1)
    prompts = [diffusion.tokenizer.encode(problem.prompt) for problem in problems]
    for checkpoint in (diffusion, narrow, twin):
        checkpoint.model.pack()
    contestants = build_contestants(diffusion, narrow, twin)
    check_equal(contestants, prompts)
    rows = measure(contestants, prompts)
    table = Table(
        "sampler", "tokens/s", "range", "tokens/forward", "forwards/s", "x uncached", "x twin"
    )
    for row in rows:
        low, high = row.tokens_per_s_range
        ratio = f"{row.speed_over_uncached:.2f}" if row.speed_over_uncached else ""
        table.add_row(
            row.name,
            f"{row.tokens_per_s:.0f}",
            f"{low:.0f}-{high:.0f}",
            f"{row.tokens_per_forward:.2f}",
            f"{row.forwards_per_s:.0f}",
            ratio,
            f"{row.speed_over_twin:.2f}",
        )
    Console().print(table)
    record = {
        "hardware": describe_hardware().describe(),
        "load_average": os.getloadavg(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "precision": "float32, but where a row says bfloat16",
        "commit": describe_run(Path(__file__).parent)["commit"],
        "checkpoints": {"diffusion": diffusion.revision, "autoregressive": twin.revision},
        "num_problems": NUM_PROBLEMS,
        "num_rounds": NUM_ROUNDS,
        "rows": [asdict(row) for row in rows],
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
