"""Programs that a Python program starts: in containers, if allowed, within its limits."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sdb_sandboxes.docker_sandbox import LABEL, DockerSandbox, describe_judge
from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.engine import Engine
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    ExecutionResult,
    ProgramRequest,
    ResourceLimits,
    Status,
    SuiteCheck,
)
from sdb_sandboxes.verifiers import verify

PATIENCE_S = 600.0
"""Until something that must happen counts as not happening, however loaded the machine is."""
PATIENT = ResourceLimits(wall_s=PATIENCE_S)
OPEN = ResourceLimits(wall_s=PATIENCE_S, allow_programs=True)
STARTER = """
import os, subprocess
subprocess.run(["sh", "-c", "echo of the image; echo to stderr >&2"], check=True)
with open("tool", "w") as file:
    file.write("#!/bin/sh\\necho its own")
os.chmod("tool", 0o700)
subprocess.run(["./tool"], check=True)
"""


@pytest.fixture
def sandbox(engine: Engine) -> Iterator[DockerSandbox]:
    with DockerSandbox(1) as sandbox:
        yield sandbox


def list_containers(engine: Engine) -> dict[str, Any]:
    """Containers of this process by their ids."""
    wanted = f"{LABEL}={describe_judge(os.getpid())}"
    return {one.id: one for one in engine.client.containers.list(filters={"label": wanted})}


def run_script(sandbox: Sandbox, program: str, limits: ResourceLimits) -> ExecutionResult:
    return sandbox.run_program(ProgramRequest("python", (("main.py", program),), limits=limits))


@pytest.mark.docker
def test_programs_are_started_in_containers_and_only_if_allowed(sandbox: DockerSandbox) -> None:
    for _ in range(2):  # one run's rules are not the next one's
        result = run_script(sandbox, STARTER, OPEN)
        assert result.status is Status.PASSED, result
        assert result.runs[0].stdout == "of the image\nits own\n"
        assert result.stderr_tail == "to stderr\n"
        result = run_script(sandbox, STARTER, ResourceLimits())
        assert result.status is Status.RUNTIME_ERROR
        assert "PermissionError" in result.stderr_tail
    with EmbeddedSandbox(1) as embedded:
        result = run_script(embedded, STARTER, OPEN)
        assert result.status is Status.RUNTIME_ERROR
        assert "PermissionError" in result.stderr_tail


@pytest.mark.docker
def test_started_programs_die_with_the_run(engine: Engine) -> None:
    program = (
        "import subprocess, time\n"
        "subprocess.Popen(['setsid', 'sh', '-c', 'touch begun; (sleep 600 & sleep 600) & exit'])\n"
        "import os\nwhile not os.path.exists('begun'): time.sleep(0.01)\n"
    )
    others = list_containers(engine)  # those of the session's sandboxes
    with DockerSandbox(1) as sandbox:
        (container,) = (one for id, one in list_containers(engine).items() if id not in others)
        assert run_script(sandbox, program, OPEN).status is Status.PASSED
        assert len(container.top()["Processes"]) == 1  # the fork server
        program = "import os; print(os.listdir())"
        assert run_script(sandbox, program, OPEN).runs[0].stdout == "['main.py']\n"


@pytest.mark.docker
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("setsid sh -c 'while :; do :; done' & sleep 600", Status.CPU_TIME),
        ("for i in $(seq 64); do sleep 600 & done", Status.RUNTIME_ERROR),
        ("python3 -c 'x = bytearray(1 << 29)'", Status.RUNTIME_ERROR),
    ],
)
def test_started_programs_count_against_the_limits(
    sandbox: DockerSandbox, command: str, status: Status
) -> None:
    limits = replace(OPEN, cpu_s=1.0, num_processes=32, memory_bytes=256 << 20)
    program = f"import subprocess\nsubprocess.run({command!r}, shell=True, check=True)"
    result = run_script(sandbox, program, limits)
    assert result.status is status, result
    assert run_script(sandbox, "print(7)", PATIENT).status is Status.PASSED


REACH = """
import os
others = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid()]
for pid in others:
    for name in ("mem", "environ", "maps", "fd", "fd/0", "fd/1", "cwd", "root"):
        for action in (os.listdir, lambda path: open(path, "r+b"), lambda path: open(path, "rb")):
            try:
                print("reached", action(f"/proc/{pid}/{name}"))
            except OSError:
                pass
print(len(others), "were tried")
"""
REACHING = f"""
import subprocess
subprocess.run(["python3", "-c", {REACH!r}], check=True)
def double(x): return x
"""
KILLING = """
import subprocess
def double(x): subprocess.run("kill -9 $PPID; kill -9 -1", shell=True)
"""
SAYING = """
import json, subprocess
report = json.dumps({"report": {"tests": [["test_double.test", True]]}, "nonce": ""})
def double(x): subprocess.run(["sh", "-c", f"echo '{report}'; echo '{report}' >&2; kill -9 $PPID"])
"""


@pytest.mark.docker
@pytest.mark.parametrize("program", [REACHING, KILLING, SAYING])
def test_started_programs_cannot_reach_the_verdict(sandbox: DockerSandbox, program: str) -> None:
    tests = "from solution import double\ndef test(): assert double(3) == 6\n"
    check = SuiteCheck((("test_double.py", tests),), ("test_double.test",))
    verdict = verify(sandbox, program, check, OPEN)
    assert not verdict.is_passed
    assert verdict.status is not Status.INFRASTRUCTURE
    assert "reached" not in verdict.stderr_tail
    # The fork server, the parent that reports, the child with the tests.
    assert program != REACHING or "3 were tried" in verdict.stderr_tail
    right = program.partition("def double")[0] + "def double(x): return 2 * x\n"
    assert verify(sandbox, right, check, OPEN).is_passed
