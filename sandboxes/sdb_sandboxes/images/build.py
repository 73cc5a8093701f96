"""Builds the images of the Docker sandbox, from a registry's base or, air-gapped, from none.

Place in the flow: `sdbench sandbox build` calls `build_image` for rows of `IMAGES`; the sandbox
looks up `IMAGES[...].tag` when it opens. There is one Dockerfile per language; an air-gapped build
only exchanges its base (`airgapped.py`) and lets this machine's package clients fetch what goes in.
What it does not do: it pushes nothing and deletes no image.
"""

import hashlib
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdb_sandboxes.engine import Engine
from sdb_sandboxes.errors import SandboxError
from sdb_sandboxes.images.airgapped import build_base

FOLDER = Path(__file__).parent
LABEL = "org.sdbench.recipe"
PRELOAD_LABEL = "org.sdbench.preload"
"""Modules that the fork server imports before the first program comes, separated by spaces."""
PYTHON_TAGS = ("3.11", "cp311")
"""Version of the interpreter in Debian bookworm, for which wheels are fetched."""


class BuildFailed(SandboxError):
    """An image could not be built; the message is the last words of the build."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image: the folder whose Dockerfile makes it, and the stage in it."""

    name: str
    language: str
    """Folder below `images/`; also what `sdbench sandbox build LANGUAGE` selects."""
    requirements: str = ""
    """File in that folder with the Python packages of this image."""
    release: str = "bookworm"
    """Debian's, that of its base."""

    @property
    def tag(self) -> str:
        """Name under which the engine keeps it."""
        return f"sdbench/{self.name}"


IMAGES = {
    image.name: image
    for image in (
        Image("py", "python"),
        Image("py-numpy", "python", "py-numpy.txt"),
        Image("py-bigcode", "python", "py-bigcode.txt"),
        Image("kotlin", "kotlin", "kotlin.txt"),
        *(
            Image(name, name)
            for name in (
                *("cpp", "java", "scala", "javascript", "typescript", "go", "php"),
                *("ruby", "perl", "csharp", "rust", "bash", "d", "julia", "lua", "r", "racket"),
            )
        ),
        Image("swift", "swift", release="trixie"),
    )
}
"""Name -> image; the name is also the stage in its Dockerfile."""


def find_images(names: tuple[str, ...]) -> list[Image]:
    """The images of these names or languages, in the table's order; all of them for no name.

    Raises:
        ValueError: A name that is neither an image nor a language.
    """
    languages = sorted({image.language for image in IMAGES.values()})
    for name in names:
        if name not in IMAGES and name not in languages:
            raise ValueError(
                f"image {name!r} does not exist; use a language ({', '.join(languages)}) or an "
                f"image ({', '.join(IMAGES)})"
            )
    found = IMAGES.values()
    return [image for image in found if not names or {image.name, image.language} & set(names)]


def build_image(
    engine: Engine,
    image: Image,
    report: Callable[[str], None],
    is_airgapped: bool = False,
) -> str:
    """Build one image unless the engine has it from the same recipe; returns its id.

    Args:
        engine: Where to build.
        image: A row of `IMAGES`.
        report: Called with every line of progress.
        is_airgapped: Make the base on this machine instead of pulling it; needs root.

    Raises:
        BuildFailed: The build ended early; the message holds its last lines.
    """
    recipe = compute_recipe(image)
    for found in engine.list_images(f"{LABEL}={recipe}"):
        if f"{image.tag}:latest" in (found.tags or ()):
            report(f"{image.tag} is up to date")
            return str(found.id)
    arguments: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="sdb-build-") as wheels:
        if is_airgapped:
            arguments["BASE"] = build_base(engine, image.release, report)
            if image.requirements:
                arguments["PIP_OPTIONS"] = "--no-index --no-deps --find-links /wheels"
                for name in list_requirements(image):
                    fetch_wheels(FOLDER / image.language / name, Path(wheels), report)
        context = pack_context(FOLDER / image.language, Path(wheels))
        return build_context(engine, image, context, arguments, {LABEL: recipe}, report)


def compute_recipe(image: Image) -> str:
    """Content hash of everything in the repository that an image is made from."""
    digest = hashlib.sha256(image.name.encode())
    others = {other.requirements for other in IMAGES.values()} - {image.requirements}
    for path in sorted((FOLDER / image.language).rglob("*")):
        if path.is_file() and path.name not in others:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def list_requirements(image: Image) -> list[str]:
    """Its list of packages, and those of the stages before it: old builders build these too."""
    names = [other.requirements for other in IMAGES.values() if other.language == image.language]
    return [name for name in names[: names.index(image.requirements) + 1] if name]


def fetch_wheels(requirements: Path, folder: Path, report: Callable[[str], None]) -> None:
    """Let this machine's pip fetch these packages, from whatever index it is configured for.

    No others: a list is whole, and of some packages only a part is wanted.
    """
    version, abi = PYTHON_TAGS
    arch = platform.machine()
    report(f"fetching the packages of {requirements.name}")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
        *("--only-binary", ":all:"),
        *("--python-version", version, "--implementation", "cp", "--abi", abi, "--abi", "abi3"),
        *("--abi", "none", "--dest", str(folder), "--requirement", str(requirements)),
    ]
    for glibc in (36, 35, 34, 31, 28, 27, 24, 17):
        command += ["--platform", f"manylinux_2_{glibc}_{arch}"]
    command += ["--platform", f"manylinux2014_{arch}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildFailed(f"pip could not fetch {requirements.name}: {done.stderr.strip()[-500:]}")


def pack_context(folder: Path, wheels: Path) -> io.BytesIO:
    """The build's context: the language's folder and the fetched wheels, as one archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted((*folder.rglob("*"), *wheels.glob("*.whl"))):
            if path.is_file():
                top = folder if folder in path.parents else wheels
                tar.add(path, arcname=str(path.relative_to(top)))
    archive.seek(0)
    return archive


def build_context(
    engine: Engine,
    image: Image,
    context: io.BytesIO,
    arguments: dict[str, str],
    labels: dict[str, str],
    report: Callable[[str], None],
) -> str:
    """Let the engine build a context; report every line, return the image's id."""
    last: list[str] = []
    lines: Any = engine.api.build(
        fileobj=context,
        custom_context=True,
        tag=image.tag,
        target=image.name,
        buildargs=arguments,
        labels=labels,
        network_mode="host",
        rm=True,
        forcerm=True,
        decode=True,
    )
    for line in lines:
        if "error" in line:
            words = " / ".join([*last[-5:], line["error"].strip()])
            raise BuildFailed(f"{image.tag} could not be built: {words}")
        text = str(line.get("stream", "")).strip()
        if text:
            last.append(text)
            report(text)
    return str(engine.find_image(image.tag).id)
