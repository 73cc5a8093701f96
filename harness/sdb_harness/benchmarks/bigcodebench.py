"""BigCodeBench: functions that use many libraries, judged by unittest cases.

Place in the flow: `load` -> `Benchmark`. Source: Zhuo et al. 2024 (arXiv 2406.15877), the data of
bigcode-project, pinned by the SHA-256 of what is used of them. Options: `prompt=complete` (a
docstring to continue, the default; what the Seed reports use) or `instruct` (words; chat models
only); `subset=full` (1,140, the default) or `hard` (148); `version=v0.1.4` (the default, which its
package 0.2.5 asks for; its hash is of v0.1.0_hf with the published corrections) or `v0.1.0_hf`
(Qwen's suite).

A problem names the modules that its solution and tests import, and one whose modules the sandbox
lacks is not judged and counted apart. `--sandbox docker:py-bigcode` has all but 6 problems' (those
with tensorflow, keras, wikipedia or wordninja), in the versions of upstream's evaluation, and has
nltk's data punkt and stopwords. What differs: Python 3.11 (Debian's), not 3.10, and so numpy 1.23
instead of 1.21, scipy 1.9 instead of 1.7, scikit-image 0.20 instead of 0.18; packages for which
upstream names no version are today's. `FAULTS` says why references fail.

What it does not do: there is no network, which a few tests want, and there are other programs and
/tmp in that image only.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sdb_harness.benchmarks import Benchmark, ChatMessage, evalplus, read_options
from sdb_harness.benchmarks.canitedit import list_modules
from sdb_harness.benchmarks.conversions import HubRows
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_harness.benchmarks.protocols import SCRIPT, Preset, keep_all, spread_wordings
from sdb_harness.records import Problem
from sdb_harness.sanitise import sanitise_for_bigcodebench
from sdb_sandboxes.types import ResourceLimits
from sdb_sandboxes.verifiers.test_sources import build_suite_check, build_unittest_check

_ANNOTATION = "https://github.com/bigcode-project/bigcodebench-annotation"
VERSIONS: dict[str, DataFile] = {
    "v0.1.4": DataFile(
        "bigcodebench/BigCodeBench-v0.1.4-derived.jsonl",
        "98dde37bd94ee64fdbf7ab993bd90ce3a8a9d3250da26609801336112016d3cb",
        HubRows(
            "bigcodebench",
            "bigcode/bigcodebench",
            "v0.1.4",
            "b74c0d0bf70d2c0bc459be537895cca163007f1a",
        ),
        fields=(
            *("task_id", "complete_prompt", "instruct_prompt", "canonical_solution"),
            *("code_prompt", "test", "entry_point"),
        ),
        name_in_revision="f6704a124f4edcec9d12cc7912f41f3d4207f51b87f091d136e3436f7e25149f",
    ),
    "v0.1.0_hf": DataFile(
        "bigcodebench/BigCodeBench-v0.1.0_hf.jsonl",
        "33baf4f414eb34507f1a8fd55ef9bcd79c1f9b4c3e8e2544f023edac1b20afec",
        f"{_ANNOTATION}/raw/v0.1.0_hf/hf_data/BigCodeBench.jsonl.gz",
    ),
}
HARD_IDS = DataFile(
    "bigcodebench/hard_ids.json",
    "50ccd9bb88862041e961a8087a808abbbc971b0ea8f8f035b96128ee0bb599d2",
    HubRows(
        "bigcodebench:subset=hard",
        "bigcode/bigcodebench-hard",
        "v0.1.4",
        "298d2cc7b96612e15e47313c3603ee124cee0c1f",
        column="task_id",
    ),
)
OPTIONS = {
    "prompt": ("complete", "instruct"),
    "subset": ("full", "hard"),
    "version": tuple(VERSIONS),
}

LIMITS = ResourceLimits(
    cpu_s=60.0,
    wall_s=240.0,
    memory_bytes=4 << 30,
    file_bytes=64 << 20,
    num_processes=64,
    allow_programs=True,
)
"""Upstream: 240 seconds of wall time and 30 GB. Most references need two seconds, for imports."""

_NETWORK = "needs a network, which no sandbox gives"
_PROGRAMS = "starts other programs, which only a container lets Python do"
_SHARED = "multiprocessing's locks want shared memory, which no sandbox has"
FAULTS = {
    f"BigCodeBench/{number}": why
    for number, why in {
        15: _PROGRAMS,
        101: _NETWORK,
        111: "what its test reads of a heatmap is masked with the image's packages",
        147: _NETWORK,
        276: "scipy 1.9: the skewness of equal values is not a number, where upstream's gives 0",
        346: _PROGRAMS,
        590: _NETWORK,
        726: "needs the data words, which nltk downloads",
        734: "needs the data averaged_perceptron_tagger, which nltk downloads",
        785: f"{_PROGRAMS}; and writes into /tmp",
        1012: _NETWORK,
        **dict.fromkeys((14, 16, 18, 350, 459, 562, 604, 1028, 1101, 1103, 1104), _PROGRAMS),
        **dict.fromkeys((176, 314, 1005, 1038), _NETWORK),
        **dict.fromkeys((205, 363), _SHARED),
        30: "writes into /tmp, which only the image py-bigcode has",
        541: "its tests want numpy to be installed",
        775: "a changed expectation can have no effect: a right program may count as forged",
        1040: _NETWORK,
    }.items()
}
"""References that fail. Those that start programs or write into /tmp, and 541, pass in the image
`py-bigcode`. No program could pass most of the others, so all scores are lower by these."""
ONE_INTERPRETER = frozenset(
    f"BigCodeBench/{number}"
    for number in (
        *(8, 202, 433, 566, 569, 570, 595, 791, 795, 833, 858, 862, 893, 896, 1090),
        1131,
    )
)
"""Whose tests run beside the program (L1): they look at more of an answer than its data, as its
exact type or the function's signature."""


def load(options: Mapping[str, str]) -> Benchmark:
    """Read one version, whole or its hard part.

    Args:
        options: `prompt`, `subset`, `version`, see the module's docstring.

    Raises:
        UserError: an unknown option or value, or data that is missing or another version.
    """
    chosen = read_options("bigcodebench", options, OPTIONS)
    file = VERSIONS[chosen["version"]]
    rows = read_rows(file)
    if chosen["subset"] == "hard":
        wanted = set(map(str, read_rows(HARD_IDS)))
        rows = [row for row in rows if row["task_id"] in wanted]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in the data
        problems = tuple(map(make_problem, rows))
    ids = {problem.problem_id for problem in problems}
    return Benchmark(
        name="bigcodebench",
        revision=f"{file.revision}-{chosen['prompt']}-{chosen['subset']}",
        problems=problems,
        protocols=COMPLETE if chosen["prompt"] == "complete" else INSTRUCT,
        licence="Apache-2.0",
        citation="Zhuo et al., BigCodeBench, arXiv 2406.15877",
        limits=LIMITS,
        version=chosen["version"],
        split=f"{chosen['prompt']} {chosen['subset']}",
        faults={key: why for key, why in FAULTS.items() if key in ids},
    )


def make_problem(row: Mapping[str, Any]) -> Problem:
    """Turn one row into a problem; `starter` is the source without its docstring."""
    prompt, reference = row["complete_prompt"], row["canonical_solution"]
    program = prompt + reference
    is_beside = row["task_id"] in ONE_INTERPRETER
    return Problem(
        problem_id=row["task_id"],
        prompt=prompt,
        reference=reference,
        entry_point=row["entry_point"],
        check=build_suite_check(row["test"])
        if is_beside
        else build_unittest_check(row["test"], program),
        statement=row["instruct_prompt"],
        starter=row["code_prompt"],
        modules=tuple(sorted(list_modules(f"{program}\n{row['test']}"))),
    )


# Prompts.


def ask_complete(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn with the source to complete: the first one of `evalplus.ask_prefilled`."""
    return evalplus.ask_prefilled(problem)[:1]


def ask_instruct(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn with the task in words."""
    return (ChatMessage("user", f"{evalplus.REQUEST}\n{problem.statement.strip()}\n"),)


def ask_instruct_prefilled(problem: Problem) -> tuple[ChatMessage, ...]:
    """The same, and the opening of the answer."""
    return (*ask_instruct(problem), ChatMessage("assistant", evalplus.OPENING))


def ask_instruct_briefly(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the words alone, and where the answer goes."""
    text = f"{problem.statement.strip()}\n\nReply with one Markdown code block and nothing else."
    return (ChatMessage("user", text),)


def ask_instruct_as_task(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: a form with headings."""
    text = (
        f"# Task\n{problem.statement.strip()}\n\n# Answer\nA complete Python program, in a "
        "```python block."
    )
    return (ChatMessage("user", text),)


# Assembly.


def calibrate(problem: Problem, code: str) -> str:
    """Upstream's calibration: the task's imports in front, so that a forgotten one does not count.

    The function's signature comes with them, with `pass` for a body; the answer defines it again.
    """
    return f"{problem.starter}\n    pass\n{code}"


def calibrate_completion(problem: Problem, code: str) -> str:
    """Sanitised prompt and completion, calibrated."""
    return calibrate_answer(problem, evalplus.ask_base(problem) + code)


def calibrate_answer(problem: Problem, code: str) -> str:
    """Sanitised answer, calibrated."""
    return calibrate(problem, sanitise_for_bigcodebench(code, problem.entry_point))


_BASE = Preset(
    source="bigcodebench 0.2.5, direct completion, calibrated; greedy, 1280 new tokens.",
    ask=evalplus.ask_base,
    stop=(*evalplus.STOP, *evalplus.HUMANEVAL_STOP),
    find_code=evalplus.cut_with_spaces,
    assemble=calibrate_completion,
    version=2,
)
_CHAT = Preset(
    source="bigcodebench 0.2.5 through an API (no prefilled answer), calibrated; greedy, 1280 new "
    "tokens.",
    ask=ask_complete,
    stop=(),
    find_code=keep_all,
    assemble=calibrate_answer,
    version=2,
)
_PREFILLED = replace(
    _CHAT,
    source="bigcodebench 0.2.5, chat with a local model, the answer prefilled, calibrated; greedy, "
    "1280 new tokens. What its leaderboard shows.",
    ask=evalplus.ask_prefilled,
    stop=(*evalplus.STOP, "\n```\n"),
    find_code=evalplus.cut_with_spaces,
)
_SCRIPT = replace(
    SCRIPT,
    source="bigcodebench 0.2.5's evaluate: whole programs of a sample file, calibrated as it does "
    "by default. For replayed files.",
    assemble=calibrate,
)
_PAPER = (
    "Zhuo et al.: the steps of `chat-prefilled` for chat models, of `base` for others; greedy, one "
    "sample, calibrated, on `version=v0.1.0_hf`. Unknown, and chosen here: the answer is prefilled."
)
_SEED = replace(
    _CHAT,
    source="The Seed reports: the complete prompt, greedy, one sample. Unknown, and chosen here: "
    "no prefilled answer, calibrated, data v0.1.4.",
)
_SEED_INSTRUCT = replace(
    _SEED,
    source="The Seed reports use the complete prompt; an erratum of Seed-Coder's says that an "
    "earlier table had mixed it with this one. Asked in the same way, for rows of that kind.",
    ask=ask_instruct,
)
COMPLETE: Mapping[str, Preset] = {
    "base": _BASE,
    **spread_wordings("chat", _CHAT, evalplus.ask_chat_briefly, evalplus.ask_chat_after),
    "chat-prefilled": _PREFILLED,
    "paper": replace(_PREFILLED, source=_PAPER),
    **spread_wordings("seed", _SEED, evalplus.ask_chat_briefly, evalplus.ask_chat_after),
    "script": _SCRIPT,
}
INSTRUCT: Mapping[str, Preset] = {
    **spread_wordings(
        "chat", replace(_CHAT, ask=ask_instruct), ask_instruct_briefly, ask_instruct_as_task
    ),
    "chat-prefilled": replace(_PREFILLED, ask=ask_instruct_prefilled),
    "paper": replace(_PREFILLED, ask=ask_instruct_prefilled, source=_PAPER),
    **spread_wordings("seed", _SEED_INSTRUCT, ask_instruct_briefly, ask_instruct_as_task),
    "script": _SCRIPT,
}
