"""Data comes from the user's folder, or is fetched where asked, with the published content only.

Downloads are real, from a server on this machine that answers like a plain host and like the hub.
"""

import functools
import gzip
import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from click.testing import CliRunner

from sdb_harness.benchmarks import BENCHMARKS, FILE_BENCHMARKS, humaneval_plus, load_benchmark
from sdb_harness.benchmarks.data_files import (
    DataFile,
    HubFile,
    find_file,
    read_pinned,
    read_rows,
)
from sdb_harness.cli import main
from sdb_harness.errors import MissingData, UserError

CONTENT = b'{"id": 1}\n\n{"id": 2}\n'
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = DataFile("set/rows.jsonl", SHA256, "https://example.org/r.gz")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    monkeypatch.delenv("SDBENCH_DOWNLOAD", raising=False)
    (tmp_path / "set").mkdir()
    return tmp_path


def test_reads_lines_and_lists_packed_and_plain(folder: Path) -> None:
    (folder / "set" / "rows.jsonl.gz").write_bytes(gzip.compress(CONTENT))
    assert find_file(FILE) == folder / "set" / "rows.jsonl.gz"
    assert read_rows(FILE) == [{"id": 1}, {"id": 2}]
    listed = b'[{"id": 3}]'
    (folder / "list.json").write_bytes(listed)
    file = DataFile("list.json", hashlib.sha256(listed).hexdigest(), "")
    assert read_rows(file) == [{"id": 3}]


def test_missing_data_says_what_to_fetch_and_where_to_put_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError,
        match=r"curl -fL -o .*/set/rows\.jsonl\.gz https://example\.org/r\.gz; or SDB",
    ):
        read_rows(FILE)
    monkeypatch.delenv("SDBENCH_DATA")
    assert find_file(FILE) is None
    with pytest.raises(UserError, match="export SDBENCH_DATA=data;"):
        read_rows(FILE)


def test_other_content_and_damage_are_one_line(folder: Path) -> None:
    path = folder / "set" / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(CONTENT + b"{}"))
    with pytest.raises(UserError, match=r"not the published data.*; remove it and fetch"):
        read_rows(FILE)
    for content in (gzip.compress(CONTENT)[:-9], b"no gzip"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*rows.jsonl.gz") as caught:
            read_rows(FILE)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"cannot read .*missing"):
        read_pinned(folder / "missing", FILE.sha256, "try again")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Origin(BaseHTTPRequestHandler):
    """Serves `CONTENT` packed; below `datasets/` in the hub's manner, refusals included."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        status, refusal = 200, ""
        if "/gated/" in self.path:
            status, refusal = 403, "GatedRepo"
        elif "/private/" in self.path:
            status = 401
        elif "/absent" in self.path:
            status, refusal = 404, "EntryNotFound"
        elif "/datasets/" in self.path and COMMIT not in self.path:
            status, refusal = 404, "RevisionNotFound"
        body = b"<html>moved</html>" if "/moved" in self.path else gzip.compress(CONTENT, mtime=0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if refusal:
            self.send_header("X-Error-Code", refusal)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: -9 if "/cut" in self.path else None])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the log would go to the terminal."""


@pytest.fixture
def address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of the server, to which the hub's own client goes as well; downloads are asked for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        download = functools.partial(huggingface_hub.hf_hub_download, endpoint=address)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setenv("SDBENCH_DOWNLOAD", "1")
        yield address
        server.shutdown()


def test_missing_data_is_fetched_where_asked_and_then_stays(folder: Path, address: str) -> None:
    origins: tuple[str | HubFile, ...] = (
        f"{address}/rows.jsonl.gz",
        HubFile("some/set", "rows.jsonl.gz", COMMIT),
    )
    for number, origin in enumerate(origins):
        file = DataFile(f"new{number}/rows.jsonl", SHA256, origin)
        assert read_rows(file) == [{"id": 1}, {"id": 2}]
        assert list((folder / f"new{number}").iterdir()) == [folder / file.path_if_fetched]
    gone = DataFile("new1/rows.jsonl", SHA256, HubFile("some/set", "absent", COMMIT))
    assert read_rows(gone) == [{"id": 1}, {"id": 2}]


def test_nothing_is_fetched_unasked_nor_without_a_folder(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_file = DataFile("set/rows.jsonl", SHA256, HubFile("some/set", "rows.jsonl", COMMIT))
    for value in ("", "0"):
        monkeypatch.setenv("SDBENCH_DOWNLOAD", value)
        command = f"hf download some/set rows.jsonl --repo-type dataset --revision {COMMIT} --local"
        with pytest.raises(UserError, match=rf"missing; .*{command}.*SDBENCH_DOWNLOAD=1"):
            read_rows(hub_file)
    monkeypatch.setenv("SDBENCH_DOWNLOAD", "1")
    monkeypatch.delenv("SDBENCH_DATA")
    with pytest.raises(UserError, match="export SDBENCH_DATA=FOLDER"):
        read_rows(hub_file)
    assert not list((folder / "set").iterdir())


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        (HubFile("gated/set", "rows", COMMIT), "accept the terms at https://hugg.*hf auth login"),
        (HubFile("private/set", "rows", COMMIT), "accept the terms at https://hugg.*HF_TOKEN"),
        (HubFile("some/set", "absent", COMMIT), f"answers 404 for absent of some/set .*{COMMIT}"),
        (HubFile("some/set", "rows", "f" * 40), "answers 404 for rows of some/set at revision fff"),
        (HubFile("some/set", "moved", COMMIT), "set/blob/.* is not the published data.*not.* kept"),
        ("ADDRESS/moved", "/moved sent for set/rows.jsonl is not the published data"),
        ("ADDRESS/moved.gz", "cannot fetch set/rows.jsonl .*: Not a gzipped file"),
        ("ADDRESS/cut", "cannot reach http.*/cut .*go online"),
        ("ADDRESS/absent", "/absent answers 404; ask its authors"),
        ("http://127.0.0.1:9/rows", "cannot reach http://127.0.0.1:9/rows .*go online"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_and_leaves_nothing(
    folder: Path, address: str, origin: str | HubFile, message: str
) -> None:
    if isinstance(origin, str):
        origin = origin.replace("ADDRESS", address)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(DataFile("set/rows.jsonl", SHA256, origin))
    assert "\n" not in str(caught.value)
    assert not list((folder / "set").iterdir())


def test_the_hub_does_not_tell_of_its_retries() -> None:
    code = (
        "import logging, pathlib\n"
        "from sdb_harness.benchmarks import data_files\n"
        "try:\n"
        "    data_files._fetch_from_hub(data_files.HubFile('a/b', 'c', 'd'), pathlib.Path(), '')\n"
        "except data_files.UserError:\n"
        "    import huggingface_hub.utils._http\n"
        "    print(logging.getLogger('huggingface_hub.utils._http').getEffectiveLevel())\n"
    )
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True)
    assert done.stdout == f"{logging.ERROR}\n", done.stderr


def test_being_offline_or_cut_off_is_one_line(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    file = DataFile("set/rows.jsonl", SHA256, HubFile("some/set", "rows.jsonl", COMMIT))
    with pytest.raises(UserError, match=r"cannot reach the hub .*HF_HUB_OFFLINE.*: fetch it once"):
        read_rows(file)

    def break_off(*args: object, **options: object) -> str:
        raise httpx.ReadError("cut\noff")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", break_off)
    with pytest.raises(
        UserError, match=r"cannot reach the hub for rows.jsonl of some/set \(cut\);"
    ):
        read_rows(file)


def test_the_command_fetches_what_a_benchmark_needs(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SDBENCH_DOWNLOAD")
    file = DataFile("evalplus/HumanEvalPlus.jsonl", SHA256, f"{address}/moved")
    monkeypatch.setitem(humaneval_plus.VERSIONS, "v0.1.10", file)
    result = CliRunner().invoke(main, ["benchmarks", "fetch", "humaneval_plus"])
    assert result.exit_code == 2
    assert "/moved sent for evalplus/HumanEvalPlus.jsonl is not the published" in result.output
    done = CliRunner().invoke(main, ["benchmarks", "fetch", "minipy:num_problems=5"])
    assert done.exit_code == 0
    assert done.output.startswith("minipy")


@pytest.mark.skipif(
    not (Path(os.environ.get("SDBENCH_DATA", "")) / "mbpp").is_dir(),
    reason="the published files are not in $SDBENCH_DATA",
)
@pytest.mark.parametrize("name", sorted(BENCHMARKS.keys() - FILE_BENCHMARKS))
def test_every_benchmark_says_which_data_it_has(name: str) -> None:
    try:
        benchmark = load_benchmark(name)
    except MissingData:
        pytest.skip("its data come from the user")
    assert benchmark.version
    assert benchmark.split
    assert benchmark.licence
    assert benchmark.citation
    named = f"{name} {benchmark.version} {benchmark.split}: {len(benchmark.problems)} problems"
    assert benchmark.describe().startswith(named)
