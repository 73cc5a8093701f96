"""The commands `sdbench sandbox ...`: build the images, see what isolation this machine gives."""

from collections import deque

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

NUM_SHOWN_LINES = 6


@click.group()
def sandbox() -> None:
    """Build and check what runs model-written programs."""


@sandbox.command()
@click.argument("names", nargs=-1)
@click.option(
    "--airgapped", is_flag=True, help="Make the base here with debootstrap (root), pull nothing."
)
def build(names: tuple[str, ...], airgapped: bool) -> None:
    """Build the images of the Docker sandbox.

    NAMES are languages (python) or images (py, py-numpy, py-bigcode); default: all of them.
    """
    from sdb_sandboxes.engine import Engine
    from sdb_sandboxes.images.build import build_image, find_images

    images = find_images(names)
    engine = Engine()
    console = Console(stderr=True)
    for image in images:
        lines: deque[str] = deque(maxlen=NUM_SHOWN_LINES)
        with Live(console=console, transient=True) as live:

            def show(line: str, live: Live = live, lines: deque[str] = lines) -> None:
                lines.append(line.splitlines()[-1][:160] if line else "")
                live.update(Text("\n".join(lines), style="dim"))

            identity = build_image(engine, image, show, airgapped)
        console.print(f"{image.tag}  {identity}", highlight=False)
