"""What a trusted program answered in a sandbox, kept on disk for the next session.

Place in the flow: `references.py` runs the references of a benchmark through `run_trusted`. Running
them costs as much as judging one sample, and they answer alike each time; EvalPlus keeps their
answers on disk too. An entry lies under the hash of all that could change it: program, calls and
limits, level and image of the sandbox, the code of this package, the interpreter, and the machine,
whose speed the CPU time tells. It is written here, outside the sandbox, in the frames in which the
answers came. One that is damaged, moved, or open to other users is not believed: the program runs
again.

Entries lie in `$XDG_CACHE_HOME/sdbench/answers` (`~/.cache/sdbench/answers`), some 100 MB for
HumanEval+, and may be removed at any time; those that were not used for `KEPT_S` are, and the least
recently used where all take more than `MAX_BYTES`. Where none can be written nothing is kept.

What it does not do: no candidate's answers are kept, nor those of a program that failed in a call;
nothing is unpickled. Whoever may write as this user may also change this file.
"""

import contextlib
import functools
import hashlib
import json
import os
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import sdb_sandboxes
from sdb_sandboxes.agent.codec import (
    ProtocolError,
    decode,
    encode,
    pack_frame,
    parse_frame,
)
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.slot import find_packed_calls
from sdb_sandboxes.types import CallOutcome, ExecutionRequest, ExecutionResult, Status

KEPT_S = 30 * 24 * 3600.0
MAX_BYTES = 2 << 30
"""Bytes of all entries; checks may come from users of a service, who shall not fill the disk."""
COMPRESSION = 1
"""The quickest: reading must cost less than running."""
DAMAGES = (ValueError, LookupError, TypeError, ProtocolError, RecursionError, zlib.error)
"""What reading an entry raises that is not as it was written."""


def run_trusted(sandbox: Sandbox, request: ExecutionRequest) -> tuple[ExecutionResult, int]:
    """Run a trusted program, or recall what it answered.

    Returns:
        The result, and bytes of all answers as they travel.

    Raises:
        ValueError: an argument of a call is not plain data.
    """
    name = name_entry(sandbox, request)
    path = find_folder() / name
    with contextlib.suppress(OSError, *DAMAGES):
        return recall(path, len(request.calls))
    result = sandbox.call_functions(request)
    frames = b"".join(map(pack_answer, result.outcomes))
    failures = {outcome.exception for outcome in result.outcomes} - {None, "Undecodable"}
    if result.status is Status.PASSED and not failures:
        with contextlib.suppress(OSError):
            keep(path, result, frames)
    return result, len(frames)


def name_entry(sandbox: Sandbox, request: ExecutionRequest) -> str:
    """Hash of everything that the answers depend on."""
    told = {
        "program": request.program,
        "calls": hashlib.sha256(find_packed_calls(request.calls)).hexdigest(),
        "limits": asdict(request.limits),
        "sandbox": [sandbox.level, sandbox.image],
        "code": hash_code(),
        "python": sys.version,
        "machine": list(os.uname()),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@functools.cache
def hash_code() -> str:
    """Hash of this package's files: any of them may change what a program answers here."""
    folder = Path(sdb_sandboxes.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def find_folder() -> Path:
    """Where entries lie."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sdbench" / "answers"


# One entry: a line with the hash of its name and of the rest, then the rest, compressed: one frame
# about the run, and one for each call in order.


def recall(path: Path, num_calls: int) -> tuple[ExecutionResult, int]:
    """Read an entry.

    Raises:
        OSError: there is none.
        ValueError: it is damaged, or could have been written by another user; so are all `DAMAGES`.
    """
    check_owner(path.parent)
    check_owner(path)
    digest, _, body = path.read_bytes().partition(b"\n")
    if digest != hash_entry(path.name, body):
        raise ValueError("damaged")
    frames = zlib.decompress(body)
    run, *replies = map(parse_frame, split_frames(frames))
    if len(replies) != num_calls:
        raise ValueError("answers to other calls")
    result = ExecutionResult(
        status=Status.PASSED,
        outcomes=tuple(map(read_reply, replies)),
        cpu_s=float(run["cpu_s"]),
        wall_s=float(run["wall_s"]),
        peak_memory_bytes=int(run["peak_memory_bytes"]),
    )
    os.utime(path)
    return result, run["num_bytes"]


def keep(path: Path, result: ExecutionResult, frames: bytes) -> None:
    """Write an entry, whole or not at all. Raises OSError."""
    run = {
        "cpu_s": result.cpu_s,
        "wall_s": result.wall_s,
        "peak_memory_bytes": result.peak_memory_bytes,
        "num_bytes": len(frames),
    }
    body = zlib.compress(pack_frame(run) + frames, COMPRESSION)
    make_room(path.parent, len(body))
    # Nobody else may read it, and two threads may keep the same entry.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        scratch = Path(file.name)
        try:
            file.write(hash_entry(path.name, body) + b"\n" + body)
            file.flush()
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def hash_entry(name: str, body: bytes) -> bytes:
    """What the first line of an entry says."""
    return hashlib.sha256(name.encode() + b"\0" + body).hexdigest().encode()


def pack_answer(outcome: CallOutcome) -> bytes:
    """One frame, as the answer travelled."""
    if outcome.exception is None:
        return pack_frame({"v": encode(outcome.value)})
    return pack_frame({"e": outcome.exception})


def split_frames(frames: bytes) -> Iterator[bytes]:
    """The frames without their lengths. Raises ValueError if the last one is cut off."""
    place = 0
    while place < len(frames):
        start = place + 4
        place = start + int.from_bytes(frames[place:start], "little")
        if place > len(frames):
            raise ValueError("cut off")
        yield frames[start:place]


def read_reply(reply: dict[str, object]) -> CallOutcome:
    """One answer. Raises LookupError or ProtocolError if it is none."""
    if "e" in reply:
        return CallOutcome(exception=str(reply["e"]))
    return CallOutcome(decode(reply["v"]))


def make_room(folder: Path, num_bytes: int) -> None:
    """Make the folder, for this user only, and remove what was long not used. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = [(path, path.stat()) for path in folder.iterdir()]
    total = num_bytes + sum(state.st_size for _, state in found)
    for path, state in sorted(found, key=lambda entry: entry[1].st_mtime):
        if total <= MAX_BYTES and state.st_mtime > time.time() - KEPT_S:
            break
        path.unlink(missing_ok=True)
        total -= state.st_size


def check_owner(path: Path) -> None:
    """Refuse what another user may have written. Raises OSError, or ValueError for that."""
    state = os.lstat(path)
    is_ours = state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not is_ours or stat.S_ISLNK(state.st_mode):
        raise ValueError(f"{path} may be of another user")
