"""Byte-level BPE through the `tokenizers` library, trained on the task's own text.

Place in the flow: text -> ids before training and sampling, ids -> text after. Digits are split
one by one, so that constants are copied digit by digit, and no merge crosses a word.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from sdb_reference_model.files import write_text

SPECIAL_TOKENS = ("<|pad|>", "<|endoftext|>", "<|mask|>")

IMPOSSIBLE_BYTES = (("À", "Á"), ("<0xC0>", "<0xC1>"))
"""How byte-level vocabularies spell the bytes C0 and C1, which no UTF-8 text contains."""


class ControlIds(NamedTuple):
    """The labels that are no text, see `levenshtein.py`."""

    delete_id: int
    insert_id: int


class SpecialIds(Protocol):
    """The ids that a sampler must know; every tokenizer here has them."""

    pad_id: int
    end_id: int
    mask_id: int
    """-1 for an autoregressive model without one."""
    control_ids: ControlIds | None
    """Of a model trained with `edit_lengths = "labels"`."""


class CodeTokenizer:
    """A trained tokenizer with its special ids."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        special_ids: tuple[int, int, int] | None = None,
        control_ids: ControlIds | None = None,
    ) -> None:
        """Wrap a `tokenizers.Tokenizer` that holds our special tokens, or has others.

        `special_ids` are those of padding, end and mask of other people's tokenizers;
        `control_ids` those of a model that inserts and deletes.

        Raises:
            ValueError: if a special token is missing.
        """
        ids = list(special_ids or [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS])
        if None in ids:
            raise ValueError(f"tokenizer lacks one of {SPECIAL_TOKENS}; train it with this project")
        tokenizer.encode_special_tokens = True  # "<|mask|>" in a prompt is text, not a mask
        self.inner = tokenizer
        self.pad_id, self.end_id, self.mask_id = (i for i in ids if i is not None)
        self.control_ids = control_ids

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "CodeTokenizer":
        """Learn byte-level BPE merges from `texts` up to `vocab_size` entries, specials first."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(
        cls,
        path: Path,
        special_ids: tuple[int, int, int] | None = None,
        control_ids: ControlIds | None = None,
    ) -> "CodeTokenizer":
        """Read `tokenizer.json`; the ids are those of the constructor."""
        return cls(Tokenizer.from_file(str(path)), special_ids, control_ids)

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        write_text(path, self.inner.to_str(pretty=True))

    def with_mask(self, token: str, limit: int) -> "CodeTokenizer":
        """This tokenizer with a mask: an unused token it has, or a new one on a spare id.

        Args:
            token: how the mask is spelled.
            limit: number of ids that the model has rows for.

        Raises:
            ValueError: if the tokenizer lacks it and every id of the model is taken.
        """
        inner = Tokenizer.from_str(self.inner.to_str())
        inner.add_special_tokens([token])
        mask_id = inner.token_to_id(token)
        if mask_id is None or mask_id >= limit:
            raise ValueError(
                f"mask_token={token!r} is not in the tokenizer, and the model has no spare id "
                f"beyond its {limit}; name a token that its text never uses"
            )
        return CodeTokenizer(inner, (self.pad_id, self.end_id, mask_id))

    def with_controls(self) -> "CodeTokenizer":
        """This tokenizer with DELETE and INSERT, on the ids of two bytes that no text contains.

        Choice: every byte-level vocabulary has such ids, also one that is full to its last row, as
        the shipped ones are. Not taken: new tokens, for which the model would have to grow.

        Raises:
            ValueError: if the vocabulary is not made of bytes.
        """
        for pair in IMPOSSIBLE_BYTES:
            ids = [i for i in map(self.inner.token_to_id, pair) if i is not None]
            if len(ids) == len(pair) and all(self.decode([i]) == "\ufffd" for i in ids):
                special_ids = (self.pad_id, self.end_id, self.mask_id)
                return CodeTokenizer(self.inner, special_ids, ControlIds(*ids))
        raise ValueError(
            "edit_lengths='labels' takes the ids of the bytes C0 and C1 for DELETE and INSERT, and "
            "this tokenizer has none; use edit_lengths='balanced'"
        )

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 over every token with its id, and the special ids.

        What ids mean, and nothing that two versions of `tokenizers` may write differently.
        """
        meaning = [sorted(self.inner.get_vocab().items()), self.pad_id, self.end_id, self.mask_id]
        return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return int(self.inner.get_vocab_size())

    def encode(self, text: str, *, is_start: bool = True) -> list[int]:
        """Ids of `text`; special-token spellings inside it stay plain text.

        `is_start` lets a tokenizer that has one put its start token.
        """
        return list(self.inner.encode(text, add_special_tokens=is_start).ids)

    def encode_batch(self, texts: Sequence[str], *, is_start: bool = True) -> list[list[int]]:
        """Ids of many texts, on all cores; `is_start` lets a tokenizer put its start token."""
        encodings = self.inner.encode_batch(list(texts), add_special_tokens=is_start)
        return [list(encoding.ids) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens."""
        return str(self.inner.decode(list(ids), skip_special_tokens=True))


def find_forbidden_id(tokenizer: SpecialIds) -> int | None:
    """The id that no model may write: its mask, if it has one."""
    return tokenizer.mask_id if tokenizer.mask_id >= 0 else None


def find_non_text_ids(tokenizer: SpecialIds) -> list[int]:
    """Ids that never stand where text is asked for: the mask, DELETE and INSERT."""
    return [tokenizer.mask_id, *(tokenizer.control_ids or ())]


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """Stack rows of ids into int64 [B, P], padded on the left with `pad_id`."""
    width = max(len(ids) for ids in rows)
    return torch.stack(
        [torch.tensor([pad_id] * (width - len(ids)) + [int(i) for i in ids]) for ids in rows]
    )
