"""Pre-training: phases 1 and 2 of the curriculum, and the autoregressive twin.

Place in the flow: the composition root makes a data set and calls `train`; out comes a checkpoint
folder. The same loop serves one processor, one GPU, and many under `torchrun`.

A batch is cut into pieces; a rank takes every world-size-th piece and adds up their gradients.
Everything random is drawn from (seed, train_step, piece), so a resumed run ends with the weights of
one that was not stopped, on the same machine, ranks and thread count. Where `piece_size` is set,
other numbers of ranks differ only by the order of sums; at 0 the ranks set the pieces.

What this does not do: fill rows across batches. Batches are bucketed by length; `packing = true`
puts the examples of one piece side by side, see `packing.py`.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from sdb_reference_model.attention import choose_kernel
from sdb_reference_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    write_text,
)
from sdb_reference_model.corruption import MaskProcess
from sdb_reference_model.data import BatchStream, StreamedBatches, take, tokenize
from sdb_reference_model.edits import EditProcess, add_labels, weigh_tokens
from sdb_reference_model.model import SIZES, ModelConfig, Transformer
from sdb_reference_model.objective import (
    EditTerm,
    compute_autoregressive_loss,
    compute_diffusion_loss,
)
from sdb_reference_model.optimizers import (
    build_optimizers,
)
from sdb_reference_model.parallel import (
    World,
    choose_dtype,
    gather_weights,
    join_world,
    load_state,
    save_state,
    shard,
    synchronise,
)
from sdb_reference_model.states import Batch
from sdb_reference_model.tokenizer import CodeTokenizer, find_forbidden_id
from sdb_reference_model.train_config import (
    TrainConfig,
    find_edit_ratio,
    find_factor,
    find_max_time,
)

TOKENIZER_EXAMPLES = 20_000
"""Examples on which the tokenizer is trained: its merges no longer change beyond this."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One line of the log; losses are means since the last line."""

    train_step: int
    loss: float
    """Nats per answer token, what is minimised."""
    mask_loss: float
    edit_loss: float
    """First term of Eq. 6, before its weight; 0 while there are no edits."""
    edit_ratio: float
    """Largest alpha of the last step."""
    learning_rate_factor: float
    tokens_per_s: float
    """Prompt and answer tokens, padding not counted, of all ranks."""
    elapsed_s: float


class Loss(nn.Module):
    """The loss of one piece of a batch as a module, which is what DDP and FSDP can wrap."""

    def __init__(self, model: Transformer, config: TrainConfig, tokenizer: CodeTokenizer) -> None:
        super().__init__()
        self.model, self.config, self.mask_id = model, config, tokenizer.mask_id
        self.process = EditProcess(
            weigh_tokens(tokenizer, model.config.vocab_size),
            source=config.edit_source,
            substitution_share=config.substitution_share,
            control=tokenizer.control_ids if config.edit_lengths == "labels" else None,
        )

    def forward(
        self, batch: Batch, block_size: int, edit_ratio: float, seed: int, max_time: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Sums of both terms of Eq. 6 in nats; the twin's loss comes as the first."""
        c = self.config
        if c.objective == "autoregressive":
            terms = compute_autoregressive_loss(self.model, batch, self.mask_id)
            return terms.mask, terms.edit
        masks = MaskProcess(
            c.mask_schedule, c.weighting if max_time == 1.0 else "uniform", max_time
        )
        process = replace(self.process, max_ratio=edit_ratio)
        edit = EditTerm(process, c.edit_place) if edit_ratio > 0 else None
        terms = compute_diffusion_loss(
            self.model,
            batch,
            block_size,
            self.mask_id,
            torch.Generator().manual_seed(seed),
            process=masks,
            edit=edit,
            attention=c.attention,
        )
        return terms.mask, terms.edit


def train(
    config: TrainConfig,
    dataset: Dataset | IterableDataset,
    out: Path,
    *,
    provenance: Mapping[str, Any],
    on_report: Callable[[StepReport], None],
    report_every: int = 20,
    save_every: int = 200,
) -> Path:
    """Train, or resume what `out` holds, and write the final checkpoint.

    Under `torchrun` every rank calls this with the same arguments; rank 0 reports and writes.

    Args:
        config: what to train.
        dataset: columns `prompt` and `completion`; of a streamed one, examples that do not fit the
            model or hold its mask are left out.
        out: folder for state, log and checkpoint.
        provenance: hardware, versions and commit, stored in the checkpoint as they are.
        on_report: called with each line of the log; send it wherever metrics should go.
        report_every: steps between log lines.
        save_every: steps between resumable states.

    Returns:
        The folder of the checkpoint.

    Raises:
        ValueError: if `out` holds a run of another configuration, examples do not fit the model,
            pieces do not fit the ranks, or the loss stops being finite.
    """
    with join_world() as world:
        if config.compile and world.device.type == "cpu":
            raise ValueError(
                "compile=true is for GPUs: on a processor compiled attention with grouped heads "
                "fails inside torch 2.13; leave it out"
            )
        out.mkdir(parents=True, exist_ok=True)
        start = load_checkpoint(config.init_from) if config.init_from else None
        tokenizer = prepare_tokenizer(config, start, dataset, out, world)
        check_pieces(config, world)
        model = build_model(config, start).to(world.device)
        if config.edit_lengths == "labels":
            tokenizer = add_labels(tokenizer, model)
        del start
        stream = open_data(config, dataset, out, model, tokenizer, world)
        dtype = choose_dtype(config.precision, world.device)
        model.packs_examples = config.packing
        model.attention_kernel = choose_kernel(
            config.attention_kernel, world.device, model.config.head_dim
        )
        loss = shard(Loss(model, config, tokenizer), model.blocks, world, config.parallel, dtype)
        optimizers = build_optimizers(
            model, model.blocks, config.optimizer, config.weight_decay, dtype
        )
        check_run(out, config, world)
        progress = load_state(out, world, model, optimizers)
        run = Run(config, stream, tokenizer, world, model, loss, optimizers, dtype)
        elapsed_s = run.go_on(out, progress, on_report, report_every, save_every)
        weights = gather_weights(model)
        if world.rank == 0:
            whole = Transformer(model.config)
            whole.load_state_dict(weights)
            training = {
                "config": asdict(config),
                "num_parameters": sum(p.numel() for p in whole.parameters()),
                "num_examples_seen": config.num_train_steps * config.batch_size,
                "elapsed_s": round(elapsed_s, 1),
                "num_ranks": world.size,
                "num_left_out": stream.num_left_out,
                "precision": str(dtype).removeprefix("torch."),
                "attention_kernel": model.attention_kernel,
                "provenance": dict(provenance),
            }
            save_checkpoint(out, whole, tokenizer, config.objective, training)
        world.wait()
    return out


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a step of training needs."""

    config: TrainConfig
    stream: BatchStream
    tokenizer: CodeTokenizer
    world: World
    model: Transformer
    loss: nn.Module
    optimizers: list[torch.optim.Optimizer]
    dtype: torch.dtype

    def go_on(
        self,
        out: Path,
        progress: Tensor,
        on_report: Callable[[StepReport], None],
        report_every: int,
        save_every: int,
    ) -> float:
        """Train from the saved progress to the end; returns all seconds spent."""
        config, world = self.config, self.world
        train_step, elapsed_before_s = int(progress[0]), float(progress[1])
        drop_lines_behind(out / "log.jsonl", train_step, world)
        started = window_started = time.perf_counter()
        window = torch.zeros(3, dtype=torch.float64)  # mask and edit nats per token, tokens
        num_in_window = 0
        while train_step < config.num_train_steps:
            factor = find_factor(train_step, config)
            edit_ratio = find_edit_ratio(train_step, config)
            sums = self.step(train_step, factor, edit_ratio)
            if not bool(sums.isfinite().all()):
                rows = self.stream.select(train_step).tolist()
                lost = {"step": train_step, "rows": rows}
                write_text(out / "failed_batch.json", json.dumps(lost))
                raise ValueError(
                    f"loss is {float(sums[0])} at step {train_step}; rows are in "
                    f"{out / 'failed_batch.json'}; lower muon_lr and adam_lr"
                )
            train_step, num_in_window, window = train_step + 1, num_in_window + 1, window + sums
            is_last = train_step == config.num_train_steps
            now = time.perf_counter()
            elapsed_s = elapsed_before_s + now - started
            if world.rank == 0 and (train_step % report_every == 0 or is_last):
                mask_loss, edit_loss = (float(x) / num_in_window for x in window[:2])
                report = StepReport(
                    train_step=train_step,
                    loss=mask_loss + config.edit_weight * edit_loss,
                    mask_loss=mask_loss,
                    edit_loss=edit_loss,
                    edit_ratio=edit_ratio,
                    learning_rate_factor=factor,
                    tokens_per_s=float(window[2]) / (now - window_started),
                    elapsed_s=elapsed_s,
                )
                with (out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(asdict(report)) + "\n")
                on_report(report)
                window_started, num_in_window = now, 0
                window = torch.zeros_like(window)
            if train_step % save_every == 0 or is_last:
                done = torch.tensor([train_step, elapsed_s], dtype=torch.float64)
                save_state(out, world, self.model, self.optimizers, done)
        return elapsed_before_s + time.perf_counter() - started

    def step(self, train_step: int, factor: float, edit_ratio: float) -> Tensor:
        """One batch and one update; returns float64 [3]: both losses per token, and real tokens."""
        config, world = self.config, self.world
        max_time = find_max_time(train_step, config)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + train_step)
        rows = self.stream.select(train_step)
        block_size = 1
        if config.attention == "full":
            block_size = int(self.stream.answer_lengths[rows].max())
        elif config.block_sizes:
            choice = torch.randint(len(config.block_sizes), (), generator=generator)
            block_size = config.block_sizes[int(choice)]
        pieces = rows.reshape(-1, config.piece_size or config.batch_size // world.size)
        seeds = torch.randint(2**62, (len(pieces),), generator=generator).tolist()
        num_judged = self.stream.count_answer_tokens(rows, block_size)
        own = range(world.rank, len(pieces), world.size)
        sums = torch.zeros(3, dtype=torch.float64)
        for index in own:
            batch = self.stream.collate(
                pieces[index], self.tokenizer.pad_id, self.tokenizer.end_id, block_size
            )
            is_cast = self.dtype == torch.bfloat16 and config.parallel != "fsdp"
            with synchronise(self.loss, index == own[-1]):
                with torch.autocast(world.device.type, self.dtype) if is_cast else nullcontext():
                    mask, edit = self.loss(batch, block_size, edit_ratio, seeds[index], max_time)
                # Wrappers average over ranks; the mean is over the tokens of the whole batch.
                (world.size / num_judged * (mask + config.edit_weight * edit)).backward()
            sums[:2] += torch.stack((mask, edit)).detach().cpu().double() / num_judged
            sums[2] += float(batch.prompt_lengths.sum() + batch.answer_lengths.sum())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            rate = config.adam_lr if isinstance(optimizer, torch.optim.AdamW) else config.muon_lr
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return world.sum(sums.to(world.device)).cpu()


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
    if start is None:
        return SIZES[config.size]
    shape = start.model.config
    if config.size and SIZES[config.size] != shape:
        raise ValueError(
            f"init_from={config.init_from!r} is not of size {config.size!r} "
            f"({shape} against {SIZES[config.size]}); name the size it has, or none"
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
    """Reject pieces that the ranks cannot share."""
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
        return len(prompt) + -(-len(answer) // width) * width

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


def check_run(out: Path, config: TrainConfig, world: World) -> None:
    """Claim the folder for this configuration.

    The length of a run and of its decay may change as long as no step done would have been another.

    Raises:
        CheckpointError: if the folder holds a run of another configuration.
    """
    path = out / "run.json"
    if (out / "latest").is_file() and path.is_file():
        num_done = int((out / "latest").read_text().removeprefix("state-"))
        old = json.loads(path.read_text())
        old = TrainConfig(**{**old, "block_sizes": tuple(old["block_sizes"])})
        is_same_past = all(
            find(step, config) == find(step, old)
            for step in range(num_done)
            for find in (find_factor, find_edit_ratio, find_max_time)
        )
        free = ("num_train_steps", "decay_fraction", "edit_fraction", "edit_ramp")
        renewed = replace(old, **{key: getattr(config, key) for key in free})
        if renewed != config or not is_same_past:
            raise CheckpointError(
                f"{out} holds {num_done} steps of another configuration; use another --out, "
                "or remove it"
            )
    world.wait()
    if world.rank == 0:
        write_text(path, json.dumps(asdict(config)))


def drop_lines_behind(path: Path, train_step: int, world: World) -> None:
    """Remove log lines of steps that will be done again."""
    if world.rank == 0 and path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["train_step"] <= train_step]
        write_text(path, "".join(kept))
