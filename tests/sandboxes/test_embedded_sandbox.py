"""Life of the embedded sandbox: levels, slots, faults of ours, and what remains after its death."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sdb_sandboxes.cgroups import PREFIX, find_parents
from sdb_sandboxes.conformance import find_violations
from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox, Level
from sdb_sandboxes.errors import SandboxUnavailable, SlotLost
from sdb_sandboxes.gate import Gate
from sdb_sandboxes.launch import ProcessLauncher, ProcessServer, Role
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.slot import Slot
from sdb_sandboxes.types import (
    AssertionCheck,
    CallOutcome,
    ExecutionRequest,
    ExecutionResult,
    ResourceLimits,
    Status,
)

ROOM = Path(__file__).parents[2] / "sandboxes"
ECHO = ExecutionRequest("def f(x): return [x]", (("f", (7,)),))


@pytest.mark.parametrize("level", ["native-root", "native-user", "minimal"])
def test_conforms_at_every_level(level: Level) -> None:
    try:
        sandbox = EmbeddedSandbox(num_slots=1, min_level=level, max_level=level)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with sandbox:
        assert sandbox.level == f"embedded/{level}"
        assert find_violations(sandbox) == []


class Careless(EmbeddedSandbox):
    """Says yes to everything."""

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        return ExecutionResult(Status.PASSED, (CallOutcome(8),), 0.0, 0.0, 0)


def test_conformance_finds_a_careless_sandbox() -> None:
    with Careless(num_slots=1) as sandbox:
        violations = find_violations(sandbox)
    assert any(line.startswith("limits CPU time") for line in violations)
    assert any(line.startswith("hides the host's files") for line in violations)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="num_slots=0"):
        EmbeddedSandbox(0)
    with pytest.raises(ValueError, match="'chroot' does not exist"):
        open_sandbox("chroot")


@pytest.mark.parametrize("name", ["min_level", "max_level"])
def test_there_is_no_level_without_locks(name: str) -> None:
    levels: dict[str, Any] = {name: "none"}
    with pytest.raises(ValueError, match=f"{name}='none'.*use minimal, native-user, native-root$"):
        EmbeddedSandbox(1, **levels)


def test_refuses_a_host_that_is_too_weak(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Slot, *arguments: object) -> None:
        raise SlotLost("no seccomp here")

    monkeypatch.setattr(Slot, "__init__", refuse)
    with pytest.raises(SandboxUnavailable, match=r"min_level='minimal'.*no seccomp here"):
        EmbeddedSandbox(1)


def test_says_that_it_needs_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="needs Linux"):
        EmbeddedSandbox(1)


def test_close_is_final_and_may_be_repeated() -> None:
    sandbox = open_sandbox(num_slots=1)
    sandbox.close()
    sandbox.close()
    with pytest.raises(ValueError, match="closed"):
        sandbox.call_functions(ECHO)


def test_close_wakes_callers_that_wait() -> None:
    sandbox = EmbeddedSandbox(num_slots=1)
    with ThreadPoolExecutor(4) as pool:
        slow = ExecutionRequest("import time\ndef f(x): time.sleep(0.3)", (("f", (7,)),))
        calls = [pool.submit(sandbox.call_functions, slow) for _ in range(4)]
        while sandbox._free.qsize():
            pass
        sandbox.close()
        errors = [call.exception(timeout=30) for call in calls]
    assert sum(error is None for error in errors) <= 1
    assert all(error is None or "closed" in str(error) for error in errors)


def test_a_small_sample_follows_one_that_filled_its_folder() -> None:
    """The files of the last sample count as memory until they are wiped."""
    big = ResourceLimits(memory_bytes=512 << 20, file_bytes=96 << 20)
    small = ResourceLimits(memory_bytes=48 << 20, file_bytes=1 << 20)
    program = "def f(x):\n    with open('big', 'wb') as b: b.write(bytes(90 << 20))\n"
    with EmbeddedSandbox(num_slots=1) as sandbox:
        filled = sandbox.call_functions(ExecutionRequest(program, (("f", (7,)),), big))
        assert filled.outcomes == (CallOutcome(None),), filled
        after = sandbox.call_functions(ExecutionRequest(ECHO.program, ECHO.calls, small))
        assert after.outcomes == (CallOutcome([7]),), after


def find_servers(parent: int) -> list[int]:
    """Fork servers below a process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ppid = int((entry / "stat").read_bytes().rsplit(b")", 1)[1].split()[1])
            if ppid == parent and b"agent.zygote" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_killed_server_is_rebuilt_and_the_sample_retried() -> None:
    others = set(find_servers(os.getpid()))
    with EmbeddedSandbox(num_slots=1) as sandbox:
        (server,) = set(find_servers(os.getpid())) - others
        os.kill(server, signal.SIGKILL)
        result = sandbox.call_functions(ECHO)
        assert result.status is Status.PASSED
        assert server not in find_servers(os.getpid())


@pytest.mark.parametrize("number", [0, 1])
def test_a_server_killed_in_the_middle_is_our_fault(number: int) -> None:
    program = "import time\ndef f(x):\n    time.sleep(0.4)\n    return x\n"
    check = AssertionCheck("f", "def check(f): assert f(7) == 7")
    others = set(find_servers(os.getpid()))
    with EmbeddedSandbox(num_slots=1) as sandbox, ThreadPoolExecutor(1) as pool:
        call = pool.submit(sandbox.run_assertions, program, check, ResourceLimits())
        while len(servers := set(find_servers(os.getpid())) - others) < 2:
            pass
        os.kill(sorted(servers)[number], signal.SIGKILL)
        result = call.result(60)
        assert result.status is Status.PASSED, result


def test_a_sample_that_keeps_losing_slots_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Slot.call_functions

    def lose(self: Slot, request: ExecutionRequest) -> ExecutionResult:
        if request == ECHO:
            raise SlotLost("gone")
        return honest(self, request)

    with EmbeddedSandbox(num_slots=1) as sandbox:
        monkeypatch.setattr(Slot, "call_functions", lose)
        result = sandbox.call_functions(ECHO)
        assert result.status is Status.RUNTIME_ERROR
        assert "known-good" in result.detail


def test_a_host_that_loses_every_slot_is_infrastructure(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(self: Slot, request: ExecutionRequest) -> ExecutionResult:
        raise SlotLost("no memory on this host")

    with EmbeddedSandbox(num_slots=1) as sandbox:
        monkeypatch.setattr(Slot, "call_functions", lose)
        result = sandbox.call_functions(ECHO)
        assert (result.status, result.detail) == (Status.INFRASTRUCTURE, "no memory on this host")
        monkeypatch.undo()
        assert sandbox.call_functions(ECHO).status is Status.PASSED


def test_a_server_slow_to_start_costs_the_candidate_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch = ProcessLauncher.launch

    def dawdle(self: ProcessLauncher, role: Role) -> ProcessServer:
        time.sleep(2.0 if role == "tests" else 0.0)
        return launch(self, role)

    monkeypatch.setattr(ProcessLauncher, "launch", dawdle)
    check = AssertionCheck("f", "def check(f): assert f(7) == 7")
    with EmbeddedSandbox(num_slots=1) as sandbox:
        result = sandbox.run_assertions("def f(x): return x", check, ResourceLimits(wall_s=1.9))
        assert result.status is Status.PASSED, result
        assert result.wall_s < 1.9


def test_a_stall_is_run_again_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [ExecutionResult(Status.WALL_TIME, (), 0.1, 9.0, 0)]
    honest = Slot.call_functions

    def stall_once(self: Slot, request: ExecutionRequest) -> ExecutionResult:
        self.waiting_s = 8.0
        return results.pop() if results else honest(self, request)

    with EmbeddedSandbox(num_slots=2) as sandbox:
        monkeypatch.setattr(Slot, "call_functions", stall_once)
        assert sandbox.call_functions(ECHO).status is Status.PASSED


def test_many_threads_share_few_slots() -> None:
    with EmbeddedSandbox(num_slots=2) as sandbox, ThreadPoolExecutor(8) as pool:
        requests = [
            ExecutionRequest("def f(x): return x * x", (("f", (n,)),), ResourceLimits(cpu_s=9.0))
            for n in range(60)
        ]
        results = list(pool.map(sandbox.call_functions, requests))
    assert [r.outcomes for r in results] == [(CallOutcome(n * n),) for n in range(60)]


def test_gate_lets_one_be_alone() -> None:
    gate, order = Gate(), list[str]()
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with gate.shared():
            inside.set()
            leave.wait(30)
            order.append("shared")

    def be_alone() -> None:
        with gate.alone():
            order.append("alone")

    threads = [threading.Thread(target=stay), threading.Thread(target=be_alone)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join(30)
    assert order == ["shared", "alone"]


KILLED = """
import sys, threading
from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.types import ExecutionRequest, ResourceLimits
sandbox = EmbeddedSandbox(1, max_level=sys.argv[1], min_level=sys.argv[1])
program = "import os, time\\nos.fork()\\nwhile True: time.sleep(9)"
request = ExecutionRequest(program, (("f", ()),), ResourceLimits(cpu_s=60.0, wall_s=600.0))
threading.Thread(target=sandbox.call_functions, args=(request,), daemon=True).start()
while sandbox._free.qsize():
    pass
print("running", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("level", ["native-root", "native-user", "minimal"])
def test_nothing_survives_the_sudden_death_of_the_judge(level: Level) -> None:
    judge = subprocess.Popen(
        [sys.executable, "-c", KILLED, level],
        env={"PYTHONPATH": str(ROOM)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with judge:
        assert judge.stdout is not None
        if judge.stdout.readline() != b"running\n":
            assert judge.stderr is not None
            pytest.skip(judge.stderr.read().decode().strip().splitlines()[-1])
        (server,) = find_servers(judge.pid)
        pidfd = os.pidfd_open(server)
        judge.kill()
    assert select.select([pidfd], [], [], 30)[0], "the fork server outlived its judge"
    os.close(pidfd)
    parents = find_parents() or ()
    assert not [p for parent in parents for p in parent.glob(f"{PREFIX}-{judge.pid}-*")]


ORDINARY = """
from sdb_sandboxes.cgroups import PREFIX, find_parents
from sdb_sandboxes.conformance import find_violations
from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
for level in ("native-user", "minimal"):
    try:
        sandbox = EmbeddedSandbox(1, min_level=level, max_level=level)
    except Exception as error:
        print("unavailable", error)
        continue
    with sandbox:
        print(sandbox.level, find_violations(sandbox))
"""


def test_works_as_an_ordinary_user() -> None:
    python = Path("/usr/bin/python3")
    if os.geteuid() != 0 or not python.exists():
        pytest.skip("needs root to become an ordinary user, and /usr/bin/python3")
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.split()[1].split(".")[:2])) < (3, 11):
        pytest.skip(f"/usr/bin/python3 is too old: {version}")
    result = subprocess.run(
        [python, "-c", ORDINARY],
        env={"PYTHONPATH": str(ROOM), "PYTHONDONTWRITEBYTECODE": "1"},
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "embedded/minimal []" in result.stdout, result.stdout
    native = result.stdout.splitlines()[0]
    assert native == "embedded/native-user []" or "native-user: [Errno 1] unshare" in native, native


COPY = """
import pathlib, shutil

def copy():
    pathlib.Path("a").mkdir()
    pathlib.Path("a/text").write_text("x")
    shutil.copy2("a/text", "b")
    shutil.copytree("a", "c")
    return pathlib.Path("b").read_text() + pathlib.Path("c/text").read_text()
"""


def test_files_are_copied_with_what_belongs_to_them() -> None:
    with open_sandbox("embedded", num_slots=1) as sandbox:
        done = sandbox.call_functions(ExecutionRequest(COPY, (("copy", ()),)))
    assert [outcome.value for outcome in done.outcomes] == ["xx"], done.detail
