"""Benchmark data that is not ours: found in a local folder, checked against a pinned SHA-256.

Place in the flow: a benchmark's `load` names its `DataFile`s and reads them here. The project ships
no data; `$SDBENCH_DATA` is the folder that holds it, one sub-folder per benchmark. A file that is
missing or has other content is an error that says what to fetch and where to put it.
"""

import gzip
import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdb_harness.errors import UserError


@dataclass(frozen=True, slots=True)
class DataFile:
    """One published file."""

    path: str
    """Below the data folder, for example `mbpp/mbpp.jsonl.gz`; `.gz` is unpacked."""
    sha256: str
    """Of the unpacked content."""
    url: str
    """Where its authors publish it."""


def find_file(file: DataFile) -> Path | None:
    """The file in the data folder; None if there is no folder or no such file."""
    folder = os.environ.get("SDBENCH_DATA")
    path = Path(folder) / file.path if folder else None
    return path if path is not None and path.exists() else None


def read_rows(file: DataFile) -> list[dict[str, Any]]:
    """Read JSON lines, or one JSON list, from the data folder.

    Raises:
        UserError: the file is missing, damaged or not the published one.
    """
    path = find_file(file)
    if path is None:
        folder = os.environ.get("SDBENCH_DATA") or "data"
        target = Path(folder) / file.path
        raise UserError(
            f"{file.path} is missing; fetch it once: export SDBENCH_DATA={folder}; mkdir -p "
            f"{target.parent}; curl -L -o {target} {file.url}"
        )
    text = read_pinned(path, file.sha256, f"fetch it again from {file.url}").decode()
    if text.startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def read_pinned(path: Path, sha256: str, remedy: str) -> bytes:
    """Content of a file, unpacked if it ends in `.gz`, checked against its hash.

    Raises:
        UserError: the file is missing, damaged or holds other data; `remedy` says what to do.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}; {remedy}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise UserError(
            f"{path} is not the published data: SHA-256 {digest[:12]}... instead of "
            f"{sha256[:12]}...; {remedy}"
        )
    return content
