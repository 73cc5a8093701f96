"""Numbers quoted from papers: loaded, checked, and offered only where the benchmark matches.

Place in the flow: the page hands them to the figures as hollow points. They never enter a table
of measurements, a frontier or a comparison.
"""

import tomllib
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field


class Reported(BaseModel):
    """One quoted point with where it stands and why it is not comparable."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str
    benchmark: str
    """Name without options, for example `humaneval`."""
    pass_at_1: float = Field(ge=0.0, le=1.0)
    tok_s: float = Field(gt=0.0)
    hardware: str
    source: str
    caveat: str = Field(min_length=1)


def load_reported() -> tuple[Reported, ...]:
    """All quoted numbers of `reported.toml`."""
    text = files("sdb_leaderboard").joinpath("reported.toml").read_text(encoding="utf-8")
    return tuple(Reported(**entry) for entry in tomllib.loads(text)["reported"])


def select_reported(reported: tuple[Reported, ...], benchmark: str) -> tuple[Reported, ...]:
    """Those quoted for a benchmark, whatever its options: `humaneval:limit=20` -> `humaneval`."""
    return tuple(entry for entry in reported if entry.benchmark == benchmark.split(":")[0])
