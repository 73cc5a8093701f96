"""CanItEdit: programs to change after an instruction.

Place in the flow: `load` -> `Benchmark`. Source: Cassano et al. 2024 (arXiv 2312.12450), the data
of nuprl/CanItEdit, pinned by the SHA-256 of what is used of them. Each of the 105 problems has two
instructions; option `instruction`: `descriptive` (the default), `lazy`, or `both` (210 problems
with the instruction as their group; the Seed reports pool them so, with one greedy sample each).

A problem is judged by its authors' script behind the program, which upstream runs for 15 seconds
and believes if it exits with 0. Here the script uses the program's objects from a process of its
own (L2b) wherever it can, and a control with a wrong expected value has to fail. `excess_code.py`
measures ExcessCode. Its licence forbids training on these data.

What it does not do: the paper's one-shot chat prompt.
"""

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sdb_harness.benchmarks import Benchmark, ChatMessage, read_options
from sdb_harness.benchmarks.conversions import HubRows
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_harness.benchmarks.protocols import Preset, run_script_alone, spread_wordings
from sdb_harness.extract import Extract, cut_at_stops
from sdb_harness.records import Problem
from sdb_sandboxes.types import ResourceLimits, SuiteCheck
from sdb_sandboxes.verifiers.test_sources import build_script_check

_REVISION = "3c07f38b1f9385f3214fcea94d4664c79df0d36a"
DATA = DataFile(
    "canitedit/CanItEdit.jsonl",
    "a158107a82330d5eda8584f9383e8135f03c0392556b4834a41e4960e6da9772",
    HubRows("canitedit", "nuprl/CanItEdit", "test", _REVISION),
    fields=(
        *("id", "full_name", "before", "after", "tests"),
        *("instruction_descriptive", "instruction_lazy"),
    ),
    name_in_revision="7c4c3519eddb34dd914adabd5b0c6bdb816fa97289ace3c7948134a3558d2bfc",
)

LIMITS = ResourceLimits(cpu_s=30.0, wall_s=120.0, memory_bytes=4 << 30)
"""Twice upstream's 15 seconds, in CPU time: importing torch alone takes some."""

NOTES = {
    "47_merge_sort": "its test compares run times and can fail on a busy machine",
    "60_unique_number": "its test compares run times and can fail on a busy machine",
}
ONE_INTERPRETER = {
    "47_merge_sort",  # measures time, which calls between processes would spoil
    "60_unique_number",
    "51_managers_manager",  # compares the program's objects as only they can
    "55_bm25",
    "86_pyast",  # subclasses the standard library's
}
"""Whose tests run beside the program (L1): they look at more than its answers."""

INSTRUCTIONS = ("descriptive", "lazy", "both")


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the problems with one or both of their instructions.

    Args:
        options: `instruction`, see the module's docstring.

    Raises:
        UserError: an unknown option or value, or data that is missing or another version.
    """
    chosen = read_options("canitedit", options, {"instruction": INSTRUCTIONS})["instruction"]
    kinds = ("descriptive", "lazy") if chosen == "both" else (chosen,)
    problems = [make_problem(row, kinds) for row in read_rows(DATA)]
    return Benchmark(
        name="canitedit",
        revision=DATA.revision,
        problems=tuple(problem for of_row in problems for problem in of_row),
        protocols=PROTOCOLS,
        licence="BSD-3-Clause with a clause against training on it",
        citation="Cassano et al., Can It Edit?, arXiv 2312.12450",
        limits=LIMITS,
        version=f"nuprl/CanItEdit {_REVISION[:8]}",
        split=chosen,
        notes={key: note for name, note in NOTES.items() for key in name_ids(name, kinds)},
        write_cheat=write_cheat,
    )


def name_ids(name: str, kinds: tuple[str, ...]) -> list[str]:
    """The ids of a problem: its name, with the instruction where both are asked."""
    return [name] if len(kinds) == 1 else [f"{name}/{kind}" for kind in kinds]


def make_problem(row: Mapping[str, Any], kinds: tuple[str, ...]) -> list[Problem]:
    """Turn one row into a problem for each instruction."""
    reference = row["after"]
    tests = flatten(row["tests"])
    first = Problem(
        problem_id="",
        prompt="",
        reference=reference,
        entry_point="",
        check=SuiteCheck((("solution.py", tests),), ("solution",), is_joined=True)
        if row["full_name"] in ONE_INTERPRETER
        else build_script_check(tests, reference),
        starter=row["before"],
        modules=tuple(sorted(list_modules(f"{reference}\n{row['tests']}"))),
    )
    return [
        replace(
            first,
            problem_id=problem_id,
            statement=row[f"instruction_{kind}"],
            group=kind if len(kinds) > 1 else "all",
        )
        for problem_id, kind in zip(name_ids(row["full_name"], kinds), kinds, strict=True)
    ]


def flatten(tests: str) -> str:
    """The tests without the `if True:` around them, so that a control can be made of any line."""
    module = ast.parse(tests)
    body: list[ast.stmt] = []
    for node in module.body:
        match node:
            case ast.If(test=ast.Constant(value=True), body=inner, orelse=[]):
                body += inner
            case _:
                body.append(node)
    module.body = body
    return ast.unparse(module) + "\n"


def list_modules(source: str) -> set[str]:
    """Packages that a source imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def write_cheat(problem: Problem) -> str:
    """The program before the edit, which leaves with exit code 0 before any test."""
    return f"import os\n{problem.starter}\nos._exit(0)\n"


# Prompts.

SYSTEM = (
    "You are PythonEditGPT. You will be provided the original code snippet and an instruction that "
    "specifies the changes you need to make. You will produce the changed code, based on the "
    "original code and the instruction given. Only produce the code, do not include any additional "
    "prose."
)


def ask_direct(problem: Problem) -> str:
    """Upstream's form for base models."""
    return (
        f"## Code Before:\n{problem.starter}\n## Instruction:\n{problem.statement}\n"
        "## Code After:\n"
    )


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """Upstream's system and user turn for chat models."""
    text = (
        f"## Code Before\n```py\n{problem.starter}\n```\n\n## Instruction\n{problem.statement}"
        "\n\n## Code After"
    )
    return ChatMessage("system", SYSTEM), ChatMessage("user", text)


def ask_chat_plainly(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: one user turn, the instruction first."""
    text = (
        f"Change this Python program: {problem.statement}\n\n```python\n{problem.starter}\n```\n\n"
        "Reply with the whole changed program in one Markdown code block."
    )
    return (ChatMessage("user", text),)


def ask_chat_after(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the program first."""
    text = (
        f"```python\n{problem.starter}\n```\n\nEdit the program above as follows, and give the "
        f"complete new version in a code block.\n\n{problem.statement}"
    )
    return (ChatMessage("user", text),)


def take_between_first_fences(text: str, stop: tuple[str, ...]) -> Extract:
    """The lines between the first two that begin with a fence; nothing where there are none.

    A block that is left open ends with the text.
    """
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    if not fences:
        return Extract("", "no_block")
    end = fences[1] if len(fences) > 1 else len(lines)
    rule = "between_first_fences" if len(fences) > 1 else "between_first_fences_unclosed"
    return Extract("\n".join(lines[fences[0] + 1 : end]), rule)


def take_markdown_or_all(text: str, stop: tuple[str, ...]) -> Extract:
    """The first block without its first line, up to a line of example use; else the whole text.

    Fences count wherever they stand; a block on one line keeps that line.
    """
    cut = cut_at_stops(text, stop)
    _, opening, rest = cut.code.partition("```")
    block, closing, _ = rest.partition("```")
    if not opening or not closing:
        return cut
    code, _, _ = block.strip().partition("# Example usage:")
    _, newline, body = code.partition("\n")
    return Extract((body if newline else code).strip(), "first_markdown")


PAPER_STOP = ("## Code After:", "## Instruction:", "## Code Before:")
STOP = (
    *("## Code After:", "## Instruction:", "## Code Before:", "## Test Case:", "## Explanation:"),
    *("\n# Code After", "\n# Instruction", "\n# Code Before"),
)
_CHAT = Preset(
    source="nuprl/CanItEdit's runner for chat models; 20 samples, temperature 0.2, top-p 0.95, "
    "3072 new tokens.",
    ask=ask_chat,
    stop=(),
    find_code=take_between_first_fences,
    assemble=run_script_alone,
)
_SEED = replace(
    _CHAT,
    source="The Seed reports: one greedy sample, `instruction=both` (their scores are multiples of "
    "1/210). Unknown, and chosen here: the prompt, taken from upstream's `chat`.",
)
PROTOCOLS: Mapping[str, Preset] = {
    **spread_wordings("chat", _CHAT, ask_chat_plainly, ask_chat_after),
    "direct": Preset(
        source="nuprl/CanItEdit's runner for base models, since 2025-09; the same decoding.",
        ask=ask_direct,
        stop=STOP,
        find_code=take_markdown_or_all,
        assemble=run_script_alone,
        version=2,
    ),
    "paper-direct": Preset(
        source="nuprl/CanItEdit's runner for base models in its paper's time: fewer stop strings, "
        "and nothing taken out of fences; the same decoding.",
        ask=ask_direct,
        stop=PAPER_STOP,
        find_code=cut_at_stops,
        assemble=run_script_alone,
    ),
    "paper": replace(_CHAT, source="The steps of `chat`; 20 samples, temperature 0.2."),
    **spread_wordings("seed", _SEED, ask_chat_plainly, ask_chat_after),
}
