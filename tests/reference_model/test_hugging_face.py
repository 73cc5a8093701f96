"""Other people's weights give other people's logits; what cannot be held is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import CheckpointError, load_checkpoint
from sdb_reference_model.hugging_face import LLADA_NAMES, LLAMA_NAMES, load_hugging_face
from sdb_reference_model.policies import commit_above
from sdb_reference_model.sampler import sample_blocks
from sdb_reference_model.tokenizer import CodeTokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
MODELS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama with tied head": lambda: LlamaForCausalLM(
        LlamaConfig(**SHAPE, tie_word_embeddings=True)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16)),
}


def make_model(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = MODELS[kind]().eval()
    for parameter in model.parameters():  # norms and biases too: a forgotten one must show
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    return model


def compute_ours(folder: Path, ids: torch.Tensor, *, is_causal: bool) -> torch.Tensor:
    loaded = load_hugging_face(folder).model
    hidden: torch.Tensor = loaded(ids, is_causal=is_causal)
    return hidden @ loaded.head_weight.T


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("max_shard_size", ["1GB", "20KB"])
def test_logits_are_those_of_the_original(kind: str, max_shard_size: str, tmp_path: Path) -> None:
    model = make_model(kind)
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (max_shard_size == "20KB")
    ids = torch.randint(0, 97, (2, 11))
    with torch.inference_mode():
        expected = model(ids).logits
        torch.testing.assert_close(
            compute_ours(tmp_path, ids, is_causal=True), expected, rtol=1e-4, atol=1e-4
        )


def write_as(family: str, model: PreTrainedModel, folder: Path) -> None:
    """Save a Llama- or Qwen-shaped model in the spelling of a diffusion family."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = family
    if family == "stable-diffcoder":
        config["model_type"] = "llama"
        config["auto_map"] = {"AutoModel": "modeling_stable_diffcoder.StableDiffcoderForCausalLM"}
    if family == "llada":
        renamed = {}
        theirs = {
            source: target
            for name, targets in LLADA_NAMES.items()
            for source, target in zip(LLAMA_NAMES[name], targets, strict=True)
        }
        for name, weight in load_file(folder / "model.safetensors").items():
            parts = name.split(".")
            layer = parts[2] if parts[1] == "layers" else ""
            pattern = ".".join([*parts[:2], "{}", *parts[3:]]) if layer else name
            renamed[theirs[pattern].replace("{}", layer)] = weight
        save_file(renamed, folder / "model.safetensors")
        config = {
            "model_type": "llada",
            "vocab_size": 90,
            "embedding_size": 97,
            "d_model": 32,
            "n_layers": 2,
            "n_heads": 4,
            "n_kv_heads": 2,
            "mlp_hidden_size": 48,
            "max_sequence_length": 64,
            "rope_theta": 10_000.0,
            "rms_norm_eps": 1e-6,
            "weight_tying": False,
            "mask_token_id": 96,
            "eos_token_id": 95,
        }
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("family", "kind", "attention", "is_shifted", "mask_id"),
    [
        ("llada", "llama", "full", False, 96),
        ("Dream", "qwen2", "full", True, 151_666),
        ("sdar", "qwen3", "block_causal_prompt", False, 151_669),
        ("stable-diffcoder", "llama", "block_causal_prompt", False, 5),
        ("a2d-qwen3", "qwen3", "block_causal_prompt", False, None),
    ],
)
def test_diffusion_families_are_their_ancestor_read_in_both_directions(
    family: str, kind: str, attention: str, is_shifted: bool, mask_id: int | None, tmp_path: Path
) -> None:
    model = make_model(kind)
    write_as(family, model, tmp_path)
    loaded = load_hugging_face(tmp_path)
    assert (loaded.attention, loaded.is_shifted, loaded.mask_id) == (attention, is_shifted, mask_id)
    assert loaded.block_size == (4 if family in ("sdar", "stable-diffcoder") else None)
    ids = torch.randint(0, 97, (2, 9))
    everywhere = torch.zeros(2, 1, 9, 9)
    with torch.inference_mode():
        expected = model(ids, attention_mask=everywhere).logits
        causal = model(ids).logits
        ours = compute_ours(tmp_path, ids, is_causal=False)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(ours, causal, atol=1e-2)


def test_weights_are_converted_to_the_dtype_asked_for(tmp_path: Path) -> None:
    make_model("llama").save_pretrained(tmp_path)
    model = load_hugging_face(tmp_path, torch.bfloat16).model
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.bfloat16}
    with pytest.raises(CheckpointError, match=r"dtype=torch\.int8"):
        load_hugging_face(tmp_path, torch.int8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama4"}, r"no name map.*nearest: llama\)"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "scales rotary positions"),
        (
            {"num_hidden_layers": 3},
            r"lacks \['model\.layers\.2\..*9 and 0 in all\); .* llama, qwen2,",
        ),
        ({"num_hidden_layers": 1}, r"surplus \['model\.layers\.1\.input"),
        ({"intermediate_size": 40}, r"gate_proj.weight \+ .*\(96, 32\).*wants \(80, 32\)"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    make_model("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_hugging_face(tmp_path)


def test_the_nearest_name_map_is_named(tmp_path: Path) -> None:
    write_as("llada", make_model("llama"), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(make_model("llama").config.to_dict()))
    with pytest.raises(CheckpointError, match=r"names are nearest to those of llada: check model_"):
        load_hugging_face(tmp_path)


def test_quantised_weights_are_refused_by_name(tmp_path: Path) -> None:
    make_model("llama").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] = weights["model.norm.weight"].to(torch.int8)
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is torch\.int8, a quantised"):
        load_hugging_face(tmp_path)


def test_damaged_folders_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_hugging_face(tmp_path)
    make_model("llama").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_hugging_face(tmp_path)
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="unpickled"):
        load_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="lacks 'vocab_size'"):
        load_hugging_face(tmp_path)


@pytest.mark.parametrize(
    ("family", "kind", "objective"),
    [("llama", "llama", "autoregressive"), ("llada", "llama", "diffusion")],
)
def test_checkpoint_samples_as_ours_do(
    family: str, kind: str, objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPE, "vocab_size", 300)
    write_as(family, make_model(kind), tmp_path)
    CodeTokenizer.train(["ab"], 300).save(tmp_path / "tokenizer.json")
    change = {"eos_token_id": 1}
    if family == "llada":
        change |= {"mask_token_id": 2, "embedding_size": 300}
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = load_checkpoint(f"hf:{tmp_path}")
    assert checkpoint.objective == objective
    prompt = checkpoint.tokenizer.encode("abba")
    if objective == "autoregressive":
        assert checkpoint.tokenizer.mask_id == -1
        (generation,) = sample_tokens(
            checkpoint.model, checkpoint.tokenizer, [prompt], max_new_tokens=8
        )
    else:
        (generation,) = sample_blocks(
            checkpoint.model,
            checkpoint.tokenizer,
            [prompt],
            block_size=4,
            policy=commit_above(0.5),
            max_new_tokens=8,
            past=checkpoint.choose_past(4),
        )
        assert generation.nfe_prefill == 0  # full attention: nothing is exact before its block
    assert generation.finish_reason == "stop" or len(generation.token_ids) == 8
    assert checkpoint.tokenizer.decode(generation.token_ids) is not None


def test_checkpoints_without_a_tokenizer_or_a_mask_are_refused(tmp_path: Path) -> None:
    write_as("a2d-qwen3", make_model("qwen3"), tmp_path)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        load_checkpoint(f"hf:{tmp_path}")
    CodeTokenizer.train(["ab"], 300).save(tmp_path / "tokenizer.json")
    with pytest.raises(CheckpointError, match="names no eos_token_id"):
        load_checkpoint(f"hf:{tmp_path}")
    config = json.loads((tmp_path / "config.json").read_text()) | {"eos_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_checkpoint(f"hf:{tmp_path}")


def test_a_name_that_is_neither_folder_nor_model_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="is no folder, and no model could be fetched"):
        load_checkpoint("hf:no/such model")
