"""The sandbox that needs no container engine: locked processes forked from small servers.

Place in the flow: verifiers call it from as many threads as it has slots. It finds out at start
which isolation this host really gives and refuses to run below the level that was asked for; the
pool (`pool.py`) borrows one slot per sample and rebuilds a slot that is lost.

What it does not do: it compares no answers; it does not hide timing or load of neighbouring
samples; below `embedded/native-user` it does not hide other processes; it runs the standard
library only.
"""

import os
import sys
from pathlib import Path
from typing import Literal

from sdb_sandboxes.errors import SandboxUnavailable, SlotLost
from sdb_sandboxes.launch import Isolation, ProcessLauncher, UserIds
from sdb_sandboxes.pool import CANARY, SlotPool, discard
from sdb_sandboxes.slot import Slot
from sdb_sandboxes.types import Status

Level = Literal["native-root", "native-user", "minimal"]


def list_ladder() -> list[tuple[Level, Isolation]]:
    """Every level this user could have, strongest first."""
    is_root = os.geteuid() == 0
    # Without a jail a user of its own must be able to reach the interpreter's folders.
    has_own_uid = is_root and is_public(Path(os.__file__).resolve())
    ladder: list[tuple[Level, Isolation]] = [
        ("native-root", Isolation("root")),
        ("native-user", Isolation("user", has_own_uid=False)),
        ("minimal", Isolation("none", has_own_uid=has_own_uid)),
    ]
    return ladder if is_root else ladder[1:]


def is_public(path: Path) -> bool:
    """Whether every folder on the way may be entered by any user."""
    return all(folder.stat().st_mode & 0o001 for folder in path.parents)


LEVELS: tuple[Level, ...] = ("minimal", "native-user", "native-root")


class EmbeddedSandbox(SlotPool):
    """A pool of slots on this machine. Implements `sandbox.Sandbox`; thread-safe."""

    def __init__(
        self,
        num_slots: int | None = None,
        min_level: Level = "minimal",
        max_level: Level = "native-root",
    ) -> None:
        """Start the slots at the strongest level that holds.

        Args:
            num_slots: How many samples run at once; the number of processors if None.
            min_level: Refuse to start below this.
            max_level: Do not try above this: for tests of the lower levels.

        Raises:
            ValueError: A wrong argument.
            SandboxUnavailable: The host does not give `min_level`.
        """
        num_slots = num_slots if num_slots is not None else len(os.sched_getaffinity(0))
        if num_slots < 1:
            raise ValueError(f"num_slots={num_slots}; at least 1 is needed")
        for name, level in (("min_level", min_level), ("max_level", max_level)):
            if level not in LEVELS:
                raise ValueError(
                    f"{name}={level!r} does not exist, and no level is without locks; "
                    f"use {', '.join(LEVELS)}"
                )
        self._users = UserIds()
        self._level, self._isolation, first = choose_level(
            min_level, max_level, self._users.take_pair()
        )
        self._landlock = first.candidates.landlock
        self._has_groups = first.launcher.group is not None
        super().__init__(num_slots, self._build, first)

    @property
    def level(self) -> str:
        """`embedded/` and the isolation that really holds."""
        return f"embedded/{self._level}"

    @property
    def layers(self) -> tuple[str, ...]:
        """Every lock that holds, for the run's record."""
        isolation = self._isolation
        held = {
            "namespaces": isolation.jail != "none",
            "own-uid": isolation.has_own_uid,
            "seccomp": True,
            f"landlock-{self._landlock}": self._landlock > 0,
            "cgroup": self._has_groups,
            "rlimits": True,
        }
        return tuple(name for name, is_held in held.items() if is_held)

    def _build(self) -> Slot:
        return Slot(ProcessLauncher(self._isolation, self._users.take_pair()))


def choose_level(min_level: Level, max_level: Level, uid: int) -> tuple[Level, Isolation, Slot]:
    """Try the ladder from the top: the first level at which a known-good program passes.

    Raises:
        SandboxUnavailable: Nothing at or above `min_level` holds; the message says why.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxUnavailable(
            f"the embedded sandbox needs Linux, this is {sys.platform}; run it in a Linux container"
        )
    reasons = []
    for level, isolation in list_ladder():
        rank = LEVELS.index(level)
        if rank > LEVELS.index(max_level) or rank < LEVELS.index(min_level):
            continue
        slot: Slot | None = None
        try:
            slot = Slot(ProcessLauncher(isolation, uid))
            if level == "minimal" and not isolation.has_own_uid and slot.candidates.landlock < 3:
                raise SlotLost("a program with our user needs Landlock 3 to keep off our files")
            result = slot.call_functions(CANARY)
            if result.status is Status.PASSED:
                return level, isolation, slot
            reasons.append(f"{level}: a known-good program gave {result.status}: {result.detail}")
        except (SlotLost, OSError) as error:
            reasons.append(f"{level}: {error}")
        discard(slot)
    raise SandboxUnavailable(
        f"no isolation at or above min_level={min_level!r} holds on this host "
        f"({'; '.join(reasons) or 'nothing to try'}); use a lower min_level or another host"
    )
