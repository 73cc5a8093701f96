"""The roofline against sums done by hand, and against the Transformer that it describes."""

from pathlib import Path

import pytest
import torch

from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.roofline import (
    GPUS,
    PRECISIONS,
    compute_knee,
    compute_slowdown,
    compute_tokens_per_forward,
    count_body_weights,
    count_cache_bytes,
    count_head_weights,
    draw_slowdown,
    predict_forward,
)

BF16, FP8_WEIGHTS, FP8 = PRECISIONS["bf16"], PRECISIONS["fp8-weights"], PRECISIONS["fp8"]


@pytest.mark.parametrize("size", ["test", "25m", "125m", "0.5b", "1b", "8b"])
def test_weights_are_those_of_the_transformer(size: str) -> None:
    with torch.device("meta"):
        model = Transformer(SIZES[size])
    matrices = [p.numel() for p in model.blocks.parameters() if p.dim() == 2]
    assert count_body_weights(SIZES[size]) == sum(matrices)
    assert count_head_weights(SIZES[size]) == model.head_weight.numel()


def test_sizes_weigh_what_their_names_say() -> None:
    for size, weights in {
        "25m": 25e6,
        "125m": 125e6,
        "0.5b": 0.5e9,
        "1b": 1.2e9,
        "8b": 8.2e9,
    }.items():
        with torch.device("meta"):
            model = Transformer(SIZES[size])
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(weights, rel=0.03)


def test_an_8b_forward_on_an_h20_by_hand() -> None:
    # A layer: queries and output 4096 x 4096 each, keys and values 4096 x 1024 each, three
    # matrices of 4096 x 14336.
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    body, head = 32 * layer, 155_136 * 4096
    cache = 32 * 2 * 8 * 128 * 2  # layers, keys and values, heads, channels, bytes
    assert count_cache_bytes(SIZES["8b"]) == cache == 131_072
    for num_tokens in (4, 32):  # below the knee: bytes
        forward = predict_forward(SIZES["8b"], GPUS["H20"], BF16, num_tokens, 0)
        assert forward.is_bound_by_memory
        assert forward.body_s == pytest.approx(2 * body / 4.0e12)
        assert forward.head_s == pytest.approx(2 * head / 4.0e12)
    forward = predict_forward(SIZES["8b"], GPUS["H20"], BF16, 64, 1024)  # behind it: operations
    assert not forward.is_bound_by_memory
    assert forward.body_s == pytest.approx(2 * body * 64 / 148e12)
    assert forward.attention_s == pytest.approx(4 * 32 * 4096 * 64 * (1024 + 64) / 148e12)
    forward = predict_forward(SIZES["8b"], GPUS["H20"], BF16, 1, 1024)
    assert forward.attention_s == pytest.approx(cache * 1024 / 4.0e12)
    assert forward.seconds == forward.body_s + forward.head_s + forward.attention_s


def test_knees() -> None:
    assert compute_knee(GPUS["H20"], BF16) == pytest.approx(37.0)
    assert compute_knee(GPUS["H100"], BF16) == pytest.approx(295.2, abs=0.1)
    assert compute_knee(GPUS["H200"], BF16) == pytest.approx(206.0, abs=0.1)
    # Half the bytes halve it; twice the operations per second restore it.
    assert compute_knee(GPUS["H20"], FP8_WEIGHTS) == pytest.approx(18.5)
    assert compute_knee(GPUS["H20"], FP8) == pytest.approx(37.0)


def test_time_is_flat_before_the_knee_and_linear_behind_it() -> None:
    config, h20 = SIZES["8b"], GPUS["H20"]
    assert compute_slowdown(config, h20, BF16, 36, 0) == pytest.approx(1.0, abs=0.01)
    assert compute_slowdown(config, h20, BF16, 74, 0) == pytest.approx(2.0, rel=0.01)
    assert compute_slowdown(config, h20, BF16, 64, 1024) == pytest.approx(1.78, abs=0.005)
    for name in ("H100", "H200"):
        assert compute_slowdown(config, GPUS[name], BF16, 64, 1024) < 1.02


def test_tokens_per_forward_of_a_claim() -> None:
    # 8b, H20, 32 tokens: 3.49 + 0.32 + 0.12 ms, so 254.6 forwards/s, and 2146 / 254.6 = 8.43.
    seconds = predict_forward(SIZES["8b"], GPUS["H20"], BF16, 32, 1024).seconds
    assert 1 / seconds == pytest.approx(254.6, abs=0.1)
    assert compute_tokens_per_forward(2146, seconds) == pytest.approx(8.43, abs=0.005)
    assert compute_tokens_per_forward(2146, seconds, 0.75) == pytest.approx(11.24, abs=0.005)


def test_the_committed_picture_is_what_the_command_draws(tmp_path: Path) -> None:
    out = tmp_path / "roofline.svg"
    draw_slowdown(out, ("1b", "8b"))
    committed = Path(__file__).parents[2] / "kernels" / "roofline.svg"
    # Text only: the paths of the glyphs and the rounding of curves belong to matplotlib's version.
    labels = [line.strip() for line in out.read_text().splitlines() if "<text" in line]
    assert labels
    assert any("H20, knee at 37" in line for line in labels)
    in_committed = committed.read_text()
    assert all(line in in_committed for line in labels)
