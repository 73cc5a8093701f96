"""Benchmark data that is published in another form than JSON lines, and how rows are made of it.

Place in the flow: `data_files.py` names these origins, writes the rows as JSON lines into the data
folder, and knows them by the SHA-256 of the fields that a benchmark uses, so that a file which a
user made in another way is as good. Source: data sets of the Hugging Face hub through `datasets`,
and trees of Exercism's exercises, each at a pinned commit.

What it does not do: it unpacks nothing into a folder, and it runs nothing of what it reads.
"""

import hashlib
import json
import logging
import re
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdb_harness.errors import UserError


@dataclass(frozen=True, slots=True)
class HubRows:
    """A split of a data set on the Hugging Face hub."""

    spec: str
    """The benchmark that `sdbench benchmarks fetch` is given to make the file."""
    repo: str
    split: str
    revision: str
    """A commit, for a branch or tag can move."""
    column: str = ""
    """The column whose values alone are the rows; if empty, a row has the columns it is asked."""

    def __str__(self) -> str:
        return f"split {self.split} of the hub's {self.repo} at revision {self.revision}"


@dataclass(frozen=True, slots=True)
class ExerciseTree:
    """A folder of a repository that holds one of Exercism's exercises in each of its folders."""

    spec: str
    """The benchmark that `sdbench benchmarks fetch` is given to make the file."""
    url: str
    """Of the repository, in GitHub's manner."""
    commit: str
    folder: str

    @property
    def archive(self) -> str:
        """The address of everything at that commit."""
        return f"{self.url}/archive/{self.commit}.tar.gz"

    def __str__(self) -> str:
        return f"{self.folder} of {self.url} at commit {self.commit}"


def load_hub_rows(origin: HubRows, fields: Sequence[str], target: Path) -> list[Any]:
    """The rows of a split with these fields.

    Raises:
        UserError: the package `datasets` is missing, the hub is out of reach, or there is no such
            split or column.
    """
    try:
        import datasets  # slow, and only needed here
    except ImportError:
        raise UserError(
            "data of the hub is read by the package datasets; pip install datasets, then run this "
            "again"
        ) from None
    datasets.disable_progress_bars()
    # It tells of every retry; what is left after the last one is raised.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        found = datasets.load_dataset(origin.repo, split=origin.split, revision=origin.revision)
        if origin.column:
            return list(found[origin.column])
        return list(found.select_columns(list(fields)))
    except Exception as error:  # other classes in each of its versions, and its transport's
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        if "gated" in reason:
            raise UserError(
                f"the hub gives {origin} only to whom its authors let in ({reason}); accept the "
                f"terms at https://huggingface.co/datasets/{origin.repo}, then `hf auth login` or "
                "export HF_TOKEN, and run this again"
            ) from None
        raise UserError(
            f"cannot load {origin} ({reason}); go online (and unset HF_HUB_OFFLINE), or run "
            f"`sdbench benchmarks fetch {origin.spec}` on a machine that is, and copy its {target} "
            "here"
        ) from error


def read_exercises(archive: Path, folder: str, where: str, remedy: str) -> list[dict[str, Any]]:
    """One row for each exercise in an archive of a repository.

    A row has its `name`, the paths `solution`, `test` and `example` as its configuration lists
    them, `files` (path -> text), and in `skipped` the paths left out: what is no text, and Catch 2,
    a third party's program of half a megabyte that stands in each exercise in C++.

    Args:
        archive: A tar file with one folder around everything, as GitHub makes it.
        folder: The folder of exercises in there.
        where: What an error calls the archive.
        remedy: What to do about it.

    Raises:
        UserError: it is damaged, or there are no exercises in it.
    """
    exercises: dict[str, dict[str, bytes]] = defaultdict(dict)
    try:
        with tarfile.open(archive) as content:
            for member in content:
                path = member.name.partition("/")[2]
                if member.isfile() and path.startswith(f"{folder}/"):
                    name, _, path = path.removeprefix(f"{folder}/").partition("/")
                    file = content.extractfile(member)
                    assert file is not None, "it is a file"
                    exercises[name][path] = file.read()
        rows = [make_row(name, files) for name, files in exercises.items()]
    except (
        OSError,
        EOFError,
        zlib.error,
        tarfile.TarError,
        ValueError,
        LookupError,
        TypeError,  # JSON of another shape
    ) as error:
        raise UserError(f"cannot read the exercises in {where}: {error!r}; {remedy}") from error
    if not rows:
        raise UserError(f"no exercises in {where}; {remedy}")
    return rows


def make_row(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The row of one exercise. Raises KeyError or ValueError if its configuration is not there."""
    config = json.loads(files[".meta/config.json"])["files"]
    texts, skipped = {}, []
    for path, content in sorted(files.items()):
        try:
            if path.endswith("/catch.hpp"):
                raise UnicodeError
            texts[path] = content.decode()
        except UnicodeError:
            skipped.append(path)
    kinds = {kind: config[kind] for kind in ("solution", "test", "example")}
    return {"name": name, **kinds, "files": texts, "skipped": skipped}


def sort_rows(rows: Sequence[Any], fields: Sequence[str]) -> list[Any]:
    """Rows by their first field, or by themselves where they have none: numbers as numbers.

    Names come as those of folders do in a listing of all files: `binary-search` before `binary`.
    """

    def find_key(row: Any) -> list[Any]:
        parts = re.split(r"(\d+)", f"{row[fields[0]] if fields else row}/")
        return [int(part) if part.isdecimal() else part for part in parts]

    return sorted(rows, key=find_key)


def hash_rows(rows: Sequence[Any], fields: Sequence[str]) -> str:
    """SHA-256 of these fields of each row, or of rows without fields, in a canonical form."""
    digest = hashlib.sha256()
    for row in rows:
        used = [row[field] for field in fields] if fields else row
        digest.update(json.dumps(used, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()
