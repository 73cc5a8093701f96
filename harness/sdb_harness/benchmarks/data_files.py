"""Benchmark data that is not ours: in a local folder or fetched, checked against a pinned SHA-256.

Place in the flow: a benchmark's `load` names its `DataFile`s and reads them here. The project ships
no data; `$SDBENCH_DATA` is the folder that holds it, one sub-folder per benchmark. A file that is
missing is fetched into it from its origin, or made of it (`conversions.py`), where
`SDBENCH_DOWNLOAD=1` asks for that (which `sdbench benchmarks fetch` sets), and otherwise an error
that says how to get it; so is a file with other content, which never reaches the folder from an
origin.
"""

import gzip
import hashlib
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdb_harness.benchmarks.conversions import (
    ExerciseTree,
    HubRows,
    hash_rows,
    load_hub_rows,
    read_exercises,
    sort_rows,
)
from sdb_harness.errors import MissingData, UserError

_TIMEOUT_S = 30.0
_KINDS: dict[type, str] = {dict: "an object", list: "a list"}
_found: set[Path] = set()
"""What `find_file` found since `watch_files` was entered."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a data set on the Hugging Face hub."""

    repo: str
    name: str
    revision: str
    """A commit, for a branch or tag can move."""

    @property
    def page(self) -> str:
        """Where its terms are read and accepted."""
        return f"https://huggingface.co/datasets/{self.repo}"

    def __str__(self) -> str:
        return f"{self.page}/blob/{self.revision}/{self.name}"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One published file, or one that is made of what is published in another form."""

    path: str
    """Below the data folder, for example `mbpp/mbpp.jsonl`; that name with `.gz` will do too."""
    sha256: str
    """Of the unpacked content; of a file that is made, of its rows, see `hash_rows`."""
    origin: str | HubFile | HubRows | ExerciseTree
    """Where it is published; a string is the address of the file itself."""
    fields: tuple[str, ...] = ()
    """What a benchmark uses of a row of a file that is made, its key first; all if empty."""
    name_in_revision: str = ""
    """What names this content in a benchmark's revision, if not `sha256`."""

    @property
    def revision(self) -> str:
        """What names this content in a benchmark's revision."""
        return self.name_in_revision or self.sha256

    @property
    def path_if_fetched(self) -> str:
        """Below the data folder: `path`, with `.gz` where its origin has the file packed."""
        name = self.origin.name if isinstance(self.origin, HubFile) else self.origin
        is_packed = isinstance(name, str) and name.endswith(".gz")
        return f"{self.path.removesuffix('.gz')}.gz" if is_packed else self.path

    def describe_origin(self, folder: Path) -> str:
        """The command that fetches it into a data folder."""
        target = folder / self.path_if_fetched
        if isinstance(self.origin, HubRows | ExerciseTree):
            return (
                f"fetch it once: export SDBENCH_DATA={folder}; "
                f"sdbench benchmarks fetch {self.origin.spec}"
            )
        if isinstance(self.origin, HubFile):
            return (
                f"fetch it once: export SDBENCH_DATA={folder}; hf download {self.origin.repo} "
                f"{self.origin.name} --repo-type dataset --revision {self.origin.revision} "
                f"--local-dir {target.parent}"
            )
        return (
            f"fetch it once: export SDBENCH_DATA={folder}; mkdir -p {target.parent}; "
            f"curl -fL -o {target} {self.origin}"
        )

    def describe_replacing(self) -> str:
        """What to do where the file in the data folder is not the published one."""
        return f"remove it and {self.describe_origin(Path(os.environ['SDBENCH_DATA']))}"


def find_file(file: DataFile) -> Path | None:
    """The file in the data folder; None if there is no folder or no such file."""
    folder = os.environ.get("SDBENCH_DATA")
    if not folder:
        return None
    path = Path(folder) / file.path
    found = next((one for one in (path, path.with_name(f"{path.name}.gz")) if one.exists()), None)
    if found:
        _found.add(found)
    return found


@contextmanager
def watch_files() -> Iterator[set[Path]]:
    """The data files that are found meanwhile; not for several threads."""
    global _found
    before, _found = _found, set()
    try:
        yield _found
    finally:
        _found = before


def locate_file(file: DataFile) -> Path:
    """The file in the data folder, fetched into it first where that is asked for.

    Raises:
        MissingData: it is missing and was not to be fetched.
        UserError: it could not be fetched.
    """
    if path := find_file(file):
        return path
    folder = os.environ.get("SDBENCH_DATA")
    if os.environ.get("SDBENCH_DOWNLOAD") != "1":
        remedy = file.describe_origin(Path(folder or "data"))
        raise MissingData(
            f"{file.path} is missing; {remedy}; or SDBENCH_DOWNLOAD=1 to let this command"
        )
    if not folder:
        raise UserError(f"no folder to fetch {file.path} into; export SDBENCH_DATA=FOLDER")
    return fetch_file(file, Path(folder))


def fetch_file(file: DataFile, folder: Path) -> Path:
    """Bring a file from its origin into the data folder; other content never gets there.

    The archive of exercises stays beside what was made of it, for the other languages; one that
    lies there already is used.

    Raises:
        UserError: the origin is out of reach, gated or without the file, or holds other content.
    """
    target = folder / file.path_if_fetched
    remedy = file.describe_origin(folder)
    where, way_out = f"what {file.origin} sent for {file.path}", "nothing was kept; ask its authors"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
            path = Path(scratch) / target.name
            if isinstance(file.origin, HubRows):
                rows = load_hub_rows(file.origin, file.fields, target)
                digest = _write_rows(rows, file.fields, path)
            elif isinstance(file.origin, ExerciseTree):
                kept = target.with_name(f"{file.origin.commit}.tar.gz")
                archive = kept
                if kept.exists():
                    where, way_out = str(kept), "remove it and run this again"
                else:
                    archive = path.with_name(kept.name)
                    _fetch_from_address(
                        file.origin.archive,
                        archive,
                        f"on a machine that is: curl -fL -o {kept} {file.origin.archive}",
                    )
                rows = read_exercises(archive, file.origin.folder, where, way_out)
                digest = _write_rows(rows, file.fields, path)
                if digest == file.sha256:
                    archive.replace(kept)
            else:
                path = _download(file.origin, path, remedy)
                with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
                    digest = hashlib.file_digest(content, "sha256").hexdigest()
            if digest != file.sha256:
                raise UserError(describe_mismatch(where, digest, file.sha256, way_out))
            path.replace(target)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot fetch {file.path} into {folder}: {error}; {remedy}") from error
    return target


def _write_rows(rows: Sequence[Any], fields: Sequence[str], path: Path) -> str:
    """Write rows as JSON lines, or as one JSON list where they have no fields; their hash."""
    rows = sort_rows(rows, fields)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(lines) if fields else f"[{', '.join(lines)}]"
    path.write_text(f"{text}\n", encoding="utf-8")
    return hash_rows(rows, fields)


def _download(origin: str | HubFile, path: Path, remedy: str) -> Path:
    """Download one file as it is. Raises UserError."""
    if isinstance(origin, HubFile):
        return _fetch_from_hub(origin, path.parent, remedy)
    return _fetch_from_address(origin, path, remedy)


def _fetch_from_hub(origin: HubFile, folder: Path, remedy: str) -> Path:
    """Download one file of a data set. Raises UserError."""
    import huggingface_hub  # slow, and only needed here
    from huggingface_hub import errors
    from huggingface_hub.utils import logging as hub_logging

    # It tells of every retry; what is left after the last one is raised.
    hub_logging.set_verbosity(logging.ERROR)
    where = f"{origin.name} of {origin.repo}"
    try:
        path = huggingface_hub.hf_hub_download(
            origin.repo,
            origin.name,
            repo_type="dataset",
            revision=origin.revision,
            local_dir=folder,
        )
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if isinstance(error, errors.GatedRepoError) or status in (401, 403):
            raise UserError(
                f"the hub gives {where} only to whom its authors let in; accept the terms at "
                f"{origin.page}, then `hf auth login` or export HF_TOKEN, and run this again"
            ) from None
        raise UserError(
            f"the hub answers {status} for {where} at revision {origin.revision}; see "
            f"{origin.page} for what became of it"
        ) from None
    except Exception as error:  # its transport's errors are other classes in each of its versions
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"cannot reach the hub for {where} ({reason}); go online (and unset HF_HUB_OFFLINE), "
            f"or on a machine that is: {remedy}"
        ) from error
    return Path(path)


def _fetch_from_address(address: str, path: Path, remedy: str) -> Path:
    """Download a file. Raises UserError."""
    import httpx  # slow, and only needed here

    try:
        with httpx.stream("GET", address, follow_redirects=True, timeout=_TIMEOUT_S) as response:
            response.raise_for_status()
            with path.open("wb") as file:
                for part in response.iter_bytes():
                    file.write(part)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise UserError(f"{address} answers {status}; ask its authors for the file") from None
    except httpx.HTTPError as error:
        raise UserError(f"cannot reach {address} ({error}); go online, or {remedy}") from None
    return path


def read_rows(file: DataFile) -> list[Any]:
    """Read JSON lines, or one JSON list, from the data folder.

    Of a file that is made, only what is pinned is given: its `fields`, in the order of its keys.

    Raises:
        UserError: the file is missing, damaged or not the published one.
    """
    path = locate_file(file)
    remedy = file.describe_replacing()
    is_made = isinstance(file.origin, HubRows | ExerciseTree)
    content = read_unpacked(path, remedy) if is_made else read_pinned(path, file.sha256, remedy)
    if content.startswith(b"["):
        (rows,) = _parse_lines(path, [content], list, remedy)
    else:
        rows = list(_parse_lines(path, content.split(b"\n"), dict, remedy))
    if not is_made:
        return list(rows)
    try:
        if file.fields:
            rows = [{field: row[field] for field in file.fields} for row in rows]
        rows = sort_rows(rows, file.fields)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: a row lacks {error}; {remedy}") from None
    digest = hash_rows(rows, file.fields)
    if digest != file.sha256:
        raise UserError(describe_mismatch(str(path), digest, file.sha256, remedy))
    return rows


def read_json_lines(name: str, remedy: str) -> tuple[Path, list[dict[str, Any]]]:
    """Path and rows of a file of the user's in the data folder; its content is not checked.

    Args:
        name: Path below the data folder; the same with `.gz` will do too.
        remedy: What to do where the file is missing.

    Raises:
        MissingData: the file is missing.
        UserError: it is damaged, or a line is not a JSON object (with its number).
    """
    folder = os.environ.get("SDBENCH_DATA")
    path = find_file(DataFile(name, sha256="", origin=""))
    if path is None:
        where = f"in {folder}" if folder else "(export SDBENCH_DATA=FOLDER to say where it lies)"
        raise MissingData(f"{name} is missing {where}; {remedy}")
    return path, list(_parse_lines(path, read_unpacked(path, remedy).split(b"\n"), dict, remedy))


def number_lines(file: Iterable[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and bytes of each line of an open file, packed or not.

    Raises:
        UserError: the file is damaged.
    """
    number = 0
    try:
        for number, line in enumerate(file, 1):
            yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{name}: cannot be read behind line {number}: {error}; fetch or pack it again"
        ) from None


def _parse_lines(path: Path, lines: Iterable[bytes], kind: type, remedy: str) -> Iterator[Any]:
    """The JSON values of a file, all of one kind. Raises UserError, with the line's number."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: not JSON ({error}); {remedy}") from None
        if not isinstance(value, kind):
            raise UserError(f"{path}:{number}: not {_KINDS[kind]}; {remedy}")
        yield value


def read_pinned(path: Path, sha256: str, remedy: str) -> bytes:
    """Content of a file, unpacked if it ends in `.gz`, checked against its hash.

    Raises:
        UserError: the file is missing, damaged or holds other data; `remedy` says what to do.
    """
    content = read_unpacked(path, remedy)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise UserError(describe_mismatch(str(path), digest, sha256, remedy))
    return content


def describe_mismatch(where: str, digest: str, sha256: str, remedy: str) -> str:
    """The line that says what has other content than was pinned, and what to do."""
    return (
        f"{where} is not the published data: SHA-256 {digest[:12]}... instead of {sha256[:12]}...; "
        f"{remedy}"
    )


def read_unpacked(path: Path, remedy: str) -> bytes:
    """Content of a file, unpacked if it ends in `.gz`. Raises UserError if that cannot be."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}; {remedy}") from error
