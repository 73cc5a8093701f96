"""Memory and process limits of a whole process tree, where the host lets us write control groups.

Place in the flow: each slot of a root sandbox owns one group; every cell is admitted before it
reads its request. Without a group, resource limits per process and per user hold instead.
Source: the kernel's cgroup-v1 and cgroup-v2 documentation. What it does not do: no CPU control.
"""

import contextlib
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from sdb_sandboxes.types import ResourceLimits

PREFIX = "sdb-sandbox"
MOUNT = Path("/sys/fs/cgroup")


@dataclass
class ControlGroup:
    """One group: a folder in version 2, a folder in each hierarchy in version 1."""

    memory: Path
    pids: Path
    limits: tuple[int, int] = (0, 0)
    num_kills: int = 0
    num_refused: int = 0

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
            group.set_limits(ResourceLimits())
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

    def set_limits(self, limits: ResourceLimits) -> None:
        """Set the limits of the next cell and remember the counters before it."""
        # The cell's files live in memory too and are counted here.
        wanted = (limits.memory_bytes + 2 * limits.file_bytes, limits.num_processes)
        if wanted != self.limits:
            name = "memory.max" if self.is_v2 else "memory.limit_in_bytes"
            (self.memory / name).write_text(str(wanted[0]))
            (self.pids / "pids.max").write_text(str(wanted[1]))
            self.limits = wanted
        if not self.is_v2:
            with contextlib.suppress(OSError):
                (self.memory / "memory.max_usage_in_bytes").write_text("0")
        self.num_kills = self.count_kills()
        self.num_refused = self.count_refused()

    def admit(self, pid: int, limits: ResourceLimits) -> None:
        """Move a waiting cell in; call it when the last cell's files are gone, they count too.

        A cell that is gone already is not our problem here.
        """
        self.set_limits(limits)
        for folder in self.folders:
            with contextlib.suppress(ProcessLookupError):
                (folder / "cgroup.procs").write_text(str(pid))

    def was_out_of_memory(self) -> bool:
        """Whether the kernel killed for memory since `admit`."""
        return self.count_kills() > self.num_kills

    def was_out_of_processes(self) -> bool:
        """Whether a fork was refused since `admit`."""
        return self.count_refused() > self.num_refused

    def read_peak_bytes(self) -> int:
        """Most memory since `admit`; 0 where the kernel does not say (version 2 cannot reset)."""
        if self.is_v2:
            return 0
        try:
            return int((self.memory / "memory.max_usage_in_bytes").read_text())
        except (OSError, ValueError):
            return 0

    def count_kills(self) -> int:
        name = "memory.events" if self.is_v2 else "memory.oom_control"
        return read_counter(self.memory / name, "oom_kill")

    def count_refused(self) -> int:
        return read_counter(self.pids / "pids.events", "max")

    def remove(self) -> None:
        """Remove the folders where the server, which does so at its end, could not."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


@dataclass
class ContainerGroup(ControlGroup):
    """The group an engine made for a container: read where possible, set where allowed."""

    cpu: Path | None = None
    own_bytes: int = 0
    """Memory that the fork server uses itself."""
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
        name = "memory.current" if group.is_v2 else "memory.usage_in_bytes"
        try:
            group.own_bytes = int((group.memory / name).read_text())
            (group.pids / "pids.max").read_text()
        except (OSError, ValueError):
            return None
        return group

    def set_limits(self, limits: ResourceLimits) -> None:
        if self.is_writable:
            memory_bytes = limits.memory_bytes + self.own_bytes
            # The fork server is one process of the container.
            wanted = replace(
                limits, memory_bytes=memory_bytes, num_processes=limits.num_processes + 1
            )
            try:
                super().set_limits(wanted)
            except OSError:
                self.is_writable = False
        self.num_kills = self.count_kills()
        self.num_refused = self.count_refused()
        self.cpu_before_s = self.read_total_cpu_s()

    def admit(self, pid: int, limits: ResourceLimits) -> None:
        """Every cell is born inside; only the limits are set."""
        self.set_limits(limits)

    def read_peak_bytes(self) -> int:
        return max(0, super().read_peak_bytes() - self.own_bytes) if self.is_writable else 0

    def read_cpu_s(self) -> float:
        """CPU seconds of everything in the container since `admit`."""
        return self.read_total_cpu_s() - self.cpu_before_s

    def read_total_cpu_s(self) -> float:
        if self.cpu is None:
            return 0.0
        if self.is_v2:
            return read_counter(self.cpu / "cpu.stat", "usage_usec") / 1e6
        with contextlib.suppress(OSError, ValueError):
            return int((self.cpu / "cpuacct.usage").read_text()) / 1e9
        return 0.0

    def remove(self) -> None:
        """It goes with its container."""


def read_counter(path: Path, key: str) -> int:
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass
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
