"""One line for a GPU that is full, by arithmetic that can be checked by hand."""

from dataclasses import replace

import torch

from sdb_reference_model.memory import GIB, explain_large_weights, explain_out_of_memory
from sdb_reference_model.model import SIZES, Transformer


def make_model() -> Transformer:
    """A row of 1,024 positions takes 256 KiB: 2 x 2 layers x 2 heads x 8 channels x 4 bytes."""
    return Transformer(replace(SIZES["test"], num_layers=2))


def test_a_smaller_batch_is_named_where_one_fits() -> None:
    line = explain_out_of_memory(make_model(), 4096, 1024, free_bytes=GIB // 2)
    assert line == (
        "out of GPU memory: 4096 rows of 1024 positions need 1.00 GiB for keys and values alone, "
        "0.50 GiB are free beside the model; batch_size=1433 should fit"
    )  # 0.7 * 0.5 GiB / 256 KiB


def test_it_never_names_the_batch_that_did_not_fit() -> None:
    assert "batch_size=7 should fit" in explain_out_of_memory(make_model(), 8, 1024, GIB)
    half = make_model().to(torch.bfloat16)
    assert "0.50 GiB for keys" in explain_out_of_memory(half, 4096, 1024, GIB)


def test_where_no_row_fits_a_shorter_text_is_named() -> None:
    line = explain_out_of_memory(make_model(), 1, 1024, free_bytes=100 * 256)
    assert line.endswith("prompt and max_new_tokens should fit with 70 positions together")
    line = explain_out_of_memory(make_model(), 1, 1024, free_bytes=GIB)
    assert line.endswith("should fit with 512 positions together")


def test_weights_that_do_not_fit_are_named_with_what_fits() -> None:
    model = make_model()
    size = sum(p.numel() for p in model.parameters())
    line = explain_large_weights(model, 3 * size)
    assert line.startswith("out of GPU memory: weights of 0.00 GiB do not fit a GPU of 0.00 GiB; ")
    assert line.endswith("use weights=bfloat16")
    assert explain_large_weights(model, size).endswith("use a smaller model")
