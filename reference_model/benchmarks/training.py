"""Training speed of the autoregressive twin, against transformers' Trainer on the same shape.

    python reference_model/benchmarks/training.py [--steps N] [--rounds N]   (`make bench-training`)

Same data, batch, optimizer (AdamW), precision (float32), threads; a Llama of `transformers` has the
shape of size `demo`. Contestants take turns, a fresh model each time; a figure is real tokens
(prompt and answer, no padding) over the seconds of all steps but the first two. The Trainer runs
twice: as it comes, and with its own grouping by length, which is what we do too. Correctness first:
both models must give the same loss on the same batch and weights, or no time is shown. Writes
`results/training.json` with hardware and versions.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import torch
import transformers
from datasets import Dataset, disable_progress_bars
from rich.console import Console
from rich.table import Table

from sdb_harness.hardware import describe_hardware
from sdb_harness.training_data import make_training_data
from sdb_reference_model.checkpoint import load_checkpoint
from sdb_reference_model.data import collate, tokenize
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.objective import compute_autoregressive_loss
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.train import StepReport, TrainConfig, train

OUT = Path(__file__).parent / "results" / "training.json"
NUM_WARMUP_STEPS = 2
BATCH_SIZE = 64


def build_llama() -> transformers.LlamaForCausalLM:
    """A Llama of size `demo`; its rotary base and attention (SDPA) are the defaults."""
    c = SIZES["demo"]
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.d_model,
            num_hidden_layers=c.num_layers,
            num_attention_heads=c.num_heads,
            num_key_value_heads=c.num_kv_heads,
            intermediate_size=c.d_ff,
            max_position_embeddings=c.max_seq_len,
            rms_norm_eps=c.norm_eps,
            tie_word_embeddings=c.tie_embeddings,
            use_cache=False,
        )
    )


def collate_for_trainer(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right to the longest; labels on answers only."""
    width = max(len(row["input_ids"]) for row in rows)
    ids, labels, seen = [], [], []
    for row in rows:
        length, answer = len(row["input_ids"]), len(row["answer_ids"])
        padding = width - length
        ids.append(row["input_ids"] + [0] * padding)
        labels.append([-100] * (length - answer) + row["answer_ids"] + [-100] * padding)
        seen.append([1] * length + [0] * padding)
    return {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor(labels),
        "attention_mask": torch.tensor(seen),
    }


def copy_weights(llama: transformers.LlamaForCausalLM) -> Transformer:
    """Our Transformer with the Llama's weights."""
    model = Transformer(SIZES["demo"])
    theirs = llama.state_dict()
    ours: dict[str, torch.Tensor] = {
        "embedding.weight": theirs["model.embed_tokens.weight"],
        "norm.weight": theirs["model.norm.weight"],
    }
    for i in range(SIZES["demo"].num_layers):
        layer = f"model.layers.{i}"
        own = f"blocks.{i}"
        ours |= {
            f"{own}.attention_norm.weight": theirs[f"{layer}.input_layernorm.weight"],
            f"{own}.attention.qkv.weight": torch.cat(
                [theirs[f"{layer}.self_attn.{name}_proj.weight"] for name in "qkv"]
            ),
            f"{own}.attention.out.weight": theirs[f"{layer}.self_attn.o_proj.weight"],
            f"{own}.feed_forward_norm.weight": theirs[f"{layer}.post_attention_layernorm.weight"],
            f"{own}.feed_forward.gate_up.weight": torch.cat(
                [theirs[f"{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up")]
            ),
            f"{own}.feed_forward.down.weight": theirs[f"{layer}.mlp.down_proj.weight"],
        }
    model.load_state_dict(ours)
    return model


def check_equal(rows: Dataset, tokenizer: CodeTokenizer) -> float:
    """Largest difference of the two losses per token on one batch and one set of weights."""
    torch.manual_seed(0)
    llama = build_llama()
    sample = rows.select(range(BATCH_SIZE)).to_list()
    batch = collate(
        [row["prompt_ids"] for row in sample],
        [row["answer_ids"] for row in sample],
        tokenizer.pad_id,
        tokenizer.end_id,
        1,
    )
    with torch.no_grad():
        terms = compute_autoregressive_loss(copy_weights(llama), batch, tokenizer.mask_id)
        theirs = llama(**collate_for_trainer(sample)).loss
    # Ours forbids one id, the mask token; at random weights that is 1 / V of the mass.
    return abs(float(terms.mask) / terms.num_tokens - float(theirs))


def run_ours(dataset: Dataset, tokenizer: CodeTokenizer, num_steps: int) -> float:
    """Tokens per second of our loop."""
    config = TrainConfig(
        size="demo",
        objective="autoregressive",
        batch_size=BATCH_SIZE,
        num_train_steps=num_steps,
        warmup_steps=1,
        adam_lr=1e-3,
        precision="float32",
        seed=0,
        data={},
    )
    reports: list[StepReport] = []
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder) / "tokenizer.json")
        train(
            config,
            dataset,
            Path(folder),
            provenance={},
            on_report=reports.append,
            report_every=1,
            save_every=num_steps,
        )
    ends = [0.0, *(report.elapsed_s for report in reports)]
    seconds = [after - before for before, after in pairwise(ends)]
    tokens = [s * report.tokens_per_s for s, report in zip(seconds, reports, strict=True)]
    return sum(tokens[NUM_WARMUP_STEPS:]) / sum(seconds[NUM_WARMUP_STEPS:])


class StepClock(transformers.TrainerCallback):
    """Seconds of every optimizer step of a Trainer."""

    def __init__(self) -> None:
        self.started = 0.0
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def run_trainer(rows: Dataset, num_steps: int, sampling: str) -> float:
    """Tokens per second of transformers' Trainer."""
    torch.manual_seed(0)
    clock = StepClock()
    tokens: list[int] = []

    def count(batch_rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        tokens.append(sum(len(row["input_ids"]) for row in batch_rows))
        return collate_for_trainer(batch_rows)

    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=build_llama(),
            args=transformers.TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=BATCH_SIZE,
                max_steps=num_steps,
                learning_rate=1e-3,
                use_cpu=True,
                train_sampling_strategy=sampling,
                length_column_name="length",
                remove_unused_columns=False,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=rows,
            data_collator=count,
            callbacks=[clock],
        )
        trainer.train()
    kept = slice(NUM_WARMUP_STEPS, num_steps)
    return sum(tokens[kept]) / sum(clock.seconds[kept])


@click.command()
@click.option("--steps", default=20, show_default=True, type=click.IntRange(4))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]")
@click.option("--out", default=OUT, type=click.Path(path_type=Path))
def main(steps: int, rounds: int, threads: int | None, out: Path) -> None:
    """Measure, print a table and write the record."""
    disable_progress_bars()
    if threads:
        torch.set_num_threads(threads)
    console = Console()
    tokenizer = load_checkpoint("demo-ar").tokenizer
    dataset = make_training_data(BATCH_SIZE * (steps + 1), 5, {"level-1": 0.7, "families": 0.3})
    rows = tokenize(dataset, tokenizer)
    rows = rows.map(
        lambda row: {
            "input_ids": row["prompt_ids"] + row["answer_ids"],
            "length": len(row["prompt_ids"]) + len(row["answer_ids"]),
        }
    )
    difference = check_equal(rows, tokenizer)
    if difference > 0.01:
        raise SystemExit(f"the two models' losses differ by {difference:.4f}; no times shown")
    contestants: dict[str, Callable[[], float]] = {
        "ours": lambda: run_ours(dataset, tokenizer, steps),
        "Trainer, random order": lambda: run_trainer(rows, steps, "random"),
        "Trainer, grouped by length": lambda: run_trainer(rows, steps, "group_by_length"),
    }
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, contestant in contestants.items():
            rates[name].append(contestant())
            console.print(f"round {number + 1}: {name}: {rates[name][-1]:,.0f} tokens/s")
    ours = statistics.median(rates["ours"])
    table = Table("", "tokens/s, median (range)", "ours is")
    for name, values in rates.items():
        middle = statistics.median(values)
        span = f"{middle:,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        table.add_row(name, span, f"{ours / middle:.2f}x")
    console.print(table)
    record = {
        "command": "python reference_model/benchmarks/training.py",
        "hardware": describe_hardware().model_dump(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "threads": torch.get_num_threads(),
        "shape": asdict(SIZES["demo"]),
        "batch_size": BATCH_SIZE,
        "steps": steps,
        "loss_difference": difference,
        "tokens_per_s": rates,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
