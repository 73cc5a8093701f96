"""Verifies benchmarks one after the other and keeps what was found: one row each, resumable.

Place in the flow: `sdbench benchmarks verify` calls `verify_benchmark` for each benchmark; a row is
what its table shows and what `--record FILE` keeps. FILE is one JSON object, benchmark -> row, with
the same as a table beside it (`.md`). It is written after every trial, so a run that was stopped
goes on behind the last one; a trial counts as done only if all of it was judged, by the same code
(commit), on the same data, with the same settings.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdb_harness.benchmarks import Benchmark
from sdb_harness.errors import UserError
from sdb_harness.hardware import describe_hardware
from sdb_harness.provenance import build_manifest
from sdb_harness.store import STAGE_VERSIONS
from sdb_harness.verification import (
    Finding,
    PublishedFinding,
    Trial,
    plan_trials,
    run_trial,
    verify_published,
)
from sdb_reference_model.files import write_text
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.sandbox import Sandbox

HEADINGS = (
    *("benchmark", "references pass", "under load", "must fail, passed", "known faults"),
    *("not judged", "wrong", "trust levels", "seconds"),
)
NUM_REASONS = 6
"""Reasons of programs that were not judged that the table names; the record has all."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """How much of each benchmark is judged."""

    problems: int | None
    """Of each language, all if None."""
    cheats: int | None
    """Of those, how many get programs that must fail; all if None."""
    load: int
    samples: str | None = None
    """How many samples of a model are judged too, of each language: a number, `all` or None."""


def verify_benchmark(
    spec: str,
    benchmark: Benchmark,
    sandbox: Sandbox,
    settings: Settings,
    record: "Record",
    begin: Callable[[str, int], None] = lambda *_: None,
    advance: Callable[[], None] = lambda: None,
) -> Row:
    """Judge what the record does not hold already.

    Args:
        spec: What the record calls the benchmark.
        benchmark: What to judge.
        sandbox: Where programs run.
        settings: How much of it.
        record: Kept up to date after every trial.
        begin: Called with the name of each trial and how many programs it has.
        advance: Called after each program.
    """
    manifest = build_manifest(describe_hardware(), {"sandbox": sandbox.level})
    key = {
        **asdict(settings),
        "revision": benchmark.revision,
        "sandbox": sandbox.level,
        "judge": STAGE_VERSIONS["judge"],
        "commit": manifest.git_commit,
        "images": list_images(benchmark, sandbox),
    }
    findings, samples, took_s = record.find_done(spec, key)
    done = {(finding.name, finding.group): finding for finding in findings}
    findings = []

    def keep() -> None:
        row = summarize_findings(findings, benchmark)
        row |= {"data": benchmark.describe(), "took_s": round(took_s, 1), "settings": key}
        row |= {"findings": [asdict(finding) for finding in findings]}
        row |= {"samples": [asdict(finding) for finding in samples.values()]}
        implementations = {"sandbox": sandbox.level, "image": sandbox.image}
        row["manifest"] = manifest.model_copy(
            update={"implementations": implementations}
        ).model_dump()
        record.keep(spec, row)

    for trial in plan_trials(benchmark, settings.problems, settings.cheats, settings.load):
        begin(describe_trial(trial), len(trial.programs))
        start_s = time.monotonic()
        found = done.get((trial.name, trial.group))
        findings.append(found or run_trial(benchmark, sandbox, trial, advance))
        took_s += 0.0 if found else time.monotonic() - start_s
        keep()
    if settings.samples is not None:
        limit = None if settings.samples == "all" else int(settings.samples)
        start_s = time.monotonic()
        for sample in verify_published(benchmark, sandbox, limit, dict(samples)):
            samples[sample.group] = sample
            took_s, start_s = took_s + time.monotonic() - start_s, time.monotonic()
            keep()
    return record.rows[spec]


def list_images(benchmark: Benchmark, sandbox: Sandbox) -> dict[str, str]:
    """Language -> content address of the image that judges it; empty outside containers."""
    if not isinstance(sandbox, LanguageSandbox):
        return {"python": sandbox.image}
    languages = {getattr(problem.check, "language", "python") for problem in benchmark.problems}
    return {language: sandbox.find_image(language) for language in sorted(languages)}


def describe_trial(trial: Trial) -> str:
    """What is being judged, in a few words."""
    return trial.name if trial.group == "all" else f"{trial.group}: {trial.name}"


def summarize_findings(findings: Sequence[Finding], benchmark: Benchmark) -> Row:
    """The numbers of a benchmark's row, and every program that was not judged as it should be."""
    references = [one for one in findings if one.name == "reference"]
    loaded = [one for one in findings if one.should_pass and one.name != "reference"]
    others = [one for one in findings if not one.should_pass]
    return {
        "references": sum(count_programs(one) for one in references),
        "judged": sum(one.num_programs for one in references),
        "passed": sum(one.num_passed for one in references),
        "judged_under_load": sum(one.num_programs for one in loaded),
        "passed_under_load": sum(one.num_passed for one in loaded),
        "others": sum(one.num_programs for one in others),
        "others_passed": sum(one.num_passed for one in others),
        "exceptions": [f"{one.name}, {text}" for one in findings for text in one.exceptions],
        "known_faults": [
            f"{one.name}, {text}: {benchmark.remarks[text.rpartition(': ')[0]]}"
            for one in findings
            for text in one.known
        ],
        "notes": [f"{problem_id}: {note}" for problem_id, note in benchmark.notes.items()],
        "not_judged": dict(add_up(one.not_judged for one in findings)),
        "lost": dict(add_up(one.lost for one in findings)),
        "trust_levels": dict(add_up(one.trust_levels for one in references)),
    }


def count_programs(finding: Finding) -> int:
    """Judged or not."""
    return finding.num_programs + sum(finding.not_judged.values()) + sum(finding.lost.values())


def add_up(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    """The sum of counters."""
    total = Counter[str]()
    for one in counts:
        total.update(one)
    return total


def read_samples(row: Row) -> list[PublishedFinding]:
    """What a row holds of samples; nothing in rows of before there was any."""
    return [PublishedFinding(**finding) for finding in row.get("samples", ())]


class Record:
    """The rows of this run, and of the file that keeps them where one is named."""

    def __init__(self, path: Path | None) -> None:
        """Read the file if it is there.

        Raises:
            UserError: it is not such a record, or would be the table beside it.
        """
        self._path = path
        self.rows: dict[str, Row] = {}
        if path is not None and path.suffix == ".md":
            raise UserError(f"{path} is where the table goes; name the record {path.stem}.json")
        if path is None or not path.exists():
            return
        try:
            self.rows = json.loads(path.read_text())
            render_markdown(self.rows)
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            raise UserError(
                f"{path} is no record of `benchmarks verify`; move it away or name another file"
            ) from None

    def find_done(
        self, spec: str, key: Mapping[str, Any]
    ) -> tuple[list[Finding], dict[str, PublishedFinding], float]:
        """The findings that need not be made again, and the seconds that they took."""
        row = self.rows.get(spec, {})
        if row.get("settings") != key:
            return [], {}, 0.0
        findings = [Finding(**finding) for finding in row["findings"]]
        samples = read_samples(row)
        return (
            [one for one in findings if not (one.not_judged or one.lost)],
            {one.group: one for one in samples if not (one.not_judged or one.lost)},
            row["took_s"],
        )

    def keep(self, spec: str, row: Row) -> None:
        """Replace a row; the file is replaced as a whole, so that a kill leaves it whole.

        Raises:
            UserError: it cannot be written.
        """
        self.rows[spec] = row
        if self._path is None:
            return
        for path, text in (
            (self._path, json.dumps(self.rows, indent=1) + "\n"),
            (self._path.with_suffix(".md"), render_markdown(self.rows)),
        ):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, text)
            except OSError as error:
                raise UserError(
                    f"cannot write the record {path}: {error.strerror}; name another file"
                ) from error


def make_cells(spec: str, row: Row) -> tuple[str, ...]:
    """A row's texts under `HEADINGS`."""
    levels = ", ".join(f"{level} {count}" for level, count in row["trust_levels"].items())
    not_judged = sum(row["not_judged"].values()) + sum(row.get("lost", {}).values())
    under_load = row.get("judged_under_load", 0)
    return (
        spec,
        f"{row['passed']} of {row['judged']}" if row["references"] else "none published",
        f"{row['passed_under_load']} of {under_load}" if under_load else "not tried",
        f"{row['others_passed']} of {row['others']}",
        str(len(row["known_faults"])),
        str(not_judged),
        str(len(row["exceptions"])),
        levels or "none",
        f"{row['took_s']:.0f}",
    )


def list_details(spec: str, row: Row) -> list[str]:
    """One line for everything that was not judged as it should be, or not at all."""
    reasons = sorted(row["not_judged"].items(), key=lambda item: -item[1])
    lines = [f"{spec}, wrong: {text}" for text in row["exceptions"]]
    lines += [f"{spec}, lost by a fault here: {n}: {why}" for why, n in row.get("lost", {}).items()]
    lines += [f"{spec}, {one.describe()}" for one in read_samples(row)]
    lines += [f"{spec}, known fault: {text}" for text in row["known_faults"]]
    lines += [f"{spec}, note: {text}" for text in row.get("notes", ())]
    lines += [f"{spec}, not judged: {n}: {why}" for why, n in reasons[:NUM_REASONS]]
    if len(reasons) > NUM_REASONS:
        lines.append(f"{spec}, not judged: {len(reasons) - NUM_REASONS} reasons more")
    return lines


def render_markdown(rows: Mapping[str, Row]) -> str:
    """One row a benchmark, and below what was not judged as it should be."""
    table = [make_cells(spec, row) for spec, row in rows.items()]
    details = [f"- {line}" for spec, row in rows.items() for line in list_details(spec, row)]
    lines = [
        "# Benchmarks, verified",
        "",
        "Written by `sdbench benchmarks verify ... --record`: references must pass; empty,",
        "`return None` and cheating programs must not. Data, sandbox and machine of each row stand",
        "in the JSON file beside.",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
        *(f"| {' | '.join(cells)} |" for cells in table),
    ]
    return "\n".join([*lines, "", *details] if details else lines) + "\n"
