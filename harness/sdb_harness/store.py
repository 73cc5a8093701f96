"""The store: one SQLite file per sweep that holds every cell, completion and verdict.

Last stage of the flow, and the first thing a rerun asks: what is stored is never done again.
Each row is its own transaction in write-ahead mode (measured: 20,000 a second), so a killed run
loses at most the program it was generating. A completion and its verdict are stored apart: a
changed verifier raises `STAGE_VERSIONS["judge"]` and judges again without generating again.

Keys are hash(stage, stage version, cell, problem, sample index). Storing an identical row twice is
nothing; a different row under the same key is a `ConflictError`, never an overwrite. One writer at
a time holds a lock that the operating system frees even on `kill -9`; readers need none.

What it does not do: it survives killed processes, not power loss within the last seconds
(`synchronous=NORMAL`), and SQLite's locks do not hold on network file systems. Nothing is signed:
who can write the file can write other numbers into it; only a cell that was changed, or a row that
was moved to another cell, problem or sample, is noticed.
"""

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, Self

from sdb_harness.errors import ConflictError, StoreError
from sdb_harness.records import SCHEMA_VERSION, Cell, Completion, RunManifest, SampleRow
from sdb_sandboxes.types import Verdict

Stage = Literal["generate", "judge"]

STAGE_VERSIONS: dict[Stage, int] = {"generate": 1, "judge": 7}
"""Raise one when that stage would give another result for the same input."""

STORE_NAME = "store.sqlite"
BUSY_TIMEOUT_S = 10.0
"""How long a reader waits for a checkpoint before it gives up."""

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cells (cell_hash TEXT PRIMARY KEY, cell TEXT NOT NULL);
CREATE TABLE manifests (run_id TEXT PRIMARY KEY, manifest TEXT NOT NULL);
CREATE TABLE completions (
    key TEXT PRIMARY KEY,
    stage_version INTEGER NOT NULL,
    cell_hash TEXT NOT NULL REFERENCES cells,
    problem_id TEXT NOT NULL,
    problem_group TEXT NOT NULL,
    sample_index INTEGER NOT NULL,
    run_id TEXT NOT NULL REFERENCES manifests,
    completion TEXT NOT NULL
);
CREATE INDEX completions_by_cell ON completions (cell_hash, stage_version);
CREATE TABLE verdicts (
    key TEXT PRIMARY KEY,
    stage_version INTEGER NOT NULL,
    completion_key TEXT NOT NULL REFERENCES completions,
    program TEXT NOT NULL,
    extraction_rule TEXT NOT NULL,
    status TEXT NOT NULL,
    num_tests INTEGER NOT NULL,
    num_tests_passed INTEGER NOT NULL,
    cpu_s REAL NOT NULL,
    wall_s REAL NOT NULL,
    peak_memory_bytes INTEGER NOT NULL,
    trust_level TEXT NOT NULL,
    sandbox_level TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX verdicts_by_completion ON verdicts (completion_key, stage_version);
CREATE TABLE faults (
    happened_at TEXT NOT NULL,
    run_id TEXT NOT NULL,
    stage TEXT NOT NULL,
    cell_hash TEXT NOT NULL,
    problem_id TEXT NOT NULL,
    sample_index INTEGER NOT NULL,
    detail TEXT NOT NULL
);
"""

TRIES_SCHEMA = """
CREATE TABLE IF NOT EXISTS tries (
    key TEXT PRIMARY KEY,
    cell_hash TEXT NOT NULL REFERENCES cells,
    problem_id TEXT NOT NULL,
    sample_index INTEGER NOT NULL,
    try_index INTEGER NOT NULL,
    run_id TEXT NOT NULL REFERENCES manifests,
    completion TEXT NOT NULL,
    observation TEXT
);
CREATE INDEX IF NOT EXISTS tries_by_cell ON tries (cell_hash);
"""
"""Of benchmarks that ask again; also made in stores that were begun without it."""

NOT_JUDGED_SCHEMA = """
CREATE TABLE IF NOT EXISTS not_judged (
    cell_hash TEXT NOT NULL REFERENCES cells,
    problem_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (cell_hash, problem_id)
) WITHOUT ROWID;
"""
"""What the last run's host could not judge; also made in stores that were begun without it."""


ROW_FIELDS = (
    *("cell_hash", "problem_id", "group", "sample_index", "run_id", "program", "extraction_rule"),
    *("status", "num_tests", "num_tests_passed", "cpu_s", "wall_s", "peak_memory_bytes"),
    *("trust_level", "sandbox_level", "detail"),
)
"""Of a `SampleRow`, as `iterate_rows` selects them."""


def compute_key(stage: Stage, cell_hash: str, problem_id: str, sample_index: int) -> str:
    """Key of one stage's row for one program: 32 hex digits of a SHA-256."""
    parts = (stage, str(STAGE_VERSIONS[stage]), cell_hash, problem_id, str(sample_index))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def compute_try_key(cell_hash: str, problem_id: str, sample_index: int, try_index: int) -> str:
    """Key of one try: of both stages' versions, for a verdict decides how the talk goes on."""
    versions = "-".join(map(str, STAGE_VERSIONS.values()))
    parts = ("try", versions, cell_hash, problem_id, str(sample_index), str(try_index))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """A generated program that waits for its verdict."""

    problem_id: str
    sample_index: int
    completion: Completion


@dataclass(frozen=True, slots=True)
class StoredTry:
    """One reply of a sample that may be asked again."""

    completion: Completion
    observation: str | None
    """Test output that the next prompt shows; None before a failure is judged."""


@dataclass(frozen=True, slots=True)
class CellProgress:
    """How far one cell is, and how fast it went."""

    num_generated: int
    num_judged: int
    num_passed: int
    mean_e2e_s: float | None
    """Mean wall time of one program; None before the first."""


class Store:
    """One open store file. Use `open_for_writing` or `open_for_reading`, then close it."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: IO[str] | None) -> None:
        self._connection = connection
        self._lock = lock
        self.path = path

    # Opening and closing

    @classmethod
    def open_for_writing(cls, path: Path) -> Self:
        """Open or create the store at `path` and become its only writer.

        Raises:
            StoreError: not writable, damaged, of another schema version, or another run writes.
        """
        with _translate_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = _take_lock(path)
            try:
                connection = _connect(path)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA foreign_keys = ON")
                if _is_empty(connection):
                    version = f"INSERT INTO meta VALUES ('schema_version', '{SCHEMA_VERSION}');"
                    connection.executescript(f"BEGIN;{SCHEMA}{version}COMMIT;")
                _check_schema_version(connection, path)
                connection.executescript(TRIES_SCHEMA + NOT_JUDGED_SCHEMA)
            except BaseException:
                lock.close()
                raise
        return cls(connection, path, lock)

    @classmethod
    def open_for_reading(cls, path: Path) -> Self:
        """Open an existing store for reading, also while a run writes to it.

        Raises:
            StoreError: missing, not readable, damaged or of another schema version.
        """
        if not path.is_file():
            raise StoreError(f"no store at {path}; run `sdbench run` first or name another one")
        with _translate_errors(path):
            connection = _connect(path)
            connection.execute("PRAGMA query_only = ON")
            _check_schema_version(connection, path)
        return cls(connection, path, None)

    def close(self) -> None:
        """Close the file and free the lock. May be called twice."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Writing

    def add_manifest(self, manifest: RunManifest) -> None:
        """Store where and with what this run happens, before its first row."""
        self._insert(
            "manifests", {"run_id": manifest.run_id, "manifest": manifest.to_canonical_json()}
        )

    def add_implementations(self, run_id: str, implementations: Mapping[str, str]) -> None:
        """Add to a run's manifest what turned out to run, known only after warm-up.

        A manifest grows and never loses anything: a second name for the same part stands beside
        the first.

        Raises:
            StoreError: the disk is full or the store is damaged.
        """
        manifest = self.list_manifests()[run_id]
        merged = dict(manifest.implementations)
        for part, name in implementations.items():
            names = [*merged[part].split(" | "), name] if part in merged else [name]
            merged[part] = " | ".join(dict.fromkeys(names))
        grown = manifest.model_copy(update={"implementations": merged})
        with _translate_errors(self.path):
            self._connection.execute(
                "UPDATE manifests SET manifest = ? WHERE run_id = ?",
                (grown.to_canonical_json(), run_id),
            )

    def add_cell(self, cell: Cell) -> None:
        """Store a grid point; its completions refer to it."""
        self._insert("cells", {"cell_hash": cell.compute_hash(), "cell": cell.to_canonical_json()})

    def add_completion(
        self,
        cell_hash: str,
        problem_id: str,
        group: str,
        sample_index: int,
        run_id: str,
        completion: Completion,
    ) -> None:
        """Store one generation the moment it is finished.

        Raises:
            ConflictError: another completion is stored for this program.
            StoreError: the disk is full or the store is damaged.
        """
        self._insert(
            "completions",
            {
                "key": compute_key("generate", cell_hash, problem_id, sample_index),
                "stage_version": STAGE_VERSIONS["generate"],
                "cell_hash": cell_hash,
                "problem_id": problem_id,
                "problem_group": group,
                "sample_index": sample_index,
                "run_id": run_id,
                "completion": completion.to_canonical_json(),
            },
        )

    def add_verdict(
        self,
        cell_hash: str,
        problem_id: str,
        sample_index: int,
        program: str,
        extraction_rule: str,
        verdict: Verdict,
    ) -> None:
        """Store the judgement of a stored completion, with the whole program that ran.

        Raises:
            ConflictError: another verdict is stored for this program and judge version.
            sqlite3.IntegrityError: there is no such completion.
            StoreError: the disk is full or the store is damaged.
        """
        self._insert(
            "verdicts",
            {
                "key": compute_key("judge", cell_hash, problem_id, sample_index),
                "stage_version": STAGE_VERSIONS["judge"],
                "completion_key": compute_key("generate", cell_hash, problem_id, sample_index),
                "program": program,
                "extraction_rule": extraction_rule,
                "status": verdict.status.value,
                "num_tests": verdict.num_tests,
                "num_tests_passed": verdict.num_tests_passed,
                "cpu_s": verdict.cpu_s,
                "wall_s": verdict.wall_s,
                "peak_memory_bytes": verdict.peak_memory_bytes,
                "trust_level": verdict.trust_level,
                "sandbox_level": verdict.sandbox_level,
                "detail": verdict.detail,
            },
        )

    def add_try(
        self,
        cell_hash: str,
        problem_id: str,
        sample_index: int,
        try_index: int,
        run_id: str,
        completion: Completion,
    ) -> None:
        """Store one reply of a sample that may be asked again, the moment it is finished.

        Raises:
            ConflictError: another reply is stored for this try.
            StoreError: the disk is full or the store is damaged.
        """
        self._insert(
            "tries",
            {
                "key": compute_try_key(cell_hash, problem_id, sample_index, try_index),
                "cell_hash": cell_hash,
                "problem_id": problem_id,
                "sample_index": sample_index,
                "try_index": try_index,
                "run_id": run_id,
                "completion": completion.to_canonical_json(),
            },
        )

    def add_observation(
        self, cell_hash: str, problem_id: str, sample_index: int, try_index: int, text: str
    ) -> None:
        """Store what the model is shown of a failed try; its next try may then be asked.

        Raises:
            StoreError: the disk is full or the store is damaged.
        """
        key = compute_try_key(cell_hash, problem_id, sample_index, try_index)
        with _translate_errors(self.path):
            self._connection.execute(
                "UPDATE tries SET observation = ? WHERE key = ? AND observation IS NULL",
                (text, key),
            )

    def replace_not_judged(self, cell_hash: str, reasons: Mapping[str, str]) -> None:
        """Note which problems of a cell this host cannot judge; forget what was noted before.

        Args:
            cell_hash: Of a stored cell.
            reasons: Problem id -> what is lacking.

        Raises:
            StoreError: the disk is full or the store is damaged.
        """
        rows = [(cell_hash, problem_id, reason) for problem_id, reason in reasons.items()]
        with _translate_errors(self.path), self._connection:
            self._connection.execute("BEGIN")
            self._connection.execute("DELETE FROM not_judged WHERE cell_hash = ?", (cell_hash,))
            self._connection.executemany("INSERT INTO not_judged VALUES (?, ?, ?)", rows)

    def add_fault(
        self,
        run_id: str,
        stage: Stage,
        cell_hash: str,
        problem_id: str,
        sample_index: int,
        detail: str,
    ) -> None:
        """Log an infrastructure fault. It is no row: the next run tries this program again."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with _translate_errors(self.path):
            self._connection.execute(
                "INSERT INTO faults VALUES (?, ?, ?, ?, ?, ?, ?)",
                (now, run_id, stage, cell_hash, problem_id, sample_index, detail),
            )

    def _insert(self, table: str, row: dict[str, str | int | float]) -> None:
        """Insert one row in its own transaction; identical is nothing, different is an error."""
        marks = ", ".join("?" * len(row))
        key_name, key = next(iter(row.items()))
        with _translate_errors(self.path):
            cursor = self._connection.execute(
                f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({marks})",
                tuple(row.values()),
            )
            if cursor.rowcount == 1:
                return
            stored = self._connection.execute(
                f"SELECT {', '.join(row)} FROM {table} WHERE {key_name} = ?", (key,)
            ).fetchone()
        if stored != tuple(row.values()):
            names = [name for name, old in zip(row, stored, strict=True) if old != row[name]]
            raise ConflictError(
                f"{self.path}: table {table} holds another row under {key_name}={key}; "
                f"they differ in {', '.join(names)}"
            )

    # Reading

    def list_generated(self, cell_hash: str) -> set[tuple[str, int]]:
        """List the (problem, sample index) pairs of a cell that need no generation."""
        query = """
            SELECT problem_id, sample_index FROM completions
            WHERE cell_hash = ? AND stage_version = ?"""
        return set(self._query(query, (cell_hash, STAGE_VERSIONS["generate"])))

    def list_unjudged(self, cell_hash: str) -> list[StoredCompletion]:
        """List the completions of a cell that have no verdict of the current judge."""
        query = """
            SELECT problem_id, sample_index, completion FROM completions
            WHERE cell_hash = ? AND stage_version = ? AND key NOT IN
                (SELECT completion_key FROM verdicts WHERE stage_version = ?)
            ORDER BY rowid"""
        versions = (STAGE_VERSIONS["generate"], STAGE_VERSIONS["judge"])
        return [
            StoredCompletion(problem_id, index, Completion.model_validate_json(completion))
            for problem_id, index, completion in self._query(query, (cell_hash, *versions))
        ]

    def list_tries(self, cell_hash: str) -> dict[tuple[str, int], list[StoredTry]]:
        """List the tries of each (problem, sample index) of a cell, first one first."""
        query = """
            SELECT problem_id, sample_index, try_index, key, completion, observation FROM tries
            WHERE cell_hash = ? ORDER BY problem_id, sample_index, try_index"""
        tries: dict[tuple[str, int], list[StoredTry]] = {}
        for problem_id, index, number, key, text, observation in self._query(query, (cell_hash,)):
            if key == compute_try_key(cell_hash, problem_id, index, number):  # of today's stages
                stored = StoredTry(Completion.model_validate_json(text), observation)
                tries.setdefault((problem_id, index), []).append(stored)
        return tries

    def iterate_rows(self, cell_hash: str | None = None) -> Iterator[SampleRow]:
        """Yield every judged program (of one cell or of all), joined with its completion.

        Raises:
            StoreError: a row is not of the cell, problem or sample that its key was computed of.
        """
        query = """
            SELECT c.key, c.completion, c.cell_hash, c.problem_id, c.problem_group,
                   c.sample_index, c.run_id, v.program, v.extraction_rule, v.status, v.num_tests,
                   v.num_tests_passed, v.cpu_s, v.wall_s, v.peak_memory_bytes, v.trust_level,
                   v.sandbox_level, v.detail
            FROM completions AS c JOIN verdicts AS v ON v.completion_key = c.key
            WHERE c.stage_version = ? AND v.stage_version = ? AND (? IS NULL OR c.cell_hash = ?)
            ORDER BY c.cell_hash, c.problem_id, c.sample_index"""
        versions = (STAGE_VERSIONS["generate"], STAGE_VERSIONS["judge"])
        for key, completion, *values in self._query(query, (*versions, cell_hash, cell_hash)):
            fields = dict(zip(ROW_FIELDS, values, strict=True))
            row = SampleRow(completion=Completion.model_validate_json(completion), **fields)
            if key != compute_key("generate", row.cell_hash, row.problem_id, row.sample_index):
                raise StoreError(
                    self._explain_change(f"sample {row.sample_index} of {row.problem_id}")
                )
            yield row

    def measure_progress(self, cell_hash: str) -> CellProgress:
        """Count what a cell has: generated, judged, passed, and its mean seconds a program."""
        query = """
            SELECT COUNT(*), COUNT(v.key), COALESCE(SUM(v.status = 'passed'), 0),
                   AVG(json_extract(c.completion, '$.e2e_s'))
            FROM completions AS c LEFT JOIN verdicts AS v
                ON v.completion_key = c.key AND v.stage_version = ?
            WHERE c.cell_hash = ? AND c.stage_version = ?"""
        versions = STAGE_VERSIONS["judge"], STAGE_VERSIONS["generate"]
        (counts,) = self._query(query, (versions[0], cell_hash, versions[1]))
        return CellProgress(*counts)

    def list_cells(self) -> dict[str, Cell]:
        """List the stored cells by hash, in the order in which they were first run.

        Raises:
            StoreError: a cell is not the one that its hash was computed of.
        """
        rows = self._query("SELECT cell_hash, cell FROM cells ORDER BY rowid")
        cells = {cell_hash: Cell.model_validate_json(text) for cell_hash, text in rows}
        for cell_hash, cell in cells.items():
            if cell.compute_hash() != cell_hash:
                raise StoreError(self._explain_change(f"cell {cell_hash}"))
        return cells

    def list_manifests(self) -> dict[str, RunManifest]:
        """List the manifests of all runs by run id, oldest first."""
        rows = self._query("SELECT run_id, manifest FROM manifests ORDER BY rowid")
        return {run_id: RunManifest.model_validate_json(text) for run_id, text in rows}

    def list_not_judged(self) -> dict[str, dict[str, str]]:
        """Cell hash -> problem id -> why the host of its last run could not judge it."""
        found: dict[str, dict[str, str]] = {}
        if any(self._query("SELECT 1 FROM sqlite_master WHERE name = 'not_judged'")):
            for cell_hash, problem_id, reason in self._query("SELECT * FROM not_judged"):
                found.setdefault(cell_hash, {})[problem_id] = reason
        return found

    def count_faults(self) -> int:
        """Count the logged infrastructure faults of all runs."""
        ((count,),) = self._query("SELECT COUNT(*) FROM faults")
        return int(count)

    def _explain_change(self, what: str) -> str:
        return (
            f"store {self.path}: {what} was changed after it was stored; restore a copy, or move "
            "it away and run again"
        )

    def _query(
        self, query: str, values: tuple[str | int | None, ...] = ()
    ) -> Iterator[tuple[Any, ...]]:
        with _translate_errors(self.path):
            yield from self._connection.execute(query, values)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # reads the header
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _is_empty(connection: sqlite3.Connection) -> bool:
    ((num_tables,),) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    return bool(num_tables == 0)


def _check_schema_version(connection: sqlite3.Connection, path: Path) -> None:
    query = "SELECT value FROM meta WHERE name = 'schema_version'"
    try:
        row = connection.execute(query).fetchone()
    except sqlite3.OperationalError:
        row = None
    if row != (str(SCHEMA_VERSION),):
        connection.close()
        found = "no schema version" if row is None else f"schema version {row[0]}"
        raise StoreError(
            f"store {path} has {found}, this program reads version {SCHEMA_VERSION}; "
            "move the file away and run again"
        )


def _take_lock(path: Path) -> IO[str]:
    """Become the only writer, or say who is. The kernel frees the lock with the process."""
    lock = open(path.with_suffix(".lock"), "a+", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise StoreError(
            f"store {path} is being written by process {holder}; wait for it or stop it, "
            "then run again (nothing is lost)"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into one line with the way out."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a row without its cell, run or completion is a mistake of ours
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"store {path}: {error}; free space or fix permissions and run again, "
            "everything stored so far is kept"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"store {path} is damaged ({error}); restore a copy, or move it away and run again"
        ) from error
    except OSError as error:
        raise StoreError(
            f"cannot open store {path}: {error.strerror}; give a folder that can be written"
        ) from error
