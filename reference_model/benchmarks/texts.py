"""Time whole texts on a GPU: replayed steps, `sample_blocks`, and the autoregressive twin.

    make bench-gpu          or    python reference_model/benchmarks/texts.py

Random weights of the named sizes, drawn wide so that confidences differ; no text ends early. Batch
1, a prompt of 256 tokens, 256 new ones, block 32, threshold 0.9, bfloat16:

    replayed    `replay.Replayer`, one CUDA graph a step
    blocks      `sampler.sample_blocks`, module by module
    twin        `replay_tokens.TokenReplayer`, token by token, one CUDA graph a token
    twin, plain `autoregressive.sample_tokens`, module by module

Tokens must agree before a speed is printed: in float32 those of `replayed` and `blocks`, and of the
twins, at every position of two blocks; in bfloat16, where they round differently, those of the
graph and of the same steps called one by one, of the whole text. Random weights say nothing about
tokens per forward of a trained model; they are printed beside the speed. Results are written after
each size, and one that fails says so. Without a CUDA device: status 2, one line.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from sdb_kernels.benchmarking import Report
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.model import SIZES, ModelConfig, Transformer
from sdb_reference_model.policies import commit_above
from sdb_reference_model.replay import Canvas, Replayer
from sdb_reference_model.replay_tokens import TokenReplayer
from sdb_reference_model.sampler import Generation, sample_blocks
from sdb_reference_model.tokenizer import ControlIds

RESULTS = Path(__file__).parent / "results"
NO_GPU = "bench-gpu: needs a CUDA device and found none; the CPU has `make bench-sampler`"
PROMPT_TOKENS, NEW_TOKENS, BLOCK_SIZE, THRESHOLD = 256, 256, 32, 0.9
LOGIT_SPREAD = 10.0
"""Standard deviation of logits: about a third of the positions then pass the threshold."""
BODY_GAIN = 6.0
"""On the initial weights of the layers, so that positions differ."""
ROUNDS = 5


class Ids:
    """The special ids; the end's row of the head is zero, so that it is never drawn."""

    pad_id, end_id, mask_id = 0, 1, 2
    control_ids: ControlIds | None = None


def main() -> None:
    """Check and time every size, print a line each, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", nargs="+", default=["0.5b", "1b"], choices=list(SIZES))
    parser.add_argument("--output", type=Path, default=RESULTS / "texts_cuda.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        sys.exit(2)
    report = Report(
        arguments.output,
        benchmark="texts",
        prompt_tokens=PROMPT_TOKENS,
        new_tokens=NEW_TOKENS,
        block_size=BLOCK_SIZE,
        threshold=THRESHOLD,
    )
    for size in arguments.sizes:
        device, dtype = torch.device("cuda"), torch.bfloat16
        run = partial(measure, SIZES[size], device, dtype, NEW_TOKENS, ROUNDS)
        report.add({"size": size}, run)
        torch.cuda.empty_cache()
    sys.exit(report.num_failed > 0)


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


def measure(
    config: ModelConfig, device: torch.device, dtype: torch.dtype, new_tokens: int, rounds: int
) -> dict[str, object]:
    """Compare tokens, then time the four ways in turn.

    Raises:
        SystemExit: Tokens differ; no time is reported.
    """
    model = build_model(config, device)
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(3, config.vocab_size, (PROMPT_TOKENS,), generator=generator).tolist()
    short = min(2 * BLOCK_SIZE, new_tokens)
    check("replayed and blocks", replay(model, prompt, short), run_blocks(model, prompt, short))
    twins = [run_twin(model, prompt, short), run_plain_twin(model, prompt, short)]
    check("the twins", twins[0], twins[1])
    model.to(dtype)
    replayer, twin = Replayer(model, Ids()), TokenReplayer(model, Ids())
    check(
        "graph and eager steps",
        replay(model, prompt, new_tokens, replayer),
        replay_eagerly(replayer, prompt, new_tokens),
    )
    ways: dict[str, Callable[[], Generation]] = {
        "replayed": lambda: replay(model, prompt, new_tokens, replayer),
        "blocks": lambda: run_blocks(model, prompt, new_tokens),
        "twin": lambda: run_twin(model, prompt, new_tokens, twin),
        "twin, plain": lambda: run_plain_twin(model, prompt, new_tokens),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    forwards = {}
    for index in range(rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            generation = run()  # reads the tokens, so the clock has waited for the device
            if index:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
            forwards[name] = generation.nfe_denoise + generation.nfe_commit
    medians = {name: sorted(times)[len(times) // 2] for name, times in seconds.items()}
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "implementation": replayer.implementation,
        "tokens_per_s": {name: round(new_tokens / s, 1) for name, s in medians.items()},
        "range_s": {name: [min(times), max(times)] for name, times in seconds.items()},
        "tokens_per_forward": {name: round(new_tokens / n, 2) for name, n in forwards.items()},
    }


def replay(
    model: Transformer, prompt: Sequence[int], new_tokens: int, replayer: Replayer | None = None
) -> Generation:
    """The text by replays, of a fresh graph if none is given."""
    (generation,) = (replayer or Replayer(model, Ids())).sample(
        [prompt], block_size=BLOCK_SIZE, threshold=THRESHOLD, max_new_tokens=new_tokens
    )
    return generation


def replay_eagerly(replayer: Replayer, prompt: Sequence[int], new_tokens: int) -> Generation:
    """The text by the same steps, called one by one."""
    eager = Replayer(replayer.model, replayer.tokenizer)
    for shape in replayer.steps:
        canvas = Canvas(eager.model, eager.tokenizer, shape, eager.is_folded)
        eager.steps[shape] = canvas, canvas.run
    return replay(eager.model, prompt, new_tokens, eager)


def run_blocks(model: Transformer, prompt: Sequence[int], new_tokens: int) -> Generation:
    """The text by `sample_blocks`."""
    (generation,) = sample_blocks(
        model,
        Ids(),
        [prompt],
        block_size=BLOCK_SIZE,
        policy=commit_above(THRESHOLD),
        max_new_tokens=new_tokens,
    )
    return generation


def run_twin(
    model: Transformer, prompt: Sequence[int], new_tokens: int, twin: TokenReplayer | None = None
) -> Generation:
    """The text token by token, by replays, of a fresh graph if none is given."""
    twin = twin or TokenReplayer(model, Ids())
    (generation,) = twin.sample([prompt], max_new_tokens=new_tokens)
    return generation


def run_plain_twin(model: Transformer, prompt: Sequence[int], new_tokens: int) -> Generation:
    """The text token by token, by `sample_tokens`."""
    (generation,) = sample_tokens(model, Ids(), [prompt], max_new_tokens=new_tokens)
    return generation


def check(what: str, ours: Generation, theirs: Generation) -> None:
    """End the run where the tokens of two generations differ."""
    if ours.token_ids != theirs.token_ids:
        pairs = zip(ours.token_ids, theirs.token_ids, strict=False)
        num_equal = sum(a == b for a, b in pairs)
        sys.exit(f"{what}: {num_equal} of {len(theirs.token_ids)} tokens agree; nothing timed")


if __name__ == "__main__":
    main()
