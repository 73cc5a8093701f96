"""Runs whole programs of any language in a slot: compile once, run once per standard input.

Place in the flow: `Slot.run_program` calls `run_commands` for every language but Python. Compiling
and each run are a cell of their own, killed with all it started before the next one begins; they
share one working folder, so what one run writes the next run of the same program may see. What it
does not do: it compares nothing, and it never reads the working folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sdb_sandboxes.agent.codec import UnsendableError, pack_order
from sdb_sandboxes.errors import RunStopped, SlotLost
from sdb_sandboxes.languages import COMPILE_LIMITS, Language, find_language
from sdb_sandboxes.scripts import build_outcome, check_paths
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

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
"""All that a program finds in its environment, with HOME and TMPDIR for its own folder."""

COMPILE_ERROR_BYTES = 1 << 13
"""Of what a compiler says on standard output that is kept."""


def run_commands(slot: "Slot", request: ProgramRequest) -> ExecutionResult:
    """Compile, then run once per text, up to and with the first run that does not end well.

    A program that does not compile has status COMPILE_ERROR and no run.

    Raises:
        ValueError: Unknown language, no file, a path that leaves the folder, too much to travel.
        SlotLost: The slot must be thrown away.
    """
    language = find_language(request.language)
    total: ExecutionResult | None = None
    runs: list[ProgramOutcome] = []
    for step in list_steps(request, language):
        result, stdout = run_step(slot, language, step)
        total = add_usage(total, result)
        if step.is_compiling:
            is_compiled = result.status in (Status.PASSED, Status.RUNTIME_ERROR)
            if not is_compiled or result.exit_code not in language.compiled_codes:
                return describe_compile_error(total, stdout)
            continue
        runs.append(build_outcome(result, stdout))
        if result.status is not Status.PASSED:
            break
    slot.candidates.wipe()
    if total is None:
        return ExecutionResult(Status.PASSED, (), 0.0, 0.0, 0)
    return replace(total, runs=tuple(runs))


@dataclass(frozen=True, slots=True)
class Step:
    """One cell: a compiler, or one run of the program."""

    frame: bytes
    limits: ResourceLimits
    is_compiling: bool
    keeps_folder: bool


def list_steps(request: ProgramRequest, language: Language) -> Iterator[Step]:
    """Every cell that the request needs, in order. Raises ValueError as `run_commands` says."""
    check_paths(request.files)
    # All cells of a request live in one folder, so its size is that of the largest of them.
    file_bytes = request.limits.file_bytes
    files, is_first = request.files, True
    if language.compile is not None:
        file_bytes = max(file_bytes, COMPILE_LIMITS.file_bytes)
        limits = replace(COMPILE_LIMITS, file_bytes=file_bytes)
        command = fill_in(language.compile, request)
        yield Step(pack_command(command, language, files, ""), limits, True, False)
        files, is_first = (), False
    num_processes = request.limits.num_processes + language.num_tasks
    limits = replace(request.limits, file_bytes=file_bytes, num_processes=num_processes)
    command = fill_in(language.run, request)
    for stdin in request.stdins:
        yield Step(pack_command(command, language, files, stdin), limits, False, not is_first)
        files, is_first = (), False


def fill_in(command: tuple[str, ...], request: ProgramRequest) -> list[str]:
    """The command with its placeholders replaced, see `languages.py`."""
    names = [path for path, _ in request.files]
    values = {
        "{file}": names[0],
        "{stem}": PurePosixPath(names[0]).stem,
        "{heap_mb}": str(max(16, request.limits.memory_bytes >> 20)),
    }
    filled: list[str] = []
    for word in command:
        if word == "{files}":
            filled += names
            continue
        for placeholder, value in values.items():
            word = word.replace(placeholder, value)
        filled.append(word)
    return filled


def pack_command(
    command: list[str], language: Language, files: tuple[tuple[str, str], ...], stdin: str
) -> bytes:
    """The one message that a cell gets. Raises ValueError if it is too long to travel."""
    order = {
        "files": [list(file) for file in files],
        "stdin": stdin,
        "command": command,
        "environment": {**ENVIRONMENT, **dict(language.environment)},
    }
    try:
        return pack_order(order)
    except UnsendableError as error:
        raise ValueError(f"the files do not fit into one message: {error}") from None


def run_step(slot: "Slot", language: Language, step: Step) -> tuple[ExecutionResult, str]:
    """Run one cell to its end: how it ended, and all that it printed to standard output."""
    job: dict[str, Any] = {
        "job": "command",
        "keeps_folder": step.keeps_folder,
        "is_address_space_bound": language.is_address_space_bound and not step.is_compiling,
    }

    def converse(run: "Run") -> None:
        run.watch.num_kept[run.watch.stdout] = step.limits.output_bytes
        run.watch.greet(run.line)
        run.watch.feed(run.line, step.frame)
        failure = run.line.socket.recv(1024)
        if failure and step.keeps_folder:
            # Its compiler or its earlier run left a folder in which nothing can be started.
            raise RunStopped(Status.RUNTIME_ERROR, "the program could not be started again")
        if failure:
            words = failure[4:].decode("utf-8", "replace")  # past the frame's length
            raise SlotLost(f"the image {language.image!r} could not start a command: {words}")

    with slot.open_run(step.limits, job) as run:
        result = slot.finish(run, step.limits, converse, must_end_well=True)
        stdout = bytes(run.watch.tails[run.watch.stdout]).decode("utf-8", "replace")
    return replace(result, stdout_tail=result.stdout_tail[-TAIL_BYTES:]), stdout


def add_usage(total: ExecutionResult | None, result: ExecutionResult) -> ExecutionResult:
    """The latest result with the time of those before it."""
    if total is None:
        return result
    return replace(
        result,
        cpu_s=total.cpu_s + result.cpu_s,
        wall_s=total.wall_s + result.wall_s,
        peak_memory_bytes=max(total.peak_memory_bytes, result.peak_memory_bytes),
    )


def describe_compile_error(result: ExecutionResult, stdout: str) -> ExecutionResult:
    """What kept the program from being compiled; some compilers speak on standard output."""
    is_limit = result.status not in (Status.PASSED, Status.RUNTIME_ERROR)
    detail = f"while compiling: {result.detail}" if is_limit else "does not compile"
    # The first error is the one to mend; those after it may follow from it.
    tail = result.stderr_tail or stdout[:COMPILE_ERROR_BYTES]
    return replace(result, status=Status.COMPILE_ERROR, detail=detail, stderr_tail=tail)
