"""Counts what each sandbox of this host accepts of the attack corpus, family by family.

    python sandboxes/benchmarks/attacks.py                 # every sandbox, every entry
    python sandboxes/benchmarks/attacks.py --family "lying values" --sandbox embedded/minimal

Of hostile families nothing may be accepted, of good programs everything must be. What it does not
do: it measures no time, and it looks for nothing left over; the tests do.
"""

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sdb_sandboxes.corpus import FAMILIES, HONEST_FAMILY, Entry, read_corpus
from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.embedded_sandbox import LEVELS, EmbeddedSandbox
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.verifiers import verify

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "sandboxes" / "attacks"


def main() -> None:
    """Print one table; exit with 1 if anything was judged wrongly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=FAMILIES, action="append", default=[])
    parser.add_argument("--sandbox", action="append", default=[], help="by the name of its level")
    options = parser.parse_args()
    families = options.family or list(FAMILIES)
    entries = [entry for entry in read_corpus(CORPUS) if entry.family in families]
    columns: dict[str, Counter[str]] = {}
    for level in (*(f"embedded/{level}" for level in reversed(LEVELS)), "docker/runc"):
        if options.sandbox and level not in options.sandbox:
            continue
        with open_level(level) as sandbox:
            if sandbox is not None:
                columns[level] = count_accepted(sandbox, entries)
    num_wrong = 0
    print(f"{'family':30} {'programs':>8} " + " ".join(f"{level:>20}" for level in columns))
    for family in families:
        number = sum(entry.family == family for entry in entries)
        accepted = [column[family] for column in columns.values()]
        print(f"{family:30} {number:8} " + " ".join(f"{count:>11} accepted" for count in accepted))
        right = number if family == HONEST_FAMILY else 0
        num_wrong += sum(abs(count - right) for count in accepted)
    raise SystemExit(num_wrong > 0)


@contextmanager
def open_level(level: str) -> Iterator[Sandbox | None]:
    """A sandbox of exactly this level, or None with its reason on the screen."""
    kind, _, name = level.partition("/")
    slots = os.cpu_count() or 1
    (wanted,) = [known for known in LEVELS if known == name] or [LEVELS[0]]
    try:
        sandbox: Sandbox = (
            DockerSandbox(slots) if kind == "docker" else EmbeddedSandbox(slots, wanted, wanted)
        )
    except SandboxUnavailable as error:
        print(f"{level}: not here: {error}")
        yield None
        return
    with sandbox:
        yield sandbox


def count_accepted(sandbox: Sandbox, entries: list[Entry]) -> Counter[str]:
    """Programs that pass, by family: a good one by all of its checks, a hostile one by any."""

    def is_accepted(entry: Entry) -> bool:
        every = []
        for name in entry.checks:
            program, check, _ = entry.build(name)
            every.append(verify(sandbox, program, check, entry.limits).is_passed)
        return all(every) if entry.is_honest else any(every)

    with ThreadPoolExecutor(sandbox.num_slots) as pool:
        accepted = list(pool.map(is_accepted, entries))
    return Counter(entry.family for entry, is_in in zip(entries, accepted, strict=True) if is_in)


if __name__ == "__main__":
    main()
