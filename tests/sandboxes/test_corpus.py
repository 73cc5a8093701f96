"""Every program of the corpus, twice, in every sandbox of this host, and what it leaves behind."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from sdb_sandboxes.corpus import CHECKS, Entry, read_corpus
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ResourceLimits, Status
from sdb_sandboxes.verifiers import verify

CORPUS = read_corpus(Path(__file__).parent / "attacks")
CANARY = "def f(n): return [n, n + 1]\n"
PATIENT = ResourceLimits(cpu_s=5.0, wall_s=60.0)
SLACK_S = 20.0
"""On a busy machine a verdict may take twice its wall limit and this, no more."""


@pytest.fixture(scope="module", autouse=True)
def _warm_slots(sandboxes: dict[str, Sandbox]) -> None:
    """Start the test servers, so that afterwards every new process is one too many."""
    for sandbox in sandboxes.values():
        assert verify(sandbox, CANARY, CHECKS["assertions"], PATIENT).is_passed


@pytest.mark.slow
@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: entry.id)
def test_ends_as_it_should(entry: Entry, sandboxes: dict[str, Sandbox]) -> None:
    processes, descriptors = list_descendants(), list_descriptors()
    with ThreadPoolExecutor(len(sandboxes)) as pool:
        complaints = [c for c in pool.map(partial(find_complaint, entry), sandboxes.values()) if c]
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)
    assert list_descendants() == processes, "a process was left, or a slot had to be rebuilt"
    assert list_descriptors() == descriptors


def find_complaint(entry: Entry, sandbox: Sandbox) -> str:
    """Judge an entry twice by each of its checks, then a canary in the same slot."""
    statuses: dict[str, list[Status]] = {}
    for name in entry.checks:
        for _ in range(2):
            started = time.monotonic()
            verdict = verify(sandbox, entry.program, CHECKS[name], entry.limits)
            took_s = time.monotonic() - started
            statuses.setdefault(name, []).append(verdict.status)
            if verdict.status not in entry.allowed:
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


def list_descendants() -> set[int]:
    """Every process below this one."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_bytes().rsplit(b")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    tree = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree - {os.getpid()}


def list_descriptors() -> list[str]:
    """This process's own open descriptors."""
    return sorted(os.listdir("/proc/self/fd"))
