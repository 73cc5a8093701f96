"""Time whole texts on a GPU: replayed steps, `sample_blocks`, and the autoregressive twin.

    make bench-gpu          or    python reference_model/benchmarks/texts.py

One shipped model, `demo-onpolicy`, on held-out problems of minipy: block 16, `prefix:0.9`, float32,
with `demo-ar` as its twin. Then random weights of the named sizes, drawn wide so that confidences
differ; no text ends early: a prompt of 256 tokens, 256 new ones, block 32, threshold 0.9, bfloat16,
the twin the same weights read causally. Batch 1:

    replayed    `replay.Replayer`, one CUDA graph a step
    blocks      `sampler.sample_blocks`, module by module
    twin        `replay_tokens.TokenReplayer`, token by token, one CUDA graph a token
    twin, plain `autoregressive.sample_tokens`, module by module

Tokens must agree before a speed is printed: in float32 those of `replayed` and `blocks`, and of the
twins, of the shipped models in all texts, of random weights at every position of two blocks; then
those of the graph and of the same steps called one by one, of all texts. Random weights say nothing
about tokens per forward of a trained model; they are printed beside the speed. Results are written
after each row, and one that fails says so. Without a CUDA device: status 2, one line.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from sdb_harness.benchmarks.minipy import load_problems
from sdb_kernels.benchmarking import Report
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import load_checkpoint
from sdb_reference_model.model import SIZES, ModelConfig, Transformer
from sdb_reference_model.policies import commit_above, commit_prefix
from sdb_reference_model.replay import Canvas, Replayer, Rule
from sdb_reference_model.replay_tokens import TokenReplayer
from sdb_reference_model.sampler import Generation, sample_blocks
from sdb_reference_model.tokenizer import ControlIds, SpecialIds

RESULTS = Path(__file__).parent / "results"
NO_GPU = "bench-gpu: needs a CUDA device and found none; the CPU has `make bench-sampler`"
PROMPT_TOKENS, NEW_TOKENS, BLOCK_SIZE, RULE = 256, 256, 32, Rule(0.9)
SHIPPED, SHIPPED_TWIN = "demo-onpolicy", "demo-ar"
NUM_PROBLEMS, SHIPPED_NEW_TOKENS, SHIPPED_BLOCK_SIZE = 8, 128, 16
SHIPPED_RULE = Rule(0.9, is_prefix=True)
LOGIT_SPREAD = 10.0
"""Standard deviation of logits: about a third of the positions then pass the threshold."""
BODY_GAIN = 6.0
"""On the initial weights of the layers, so that positions differ."""
ROUNDS = 5


class Ids:
    """The special ids; the end's row of the head is zero, so that it is never drawn."""

    pad_id, end_id, mask_id = 0, 1, 2
    control_ids: ControlIds | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Two models, and the texts that both write."""

    model: Transformer
    twin: Transformer
    tokenizer: SpecialIds
    prompts: Sequence[Sequence[int]]
    block_size: int
    rule: Rule
    new_tokens: int
    """Of each text at most."""
    num_checked: int
    """Of them those that two samplers must agree on in float32: random weights leave near-ties."""


def main() -> None:
    """Check and time every model, print a line each, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--sizes", nargs="+", default=[SHIPPED, "0.5b", "1b"], choices=[SHIPPED, *SIZES]
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "texts_cuda.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        sys.exit(2)
    report, device = Report(arguments.output, benchmark="texts"), torch.device("cuda")
    for size in arguments.sizes:
        report.add({"size": size}, partial(measure_size, size, device))
        torch.cuda.empty_cache()
    sys.exit(report.num_failed > 0)


def measure_size(size: str, device: torch.device) -> dict[str, object]:
    """One row: the shipped models in float32, or a named size in bfloat16."""
    if size == SHIPPED:
        return measure(load_task(device), torch.float32, ROUNDS)
    return measure(draw_task(SIZES[size], device), torch.bfloat16, ROUNDS)


def load_task(device: torch.device) -> Task:
    """A shipped diffusion model and its twin, on held-out problems."""
    diffusion, twin = load_checkpoint(SHIPPED), load_checkpoint(SHIPPED_TWIN)
    problems = load_problems(split="test", levels=(1,), num_problems=NUM_PROBLEMS, seed=1)
    return Task(
        diffusion.model.to(device),
        twin.model.to(device),
        diffusion.tokenizer,
        [diffusion.tokenizer.encode(problem.prompt) for problem in problems],
        SHIPPED_BLOCK_SIZE,
        SHIPPED_RULE,
        SHIPPED_NEW_TOKENS,
        SHIPPED_NEW_TOKENS,
    )


def draw_task(config: ModelConfig, device: torch.device, new_tokens: int = NEW_TOKENS) -> Task:
    """Random weights, their own twin, and one random prompt."""
    model = build_model(config, device)
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(3, config.vocab_size, (PROMPT_TOKENS,), generator=generator).tolist()
    num_checked = min(2 * BLOCK_SIZE, new_tokens)
    return Task(model, model, Ids(), [prompt], BLOCK_SIZE, RULE, new_tokens, num_checked)


def build_model(config: ModelConfig, device: torch.device) -> Transformer:
    """Random weights in float32, drawn wide."""
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device=device)
    with torch.no_grad():
        model.initialise(torch.Generator(device).manual_seed(0))
        for parameter in model.blocks.parameters():
            parameter.mul_(BODY_GAIN)
        head = model.head_weight
        head.mul_(LOGIT_SPREAD / (config.d_model**0.5 * float(head.std())))
        head[Ids.end_id] = 0.0
    return model.eval().requires_grad_(False)


def measure(task: Task, dtype: torch.dtype, rounds: int) -> dict[str, object]:
    """Compare tokens in float32, then time the four ways in turn in `dtype`.

    Raises:
        SystemExit: Tokens differ; no time is reported.
    """
    short = replace(task, new_tokens=task.num_checked)
    check("replayed and blocks", replay(short), run_blocks(short))
    check("the twins", run_twin(short), run_plain_twin(short))
    task.model.to(dtype)
    task.twin.to(dtype)
    replayer, twin = Replayer(task.model, task.tokenizer), TokenReplayer(task.twin, task.tokenizer)
    check("graph and eager steps", replay(task, replayer), replay_eagerly(task, replayer))
    ways: dict[str, Callable[[], list[Generation]]] = {
        "replayed": lambda: replay(task, replayer),
        "blocks": lambda: run_blocks(task),
        "twin": lambda: run_twin(task, twin),
        "twin, plain": lambda: run_plain_twin(task),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    counts = {}
    for index in range(rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            generations = run()  # reads the tokens, so the clock has waited for the device
            if index:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
            num_tokens = sum(len(g.token_ids) for g in generations)
            counts[name] = num_tokens, sum(g.nfe_denoise + g.nfe_commit for g in generations)
    medians = {name: sorted(times)[len(times) // 2] for name, times in seconds.items()}
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "block_size": task.block_size,
        "policy": f"{'prefix' if task.rule.is_prefix else 'threshold'}:{task.rule.threshold}",
        "num_texts": len(task.prompts),
        "implementation": replayer.implementation,
        "tokens_per_s": {name: round(counts[name][0] / s, 1) for name, s in medians.items()},
        "range_s": {name: [min(times), max(times)] for name, times in seconds.items()},
        "tokens_per_forward": {name: round(n / f, 2) for name, (n, f) in counts.items()},
    }


def replay(task: Task, replayer: Replayer | None = None) -> list[Generation]:
    """The texts by replays, of a fresh graph if none is given."""
    replayer = replayer or Replayer(task.model, task.tokenizer)
    return [
        generation
        for prompt in task.prompts
        for generation in replayer.sample(
            [prompt], block_size=task.block_size, rule=task.rule, max_new_tokens=task.new_tokens
        )
    ]


def replay_eagerly(task: Task, replayer: Replayer) -> list[Generation]:
    """The texts by the same steps, called one by one."""
    eager = Replayer(task.model, task.tokenizer)
    for shape in replayer.steps:
        canvas = Canvas(eager.model, eager.tokenizer, shape, eager.is_folded)
        eager.steps[shape] = canvas, canvas.run
    return replay(task, eager)


def run_blocks(task: Task) -> list[Generation]:
    """The texts by `sample_blocks`."""
    policy = (commit_prefix if task.rule.is_prefix else commit_above)(task.rule.threshold)
    return [
        generation
        for prompt in task.prompts
        for generation in sample_blocks(
            task.model,
            task.tokenizer,
            [prompt],
            block_size=task.block_size,
            policy=policy,
            max_new_tokens=task.new_tokens,
        )
    ]


def run_twin(task: Task, twin: TokenReplayer | None = None) -> list[Generation]:
    """The texts token by token, by replays, of a fresh graph if none is given."""
    twin = twin or TokenReplayer(task.twin, task.tokenizer)
    return [
        generation
        for prompt in task.prompts
        for generation in twin.sample([prompt], max_new_tokens=task.new_tokens)
    ]


def run_plain_twin(task: Task) -> list[Generation]:
    """The texts token by token, by `sample_tokens`."""
    return [
        generation
        for prompt in task.prompts
        for generation in sample_tokens(
            task.twin, task.tokenizer, [prompt], max_new_tokens=task.new_tokens
        )
    ]


def check(what: str, ours: Sequence[Generation], theirs: Sequence[Generation]) -> None:
    """End the run where the tokens of two generations differ."""
    for one, other in zip(ours, theirs, strict=True):
        if one.token_ids != other.token_ids:
            pairs = zip(one.token_ids, other.token_ids, strict=False)
            num_equal = sum(a == b for a, b in pairs)
            sys.exit(f"{what}: {num_equal} of {len(other.token_ids)} tokens agree; nothing timed")


if __name__ == "__main__":
    main()
