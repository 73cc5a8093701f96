"""Records what every language does here: versions, costs, and MBXP's samples against pass@1.

Run: `SDBENCH_DATA=... python sandboxes/benchmarks/languages.py [NAMES] [--samples N]`, after
`sdbench sandbox build`. Languages that are named replace their rows of `results/languages.json`,
the others keep theirs. What it does not do: it measures no speed that should be quoted; the CPU
seconds are there to show what a verdict costs.
"""

import argparse
import json
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.language_check import check_language
from sdb_sandboxes.languages import LANGUAGES, find_language

RESULT = Path(__file__).parent / "results" / "languages.json"


def main() -> None:
    """Check, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(LANGUAGES))
    parser.add_argument("--samples", type=int, help="a random part of this size; default: all")
    options = parser.parse_args()
    folder = Path(os.environ["SDBENCH_DATA"]) / "mbxp"
    record: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in options.names:
        row = check(name, folder, options.samples)
        print(json.dumps(row))
        record[name] = row
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


def check(name: str, folder: Path, num_samples: int | None) -> dict[str, Any]:
    """One language's row."""
    try:
        with DockerSandbox(image=find_language(name).image) as sandbox:
            report = check_language(sandbox, name, folder, num_samples)
            row = asdict(report) | {
                "published": report.published,
                "image": sandbox.image,
                "note": LANGUAGES[name].note,
                "commit": read_commit(),
                "machine": describe_machine(),
            }
    except SandboxUnavailable as error:
        return {"language": name, "cannot_be_judged": str(error)}
    return {
        key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()
    }


def read_commit() -> str:
    """The commit of this checkout, with `-dirty` behind it where tracked files are changed."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=RESULT.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def describe_machine() -> dict[str, Any]:
    text = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
