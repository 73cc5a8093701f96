"""Where the shipped sweep files are, and which of them is the demo.

Place in the flow: `sdbench demo` runs the sweep that `find_demo_sweep` names, like any other.
"""

import os
from importlib.resources import files
from pathlib import Path

from sdb_harness.errors import UserError

DEMO_VARIABLE = "SDBENCH_DEMO"
DEMO_SWEEPS = {"": "demo.toml", "full": "demo.toml", "short": "demo-short.toml"}
"""Value of the environment variable -> file in `sweeps/`."""


def find_demo_sweep() -> Path:
    """Find the demo's sweep file, the short one if `SDBENCH_DEMO=short`.

    Raises:
        UserError: the variable has another value, or the file is not installed.
    """
    choice = os.environ.get(DEMO_VARIABLE, "")
    if choice not in DEMO_SWEEPS:
        raise UserError(f"{DEMO_VARIABLE}={choice!r}; use full or short, or unset it")
    return find_shipped_sweep(DEMO_SWEEPS[choice])


def find_shipped_sweep(name: str) -> Path:
    """Find a sweep file inside the installed package, or in `sweeps/` of a checkout.

    Raises:
        UserError: it is in neither place.
    """
    package = Path(str(files("sdb_harness")))
    places = (package / "sweeps" / name, package.parent.parent / "sweeps" / name)
    for path in places:
        if path.is_file():
            return path
    raise UserError(f"no sweep {name} in {places[0].parent}; reinstall seed-diffusion-bench")
