"""NaturalCodeBench: tasks from real questions, in Python and Java, asked in English and Chinese.

Place in the flow: `load` -> `Benchmark`. Source: Zhang et al. 2024 (arXiv 2405.04520). Its
repository has no licence, so the four files come from the user: `$SDBENCH_DATA/naturalcodebench/`
with `ncb_python_en.jsonl` and so on, 70 development problems each. Options: `language` (`python`,
`java`) and `prompt` (`en`, `zh`), joined by `+`; all if not given. The Seed reports give each of
the four scores, and the mean of the two languages' totals.

Python tests run as a suite (L1 with a negative control). What cannot be judged here is counted as
not judged: Java (JUnit), tests that take pytest's fixtures or parameters, and tests that use pytest
where the sandbox lacks it. Upstream's standard input full of ones is not given.
"""

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sdb_harness.benchmarks import Benchmark, ChatMessage
from sdb_harness.benchmarks.choices import check_options, choose_names
from sdb_harness.benchmarks.data_files import read_json_lines
from sdb_harness.benchmarks.protocols import PARAPHRASE, Preset, run_script_alone
from sdb_harness.errors import UserError
from sdb_harness.extract import Extract, find_fenced_blocks
from sdb_harness.records import Problem
from sdb_sandboxes.types import Check, ExitCodeCheck, ResourceLimits, SuiteCheck

LANGUAGES = ("python", "java")
PROMPTS = ("en", "zh")
FIELDS = ("_id", "prompt", "testcases", "setup_code", "reference_solution", "classification")
REMEDY = (
    "fetch it once: curl -fL --create-dirs -o $SDBENCH_DATA/naturalcodebench/NAME https://github.com"
    "/THUDM/NaturalCodeBench/raw/268e85044a44e434ac3681b269f6531abbf1a291/problems/NAME, for NAME "
    "ncb_python_en.jsonl, ncb_python_zh.jsonl, ncb_java_en.jsonl, ncb_java_zh.jsonl"
)
LIMITS = ResourceLimits(cpu_s=60.0, wall_s=840.0)
"""Upstream gives a test run 840 seconds of wall time."""


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the chosen files.

    Args:
        options: `language` and `prompt`, see the module's docstring.

    Raises:
        UserError: an unknown option or value, or a file that is missing or not of this form.
    """
    check_options("naturalcodebench", options, ("language", "prompt"))
    languages = choose_names("naturalcodebench", options, "language", LANGUAGES)
    prompts = choose_names("naturalcodebench", options, "prompt", PROMPTS)
    problems: list[Problem] = []
    digest = hashlib.sha256()
    for language in languages:
        for prompt in prompts:
            name = f"naturalcodebench/ncb_{language}_{prompt}.jsonl"
            path, rows = read_json_lines(name, REMEDY)
            for row in rows:
                if missing := [key for key in FIELDS if key not in row]:
                    raise UserError(f"{path}: a problem lacks {missing[0]!r}; {REMEDY}")
                digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
                problems.append(make_problem(row, language, prompt))
    return Benchmark(
        name="naturalcodebench",
        revision=digest.hexdigest(),
        problems=tuple(problems),
        protocols=PROTOCOLS,
        licence="none given by its authors",
        citation="Zhang et al., NaturalCodeBench, arXiv 2405.04520",
        limits=LIMITS,
        version="development set of the user's files",
        split="+".join(f"{language}-{prompt}" for language in languages for prompt in prompts),
        is_multilingual=True,
    )


def make_problem(row: Mapping[str, Any], language: str, prompt: str) -> Problem:
    """Turn one row into a problem whose group is its language and that of its prompt."""
    group = f"{language}-{prompt}"
    check = make_check(row) if language == "python" else NOT_HERE["java"]
    uses_pytest = isinstance(check, SuiteCheck) and "import pytest" in check.files[0][1]
    return Problem(
        problem_id=f"{group}/{row['_id']}",
        prompt="",
        reference=take_python(row["reference_solution"], ()).code if language == "python" else "",
        entry_point="",
        check=check,
        group=group,
        statement=row["prompt"],
        modules=("pytest",) if uses_pytest else (),
    )


NOT_HERE = {
    "java": ExitCodeCheck("java project with its test framework", "JUnit", "Solution.java"),
    "fixtures": ExitCodeCheck("python project with pytest's fixtures", "pytest", "solution.py"),
}
"""Checks of languages that no sandbox has: counted as not judged."""


def make_check(row: Mapping[str, Any]) -> Check:
    """The tests as a suite, if a suite can run them."""
    tests = f"from solution import *\n{row['testcases']}\n{row['setup_code']}\n"
    if re.search(r"\bpytest\b", tests):
        tests = f"import pytest\n{tests}"
    try:
        ids = list_tests(ast.parse(tests))
    except SyntaxError:
        ids = None
    if not ids:
        return NOT_HERE["fixtures"]
    return SuiteCheck((("test_solution.py", tests),), tuple(ids))


def list_tests(tree: ast.Module) -> list[str] | None:
    """The ids of all tests; None if one needs more than to be called."""
    ids = []
    for node in tree.body:
        functions: list[tuple[str, ast.stmt, int]] = []
        if isinstance(node, ast.ClassDef) and (node.name.startswith("Test") or node.bases):
            functions = [(f"{node.name}.", part, 1) for part in node.body]
        elif isinstance(node, ast.FunctionDef):
            functions = [("", node, 0)]
        for prefix, part, num_own in functions:
            if isinstance(part, ast.FunctionDef) and part.name.startswith("test"):
                if len(part.args.args) != num_own or part.decorator_list:
                    return None
                ids.append(f"test_solution.{prefix}{part.name}")
    return ids


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """The data's own prompt."""
    return (ChatMessage("user", problem.statement),)


def ask_chat_briefly(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: what form the answer is to have in front of the data's prompt."""
    text = (
        f"Answer the request below with working code in one Markdown block.\n\n{problem.statement}"
    )
    return (ChatMessage("user", text),)


def ask_chat_after(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the same behind it."""
    text = f"{problem.statement}\n\nReply with the complete program only, as a Markdown code block."
    return (ChatMessage("user", text),)


_TAGGED = re.compile(r"\[Python\](.*?)\[/Python\]", re.DOTALL)
_CODE_LINE = re.compile(r"^(?:from|import|class|def)\b", re.MULTILINE)


def take_python(text: str, stop: tuple[str, ...]) -> Extract:
    """Upstream's order: [Python] tags, the first Python block, the first bare one, the first code.

    Where a Java answer has several blocks, all of them belong to it: nothing is judged yet.
    """
    if tagged := _TAGGED.search(text):
        return Extract(tagged[1].strip("\n") + "\n", "python_tags")
    blocks = find_fenced_blocks(text)
    for language, rule in (("python", "first_python_block"), ("", "first_bare_block")):
        for block in blocks:
            if block.language == language:
                return Extract(block.code, rule)
    line = _CODE_LINE.search(text)
    return Extract(text[line.start() :] if line else text, "first_code" if line else "whole")


_CHAT = Preset(
    source="NaturalCodeBench: its prompt as a user turn, greedy, one sample.",
    ask=ask_chat,
    stop=(),
    find_code=take_python,
    assemble=run_script_alone,
)
PROTOCOLS: Mapping[str, Preset] = {
    "chat": _CHAT,
    "chat/2": replace(_CHAT, source=PARAPHRASE, ask=ask_chat_briefly),
    "chat/3": replace(_CHAT, source=PARAPHRASE, ask=ask_chat_after),
    "seed": replace(
        _CHAT,
        source="The Seed reports: the steps of `chat` on the 70 development problems of each of "
        "{Python, Java} x {zh, en}; the total is the mean of the zh and the en total.",
    ),
}
