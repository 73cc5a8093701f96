"""Aider's code editing benchmark (until 2024-12): 133 Python exercises, two tries.

Place in the flow: `load` -> `Benchmark`; what it shares with its successor stands in `aider.py`.
Source: Exercism's Python track at the commit that has the 133 exercises of aider's leaderboard
(aider itself pinned none). The Seed reports give pass_rate_2 in the format `whole`: the share of
exercises that pass after at most two tries.
"""

from collections.abc import Mapping

from sdb_harness.benchmarks import Benchmark
from sdb_harness.benchmarks.aider import FIELDS, make_problem, make_protocols, write_cheat
from sdb_harness.benchmarks.aider_messages import LeaderboardProtocol, make_leaderboard, paraphrase
from sdb_harness.benchmarks.choices import check_options
from sdb_harness.benchmarks.conversions import ExerciseTree
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_sandboxes.types import ResourceLimits

_COMMIT = "7aef5e9a8940a624f3cd4d604e99955d610058bf"
DATA = DataFile(
    path="aider_edit_python133/python133.jsonl",
    sha256="f6db19c6c36537b25c98fd8b6f4c463915899769207a1ea6d40e6a648c6ec4c2",
    origin=ExerciseTree(
        "aider_edit", "https://github.com/exercism/python", _COMMIT, "exercises/practice"
    ),
    fields=FIELDS,
    name_in_revision="477c6ed951b5b5539a74fd1cab09881aa10b7445d85d0aff310a5559a3d22b1d",
)
LIMITS = ResourceLimits(cpu_s=60.0, wall_s=180.0)
"""Aider's 60 seconds for all tests of an exercise, but of CPU time."""

CLOSING = """
####

Use the above instructions to modify the supplied files: {files}
Don't change the names of existing functions or classes, as they may be referenced from other code \
like unit tests, etc.
Only use standard python libraries, don't suggest installing any packages.
"""
FAILURE = """
####

See the testing errors above.
The tests are correct.
Fix the code in {files} to resolve the errors.
"""

_SEED = "The Seed reports, whose score is pass_rate_2; unknown is the release of aider: "
REPORTED = {
    **make_leaderboard(FAILURE, 50),
    "seed": LeaderboardProtocol("whole", FAILURE, 50, _SEED, version=4),
    "seed/2": paraphrase("whole", FAILURE, 50, 2),
    "seed/3": paraphrase("whole", FAILURE, 50, 3),
}


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the 133 exercises.

    Args:
        options: Must be empty; the edit format is the protocol.

    Raises:
        UserError: an option is given, or the data is missing, damaged or not the published one.
    """
    check_options("aider_edit", options, ())
    return Benchmark(
        name="aider_edit",
        revision=DATA.revision,
        problems=tuple(make_problem(row, "python", CLOSING) for row in read_rows(DATA)),
        protocols=make_protocols(FAILURE, max_lines=50) | REPORTED,
        licence="MIT (Exercism)",
        citation="Aider's code editing leaderboard (aider.chat/docs/leaderboards/edit.html); "
        "exercises by Exercism",
        limits=LIMITS,
        version=f"exercism/python {_COMMIT[:8]}",
        split="133 Python",
        write_cheat=write_cheat,
        faults={
            "python/ledger": "a refactoring task: its starter passes already",
            "python/markdown": "a refactoring task: its starter passes already",
        },
    )
