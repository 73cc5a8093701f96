"""Every program of the corpus, twice, in every sandbox of this host, and what it leaves behind."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from sdb_sandboxes.cgroups import PREFIX, find_parents
from sdb_sandboxes.corpus import CHECKS, FAMILIES, HONEST_FAMILY, Entry, read_corpus
from sdb_sandboxes.docker_sandbox import LABEL, describe_judge
from sdb_sandboxes.engine import Engine
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import Check, ResourceLimits, Status
from sdb_sandboxes.verifiers import verify

CORPUS = read_corpus(Path(__file__).parent / "attacks")
CANARY = """
import builtins, gc, os, random, signal, sys, threading
clean = (os.listdir("."), dict(os.environ), sys.argv, hasattr(builtins, "seen"), random.random())
assert clean == ([], {}, [""], False, 0.8444218515250481), clean
assert gc.isenabled() and threading.active_count() == 1 and sys.getrecursionlimit() == 1000
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and os.umask(0o077) == 0o077
open("note", "w").write("x" * 1000)
def f(n): return [n, n + 1]
"""
"""Right only in clean surroundings."""
PATIENT = ResourceLimits(cpu_s=5.0, wall_s=60.0)
SLACK_S = 20.0
"""On a busy machine a verdict may take twice its wall limit and this, no more."""


def test_has_enough_of_every_family() -> None:
    numbers = Counter(entry.family for entry in CORPUS)
    assert set(numbers) == set(FAMILIES)
    assert min(numbers.values()) >= 12, numbers
    assert numbers[HONEST_FAMILY] >= 40
    assert numbers.total() - numbers[HONEST_FAMILY] >= 160


def test_attacks_every_kind_of_check() -> None:
    kinds = Counter(type(CHECKS[name]).__name__ for entry in CORPUS for name in entry.checks)
    assert set(kinds) == {kind.__name__ for kind in get_args(Check)}
    assert min(kinds.values()) >= 40, kinds


@pytest.fixture(scope="module")
def containers(sandboxes: dict[str, Sandbox]) -> list[int]:
    """Start the test servers, so that afterwards every new process is one too many.

    Returns the first processes of our containers, which are no children of ours.
    """
    for sandbox in sandboxes.values():
        assert verify(sandbox, CANARY, CHECKS["assertions"], PATIENT).is_passed
    if not any(level.startswith("docker/") for level in sandboxes):
        return []
    engine = Engine()
    label = f"{LABEL}={describe_judge(os.getpid())}"
    found = engine.client.containers.list(filters={"label": label})
    engine.close()
    return [container.attrs["State"]["Pid"] for container in found]


@pytest.mark.slow
@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: entry.id)
def test_ends_as_it_should(
    entry: Entry, sandboxes: dict[str, Sandbox], containers: list[int]
) -> None:
    processes, descriptors = list_descendants(containers), list_descriptors()
    with ThreadPoolExecutor(len(sandboxes)) as pool:
        complaints = [c for c in pool.map(partial(find_complaint, entry), sandboxes.values()) if c]
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)
    assert list_descendants(containers) == processes, "a process was left, or a slot was rebuilt"
    assert list_descriptors() == descriptors
    assert list_grouped() <= set(processes)


def find_complaint(entry: Entry, sandbox: Sandbox) -> str:
    """Judge an entry twice by each of its checks, then a canary in the same slot."""
    statuses: dict[str, list[Status]] = {}
    for name in entry.checks:
        program, check, allowed = entry.build(name)
        for _ in range(2):
            started = time.monotonic()
            verdict = verify(sandbox, program, check, entry.limits)
            took_s = time.monotonic() - started
            statuses.setdefault(name, []).append(verdict.status)
            if verdict.status not in allowed:
                return f"{sandbox.level}: {name}: {verdict}"
            if took_s > 2 * entry.limits.wall_s + SLACK_S:
                return f"{sandbox.level}: {name}: took {took_s:.0f} s"
            text = verdict.detail
            if not (text.isascii() and text.isprintable()) or len(text) > 300:
                return f"{sandbox.level}: {name}: detail {text!r}"
            if max(len(verdict.stdout_tail), len(verdict.stderr_tail)) > 2048:
                return f"{sandbox.level}: {name}: too much of the output was kept"
        if len(set(statuses[name])) > 1 and not entry.races:
            return f"{sandbox.level}: {name}: two runs, two verdicts: {statuses[name]}"
    canary = verify(sandbox, CANARY, CHECKS["data"], PATIENT)
    return "" if canary.is_passed else f"{sandbox.level}: canary: {canary}"


def list_descendants(roots: list[int]) -> dict[int, int]:
    """Every process below this one and below `roots`, and how many descriptors it has open."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_bytes().rsplit(b")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    tree = {os.getpid(), *roots}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return {pid: count_descriptors(pid) for pid in tree - {os.getpid()}}


def count_descriptors(pid: int) -> int:
    """Open descriptors of a process; -1 where we may not look."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return -1


def list_descriptors() -> list[str]:
    """This process's own open descriptors."""
    return sorted(os.listdir("/proc/self/fd"))


def list_grouped() -> set[int]:
    """Processes in the control groups of our slots: the fork servers and their cells."""
    parents = find_parents() or ()
    own = f"{PREFIX}-{os.getpid()}-*/cgroup.procs"
    return {
        int(pid)
        for parent in parents
        for file in parent.glob(own)
        for pid in file.read_text().split()
    }
