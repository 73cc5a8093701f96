"""Life of the Docker sandbox: what its containers are, every fault of an engine, what remains."""

import contextlib
import copy
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sdb_sandboxes import docker_sandbox
from sdb_sandboxes.cgroups import ContainerGroup
from sdb_sandboxes.conformance import find_violations
from sdb_sandboxes.docker_sandbox import (
    FOLDER_PREFIX,
    LABEL,
    SECCOMP,
    ContainerHost,
    DockerSandbox,
    describe_judge,
    is_dead_judge,
)
from sdb_sandboxes.engine import Engine
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.images.build import IMAGES, Image
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.types import (
    AssertionCheck,
    CallOutcome,
    Case,
    ExecutionRequest,
    ExecutionResult,
    FunctionCheck,
    ResourceLimits,
    Status,
)
from sdb_sandboxes.verifiers import verify

ROOM = Path(__file__).parents[2] / "sandboxes"
PATIENCE_S = 600.0
"""Until something that must happen counts as not happening, however loaded the machine is."""
PATIENT = ResourceLimits(wall_s=PATIENCE_S)
ECHO = ExecutionRequest("def f(x): return [x]", (("f", (7,)),), PATIENT)
SLOW = ExecutionRequest(
    "import time\ndef f(x):\n    time.sleep(1.5)\n    return x", (("f", (7,)),), PATIENT
)
ANSWER = (CallOutcome(7),)
OTHERS: set[str] = set()
"""Containers that this process had before a test began: those of the session's sandboxes."""


@pytest.fixture(autouse=True)
def others(request: pytest.FixtureRequest) -> None:
    """Tell a test's own containers from those of the session's sandboxes."""
    OTHERS.clear()
    if "engine" in request.fixturenames:
        engine = request.getfixturevalue("engine")
        OTHERS.update(container.id for container in list_containers(engine))


@pytest.fixture
def sandbox(engine: Engine) -> Iterator[DockerSandbox]:
    with DockerSandbox(1) as sandbox:
        yield sandbox


def list_containers(engine: Engine, pid: int | None = None) -> list[Any]:
    """Containers of a judge, by default those that this test made."""
    wanted = f"{LABEL}={describe_judge(pid or os.getpid())}"
    found = engine.client.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)
    return [container for container in found if container.id not in OTHERS]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        select.select([], [], [], 0.01)  # leave the processor to what is waited for


# What a slot is


@pytest.mark.docker
def test_conforms(sandbox: DockerSandbox) -> None:
    assert sandbox.level == f"{sandbox._host.engine.kind}/{sandbox._host.runtime}"
    assert find_violations(sandbox) == []


@pytest.mark.docker
def test_containers_are_hardened_and_never_shared(engine: Engine, sandbox: DockerSandbox) -> None:
    check = AssertionCheck("f", "def check(f): assert f(7) == [7]")
    assert sandbox.run_assertions(ECHO.program, check, ResourceLimits()).status is Status.PASSED
    containers = list_containers(engine)
    assert len(containers) == 2
    for container in containers:
        host, config = container.attrs["HostConfig"], container.attrs["Config"]
        assert host["NetworkMode"] == "none"
        assert host["IpcMode"] == "none"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert host["Privileged"] is False
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
        assert host["LogConfig"]["Type"] == "none"
        assert host["Memory"] == host["MemorySwap"] > 0
        assert 0 < host["PidsLimit"] < 200
        assert "nr_inodes=32768" in host["Tmpfs"]["/work"]
        assert all(not mount["RW"] for mount in container.attrs["Mounts"])
        assert config["Hostname"] == "sandbox"
        assert config["Tty"] is config["OpenStdin"] is False
    users = {container.attrs["Config"]["User"] for container in containers}
    assert len(users) == 2
    assert all(int(user.split(":")[0]) >= 20_000 for user in users)


FORBIDDEN = {
    "add_key": 248,
    "bpf": 321,
    "io_uring_setup": 425,
    "kcmp": 312,
    "keyctl": 250,
    "memfd_create": 319,
    "mount": 165,
    "move_mount": 429,
    "open_by_handle_at": 304,
    "perf_event_open": 298,
    "process_vm_readv": 310,
    "ptrace": 101,
    "setns": 308,
    "unshare": 272,
    "userfaultfd": 323,
}
"""Name -> number on x86-64."""


def test_seccomp_profile_allows_by_list_and_none_of_these() -> None:
    profile = json.loads(SECCOMP.read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }
    assert not allowed & (FORBIDDEN.keys() | {"clone3", "io_uring_enter", "syslog", "reboot"})
    assert {"execve", "clone", "read", "landlock_restrict_self", "seccomp"} <= allowed


@pytest.mark.docker
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_the_container_itself_refuses_them(engine: Engine, sandbox: DockerSandbox) -> None:
    """Below the cells' own filter: as a process of the container that lost no other right."""
    (container,) = list_containers(engine)
    program = (
        "import ctypes, json\nlibc = ctypes.CDLL(None, use_errno=True)\nfound = {}\n"
        f"for name, number in {FORBIDDEN!r}.items():\n"
        "    found[name] = (libc.syscall(number, 0, 0, 0, 0, 0), ctypes.get_errno())\n"
        "found['user namespace'] = (libc.unshare(0x10000000), ctypes.get_errno())\n"
        "print(json.dumps(found))"
    )
    command = ["docker", f"--host={engine.host}", "exec", container.id, "python3", "-c"]
    done = subprocess.run([*command, program], capture_output=True, text=True, check=True)
    for name, (result, errno) in json.loads(done.stdout).items():
        assert result == -1, name
        assert errno in (1, 38), name
    done = subprocess.run(
        [*command, "open('/usr/x', 'w')"], capture_output=True, text=True, check=False
    )
    assert "Read-only file system" in done.stderr


@pytest.mark.docker
def test_verdict_names_level_and_image(sandbox: DockerSandbox) -> None:
    verdict = verify(sandbox, "def f(x): return x", FunctionCheck("f", (Case((1,), 1),)))
    assert verdict.is_passed
    assert verdict.sandbox_level == sandbox.level
    assert verdict.image.startswith("sha256:")
    assert {"no-capabilities", "container-seccomp", "rlimits"} <= set(sandbox.layers)


@pytest.mark.docker
def test_packages_of_the_image_are_imported_before_the_program(engine: Engine) -> None:
    program = (
        "import sys\ndef f(x):\n    warm = 'numpy' in sys.modules\n    import numpy\n"
        "    return warm, int(numpy.arange(x).sum())"
    )
    request = ExecutionRequest(program, (("f", (7,)),))
    with open_sandbox("docker:py-numpy", 1) as sandbox:
        assert sandbox.call_functions(request).outcomes == (CallOutcome((True, 21)),)
    with open_sandbox("docker", 1) as sandbox:
        (outcome,) = sandbox.call_functions(request).outcomes
        assert outcome.exception == "ModuleNotFoundError"


# What ends in the container

MEMORY_HOG = """
import os, time
def f(x):
    for _ in range(12):
        if os.fork() == 0:
            block = bytearray(60 << 20)
            time.sleep(600)
            os._exit(0)
    os.wait()
    os.abort()
"""


@pytest.mark.docker
@pytest.mark.parametrize("is_readable", [True, False])
def test_memory_of_many_children_ends_the_program_and_not_the_slot(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, is_readable: bool
) -> None:
    """With the container's control group in our hands, and with the engine's limit alone."""
    if not is_readable:
        monkeypatch.setattr(ContainerGroup, "find", lambda pid: None)
        monkeypatch.setattr(docker_sandbox, "SERVER_BYTES", -(700 << 20))
    limits = ResourceLimits(cpu_s=30.0, wall_s=PATIENCE_S, memory_bytes=256 << 20)
    request = ExecutionRequest(MEMORY_HOG, (("f", (7,)),), limits)
    with DockerSandbox(1, max_limits=ResourceLimits()) as sandbox:
        (before,) = list_containers(engine)
        result = sandbox.call_functions(request)
        assert result.status is (Status.MEMORY if is_readable else Status.RUNTIME_ERROR), result
        assert sandbox.call_functions(ECHO).status is Status.PASSED
        assert [container.id for container in list_containers(engine)] == [before.id]


@pytest.mark.docker
def test_cpu_time_of_a_process_that_left_its_family_counts(sandbox: DockerSandbox) -> None:
    program = (
        "import os, time\ndef f(x):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        if os.fork() == 0:\n            while True: pass\n        os._exit(0)\n"
        "    time.sleep(600)\n"
    )
    limits = ResourceLimits(cpu_s=1.0, wall_s=PATIENCE_S)
    result = sandbox.call_functions(ExecutionRequest(program, (("f", (7,)),), limits))
    assert result.status is Status.CPU_TIME, result
    assert sandbox.call_functions(ECHO).status is Status.PASSED


@pytest.mark.docker
def test_a_request_above_the_slots_limits_is_refused(sandbox: DockerSandbox) -> None:
    greedy = ResourceLimits(memory_bytes=1 << 40)
    with pytest.raises(ValueError, match="memory_bytes=1099511627776 is above"):
        sandbox.call_functions(ExecutionRequest(ECHO.program, ECHO.calls, greedy))
    assert sandbox.call_functions(ECHO).status is Status.PASSED


# Faults of the engine


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="num_slots=0"):
        DockerSandbox(0)
    with pytest.raises(ValueError, match="image 'cobol' does not exist"):
        open_sandbox("docker:cobol")
    with pytest.raises(ValueError, match="memory_bytes=1073741824 is above the 1 of"):
        DockerSandbox(1, max_limits=ResourceLimits(memory_bytes=1))


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("unix:///nonexistent/docker.sock", "no container engine answers at unix:///nonexistent"),
        ("tcp://10.0.0.1:2375", "is a remote engine"),
    ],
)
def test_an_engine_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, host: str, message: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(SandboxUnavailable, match=message) as caught:
        DockerSandbox(1)
    assert "\n" not in str(caught.value)


AS_ANOTHER_USER = """
import os, sys, docker.api, docker.transport
from sdb_sandboxes.engine import Engine
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    Engine()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.docker
def test_permission_denied_on_the_socket(engine: Engine) -> None:
    path = engine.host.removeprefix("unix://")
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as closed:
        if os.geteuid() != 0:  # the real one is ours to use: take one that is nobody's
            path = f"{folder}/closed.sock"
            closed.bind(path)
            os.chmod(path, 0)
        result = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER],
            env={"PYTHONPATH": str(ROOM), "DOCKER_HOST": f"unix://{path}"},
            capture_output=True,
            text=True,
            check=True,
        )
    assert result.stdout.startswith("SandboxUnavailable this user may not use the container engine")
    assert result.stdout.count("\n") == 1


@pytest.mark.docker
def test_a_missing_image_says_how_to_build_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(IMAGES, "absent", Image("absent", "python"))
    with pytest.raises(SandboxUnavailable, match="sdbench sandbox build absent"):
        DockerSandbox(1, "absent")


@pytest.mark.docker
def test_an_unknown_runtime(engine: Engine) -> None:
    with pytest.raises(SandboxUnavailable, match="has no runtime 'crane'; it has"):
        open_sandbox("docker:py@crane", 1)


@pytest.mark.docker
def test_an_engine_that_would_drop_a_lock_is_refused(engine: Engine) -> None:
    podman = copy.copy(engine)
    podman.is_podman = True
    with pytest.raises(SandboxUnavailable, match="takes no runtime per container"):
        ContainerHost(podman, "py", engine.info["DefaultRuntime"], ResourceLimits())
    weak = copy.copy(engine)
    weak.info = {**engine.info, "PidsLimit": False}
    weak.is_rootless = False
    with pytest.raises(SandboxUnavailable, match="cannot limit memory and processes"):
        ContainerHost(weak, "py", None, ResourceLimits())


@pytest.mark.docker
def test_a_rootless_engine_without_control_groups_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits of a process hold there; those of a container are dropped by the engine."""
    weak = {**vars(engine), "is_rootless": True, "info": {**engine.info, "PidsLimit": False}}
    monkeypatch.setattr(Engine, "__init__", lambda self: self.__dict__.update(weak))
    monkeypatch.setattr(Engine, "close", lambda self: None)
    with DockerSandbox(1) as sandbox:
        assert sandbox.level.startswith(f"{engine.kind}-rootless/")
        assert not {"cgroup", "cgroup-counters"} & set(sandbox.layers)
        assert sandbox.call_functions(ECHO).status is Status.PASSED


@pytest.mark.docker
def test_process_ids_that_are_not_ours(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_sandbox, "read_peer_pid", lambda control: 0)
    with pytest.raises(SandboxUnavailable, match="process ids are not ours"):
        DockerSandbox(1)
    assert list_containers(engine) == []


@pytest.mark.docker
def test_a_server_that_cannot_start(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_sandbox, "BOOT", "raise SystemExit(3)")
    with pytest.raises(SandboxUnavailable, match="the container ended"):
        DockerSandbox(1)
    assert list_containers(engine) == []


@pytest.mark.docker
@pytest.mark.parametrize("action", ["kill", "remove"])
def test_a_container_lost_in_the_middle_is_our_fault(
    engine: Engine, sandbox: DockerSandbox, action: str
) -> None:
    (before,) = list_containers(engine)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(sandbox.call_functions, SLOW)
        wait_for(lambda: count_processes(before) > 1, "the program's start")
        if action == "kill":
            before.kill()
        else:
            before.remove(force=True)
        result = call.result(PATIENCE_S)
    assert (result.status, result.outcomes) == (Status.PASSED, ANSWER), result
    assert [container.id for container in list_containers(engine)] != [before.id]


def count_processes(container: Any) -> int:
    return len(container.top()["Processes"])


@pytest.mark.docker
def test_leftovers_of_dead_judges_alone_are_removed(engine: Engine) -> None:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    with child:
        dead, alive = describe_judge(child.pid), describe_judge(os.getpid())
        folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{dead}-"))
        made = [
            engine.client.containers.create(IMAGES["py"].tag, "true", labels={LABEL: name})
            for name in (dead, alive)
        ]
        DockerSandbox(1).close()
        assert folder.is_dir()  # its judge is still there
        child.kill()
    try:
        DockerSandbox(1).close()
        assert not folder.exists()
        assert list_containers(engine, child.pid) == []
        assert [container.id for container in list_containers(engine)] == [made[1].id]
    finally:
        made[1].remove()
    assert not is_dead_judge("another program's label")


# What remains


@pytest.mark.docker
def test_close_leaves_nothing(engine: Engine) -> None:
    check = AssertionCheck("f", "def check(f): assert f(7) == [7]")
    DockerSandbox(1).close()  # imports, caches
    folders, descriptors = list_folders(), list_descriptors()
    sandbox, watcher = DockerSandbox(2), Engine()
    with ThreadPoolExecutor(2) as pool:
        assertions = [
            pool.submit(sandbox.run_assertions, SLOW.program, check, ResourceLimits())
            for _ in range(2)
        ]
        wait_for(lambda: len(list_containers(watcher)) == 4, "the start of every container")
        containers = list_containers(watcher)
        pids = [container.attrs["State"]["Pid"] for container in containers]
        assert {call.result(PATIENCE_S).status for call in assertions} == {Status.WRONG_ANSWER}
    sandbox.close()
    assert list_containers(watcher) == []
    watcher.close()
    assert not [pid for pid in pids if pid and Path(f"/proc/{pid}").exists()]
    mount = Path("/sys/fs/cgroup")
    assert not [path for c in containers for path in mount.glob(f"*/docker/{c.id}")]
    assert list_folders() == folders
    assert len(list_descriptors()) == len(descriptors)


def list_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}{describe_judge(os.getpid())}*"))


def list_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


KILLED = """
import sys, threading
from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.types import ExecutionRequest, ResourceLimits
sandbox = DockerSandbox(1)
program = "import os, time\\nos.fork()\\nwhile True: time.sleep(9)"
request = ExecutionRequest(program, (("f", ()),), ResourceLimits(cpu_s=60.0, wall_s=600.0))
threading.Thread(target=sandbox.call_functions, args=(request,), daemon=True).start()
while sandbox._free.qsize():
    pass
print("running", flush=True)
threading.Event().wait()
"""


@pytest.mark.docker
def test_nothing_survives_the_sudden_death_of_the_judge(engine: Engine) -> None:
    judge = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        env={"PYTHONPATH": str(ROOM), "DOCKER_HOST": engine.host},
        stdout=subprocess.PIPE,
    )
    with judge:
        assert judge.stdout is not None
        assert judge.stdout.readline() == b"running\n"
        (container,) = list_containers(engine, judge.pid)
        pidfd = os.pidfd_open(container.attrs["State"]["Pid"])
        judge.kill()
    assert select.select([pidfd], [], [], PATIENCE_S)[0], "the fork server outlived its judge"
    os.close(pidfd)
    wait_for(lambda: list_containers(engine, judge.pid) == [], "the container's end")


# An engine of its own, stopped and started again


CONTAINERD = """version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/containerd.sock"
"""


class PrivateEngine:
    """A second engine with folders and a containerd of its own, so that it may be stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/engine.sock"
        (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder))
        (folder / "daemon.json").write_text("{}")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        """Start both daemons and wait until they answer."""
        self.start_one("containerd", "containerd", f"--config={self.folder}/containerd.toml")
        self.start_one(
            "engine",
            "dockerd",
            f"--config-file={self.folder}/daemon.json",
            f"--containerd={self.folder}/containerd.sock",
            f"--host={self.host}",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid",
            "--bridge=none",
            "--iptables=false",
            "--shutdown-timeout=1",
        )

    def start_one(self, name: str, *command: str) -> None:
        """Start one daemon and wait until its socket takes calls."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        self.processes.append(process)

        def answers() -> bool:
            assert process.poll() is None, f"{name} ended:\n{log.read_text()[-2000:]}"
            with socket.socket(socket.AF_UNIX) as client:
                return client.connect_ex(f"{self.folder}/{name}.sock") == 0

        wait_for(answers, f"the start of a second {name}")

    def stop(self) -> None:
        """Stop the engine, then what it stands on."""
        while self.processes:
            process = self.processes.pop()
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


@contextlib.contextmanager
def open_private_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, disk: str = ""
) -> Iterator[PrivateEngine]:
    """A private engine that has the image `py`, on a disk of its own if a size is given."""
    folder = Path(tempfile.mkdtemp(prefix="sdb-engine-", dir="/var/tmp"))
    with contextlib.ExitStack() as stack:
        stack.callback(remove_tree, folder)
        if disk:
            (folder / "data").mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", f"{folder}/data"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        private = PrivateEngine(folder)
        stack.callback(private.stop)
        monkeypatch.setenv("DOCKER_HOST", private.host)
        with contextlib.closing(Engine()) as target:
            image = engine.find_image(IMAGES["py"].tag)
            target.client.images.load(image.save(named=True))
        yield private


def remove_tree(folder: Path) -> None:
    """Unmount what lies in a folder, the inner before the outer, and remove it."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if line.split()[1].startswith(str(folder)):
            subprocess.run(["umount", line.split()[1]], check=False)
    shutil.rmtree(folder)


@pytest.fixture
def private_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateEngine]:
    with open_private_engine(engine, monkeypatch) as private:
        yield private


@pytest.mark.docker
@pytest.mark.slow
def test_an_engine_that_is_restarted_in_the_middle_loses_nothing(
    private_engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_sandbox, "ENGINE_WAIT_S", PATIENCE_S)
    requests = [ExecutionRequest(SLOW.program, (("f", (number,)),), PATIENT) for number in range(4)]
    with DockerSandbox(1) as sandbox, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(sandbox.call_functions, request) for request in requests]
        wait_for(lambda: sandbox._free.qsize() == 0, "the first program")
        private_engine.stop()
        private_engine.start()
        results = [call.result(PATIENCE_S) for call in calls]
    assert [r.outcomes for r in results] == [(CallOutcome(n),) for n in range(4)], results
    after = Engine()
    assert list_containers(after) == []
    after.close()


@pytest.mark.docker
@pytest.mark.slow
def test_an_engine_that_stays_away_is_infrastructure(
    private_engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_sandbox, "ENGINE_WAIT_S", 0.3)
    with DockerSandbox(1) as sandbox:
        private_engine.stop()
        result = sandbox.call_functions(ECHO)
        assert result.status is Status.INFRASTRUCTURE
        assert "the engine does not answer" in result.detail
        private_engine.start()
        assert sandbox.call_functions(ECHO).status is Status.PASSED


def fill_disk(ballast: Path) -> None:
    """Write until not one more block fits."""
    with ballast.open("wb", buffering=0) as file:
        for block in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(block))


@pytest.mark.docker
@pytest.mark.slow
def test_an_engine_without_disk_space_loses_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots are lost while the disk is full; first it stays so, then it has space in time."""
    with (
        open_private_engine(engine, monkeypatch, "700m") as private,
        contextlib.closing(Engine()) as watcher,
    ):
        ballast, folders = private.folder / "data" / "ballast", list_folders()
        waits: list[float] = []

        def make_space(wait_s: float) -> None:
            waits.append(wait_s)
            ballast.unlink(missing_ok=True)

        def lose_slot_on_a_full_disk(sandbox: DockerSandbox) -> list[ExecutionResult]:
            """Two programs for one slot, whose container dies under the first of them."""
            (before,) = list_containers(watcher)
            fill_disk(ballast)  # first: it takes a moment, and the program does not wait
            with ThreadPoolExecutor(2) as pool:
                calls = [pool.submit(sandbox.call_functions, SLOW) for _ in range(2)]
                wait_for(lambda: count_processes(before) > 1, "the program's start")
                before.kill()
                return [call.result(PATIENCE_S) for call in calls]

        with DockerSandbox(1) as sandbox:
            monkeypatch.setattr(docker_sandbox, "ENGINE_WAIT_S", 0.0)
            for result in lose_slot_on_a_full_disk(sandbox):
                assert result.status is Status.INFRASTRUCTURE, result
                assert "no space left on device" in result.detail
                assert "free some of the engine's disk" in result.detail
            assert list_containers(watcher) == []
            ballast.unlink()
            assert sandbox.call_functions(ECHO).status is Status.PASSED
            monkeypatch.setattr(docker_sandbox, "ENGINE_WAIT_S", PATIENCE_S)
            monkeypatch.setattr(docker_sandbox, "sleep", make_space)
            results = lose_slot_on_a_full_disk(sandbox)
            assert [(r.status, r.outcomes) for r in results] == [(Status.PASSED, ANSWER)] * 2
            assert waits
        assert list_containers(watcher) == []
        assert list((private.folder / "data" / "containers").iterdir()) == []
        assert list_folders() == folders
