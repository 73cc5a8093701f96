"""The error tree of the harness, and what each kind costs.

    HarnessError
    |-- UserError            wrong input: one line (what, what is allowed, what to do), exit 2
    |   |-- MissingData      the data of a benchmark are not there; the message says how to get them
    |   `-- StoreError       the store cannot be used: damaged, locked, full, not writable
    `-- ConflictError        ours: two different rows claim the same key; nothing is overwritten

A wrong answer of a model is none of these: it is data, a verdict. An infrastructure fault (a server
that hung up, a sandbox that broke) is not raised either: it is retried once, stored as a fault,
counted apart, and makes the exit status 1.
"""

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Base of everything the harness raises on purpose."""


class UserError(HarnessError, ValueError):
    """The input is wrong; the message says what is allowed and what to do."""


class MissingData(UserError):
    """The data of a benchmark are not there: no fault of theirs, and no verdict on anything."""


class StoreError(UserError):
    """The store cannot be read or written; what was stored before is untouched."""


class ConflictError(HarnessError):
    """A row with the same key and another content exists already."""


def spell_error(error: Exception) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def name_nearest(word: str, allowed: Iterable[str]) -> str:
    """Say which of `allowed` was probably meant, and list them all.

    Returns:
        A clause for an error message: `did you mean 'minipy'? allowed: humaneval, minipy`.
    """
    names = sorted(allowed)
    nearest = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    question = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{question}allowed: {', '.join(names)}"
