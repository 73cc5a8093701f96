"""HumanEval+: HumanEval's functions under some 750 more inputs each.

Place in the flow: `load` -> `Benchmark`. Source: Liu et al. 2023 (arXiv 2305.01210), the files of
evalplus/humanevalplus_release, pinned by their SHA-256. Options: `tests=plus` (the default: base
and plus inputs, all must be right) or `tests=base` (HumanEval's own inputs as EvalPlus compares
them, the first column of its leaderboard); `version=v0.1.10` (the default) or `v0.1.9`.

The data holds inputs and a reference solution, no outputs: those are the reference's, which runs in
the sandbox and whose answers are kept. Upstream's release 0.3.1 fails every solution of
HumanEval/32; here any root of the polynomial will do, as its master has it.
"""

from collections.abc import Mapping
from typing import Any

from sdb_harness.benchmarks import Benchmark, evalplus, humaneval, read_options
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_harness.records import Problem
from sdb_sandboxes.verifiers.evalplus import build_evalplus_check

_URL = "https://github.com/evalplus/humanevalplus_release/releases/download/"
VERSIONS: dict[str, DataFile] = {
    "v0.1.10": DataFile(
        "evalplus/HumanEvalPlus.jsonl",
        "42526ec0e7d5f3ee0b06d6ced98f8c8bae3d76519151bfb3d36f79010645bd7f",
        f"{_URL}v0.1.10/HumanEvalPlus.jsonl.gz",
    ),
    "v0.1.9": DataFile(
        "evalplus/HumanEvalPlus-v0.1.9.jsonl",
        "50d50fda1ecf4c9168d762456ae29c1d8b8b922e68c66964f7891c98d93a04b7",
        f"{_URL}v0.1.9/HumanEvalPlus.jsonl.gz",
    ),
}
TESTS = ("plus", "base")


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the 164 problems.

    Args:
        options: `tests` and `version`, see the module's docstring.

    Raises:
        UserError: an unknown option or value, or data that is missing or another version.
    """
    chosen = read_options("humaneval_plus", options, {"tests": TESTS, "version": tuple(VERSIONS)})
    version, has_plus = chosen["version"], chosen["tests"] == "plus"
    file = VERSIONS[version]
    return Benchmark(
        name="humaneval_plus",
        revision=f"{file.sha256}-{chosen['tests']}",
        problems=tuple(make_problem(task, has_plus=has_plus) for task in read_rows(file)),
        protocols=humaneval.PROTOCOLS,
        licence="Apache-2.0",
        citation=evalplus.CITATION,
        limits=evalplus.LIMITS,
        version=version,
        split=chosen["tests"],
        notes={
            "HumanEval/32": "evalplus 0.3.1 fails every solution of it; judged rightly here, so a "
            "score can be 1/164 above that release's"
        },
    )


def make_problem(task: Mapping[str, Any], *, has_plus: bool) -> Problem:
    """Turn one task into a problem; its base inputs come first."""
    prompt, entry_point = task["prompt"], task["entry_point"]
    inputs = [*task["base_input"], *((task["plus_input"] or []) if has_plus else [])]
    reference = prompt + task["canonical_solution"]
    return Problem(
        problem_id=task["task_id"],
        prompt=prompt,
        reference=task["canonical_solution"],
        entry_point=entry_point,
        check=build_evalplus_check("humaneval", entry_point, reference, inputs, task["atol"]),
    )
