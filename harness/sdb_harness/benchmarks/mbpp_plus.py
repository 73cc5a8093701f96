"""MBPP+: short programs from one sentence, under some hundred inputs each.

Place in the flow: `load` -> `Benchmark`; `mbpp` takes its sets `plus-399` and `plus-378` from here,
judged on base inputs only. Source: Liu et al. 2023 (arXiv 2305.01210), the files of
evalplus/mbppplus_release, pinned by their SHA-256. Option `version`: `v0.2.0` (378 problems, the
default, EvalPlus's leaderboard since April 2024) or `v0.1.0` (399, behind the numbers of
Qwen2.5-Coder, Seed-Coder and Stable-DiffCoder). The two are not comparable: by EvalPlus's own
account the smaller set scores about 4 points higher.

Option `tests`: `plus` (the default: base and plus inputs), or `listed` (v0.2.0 only): the first
three assertions of EvalPlus's data set on the hub, which are all that lm-evaluation-harness's
`mbpp_plus` judges by. Its score is not EvalPlus's, whatever the name says.

The inputs are JSON, which has no tuples, sets or complex numbers; they are restored per task. The
outputs are the reference's, which runs in the sandbox and whose answers are kept.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from sdb_harness.benchmarks import Benchmark, evalplus, read_options
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_harness.benchmarks.mbpp_shots import write_shots, write_task
from sdb_harness.benchmarks.protocols import (
    SCRIPT,
    Preset,
    ask_as_is,
    continue_prompt,
    keep_all,
    run_script_alone,
)
from sdb_harness.errors import UserError
from sdb_harness.extract import cut_at_stops
from sdb_harness.records import Problem
from sdb_sandboxes.verifiers.conversion import build_assertion_check
from sdb_sandboxes.verifiers.evalplus import build_evalplus_check, restore_mbpp_inputs

_URL = "https://github.com/evalplus/mbppplus_release/releases/download/"
VERSIONS: dict[str, DataFile] = {
    "v0.2.0": DataFile(
        "evalplus/MbppPlus.jsonl",
        "b54e762755248ca411b523c917fa9f93c07b5ff2966bf60b3917b853926a3dad",
        f"{_URL}v0.2.0/MbppPlus.jsonl.gz",
    ),
    "v0.1.0": DataFile(
        "evalplus/MbppPlus-v0.1.0.jsonl",
        "a855b9de667baea8e2f8aa61f898767a7336872208a85222b35622545e819fe9",
        f"{_URL}v0.1.0/MbppPlus.jsonl.gz",
    ),
}
LISTED = DataFile(
    "evalplus/MbppPlus-OriginFmt.jsonl",
    "132d01c96df6b4b0fe0cbb8414092fe62c51b873b160d1ec8fc2ded28484865a",
    f"{_URL}v0.2.0/MbppPlus-OriginFmt.jsonl.gz",
)
"""The rows of evalplus/mbppplus on the hub: MBPP's sentence and assertions for each of the 378."""
NUM_LISTED = 3
"""Assertions of a task that lm-eval shows and judges by; some tasks have more."""

LEFT_OUT = {"Mbpp/255": {88, 89, 93, 99, 103}}
"""Inputs by their place among all of a task. The answers to these are lists of up to 1.7 million
tuples of 77 texts each, up to a gigabyte, which no process can hand to another as data."""
NOTES = {
    "Mbpp/255": "5 of its 112 inputs are left out: their answers take up to a gigabyte; the other "
    "inputs are judged"
}
TESTS = ("plus", "listed")


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the problems with base and plus inputs.

    Args:
        options: `version` and `tests`, see the module's docstring.

    Raises:
        UserError: an unknown option or value, or data that is missing or another version.
    """
    chosen = read_options("mbpp_plus", options, {"version": tuple(VERSIONS), "tests": TESTS})
    if chosen["tests"] == "listed" and chosen["version"] != "v0.2.0":
        raise UserError(
            f"mbpp_plus tests=listed: the hub lists no assertions of {chosen['version']}; drop "
            "version"
        )
    whole = load_version(chosen["version"], has_plus=True)
    if chosen["tests"] == "plus":
        return whole
    return replace(
        whole,
        revision=f"{LISTED.sha256}-listed",
        problems=tuple(map(judge_by_list, whole.problems)),
        split="listed",
        notes={
            problem_id: "lm-eval fails a program that does not import what these assertions use; "
            "here it need not"
            for problem_id in read_listed()
            if list_imports(problem_id)
        },
    )


def judge_by_list(problem: Problem) -> Problem:
    """The problem, judged by the assertions that lm-eval runs."""
    tests = read_listed()[problem.problem_id]["test_list"][:NUM_LISTED]
    imports = "\n".join(list_imports(problem.problem_id))
    return replace(problem, check=build_assertion_check(tests, problem.entry_point, imports))


def list_imports(problem_id: str) -> list[str]:
    """What the assertions of a problem need: as the hub says, but for one that it forgot."""
    if problem_id == "Mbpp/596":
        return ["import sys"]
    return list(read_listed()[problem_id]["test_imports"])


@cache
def read_listed() -> dict[str, dict[str, Any]]:
    """The hub's rows by problem id. Raises UserError if they are missing or another version."""
    return {f"Mbpp/{row['task_id']}": row for row in read_rows(LISTED)}


def load_version(version: str, *, has_plus: bool) -> Benchmark:
    """Read one version, with base and plus inputs or with base inputs only."""
    tests = "plus" if has_plus else "base"
    file = VERSIONS[version]
    return Benchmark(
        name="mbpp_plus",
        revision=f"{file.sha256}-{tests}",
        problems=tuple(make_problem(task, has_plus=has_plus) for task in read_rows(file)),
        protocols=PROTOCOLS if version == "v0.2.0" else PROTOCOLS_OF_FIRST,
        licence="Apache-2.0",
        citation=evalplus.CITATION,
        limits=evalplus.LIMITS,
        version=version,
        split=tests,
        notes=NOTES if has_plus else {},
    )


def make_problem(task: Mapping[str, Any], *, has_plus: bool) -> Problem:
    """Turn one task into a problem; its base inputs come first."""
    prompt, entry_point = task["prompt"], task["entry_point"]
    number = int(task["task_id"].partition("/")[2])
    inputs = restore_mbpp_inputs(number, task["base_input"])
    if has_plus:
        inputs += restore_mbpp_inputs(number, task["plus_input"])
    left_out = LEFT_OUT.get(task["task_id"], set())
    inputs = [call for place, call in enumerate(inputs) if place not in left_out]
    reference = prompt + task["canonical_solution"]
    return Problem(
        problem_id=task["task_id"],
        prompt=prompt,
        reference=task["canonical_solution"],
        entry_point=entry_point,
        check=build_evalplus_check("mbpp", entry_point, reference, inputs, task["atol"]),
    )


def ask_lm_eval(problem: Problem) -> str:
    """MBPP's three solved tasks, then this one in MBPP's words, with three assertions."""
    row = read_listed()[problem.problem_id]
    return write_shots() + write_task(row["prompt"], row["test_list"][:NUM_LISTED])


def ask_bigcode(problem: Problem) -> str:
    """A docstring of the hub's sentence and its first assertion."""
    row = read_listed()[problem.problem_id]
    return f'"""\n{row["prompt"]}\n{row["test_list"][0]}\n"""\n'


BIGCODE_STOP = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")
_STEPS: Mapping[str, Preset] = evalplus.make_presets(evalplus.MBPP_STOP)
PROTOCOLS: Mapping[str, Preset] = {
    **_STEPS,
    "as-is": Preset(
        source="The completion is executed as it stands behind the prompt. For replayed files.",
        ask=ask_as_is,
        stop=(),
        find_code=keep_all,
        assemble=continue_prompt,
    ),
    "script": SCRIPT,
    "bigcode": Preset(
        source="bigcode-evaluation-harness `mbppplus`, whose docstring holds the hub's sentence "
        "(EvalPlus's prompts leave out its links); temperature 0.1, 15 samples. The docstring is "
        "left out of the program.",
        ask=ask_bigcode,
        stop=BIGCODE_STOP,
        find_code=cut_at_stops,
        assemble=run_script_alone,
        version=2,
    ),
    "lm-eval": Preset(
        source="lm-evaluation-harness `mbpp_plus`, greedy, 256 new tokens (its default). It judges "
        "by the assertions of the prompt alone, as `tests=listed` does, and never by plus inputs.",
        ask=ask_lm_eval,
        stop=("[DONE]",),
        find_code=cut_at_stops,
        assemble=run_script_alone,
    ),
    **evalplus.name_presets(_STEPS),
}
PROTOCOLS_OF_FIRST = {
    name: preset for name, preset in PROTOCOLS.items() if name not in ("bigcode", "lm-eval")
}
"""Those of v0.1.0, of which the hub has no rows."""
