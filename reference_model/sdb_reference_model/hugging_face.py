"""Everybody's checkpoints: Hugging Face folders read into our Transformer, by name.

Place in the flow: `checkpoint.load_checkpoint("hf:FOLDER_OR_ID")` comes here. A family is one
row of `FAMILIES`: how its `config.json` spells the shape, how its tensors are called, and how its
logits are meant to be used. No code of a checkpoint is ever executed and nothing is unpickled:
`config.json` and safetensors are all that is read.

Sources: Llama, Qwen2, Qwen3 (transformers); LLaDA (arXiv 2502.09992), Dream (2508.15487), SDAR
(2510.06303), Stable-DiffCoder (2601.15892), each by the names in its published weights.

What this does not do: mixtures of experts, sliding windows, scaled rotary positions, quantised
weights, biases outside the query, key and value projections. Each is refused by name.
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor

from sdb_reference_model.checkpoint import Checkpoint, CheckpointError
from sdb_reference_model.model import ModelConfig, Transformer
from sdb_reference_model.past import AttentionMode
from sdb_reference_model.tokenizer import CodeTokenizer

LLAMA_NAMES: Mapping[str, tuple[str, ...]] = {
    "embedding.weight": ("model.embed_tokens.weight",),
    "blocks.{}.attention_norm.weight": ("model.layers.{}.input_layernorm.weight",),
    "blocks.{}.attention.qkv.weight": (
        "model.layers.{}.self_attn.q_proj.weight",
        "model.layers.{}.self_attn.k_proj.weight",
        "model.layers.{}.self_attn.v_proj.weight",
    ),
    "blocks.{}.attention.qkv.bias": (
        "model.layers.{}.self_attn.q_proj.bias",
        "model.layers.{}.self_attn.k_proj.bias",
        "model.layers.{}.self_attn.v_proj.bias",
    ),
    "blocks.{}.attention.q_norm.weight": ("model.layers.{}.self_attn.q_norm.weight",),
    "blocks.{}.attention.k_norm.weight": ("model.layers.{}.self_attn.k_norm.weight",),
    "blocks.{}.attention.out.weight": ("model.layers.{}.self_attn.o_proj.weight",),
    "blocks.{}.feed_forward_norm.weight": ("model.layers.{}.post_attention_layernorm.weight",),
    "blocks.{}.feed_forward.gate_up.weight": (
        "model.layers.{}.mlp.gate_proj.weight",
        "model.layers.{}.mlp.up_proj.weight",
    ),
    "blocks.{}.feed_forward.down.weight": ("model.layers.{}.mlp.down_proj.weight",),
    "norm.weight": ("model.norm.weight",),
    "head.weight": ("lm_head.weight",),
}
"""Our name -> theirs, concatenated along the outputs; `{}` is the layer."""

LLADA_NAMES: Mapping[str, tuple[str, ...]] = {
    "embedding.weight": ("model.transformer.wte.weight",),
    "blocks.{}.attention_norm.weight": ("model.transformer.blocks.{}.attn_norm.weight",),
    "blocks.{}.attention.qkv.weight": (
        "model.transformer.blocks.{}.q_proj.weight",
        "model.transformer.blocks.{}.k_proj.weight",
        "model.transformer.blocks.{}.v_proj.weight",
    ),
    "blocks.{}.attention.out.weight": ("model.transformer.blocks.{}.attn_out.weight",),
    "blocks.{}.feed_forward_norm.weight": ("model.transformer.blocks.{}.ff_norm.weight",),
    "blocks.{}.feed_forward.gate_up.weight": (
        "model.transformer.blocks.{}.ff_proj.weight",
        "model.transformer.blocks.{}.up_proj.weight",
    ),
    "blocks.{}.feed_forward.down.weight": ("model.transformer.blocks.{}.ff_out.weight",),
    "norm.weight": ("model.transformer.ln_f.weight",),
    "head.weight": ("model.transformer.ff_out.weight",),
}


def read_llama_config(config: Mapping[str, Any]) -> ModelConfig:
    """Shape of a Llama-, Qwen2- or Qwen3-like `config.json`."""
    model_type = config.get("model_type", "")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return ModelConfig(
        vocab_size=config["vocab_size"],
        d_model=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        d_ff=config["intermediate_size"],
        max_seq_len=config["max_position_embeddings"],
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        norm_eps=config["rms_norm_eps"],
        tie_embeddings=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=model_type.lower() in ("qwen2", "dream"),
        qk_norm=model_type.lower() in ("qwen3", "sdar", "a2d-qwen3"),
        head_width=config.get("head_dim"),
    )


def read_llada_config(config: Mapping[str, Any]) -> ModelConfig:
    """Shape of LLaDA's own `config.json`."""
    return ModelConfig(
        vocab_size=config.get("embedding_size") or config["vocab_size"],
        d_model=config["d_model"],
        num_layers=config["n_layers"],
        num_heads=config["n_heads"],
        num_kv_heads=config.get("n_kv_heads") or config["n_heads"],
        d_ff=config["mlp_hidden_size"],
        max_seq_len=config["max_sequence_length"],
        rope_theta=float(config["rope_theta"]),
        norm_eps=config["rms_norm_eps"],
        tie_embeddings=bool(config["weight_tying"]),
        qkv_bias=bool(config.get("include_qkv_bias", False)),
    )


@dataclass(frozen=True, slots=True)
class Family:
    """One row of `FAMILIES`."""

    read_config: Callable[[Mapping[str, Any]], ModelConfig]
    names: Mapping[str, tuple[str, ...]]
    attention: AttentionMode
    is_shifted: bool
    """Logits at position i speak of token i + 1, as in the autoregressive ancestor."""
    mask_id: int | None = None
    """Where `config.json` does not name it; None for autoregressive models."""
    block_size: int | None = None
    """Of its training, where `config.json` does not name it; None if there is no one."""


FAMILIES: dict[str, Family] = {
    "llama": Family(read_llama_config, LLAMA_NAMES, "causal", True),
    "qwen2": Family(read_llama_config, LLAMA_NAMES, "causal", True),
    "qwen3": Family(read_llama_config, LLAMA_NAMES, "causal", True),
    "stable-diffcoder": Family(
        read_llama_config, LLAMA_NAMES, "block_causal_prompt", False, mask_id=5, block_size=4
    ),
    "llada": Family(read_llada_config, LLADA_NAMES, "full", False, mask_id=126_336),
    "Dream": Family(read_llama_config, LLAMA_NAMES, "full", True, mask_id=151_666),
    "sdar": Family(
        read_llama_config, LLAMA_NAMES, "block_causal_prompt", False, mask_id=151_669, block_size=4
    ),
    "a2d-qwen3": Family(read_llama_config, LLAMA_NAMES, "block_causal_prompt", False),
}
"""`model_type` of `config.json`, see `find_family`, -> family."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
"""What weights may be, in files and in memory."""

REFUSED: Mapping[str, tuple[Any, ...]] = {
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "include_bias": (None, False),
    "quantization_config": (None,),
    "use_sliding_window": (None, False),
    "hidden_act": (None, "silu"),
    "activation_type": (None, "silu"),
    "layer_norm_type": (None, "rms"),
    "num_experts": (None, 0),
    "alibi": (None, False),
}
"""Key of `config.json` -> the values that our Transformer can hold."""


@dataclass(frozen=True, slots=True)
class HuggingFaceModel:
    """A loaded model and how its logits are meant to be used."""

    model: Transformer
    model_type: str
    attention: AttentionMode
    is_shifted: bool
    mask_id: int | None
    end_id: int | None
    block_size: int | None


def load_hugging_face(folder: Path, dtype: torch.dtype = torch.float32) -> HuggingFaceModel:
    """Read a folder with `config.json` and one or more safetensors files.

    Args:
        folder: as `save_pretrained` or a download leaves it.
        dtype: dtype of the weights in memory; float32, bfloat16 or float16.

    Raises:
        CheckpointError: a file is missing or damaged, the family is unknown, or it needs something
            that our Transformer does not have; names what and lists the nearest.
    """
    if dtype not in FLOATS:
        raise CheckpointError(f"dtype={dtype}; use torch.float32, torch.bfloat16 or torch.float16")
    config = read_config(folder)
    model_type = find_family(config)
    if model_type not in FAMILIES:
        near = difflib.get_close_matches(model_type, FAMILIES, 1, 0.0)
        raise CheckpointError(
            f"{folder} is of model_type {model_type!r}, which has no name map; known: "
            f"{', '.join(FAMILIES)} (nearest: {near[0]})"
        )
    family = FAMILIES[model_type]
    for key, allowed in REFUSED.items():
        if config.get(key) not in allowed:
            raise CheckpointError(f"{folder} has {key}={config[key]!r}; our Transformer has none")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise CheckpointError(
            f"{folder} scales rotary positions ({rope}); our Transformer does not"
        )
    try:
        model_config = family.read_config(config)
    except KeyError as error:
        raise CheckpointError(f"{folder}/config.json lacks {error}; it is incomplete") from None
    with torch.device("meta"):
        model = Transformer(model_config)
    model.load_state_dict(read_weights(folder, model, family.names, dtype), assign=True)
    return HuggingFaceModel(
        model=model.eval().requires_grad_(False),
        model_type=model_type,
        attention=family.attention,
        is_shifted=family.is_shifted,
        mask_id=config.get("mask_token_id", family.mask_id),
        end_id=first_id(config.get("eos_token_id")),
        block_size=config.get("block_size", family.block_size),
    )


def find_family(config: Mapping[str, Any]) -> str:
    """The key of `FAMILIES`: `model_type`, but for Stable-DiffCoder, which calls itself llama."""
    classes = [*(config.get("architectures") or ()), *(config.get("auto_map") or {}).values()]
    if any("diffcoder" in str(name).lower() for name in classes):
        return "stable-diffcoder"
    return str(config.get("model_type", ""))


def load_hugging_face_checkpoint(name: str, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Load weights and tokenizer of a folder, or of an id, which is downloaded if it is not cached.

    Choice: blocks are counted from the end of the prompt, as for our own models; SDAR counts them
    from the start of the text, which is the same where a block divides the prompt.

    Raises:
        CheckpointError: as `load_hugging_face`; or no such model, no `tokenizer.json`, no mask id.
    """
    folder = find_folder(name)
    loaded = load_hugging_face(folder, dtype)
    path = folder / "tokenizer.json"
    try:
        inner = Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises bare Exception
        raise CheckpointError(
            f"{path} cannot be read ({error}); where a model has none, transformers' "
            "save_pretrained writes one"
        ) from None
    is_causal = loaded.attention == "causal"
    mask_id = loaded.mask_id
    if mask_id is None and not is_causal:
        mask_id = inner.token_to_id("<|mask|>")
    end_id, limit = loaded.end_id, loaded.model.config.vocab_size
    if end_id is None or (mask_id is None and not is_causal):
        raise CheckpointError(f"{folder}/config.json names no eos_token_id or mask_token_id")
    special = (end_id, end_id, -1 if mask_id is None else mask_id)
    if max(*special, inner.get_vocab_size() - 1) >= limit:
        raise CheckpointError(
            f"{folder}: tokenizer or special ids {special} reach past the model's {limit} ids; "
            "these files do not belong together"
        )
    digest = hashlib.sha256()
    for part in (folder / "config.json", path, *sorted(folder.glob("*.safetensors"))):
        with part.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Checkpoint(
        loaded.model,
        CodeTokenizer(inner, special),
        "autoregressive" if is_causal else "diffusion",
        digest.hexdigest()[:16],
        {},
        loaded.attention,
        loaded.is_shifted,
    )


def find_folder(name: str) -> Path:
    """The folder `name`, or the snapshot of the model with that id on the Hugging Face Hub.

    Raises:
        CheckpointError: neither.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download  # only where an id is given

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # network, access, spelling: a dozen types
        raise CheckpointError(
            f"{name!r} is no folder, and no model could be fetched under this id "
            f"({type(error).__name__}); download it and give the folder"
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json`. Raises CheckpointError if it is missing or no JSON object."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}/config.json cannot be read ({error}); give a folder that holds it beside "
            "*.safetensors"
        ) from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder}/config.json is no object; download it again")
    return config


def first_id(value: int | list[int] | None) -> int | None:
    """Some families list several end tokens; the first is the end of text."""
    return value[0] if isinstance(value, list) else value


def read_weights(
    folder: Path, model: Transformer, names: Mapping[str, tuple[str, ...]], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Read every tensor of `model` from the folder's files, fused where ours are.

    Raises:
        CheckpointError: missing or surplus tensors, or a wrong shape or dtype.
    """
    wanted = {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()}
    sources = {name: tuple(list_sources(name, names)) for name in wanted}
    weights: dict[str, Tensor] = {}
    with ExitStack() as stack:
        files = open_files(folder, stack)
        used = {source for group in sources.values() for source in group}
        missing = sorted(used - files.keys())
        # A tied head may be stored once more, and rotary tables are computed here.
        tied = names["head.weight"] if model.config.tie_embeddings else ()
        surplus = sorted(
            name
            for name in files.keys() - used - set(tied)
            if not name.endswith("rotary_emb.inv_freq")
        )
        if missing or surplus:
            raise CheckpointError(
                f"{folder} lacks {missing[:3]} and has surplus {surplus[:3]} "
                f"({len(missing)} and {len(surplus)} in all); its names are nearest to those of "
                f"{find_nearest(files)}: check model_type and num_layers in config.json"
            )
        for name, shape in wanted.items():
            weight = torch.cat([files[source].get_tensor(source) for source in sources[name]])
            if weight.dtype not in FLOATS:
                raise CheckpointError(
                    f"{folder}: {sources[name][0]} is {weight.dtype}, a quantised weight; give the "
                    "model in float32, bfloat16 or float16"
                )
            if tuple(weight.shape) != shape:
                raise CheckpointError(
                    f"{folder}: {' + '.join(sources[name])} is {tuple(weight.shape)}, "
                    f"config.json wants {shape}"
                )
            weights[name] = weight.to(dtype)
    return weights


def find_nearest(found: Collection[str]) -> str:
    """The families whose name map has most of the `found` names of tensors."""

    def count(names: Mapping[str, tuple[str, ...]]) -> int:
        # The first layer stands for all.
        return sum(
            source.replace("{}", "0") in found for group in names.values() for source in group
        )

    nearest = max((family.names for family in FAMILIES.values()), key=count)
    return ", ".join(name for name, family in FAMILIES.items() if family.names is nearest)


def list_sources(name: str, names: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Names of the tensors that make up our tensor `name`."""
    parts = name.split(".")
    layer = parts[1] if parts[0] == "blocks" else ""
    pattern = ".".join(["blocks", "{}", *parts[2:]]) if layer else name
    for source in names.get(pattern, ()):
        yield source.replace("{}", layer)


def open_files(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Tensor name -> open safetensors file, over one file or many shards."""
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise CheckpointError(
            f"{folder} holds no *.safetensors; other formats (*.bin) would have to be unpickled: "
            "convert them first"
        )
    files: dict[str, Any] = {}
    for path in paths:
        try:
            file = stack.enter_context(safe_open(path, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is truncated or damaged ({error}); copy it again"
            ) from None
        files |= dict.fromkeys(file.keys(), file)
    return files
