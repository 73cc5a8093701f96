"""The README is true: its commands run, its links exist, its pictures are there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = sorted(
    path for path in ROOT.rglob("*.md") if not {".venv", "runs"} & set(path.relative_to(ROOT).parts)
)
LONG_COMMANDS = ("demo", "train", "experiment", "run sweeps/", "run --benchmark minipy")
"""Commands that tests run elsewhere (the demo in continuous integration) or that take hours."""


def list_commands() -> list[str]:
    """Every `sdbench ...` line in the README's code blocks, without comments."""
    blocks = re.findall(r"```(?:bash|console|sh)\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.startswith("sdbench ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would stand: sweeps at hand, and the runs of the commands before."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "sweeps").symlink_to(ROOT / "sweeps")
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = [str(Path(sys.executable).with_name("sdbench")), *shlex.split(command)[1:]]
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


def test_readme_is_short_and_names_both_commands() -> None:
    text = README.read_text()
    assert len(text.splitlines()) < 150
    assert "make demo" in text
    assert "make test" in text


def test_readme_has_commands() -> None:
    assert len(list_commands()) >= 4


@pytest.mark.parametrize("command", list_commands())
def test_commands_of_the_readme_run(command: str, folder: Path) -> None:
    if any(command.startswith(f"sdbench {long}") for long in LONG_COMMANDS):
        result = run(f"{command} --help", folder)  # known command, known options' names
    else:
        result = run(command, folder)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_pictures_exist(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src(?:set)?="([^"]+)"', text)
    for target in targets:
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_merge_is_left_undone(path: Path) -> None:
    assert not re.findall(r"^(?:<{7}|>{7}) .*", path.read_text(), re.MULTILINE)


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", README.read_text(), re.MULTILINE)
    assert named
    for target in map("".join, named):
        assert target in targets, target
