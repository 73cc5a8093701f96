"""What a run of pre-training starts from: its tokenizer, its model and its data.

Place in the flow: `train.py` asks for the three, in this order, before its first step; `--dry-run`
asks for the first two alone.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.data import BatchStream, StreamedBatches, check_texts, take, tokenize
from sdb_reference_model.model import SIZES, ModelConfig, Transformer
from sdb_reference_model.parallel import World
from sdb_reference_model.tokenizer import CodeTokenizer, find_forbidden_id
from sdb_reference_model.train_config import TrainConfig

TOKENIZER_EXAMPLES = 20_000
"""Examples on which the tokenizer is trained: its merges no longer change beyond this."""


def prepare_tokenizer(
    config: TrainConfig,
    start: Checkpoint | None,
    dataset: Dataset | IterableDataset,
    out: Path,
    world: World,
) -> CodeTokenizer:
    """Take the start's tokenizer, or load the run's own, which rank 0 makes.

    Raises:
        ValueError: if the folder holds another one, or the start has no id to spare for a mask.
    """
    path = out / "tokenizer.json"
    if start is None:
        if world.rank == 0 and not path.is_file():
            make_tokenizer(config, None, dataset).save(path)
        world.wait()
        return CodeTokenizer.load(path)
    tokenizer = make_tokenizer(config, start, dataset)
    if path.is_file() and Tokenizer.from_file(str(path)).to_str() != tokenizer.inner.to_str():
        raise ValueError(
            f"init_from={config.init_from!r} has another tokenizer than this run's folder; "
            "use another --out"
        )
    world.wait()
    if world.rank == 0:
        tokenizer.save(path)
    world.wait()
    return tokenizer


def make_tokenizer(
    config: TrainConfig, start: Checkpoint | None, dataset: Dataset | IterableDataset
) -> CodeTokenizer:
    """Take the start's tokenizer, with a mask if one is needed, or train one on some examples."""
    if start is None:
        rows = take(dataset, TOKENIZER_EXAMPLES)
        check_texts(rows["prompt"], rows["completion"])
        texts = [p + c for p, c in zip(rows["prompt"], rows["completion"], strict=True)]
        return CodeTokenizer.train(texts, SIZES[config.size].vocab_size)
    if config.objective == "diffusion" and find_forbidden_id(start.tokenizer) is None:
        return start.tokenizer.with_mask(config.mask_token, start.model.config.vocab_size)
    return start.tokenizer


def find_shape(config: TrainConfig, start: Checkpoint | None) -> ModelConfig:
    """The named shape, or the start's.

    Raises:
        ValueError: if both are given and differ.
    """
    causal_past = config.attention == "causal_past"
    named = replace(SIZES[config.size], causal_past=causal_past) if config.size else None
    if start is None:
        assert named is not None  # `check_config` wants one of the two
        return named
    shape = replace(start.model.config, causal_past=causal_past)
    if named not in (None, shape):
        raise ValueError(
            f"init_from={config.init_from!r} is not of size {config.size!r} "
            f"({shape} against {named}); name the size it has, or none"
        )
    return shape


def build_model(config: TrainConfig, start: Checkpoint | None) -> Transformer:
    """Draw the weights from the seed, or copy the start's.

    An autoregressive start spoke of the next token; the model learns to speak of its own.

    Raises:
        ValueError: if the start is of another size.
    """
    model = Transformer(find_shape(config, start))
    if start is None:
        model.initialise(torch.Generator().manual_seed(config.seed))
    else:
        model.load_state_dict(start.model.state_dict())
    model.recomputes_activations = config.recompute_activations
    if config.compile:
        model.compile(dynamic=True)
    return model


def check_pieces(config: TrainConfig, world: World) -> None:
    """Reject pieces that the ranks cannot share.

    Raises:
        ValueError: the batch or its pieces do not divide.
    """
    piece_size = config.piece_size or config.batch_size // world.size
    if (
        piece_size < 1
        or config.batch_size % piece_size
        or (config.batch_size // piece_size % world.size)
    ):
        raise ValueError(
            f"batch_size={config.batch_size} in pieces of {piece_size} does not divide among "
            f"{world.size} ranks; make batch_size a multiple of {max(1, piece_size) * world.size}"
        )


def open_data(
    config: TrainConfig,
    dataset: Dataset | IterableDataset,
    out: Path,
    model: Transformer,
    tokenizer: CodeTokenizer,
    world: World,
) -> BatchStream:
    """Batches of the data set; what the model cannot be shown is an error, or left out of a stream.

    Raises:
        ValueError: an example is too long or holds the mask, or there is too little data.
    """
    width, longest = max((1, *config.block_sizes)), model.config.max_seq_len

    def count(prompt: NDArray[np.int64], answer: NDArray[np.int64]) -> int:
        return len(prompt) + max(config.canvas_size, -(-len(answer) // width) * width)

    def holds_mask(prompt: NDArray[np.int64], answer: NDArray[np.int64]) -> bool:
        return any((ids == tokenizer.mask_id).any() for ids in (prompt, answer))

    if isinstance(dataset, IterableDataset):
        return StreamedBatches(
            dataset,
            tokenizer,
            config.batch_size,
            config.seed,
            lambda *ids: count(*ids) <= longest and not holds_mask(*ids),
            out / "windows.json",
            is_writer=world.rank == 0,
        )
    stream = BatchStream(tokenize(dataset, tokenizer), config.batch_size, config.seed)
    examples = list(zip(stream.prompts, stream.answers, strict=True))
    if (found := max(count(*ids) for ids in examples)) > longest:
        raise ValueError(
            f"the longest example takes {found} positions, this model has "
            f"max_seq_len={longest}; leave long examples out"
        )
    if any(holds_mask(*ids) for ids in examples):
        raise ValueError(
            f"the data has the mask in it, token {tokenizer.mask_id}; name another mask_token, "
            "which no text has"
        )
    return stream
