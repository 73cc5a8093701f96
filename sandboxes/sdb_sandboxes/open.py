"""Opens a sandbox by name: the one place that knows which kinds exist."""

from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.sandbox import Sandbox


def open_sandbox(name: str = "embedded", num_slots: int | None = None) -> Sandbox:
    """Start a sandbox; close it, or use it in a `with` block.

    Args:
        name: `embedded`, the only kind so far.
        num_slots: How many programs run at once; the number of processors if None.

    Raises:
        ValueError: No sandbox of that name.
        SandboxUnavailable: This host cannot isolate programs well enough.
    """
    if name != "embedded":
        raise ValueError(f"sandbox {name!r} does not exist; use 'embedded'")
    return EmbeddedSandbox(num_slots)
