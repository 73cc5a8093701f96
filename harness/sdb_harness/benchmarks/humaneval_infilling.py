"""HumanEval infilling: the middle of a function, between the code before and the code behind.

Place in the flow: `load` -> `Benchmark`. Source: Bavarian et al. 2022 (arXiv 2207.14255), the data
of openai/human-eval-infilling, each part pinned by its SHA-256. Option `part`: `single-line`
(1,033, the default), `multi-line` (5,815), `random-span` (1,640), `random-span-light` (164).

The prompt is a `Gap`, prefix and suffix apart. A masked diffusion model fills it as it stands; a
server gets it as `prompt` and `suffix` of the completions interface and adds its own tokens, or,
with `fim=NAME`, as one prompt that holds them.

What it does not do: no fill-in-the-middle tokens are written here, for they belong to one model's
tokenizer (`generators/fim.py`).
"""

from collections.abc import Mapping
from typing import Any

from sdb_harness.benchmarks import Benchmark, Gap
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_harness.benchmarks.humaneval import LIMITS
from sdb_harness.benchmarks.jsonl import find_header
from sdb_harness.benchmarks.protocols import Preset, keep_all
from sdb_harness.errors import UserError
from sdb_harness.extract import Extract, cut_at_stops
from sdb_harness.records import Problem
from sdb_sandboxes.types import AssertionCheck
from sdb_sandboxes.verifiers.conversion import convert_assertions

_COMMIT = "88062ff9859c875d04db115b698ed4b0f0395170"
_URL = f"https://github.com/openai/human-eval-infilling/raw/{_COMMIT}/data/"


def _describe(name: str, sha256: str) -> DataFile:
    return DataFile(f"humaneval_infilling/{name}.jsonl.gz", sha256, f"{_URL}{name}.jsonl.gz")


PARTS: dict[str, DataFile] = {
    "single-line": _describe(
        "HumanEval-SingleLineInfilling",
        "6fffc71ec2f1674372fcc177511f92312f1a27a9eacd8e43255c9f5ee9eca8c8",
    ),
    "multi-line": _describe(
        "HumanEval-MultiLineInfilling",
        "5b49f312f0a781420a4ae54f5e73176009b9cfc52731e3a0b9be726b451032d1",
    ),
    "random-span": _describe(
        "HumanEval-RandomSpanInfilling",
        "4f15be2d4a479b504072c64e79702df184010f13bdf75f8b67ce08e054c48e26",
    ),
    "random-span-light": _describe(
        "HumanEval-RandomSpanInfillingLight",
        "cbb2b36f90311a3a7d844b6361852bb33e3ab11ab3bca2b7e85bfb9bf78c5891",
    ),
}

FAULTS = {
    f"SingleLineInfilling/HumanEval/{line}": "the function passes its tests without this line"
    for line in (
        *("20/L0", "20/L8", "33/L0", "46/L6", "66/L0", "68/L0", "81/L16", "92/L4", "95/L8"),
        *("95/L18", "96/L6", "99/L3", "105/L6", "105/L7", "109/L3", "111/L7", "118/L5", "124/L1"),
        *("124/L6", "124/L10", "127/L3", "127/L5", "127/L6", "127/L8", "129/L1", "129/L9"),
        "150/L5",
    )
}
"""Problems of `single-line` that an empty answer solves."""


def load(options: Mapping[str, str]) -> Benchmark:
    """Read one part.

    Args:
        options: `part`, see the module's docstring.

    Raises:
        UserError: an unknown option or part, or data that is missing or another version.
    """
    if unknown := sorted(options.keys() - {"part"}):
        raise UserError(f"humaneval_infilling has no option {unknown[0]!r}; use part")
    part = options.get("part", "single-line")
    if part not in PARTS:
        raise UserError(f"humaneval_infilling part={part!r}; use one of {', '.join(PARTS)}")
    return Benchmark(
        name="humaneval_infilling",
        revision=PARTS[part].sha256,
        problems=tuple(make_problem(task) for task in read_rows(PARTS[part])),
        protocols=PROTOCOLS,
        licence="MIT",
        citation="Bavarian et al., Efficient Training of Language Models to Fill in the Middle, "
        "arXiv 2207.14255",
        limits=LIMITS,
        version=f"openai/human-eval-infilling {_COMMIT[:8]}",
        split=part,
        faults=FAULTS if part == "single-line" else {},
    )


def make_problem(task: Mapping[str, Any]) -> Problem:
    """Turn one task into a problem whose program is prefix, middle and suffix."""
    tests, entry_point = task["test"], task["entry_point"]
    return Problem(
        problem_id=task["task_id"],
        prompt=task["prompt"],
        reference=task["canonical_solution"],
        suffix=task["suffix"],
        entry_point=entry_point,
        check=convert_assertions(tests, entry_point)
        or AssertionCheck(entry_point, tests, prelude=find_header(task["prompt"], entry_point)),
    )


def ask_gap(problem: Problem) -> Gap:
    """Prefix and suffix as they stand."""
    return Gap(problem.prompt, problem.suffix)


def ask_suffix_first(problem: Problem) -> str:
    """lm-eval's text, which no model was trained to understand."""
    return f"{problem.suffix}\n\n{problem.prompt}"


def fill_gap(problem: Problem, code: str) -> str:
    """Prefix, the model's middle, suffix."""
    return problem.prompt + code + problem.suffix


def keep_first_line(text: str, stop: tuple[str, ...]) -> Extract:
    """The text up to its first newline: a single line is all that this part asks for."""
    line, newline, _ = text.partition("\n")
    return Extract(line + newline, "first_line") if newline else keep_all(text, stop)


PROTOCOLS: Mapping[str, Preset] = {
    "gap": Preset(
        source="openai/human-eval-infilling: the completion as it stands between prefix and "
        "suffix; 100 samples, temperature 0.2 and top-p 0.95 in the paper.",
        ask=ask_gap,
        stop=(),
        find_code=keep_all,
        assemble=fill_gap,
    ),
    "paper": Preset(
        source="Bavarian et al.: the steps of `gap`; 100 samples, temperature 0.2, top-p 0.95.",
        ask=ask_gap,
        stop=(),
        find_code=keep_all,
        assemble=fill_gap,
    ),
    "lm-eval": Preset(
        source="lm-evaluation-harness `humaneval_multi_line_infilling` and the other parts but "
        "one: the suffix, an empty line and the prefix as text; the tasks name no stop string, so "
        "lm-eval's default, an empty line, ends the answer; greedy, 1024 new tokens.",
        ask=ask_suffix_first,
        stop=("\n\n",),
        find_code=cut_at_stops,
        assemble=fill_gap,
        version=2,
    ),
    "lm-eval-single-line": Preset(
        source="lm-evaluation-harness `humaneval_single_line_infilling`: the same up to the first "
        "newline, which is left out.",
        ask=ask_suffix_first,
        stop=("\n",),
        find_code=cut_at_stops,
        assemble=fill_gap,
    ),
    "gap-first-line": Preset(
        source="The same, cut after the first line, for models that run on into the suffix; for "
        "the single-line part.",
        ask=ask_gap,
        stop=(),
        find_code=keep_first_line,
        assemble=fill_gap,
    ),
}
