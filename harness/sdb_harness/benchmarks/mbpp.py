"""MBPP: short programs from one sentence, in the four sets that go by this name.

Place in the flow: `load` -> `Benchmark`. Source: Austin et al. 2021 (arXiv 2108.07732), the files
of google-research and of evalplus/mbppplus_release, pinned by their SHA-256. Option `set`:

- `full-500`: tasks 11 to 510, all three assertions (the paper, lm-eval, bigcode, Llama's reports);
- `sanitized-427`: the tasks that its authors read again;
- `plus-399`: EvalPlus's base inputs on MBPP+ v0.1.0 (Qwen2.5-Coder, Seed-Coder, Stable-DiffCoder,
  and very likely Seed Diffusion);
- `plus-378`: the same on v0.2.0 (EvalPlus's leaderboard).

A score without its set means nothing, so the set stands in the name of every cell. Almost every
assertion is data and is compared outside the sandbox; the two tasks with others are judged in a
test process.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sdb_harness.benchmarks import Benchmark, ChatMessage, read_options
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_harness.benchmarks.mbpp_plus import BIGCODE_STOP, load_version
from sdb_harness.benchmarks.mbpp_shots import FULL, write_shots, write_task
from sdb_harness.benchmarks.protocols import (
    SCRIPT,
    Preset,
    run_script_alone,
    spread_wordings,
    take_first_block,
)
from sdb_harness.extract import cut_at_stops
from sdb_harness.records import Problem
from sdb_sandboxes.types import ResourceLimits
from sdb_sandboxes.verifiers.conversion import build_assertion_check

SANITIZED = DataFile(
    "mbpp/sanitized-mbpp.json",
    "ca95deaa9a01ef0a6f439f88bcf0dd3db3563d22f22aad6cae04ebb9a8d8c8e9",
    "https://github.com/google-research/google-research/raw/master/mbpp/sanitized-mbpp.json",
)
SETS = ("full-500", "sanitized-427", "plus-399", "plus-378")
PLUS_VERSIONS = {"plus-399": "v0.1.0", "plus-378": "v0.2.0"}
TEST_TASKS = range(11, 511)
LIMITS = ResourceLimits(cpu_s=10.0, wall_s=60.0, memory_bytes=1 << 30)
"""The reference of task 123 needs 3.4 seconds, more than the 3 that others allow."""
FAULTS = {
    "Mbpp/367": "its set-up builds a tree of a class that only its reference defines and no prompt "
    "names"
}


def load(options: Mapping[str, str]) -> Benchmark:
    """Read one set.

    Args:
        options: `set`, see the module's docstring.

    Raises:
        UserError: an unknown option or set, or data that is missing or another version.
    """
    chosen = read_options("mbpp", options, {"set": SETS})["set"]
    if chosen in PLUS_VERSIONS:
        plus = load_version(PLUS_VERSIONS[chosen], has_plus=False)
        return replace(plus, name="mbpp", split=chosen)
    is_full = chosen == "full-500"
    rows = read_rows(FULL if is_full else SANITIZED)
    return Benchmark(
        name="mbpp",
        revision=(FULL if is_full else SANITIZED).sha256,
        problems=tuple(
            make_problem(row) for row in rows if not is_full or row["task_id"] in TEST_TASKS
        ),
        protocols=PROTOCOLS,
        licence="CC BY 4.0",
        citation="Austin et al., Program Synthesis with Large Language Models, arXiv 2108.07732",
        limits=LIMITS,
        version="google-research, first version" if is_full else "google-research, sanitized",
        split=chosen,
        faults=FAULTS if is_full else {},
    )


def make_problem(row: Mapping[str, Any]) -> Problem:
    """Turn a row of either file into a problem; the task is in words, so there is no source."""
    code = row["code"].replace("\r\n", "\n")
    tests = tuple(row["test_list"])
    # Upstream's tests stand behind the program and use what it imports.
    imports = re.findall(r"^(?:import|from) .*", code, re.MULTILINE)
    setup = [row["test_setup_code"]] if row.get("test_setup_code") else []
    prelude = "\n".join([*imports, *row.get("test_imports", [])])
    entry_point = find_entry_point(code, tests)
    return Problem(
        problem_id=f"Mbpp/{row['task_id']}",
        prompt="",
        reference=code,
        entry_point=entry_point,
        check=build_assertion_check([*setup, *tests], entry_point, prelude),
        statement=row["text"] if "text" in row else row["prompt"],
        examples=tests,
    )


def find_entry_point(code: str, tests: Sequence[str]) -> str:
    """The function of the reference that the tests call: the data do not name it.

    Raises:
        ValueError: the tests call none of them.
    """
    defined = set(re.findall(r"^def (\w+)", code, re.MULTILINE))
    for test in tests:
        if called := [name for name in re.findall(r"(\w+) *\(", test) if name in defined]:
            return str(called[0])
    raise ValueError(f"the tests call none of {sorted(defined)}: {tests}")


# Prompts.


def ask_three_shots(problem: Problem) -> str:
    """Three solved tasks, then this one."""
    return write_shots() + write_task(problem.statement, problem.examples)


def ask_docstring(problem: Problem) -> str:
    """A docstring of the sentence and the first assertion, as InCoder was asked."""
    return f'"""\n{problem.statement}\n{problem.examples[0]}\n"""\n'


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn with the sentence and all assertions, in the paper's words."""
    text = (
        f"You are an expert Python programmer, and here is your task: {problem.statement} Your "
        f"code should pass these tests:\n\n{join_tests(problem)}\n\nAnswer with one Markdown code "
        "block."
    )
    return (ChatMessage("user", text),)


def ask_chat_after(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the sentence first, then what has to hold."""
    text = (
        f"{problem.statement}\n\nThe function has to satisfy:\n```python\n{join_tests(problem)}\n"
        "```\nReply with the complete Python code in a ```python block."
    )
    return (ChatMessage("user", text),)


def ask_chat_listed(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: a form with headings."""
    text = (
        f"Task: {problem.statement}\nTests:\n{join_tests(problem)}\n\nWrite the Python program "
        "that passes these tests, in one code block, without the tests."
    )
    return (ChatMessage("user", text),)


def join_tests(problem: Problem) -> str:
    """The assertions, one a line."""
    return "\n".join(problem.examples)


_PAPER = Preset(
    source="Austin et al.: three solved tasks in front. Temperature 0.5 with 80 samples there; "
    "greedy, 256 tokens, in later reports.",
    ask=ask_three_shots,
    stop=("[DONE]",),
    find_code=cut_at_stops,
    assemble=run_script_alone,
)
_CHAT = Preset(
    source="The paper's sentence as one user turn, without solved tasks.",
    ask=ask_chat,
    stop=(),
    find_code=take_first_block,
    assemble=run_script_alone,
)
PROTOCOLS: Mapping[str, Preset] = {
    "paper": _PAPER,
    "lm-eval": replace(
        _PAPER,
        source="lm-evaluation-harness `mbpp`: the steps of `paper` on full-500, "
        "greedy, 256 new tokens (its default).",
    ),
    "bigcode": Preset(
        source="bigcode-evaluation-harness `mbpp`, after InCoder; temperature 0.1, 15 samples, "
        "at most 2048 tokens with the prompt. The docstring is left out of the program.",
        ask=ask_docstring,
        stop=BIGCODE_STOP,
        find_code=cut_at_stops,
        assemble=run_script_alone,
    ),
    "script": SCRIPT,
    **spread_wordings("chat", _CHAT, ask_chat_after, ask_chat_listed),
}
