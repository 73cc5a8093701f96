"""Finds benchmark problems inside training data: documents that share ten words in a row with one.

Place in the flow: `sdbench decontaminate DATA --against humaneval`, before a data set is trained
on. The rule is the one that the Seed reports name (10-gram word overlap, whole document removed);
`list_ngrams` is its definition, `NgramIndex.find` the same answer at the speed of the disk: every
run of words is hashed by array arithmetic, and a hash that matches is confirmed by its words.

Choice: words are what ASCII white space separates, ASCII letters in lower case. The reports do not
say how they split; splitting off punctuation would make code overlap by chance.

What it does not do: paraphrases, translated or renamed solutions stay unseen.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from sdb_harness.benchmarks import Benchmark
from sdb_harness.benchmarks.data_files import number_lines
from sdb_harness.errors import UserError

NGRAM_WORDS = 10
BATCH_BYTES = 1 << 19
"""Text hashed at once: its arrays stay in the processor's caches."""
WINDOW_BYTES = 1 << 21
"""Of a longer document: hashing takes some forty times as much memory."""
SPACE = re.compile(rb"[ \t\n\r\x0b\x0c]")
SLOTS_PER_NGRAM = 8
"""At least so many in the filter, so that at most one run of words in eight is looked up."""

Hashes = npt.NDArray[np.uint64]


def list_ngrams(text: str, num_words: int = NGRAM_WORDS) -> Iterator[tuple[bytes, ...]]:
    """Every run of `num_words` words of a text: the definition of what is compared."""
    words = text.encode("utf-8", "surrogatepass").lower().split()
    for start in range(len(words) - num_words + 1):
        yield tuple(words[start : start + num_words])


@dataclass(frozen=True, slots=True)
class Overlap:
    """A document that shares words with problems."""

    position: int
    """Of the document in the batch that was searched."""
    problem_ids: tuple[str, ...]
    ngram: str
    """The first run of words that is shared."""


class NgramIndex:
    """The n-grams of some benchmarks, to search documents for."""

    def __init__(self, benchmarks: Iterable[Benchmark], num_words: int = NGRAM_WORDS) -> None:
        """Collect the n-grams of every problem's statement, prompt and reference solution."""
        self.num_words = num_words
        self.problems: dict[tuple[bytes, ...], set[str]] = {}
        for benchmark in benchmarks:
            for problem in benchmark.problems:
                text = f"{problem.statement}\n{problem.solution}"
                for ngram in list_ngrams(text, num_words):
                    self.problems.setdefault(ngram, set()).add(problem.problem_id)
        generator = np.random.default_rng(0)
        values = generator.integers(1, 1 << 64, 256, np.uint64)
        values[ord("A") : ord("Z") + 1] = values[ord("a") : ord("z") + 1]
        self._is_space = np.zeros(256, np.bool_)
        self._is_space[list(b" \t\n\r\x0b\x0c")] = True
        values[self._is_space] = 0
        self._values: Hashes = values
        self._powers, self._inverses = make_powers(1 << 16)
        lines = b"\n".join(b" ".join(ngram) for ngram in self.problems)
        found, _, _ = self._hash(lines)
        # Each n-gram begins a line, so its hash is the one at every multiple of its length.
        self._known: Hashes = np.unique(found[::num_words])
        num_bits = max(20, (SLOTS_PER_NGRAM * len(self._known)).bit_length())
        self._shift = np.uint64(64 - num_bits)
        self._may_hold = np.zeros(1 << num_bits, np.bool_)
        self._may_hold[self._known >> self._shift] = True

    def find(self, texts: Sequence[str]) -> list[Overlap]:
        """Search documents; the ones that share an n-gram with a problem, in order."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        blob = b"\n".join(encoded)
        borders = np.cumsum([len(text) + 1 for text in encoded])
        found: dict[int, tuple[set[str], str]] = {}
        for start, end in self._list_candidates(blob):
            position = int(np.searchsorted(borders, start, side="right"))
            if end >= borders[position]:
                continue  # the run crosses from one document into the next
            shared = blob[start:end]
            problem_ids = self.problems.get(tuple(shared.lower().split()), set())
            if problem_ids:
                text = b" ".join(shared.split()).decode("utf-8", "replace")
                found.setdefault(position, (set(), text))[0].update(problem_ids)
        return [
            Overlap(position, tuple(sorted(problem_ids)), text)
            for position, (problem_ids, text) in sorted(found.items())
        ]

    def _list_candidates(self, blob: bytes) -> Iterator[tuple[int, int]]:
        """Start and end of every run of words whose hash is known, window by window.

        A window begins with the words in front of it that runs across its border need.
        """
        start = stop = 0
        while stop < len(blob):
            space = SPACE.search(blob, stop + WINDOW_BYTES)
            stop = space.start() if space else len(blob)
            hashes, starts, ends = self._hash(blob[start:stop])
            candidates = np.flatnonzero(self._may_hold[hashes >> self._shift])
            for first in candidates[np.isin(hashes[candidates], self._known)].tolist():
                last = first + self.num_words - 1
                yield start + int(starts[first]), start + int(ends[last])
            kept = starts[max(0, len(starts) - self.num_words + 1) :]
            start = start + int(kept[0]) if len(kept) else stop

    def _hash(self, blob: bytes) -> tuple[Hashes, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Hash of every n-gram, and where every word starts and ends.

        A word's hash is a polynomial in its bytes modulo 2^64, read off a running sum over the
        whole text and shifted to the word's start by an inverse power.
        """
        data = np.frombuffer(blob, np.uint8)
        if len(data) > len(self._powers):
            self._powers, self._inverses = make_powers(len(data))
        edges = np.flatnonzero(np.diff(self._is_space.take(data), prepend=True, append=True))
        starts, ends = edges[::2], edges[1::2]
        sums = np.zeros(len(data) + 1, np.uint64)
        np.cumsum(self._values.take(data) * self._powers[: len(data)], out=sums[1:])
        words = (sums[ends] - sums[starts]) * self._inverses[starts]
        num_ngrams = max(len(words) - self.num_words + 1, 0)
        hashes = np.zeros(num_ngrams, np.uint64)
        for offset in range(self.num_words):
            hashes = hashes * MULTIPLIER + words[offset : offset + num_ngrams]
        return hashes, starts, ends


MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that it has an inverse modulo 2^64."""


def make_powers(length: int) -> tuple[Hashes, Hashes]:
    """Powers of `MULTIPLIER` modulo 2^64 and of its inverse, exponents 0 to `length` - 1."""
    inverse = np.uint64(pow(int(MULTIPLIER), -1, 1 << 64))
    powers = []
    for base in (MULTIPLIER, inverse):
        factors = np.full(length, base)
        factors[0] = 1
        powers.append(np.cumprod(factors, dtype=np.uint64))
    return powers[0], powers[1]


@dataclass(frozen=True, slots=True)
class Document:
    """One line of a data set."""

    line_number: int
    line: bytes
    text: str


def read_documents(file: BinaryIO, name: str, columns: Sequence[str]) -> Iterator[Document]:
    """Read JSON lines; the named columns, joined, are the text.

    Raises:
        UserError: a line is no JSON object or lacks a column, or the file ends too early or is
            damaged; names file and line.
    """
    for number, line in number_lines(file, name):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{name}:{number}: not a JSON object")
        if missing := [c for c in columns if not isinstance(row.get(c), str)]:
            raise UserError(
                f"{name}:{number}: no text in column {missing[0]!r}; it has "
                f"{', '.join(map(str, row)) or 'nothing'}; name the column with --column"
            )
        yield Document(number, line, "".join(row[column] for column in columns))


def open_lines(path: Path) -> BinaryIO:
    """Open a file of JSON lines, packed with gzip or plain. Raises UserError if it cannot be."""
    try:
        return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Write a file that is there when all of it is, packed if its name ends in `.gz`.

    What is no plain file, such as `/dev/stdout` or a link, is written as it goes and stays what it
    is.

    Raises:
        UserError: it cannot be written.
    """
    is_plain = not path.is_symlink() and (path.is_file() or not path.exists())
    scratch = path.with_name(f".{path.name}.new") if is_plain else path
    try:
        with gzip.open(scratch, "wb") if path.suffix == ".gz" else scratch.open("wb") as file:
            yield cast(BinaryIO, file)
        scratch.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; name another file") from error
    finally:
        if is_plain:
            scratch.unlink(missing_ok=True)


def batch_documents(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents into batches of about `BATCH_BYTES`."""
    batch: list[Document] = []
    num_bytes = 0
    for document in documents:
        batch.append(document)
        num_bytes += len(document.text)
        if num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
