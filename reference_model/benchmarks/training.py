"""Training speed of the autoregressive twin: beside transformers' Trainer, and as share of peak.

    python reference_model/benchmarks/training.py [--steps N] [--rounds N]   (`make bench-training`)
    python reference_model/benchmarks/training.py --sizes 25m,125m,0.5b,1b --objective diffusion

Same data, batch, optimizer (AdamW), precision (float32), threads; a Llama of `transformers` has the
shape of size `demo`. Contestants take turns, a fresh model each time; a figure is real tokens
(prompt and answer, no padding) over the seconds of all steps but the first two. The Trainer runs
twice: as it comes, and with its own grouping by length, which is what we do too. Correctness first:
both models must give the same loss on the same batch and weights, or no time is shown. Writes
`results/training.json` with hardware and versions.

`--sizes` times whole steps of the real loop (loss, backward, clipping, AdamW; nothing is saved) of
each size named that memory holds, on one thread and then on two, behind one step that does not
count. Where memory holds a size but not AdamW's moments (`1b` in 24 GiB), its steps end before the
update, and the record says so. `--objective diffusion` is phase 1 in the block-causal layout,
blocks of 16, no edits; `--precision bfloat16` computes products in it. MFU is arithmetic over time
over peak. Arithmetic is that of `estimate.estimate_training`: 6 per parameter of the layers and
position, 12 L d per layer and position for attention, 6 V d per predicted token; padding does not
count. Peak is the best of ten products of 2,048 x 2,048 matrices in the same dtype on the same
threads, five before the steps and five behind. Writes `results/sizes.json`, for another objective
or dtype `results/sizes-diffusion.json` and so on.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import click
import torch
import transformers
from datasets import Dataset, disable_progress_bars
from rich import box
from rich.console import Console
from rich.table import Table

from sdb_harness.hardware import describe_hardware
from sdb_harness.training_data import make_training_data
from sdb_reference_model.checkpoint import Objective, load_checkpoint
from sdb_reference_model.data import BatchStream, collate, tokenize
from sdb_reference_model.estimate import TrainingEstimate, estimate_training, time_matmul
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.objective import compute_autoregressive_loss
from sdb_reference_model.optimizers import build_optimizers
from sdb_reference_model.parallel import Precision, World, choose_dtype
from sdb_reference_model.preparation import build_model
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.train import Loss, Run, StepReport, train
from sdb_reference_model.train_config import TrainConfig

RESULTS = Path(__file__).parent / "results"
NUM_WARMUP_STEPS = 2
BATCH_SIZE = 64

SIZE_BATCHES = {"demo": 64, "25m": 32, "125m": 16, "0.5b": 8, "1b": 4}
"""Examples of a step: some hundred positions at least, and no more than a minute on one core."""
PEAK_WIDTH = 2048
MIXTURE = {"level-1": 0.7, "families": 0.3}


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


def make_config(
    size: str,
    batch_size: int,
    num_steps: int,
    objective: Objective = "autoregressive",
    precision: Precision = "float32",
) -> TrainConfig:
    return TrainConfig(
        size=size,
        objective=objective,
        block_sizes=(16,) if objective == "diffusion" else (),
        edit_fraction=0.0,
        batch_size=batch_size,
        num_train_steps=num_steps,
        warmup_steps=1,
        adam_lr=1e-3,
        precision=precision,
        seed=0,
        data={},
    )


def run_ours(dataset: Dataset, tokenizer: CodeTokenizer, num_steps: int) -> float:
    """Tokens per second of our loop."""
    config = make_config("demo", BATCH_SIZE, num_steps)
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


def estimate_bytes(
    config: TrainConfig, stream: BatchStream, estimate: TrainingEstimate
) -> tuple[int, int]:
    """Memory of a step without AdamW's moments, and of these.

    Weights, gradients, activations, three copies of the logits, a second gradient of the embedding,
    which is the head's too, and under autocast the weights once more in bfloat16.
    """
    shape = SIZES[config.size]
    num_judged = float(stream.answer_lengths.mean()) * config.batch_size
    logits = 12 * num_judged * shape.vocab_size
    moments = estimate.state_bytes // 2
    embedding = 4 * shape.vocab_size * shape.d_model
    casts = 2 * estimate.num_parameters * (config.precision == "bfloat16")
    rest = estimate.state_bytes - moments + estimate.activation_bytes
    return round(rest + logits + embedding + casts), moments


def read_available_bytes() -> int:
    """Memory that Linux would give to a new program."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def time_size(
    config: TrainConfig,
    stream: BatchStream,
    tokenizer: CodeTokenizer,
    all_threads: list[int],
    flops_per_step: float,
    has_update: bool,
) -> list[dict[str, float]]:
    """Speed and MFU of one size, for each number of threads."""
    device = torch.device("cpu")
    dtype = choose_dtype(config.precision, device)
    model = build_model(config, None)
    optimizers: list[torch.optim.Optimizer] = []
    if has_update:
        optimizers = build_optimizers(
            model, model.blocks, config.optimizer, config.weight_decay, dtype
        )
    loss = Loss(model, config, tokenizer)
    run = Run(config, stream, tokenizer, World(0, 1, device), model, loss, optimizers, dtype)
    num_tokens = int(stream.prompt_lengths.sum() + stream.answer_lengths.sum())
    num_steps = stream.steps_per_epoch
    rows = []
    for threads in all_threads:
        torch.set_num_threads(threads)
        peak = time_matmul(PEAK_WIDTH, PEAK_WIDTH, PEAK_WIDTH, dtype)
        run.step(num_steps, 1.0, 0.0)  # of the next epoch, so that this one holds every example
        model.zero_grad()
        started = time.perf_counter()
        for step in range(num_steps):
            run.step(step, 1.0, 0.0)
            model.zero_grad()  # which the update does, where there is one
        seconds = time.perf_counter() - started
        peak = max(peak, time_matmul(PEAK_WIDTH, PEAK_WIDTH, PEAK_WIDTH, dtype))
        flops = flops_per_step * num_steps
        rows.append(
            {
                "threads": threads,
                "step_s": seconds / num_steps,
                "tokens_per_s": num_tokens / seconds,
                "flops_per_token": flops / num_tokens,
                "peak_flops_per_s": peak,
                "mfu": flops / seconds / peak,
            }
        )
    return rows


def measure_sizes(
    names: list[str],
    num_steps: int,
    all_threads: list[int],
    objective: Objective,
    precision: Precision,
    out: Path,
) -> None:
    """Time the named sizes, print a table and write the record."""
    console = Console()
    tokenizer = load_checkpoint("demo-ar").tokenizer
    columns = "size", "threads", "s/step", "tokens/s", "FLOPs/token", "peak FLOP/s", "MFU"
    table = Table(*columns, box=box.MARKDOWN)
    measured: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for name in names:
        config = make_config(name, SIZE_BATCHES[name], num_steps, objective, precision)
        dataset = make_training_data(config.batch_size * num_steps, 5, MIXTURE)
        stream = BatchStream(tokenize(dataset, tokenizer), config.batch_size, config.seed)
        dtype = choose_dtype(precision, torch.device("cpu"))
        estimate = estimate_training(config, SIZES[name], stream, 1, dtype)
        needed, moments = estimate_bytes(config, stream, estimate)
        available = read_available_bytes()
        has_update = needed + moments <= available
        if needed > available:
            left_out[name] = f"needs {needed / 2**30:.1f} GiB, {available / 2**30:.1f} are free"
            console.print(f"{name}: {left_out[name]}; left out")
            continue
        rows = time_size(
            config, stream, tokenizer, all_threads, estimate.flops_per_step, has_update
        )
        measured[name] = {
            "batch_size": config.batch_size,
            "has_update": has_update,
            "rows": rows,
        }
        if not has_update:
            console.print(f"{name}: without update, whose moments need {moments / 2**30:.1f} GiB")
        for row in rows:
            numbers = f"{row['step_s']:.2f}", f"{row['tokens_per_s']:,.0f}"
            arithmetic = f"{row['flops_per_token']:.2e}", f"{row['peak_flops_per_s']:.2e}"
            table.add_row(name, f"{row['threads']}", *numbers, *arithmetic, f"{row['mfu']:.1%}")
            console.print(f"{name}, {row['threads']} threads: {row['tokens_per_s']:,.0f} tokens/s")
    console.print(table)
    write_record(
        out,
        {
            "command": f"python reference_model/benchmarks/training.py --sizes {','.join(names)} "
            f"--objective {objective} --precision {precision}",
            "hardware": describe_hardware().model_dump(),
            "versions": {"torch": torch.__version__},
            "objective": objective,
            "dtype": precision,
            "optimizer": "adamw",
            "steps": num_steps,
            "sizes": measured,
            "left_out": left_out,
        },
    )


def write_record(out: Path, record: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n")


def read_sizes(text: str) -> list[str]:
    """Names of sizes from a comma-separated list.

    Raises:
        click.BadParameter: if there is no such size.
    """
    names = text.split(",")
    for name in names:
        if name not in SIZE_BATCHES:
            raise click.BadParameter(f"no size {name!r}; use some of {','.join(SIZE_BATCHES)}")
    return names


@click.command()
@click.option("--steps", type=click.IntRange(1), help="Steps.  [default: 20; with --sizes 2]")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="CPU threads.  [default: all cores; with --sizes 1, then 2]",
)
@click.option("--sizes", metavar="NAME,NAME", help="Measure tokens/s and MFU of these instead.")
@click.option(
    "--objective",
    default="autoregressive",
    show_default=True,
    type=click.Choice(get_args(Objective)),
    help="Of --sizes.",
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "bfloat16"]),
    help="Of --sizes.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The record.")
def main(
    steps: int | None,
    rounds: int,
    threads: int | None,
    sizes: str | None,
    objective: Objective,
    precision: Precision,
    out: Path | None,
) -> None:
    """Measure, print a table and write the record."""
    disable_progress_bars()
    if sizes is not None:
        all_threads = [threads] if threads else [1, 2]
        others = [x for x in (objective, precision) if x not in ("autoregressive", "float32")]
        out = out or RESULTS / f"{'-'.join(['sizes', *others])}.json"
        measure_sizes(read_sizes(sizes), steps or 2, all_threads, objective, precision, out)
        return
    if (objective, precision) != ("autoregressive", "float32"):
        raise click.BadParameter("--objective and --precision go with --sizes; the Trainer has one")
    steps = steps or 20
    if steps <= NUM_WARMUP_STEPS:
        raise click.BadParameter(f"--steps={steps}: the first {NUM_WARMUP_STEPS} do not count")
    if threads:
        torch.set_num_threads(threads)
    console = Console()
    tokenizer = load_checkpoint("demo-ar").tokenizer
    dataset = make_training_data(BATCH_SIZE * (steps + 1), 5, MIXTURE)
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
    write_record(out or RESULTS / "training.json", record)


if __name__ == "__main__":
    main()
