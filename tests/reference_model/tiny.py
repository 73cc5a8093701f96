"""The model of random weights on which samplers and past are tested."""

import functools

import torch

from sdb_reference_model.model import SIZES, ModelConfig, Transformer
from sdb_reference_model.tokenizer import CodeTokenizer


@functools.cache
def make_tokenizer() -> CodeTokenizer:
    """The same one every time."""
    return CodeTokenizer.train(["def f(x):\n    return x\n"], 300)


@functools.cache
def make_model(
    end_bias: float = -1.0,
    *,
    config: ModelConfig = SIZES["test"],
    seed: int = 7,
    scale: float = 40.0,
) -> Transformer:
    """Random weights, wide enough that confidences differ; the same ones every time.

    An `end_bias` of -1 makes the end token impossible, a positive one makes it likely.
    """
    model = Transformer(config)
    model.initialise(torch.Generator().manual_seed(seed))
    for block in model.blocks:
        for weight in block.parameters():
            weight.data *= 6
    model.embedding.weight.data *= scale
    model.embedding.weight.data[make_tokenizer().end_id] *= 1 + end_bias
    return model.eval().requires_grad_(False)
