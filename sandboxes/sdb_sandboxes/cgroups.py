"""Memory and process limits of a whole process tree, where the host lets us write control groups.

Place in the flow: each slot of a root sandbox owns one group, in which its fork server lives and
every cell is born: moving each one in would cost more than its fork. `prepare` sets the limits of
the next cell. Without a group, resource limits per process and per user hold instead.
Source: the kernel's cgroup-v1 and cgroup-v2 documentation. What it does not do: no CPU control.
"""

import contextlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from sdb_sandboxes.types import ResourceLimits

PREFIX = "sdb-sandbox"
GROWTH_BYTES = 16 << 20
"""How much more a fork server may use than at first: pages that it wrote to since."""
MOUNT = Path("/sys/fs/cgroup")


@dataclass
class ControlGroup:
    """One group: a folder in version 2, a folder in each hierarchy in version 1."""

    memory: Path
    pids: Path
    limits: tuple[int, int] = (0, 0)
    num_kills: int = 0
    num_refused: int = 0
    own_bytes: int = 0
    """Memory that the fork server uses itself."""
    files: dict[str, int] = field(default_factory=dict)
    """Descriptors of the group's files by name; they are read for every cell."""

    @classmethod
    def create(cls) -> Self | None:
        """Make a group below our own; None where that is not allowed."""
        parents = find_parents()
        if parents is None:
            return None
        name = f"{PREFIX}-{os.getpid()}-{secrets.token_hex(4)}"
        group = cls(parents[0] / name, parents[1] / name)
        try:
            for folder in group.folders:
                folder.mkdir()
            group.prepare(ResourceLimits())
        except OSError:
            group.remove()
            return None
        return group

    @property
    def folders(self) -> list[Path]:
        return sorted({self.memory, self.pids})

    @property
    def is_v2(self) -> bool:
        return self.memory == self.pids

    def list_homes(self) -> list[tuple[str, str]]:
        """Each folder and the one of our own group, to which the server goes at its end."""
        own = read_own_groups()
        if self.is_v2:
            return [(str(self.memory), str(MOUNT / own.get("", "")))]
        return [(str(folder), str(folder.parent)) for folder in self.folders]

    def take_server(self, pid: int) -> None:
        """Move the fork server in, before it has any cell. Raises OSError."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def learn_own_bytes(self) -> None:
        """Note what the server uses, now that it is ready and has no cell."""
        name = "memory.current" if self.is_v2 else "memory.usage_in_bytes"
        self.own_bytes = self.read_number(self.memory, name)
        self.limits = (0, 0)

    def prepare(self, limits: ResourceLimits) -> None:
        """Set the limits of the next cell and note the counters before it.

        Call it when the last cell's files are gone: they live in memory and count too.
        """
        self.set_limits(limits.memory_bytes + 2 * limits.file_bytes, limits.num_processes)
        self.num_kills = self.count_kills()
        self.num_refused = self.count_refused()

    def set_limits(self, memory_bytes: int, num_processes: int) -> None:
        """Set what the cell may use, besides its server. Raises OSError."""
        wanted = (memory_bytes + self.own_bytes + GROWTH_BYTES, num_processes + 1)
        if wanted != self.limits:
            name = "memory.max" if self.is_v2 else "memory.limit_in_bytes"
            (self.memory / name).write_text(str(wanted[0]))
            (self.pids / "pids.max").write_text(str(wanted[1]))
            self.limits = wanted
        if not self.is_v2:
            with contextlib.suppress(OSError):
                os.pwrite(self.open(self.memory, "memory.max_usage_in_bytes"), b"0", 0)

    def was_out_of_memory(self) -> bool:
        """Whether the kernel killed for memory since `prepare`."""
        return self.count_kills() > self.num_kills

    def was_out_of_processes(self) -> bool:
        """Whether a fork was refused since `prepare`."""
        return self.count_refused() > self.num_refused

    def read_peak_bytes(self) -> int:
        """Most memory since `prepare`; 0 where the kernel does not say (version 2 cannot reset)."""
        if self.is_v2:
            return 0
        peak = self.read_number(self.memory, "memory.max_usage_in_bytes")
        return max(0, peak - self.own_bytes)

    def count_kills(self) -> int:
        name = "memory.events" if self.is_v2 else "memory.oom_control"
        return find_counter(self.read(self.memory, name), b"oom_kill")

    def count_refused(self) -> int:
        return find_counter(self.read(self.pids, "pids.events"), b"max")

    def open(self, folder: Path, name: str) -> int:
        """The descriptor of a file, opened once. Raises OSError."""
        if name not in self.files:
            try:
                self.files[name] = os.open(folder / name, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                self.files[name] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        return self.files[name]

    def read(self, folder: Path, name: str) -> bytes:
        """What a file says now; nothing if it cannot be read."""
        try:
            return os.pread(self.open(folder, name), 4096, 0)
        except OSError:
            return b""

    def read_number(self, folder: Path, name: str) -> int:
        """The one number of a file; 0 if it cannot be read."""
        text = self.read(folder, name)
        return int(text) if text.strip().isdigit() else 0

    def close(self) -> None:
        """Close the files."""
        while self.files:
            os.close(self.files.popitem()[1])

    def remove(self) -> None:
        """Remove the folders where the server, which does so at its end, could not."""
        self.close()
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


@dataclass
class ContainerGroup(ControlGroup):
    """The group an engine made for a container: read where possible, set where allowed."""

    cpu: Path | None = None
    is_writable: bool = True
    cpu_before_s: float = 0.0

    @classmethod
    def find(cls, pid: int) -> Self | None:
        """The group of a container's first process; None if this machine does not show it."""
        own = read_own_groups(pid)
        if "memory" in own and "pids" in own:
            cpu = MOUNT / "cpuacct" / own["cpuacct"] if "cpuacct" in own else None
            group = cls(MOUNT / "memory" / own["memory"], MOUNT / "pids" / own["pids"], cpu=cpu)
        else:
            folder = MOUNT / own.get("", "")
            group = cls(folder, folder, cpu=folder)
        group.learn_own_bytes()
        if not group.own_bytes or not group.read(group.pids, "pids.max"):
            group.close()
            return None
        return group

    def prepare(self, limits: ResourceLimits) -> None:
        super().prepare(limits)
        self.cpu_before_s = self.read_total_cpu_s()

    def set_limits(self, memory_bytes: int, num_processes: int) -> None:
        if self.is_writable:
            try:
                super().set_limits(memory_bytes, num_processes)
            except OSError:
                self.is_writable = False

    def read_peak_bytes(self) -> int:
        return super().read_peak_bytes() if self.is_writable else 0

    def read_cpu_s(self) -> float:
        """CPU seconds of everything in the container since `prepare`."""
        return self.read_total_cpu_s() - self.cpu_before_s

    def read_total_cpu_s(self) -> float:
        if self.cpu is None:
            return 0.0
        if self.is_v2:
            return find_counter(self.read(self.cpu, "cpu.stat"), b"usage_usec") / 1e6
        return self.read_number(self.cpu, "cpuacct.usage") / 1e9

    def remove(self) -> None:
        """It goes with its container."""
        self.close()


def find_counter(text: bytes, key: bytes) -> int:
    """The number behind a name, one of them a line; 0 if it is not there."""
    for line in text.splitlines():
        name, _, value = line.partition(b" ")
        if name == key and value.isdigit():
            return int(value)
    return 0


def read_own_groups(pid: int | None = None) -> dict[str, str]:
    """Controller -> path of a process's group below the mount; key "" is version 2."""
    own: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        text = Path(f"/proc/{pid or 'self'}/cgroup").read_text()
        for line in text.splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                own[controller] = path.lstrip("/")
    return own


def find_parents() -> tuple[Path, Path] | None:
    """Our own (memory, pids) groups, below which new ones may be made."""
    own = read_own_groups()
    if not own:
        return None
    if "memory" in own and "pids" in own:
        parents = (MOUNT / "memory" / own["memory"], MOUNT / "pids" / own["pids"])
        return parents if all(parent.is_dir() for parent in parents) else None
    folder = MOUNT / own.get("", "")
    for candidate in (folder, *folder.parents):
        if MOUNT not in (candidate, *candidate.parents):
            return None
        with contextlib.suppress(OSError):
            enabled = (candidate / "cgroup.subtree_control").read_text().split()
            if {"memory", "pids"} <= set(enabled):
                return candidate, candidate
    return None
