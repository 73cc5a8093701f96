"""The base of every image, made on this machine from the distribution's packages: no registry.

Place in the flow: `build.py` puts it in the place of the Dockerfiles' pinned base. debootstrap
fetches Debian's signed packages from the mirror that this machine uses; the result is imported into
the engine. What it does not do: it is no bit-for-bit copy of the published base, only the same
release with the same packages.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sdb_sandboxes.engine import Engine
from sdb_sandboxes.errors import SandboxError

MIRROR = "http://deb.debian.org/debian"
BASE_LABEL = "org.sdbench.base"
DPKG_SETTINGS = """force-unsafe-io
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/info/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*/LC_MESSAGES/*.mo
"""
"""As in the published slim base: no manuals, and no sync to disk after every file."""
APT_SETTINGS = """Acquire::Languages "none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
"""
"""As there: nothing that apt could make or fetch again stays in a layer."""


def build_base(engine: Engine, release: str, report: Callable[[str], None]) -> str:
    """Make the base of a Debian release unless the engine has it; returns its tag.

    Raises:
        SandboxError: Not root, no debootstrap, or debootstrap failed.
    """
    tag = f"sdbench/base:{release}"
    if engine.list_images(f"{BASE_LABEL}={release}"):
        return tag
    if os.geteuid() != 0:
        raise SandboxError("an air-gapped build makes a root file system: run it as root")
    if shutil.which("debootstrap") is None:
        raise SandboxError("an air-gapped build needs debootstrap: apt-get install debootstrap")
    report(f"making {tag} with debootstrap")
    with tempfile.TemporaryDirectory(prefix="sdb-base-") as folder:
        for line in run_lines(["debootstrap", "--variant=minbase", release, folder, MIRROR]):
            report(line)
        (Path(folder) / "etc/dpkg/dpkg.cfg.d/sdbench").write_text(DPKG_SETTINGS)
        (Path(folder) / "etc/apt/apt.conf.d/sdbench").write_text(APT_SETTINGS)
        for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*", "var/log/*.log"):
            for path in Path(folder).glob(pattern):
                path.unlink()
        report(f"importing {tag}")
        with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
            assert tar.stdout is not None
            engine.import_image(tar.stdout, tag, BASE_LABEL, release)
        if tar.returncode:
            raise SandboxError(f"tar ended with status {tar.returncode}")
    return tag


def run_lines(command: list[str]) -> Iterator[str]:
    """Run a command and give its lines. Raises SandboxError with the last of them."""
    last = ""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"DPKG_FORCE": "unsafe-io"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip()
            yield last
    if process.returncode:
        raise SandboxError(f"{command[0]} ended with status {process.returncode}: {last}")
