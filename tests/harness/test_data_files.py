"""Data comes from the user's folder or not at all, and only with the published content."""

import gzip
import hashlib
from pathlib import Path

import pytest

from sdb_harness.benchmarks.data_files import DataFile, find_file, read_pinned, read_rows
from sdb_harness.errors import UserError

CONTENT = b'{"id": 1}\n\n{"id": 2}\n'
FILE = DataFile("set/rows.jsonl.gz", hashlib.sha256(CONTENT).hexdigest(), "https://example.org/r")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
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
        UserError, match=r"curl -L -o .*/set/rows\.jsonl\.gz https://example\.org/r"
    ):
        read_rows(FILE)
    monkeypatch.delenv("SDBENCH_DATA")
    assert find_file(FILE) is None
    with pytest.raises(UserError, match="export SDBENCH_DATA=data;"):
        read_rows(FILE)


def test_other_content_and_damage_are_one_line(folder: Path) -> None:
    path = folder / "set" / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(CONTENT + b"{}"))
    with pytest.raises(UserError, match=r"not the published data.*fetch it again from https"):
        read_rows(FILE)
    for content in (gzip.compress(CONTENT)[:-9], b"no gzip"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*rows.jsonl.gz") as caught:
            read_rows(FILE)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"cannot read .*missing"):
        read_pinned(folder / "missing", FILE.sha256, "try again")
