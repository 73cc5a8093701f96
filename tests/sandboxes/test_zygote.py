"""What the fork server decides by itself, without a cell."""

import os
from pathlib import Path

import pytest

from sdb_sandboxes.agent.zygote import list_container_paths, read_state


def test_a_folder_that_was_changed_within_a_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    *before, _ = read_state(str(tmp_path))  # without the date that such a clock does not change
    tmp_path.chmod(0o500)
    *closed, _ = read_state(str(tmp_path))
    assert closed != before
    tmp_path.chmod(0o700)
    os.utime(tmp_path, (77, 77))
    *dated, _ = read_state(str(tmp_path))
    assert dated not in (before, closed)


def test_an_image_shows_its_file_types_and_nothing_else_of_etc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`mimetypes.init`, and with it openpyxl, fails where the file is there and is not readable."""
    for exists in (True, False):
        monkeypatch.setattr(os.path, "exists", lambda path, exists=exists: exists)
        of_etc = [path for path in list_container_paths() if path.startswith("/etc")]
        assert of_etc == ["/etc/mime.types"] * exists
