"""Errors of the sandboxes room, as one tree.

    SandboxError
    ├── SandboxUnavailable   this host cannot give what was asked for
    ├── SlotLost             a slot's server died or does not answer: ours, rebuilt and retried
    └── RunStopped           the run ended early; carries the status it ended with

Only `SandboxUnavailable` reaches callers; the other two become statuses.
"""

from sdb_sandboxes.types import Status


class SandboxError(Exception):
    """Base of every error raised by this room, except `ValueError` for wrong arguments."""


class SandboxUnavailable(SandboxError):
    """This host cannot give the isolation that was asked for; the message says what is missing."""


class SlotLost(SandboxError):
    """The server of a slot died, or a lock could not be set: the fault is not the candidate's."""


class RunStopped(SandboxError):
    """A run ended before every question was answered."""

    def __init__(self, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
