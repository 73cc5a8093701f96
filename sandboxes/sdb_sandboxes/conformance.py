"""What every sandbox must do, as data: run `find_violations` against a new kind before trusting it.

Place in the flow: tests run it for every kind and level; a maker of a new sandbox runs it first.
What it does not do: it does not replace the attack tests, which are many more.
"""

from typing import NamedTuple

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    AssertionCheck,
    CallOutcome,
    ExecutionRequest,
    ResourceLimits,
    Status,
)

LIMITS = ResourceLimits(cpu_s=0.5, wall_s=60.0, memory_bytes=256 << 20, num_processes=16)
SHORT_WALL = ResourceLimits(cpu_s=1.0, wall_s=0.8)


class Expectation(NamedTuple):
    """One program, how it must end, and what its call `f(7)` must give."""

    name: str
    program: str
    statuses: tuple[Status, ...] = (Status.PASSED,)
    outcome: CallOutcome | None = None
    limits: ResourceLimits = LIMITS


def inside(body: str, value: object) -> tuple[str, tuple[Status, ...], CallOutcome]:
    """A program whose `f(x)` has this body and must return this value."""
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"def f(x):\n{lines}\n", (Status.PASSED,), CallOutcome(value)


DENIED = "try:\n    {action}\nexcept Exception:\n    return 'denied'\nreturn 'done'"
PLAIN = [None, True, -(1 << 70), 0.1, 1j, "\ud800\n", b"\0", (1, [2]), {1: {2}}, frozenset({3})]

EXPECTATIONS = (
    Expectation("answers a call", *inside("return x + 1", 8)),
    Expectation("carries every plain type", *inside(f"return {PLAIN!r}", PLAIN)),
    Expectation(
        "names an exception",
        "def f(x): raise KeyError(x)",
        outcome=CallOutcome(exception="KeyError"),
    ),
    Expectation(
        "carries no other object",
        "def f(x): return object()",
        outcome=CallOutcome(exception="Undecodable"),
    ),
    Expectation("names a compile error", "def f(x) return", (Status.COMPILE_ERROR,)),
    Expectation("names an early end", "import os; os._exit(0)", (Status.RUNTIME_ERROR,)),
    Expectation("limits CPU time", "while True: pass", (Status.CPU_TIME,)),
    Expectation(
        "limits wall time", "import time; time.sleep(999)", (Status.WALL_TIME,), None, SHORT_WALL
    ),
    Expectation(
        "limits output",
        "while True: print('x' * 9999)",
        (Status.OUTPUT,),
        None,
        ResourceLimits(cpu_s=5.0, wall_s=60.0),
    ),
    Expectation("drains output", *inside("print('x' * 250_000)\nreturn 1", 1)),
    Expectation(
        "limits memory",
        "a = bytearray(b'x') * (1 << 40)",
        (Status.MEMORY,),
    ),
    Expectation("has an empty stdin", *inside("import sys; return sys.stdin.read()", "")),
    Expectation("has an empty environment", *inside("import os; return dict(os.environ)", {})),
    Expectation("has an empty folder", *inside("import os; return os.listdir('.')", [])),
    Expectation(
        "keeps no files",
        *inside("open('left', 'w').close()\nimport os; return os.listdir()", ["left"]),
    ),
    Expectation("keeps no files afterwards", *inside("import os; return os.listdir('.')", [])),
    Expectation(
        "has no network",
        *inside(
            DENIED.format(action="import socket; socket.create_connection(('127.0.0.1', 1), 1)"),
            "denied",
        ),
    ),
    Expectation(
        "starts no programs",
        *inside(
            DENIED.format(action="import os; os.posix_spawn('/bin/sh', ['sh'], {}) and os.wait()"),
            "denied",
        ),
    ),
    Expectation(
        "hides the host's files",
        *inside(DENIED.format(action="open('/etc/passwd').read()"), "denied"),
    ),
    Expectation(
        "survives signals to everything",
        "import os\ndef f(x):\n    try: os.kill(-1, 9)\n    except OSError: pass\n    return 1\n",
        (Status.PASSED, Status.RUNTIME_ERROR),
    ),
    Expectation(
        "limits processes",
        "import os\ndef f(x):\n    while True: os.fork()\n",
        (Status.PASSED, Status.RUNTIME_ERROR, Status.PROCESSES, Status.CPU_TIME),
    ),
    Expectation("still answers a call", *inside("return x + 1", 8)),
)


def check_conformance(sandbox: Sandbox) -> dict[str, str]:
    """Run every expectation: its name -> what was wrong, empty where it holds."""
    findings = {}
    for item in EXPECTATIONS:
        request = ExecutionRequest(item.program, (("f", (7,)),), item.limits)
        result = sandbox.call_functions(request)
        findings[item.name] = ""
        if result.status not in item.statuses:
            findings[item.name] = f"status {result.status} ({result.detail})"
        elif item.outcome is not None and result.outcomes != (item.outcome,):
            findings[item.name] = f"outcomes {result.outcomes}"
    for name, tests, status in (
        ("runs assertions", "def check(candidate): assert candidate(7) == 8", Status.PASSED),
        ("sees wrong answers", "def check(c): assert c(7) == 9", Status.WRONG_ANSWER),
        ("needs calls", "def check(c): pass", Status.WRONG_ANSWER),
    ):
        check = AssertionCheck("f", tests)
        result = sandbox.run_assertions("def f(x): return x + 1", check, LIMITS)
        is_right = result.status is status
        findings[name] = "" if is_right else f"status {result.status} ({result.detail})"
    return findings


def find_violations(sandbox: Sandbox) -> list[str]:
    """Run every expectation; one line for each that does not hold, so an empty list is good."""
    findings = check_conformance(sandbox)
    return [f"{name}: {complaint}" for name, complaint in findings.items() if complaint]
