"""What fits on a GPU that ran out of memory, in one line.

Place in the flow: whoever runs a sampler on a GPU puts the model there with `place`, catches
`torch.OutOfMemoryError` and shows what `explain_out_of_memory` says.
The arithmetic is that of the cache, which grows with rows and positions; what a forward needs
beside it is not predicted but left a share of what is free.
"""

import torch

from sdb_reference_model.model import Transformer

CACHE_SHARE = 0.7
"""Of the free memory that caches may fill; the rest is for activations and fragments."""

GIB = 1 << 30


def place(model: Transformer) -> torch.device:
    """Move a model to the GPU if there is one; return where it is.

    Raises:
        ValueError: its weights do not fit.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model.to(device)
    except torch.OutOfMemoryError as error:
        total_bytes = torch.cuda.mem_get_info(device)[1]
        raise ValueError(explain_large_weights(model, total_bytes)) from error
    return device


def explain_large_weights(model: Transformer, total_bytes: int) -> str:
    """Say how much the weights need, how much a GPU has, and what they take in fewer bits."""
    num_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    num_weights = sum(p.numel() for p in model.parameters())
    way_out = "a smaller model" if 2 * num_weights >= total_bytes else "weights=bfloat16"
    return (
        f"out of GPU memory: weights of {num_bytes / GIB:.2f} GiB do not fit a GPU of "
        f"{total_bytes / GIB:.2f} GiB; in bfloat16 they take {2 * num_weights / GIB:.2f}; use "
        f"{way_out}"
    )


def explain_out_of_memory(
    model: Transformer, num_rows: int, num_positions: int, free_bytes: int | None = None
) -> str:
    """Say how much a batch needs, how much is free, and the batch that would fit.

    Args:
        model: where it lies, with its dtype.
        num_rows: rows B of the batch that did not fit.
        num_positions: of the longest prompt and the canvas together.
        free_bytes: default: what the model's GPU has free now, after giving back what PyTorch kept.
    """
    weight, c = model.embedding.weight, model.config
    if free_bytes is None:
        torch.cuda.empty_cache()
        free_bytes = torch.cuda.mem_get_info(weight.device)[0]
    channels = 2 * c.num_layers * c.num_kv_heads * c.head_dim  # keys and values
    row_bytes = channels * weight.element_size() * num_positions
    num_fitting = min(num_rows - 1, int(CACHE_SHARE * free_bytes // row_bytes))
    way_out = f"batch_size={num_fitting} should fit"
    if num_fitting < 1:
        num_shorter = int(CACHE_SHARE * free_bytes // (row_bytes // num_positions))
        num_shorter = min(num_shorter, num_positions // 2)
        way_out = f"prompt and max_new_tokens should fit with {num_shorter} positions together"
    return (
        f"out of GPU memory: {num_rows} rows of {num_positions} positions need "
        f"{num_rows * row_bytes / GIB:.2f} GiB for keys and values alone, {free_bytes / GIB:.2f} "
        f"GiB are free beside the model; {way_out}"
    )
