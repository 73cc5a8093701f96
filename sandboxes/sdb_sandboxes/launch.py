"""How the fork servers of a slot are started and ended, apart from the conversation with them.

Place in the flow: `slot.py` asks a `Launcher` for a `Server` and talks to it over `control`. The
launcher here starts plain processes; `docker_sandbox.py` has one that starts containers. What it
does not do: it never speaks after the start; orders and answers are `slot.py`'s.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from sdb_sandboxes.cgroups import ControlGroup
from sdb_sandboxes.errors import SlotLost
from sdb_sandboxes.types import ResourceLimits

Role = Literal["candidate", "tests"]

BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from sdb_sandboxes.agent.zygote import main; del sys.path[0]; main(*sys.argv[2:])"
)


ENVIRONMENT = {"PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"}
"""A fixed order of sets, and no look-up of library functions that every cell would do again. The
server clears even this."""


class Server(Protocol):
    """A started fork server: a line to it and a way to end it."""

    @property
    def control(self) -> socket.socket:
        """Our end of a SOCK_SEQPACKET pair; the server reads its configuration from the other."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The first message that it is to get."""
        ...

    @property
    def pid(self) -> int:
        """Its process id as seen from here."""
        ...

    def end(self) -> None:
        """Close the line and wait until the server has cleaned up; kill it if it does not."""
        ...


class Launcher(Protocol):
    """Everything of one slot that depends on where its servers run. Closed with its slot."""

    @property
    def group(self) -> ControlGroup | None:
        """What bounds and counts the memory and processes of the candidate's cells."""
        ...

    @property
    def max_limits(self) -> ResourceLimits | None:
        """What a request may ask for at most; None where every request sets its own."""
        ...

    @property
    def read_cpu_s(self) -> Callable[[int], float] | None:
        """How to read the CPU seconds of a cell and all it started; None for its process tree."""
        ...

    def launch(self, role: Role) -> Server:
        """Start a server. Candidates' and tests' servers share nothing. Raises SlotLost."""
        ...

    def close(self) -> None:
        """Remove what belongs to the slot and not to one server. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Isolation:
    """What the servers of a slot are told to set up."""

    jail: Literal["root", "user", "none"]
    has_own_uid: bool = True


class UserIds:
    """Hands out pairs of user ids that no other slot of this sandbox uses at the moment."""

    def __init__(self) -> None:
        self.last = 20_000 + 64 * secrets.randbelow(600)
        self.lock = threading.Lock()

    def take_pair(self) -> int:
        """The first of two ids in a row: for candidates and for tests."""
        with self.lock:
            self.last = 20_000 + (self.last - 20_000 + 2) % 40_000
            return self.last


class ProcessServer:
    """A fork server that is a child of ours."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).resolve().parent.parent)
        python = getattr(sys, "_base_executable", None) or sys.executable
        with theirs:
            self.process = subprocess.Popen(
                [str(python), "-s", "-S", "-P", "-X", "utf8", "-c", BOOT, root],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd="/",
                # Away from the terminal's Ctrl-C: it ends, cleanly, when the judge does.
                start_new_session=True,
            )
        self.pid = self.process.pid

    def end(self) -> None:
        # A process forked from ours may hold the line too: closing alone would not end it.
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ProcessLauncher:
    """Starts the servers of one slot as processes of this machine."""

    max_limits = None
    read_cpu_s = None

    def __init__(self, isolation: Isolation, uid: int) -> None:
        """`uid` and `uid + 1` are the users of the candidate's and the tests' cells."""
        self.isolation = isolation
        self.uid = uid if isolation.has_own_uid else None
        self.group = ControlGroup.create() if os.geteuid() == 0 else None
        if os.geteuid() == 0 and self.uid is None and self.group is None:
            raise SlotLost("root's processes can only be counted with a writable control group")

    def launch(self, role: Role) -> ProcessServer:
        """Start a server, tests as another user: test code never shares a process or a jail."""
        uid = self.uid if self.uid is None or role == "candidate" else self.uid + 1
        config: dict[str, Any] = {
            "role": role,
            "jail": self.isolation.jail,
            "uid": uid,
            "folders": [],
        }
        if self.group is None or role != "candidate":
            return ProcessServer(config)
        config["folders"] = self.group.list_homes()
        server = ProcessServer(config)
        try:
            self.group.take_server(server.pid)
        except OSError as error:
            server.end()
            raise SlotLost(f"the fork server cannot enter its control group: {error}") from None
        return server

    def close(self) -> None:
        if self.group is not None:
            self.group.remove()
            self.group = None
