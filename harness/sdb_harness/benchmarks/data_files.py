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
    """Below the data folder, for example `mbpp/mbpp.jsonl`; that name with `.gz` will do too."""
    sha256: str
    """Of the unpacked content."""
    url: str
    """Where its authors publish it."""


def find_file(file: DataFile) -> Path | None:
    """The file in the data folder; None if there is no folder or no such file."""
    folder = os.environ.get("SDBENCH_DATA")
    if not folder:
        return None
    path = Path(folder) / file.path
    return next(
        (found for found in (path, path.with_name(f"{path.name}.gz")) if found.exists()), None
    )


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


def read_json_lines(name: str, remedy: str) -> tuple[Path, list[dict[str, Any]]]:
    """Path and rows of a file of the user's in the data folder; its content is not checked.

    Args:
        name: Path below the data folder; the same with `.gz` will do too.
        remedy: What to do where the file is missing.

    Raises:
        UserError: the file is missing or damaged, or a line is not a JSON object (with its number).
    """
    folder = os.environ.get("SDBENCH_DATA")
    path = find_file(DataFile(name, "", ""))
    if path is None:
        where = f"in {folder}" if folder else "(export SDBENCH_DATA=FOLDER to say where it lies)"
        raise UserError(f"{name} is missing {where}; {remedy}")
    rows = []
    for number, line in enumerate(read_unpacked(path, remedy).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: not JSON ({error}); {remedy}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: not an object; {remedy}")
        rows.append(row)
    return path, rows


def read_pinned(path: Path, sha256: str, remedy: str) -> bytes:
    """Content of a file, unpacked if it ends in `.gz`, checked against its hash.

    Raises:
        UserError: the file is missing, damaged or holds other data; `remedy` says what to do.
    """
    content = read_unpacked(path, remedy)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise UserError(
            f"{path} is not the published data: SHA-256 {digest[:12]}... instead of "
            f"{sha256[:12]}...; {remedy}"
        )
    return content


def read_unpacked(path: Path, remedy: str) -> bytes:
    """Content of a file, unpacked if it ends in `.gz`. Raises UserError if that cannot be."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}; {remedy}") from error
