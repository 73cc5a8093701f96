"""SandboxFusion's `/run_code`: its request, its response, and what its words mean here.

Place in the flow: `app.py` receives a `RunCodeRequest`, asks a sandbox with `build_request`, and
answers with `build_response`. Source: `sandbox/server/sandbox_api.py` and
`sandbox/runners/types.py` of bytedance/SandboxFusion.

Choice: `run_timeout` bounds CPU seconds, as everywhere here, so that a busy machine flips no
verdict; the wall clock gets twice as much and five seconds. What it does not do: nothing that a
program writes to a file leaves the sandbox (`fetch_files`), and compiling has limits of its own.
"""

import base64
import binascii
import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sdb_sandboxes.languages import LANGUAGES, find_language
from sdb_sandboxes.types import ExecutionResult, ProgramRequest, ResourceLimits, Status

MAX_TIMEOUT_S = 300.0
MAX_MEMORY_MB = 4096
DEFAULT_MEMORY_MB = 1024
ALIASES = {"nodejs": "javascript"}
"""SandboxFusion's name -> ours, where they differ."""
PUBLIC_CLASS = re.compile(r"^\s*public\s+(?:final\s+|abstract\s+)*class\s+([A-Za-z_]\w*)", re.M)


class RunCodeRequest(BaseModel):
    """One program to run once. Fields that SandboxFusion may add later are ignored."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"code": "print(1)", "language": "python"}]}
    )

    code: str = Field(description="The program.")
    language: str = Field(description=f"One of {', '.join([*LANGUAGES, *ALIASES])}.")
    stdin: str | None = Field(default=None, description="Text of standard input.")
    run_timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] = Field(
        default=10.0, description="CPU seconds of the run; on the wall clock twice as much and 5 s."
    )
    compile_timeout: float = Field(
        default=10.0, description="Accepted and not used: compiling has limits of its own."
    )
    memory_limit_MB: int = Field(
        default=-1, le=MAX_MEMORY_MB, description=f"Megabytes; {DEFAULT_MEMORY_MB} if not positive."
    )
    files: dict[str, str | None] = Field(
        default_factory=dict, description="Relative path -> content as base64 of UTF-8 text."
    )
    fetch_files: list[str] = Field(
        default_factory=list, description="Must be empty: what a program writes stays inside."
    )


class RunStatus(StrEnum):
    """`Success`: exit code 0 everywhere. `SandboxError`: a fault of ours."""

    SUCCESS = "Success"
    FAILED = "Failed"
    SANDBOX_ERROR = "SandboxError"


class CommandStatus(StrEnum):
    """`Finished`: it ended, whatever its exit code. `Error`: a fault of ours."""

    FINISHED = "Finished"
    ERROR = "Error"
    TIME_LIMIT_EXCEEDED = "TimeLimitExceeded"


class CommandRunResult(BaseModel):
    """How compiling or running ended."""

    status: CommandStatus
    execution_time: float | None = None
    return_code: int | None = None
    """Negative: the signal that ended it, as Python's subprocess says it."""
    stdout: str | None = None
    stderr: str | None = None


class RunCodeResponse(BaseModel):
    """What SandboxFusion answers."""

    status: RunStatus
    message: str = ""
    compile_result: CommandRunResult | None = None
    run_result: CommandRunResult | None = None
    executor_pod_name: str | None = None
    files: dict[str, str] = Field(default_factory=dict)


def build_request(asked: RunCodeRequest) -> ProgramRequest:
    """Turn SandboxFusion's request into ours.

    Raises:
        ValueError: An unknown language, a path that leaves the folder, a file that is no text.
    """
    language = ALIASES.get(asked.language, asked.language)
    file_name = find_language(language).file_name
    if language == "java" and (found := PUBLIC_CLASS.search(asked.code)):
        file_name = f"{found[1]}.java"
    if asked.fetch_files:
        raise ValueError("fetch_files must be empty: nothing written leaves the sandbox; print it")
    files = [(file_name, asked.code)]
    for path, content in asked.files.items():
        if content is not None:
            files.append((check_path(path, file_name), decode_file(path, content)))
    memory_mb = asked.memory_limit_MB if asked.memory_limit_MB > 0 else DEFAULT_MEMORY_MB
    limits = ResourceLimits(
        cpu_s=asked.run_timeout,
        wall_s=2 * asked.run_timeout + 5.0,
        memory_bytes=memory_mb << 20,
    )
    return ProgramRequest(language, tuple(files), (asked.stdin or "",), limits)


def check_path(path: str, file_name: str) -> str:
    """The path if it stays inside the program's folder and is not the program's own."""
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise ValueError(f"files: path {path!r} leaves the program's folder; use a relative one")
    if str(pure) == file_name:
        raise ValueError(f"files: path {path!r} is the program's own; name it otherwise")
    return str(pure)


def decode_file(path: str, content: str) -> str:
    """The text of a file that came as base64."""
    try:
        return base64.b64decode(content, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError(f"files: the content of {path!r} is not base64 of UTF-8 text") from None


def build_response(result: ExecutionResult, is_compiled: bool) -> RunCodeResponse:
    """Say in SandboxFusion's words how a program ended.

    Args:
        result: Of one run.
        is_compiled: Whether the language has a compiler, so that `compile_result` is to be given.
    """
    if result.status is Status.INFRASTRUCTURE:
        fault = CommandRunResult(status=CommandStatus.ERROR, stderr=result.detail)
        return RunCodeResponse(
            status=RunStatus.SANDBOX_ERROR, message=result.detail, run_result=fault
        )
    if is_compiled and result.status is Status.COMPILE_ERROR:
        stderr = result.stderr_tail or result.detail
        failed = CommandRunResult(
            status=CommandStatus.FINISHED, return_code=1, stdout="", stderr=stderr
        )
        return RunCodeResponse(status=RunStatus.FAILED, compile_result=failed)
    compiled = CommandRunResult(status=CommandStatus.FINISHED, return_code=0, stdout="", stderr="")
    is_late = result.status in (Status.CPU_TIME, Status.WALL_TIME)
    run = CommandRunResult(
        status=CommandStatus.TIME_LIMIT_EXCEEDED if is_late else CommandStatus.FINISHED,
        execution_time=result.wall_s,
        return_code=None if is_late else find_return_code(result),
        stdout=result.runs[-1].stdout if result.runs else result.stdout_tail,
        stderr=result.stderr_tail,
    )
    is_success = result.status is Status.PASSED
    return RunCodeResponse(
        status=RunStatus.SUCCESS if is_success else RunStatus.FAILED,
        compile_result=compiled if is_compiled else None,
        run_result=run,
    )


def find_return_code(result: ExecutionResult) -> int:
    """0 only for a program that ended well by itself; a program that does not parse gives 1."""
    if result.status is Status.PASSED:
        return 0
    if result.status is Status.COMPILE_ERROR:
        return 1
    if result.signal is not None:
        return -result.signal
    return result.exit_code or -9
