"""The store keeps every row once, says clearly when it cannot, and frees its lock on death."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sdb_harness import store as store_module
from sdb_harness.errors import ConflictError, StoreError
from sdb_harness.records import Cell, Completion, RunManifest, SamplingConfig
from sdb_harness.store import Store
from sdb_sandboxes.types import Status, Verdict

CELL = Cell(
    benchmark="minipy:split=test",
    benchmark_revision="b" * 64,
    num_problems=2,
    protocol="base",
    generator="canonical",
    generator_revision="canonical",
    sampling=SamplingConfig(),
    engine="canonical/1",
    hardware="h",
)
MANIFEST = RunManifest(
    run_id="run-1",
    started_at="2026-11-01T00:00:00Z",
    command="sdbench run",
    git_commit="0" * 40,
    is_git_dirty=False,
    packages={},
    hardware={},
    implementations={},
)
COMPLETION = Completion(
    text="    return 1\n",
    token_ids=(3, 4),
    output_tokens=2,
    finish_reason="stop",
    commit_times_s=(0.25,),
    commit_tokens=(2,),
    e2e_s=0.25,
)
PASSED = Verdict(
    status=Status.PASSED,
    num_tests=3,
    num_tests_passed=3,
    cpu_s=0.01,
    wall_s=0.02,
    peak_memory_bytes=1 << 20,
    trust_level="L3",
    sandbox_level="embedded/test",
)


def open_store(folder: Path) -> Store:
    store = Store.open_for_writing(folder / "store.sqlite")
    store.add_manifest(MANIFEST)
    store.add_cell(CELL)
    return store


def add_completion(store: Store, index: int = 0, completion: Completion = COMPLETION) -> None:
    store.add_completion(CELL.compute_hash(), "p/0", "level-1", index, "run-1", completion)


def add_verdict(store: Store, index: int = 0, verdict: Verdict = PASSED) -> None:
    store.add_verdict(CELL.compute_hash(), "p/0", index, "def f(): ...", "whole", verdict)


def test_round_trip_gives_the_same_row(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        add_completion(store)
        add_verdict(store)
    with Store.open_for_reading(tmp_path / "store.sqlite") as store:
        (row,) = store.iterate_rows()
        assert row.completion == COMPLETION
        assert (row.cell_hash, row.problem_id, row.group) == (
            CELL.compute_hash(),
            "p/0",
            "level-1",
        )
        assert (row.status, row.num_tests, row.program) == ("passed", 3, "def f(): ...")
        assert store.list_cells() == {CELL.compute_hash(): CELL}
        assert store.list_manifests() == {"run-1": MANIFEST}


def test_manifest_grows_and_never_loses_anything(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for found in ({"g/device": "cpu"}, {"g/server": "a"}, {"g/server": "b"}, {"g/server": "a"}):
            store.add_implementations("run-1", found)
        (manifest,) = store.list_manifests().values()
    assert manifest.implementations == {"g/device": "cpu", "g/server": "a | b"}
    assert manifest.model_copy(update={"implementations": {}}) == MANIFEST


def test_a_completion_waits_for_its_verdict(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        add_completion(store, 0)
        add_completion(store, 1)
        add_verdict(store, 1)
        assert store.list_generated(CELL.compute_hash()) == {("p/0", 0), ("p/0", 1)}
        (waiting,) = store.list_unjudged(CELL.compute_hash())
        assert (waiting.sample_index, waiting.completion) == (0, COMPLETION)
        assert [row.sample_index for row in store.iterate_rows()] == [1]
        progress = store.measure_progress(CELL.compute_hash())
        assert (progress.num_generated, progress.num_judged, progress.num_passed) == (2, 1, 1)
        assert progress.mean_e2e_s == 0.25


def test_identical_row_is_nothing_and_another_is_a_conflict(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        add_completion(store)
        add_completion(store)
        other = COMPLETION.model_copy(update={"text": "    return 2\n"})
        with pytest.raises(ConflictError, match="they differ in completion"):
            add_completion(store, 0, other)
        assert len(store.list_unjudged(CELL.compute_hash())) == 1
        assert store.list_unjudged(CELL.compute_hash())[0].completion == COMPLETION


def test_new_judge_version_judges_again_without_generating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path) as store:
        add_completion(store)
        add_verdict(store)
        newer = store_module.STAGE_VERSIONS["judge"] + 1
        monkeypatch.setitem(store_module.STAGE_VERSIONS, "judge", newer)
        assert list(store.iterate_rows()) == []
        assert store.list_generated(CELL.compute_hash()) == {("p/0", 0)}
        assert len(store.list_unjudged(CELL.compute_hash())) == 1
        add_verdict(store)
        assert len(list(store.iterate_rows())) == 1


def test_verdict_without_completion_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, pytest.raises(sqlite3.IntegrityError):
        add_verdict(store)


def test_faults_are_counted_apart_and_are_no_rows(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add_fault("run-1", "generate", CELL.compute_hash(), "p/0", 0, "server hung up")
        assert store.count_faults() == 1
        assert store.list_generated(CELL.compute_hash()) == set()


def test_second_writer_is_told_who_writes_and_readers_are_not_stopped(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        add_completion(store)
        with pytest.raises(StoreError, match=f"written by process {os.getpid()}"):
            Store.open_for_writing(store.path)
        with Store.open_for_reading(store.path) as reader:
            assert len(reader.list_unjudged(CELL.compute_hash())) == 1
    Store.open_for_writing(tmp_path / "store.sqlite").close()


def test_killed_writer_leaves_its_rows_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_store import add_completion, open_store\n"
        "store = open_store(Path(sys.argv[2]))\n"
        "add_completion(store)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(StoreError, match=f"process {process.pid}"):
            Store.open_for_writing(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Store.open_for_writing(path) as store:
        assert store.list_generated(CELL.compute_hash()) == {("p/0", 0)}


def test_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        add_completion(store)
        ((num_pages,),) = store._connection.execute("PRAGMA page_count").fetchall()
        store._connection.execute(f"PRAGMA max_page_count = {num_pages}")
        big = COMPLETION.model_copy(update={"text": "x" * 100_000})
        with pytest.raises(StoreError, match="disk is full; free space") as caught:
            add_completion(store, 1, big)
        assert "\n" not in str(caught.value)
    with Store.open_for_writing(tmp_path / "store.sqlite") as store:
        assert store.list_generated(CELL.compute_hash()) == {("p/0", 0)}
        add_completion(store, 1, big)


@pytest.mark.parametrize("content", [b"this is not a database, it is a poem" * 100, b"SQLite"])
def test_damaged_store_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    for open_it in (Store.open_for_writing, Store.open_for_reading):
        with pytest.raises(StoreError, match="is damaged") as caught:
            open_it(path)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE cells SET cell = json_set(cell, '$.num_problems', 1)", "cell [0-9a-f]{16} was"),
        ("UPDATE completions SET problem_id = 'p/1'", "sample 0 of p/1 was changed"),
        ("UPDATE completions SET sample_index = 1", "sample 1 of p/0 was changed"),
    ],
)
def test_cells_and_rows_that_were_changed_are_not_read(
    tmp_path: Path, change: str, message: str
) -> None:
    with open_store(tmp_path) as store:
        add_completion(store)
        add_verdict(store)
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(StoreError, match=message), Store.open_for_reading(path) as store:
        list(store.iterate_rows(store.list_cells().popitem()[0]))


def test_page_damaged_in_the_middle_is_one_line(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for index in range(200):
            add_completion(store, index)
    path = tmp_path / "store.sqlite"
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="is damaged"), Store.open_for_reading(path) as store:
        store.list_unjudged(CELL.compute_hash())


def test_other_schema_version_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '999'")
    connection.close()
    with pytest.raises(StoreError, match="schema version 999, this program reads version 2"):
        Store.open_for_reading(path)


def test_missing_and_unwritable_places_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        Store.open_for_reading(tmp_path / "store.sqlite")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="give a folder that can be written"):
        Store.open_for_writing(tmp_path / "file" / "store.sqlite")
