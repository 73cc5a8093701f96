"""From (prompt, completion) text to batches of similar length, the same for both objectives.

Place in the flow: the composition root hands over a `datasets.Dataset` with the columns `prompt`
and `completion`; `train.py` asks for batch after batch by step number, so a resumed run sees
exactly the batches that the interrupted one would have seen. Data that do not fit in memory come as
an `IterableDataset`, which `StreamedBatches` reads window by window.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray

from sdb_reference_model.files import write_text
from sdb_reference_model.states import Batch
from sdb_reference_model.tokenizer import CodeTokenizer, pad_left

BATCHES_PER_BUCKET = 64
"""Examples are sorted by length inside groups of this many batches: little padding, still mixed."""


def take(dataset: Dataset | IterableDataset, num_examples: int) -> Dataset:
    """The first examples, in memory."""
    if isinstance(dataset, Dataset):
        first: Dataset = dataset.select(range(min(num_examples, len(dataset))))
        return first
    return Dataset.from_list(list(dataset.take(num_examples)))


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

    tokenized: Dataset = dataset.map(
        lambda rows: encode(rows["prompt"], rows["completion"], tokenizer),
        batched=True,
        batch_size=10_000,
        remove_columns=dataset.column_names,
    )
    return tokenized


def encode(
    prompts: list[str], completions: list[str], tokenizer: CodeTokenizer
) -> dict[str, list[list[int]]]:
    """`prompt_ids` and `answer_ids` (completion + one end token) of each example.

    Raises:
        ValueError: a prompt or completion that is no text, or an empty prompt.
    """
    check_texts(prompts, completions)
    answers = tokenizer.encode_batch(completions, is_start=False)
    return {
        "prompt_ids": tokenizer.encode_batch(prompts),
        "answer_ids": [[*ids, tokenizer.end_id] for ids in answers],
    }


def check_texts(prompts: Sequence[object], completions: Sequence[object]) -> None:
    """Reject what a user's columns may hold beside text, which a model cannot be shown."""
    for prompt, completion in zip(prompts, completions, strict=True):
        if not (isinstance(prompt, str) and prompt and isinstance(completion, str)):
            raise ValueError(
                f"the data has an example with prompt {prompt!r:.80} and completion "
                f"{completion!r:.80}; both must be text, and the prompt not empty"
            )


class BatchStream:
    """Batches by step number: shuffled per epoch, bucketed by length, without state."""

    def __init__(self, tokenized: Dataset, batch_size: int, seed: int) -> None:
        """Read lengths once; `tokenized` comes from `tokenize`.

        Raises:
            ValueError: if there are fewer examples than one batch.
        """
        if len(tokenized) < batch_size:
            raise ValueError(
                f"data set has {len(tokenized)} examples, fewer than batch_size={batch_size}; "
                "lower it, or give more data"
            )
        self.batch_size, self.seed = batch_size, seed
        self.num_left_out = 0
        """Examples that were not trained on."""
        self.epoch = -1
        self.batches: NDArray[np.int64] = np.empty((0, batch_size), dtype=np.int64)
        columns = tokenized.with_format("numpy")
        self.hold(list(columns["prompt_ids"]), list(columns["answer_ids"]))

    def hold(self, prompts: list[NDArray[np.int64]], answers: list[NDArray[np.int64]]) -> None:
        """Keep these examples, and no others."""
        self.prompts, self.answers = prompts, answers
        self.prompt_lengths = np.array([len(ids) for ids in self.prompts])
        self.answer_lengths = np.array([len(ids) for ids in self.answers])
        self.steps_per_epoch = len(prompts) // self.batch_size

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


class StreamedBatches(BatchStream):
    """Batches by step number of a data set that is read in its own order, a window at a time.

    A window is what a bucket is to `BatchStream`: it is sorted by length, cut into batches, and
    their order is shuffled; shuffle the data themselves beforehand. Where each window begins is
    written down, so a resumed run reads on from there. The data begin again when they end. Under
    `torchrun` every rank reads all of them.
    """

    def __init__(
        self,
        dataset: IterableDataset,
        tokenizer: CodeTokenizer,
        batch_size: int,
        seed: int,
        is_usable: Callable[[NDArray[np.int64], NDArray[np.int64]], bool],
        journal: Path,
        is_writer: bool = True,
    ) -> None:
        """Read nothing yet.

        Args:
            dataset: columns `prompt` and `completion`.
            tokenizer: of the model.
            batch_size: examples per batch.
            seed: of the order of batches in a window.
            is_usable: (prompt ids, answer ids) -> whether to train on them; others are left out.
            journal: file with the place of every window.
            is_writer: whether this process is the one that writes it.
        """
        self.dataset, self.tokenizer, self.is_usable = dataset, tokenizer, is_usable
        self.batch_size, self.seed = batch_size, seed
        self.journal, self.is_writer = journal, is_writer
        self.steps_per_epoch = BATCHES_PER_BUCKET
        self.window, self.num_left_out = -1, 0
        self.beginning = json.dumps(dataset.state_dict())
        self.examples: Iterator[dict[str, Any]] = iter(dataset)

    def select(self, train_step: int) -> NDArray[np.int64]:
        """Row numbers int64 [batch_size], in the window that holds the batch at `train_step`."""
        window, index = divmod(train_step, BATCHES_PER_BUCKET)
        if window != self.window:
            self.open(window)
        rows: NDArray[np.int64] = self.batches[index]
        return rows

    def open(self, window: int) -> None:
        """Read one window, from where the one before ended or from its place in the journal.

        Raises:
            ValueError: the data hold nothing usable, or nobody knows where the window begins.
        """
        places, before = self.read_journal(), window - 1
        if before != self.window and str(window) not in places and str(before) in places:
            self.open(before)  # the run was stopped between the two
        if before != self.window:
            # Not written again: until an example is read, `state_dict` forgets what was loaded.
            self.seek(window)
        elif self.is_writer:
            place = {"left_out": self.num_left_out, "state": self.dataset.state_dict()}
            write_text(self.journal, json.dumps({**self.read_journal(), str(window): place}))
        self.hold(*self.read(self.batch_size * BATCHES_PER_BUCKET))
        self.window, self.batches = window, self.plan_epoch(window)

    def seek(self, window: int) -> None:
        """Go to where a window began when it was read before."""
        place = self.read_journal().get(str(window))
        if place is None:
            raise ValueError(
                f"{self.journal} does not say where window {window} of the data begins; "
                "use another --out, or remove its folder"
            )
        self.num_left_out = place["left_out"]
        self.dataset.load_state_dict(place["state"])
        self.examples = iter(self.dataset)

    def read_journal(self) -> dict[str, Any]:
        """Window -> where it begins, and how many examples were left out before."""
        if not self.journal.is_file():
            return {}
        places: dict[str, Any] = json.loads(self.journal.read_text())
        return places

    def read(self, num_examples: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
        """Prompts and answers of the next usable examples; the data begin again when they end."""
        prompts: list[NDArray[np.int64]] = []
        answers: list[NDArray[np.int64]] = []
        num_endings = 0
        while len(prompts) < num_examples:
            rows = list(islice(self.examples, num_examples - len(prompts)))
            if not rows:
                num_endings += 1
                if num_endings > 1 and not prompts:
                    raise ValueError("the streamed data hold no example that fits the model")
                self.dataset.load_state_dict(json.loads(self.beginning))
                self.examples = iter(self.dataset)
                continue
            prompt_texts = [row["prompt"] for row in rows]
            encoded = encode(prompt_texts, [row["completion"] for row in rows], self.tokenizer)
            for ids in zip(encoded["prompt_ids"], encoded["answer_ids"], strict=True):
                prompt, answer = map(np.array, ids)
                if self.is_usable(prompt, answer):
                    prompts.append(prompt)
                    answers.append(answer)
                else:
                    self.num_left_out += 1
        return prompts, answers


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
