"""Rows are made of what is published in other forms, and known by the fields that are used.

The data sets are real ones of `datasets` in a folder, in the hub's layout; the archives come from a
server on this machine that answers like GitHub.
"""

import gzip
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from click.testing import CliRunner

from sdb_harness.benchmarks import aider_edit, aider_polyglot, bigcodebench, canitedit
from sdb_harness.benchmarks.aider import FIELDS
from sdb_harness.benchmarks.conversions import (
    ExerciseTree,
    HubRows,
    hash_rows,
    load_hub_rows,
    read_exercises,
)
from sdb_harness.benchmarks.data_files import DataFile, fetch_file, read_rows
from sdb_harness.cli import main
from sdb_harness.errors import UserError

datasets = pytest.importorskip("datasets", reason="the package datasets reads the hub's rows")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {"solution": ["leap.py"], "test": ["leap_test.py"], "example": [".meta/example.py"]}
EXERCISE = {
    ".docs/instructions.md": "Naïve\u2028rules.\r\n",
    ".meta/config.json": json.dumps({"authors": ["a"], "files": CONFIG}),
    ".meta/example.py": "LEAP = 4\n",
    "leap.py": "",
    "leap_test.py": "import unittest\n",
}
ROW = {"name": "leap", **CONFIG, "files": EXERCISE}
ROWS = [{**ROW, "name": "two-fer"}, {**ROW, "name": "two"}]


def pack(files: Mapping[str, bytes]) -> bytes:
    """An archive as GitHub makes it: one folder around everything."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(f"repository-{COMMIT}/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


ARCHIVE = pack(
    {
        "README.md": b"no exercise",
        "python/exercises/shared/README.md": b"none either",
        **{
            f"python/exercises/practice/{name}/{path}": text.encode()
            for name in ("two", "two-fer")
            for path, text in EXERCISE.items()
        },
        "python/exercises/practice/two/tool.jar": b"\xff\x00",
        "python/exercises/practice/two/test/catch.hpp": b"third party",
    }
)


@dataclass
class Host:
    """A server that holds one archive."""

    url: str = ""
    content: bytes = ARCHIVE
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(host.content)))
            self.end_headers()
            self.wfile.write(host.content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the log would go to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host.url = f"http://127.0.0.1:{server.server_port}/o/repository"
        yield host
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SDBENCH_DOWNLOAD", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "data"


def describe_tree(host: Host, name: str = "python", folder: str = "python") -> DataFile:
    tree = ExerciseTree("aider_x", host.url, COMMIT, f"{folder}/exercises/practice")
    return DataFile(f"aider_x/{name}.jsonl", hash_rows(ROWS, FIELDS), tree, FIELDS, "old")


def test_exercises_are_made_of_an_archive_that_serves_every_language(
    folder: Path, host: Host
) -> None:
    file = describe_tree(host)
    assert file.revision == "old"
    assert read_rows(file) == ROWS
    assert read_rows(describe_tree(host, "other")) == ROWS
    assert host.asked == [f"/o/repository/archive/{COMMIT}.tar.gz"]
    assert sorted(path.name for path in (folder / "aider_x").iterdir()) == [
        f"{COMMIT}.tar.gz",
        "other.jsonl",
        "python.jsonl",
    ]
    (archive,) = folder.glob("*/*.gz")
    first, second = read_exercises(archive, "python/exercises/practice", "", "")
    assert first["skipped"] == ["test/catch.hpp", "tool.jar"]
    assert second["skipped"] == []


def test_an_archive_with_other_content_is_one_line_and_leaves_nothing(
    folder: Path, host: Host
) -> None:
    file = describe_tree(host)
    answers = {
        b"<html>moved</html>": r"cannot read the exercises in what python/exercises/practice of "
        r"http.* at commit 0123.* sent for aider_x/python.jsonl: ReadError.*nothing was kept",
        ARCHIVE[:-90]: "cannot read the exercises .*nothing was kept",
        pack({"python/exercises/practice/two/leap.py": b""}): r"KeyError.*config.json",
        pack({"python/exercises/practice/two/.meta/config.json": b"[]"}): "TypeError.*kept",
        pack({"README.md": b""}): "no exercises in what .*nothing was kept",
        pack({f"python/exercises/practice/two/{p}": t.encode() for p, t in EXERCISE.items()}): (
            r"sent for aider_x/python.jsonl is not the published data: .*nothing was kept"
        ),
    }
    for content, message in answers.items():
        host.content = content
        with pytest.raises(UserError, match=message) as caught:
            read_rows(file)
        assert "\n" not in str(caught.value)
        assert not list((folder / "aider_x").iterdir())
    kept = folder / "aider_x" / f"{COMMIT}.tar.gz"
    kept.write_bytes(content)
    with pytest.raises(UserError, match=rf"{kept} is not the published.*; remove it and run this"):
        read_rows(file)
    gone = replace(file.origin, url="http://127.0.0.1:9")  # type: ignore[type-var]
    kept.unlink()
    with pytest.raises(UserError, match=rf"cannot reach .*go online, or .* curl -fL -o {kept} htt"):
        read_rows(replace(file, origin=gone))


def test_a_file_of_the_users_own_is_as_good_if_its_used_fields_are(
    folder: Path, host: Host
) -> None:
    file = describe_tree(host)
    path = folder / "aider_x" / "python.jsonl.gz"
    path.parent.mkdir(parents=True)
    files = dict(reversed(EXERCISE.items()))
    own = [{"note": "x", **dict(reversed(row.items())), "files": files} for row in reversed(ROWS)]

    def write(rows: list[dict[str, Any]]) -> None:
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))

    write(own)
    assert read_rows(file) == ROWS
    write([{**own[0], "solution": ["other.py"]}, own[1]])
    with pytest.raises(
        UserError, match=rf"{path} is not the published data.*; remove it and fetch"
    ):
        read_rows(file)
    write(own[:1])
    with pytest.raises(UserError, match="is not the published data"):
        read_rows(file)
    write([own[0], {"name": "two"}])
    with pytest.raises(UserError, match="a row lacks 'solution'; remove it and fetch it once: exp"):
        read_rows(file)
    path.write_bytes(gzip.compress(json.dumps(own[0]).encode() + b"\n{'name'}\n"))
    with pytest.raises(UserError, match=rf"{path}:2: not JSON .*; remove it") as caught:
        read_rows(file)
    assert "\n" not in str(caught.value)
    assert host.asked == []


def test_missing_data_names_the_command_that_makes_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDBENCH_DOWNLOAD", "0")
    files = [aider_edit.DATA, canitedit.DATA, bigcodebench.HARD_IDS, *aider_polyglot.FILES.values()]
    for file in [*files, bigcodebench.VERSIONS["v0.1.4"]]:
        assert isinstance(file.origin, HubRows | ExerciseTree)
        command = f"sdbench benchmarks fetch {file.origin.spec}"
        with pytest.raises(UserError, match=rf"{file.path} is missing; fetch .*; {command}; or S"):
            read_rows(file)
        assert len(getattr(file.origin, "revision", "") or getattr(file.origin, "commit", "")) == 40


HUB_ROWS = [
    {"id": 10, "text": "b\u2028\r\n", "taxonomy": {"kind": "x"}},
    {"id": 9, "text": "a", "taxonomy": {"kind": "y"}},
]


def publish(rows: list[dict[str, Any]], folder: Path, split: str) -> None:
    """A data set in the hub's layout, beside a split of other rows."""
    for name, content in ((split, rows), ("v0.1.0_hf", rows[:1])):
        path = folder / "data" / f"{name}-00000-of-00001.parquet"
        datasets.Dataset.from_list(content).to_parquet(path)


def test_rows_of_a_hub_data_set_are_made_a_file(folder: Path, tmp_path: Path) -> None:
    publish(HUB_ROWS, tmp_path / "set", "v0.1.4")
    origin = HubRows("x", str(tmp_path / "set"), "v0.1.4", COMMIT)
    wanted = [{"id": 9, "text": "a"}, {"id": 10, "text": "b\u2028\r\n"}]
    file = DataFile("x/rows.jsonl", hash_rows(wanted, ("id", "text")), origin, ("id", "text"))
    assert read_rows(file) == wanted
    assert [path.name for path in (folder / "x").iterdir()] == ["rows.jsonl"]
    ids = DataFile("x/ids.json", hash_rows([9, 10], ()), replace(origin, column="id"))
    assert read_rows(ids) == [9, 10]
    assert json.loads((folder / "x" / "ids.json").read_text()) == [9, 10]
    with pytest.raises(UserError, match=r"split v0.1.4 of the hub's .* at revision 0123.* sent fo"):
        read_rows(replace(file, path="x/new.jsonl", sha256="0" * 64))
    for wrong in (replace(origin, split="v9"), replace(origin, repo=f"{tmp_path}/none")):
        with pytest.raises(
            UserError, match=r"cannot load split v.*fetch x` on a machine"
        ) as caught:
            read_rows(replace(file, path="x/new.jsonl", origin=wrong))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"cannot load split v0.1.4 .*absent"):
        read_rows(replace(file, path="x/new.jsonl", fields=("id", "absent")))
    assert not (folder / "x" / "new.jsonl").exists()


def test_the_hub_is_asked_for_the_pinned_revision(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(HUB_ROWS, tmp_path / "set", "test")
    asked, load = [], datasets.load_dataset

    def watch(repo: str, *, split: str, revision: str) -> Any:
        asked.append((repo, split, revision))
        return load(repo, split=split, revision=revision)

    monkeypatch.setattr(datasets, "load_dataset", watch)
    origin = HubRows("x", str(tmp_path / "set"), "test", COMMIT)
    assert len(load_hub_rows(origin, ("id",), folder)) == 2
    assert asked == [(origin.repo, "test", COMMIT)]


def test_a_gated_data_set_says_where_its_terms_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(repo: str, **options: str) -> None:
        raise datasets.exceptions.DatasetNotFoundError(
            f"Dataset '{repo}' is a gated dataset on the Hub. You must be authenticated."
        )

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    where = "huggingface.co/datasets/some/set, then `hf auth login`"
    with pytest.raises(UserError, match=f"gated dataset.*accept the terms at https://{where}"):
        load_hub_rows(HubRows("x", "some/set", "test", COMMIT), ("id",), folder)


def test_being_offline_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    result = CliRunner().invoke(main, ["benchmarks", "fetch", "canitedit"])
    assert result.exit_code == 2
    assert "cannot load split test of the hub's nuprl/CanItEdit at revision 3c07f38b" in (
        result.output
    )
    assert "go online (and unset HF_HUB_OFFLINE)" in result.output
    assert "Traceback" not in result.output
    assert not list((folder / "canitedit").iterdir())


DATA = Path(os.environ.get("SDBENCH_DATA", "/none"))


@pytest.mark.parametrize(
    "file", [canitedit.DATA, bigcodebench.VERSIONS["v0.1.4"], bigcodebench.HARD_IDS]
)
def test_the_published_rows_go_through_parquet_unchanged(
    file: DataFile, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(file.origin, HubRows)
    if not (DATA / file.path).parent.is_dir():
        pytest.skip("the published files are not in $SDBENCH_DATA")
    monkeypatch.setenv("SDBENCH_DATA", str(DATA))
    rows = read_rows(file)
    publish(
        [row if isinstance(row, dict) else {"task_id": row} for row in reversed(rows)],
        tmp_path / "set",
        file.origin.split,
    )
    local = replace(file, origin=replace(file.origin, repo=str(tmp_path / "set")))
    monkeypatch.setenv("SDBENCH_DATA", str(folder))
    assert read_rows(local) == rows


@pytest.mark.parametrize("file", [aider_edit.DATA, *aider_polyglot.FILES.values()])
def test_the_archives_of_the_repositories_give_the_published_exercises(
    file: DataFile, folder: Path
) -> None:
    """With files made by `git archive --prefix=x/ -o COMMIT.tar.gz COMMIT`, or GitHub's own."""
    assert isinstance(file.origin, ExerciseTree)
    archive = (DATA / file.path).with_name(f"{file.origin.commit}.tar.gz")
    if not archive.exists():
        pytest.skip(f"no {archive.name} beside the published file in $SDBENCH_DATA")
    target = folder / file.path
    target.parent.mkdir(parents=True)
    target.with_name(archive.name).write_bytes(archive.read_bytes())
    assert fetch_file(file, folder) == target
    assert read_rows(file)
