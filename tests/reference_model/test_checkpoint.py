"""Checkpoints: what is saved is what is loaded, and damage is one clear line."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models

from sdb_reference_model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.tokenizer import CodeTokenizer

TINY_TEXT = ["ab"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = CodeTokenizer.train(TINY_TEXT, 300)
    config = SIZES["test"].__class__(tokenizer.vocab_size, 32, 1, 4, 2, 64, 128)
    model = Transformer(config)
    model.initialise(torch.Generator().manual_seed(0))
    save_checkpoint(tmp_path / "model", model, tokenizer, "diffusion", {"note": 1})
    return tmp_path / "model"


def test_round_trip_keeps_the_weights_in_bfloat16(folder: Path) -> None:
    loaded = load_checkpoint(str(folder))
    model = Transformer(loaded.model.config)
    model.initialise(torch.Generator().manual_seed(0))
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight.bfloat16().float())
    assert loaded.training == {"note": 1}
    assert load_checkpoint(str(folder)).revision == loaded.revision
    assert not list(folder.glob("*.partial"))


def test_control_ids_are_stored_only_where_there_are_any(folder: Path, tmp_path: Path) -> None:
    plain = load_checkpoint(str(folder))
    assert plain.tokenizer.control_ids is None
    assert "control_ids" not in json.loads((folder / "config.json").read_text())
    tokenizer = plain.tokenizer.with_controls()
    save_checkpoint(tmp_path / "labels", plain.model, tokenizer, "diffusion", {})
    assert load_checkpoint(str(tmp_path / "labels")).tokenizer.control_ids == tokenizer.control_ids


def test_control_ids_are_bytes_that_no_text_has(folder: Path) -> None:
    tokenizer = load_checkpoint(str(folder)).tokenizer.with_controls()
    assert tokenizer.control_ids is not None
    assert tokenizer.decode([*tokenizer.control_ids]) == "\ufffd\ufffd"
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000, 97)]))
    assert not set(tokenizer.control_ids) & set(tokenizer.encode(text))
    words = CodeTokenizer(Tokenizer(models.WordLevel({"À": 0, "Á": 1, "a": 2})), (2, 2, 2))
    with pytest.raises(ValueError, match="this tokenizer has none; use edit_lengths='balanced'"):
        words.with_controls()


def test_revision_follows_the_content(folder: Path) -> None:
    before = load_checkpoint(str(folder)).revision
    config = json.loads((folder / "config.json").read_text())
    config["training"] = {"note": 2}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_checkpoint(str(folder)).revision != before


def test_missing_checkpoint_names_the_shipped_ones() -> None:
    with pytest.raises(CheckpointError, match="no checkpoint 'nowhere'; shipped: "):
        load_checkpoint("nowhere")


@pytest.mark.parametrize("part", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_and_truncated_parts_are_named(folder: Path, part: str) -> None:
    content = (folder / part).read_bytes()
    (folder / part).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"cannot be read|truncated"):
        load_checkpoint(str(folder))
    (folder / part).unlink()
    with pytest.raises(CheckpointError, match=f"lacks {part}"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_layers", 2, r"lacks \['blocks.1"),
        ("d_ff", 32, "config.json wants"),
        ("vocab_size", 100, "do not belong together"),
        ("colour", 1, "cannot be read"),
    ],
)
def test_config_of_another_model_is_refused(
    folder: Path, field: str, value: int, message: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model"][field] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(folder))


def test_special_token_spelling_in_a_prompt_stays_text() -> None:
    tokenizer = CodeTokenizer.train(TINY_TEXT, 300)
    ids = tokenizer.encode("x <|mask|> y")
    assert tokenizer.mask_id not in ids
    assert tokenizer.decode(ids) == "x <|mask|> y"
