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
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sdb_reference_model.attention import choose_kernel
from sdb_reference_model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from sdb_reference_model.corruption import MaskProcess
from sdb_reference_model.data import BatchStream, collate
from sdb_reference_model.edits import EditProcess, add_labels, weigh_tokens
from sdb_reference_model.files import write_text
from sdb_reference_model.model import Transformer
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
from sdb_reference_model.preparation import (
    build_model,
    check_pieces,
    open_data,
    prepare_tokenizer,
)
from sdb_reference_model.states import Batch
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.train_config import (
    TrainConfig,
    find_edit_ratio,
    find_factor,
    find_max_time,
)

EXPLOSION = 4.0
"""A run stops where the mask loss of a log line is this many times the best one so far and above
2 ln V, twice what a model loses that guesses.

Choice: both, since either alone may happen to a sound run. Near zero a small batch under 1/t
weights is often several times the best line, and the mask warm-up counts few masks; a start that
never saw a mask begins above ln V. Not taken: the edit loss, which begins high.
"""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One line of the log; losses are means since the last line."""

    train_step: int
    loss: float
    """Nats per answer token, what is minimised."""
    mask_loss: float
    edit_loss: float
    """First term of Eq. 6, before its weight; 0 while there are no edits."""
    past_loss: float
    """Of next-token prediction, before its weight; 0 without one."""
    edit_ratio: float
    """Largest alpha of the last step."""
    learning_rate_factor: float
    gradient_norm: float
    """Before it is clipped to 1; the mean since the last line."""
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
            insertion_share=config.insertion_share,
            window=config.edit_window,
            control=tokenizer.control_ids if config.edit_lengths == "labels" else None,
        )

    def forward(
        self, batch: Batch, block_size: int, edit_ratio: float, seed: int, max_time: float = 1.0
    ) -> Tensor:
        """float32 [3], sums of the `LossTerms` in nats; the twin's loss comes as the first."""
        c = self.config
        if c.objective == "autoregressive":
            return compute_autoregressive_loss(self.model, batch, self.mask_id).stack()
        masks = MaskProcess(
            c.mask_schedule,
            c.weighting if max_time == 1.0 else "uniform",
            max_time,
            c.mask_clip == "block",
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
            reads_answer=c.past_weight > 0,
        )
        return terms.stack()


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
            pieces do not fit the ranks, or the loss explodes or stops being finite.
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
        lines = drop_lines_behind(out / "log.jsonl", train_step, world)
        best = min((line["mask_loss"] for line in lines), default=math.inf)
        started = window_started = time.perf_counter()
        window = torch.zeros(5, dtype=torch.float64)  # what `step` returns, added up
        num_in_window = 0
        while train_step < config.num_train_steps:
            factor = find_factor(train_step, config)
            edit_ratio = find_edit_ratio(train_step, config)
            sums = self.step(train_step, factor, edit_ratio)
            if not bool(sums.isfinite().all()):
                *losses, _, norm = sums.tolist()
                self.fail(
                    out,
                    train_step,
                    f"loss is {config.weigh(losses)} and the gradient's norm "
                    f"{norm} at step {train_step}",
                )
            train_step, num_in_window, window = train_step + 1, num_in_window + 1, window + sums
            is_last = train_step == config.num_train_steps
            now = time.perf_counter()
            elapsed_s = elapsed_before_s + now - started
            if train_step % report_every == 0 or is_last:
                *losses, num_tokens, norm = (window / num_in_window).tolist()
                mask_loss, edit_loss, past_loss = losses
                report = StepReport(
                    train_step=train_step,
                    loss=config.weigh(losses),
                    mask_loss=mask_loss,
                    edit_loss=edit_loss,
                    past_loss=past_loss,
                    edit_ratio=edit_ratio,
                    learning_rate_factor=factor,
                    gradient_norm=norm,
                    tokens_per_s=num_tokens * num_in_window / (now - window_started),
                    elapsed_s=elapsed_s,
                )
                if world.rank == 0:
                    with (out / "log.jsonl").open("a") as log:
                        log.write(json.dumps(asdict(report)) + "\n")
                    on_report(report)
                if mask_loss > max(EXPLOSION * best, 2 * math.log(self.model.config.vocab_size)):
                    self.fail(
                        out,
                        train_step - 1,
                        f"mask loss of the last {num_in_window} steps is {mask_loss:.3g} at step "
                        f"{train_step}, over {EXPLOSION:g} times the best of {best:.3g}",
                    )
                best = min(best, mask_loss)
                window_started, num_in_window = now, 0
                window = torch.zeros_like(window)
            if train_step % save_every == 0 or is_last:
                done = torch.tensor([train_step, elapsed_s], dtype=torch.float64)
                save_state(out, world, self.model, self.optimizers, done)
        return elapsed_before_s + time.perf_counter() - started

    def fail(self, out: Path, train_step: int, reason: str) -> NoReturn:
        """Stop every rank; rank 0 saves the batch of the step, for `replay_batch`."""
        config, path = self.config, out / "failed_batch.json"
        if self.world.rank == 0:
            pieces, block_size, seeds = self.draw(train_step)
            failed = {
                "config": asdict(config),
                "train_step": train_step,
                "block_size": block_size,
                "seeds": seeds,
                "prompt_ids": [self.stream.prompts[row].tolist() for row in pieces.flat],
                "answer_ids": [self.stream.answers[row].tolist() for row in pieces.flat],
            }
            write_text(path, json.dumps(failed))
        rates = f"adam_lr={config.adam_lr:g}"
        if config.optimizer == "muon":
            rates = f"muon_lr={config.muon_lr:g} and {rates}"
        raise ValueError(
            f"{reason}; its batch is in {path} for `train.replay_batch`; lower {rates} and use "
            "another --out, or look at the data"
        )

    def draw(self, train_step: int) -> tuple[NDArray[np.int64], int, list[int]]:
        """Row numbers [pieces, piece_size] of a step, its block size, and a seed for each piece."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + train_step)
        rows = self.stream.select(train_step)
        block_size = 1
        if config.attention == "full":
            block_size = max(config.canvas_size, int(self.stream.answer_lengths[rows].max()))
        elif config.block_sizes:
            choice = torch.randint(len(config.block_sizes), (), generator=generator)
            block_size = config.block_sizes[int(choice)]
        pieces = rows.reshape(-1, config.piece_size or config.batch_size // self.world.size)
        seeds = torch.randint(2**62, (len(pieces),), generator=generator).tolist()
        return pieces, block_size, seeds

    def step(self, train_step: int, factor: float, edit_ratio: float) -> Tensor:
        """One batch and, if all is finite, one update.

        Returns:
            float64 [5]: three losses per token, real tokens, and the norm of the gradient.
        """
        config, world = self.config, self.world
        max_time = find_max_time(train_step, config)
        pieces, block_size, seeds = self.draw(train_step)
        num_judged = self.stream.count_answer_tokens(pieces.reshape(-1), block_size)
        own = range(world.rank, len(pieces), world.size)
        sums = torch.zeros(4, dtype=torch.float64)
        for index in own:
            batch = self.stream.collate(
                pieces[index], self.tokenizer.pad_id, self.tokenizer.end_id, block_size
            )
            is_cast = self.dtype == torch.bfloat16 and config.parallel != "fsdp"
            with synchronise(self.loss, index == own[-1]):
                with torch.autocast(world.device.type, self.dtype) if is_cast else nullcontext():
                    terms = self.loss(batch, block_size, edit_ratio, seeds[index], max_time)
                # Wrappers average over ranks; the mean is over the tokens of the whole batch.
                (world.size / num_judged * config.weigh(terms.unbind())).backward()
            sums[:3] += terms.detach().cpu().double() / num_judged
            sums[3] += float(batch.prompt_lengths.sum() + batch.answer_lengths.sum())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        sums = torch.cat((world.sum(sums.to(world.device)).cpu(), norm.double().cpu()[None]))
        if not bool(sums.isfinite().all()):
            return sums
        for optimizer in self.optimizers:
            rate = config.adam_lr if isinstance(optimizer, torch.optim.AdamW) else config.muon_lr
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return sums


def replay_batch(path: Path, model: Transformer, tokenizer: CodeTokenizer) -> list[float]:
    """The three losses per token of a batch that stopped a run, with the noise that it had there.

    Args:
        path: the run's `failed_batch.json`.
        model: any weights: the run's last saved ones, its start, or those of a sound run.
        tokenizer: of the run.
    """
    saved = json.loads(path.read_text())
    config = restore_config(saved["config"])
    edit_ratio, max_time = (
        find(saved["train_step"], config) for find in (find_edit_ratio, find_max_time)
    )
    block_size, num_pieces = saved["block_size"], len(saved["seeds"])
    loss = Loss(model, config, tokenizer)
    sums, num_judged = torch.zeros(3, dtype=torch.float64), 0
    for index, seed in enumerate(saved["seeds"]):
        own = slice(*(len(saved["answer_ids"]) * i // num_pieces for i in (index, index + 1)))
        answers = saved["answer_ids"][own]
        batch = collate(
            saved["prompt_ids"][own], answers, tokenizer.pad_id, tokenizer.end_id, block_size
        )
        with torch.no_grad():
            terms = loss(batch, block_size, edit_ratio, seed, max_time)
        sums += terms.double().cpu()
        num_judged += sum(-(-len(ids) // block_size) * block_size for ids in answers)
    return (sums / num_judged).tolist()


def restore_config(values: Mapping[str, Any]) -> TrainConfig:
    """Undo `asdict` and JSON."""
    return TrainConfig(**{**values, "block_sizes": tuple(values["block_sizes"])})


def check_run(out: Path, config: TrainConfig, world: World) -> None:
    """Claim the folder for this configuration.

    The length of a run and of its decay may change as long as no step done would have been another.

    Raises:
        CheckpointError: if the folder holds a run of another configuration.
    """
    path = out / "run.json"
    if (out / "latest").is_file() and path.is_file():
        num_done = int((out / "latest").read_text().removeprefix("state-"))
        old = restore_config(json.loads(path.read_text()))
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


def drop_lines_behind(path: Path, train_step: int, world: World) -> list[dict[str, Any]]:
    """Remove log lines of steps that will be done again, and one that a kill cut off.

    Returns:
        The lines that stay, on every rank.
    """
    if not path.is_file():
        return []
    texts = [x for x in path.read_text().splitlines(keepends=True) if x.endswith("\n")]
    kept = [line for line in map(json.loads, texts) if line["train_step"] <= train_step]
    world.wait()
    if world.rank == 0:
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return kept
