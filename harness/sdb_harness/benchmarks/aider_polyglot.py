"""Aider's polyglot benchmark: 225 exercises of six languages, two tries.

Place in the flow: `load` -> `Benchmark`; what it shares with its predecessor stands in `aider.py`.
Source: Aider-AI/polyglot-benchmark at a pinned commit. Option `language`: one or several joined by
`+`; all six if not given. Each language's tests run in its own framework, see `exercises.py`.

Known to differ from aider's own image: compilers are Debian's, so a solution that needs Go later
than 1.19 (`slices`, `maps`), Rust later than 1.63 or a crate fails here; AssertJ is 3.14; a
stand-in of ours takes Jest's place; there is no `go vet` and no doctest.
"""

import hashlib
from collections.abc import Mapping

from sdb_harness.benchmarks import Benchmark
from sdb_harness.benchmarks.aider import FIELDS, make_problem, make_protocols, write_cheat
from sdb_harness.benchmarks.aider_messages import make_leaderboard
from sdb_harness.benchmarks.choices import check_options, choose_names
from sdb_harness.benchmarks.conversions import ExerciseTree
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_sandboxes.types import ResourceLimits

_COMMIT = "7e0611e77b54e2dea774cdc0aa00cf9f7ed6144f"


def _describe(language: str, sha256: str, name_in_revision: str) -> DataFile:
    url = "https://github.com/Aider-AI/polyglot-benchmark"
    folder = f"{language}/exercises/practice"
    origin = ExerciseTree(f"aider_polyglot:language={language}", url, _COMMIT, folder)
    return DataFile(f"aider_polyglot/{language}.jsonl", sha256, origin, FIELDS, name_in_revision)


FILES: dict[str, DataFile] = {
    language: _describe(language, *hashes)
    for language, hashes in {
        "cpp": (
            "155046459d6907ae6e8d3e887421feb40051038561f504c2f4e3125a1f008e19",
            "7ff3fd7c7b4bff2fe1b3a502967279d252a127e1b93af5e068594f1870086ce2",
        ),
        "go": (
            "a581da4d79097660d949ab8baff00decfff2f45570908a6de02422cb96af7616",
            "3cd77ad34ae16ccf7e666cd7c6fbae90e6a1b97991533b55a039e1cb8769ceb1",
        ),
        "java": (
            "2dd9c9e44589c149080289f3a79a9f3053600bef559c970f9709878fb264a8e9",
            "02588fbb8336ae9f77df76a39d1d4b54a871602c1ee215bfd8e0aaf8b76af85c",
        ),
        "javascript": (
            "fd451d04b82575860208e7c2bb55c0904c23fa8bf73617741e93ac6226760ddf",
            "4f570bd09a5bb97528148a8644398ef29d889724e749ef55372eeb539f08c0f3",
        ),
        "python": (
            "d0664a79171b9f1bd4ac6312fdc8141a80c69128be669b8509f2742fd45d5c55",
            "f4f72fbd696f2734a8c9a7585d52a2dc3a11af11fda07597294800c80943ac60",
        ),
        "rust": (
            "db24cfff88233906799a20990920ec62383b18951bf51850dd1d26106d8b3556",
            "855400fc3c4168c2336c302fb845b3ec33385cbc15b269b19860dc7aff4e2bfa",
        ),
    }.items()
}
LIMITS = ResourceLimits(cpu_s=180.0, wall_s=540.0)
"""Aider's 180 seconds for all tests of an exercise, but of CPU time."""

REFACTORING = "a refactoring task: its starter passes already"
FAULTS = {
    "go/dnd-character": "its reference imports slices, which Go has since 1.21; other solutions "
    "are judged",
    "go/ledger": REFACTORING,
    "go/markdown": REFACTORING,
    "java/ledger": REFACTORING,
    "java/tree-building": REFACTORING,
    "javascript/ledger": REFACTORING,
    "javascript/parallel-letter-frequency": "its reference starts 50 workers at once, and the "
    "sandbox refuses some (ERR_WORKER_INIT_FAILED)",
    **{
        f"rust/{name}": f"its reference uses the crate {crate}; other solutions are judged"
        for name, crate in {
            "alphametics": "itertools",
            "decimal": "num-bigint",
            "pig-latin": "regex",
            "poker": "counter",
            "robot-name": "rand",
        }.items()
    },
}
"""Exercise -> why a reference does not pass here, or a starter does."""

CLOSING = """
####

Use the above instructions to modify the supplied files: {files}
Don't change the names of existing functions or classes, as they may be referenced from other code \
like unit tests, etc.
Only use standard libraries, don't suggest installing any packages.
"""
FAILURE = """
####

See the testing errors above.
The tests are correct, don't try and change them.
Fix the code in {files} to resolve the errors.
"""


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the exercises of the chosen languages.

    Args:
        options: `language`, see the module's docstring.

    Raises:
        UserError: an unknown option or language, or a file that is missing or damaged.
    """
    check_options("aider_polyglot", options, ("language",))
    languages = choose_names("aider_polyglot", options, "language", FILES)
    hashes = " ".join(f"{language}={FILES[language].revision}" for language in languages)
    return Benchmark(
        name="aider_polyglot",
        revision=hashlib.sha256(hashes.encode()).hexdigest(),
        problems=tuple(
            make_problem(row, language, CLOSING)
            for language in languages
            for row in read_rows(FILES[language])
        ),
        protocols={
            **make_protocols(FAILURE, max_lines=None),
            **make_leaderboard(FAILURE, None),
        },
        licence="MIT (Exercism)",
        citation="Aider's polyglot leaderboard (aider.chat/docs/leaderboards); exercises by "
        "Exercism",
        limits=LIMITS,
        version=f"polyglot-benchmark {_COMMIT[:8]}",
        split="+".join(languages),
        is_multilingual=True,
        write_cheat=write_cheat,
        faults={key: why for key, why in FAULTS.items() if key.partition("/")[0] in languages},
    )
