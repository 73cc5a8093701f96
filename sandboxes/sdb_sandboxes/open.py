"""Opens a sandbox by name: the one place that knows which kinds exist."""

from collections.abc import Callable
from functools import partial

from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.embedded_sandbox import LEVELS, EmbeddedSandbox
from sdb_sandboxes.sandbox import Sandbox


def open_sandbox(name: str = "embedded", num_slots: int | None = None) -> Sandbox:
    """Start a sandbox; close it, or use it in a `with` block.

    Args:
        name: `embedded`, `docker`, or `docker:IMAGE` with a row of `images.build.IMAGES`; behind
            either, `@RUNTIME` names another of the engine's runtimes, as `docker:py@runsc`.
        num_slots: How many programs run at once; the number of processors if None.

    Raises:
        ValueError: No sandbox or image of that name.
        SandboxUnavailable: This host cannot isolate programs well enough, or no engine answers.
    """
    place, _, runtime = name.partition("@")
    kind, _, image = place.partition(":")
    if name == "embedded":
        return EmbeddedSandbox(num_slots)
    if kind == "docker":
        return DockerSandbox(num_slots, image or "py", runtime or None)
    raise ValueError(f"sandbox {name!r} does not exist; use embedded, docker or docker:IMAGE")


def open_every() -> dict[str, Callable[[], Sandbox]]:
    """How to open every kind and level with one slot, weakest first, to compare them."""
    embedded = {f"embedded/{level}": partial(EmbeddedSandbox, 1, level, level) for level in LEVELS}
    return {**embedded, "docker": partial(DockerSandbox, 1)}
