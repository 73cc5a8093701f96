"""Whole programs as commands, with the shell that every Linux has; languages have their images."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from sdb_sandboxes.commands import fill_in, list_steps
from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.languages import LANGUAGES, find_language
from sdb_sandboxes.launch import Isolation, ProcessLauncher
from sdb_sandboxes.slot import Slot
from sdb_sandboxes.types import ExecutionResult, ProgramRequest, ResourceLimits, Status

LIMITS = ResourceLimits(cpu_s=2.0, wall_s=30.0, memory_bytes=256 << 20, output_bytes=1 << 20)


@pytest.fixture(scope="module")
def slot() -> Iterator[Slot]:
    launcher = ProcessLauncher(Isolation("none", has_own_uid=os.geteuid() == 0), 61_000)
    slot = Slot(launcher)
    yield slot
    slot.close()


def run(slot: Slot, script: str, *stdins: str, **limits: Any) -> ExecutionResult:
    limited = ResourceLimits(**{"cpu_s": 2.0, "wall_s": 30.0, "memory_bytes": 256 << 20, **limits})
    request = ProgramRequest("bash", (("main.sh", script),), stdins or ("",), limited)
    return slot.run_program(request)


def test_each_text_of_standard_input_is_one_run(slot: Slot) -> None:
    result = run(slot, "read x; echo got $x; cat /dev/stdin", "a\nb\n", "c\n")
    assert result.status is Status.PASSED
    assert [outcome.stdout for outcome in result.runs] == ["got a\na\nb\n", "got c\nc\n"]


def test_exit_code_and_both_outputs_come_back(slot: Slot) -> None:
    result = run(slot, "echo out; echo err >&2; exit 3")
    (outcome,) = result.runs
    assert (outcome.status, outcome.exit_code) == (Status.RUNTIME_ERROR, 3)
    assert (outcome.stdout, outcome.stderr_tail) == ("out\n", "err\n")


def test_runs_stop_at_the_first_that_ends_badly(slot: Slot) -> None:
    result = run(slot, "read code; exit $code", "0", "1", "0")
    assert [outcome.exit_code for outcome in result.runs] == [0, 1]
    assert result.status is Status.RUNTIME_ERROR


def test_standard_output_is_kept_whole_up_to_the_limit(slot: Slot) -> None:
    script = "for ((i = 0; i < 20000; i++)); do echo $i; done"
    (outcome,) = run(slot, script).runs
    assert outcome.stdout == "".join(f"{i}\n" for i in range(20_000))
    assert run(slot, script, output_bytes=10_000).status is Status.OUTPUT


def test_cpu_time_is_limited_in_children_too(slot: Slot) -> None:
    assert run(slot, "while :; do :; done", cpu_s=0.3).status is Status.CPU_TIME
    assert run(slot, "(while :; do :; done)", cpu_s=0.3).status is Status.CPU_TIME


def test_what_a_program_leaves_behind_is_gone(slot: Slot) -> None:
    result = run(slot, "touch left; sleep 1000 & echo $$")
    assert result.status is Status.PASSED
    assert run(slot, "ls").runs[0].stdout == "main.sh\n"
    assert run(slot, "for p in /proc/[0-9]*; do cat $p/comm; done").status is Status.PASSED


def test_a_request_keeps_its_folder_from_run_to_run(slot: Slot) -> None:
    result = run(slot, "echo x >> log; wc -l < log", "", "")
    assert [outcome.stdout for outcome in result.runs] == ["1\n", "2\n"]


def test_the_environment_is_fixed(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "planted")
    (outcome,) = run(slot, "env").runs
    names = {line.partition("=")[0] for line in outcome.stdout.splitlines()}
    assert names == {"PATH", "LANG", "TZ", "HOME", "TMPDIR", "PWD", "SHLVL", "_"}


@pytest.mark.parametrize(
    "script",
    [
        "exec 3<>/dev/tcp/127.0.0.1/1",
        "kill -9 $PPID",
        "echo x > /etc/sdb-planted",
        "echo x > /tmp/sdb-planted",
        "cat /work/* /home/* /root/* /tmp/*",
        "mount -t tmpfs none .",
        "setsid true",
    ],
)
def test_outside_stays_out_of_reach(slot: Slot, script: str) -> None:
    (outcome,) = run(slot, script).runs
    assert outcome.status is Status.RUNTIME_ERROR
    assert outcome.stdout == ""
    assert run(slot, "echo alive").runs[0].stdout == "alive\n"


def test_a_command_that_is_not_there_is_our_fault(slot: Slot) -> None:
    with pytest.raises(Exception, match=r"could not start a command: .*FileNotFoundError"):
        slot.run_program(ProgramRequest("swift", (("main.swift", "print(1)"),)))


@pytest.mark.parametrize("path", ["/main.sh", "../main.sh", "-e", "", "a\0b"])
def test_paths_stay_in_the_folder(slot: Slot, path: str) -> None:
    with pytest.raises(ValueError, match="leaves the program's folder"):
        slot.run_program(ProgramRequest("bash", ((path, "true"),)))


def test_a_sandbox_names_the_image_that_it_lacks() -> None:
    request = ProgramRequest("java", (("Main.java", ""),))
    with (
        EmbeddedSandbox(1) as sandbox,
        pytest.raises(ValueError, match=r"runs python, not java.*`sdbench sandbox build java`"),
    ):
        sandbox.run_program(request)


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(ValueError, match="language 'cobol' is unknown; use one of python"):
        find_language("cobol")


def test_placeholders_are_filled_from_the_request() -> None:
    limits = ResourceLimits(memory_bytes=512 << 20)
    request = ProgramRequest("java", (("Problem.java", ""), ("Other.java", "")), limits=limits)
    row = LANGUAGES["java"]
    assert row.compile is not None
    assert fill_in(row.compile, request)[-2:] == ["Problem.java", "Other.java"]
    command = fill_in(row.run, request)
    assert command[-1] == "Problem"
    assert "-Xmx512m" in command


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_row_can_be_planned(name: str) -> None:
    row = LANGUAGES[name]
    request = ProgramRequest(name, ((row.file_name, "text"),), ("a", "b"), LIMITS)
    steps = list(list_steps(request, row))
    num_compilers = sum(step.is_compiling for step in steps)
    assert num_compilers == (row.compile is not None)
    assert len(steps) == num_compilers + 2
    assert [step.keeps_folder for step in steps] == [False] + [True] * (len(steps) - 1)
    assert len({step.limits.file_bytes for step in steps}) == 1
    for command in (row.compile or row.run, row.run, row.version):
        assert command
        assert "{" not in "".join(fill_in(command, request))
