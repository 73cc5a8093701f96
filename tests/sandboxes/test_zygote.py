"""What the fork server decides by itself, without a cell."""

import os
from pathlib import Path

from sdb_sandboxes.agent.zygote import read_state


def test_a_folder_that_was_changed_within_a_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    *before, _ = read_state(str(tmp_path))  # without the date that such a clock does not change
    tmp_path.chmod(0o500)
    *closed, _ = read_state(str(tmp_path))
    assert closed != before
    tmp_path.chmod(0o700)
    os.utime(tmp_path, (77, 77))
    *dated, _ = read_state(str(tmp_path))
    assert dated not in (before, closed)
