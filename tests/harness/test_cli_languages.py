"""`sdbench sandbox check --languages`: the table, what is missing, the exit status."""

import io

import pytest
from click.testing import CliRunner
from rich.console import Console

from sdb_harness.cli_sandbox import build_language_table, sandbox
from sdb_sandboxes.images.build import IMAGES, Image
from sdb_sandboxes.language_check import LanguageReport


def test_the_table_compares_measured_with_published() -> None:
    good = LanguageReport("ruby", "ruby 3.1", (), 0.05, 0.1, 100, 966, 58.0, 4.66, 2, 3)
    bad = LanguageReport("go", "go1.19", ("does not echo a line",), 0.1, 0.2)
    console = Console(file=io.StringIO(), width=200)
    console.print(build_language_table([good, bad]))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[1].split() == (
        ["ruby", "ruby", "3.1", "0.05", "58.00", "±", "4.7", "58.90", "100/966", "2", "3", "works"]
    )
    assert lines[2].split() == ["go", "go1.19", "0.10", "39.19", *"does not echo a line".split()]


def test_names_belong_to_languages() -> None:
    result = CliRunner().invoke(sandbox, ["check", "ruby"])
    assert result.exit_code != 0
    assert "--languages" in f"{result.output}{result.exception}"


@pytest.mark.docker
@pytest.mark.usefixtures("engine")
def test_languages_are_checked_and_a_missing_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SDBENCH_DATA", raising=False)
    monkeypatch.setitem(IMAGES, "swift", Image("no-swift", "swift"))
    result = CliRunner().invoke(sandbox, ["check", "--languages", "python", "swift"])
    assert "works" in result.output
    assert "swift cannot be judged here" in result.output
    assert "sdbench sandbox build no-swift" in " ".join(result.output.split())
    assert result.exit_code == 1
