"""Every level keeps what it promises, and probes see a sandbox that keeps nothing."""

import pytest

from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.probes import PROBES, find_broken, is_promised, probe, try_probe
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import CallOutcome, ExecutionRequest, ExecutionResult, Status


def test_every_level_keeps_its_promises(sandboxes: dict[str, Sandbox]) -> None:
    for level, sandbox in sandboxes.items():
        findings = probe(sandbox)
        assert list(findings) == [item.name for item in PROBES]
        assert find_broken(level, findings) == []


class Open(EmbeddedSandbox):
    """Lets everything through."""

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        return ExecutionResult(Status.PASSED, (CallOutcome(True),), 0.0, 0.0, 0)


class Lost(EmbeddedSandbox):
    """Cannot say anything."""

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        return ExecutionResult(Status.INFRASTRUCTURE, (), 0.0, 0.0, 0)


@pytest.mark.parametrize("kind", [Open, Lost])
def test_an_open_or_silent_sandbox_covers_nothing(kind: type[EmbeddedSandbox]) -> None:
    with kind(1) as sandbox:
        findings = probe(sandbox)
    assert all(findings.values())
    assert len(find_broken("embedded/native-root", findings)) == len(PROBES)
    promised = [item for item in PROBES if is_promised(item, "embedded/minimal")]
    assert len(find_broken("embedded/minimal", findings)) == len(promised) < len(PROBES)


def test_a_probe_sees_what_is_there() -> None:
    """The tools of the probes find something where there is something to find."""
    with EmbeddedSandbox(1) as sandbox:
        for body in ("return call('prlimit64', 0, 0, 0, 0)", "return os.listdir('/')"):
            item = PROBES[0].__class__("free to all", body)
            assert try_probe(sandbox, item).startswith("open"), body
        assert try_probe(sandbox, PROBES[0].__class__("broken", "return (")).startswith("could not")
