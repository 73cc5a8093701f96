"""Programs go to the sandbox of their language; a language that is not here is nobody's fault."""

from collections.abc import Iterator

import pytest

from sdb_sandboxes import by_language
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ExecutionRequest, ProgramRequest, Status


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LanguageSandbox]:
    with LanguageSandbox("embedded", num_slots=1) as opened:
        yield opened


def run(sandbox: LanguageSandbox, language: str, text: str = "print(1)") -> tuple[Status, str]:
    result = sandbox.run_program(ProgramRequest(language, (("main", text),)))
    return result.status, result.detail


def test_python_runs_where_it_was_asked_to(sandbox: LanguageSandbox) -> None:
    assert run(sandbox, "python")[0] is Status.PASSED
    request = ExecutionRequest("def f(x):\n    return x\n", (("f", (1,)),))
    assert sandbox.call_functions(request).outcomes[0].value == 1
    assert sandbox.level.startswith("embedded/")
    assert sandbox.num_slots == 1
    assert sandbox.explain_missing("python") == ""


@pytest.mark.parametrize(
    ("language", "reason"),
    [("java", "runs Python only, not java; use --sandbox docker"), ("cobol", "'cobol' is unknown")],
)
def test_another_language_is_not_judged(
    sandbox: LanguageSandbox, language: str, reason: str
) -> None:
    status, detail = run(sandbox, language)
    assert status is Status.INFRASTRUCTURE
    assert reason in detail
    assert reason in sandbox.explain_missing(language)


def test_images_are_opened_once_and_a_missing_one_is_named(
    sandbox: LanguageSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def open_one(name: str, num_slots: int | None) -> Sandbox:
        asked.append(name)
        if name == "docker:go":
            raise SandboxUnavailable("the engine has no image sdbench/go")
        return sandbox

    monkeypatch.setattr(by_language, "open_sandbox", open_one)
    routed = LanguageSandbox("docker")
    for _ in range(2):
        assert run(routed, "go") == (
            Status.INFRASTRUCTURE,
            "no go on this host: the engine has no image sdbench/go",
        )
    assert routed.explain_missing("typescript") == ""
    assert routed.explain_missing("typescript-esnext") == ""
    assert asked == ["docker", "docker:go", "docker:typescript"]


def test_projects_are_not_judged_by_an_image_of_another_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = object.__new__(DockerSandbox)
    monkeypatch.setattr(DockerSandbox, "is_current", False)
    monkeypatch.setattr(DockerSandbox, "close", lambda self: None)
    monkeypatch.setattr(by_language, "open_sandbox", lambda name, num_slots: old)
    with LanguageSandbox("docker") as routed:
        reason = "the image cpp is not of this version; run: sdbench sandbox build cpp"
        assert routed.explain_missing("cpp-catch2") == reason
        assert run(routed, "cpp-catch2") == (Status.INFRASTRUCTURE, reason)
        assert routed.explain_missing("cpp") == ""
