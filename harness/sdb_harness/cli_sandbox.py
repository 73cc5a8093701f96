"""The commands `sdbench sandbox ...`: build images, check what this host can run, serve."""

import os
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sdb_harness.errors import UserError

if TYPE_CHECKING:
    from sdb_sandboxes.language_check import LanguageReport

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


@sandbox.command()
@click.argument("names", nargs=-1)
@click.option("--languages", is_flag=True, help="Check the languages by image instead.")
@click.option(
    "--samples", type=click.IntRange(min=1), help="Judge a random part of this size; default: all."
)
def check(names: tuple[str, ...], languages: bool, samples: int | None) -> None:
    """Probe from inside what each sandbox of this machine covers; status 1 if one does not hold.

    Every level of the embedded sandbox that this host gives, and Docker where an engine answers
    with its image. A lower level leaves open what it never promised; that alone is no fault.

    With --languages: small programs of every language (or of NAMES), and where SDBENCH_DATA has
    MBXP its shipped samples, whose published pass@1 an installation must reproduce.
    """
    if languages:
        check_languages(names, samples)
        return
    if names or samples:
        raise UserError("NAMES and --samples go with --languages; add it or drop them")
    check_isolation()


def check_isolation() -> None:
    """Print covered or not for every probe, level by level; status 1 for a broken promise."""
    from sdb_sandboxes.conformance import check_conformance
    from sdb_sandboxes.errors import SandboxUnavailable
    from sdb_sandboxes.open import open_every
    from sdb_sandboxes.probes import find_broken, probe

    findings: dict[str, dict[str, str]] = {}
    missing: list[str] = []
    broken: list[str] = []
    console = Console()
    for name, open_one in open_every().items():
        try:
            with console.status(f"probing {name}"), open_one() as opened:
                works, walls = check_conformance(opened), probe(opened)
                findings[opened.level] = works | walls | dict.fromkeys(opened.layers, "")
                faults = [*(f"{what}: {why}" for what, why in works.items() if why)]
                faults += find_broken(opened.level, walls)
                broken += [f"{opened.level}: {fault}" for fault in faults]
        except SandboxUnavailable as error:
            missing.append(f"{name}: {error}")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("probe or lock", *findings):
        table.add_column(heading.replace("/", "/\n"), no_wrap=True)
    for row in dict.fromkeys(row for found in findings.values() for row in found):
        # A lock that one kind does not name may be part of another of its locks.
        cells = [found.get(row) for found in findings.values()]
        words = ["-" if cell is None else "not covered" if cell else "covered" for cell in cells]
        table.add_row(row, *words)
    console.print(table)
    for line in missing:
        console.print(f"not here: {line}", highlight=False, soft_wrap=True)
    for line in broken:
        console.print(f"must hold and does not: {line}", highlight=False, soft_wrap=True)
    if broken or not findings:
        raise SystemExit(1)


@sandbox.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--sandbox",
    "sandbox_name",
    default="embedded",
    show_default=True,
    help="embedded (Python), or docker: all languages whose images are built.",
)
@click.option("--slots", type=click.IntRange(min=1), help="Programs at once.  [default: all cores]")
@click.option(
    "--max-pending",
    default=256,
    show_default=True,
    type=click.IntRange(min=1),
    help="Programs that run or wait; more are answered 429.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Holds the token.  [default: SDBENCH_SANDBOX_TOKEN, else a new one is printed]",
)
@click.option("--allow-remote", is_flag=True, help="Needed to listen beyond this machine.")
def serve(
    host: str,
    port: int,
    sandbox_name: str,
    slots: int | None,
    max_pending: int,
    token_file: Path | None,
    allow_remote: bool,
) -> None:
    """Serve verdicts over HTTP, and SandboxFusion's /run_code.

    The API is documented at /docs. Clients send the token as `Authorization: Bearer TOKEN`, or
    inside the URL as http://:TOKEN@127.0.0.1:8080/run_code.
    """
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise UserError(
            "serving needs two more packages; pip install seed-diffusion-bench[service]"
        )
    from sdb_sandboxes.service.app import Service, ServiceSettings, bind, make_server
    from sdb_sandboxes.service.guard import find_token

    token, is_new = find_token(token_file)
    listener = bind(host, port, allow_remote)
    service = Service(ServiceSettings(token, sandbox_name, slots, max_pending))
    if is_new:
        click.echo(f"token: {token}", err=True)
    address = f"[{host}]" if ":" in host else host
    url = f"http://{address}:{listener.getsockname()[1]}"
    click.echo(f"listening on {url}, sandbox {service.sandbox_level}; Ctrl-C stops", err=True)
    make_server(service).run(sockets=[listener])


def check_languages(names: tuple[str, ...], samples: int | None) -> None:
    """Print one row per language; status 1 if one is missing or has a fault."""
    from sdb_sandboxes.docker_sandbox import DockerSandbox
    from sdb_sandboxes.errors import SandboxUnavailable
    from sdb_sandboxes.language_check import check_language
    from sdb_sandboxes.languages import LANGUAGES, find_language

    folder = Path(os.environ["SDBENCH_DATA"]) / "mbxp" if "SDBENCH_DATA" in os.environ else None
    if folder is not None and not folder.is_dir():
        folder = None
    rows = {name: find_language(name) for name in names} or LANGUAGES
    console = Console()
    reports, missing = [], []
    for name, row in rows.items():
        with console.status(f"checking {name}"):
            try:
                with DockerSandbox(image=row.image) as opened:
                    reports.append(check_language(opened, name, folder, samples))
            except SandboxUnavailable as error:
                missing.append((name, str(error)))
    console.print(build_language_table(reports))
    for name, reason in missing:
        console.print(f"[red]{name}[/red] cannot be judged here: {reason}", highlight=False)
    if missing or any(report.faults for report in reports):
        raise click.exceptions.Exit(1)


def build_language_table(reports: "list[LanguageReport]") -> Table:
    """One row per language: what it is, what it costs, measured against published pass@1."""
    headings = (
        "language",
        "version",
        "cpu s",
        "pass@1 %",
        "published",
        "of",
        "forged",
        "loose",
        "",
    )
    table = Table(*headings, box=None)
    for report in reports:
        measured = "" if report.measured is None else f"{report.measured:.2f}"
        if report.standard_error:
            measured += f" ± {report.standard_error:.1f}"
        table.add_row(
            report.language,
            report.version[:40],
            f"{report.cpu_s:.2f}",
            measured,
            f"{report.published:.2f}" if report.published is not None else "",
            f"{report.num_samples}/{report.num_published}" if report.num_samples else "",
            str(report.num_forged) if report.num_samples else "",
            str(report.num_loose) if report.num_samples else "",
            Text("; ".join(report.faults) or "works", style="red" if report.faults else "green"),
        )
    return table
