"""The sandbox in containers: every slot is a hardened container with a warm fork server inside.

Place in the flow: as `embedded_sandbox.py`, this is `pool.SlotPool` with a way to build slots. The
engine is spoken to only when a slot is made or thrown away; samples travel over a unix socket in a
folder that the container shares until the server has connected. A slot has one container for
candidates and, once needed, one for tests. Inside, where nobody may make namespaces, a cell is a
fork with resource limits, Landlock and a seccomp filter; its server is the only other process of
the container, so one signal to everything ends whatever a program left.

What it does not do: it uses no remote engine, compares no answers, and does not hide timing or load
of neighbouring samples. A kernel bug is a way out of `runc`; `runtime="runsc"` narrows that.
Source: the Docker engine's HTTP API, seccomp profiles in the form of its documentation.
"""

import contextlib
import importlib
import os
import resource
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sdb_sandboxes.cgroups import ContainerGroup
from sdb_sandboxes.engine import Engine
from sdb_sandboxes.errors import SandboxUnavailable, SlotLost
from sdb_sandboxes.images.build import IMAGES, PRELOAD_LABEL, compute_recipe
from sdb_sandboxes.images.build import LABEL as RECIPE_LABEL
from sdb_sandboxes.languages import list_languages
from sdb_sandboxes.launch import BOOT, ENVIRONMENT, Role, UserIds
from sdb_sandboxes.pool import CANARY, SlotPool
from sdb_sandboxes.slot import Slot, check_limits
from sdb_sandboxes.types import ResourceLimits, Status

LABEL = "org.sdbench.judge"
"""On every container: which process it works for, so that nobody else's leftovers are touched."""
FOLDER_PREFIX = "sdb-slot-"
AGENT = Path(__file__).resolve().parent / "agent"
SECCOMP = Path(__file__).resolve().parent / "images" / "seccomp.json"
MAX_LIMITS = ResourceLimits(memory_bytes=4 << 30, file_bytes=64 << 20, num_processes=128)
SERVER_BYTES = 256 << 20
"""Memory of a container beyond what its limits promise to a program: the fork server itself."""
START_S = 120.0
"""Until a container counts as dead, however loaded the machine is."""
ENGINE_WAIT_S = 60.0
"""How long a slot waits for an engine that stopped answering, as one that is being restarted, or
whose disk is full."""


class DockerSandbox(SlotPool):
    """A pool of slots in containers. Implements `sandbox.Sandbox`; thread-safe."""

    def __init__(
        self,
        num_slots: int | None = None,
        image: str = "py",
        runtime: str | None = None,
        max_limits: ResourceLimits = MAX_LIMITS,
    ) -> None:
        """Find the engine, remove what dead judges left, start the first slot.

        Args:
            num_slots: How many samples run at once; the number of processors if None.
            image: Row of `images.build.IMAGES`.
            runtime: The engine's runtime for containers, as `runsc`; its default if None.
            max_limits: Memory, files and processes that no request may exceed; at least the
                defaults of `ResourceLimits`.

        Raises:
            ValueError: A wrong argument.
            SandboxUnavailable: No engine, no permission, no image, or it cannot isolate here.
        """
        num_slots = num_slots if num_slots is not None else len(os.sched_getaffinity(0))
        if num_slots < 1:
            raise ValueError(f"num_slots={num_slots}; at least 1 is needed")
        if image not in IMAGES:
            raise ValueError(f"image {image!r} does not exist; use one of {', '.join(IMAGES)}")
        check_limits(ResourceLimits(), max_limits)
        self._engine = Engine()
        try:
            self._host = ContainerHost(self._engine, image, runtime, max_limits)
            self._host.remove_leftovers()
            first = self._start_first()
        except BaseException:
            self._engine.close()
            raise
        self._landlock = first.candidates.landlock
        self._has_counters = first.launcher.group is not None
        super().__init__(num_slots, self._build, first, list_languages(image))

    @property
    def level(self) -> str:
        """Kind of the engine, as `docker` or `docker-rootless`, and its containers' runtime."""
        return f"{self._host.engine.kind}/{self._host.runtime}"

    @property
    def image(self) -> str:
        """Content address of the image that runs."""
        return self._host.image_id

    @property
    def is_current(self) -> bool:
        """Whether the image was built from this version's recipe."""
        return self._host.is_current

    @property
    def layers(self) -> tuple[str, ...]:
        """Every lock that holds, for the run's record."""
        held = {
            "namespaces": True,
            "own-uid": True,
            "no-capabilities": True,
            "container-seccomp": True,
            "seccomp": True,
            f"landlock-{self._landlock}": self._landlock > 0,
            "cgroup": self._host.has_groups,
            "cgroup-counters": self._has_counters,
            "rlimits": True,
        }
        return tuple(name for name, is_held in held.items() if is_held)

    def close(self) -> None:
        """Remove every container. Waits for running samples."""
        super().close()
        self._engine.close()

    def _start_first(self) -> Slot:
        try:
            slot = self._build()
        except (SlotLost, OSError) as error:
            raise SandboxUnavailable(f"no container can be used as a slot: {error}") from None
        try:
            result = slot.call_functions(CANARY)
        except BaseException as error:
            slot.close()
            if not isinstance(error, SlotLost | OSError):
                raise
            raise SandboxUnavailable(f"a container does not stay alive: {error}") from None
        if result.status is not Status.PASSED:
            slot.close()
            raise SandboxUnavailable(
                f"a known-good program gave {result.status} in a container: {result.detail}"
            )
        return slot

    def _build(self) -> Slot:
        return Slot(ContainerLauncher(self._host))


class ContainerHost:
    """What all slots of one sandbox share: the engine, the image, the options of a container."""

    def __init__(
        self, engine: Engine, image: str, runtime: str | None, max_limits: ResourceLimits
    ) -> None:
        self.engine = engine
        found = engine.find_image(IMAGES[image].tag)
        self.image_id = str(found.id)
        self.image_tag = IMAGES[image].tag
        labels = found.labels or {}
        self.preload = str(labels.get(PRELOAD_LABEL, "")).split()
        self.is_current = labels.get(RECIPE_LABEL) == compute_recipe(IMAGES[image])
        known = sorted(engine.info.get("Runtimes") or {"runc": {}})
        if runtime is not None and runtime not in known:
            raise SandboxUnavailable(
                f"the engine has no runtime {runtime!r}; it has {', '.join(known)}"
            )
        if runtime is not None and engine.is_podman:
            raise SandboxUnavailable(
                f"Podman's service takes no runtime per container, so {runtime!r} would be passed "
                "over; set runtime in containers.conf and leave it out here"
            )
        self.has_groups = bool(engine.info.get("MemoryLimit") and engine.info.get("PidsLimit"))
        if not self.has_groups and not engine.is_rootless:
            raise SandboxUnavailable(
                "the engine cannot limit memory and processes; mount the control groups of this "
                "machine and start it again"
            )
        self.asked_runtime = runtime
        # Podman names its default by its path.
        self.runtime = runtime or Path(str(engine.info.get("DefaultRuntime") or "runc")).name
        # Podman knows no limit on inodes; there they count against the container's memory alone.
        self.inodes = "" if engine.is_podman else ",nr_inodes=32768"
        self.closed_folders = ("/run", "/tmp", "/var/tmp") if engine.is_podman else ()
        self.max_limits = max_limits
        self.users = UserIds()
        # Docker's client reads the profile itself; Podman's service wants to read the file.
        self.seccomp = str(SECCOMP) if engine.is_podman else SECCOMP.read_text()
        self.lock = threading.Lock()

    def create_container(self, role: Role, uid: int, folder: Path) -> Any:
        """Create a container around one fork server, not started yet."""
        limits = self.max_limits
        files = 2 * limits.file_bytes
        memory = limits.memory_bytes + files + SERVER_BYTES
        return self.engine.client.containers.create(
            self.image_id,
            entrypoint=["/usr/bin/python3", "-s", "-S", "-B", "-P", "-X", "utf8", "-c", BOOT],
            command=["/opt/sdbench", "/control/socket"],
            environment=ENVIRONMENT,
            user=f"{uid}:{uid}",
            hostname="sandbox",
            working_dir="/",
            labels={LABEL: describe_judge(os.getpid())},
            mounts=[
                bind_read_only(AGENT, "/opt/sdbench/sdb_sandboxes/agent"),
                bind_read_only(folder, "/control"),
            ],
            tmpfs={"/work": f"rw,exec,nosuid,nodev,size={files},mode=1777{self.inodes}"}
            | {
                # Podman would put writable ones there by itself.
                path: "ro,nosuid,nodev,size=4096,mode=0755"
                for path in self.closed_folders
            },
            network_mode="none",
            ipc_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true", f"seccomp={self.seccomp}"],
            mem_limit=memory,
            memswap_limit=memory,
            pids_limit=limits.num_processes + 8,
            ulimits=list_ulimits() if self.engine.is_podman else None,
            log_config={"type": "none"},
            runtime=self.asked_runtime,
            stop_signal="SIGKILL",
            auto_remove=True,
        )

    def call(self, action: Callable[[], Any]) -> Any:
        """Ask the engine for something, waiting while it is being restarted or its disk is full.

        Raises:
            SlotLost: It refused, or it does not come back.
        """
        from docker.errors import APIError, DockerException

        deadline = monotonic() + ENGINE_WAIT_S
        while True:
            try:
                with self.lock:
                    self.engine.knock()
                    return action()
            except APIError as error:
                text = " ".join(str(error.explanation or error).split())
                if "no space left on device" in text:
                    if monotonic() < deadline:
                        sleep(0.2)
                        continue
                    text = f"free some of the engine's disk: ...{text[-200:]}"
                raise SlotLost(f"the engine refused {self.image_tag}: {text[:300]}") from None
            except OSError as error:  # of the socket, or any of the HTTP client's
                if monotonic() > deadline:
                    raise SlotLost(f"the engine does not answer: {error}") from None
                sleep(0.2)
            except DockerException as error:
                raise SlotLost(f"the engine does not answer: {error}") from None

    def remove(self, container: Any) -> None:
        """Remove a container that may be gone, or going, already."""
        from docker.errors import APIError, DockerException

        # An engine that is down takes its containers along; they are removed when it is back.
        with contextlib.suppress(DockerException, OSError), self.lock:
            self.engine.knock()
            try:
                container.remove(force=True, v=True)
            except APIError as error:
                if error.status_code == 409:  # it is removing itself: wait until it has
                    container.wait(condition="removed", timeout=START_S)

    def remove_leftovers(self) -> None:
        """Remove containers and folders of judges that died without a chance to do so."""
        found = self.engine.client.containers.list(
            all=True, filters={"label": LABEL}, ignore_removed=True
        )
        for container in found:
            if is_dead_judge(container.labels.get(LABEL, "")):
                self.remove(container)
        for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
            with contextlib.suppress(OSError):
                if is_dead_judge(folder.name.removeprefix(FOLDER_PREFIX).rpartition("-")[0]):
                    shutil.rmtree(folder)


@dataclass
class ContainerServer:
    """A fork server that is the first process of a container."""

    host: ContainerHost
    container: Any
    control: socket.socket
    pid: int
    config: dict[str, Any] = field(default_factory=dict)

    def end(self) -> None:
        """Hang up, which ends the server, and remove its container."""
        self.control.close()
        self.host.remove(self.container)


class ContainerLauncher:
    """Starts the containers of one slot."""

    def __init__(self, host: ContainerHost) -> None:
        self.host = host
        self.max_limits = host.max_limits
        self.group: ContainerGroup | None = None
        self.uid = host.users.take_pair()

    @property
    def read_cpu_s(self) -> Callable[[int], float] | None:
        """The container's own count: what leaves its parent's tree cannot leave that."""
        group = self.group
        return None if group is None or group.cpu is None else lambda pid: group.read_cpu_s()

    def launch(self, role: Role) -> ContainerServer:
        """Start a container whose server connects back; the socket and its folder then vanish."""
        uid = self.uid if role == "candidate" else self.uid + 1
        name = f"{FOLDER_PREFIX}{describe_judge(os.getpid())}-"
        top = Path(tempfile.mkdtemp(prefix=name))
        try:
            # Outside, only our user passes the upper folder; inside, anybody the lower one.
            folder = top / "shared"
            folder.mkdir()
            folder.chmod(0o711)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(str(folder / "socket"))
                (folder / "socket").chmod(0o666)
                listener.listen(1)
                server = self.start(role, uid, folder, listener)
        finally:
            shutil.rmtree(top, ignore_errors=True)
        if role == "candidate":
            # Without a group of its own the container is in one that it shares with others.
            self.group = ContainerGroup.find(server.pid) if self.host.has_groups else None
        return server

    def start(self, role: Role, uid: int, folder: Path, listener: socket.socket) -> ContainerServer:
        """Create and start the container and take its call. Raises SlotLost."""
        host = self.host
        container = host.call(lambda: host.create_container(role, uid, folder))
        try:
            host.call(container.start)
            control = accept(listener, lambda: self.describe_end(container))
        except BaseException:
            host.remove(container)
            raise
        server = ContainerServer(host, container, control, read_peer_pid(control))
        try:
            host.call(container.reload)
            own_pid = container.attrs["State"]["Pid"]
            if server.pid == 0 or server.pid != own_pid:
                raise SlotLost(
                    f"the engine's process ids are not ours (it says {own_pid}, the kernel says "
                    f"{server.pid}): run the judge beside the engine, not in a container of its own"
                )
        except BaseException:
            server.end()
            raise
        server.config = {
            "role": role,
            "jail": "container",
            "uid": None,
            "folders": [],
            "preload": host.preload,
        }
        return server

    def describe_end(self, container: Any) -> str | None:
        """Why a container has ended already; None while it runs."""
        from docker.errors import NotFound

        with self.host.lock:
            try:
                container.reload()
            except NotFound:
                return "the container ended before its fork server was up"
        state = container.attrs["State"]
        if state["Running"]:
            return None
        return f"the container ended with status {state['ExitCode']} {state.get('Error', '')}"

    def close(self) -> None:
        """Containers went with their servers; what is left are open files."""
        if self.group is not None:
            self.group.remove()
            self.group = None


def list_ulimits() -> list[Any]:
    """Limits on files and processes that this process may set: Podman's own may be above them."""
    types: Any = importlib.import_module("docker.types")
    limits = []
    for name, which in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(which)[1]
        value = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
        limits.append(types.Ulimit(name=name, soft=value, hard=value))
    return limits


def bind_read_only(folder: Path, target: str) -> dict[str, object]:
    """A mount of ours in a container; the engine refuses a folder that it does not see."""
    return {"Type": "bind", "Source": str(folder), "Target": target, "ReadOnly": True}


def accept(listener: socket.socket, describe_end: Callable[[], str | None]) -> socket.socket:
    """Wait for the server's call. Raises SlotLost if its container ends or stays silent."""
    listener.settimeout(1.0)
    deadline = monotonic() + START_S
    while monotonic() < deadline:
        try:
            return listener.accept()[0]
        except TimeoutError:
            reason = describe_end()
            if reason is not None:
                raise SlotLost(reason) from None
    raise SlotLost(
        f"no fork server called within {START_S:g} s: does the engine see this machine's folders?"
    )


def read_peer_pid(control: socket.socket) -> int:
    """Process id of the other side as the kernel tells it; 0 if it is none of ours."""
    credentials = control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("iII", credentials)[0])


def describe_judge(pid: int) -> str:
    """Name a process so that no later one is taken for it: boot, namespace, id and start."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    namespace = os.stat("/proc/self/ns/pid").st_ino
    return f"{boot}.{namespace}.{pid}.{read_start(pid)}"


def read_start(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[19].decode()
    except (OSError, IndexError):
        return ""


def is_dead_judge(name: str) -> bool:
    """Whether a name by `describe_judge` is that of a process here that is no more."""
    parts = name.split(".")
    if len(parts) != 4 or not parts[2].isdigit():
        return False
    boot, namespace = describe_judge(os.getpid()).split(".")[:2]
    if parts[0] != boot:
        return True  # from before this machine was started
    return parts[1] == namespace and read_start(int(parts[2])) != parts[3]
