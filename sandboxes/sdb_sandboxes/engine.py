"""The container engine: finding it, and saying in one line what is wrong with it.

Place in the flow: `docker_sandbox.py` and `images/build.py` reach the engine only through here. The
engine is the one that DOCKER_HOST names, or the usual local socket; Docker, rootless Docker and
Podman's service speak the same language. What it does not do: it never talks to a remote engine.
"""

import importlib
import os
import socket
from typing import IO, Any

from sdb_sandboxes.errors import SandboxUnavailable

DEFAULT_HOST = "unix:///var/run/docker.sock"
API_VERSION = "1.40"
TIMEOUT_S = 300
"""Of one request; a loaded engine may need a minute to make a container."""


class Engine:
    """A thin, typed handle on the engine's API."""

    def __init__(self) -> None:
        """Connect.

        Raises:
            SandboxUnavailable: No engine answers, it may not be used, or it is a remote one.
        """
        try:
            docker: Any = importlib.import_module("docker")
        except ImportError:
            raise SandboxUnavailable(
                "Docker needs one more package; pip install seed-diffusion-bench[docker]"
            ) from None
        self.host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        if not self.host.startswith("unix://"):
            raise SandboxUnavailable(
                f"DOCKER_HOST={self.host} is a remote engine, but slots share folders with it; use "
                "the unix socket of an engine on this machine"
            )
        # A version of the interface that every engine since 2019 speaks: nothing is asked yet.
        self.client: Any = docker.DockerClient(
            base_url=self.host, version=API_VERSION, timeout=TIMEOUT_S
        )
        try:
            self.knock()
            self.info: dict[str, Any] = self.client.info()
            parts = self.client.version().get("Components") or ()
        except Exception as error:
            self.close()
            raise SandboxUnavailable(describe_fault(error, self.host)) from None
        self.is_podman = any("podman" in str(part.get("Name", "")).lower() for part in parts)

        options = self.info.get("SecurityOptions") or ()
        self.is_rootless = any("rootless" in str(option) for option in options)

    def knock(self) -> None:
        """Connect once, without a word. Raises OSError if nobody answers or we may not.

        The SDK leaves its socket open when it cannot connect; this one is closed.
        """
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT_S)
            client.connect(self.host.removeprefix("unix://"))

    @property
    def kind(self) -> str:
        """Who made it: `docker`, or `podman` behind the same interface; `-rootless` if it is."""
        return ("podman" if self.is_podman else "docker") + "-rootless" * self.is_rootless

    @property
    def api(self) -> Any:
        """The low-level client of the SDK."""
        return self.client.api

    def find_image(self, tag: str) -> Any:
        """The image of this tag. Raises SandboxUnavailable if the engine has none."""
        from docker.errors import ImageNotFound

        try:
            return self.client.images.get(tag)
        except ImageNotFound:
            name = tag.removeprefix("sdbench/")
            raise SandboxUnavailable(
                f"the engine has no image {tag}; run: sdbench sandbox build {name}"
            ) from None

    def list_images(self, label: str) -> list[Any]:
        """Images that carry a label, as `name=value`."""
        return list(self.client.images.list(filters={"label": label}))

    def import_image(self, archive: IO[bytes], tag: str, label: str, value: str) -> None:
        """Make an image of one layer from a tar archive of a root file system."""
        repository, _, version = tag.partition(":")
        self.api.import_image_from_data(
            archive, repository=repository, tag=version, changes=[f"LABEL {label}={value}"]
        )

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def describe_fault(error: BaseException, host: str) -> str:
    """One line on why the engine cannot be used, with the way out."""
    chain, link = [error], error.__cause__ or error.__context__
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    text = " ".join(str(item) for item in chain)
    if any(isinstance(item, PermissionError) for item in chain) or "Permission denied" in text:
        return (
            f"this user may not use the container engine at {host}; join its group (usually "
            "docker), use a rootless engine through DOCKER_HOST, or the embedded sandbox"
        )
    return (
        f"no container engine answers at {host} ({type(chain[-1]).__name__}: "
        f"{' '.join(str(chain[-1]).split())[:200]}); start one, set DOCKER_HOST, or use the "
        "embedded sandbox"
    )
