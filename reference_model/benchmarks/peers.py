"""Our engine beside the published block samplers: same weights, same tokens, one interleaved run.

    python reference_model/benchmarks/peers.py --peers DIR     (`make bench-sampler PEERS=DIR`)
    python reference_model/benchmarks/peers.py                 shows the committed results
    --quick                                                    block-wise caches alone, in minutes
    --vocab-size 4096 --threads 1                              a part; others' results stay

DIR holds plain checkouts, under these names, of
`NVlabs/Fast-dLLM` `ML-GSAI/LLaDA` `inclusionAI/dInfer` `JetAstra/SDAR` `ZHZisZZ/dllm`;
what is absent is left out. Their code needs an older transformers than ours: put it in front with
`pip install --no-deps --target DIR/site transformers==4.57.1 tokenizers==0.22.1
huggingface-hub==0.36.0 einops` and `PYTHONPATH=DIR/site`.

A small random model of each peer's own class is drawn, written as a checkpoint, and read by our
loader. Each round runs every contestant once, in turn, batch 1, float32, greedy. A contestant whose
tokens differ from its peer's in any place gets no ratio. Writes `results/peers.json` after each
setting; a vocabulary and number of threads that is measured again replaces what was there.

What it does not do: quality (weights are random), or GPUs. The glue gives GPU-only imports of a
peer a plain body; none of its sampling code is changed, but for SDAR's selector at temperature 0,
whose top-k of one reports confidence 1 for every token.
"""

import argparse
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn

from sdb_harness.hardware import describe_hardware
from sdb_kernels.benchmarking import describe_run
from sdb_reference_model.hugging_face import load_hugging_face
from sdb_reference_model.model import Transformer
from sdb_reference_model.past import Cached, DualCached, Past, PrefixCached
from sdb_reference_model.policies import commit_above, commit_evenly
from sdb_reference_model.sampler import sample_blocks
from sdb_reference_model.tokenizer import ControlIds

NUM_LAYERS, WIDTH, NUM_HEADS, FEED_FORWARD = 4, 256, 4, 1024
PROMPT_TOKENS, NEW_TOKENS, BLOCK_SIZE = 64, 256, 32
THRESHOLD, STEPS_PER_BLOCK = 0.9, 8
OUT = Path(__file__).parent / "results" / "peers.json"

Contestant = Callable[[], Tensor]
"""Runs once; returns the text int64 [prompt + answer]."""


@dataclass(slots=True)
class Special:
    """Ids of the toy vocabulary; its last two."""

    mask_id: int
    end_id: int
    pad_id: int = 0
    control_ids: ControlIds | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant in one setting; medians over rounds of one run."""

    setting: str
    name: str
    tokens_per_s: float
    tokens_per_s_range: tuple[float, float]
    tokens_per_cpu_s: float
    peer: str | None
    """Whose tokens must come out, for our contestants."""
    equal_tokens: float | None
    """Share of positions where they do."""
    speed_over_peer: float | None
    """Median over rounds of the ratio in wall time; None unless all tokens are equal."""
    cpu_speed_over_peer: float | None


def draw_weights(model: nn.Module, special: Special, vocab_size: int) -> None:
    """Random weights, wide enough that about 3.5 tokens pass the threshold in a forward.

    The head rows of mask and end token are zero: nobody ever proposes them, and rules about them,
    which differ between the contestants, never apply.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            is_embedding = "wte" in name or "embed_tokens" in name
            is_head = weight.shape[0] == vocab_size and not is_embedding
            std = 1.0 if is_embedding or is_head else 0.12
            drawn = torch.randn(weight.shape, generator=generator) * std
            weight.copy_(drawn if weight.dim() > 1 else torch.ones_like(weight))
            if is_head:
                weight[[special.mask_id, special.end_id]] = 0.0


def read_as_ours(model: nn.Module, config: dict[str, Any]) -> Transformer:
    """Write a peer's weights as a checkpoint, and read it with our loader."""
    with tempfile.TemporaryDirectory() as folder:
        weights = {name: w.detach().clone() for name, w in model.state_dict().items()}
        save_file(weights, Path(folder) / "model.safetensors")
        (Path(folder) / "config.json").write_text(json.dumps(config))
        ours = load_hugging_face(Path(folder)).model
    ours.pack()
    return ours


def load_file(name: str, path: Path) -> Any:
    """Import one file of a peer under a private name."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def enter_package(name: str, path: Path | None = None, **attributes: Any) -> None:
    """Make a package importable without running its `__init__`, or a stand-in for a missing one."""
    module = types.ModuleType(name)
    module.__path__ = [] if path is None else [str(path)]
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__dict__.update(attributes)
    sys.modules[name] = module


def make_ours(
    model: Transformer, special: Special, prompt: Tensor, past: Past, threshold: float | None
) -> Contestant:
    """Our sampler on a peer's weights and schedule."""
    policy = commit_evenly(STEPS_PER_BLOCK) if threshold is None else commit_above(threshold)

    def run() -> Tensor:
        (generation,) = sample_blocks(
            model,
            special,
            [prompt.tolist()],
            block_size=BLOCK_SIZE,
            policy=policy,
            max_new_tokens=NEW_TOKENS,
            past=past,
        )
        return torch.cat((prompt, torch.tensor(generation.token_ids)))

    return run


Field = dict[str, tuple[Contestant, str | None]]
"""Name -> contestant, and for ours the peer that it is held against."""


def enter_full(peers: Path, special: Special, vocab_size: int) -> dict[str, Field]:
    """LLaDA, Fast-dLLM and dInfer on one LLaDA model; ours with the same caches."""
    sys.path.insert(0, str(peers / "Fast-dLLM" / "llada"))
    configuration = importlib.import_module("model.configuration_llada")
    modeling = importlib.import_module("model.modeling_llada")
    fast = load_file("fast_dllm_generate", peers / "Fast-dLLM" / "llada" / "generate.py")
    shape: dict[str, Any] = {
        "d_model": WIDTH,
        "n_heads": NUM_HEADS,
        "n_kv_heads": NUM_HEADS,
        "n_layers": NUM_LAYERS,
        "mlp_hidden_size": FEED_FORWARD,
        "max_sequence_length": 2048,
        "rope_theta": 500_000.0,
        "rms_norm_eps": 1e-5,
        "vocab_size": vocab_size,
        "embedding_size": vocab_size,
        "weight_tying": False,
        "mask_token_id": special.mask_id,
        "eos_token_id": special.end_id,
        "activation_type": "silu",
        "layer_norm_type": "rms",
        "include_bias": False,
        "include_qkv_bias": False,
    }
    theirs: dict[str, Any] = {
        **shape,
        "mlp_ratio": 4,
        "block_type": "llama",
        "rope": True,
        "rope_full_precision": True,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
        "layer_norm_with_affine": True,
        "attention_layer_norm": False,
        "pad_token_id": special.pad_id,
        "init_device": "cpu",
        "flash_attention": False,
        "input_emb_norm": False,
        "scale_logits": False,
        "alibi": False,
        "multi_query_attention": None,
        "init_fn": "normal",
        "init_std": 0.02,
        "use_cache": False,
    }
    model = modeling.LLaDAModelLM(configuration.LLaDAConfig(**theirs), init_params=True).eval()
    draw_weights(model, special, vocab_size)
    ours = read_as_ours(model, {**shape, "model_type": "llada"})
    prompt = draw_prompt(vocab_size)
    fields: dict[str, Field] = {}
    for threshold in (None, THRESHOLD):
        steps = NEW_TOKENS // BLOCK_SIZE * STEPS_PER_BLOCK if threshold is None else NEW_TOKENS
        arguments: dict[str, Any] = {
            "steps": steps,
            "gen_length": NEW_TOKENS,
            "block_length": BLOCK_SIZE,
            "mask_id": special.mask_id,
        }
        field: Field = {}
        if threshold is None and (peers / "LLaDA").exists():
            plain = load_file("llada_generate", peers / "LLaDA" / "generate.py").generate
            field["LLaDA generate.py"] = partial(call, plain, model, prompt, arguments), None
        arguments = {**arguments, "threshold": threshold}
        for kind in ("prefix", "dual"):
            function = getattr(fast, f"generate_with_{kind}_cache")
            theirs_now = partial(call, function, model, prompt, arguments)
            field[f"Fast-dLLM {kind} cache"] = theirs_now, None
        if threshold is not None and (peers / "dInfer").exists():
            field["dInfer dual cache"] = enter_dinfer(peers, model, theirs, special, prompt), None
        for kind, past in (("prefix", PrefixCached), ("dual", DualCached)):
            contestant = make_ours(ours, special, prompt, past, threshold)
            field[f"ours, {kind} cache"] = contestant, f"Fast-dLLM {kind} cache"
        if "dInfer dual cache" in field:
            contestant = make_ours(ours, special, prompt, DualCached, threshold)
            field["ours, dual cache, again"] = contestant, "dInfer dual cache"
        fields[f"full attention, {name_schedule(threshold)}"] = field
    return fields


def call(
    function: Callable[..., Any], model: nn.Module, prompt: Tensor, arguments: dict[str, Any]
) -> Tensor:
    """One generation of LLaDA's or Fast-dLLM's functions."""
    out = function(model, prompt[None], **arguments)
    text: Tensor = (out[0] if isinstance(out, tuple) else out)[0]
    return text


def enter_dinfer(
    peers: Path, model: nn.Module, config: dict[str, Any], special: Special, prompt: Tensor
) -> Contestant:
    """DInfer's block-wise sampler with dual cache, on its own class with the same weights."""
    base = peers / "dInfer" / "python" / "dinfer"
    enter_package("dinfer", base)
    enter_package("dinfer.decoding", base / "decoding")
    enter_package("dinfer.model", base / "model")
    distributed = types.ModuleType("vllm.distributed")
    distributed.__dict__["get_tensor_model_parallel_rank"] = lambda: 0
    distributed.__dict__["get_tensor_model_parallel_world_size"] = lambda: 1
    enter_package("vllm", distributed=distributed)
    sys.modules["vllm.distributed"] = distributed
    stray = "transformers.models.layoutlmv2.modeling_layoutlmv2"  # imported there, never used
    enter_package(stray, relative_position_bucket=None)
    configuration = importlib.import_module("dinfer.model.configuration_llada")
    modeling = importlib.import_module("dinfer.model.modeling_llada")
    their_config = configuration.LLaDAConfig(**config)
    # The wrapper would put the inner model on a GPU; it is made first and handed over.
    inner = modeling.LLaDAModel(
        modeling.create_model_config_from_pretrained_config(their_config), init_params=True
    )
    theirs = modeling.LLaDAModelLM(their_config, model=inner).eval()
    theirs.load_state_dict(model.state_dict(), strict=True)
    generate = importlib.import_module("dinfer.decoding.generate_uniform")
    strategy = importlib.import_module("dinfer.decoding.parallel_strategy")
    utils = importlib.import_module("dinfer.decoding.utils")

    def run() -> Tensor:
        decoder = strategy.ThresholdParallelDecoder(
            temperature=0, threshold=THRESHOLD, mask_id=special.mask_id, eos_id=special.end_id
        )
        sampler = generate.BlockWiseDiffusionLLM(
            theirs,
            decoder,
            utils.BlockIteratorFactory(),
            early_stop=False,
            cache_factory=utils.KVCacheFactory("dual"),
        )
        text: Tensor = sampler.generate(
            prompt[None].clone(), gen_length=NEW_TOKENS, block_length=BLOCK_SIZE
        )[0]
        return text

    return run


def make_qwen_config(vocab_size: int, special: Special) -> dict[str, Any]:
    """Shape of the Qwen3-like models of SDAR and dLLM."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": WIDTH,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": NUM_HEADS,
        "head_dim": WIDTH // NUM_HEADS,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "use_sliding_window": False,
        "pad_token_id": special.pad_id,
        "eos_token_id": special.end_id,
        "bos_token_id": special.end_id,
    }


def enter_sdar(peers: Path, special: Special, vocab_size: int) -> dict[str, Field]:
    """SDAR's `generate.py` on its own class."""

    def rms_norm(x: Tensor, weight: Tensor, bias: None = None, eps: float = 1e-6, **_: Any) -> Any:
        return F.rms_norm(x, (x.shape[-1],), weight, eps)

    def attend(
        q: Tensor, k: Tensor, v: Tensor, causal: bool, softmax_scale: float | None, **_: Any
    ) -> Tensor:
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        attended = F.scaled_dot_product_attention(
            q, k, v, is_causal=causal, scale=softmax_scale, enable_gqa=True
        )
        return attended.transpose(1, 2)

    enter_package("flash_attn", flash_attn_func=attend, flash_attn_varlen_func=None)
    enter_package("flash_attn.ops")
    enter_package("flash_attn.ops.triton")
    enter_package("flash_attn.ops.triton.layer_norm", rms_norm_fn=rms_norm)
    padding = dict.fromkeys(("index_first_axis", "pad_input", "unpad_input"))
    enter_package("flash_attn.bert_padding", **padding)
    enter_package("sdar", peers / "SDAR" / "training" / "model" / "SDAR-4B-Chat")
    utils = importlib.import_module("transformers.utils")  # LossKwargs is a type, since renamed
    utils.LossKwargs = getattr(utils, "TransformersKwargs", dict)  # type: ignore[attr-defined]
    loss = "sdar.fused_linear_diffusion_cross_entropy"  # training only
    enter_package(loss, FusedLinearDiffusionCrossEntropyLoss=nn.Module)
    shape = make_qwen_config(vocab_size, special)
    config = importlib.import_module("sdar.configuration_sdar").SDARConfig(**shape)
    config.mask_token_id, config.block_size = special.mask_id, BLOCK_SIZE
    config.fuse_cross_entropy, config._attn_implementation = False, "sdpa"
    model = importlib.import_module("sdar.modeling_sdar").SDARForCausalLM(config).eval()
    draw_weights(model, special, vocab_size)
    ours = read_as_ours(model, {**shape, "model_type": "sdar"})
    generate = load_file("sdar_generate", peers / "SDAR" / "generate.py")

    def select_greedily(logits: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        confidence, token_ids = F.softmax(logits, dim=-1).max(dim=-1)
        return token_ids, confidence

    generate.sample_with_temperature_topk_topp = select_greedily
    prompt = draw_prompt(vocab_size)
    past = partial(Cached, prompt_block_size=BLOCK_SIZE)
    fields: dict[str, Field] = {}
    for threshold in (None, THRESHOLD):
        strategy = "low_confidence_static" if threshold is None else "low_confidence_dynamic"

        def run(strategy: str = strategy, threshold: float | None = threshold) -> Tensor:
            text: Tensor = generate.block_diffusion_generate(
                model,
                {"input_ids": prompt[None]},
                special.mask_id,
                gen_length=NEW_TOKENS,
                block_length=BLOCK_SIZE,
                denoising_steps=STEPS_PER_BLOCK if threshold is None else BLOCK_SIZE,
                remasking_strategy=strategy,
                confidence_threshold=THRESHOLD,
            )[0]
            return text

        fields[f"SDAR, {name_schedule(threshold)}"] = {
            "SDAR generate.py": (run, None),
            "ours": (make_ours(ours, special, prompt, past, threshold), "SDAR generate.py"),
        }
    return fields


def enter_dllm(peers: Path, special: Special, vocab_size: int) -> dict[str, Field]:
    """DLLM's BD3LM sampler on its own class; it has no threshold."""
    base = peers / "dllm" / "dllm"
    parts = ("", ".core", ".core.samplers", ".utils", ".pipelines", ".pipelines.a2d")
    for name in (*parts, ".pipelines.a2d.models"):
        enter_package(f"dllm{name}", base / name.replace(".", "/").lstrip("/"))
    shape = make_qwen_config(vocab_size, special)
    modeling = importlib.import_module("dllm.pipelines.a2d.models.qwen3.modeling_qwen3")
    config = modeling.A2DQwen3Config(**shape)
    config._attn_implementation = "sdpa"
    model = modeling.A2DQwen3LMHeadModel(config).eval()
    draw_weights(model, special, vocab_size)
    ours = read_as_ours(model, {**shape, "model_type": "a2d-qwen3"})
    tokenizer = types.SimpleNamespace(
        mask_token_id=special.mask_id,
        eos_token_id=None,
        bos_token_id=special.end_id,
        pad_token_id=special.pad_id,
    )
    bd3lm = importlib.import_module("dllm.core.samplers.bd3lm")
    sampler = bd3lm.BD3LMSampler(model=model, tokenizer=tokenizer)
    prompt = draw_prompt(vocab_size)

    def run() -> Tensor:
        text: Tensor = sampler.sample(
            [prompt],
            max_new_tokens=NEW_TOKENS,
            block_size=BLOCK_SIZE,
            steps=NEW_TOKENS // BLOCK_SIZE * STEPS_PER_BLOCK,
            temperature=0.0,
            return_dict=False,
        )[0]
        return text

    past = partial(Cached, prompt_block_size=BLOCK_SIZE)
    return {
        f"dLLM, {name_schedule(None)}": {
            "dLLM BD3LMSampler": (run, None),
            "ours": (make_ours(ours, special, prompt, past, None), "dLLM BD3LMSampler"),
        }
    }


ENTRIES = {"Fast-dLLM": enter_full, "SDAR": enter_sdar, "dllm": enter_dllm}
"""Folder that must exist -> what makes its fields."""


def draw_prompt(vocab_size: int) -> Tensor:
    """Random ids int64 [P], none of them special."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, vocab_size - 16, (PROMPT_TOKENS,), generator=generator)


def name_schedule(threshold: float | None) -> str:
    return f"{STEPS_PER_BLOCK} steps a block" if threshold is None else f"threshold {threshold}"


def leave_slow_ones_out(field: Field) -> Field:
    """Without LLaDA's plain loop and the prefix cache, which compute the most."""
    slow = ("LLaDA", "prefix")
    return {name: run for name, run in field.items() if not any(word in name for word in slow)}


def race(setting: str, field: Field, num_rounds: int) -> list[Row]:
    """Run all contestants in turn, once for the tokens and `num_rounds` times for the clock."""
    answers = {name: run()[PROMPT_TOKENS:] for name, (run, _) in field.items()}
    wall_s: dict[str, list[float]] = {name: [] for name in field}
    cpu_s: dict[str, list[float]] = {name: [] for name in field}
    for _ in range(num_rounds):
        for name, (run, _) in field.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            wall_s[name].append(time.perf_counter() - wall)
            cpu_s[name].append(time.process_time() - cpu)
    rows = []
    for name, (_, peer) in field.items():
        equal = ratio = cpu_ratio = None
        if peer is not None:
            same = answers[name] == answers[peer][: len(answers[name])]
            equal = float(same.float().mean())
            if equal == 1.0:
                ratio = median_ratio(wall_s[peer], wall_s[name])
                cpu_ratio = median_ratio(cpu_s[peer], cpu_s[name])
        speeds = [NEW_TOKENS / seconds for seconds in wall_s[name]]
        cpu_speed = NEW_TOKENS / statistics.median(cpu_s[name])
        spread = (min(speeds), max(speeds))
        median = statistics.median(speeds)
        rows.append(Row(setting, name, median, spread, cpu_speed, peer, equal, ratio, cpu_ratio))
    return rows


def median_ratio(slow: list[float], fast: list[float]) -> float:
    """Median over rounds of slow / fast."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def put(record: dict[str, Any], records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with this one in place of that of the same vocabulary and threads, in order."""

    def key(record: dict[str, Any]) -> tuple[int, int]:
        return record["vocab_size"], record["threads"]

    others = [other for other in records if key(other) != key(record)]
    return sorted([*others, record], key=key)


def show(record: dict[str, Any]) -> None:
    """Print one run."""
    title = f"vocabulary {record['vocab_size']:,}, {record['threads']} thread(s), {record['cpu']}"
    columns = ("setting", "sampler", "tokens/s", "range", "equal tokens", "x peer", "in CPU time")
    table = Table(*columns, title=title)
    for row in record["rows"]:
        low, high = row["tokens_per_s_range"]
        equal, ratio = row["equal_tokens"], row["speed_over_peer"]
        table.add_row(
            row["setting"],
            row["name"],
            f"{row['tokens_per_s']:.0f}",
            f"{low:.0f}-{high:.0f}",
            "" if equal is None else f"{100 * equal:.1f} %",
            "" if ratio is None else f"{ratio:.2f} of {row['peer']}",
            "" if ratio is None else f"{row['cpu_speed_over_peer']:.2f}",
        )
    Console().print(table)


def main() -> None:
    """Race, print, write; or show what was written."""
    parser = argparse.ArgumentParser(description="our block sampler beside the published ones")
    parser.add_argument("--peers", type=Path, help="folder of the peers' checkouts")
    parser.add_argument("--vocab-size", type=int, nargs="+", default=[4096, 32_768])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="one thread, three rounds, block-wise caches alone"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.quick:
        options.threads, options.rounds = [1], 3
    if options.peers is None:
        if not OUT.exists():
            print("no committed results yet; give --peers DIR (make bench-sampler PEERS=DIR)")
            return
        print("committed results; give --peers DIR (make bench-sampler PEERS=DIR) to measure")
        for measured in json.loads(OUT.read_text()):
            show(measured)
        return
    entries = {name: entry for name, entry in ENTRIES.items() if (options.peers / name).exists()}
    if not entries:
        raise SystemExit(f"{options.peers} holds none of {', '.join(ENTRIES)}; clone them there")
    records: list[dict[str, Any]] = []
    if options.out.exists():
        records = json.loads(options.out.read_text())
    for vocab_size in options.vocab_size:
        special = Special(mask_id=vocab_size - 1, end_id=vocab_size - 2)
        fields: dict[str, Field] = {}
        for entry in entries.values():
            fields |= entry(options.peers, special, vocab_size)
        if options.quick:
            fields = {setting: leave_slow_ones_out(field) for setting, field in fields.items()}
        for threads in options.threads:
            torch.set_num_threads(threads)
            record: dict[str, Any] = {
                "cpu": platform.processor() or platform.machine(),
                "hardware": describe_hardware().describe(),
                "load_average": os.getloadavg(),
                "commit": describe_run(Path(__file__).parent)["commit"],
                "versions": {
                    name: importlib.metadata.version(name) for name in ("torch", "transformers")
                },
                "vocab_size": vocab_size,
                "threads": threads,
                "rounds": options.rounds,
                "rows": [],
            }
            for setting, field in fields.items():
                rows = race(setting, field, options.rounds)
                record["rows"] += [asdict(row) for row in rows]
                records = put(record, records)
                options.out.write_text(json.dumps(records, indent=2) + "\n")
            show(record)


if __name__ == "__main__":
    main()
