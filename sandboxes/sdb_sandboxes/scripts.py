"""Runs whole Python programs in a slot: files in, standard input in, output and exit code out.

Place in the flow: `Slot.run_program` calls `run_python` for the language `python`. Every text of
standard input gets a fresh cell of the warm interpreter; the text goes down the cell's own channel,
the output is captured here. What it does not do: it compares nothing, and it writes no file; the
cell does that in its own folder.
"""

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sdb_sandboxes.agent.codec import UnsendableError, pack_order
from sdb_sandboxes.errors import RunStopped
from sdb_sandboxes.types import (
    ExecutionResult,
    ProgramOutcome,
    ProgramRequest,
    ResourceLimits,
    Status,
)
from sdb_sandboxes.watch import TAIL_BYTES

if TYPE_CHECKING:
    from sdb_sandboxes.slot import Run, Slot


def run_python(slot: "Slot", request: ProgramRequest) -> ExecutionResult:
    """Run the program once per text, up to and with the first run that does not end well.

    Raises:
        ValueError: No file, a path that leaves the program's folder, or files too long to travel.
        SlotLost: The slot must be thrown away.
    """
    frame = pack_files(request.files)
    runs: list[ProgramOutcome] = []
    result = ExecutionResult(Status.PASSED, (), 0.0, 0.0, 0)
    for stdin in request.stdins:
        last, outcome = run_once(slot, frame, stdin, request.limits)
        runs.append(outcome)
        result = replace(
            last,
            cpu_s=result.cpu_s + last.cpu_s,
            wall_s=result.wall_s + last.wall_s,
            peak_memory_bytes=max(result.peak_memory_bytes, last.peak_memory_bytes),
        )
        if last.status is not Status.PASSED:
            break
    return replace(result, runs=tuple(runs))


def pack_files(files: tuple[tuple[str, str], ...]) -> bytes:
    """The message that carries the files. Raises ValueError for paths that leave the folder."""
    check_paths(files)
    try:
        return pack_order({"files": [list(file) for file in files]})
    except UnsendableError as error:
        raise ValueError(f"the files do not fit into one message: {error}") from None


def check_paths(files: tuple[tuple[str, str], ...]) -> None:
    """Raise ValueError for no file at all and for paths that leave the program's folder."""
    if not files:
        raise ValueError("a program needs at least one file; the first one is run")
    for path, _ in files:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith(("/", "-")) or ".." in parts or "\0" in path:
            raise ValueError(f"path {path!r} leaves the program's folder; use a relative one")


def run_once(
    slot: "Slot", frame: bytes, stdin: str, limits: ResourceLimits
) -> tuple[ExecutionResult, ProgramOutcome]:
    """One fresh cell for one text of standard input."""
    text = stdin.encode("utf-8", "surrogateescape")

    def converse(run: "Run") -> None:
        run.watch.num_kept[run.watch.stdout] = limits.output_bytes
        reply = run.watch.exchange(run.line, frame)
        if "failed" in reply:
            raise RunStopped(Status.COMPILE_ERROR, f"{reply['failed']} while compiling")
        run.watch.feed(run.line, text)

    with slot.open_run(limits) as run:
        result = slot.finish(run, limits, converse, must_end_well=True)
        stdout = bytes(run.watch.tails[run.watch.stdout])
    outcome = build_outcome(result, stdout.decode("utf-8", "replace"))
    return replace(result, stdout_tail=result.stdout_tail[-TAIL_BYTES:]), outcome


def build_outcome(result: ExecutionResult, stdout: str) -> ProgramOutcome:
    """One run in the words of `types.py`."""
    return ProgramOutcome(
        status=result.status,
        stdout=stdout,
        stderr_tail=result.stderr_tail,
        exit_code=result.exit_code,
        signal=result.signal,
        cpu_s=result.cpu_s,
        wall_s=result.wall_s,
        peak_memory_bytes=result.peak_memory_bytes,
        is_output_truncated=result.is_output_truncated,
    )
