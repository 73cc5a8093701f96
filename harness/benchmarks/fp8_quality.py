"""Measure what e4m3 weights change in the shipped diffusion checkpoint, by their definition.

    python harness/benchmarks/fp8_quality.py

Weights are quantised with a scale per output channel (`sdb_kernels.fp8`) and widened again, which
is what the kernels compute with, up to float32 rounding. On held-out minipy problems of both
trained levels it reports the objective in nats per token (same masks for all), the share of
positions of a masked first block whose most probable token is the same, the mean change of that
token's probability, and the share of greedy answers that are the same text. It needs no GPU and
says nothing about speed.
"""

import argparse
import copy
import json
from pathlib import Path

import torch
from torch import Tensor

from sdb_harness.benchmarks.minipy import make_example
from sdb_harness.provenance import read_git_state
from sdb_kernels.fp8 import quantise
from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.data import collate
from sdb_reference_model.generate import generate_text
from sdb_reference_model.model import Transformer
from sdb_reference_model.objective import compute_diffusion_loss
from sdb_reference_model.states import Batch

RESULTS = Path(__file__).parent / "results"
BLOCK_SIZE = 16
PARTS = {"head": ("head",), "body": ("body",), "head and body": ("head", "body")}


def main() -> None:
    """Quantise each part, compare with the checkpoint as it is, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--checkpoint", default="demo-diffusion")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--output", type=Path, default=RESULTS / "fp8_quality.json")
    arguments = parser.parse_args()

    original = load_checkpoint(arguments.checkpoint)
    texts = [
        make_example(index, split="test", level=1 + index % 2)
        for index in range(max(arguments.examples, arguments.answers))
    ]
    batch = build_batch(original, texts[: arguments.examples])
    prompts = [prompt for prompt, _ in texts[: arguments.answers]]
    loss, (tokens, confidence) = compute_loss(original, batch), predict(original, batch)
    answers = [answer(original, prompt) for prompt in prompts]
    rows: list[dict[str, object]] = [{"weights": "as they are", "nats_per_token": round(loss, 4)}]
    for name, parts in PARTS.items():
        checkpoint = copy.copy(original)
        object.__setattr__(checkpoint, "model", round_weights(original.model, parts))
        new_tokens, new_confidence = predict(checkpoint, batch)
        is_same = new_tokens == tokens
        change = (new_confidence - confidence).abs()[is_same]
        new_answers = [answer(checkpoint, prompt) for prompt in prompts]
        rows.append(
            {
                "weights": f"e4m3 {name}",
                "nats_per_token": round(compute_loss(checkpoint, batch), 4),
                "same_token": round(float(is_same.float().mean()), 4),
                "mean_change_of_confidence": round(float(change.mean()), 5),
                "same_answer": sum(map(str.__eq__, new_answers, answers)) / len(answers),
            }
        )
    for row in rows:
        print(json.dumps(row))
    report = {
        "benchmark": "fp8_quality",
        "checkpoint": arguments.checkpoint,
        "num_examples": arguments.examples,
        "num_answers": arguments.answers,
        "block_size": BLOCK_SIZE,
        "commit": read_git_state(Path(__file__).parent)[0],
        "results": rows,
    }
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def round_weights(model: Transformer, parts: tuple[str, ...]) -> Transformer:
    """Copy a model with the matrices of `parts` rounded to e4m3; a tied head is the embedding."""
    rounded = copy.deepcopy(model)
    matrices = [rounded.head_weight] if "head" in parts else []
    if "body" in parts:
        matrices += [p for p in rounded.blocks.parameters() if p.dim() == 2]
    with torch.no_grad():
        for matrix in matrices:
            matrix.copy_(quantise(matrix).dequantise())
    return rounded


def build_batch(checkpoint: Checkpoint, texts: list[tuple[str, str]]) -> Batch:
    tokenizer = checkpoint.tokenizer
    return collate(
        [tokenizer.encode(prompt) for prompt, _ in texts],
        [[*tokenizer.encode(reference), tokenizer.end_id] for _, reference in texts],
        tokenizer.pad_id,
        tokenizer.end_id,
        BLOCK_SIZE,
    )


@torch.inference_mode()
def compute_loss(checkpoint: Checkpoint, batch: Batch) -> float:
    """The masked term of Eq. 6 in nats per token, with the same masks at every call."""
    generator = torch.Generator().manual_seed(0)
    mask_id = checkpoint.tokenizer.mask_id
    terms = compute_diffusion_loss(
        checkpoint.model, batch, BLOCK_SIZE, mask_id, generator=generator
    )
    return float(terms.mask) / terms.num_tokens


@torch.inference_mode()
def predict(checkpoint: Checkpoint, batch: Batch) -> tuple[Tensor, Tensor]:
    """The most probable token and its probability of a first block, wholly masked, per example."""
    tokens, confidences = [], []
    mask_id = checkpoint.tokenizer.mask_id
    for prompt, length in zip(batch.prompt, batch.prompt_lengths.tolist(), strict=True):
        masked = torch.cat((prompt[-length:], torch.full((BLOCK_SIZE,), mask_id)))[None]
        hidden = checkpoint.model(masked)[0, -BLOCK_SIZE:]
        logits = hidden @ checkpoint.model.head_weight.T
        logits[:, mask_id] = -torch.inf
        confidence, token = logits.softmax(dim=-1).max(dim=-1)
        tokens.append(token)
        confidences.append(confidence)
    return torch.stack(tokens), torch.stack(confidences)


def answer(checkpoint: Checkpoint, prompt: str) -> str:
    """The greedy answer, one token per forward."""
    return generate_text(
        checkpoint, prompt, block_size=BLOCK_SIZE, threshold=1.0, max_new_tokens=64
    ).text


if __name__ == "__main__":
    main()
