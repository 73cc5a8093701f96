"""From (prompt, completion) text to batches of similar length, the same for both objectives.

Place in the flow: the composition root hands over a `datasets.Dataset` with the columns `prompt`
and `completion`; `train.py` asks for batch after batch by step number, so a resumed run sees
exactly the batches that the interrupted one would have seen.
"""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from sdb_reference_model.states import Batch
from sdb_reference_model.tokenizer import CodeTokenizer, pad_left

BATCHES_PER_BUCKET = 64
"""Examples are sorted by length inside groups of this many batches: little padding, still mixed."""


def tokenize(dataset: Dataset, tokenizer: CodeTokenizer) -> Dataset:
    """Add `prompt_ids` and `answer_ids` (completion + one end token); drop the text.

    Raises:
        ValueError: if a column is missing.
    """
    missing = {"prompt", "completion"} - set(dataset.column_names)
    if missing:
        raise ValueError(
            f"data set lacks the columns {sorted(missing)}; it has {sorted(dataset.column_names)}"
        )

    def encode(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        answers = tokenizer.encode_batch(rows["completion"], is_start=False)
        return {
            "prompt_ids": tokenizer.encode_batch(rows["prompt"]),
            "answer_ids": [[*ids, tokenizer.end_id] for ids in answers],
        }

    tokenized: Dataset = dataset.map(
        encode, batched=True, batch_size=10_000, remove_columns=dataset.column_names
    )
    return tokenized


class BatchStream:
    """Batches by step number: shuffled per epoch, bucketed by length, without state."""

    def __init__(self, tokenized: Dataset, batch_size: int, seed: int) -> None:
        """Read lengths once; `tokenized` comes from `tokenize`.

        Raises:
            ValueError: if there are fewer examples than one batch.
        """
        if len(tokenized) < batch_size:
            raise ValueError(
                f"data set has {len(tokenized)} examples, fewer than batch_size={batch_size}"
            )
        columns = tokenized.with_format("numpy")
        self.prompts: list[NDArray[np.int64]] = list(columns["prompt_ids"])
        self.answers: list[NDArray[np.int64]] = list(columns["answer_ids"])
        self.prompt_lengths = np.array([len(ids) for ids in self.prompts])
        self.answer_lengths = np.array([len(ids) for ids in self.answers])
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = len(tokenized) // batch_size
        self.epoch = -1
        self.batches: NDArray[np.int64] = np.empty((0, batch_size), dtype=np.int64)

    def select(self, train_step: int) -> NDArray[np.int64]:
        """Row numbers int64 [batch_size] of the batch at `train_step`."""
        epoch, index = divmod(train_step, self.steps_per_epoch)
        if epoch != self.epoch:
            self.epoch, self.batches = epoch, self.plan_epoch(epoch)
        rows: NDArray[np.int64] = self.batches[index]
        return rows

    def plan_epoch(self, epoch: int) -> NDArray[np.int64]:
        """Row numbers int64 [steps_per_epoch, batch_size] of one epoch."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.prompts))
        order = order[: self.steps_per_epoch * self.batch_size]
        bucket = self.batch_size * BATCHES_PER_BUCKET
        for start in range(0, len(order), bucket):
            part = order[start : start + bucket]
            by_length = np.lexsort((self.prompt_lengths[part], self.answer_lengths[part]))
            order[start : start + bucket] = part[by_length]
        batches: NDArray[np.int64] = order.reshape(self.steps_per_epoch, self.batch_size)
        batches = batches[random.permutation(self.steps_per_epoch)]
        return batches

    def count_answer_tokens(self, rows: NDArray[np.int64], multiple: int) -> int:
        """Answer tokens of the given rows, each answer filled to a multiple of `multiple`."""
        lengths = self.answer_lengths[rows]
        return int((-(-lengths // multiple) * multiple).sum())

    def collate(self, rows: NDArray[np.int64], pad_id: int, end_id: int, multiple: int) -> Batch:
        """Stack the given rows; answers are filled with `end_id` to a multiple of `multiple`."""
        return collate(
            [self.prompts[row] for row in rows],
            [self.answers[row] for row in rows],
            pad_id,
            end_id,
            multiple,
        )


def collate(
    prompts: Sequence[Sequence[int]] | Sequence[NDArray[np.int64]],
    answers: Sequence[Sequence[int]] | Sequence[NDArray[np.int64]],
    pad_id: int,
    end_id: int,
    multiple: int,
) -> Batch:
    """Stack rows of ids; answers are filled with `end_id` to a multiple of `multiple`."""
    width = -(-max(len(ids) for ids in answers) // multiple) * multiple
    return Batch(
        prompt=pad_left([[int(i) for i in ids] for ids in prompts], pad_id),
        prompt_lengths=torch.tensor([len(ids) for ids in prompts]),
        answer=torch.stack(
            [
                torch.from_numpy(np.pad(ids, (0, width - len(ids)), constant_values=end_id))
                for ids in answers
            ]
        ),
        answer_lengths=torch.tensor([len(ids) for ids in answers]),
    )
