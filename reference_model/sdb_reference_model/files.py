"""Files that a kill leaves as they were or as they should be, never half written.

Place in the flow: everything that a stopped run reads again is written through here.
"""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write text so that a kill leaves the old file or the new one, never half."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    replace_durably(temporary, path)


def replace_durably(temporary: Path, path: Path) -> None:
    """Flush `temporary` to disk and rename it over `path`."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
