"""What references answered is recalled by later sessions, and never believed once it is damaged."""

import dataclasses
import math
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

import sdb_sandboxes
from sdb_sandboxes.agent.codec import pack_frame
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    ExecutionRequest,
    ExecutionResult,
    ReferenceCheck,
    ResourceLimits,
    Status,
)
from sdb_sandboxes.verifiers import answers, verify
from sdb_sandboxes.verifiers.answers import (
    find_folder,
    hash_entry,
    name_entry,
    run_trusted,
    split_frames,
)

LIMITS = ResourceLimits(cpu_s=2.0, wall_s=60.0)
VALUES = "[x, (x, {x: 1.5}), {x}, frozenset({'a'}), 2**70, 1j, b'b', None, True, float('inf')]"
REQUEST = ExecutionRequest(f"def f(x): return {VALUES}", (("f", (1,)), ("f", ("é",))), LIMITS)


class Counting:
    """A sandbox that counts the programs that really ran in it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.num_runs = 0
        self.level, self.image = sandbox.level, sandbox.image

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        self.num_runs += 1
        return self.sandbox.call_functions(request)


@pytest.fixture(scope="module")
def opened() -> Iterator[Sandbox]:
    with open_sandbox("embedded", num_slots=1) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(opened: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """With a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Counting(opened)


def run(sandbox: Counting, request: ExecutionRequest) -> tuple[ExecutionResult, int]:
    return run_trusted(cast(Sandbox, sandbox), request)


def find_entry() -> Path:
    (path,) = find_folder().iterdir()
    return path


def test_a_later_run_recalls_the_same_answers(sandbox: Counting) -> None:
    first = run(sandbox, REQUEST)
    again = run(sandbox, REQUEST)
    assert sandbox.num_runs == 1
    assert repr(again[0].outcomes) == repr(first[0].outcomes)
    assert len(first[0].outcomes) == 2
    assert (again[0].status, again[0].cpu_s, again[1]) == (Status.PASSED, first[0].cpu_s, first[1])
    assert find_entry().stat().st_mode & 0o777 == 0o600


def test_nan_is_recalled_as_nan(sandbox: Counting) -> None:
    request = dataclasses.replace(REQUEST, program="def f(x): return float('nan')")
    run(sandbox, request)
    value = run(sandbox, request)[0].outcomes[0].value
    assert sandbox.num_runs == 1
    assert isinstance(value, float)
    assert math.isnan(value)


OTHERS: dict[str, ExecutionRequest] = {
    "program": dataclasses.replace(REQUEST, program="def f(x): return x"),
    "calls": dataclasses.replace(REQUEST, calls=(("f", (1,)), ("f", (2,)))),
    "types of arguments": dataclasses.replace(REQUEST, calls=(("f", (1.0,)), ("f", ("é",)))),
    "limits": dataclasses.replace(REQUEST, limits=ResourceLimits(answer_bytes=1000)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_questions_run(sandbox: Counting, name: str) -> None:
    run(sandbox, REQUEST)
    result, _ = run(sandbox, OTHERS[name])
    assert sandbox.num_runs == 2
    assert result.outcomes == sandbox.sandbox.call_functions(OTHERS[name]).outcomes


@pytest.mark.parametrize("what", ["level", "image"])
def test_another_sandbox_runs(sandbox: Counting, what: str) -> None:
    run(sandbox, REQUEST)
    setattr(sandbox, what, "another")
    run(sandbox, REQUEST)
    assert sandbox.num_runs == 2


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (answers, ("hash_code", lambda: "another")),
        (sys, ("version", "4.0")),
        (os, ("uname", lambda: ("Linux", "elsewhere"))),
    ],
    ids=["code", "interpreter", "machine"],
)
def test_other_surroundings_run(
    sandbox: Counting, monkeypatch: pytest.MonkeyPatch, where: object, told: tuple[str, object]
) -> None:
    run(sandbox, REQUEST)
    monkeypatch.setattr(where, *told)
    run(sandbox, REQUEST)
    assert sandbox.num_runs == 2


def test_the_code_is_all_of_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdb_sandboxes, "__file__", str(tmp_path / "__init__.py"))
    hashes = set()
    for path, text in (("a.py", "1"), ("a.py", "2"), ("agent/a.py", ""), ("b.py", "")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
        answers.hash_code.cache_clear()
        hashes.add(answers.hash_code())
    answers.hash_code.cache_clear()
    assert len(hashes) == 4


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def rewrite(path: Path, frames: bytes) -> None:
    """An entry whose hash is right."""
    body = zlib.compress(frames)
    path.write_bytes(hash_entry(path.name, body) + b"\n" + body)


def answer_one_call(path: Path) -> None:
    frames = list(split_frames(zlib.decompress(path.read_bytes().partition(b"\n")[2])))
    rewrite(path, b"".join(len(one).to_bytes(4, "little") + one for one in frames[:2]))


def link(path: Path) -> None:
    other = path.parent.parent / "other"
    path.rename(other)
    path.symlink_to(other)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "of another name": lambda path: path.write_bytes(
        hash_entry("f" * 64, b"") + path.read_bytes()[64:]
    ),
    "too few answers": answer_one_call,
    "no frames": lambda path: rewrite(path, b"\0\0\0"),
    "cut frames": lambda path: rewrite(path, b"\xff\0\0\0{}"),
    "another kind of answer": lambda path: rewrite(path, pack_frame({}) * 3),
    "an object": lambda path: rewrite(path, pack_frame({"v": {"z": "os.system"}}) * 3),
    "writable by others": lambda path: path.chmod(0o666),
    "a folder open to others": lambda path: path.parent.chmod(0o777),
    "a link": link,
    "removed": Path.unlink,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_answered_anew(sandbox: Counting, name: str) -> None:
    first, _ = run(sandbox, REQUEST)
    DAMAGES[name](find_entry())
    again, _ = run(sandbox, REQUEST)
    assert sandbox.num_runs == 2
    assert again.outcomes == first.outcomes
    find_folder().chmod(0o700)
    run(sandbox, REQUEST)  # the entry was written anew
    assert sandbox.num_runs == 2


def test_an_entry_under_another_name_is_not_believed(sandbox: Counting) -> None:
    run(sandbox, REQUEST)
    other = dataclasses.replace(REQUEST, program="def f(x): return x")
    find_entry().rename(find_folder() / name_entry(cast(Sandbox, sandbox), other))
    result, _ = run(sandbox, other)
    assert [outcome.value for outcome in result.outcomes] == [1, "é"]


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): return 1 / 0",
        "def f(x):",
        "def f(x): raise MemoryError",
        "import os; os._exit(0)",
    ],
)
def test_a_failure_is_not_kept(sandbox: Counting, program: str) -> None:
    for _ in range(2):
        run(sandbox, dataclasses.replace(REQUEST, program=program))
    assert sandbox.num_runs == 2
    assert not find_folder().exists()


def test_nothing_is_kept_where_nothing_can_be(
    sandbox: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    for _ in range(2):
        assert run(sandbox, REQUEST)[0].status is Status.PASSED
    assert sandbox.num_runs == 2


def test_what_was_long_not_used_is_removed(sandbox: Counting) -> None:
    run(sandbox, REQUEST)
    old = find_entry()
    for age_s, is_kept in ((0.5 * answers.KEPT_S, True), (2 * answers.KEPT_S, False)):
        os.utime(old, (0, old.stat().st_mtime - age_s))
        run(sandbox, dataclasses.replace(REQUEST, program=f"def f(x): return {age_s}"))
        assert old.exists() is is_kept


def test_a_full_disk_leaves_nothing_behind(
    sandbox: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, target: Path) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(Path, "replace", fail)
    assert run(sandbox, REQUEST)[0].status is Status.PASSED
    assert not list(find_folder().iterdir())


def test_the_least_recently_used_make_room(
    sandbox: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        dataclasses.replace(REQUEST, program=f"def f(x): return {number}") for number in range(3)
    ]
    paths = [find_folder() / name_entry(cast(Sandbox, sandbox), request) for request in requests]
    for age_s, request, path in zip((20, 10), requests, paths, strict=False):
        run(sandbox, request)
        os.utime(path, (0, path.stat().st_mtime - age_s))
    run(sandbox, requests[0])  # now the other one was longer not used
    monkeypatch.setattr(answers, "MAX_BYTES", int(2.5 * paths[0].stat().st_size))
    run(sandbox, requests[2])
    assert [path.exists() for path in paths] == [True, False, True]


def test_a_kept_answer_decides_in_another_session(
    opened: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reference = "import os\ndef f(x): return [x, os.urandom(8)]"  # cannot answer alike twice
    check = ReferenceCheck("f", reference, ((1,),))
    assert verify(opened, "def f(x): return [x, b'']", check, LIMITS).status is Status.WRONG_ANSWER
    (entry,) = find_folder().iterdir()
    body = zlib.decompress(entry.read_bytes().partition(b"\n")[2])
    _, reply = split_frames(body)
    kept = reply.decode().partition('{"b":"')[2][:16]
    with open_sandbox("embedded", num_slots=1) as later:
        again = dataclasses.replace(check)
        program = f"def f(x): return [x, bytes.fromhex('{kept}')]"
        assert verify(later, program, again, LIMITS).is_passed
        assert verify(later, reference, again, LIMITS).status is Status.WRONG_ANSWER
