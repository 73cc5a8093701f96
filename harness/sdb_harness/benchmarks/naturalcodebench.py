"""NaturalCodeBench: tasks from real questions, in Python and Java, asked in English and Chinese.

Place in the flow: `load` -> `Benchmark`. Source: Zhang et al. 2024 (arXiv 2405.04520). Its
repository has no licence, so the four files come from the user: `$SDBENCH_DATA/naturalcodebench/`
with `ncb_python_en.jsonl` and so on, 70 development problems each. Options: `language` (`python`,
`java`) and `prompt` (`en`, `zh`), joined by `+`; all if not given. The Seed reports give each of
the four scores, and the mean of the two languages' totals.

Tests run as a suite (L1 with a negative control), Java's by JUnit in the image `java`, Python's by
pytest (`--sandbox docker:py-bigcode`) where they need its fixtures or setup methods. What cannot be
judged here is counted as not judged: Python problems whose packages (pytest included) the sandbox
lacks, and tests that need files, or in Java libraries, which only upstream's container has.
Upstream's standard input full of ones is not given, and tests that an answer brings along, which
upstream runs too, are not run.

Choice: upstream cuts a Java answer by regular expressions into one file for each class, so that
several may be public. Here it stays one file whose types are not public, which tests of the same
package cannot tell; what upstream's expressions lose (records, annotations) is kept. JUnit is 5.9
instead of 5.8, Java is 17, and answers that use fastjson2, jsoup or lombok do not compile.
"""

import ast
import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sdb_harness.benchmarks import Benchmark, ChatMessage
from sdb_harness.benchmarks.canitedit import list_modules
from sdb_harness.benchmarks.choices import check_options, choose_names
from sdb_harness.benchmarks.data_files import read_json_lines
from sdb_harness.benchmarks.protocols import Preset, spread_wordings
from sdb_harness.errors import UserError
from sdb_harness.extract import Extract, find_fenced_blocks
from sdb_harness.records import Problem
from sdb_sandboxes.types import Check, ExitCodeCheck, ResourceLimits, SuiteCheck
from sdb_sandboxes.verifiers import projects

LANGUAGES = ("python", "java")
PROMPTS = ("en", "zh")
FIELDS = ("_id", "prompt", "testcases", "setup_code", "reference_solution", "classification")
REMEDY = (
    "fetch it once: curl -fL --create-dirs -o $SDBENCH_DATA/naturalcodebench/NAME https://github.com"
    "/THUDM/NaturalCodeBench/raw/268e85044a44e434ac3681b269f6531abbf1a291/problems/NAME, for NAME "
    "ncb_python_en.jsonl, ncb_python_zh.jsonl, ncb_java_en.jsonl, ncb_java_zh.jsonl"
)
LIMITS = ResourceLimits(cpu_s=60.0, wall_s=840.0)
"""Upstream gives a test run 840 seconds of wall time; to Java 420, and 420 to its compiler."""
NEEDS_FILES = {
    "java": (141, 160, 185, 189),
    "python": (154, 160, 161, 165, 168, 170, 173, 175, 188, 189),
}
"""Problems whose tests read files that only upstream's container has."""
FAULTS = {
    f"{language}-{prompt}/{number}": why
    for prompt in PROMPTS
    for language, number, why in (
        ("java", 159, "a test starts 1,000 threads: on a busy machine too many live at once"),
        ("python", 187, "its tests expect the labels that KMeans gave before scikit-learn 1.3"),
    )
}
"""Problems that right programs can fail here: 159 now and then; 187 passes with scikit-learn 1.2.1,
upstream's. SandboxFusion leaves Python's 161 and 187 out, as places 30 and 56; the papers' scores
do not."""


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
            numbers: dict[int, int] = {}
            for number, row in enumerate(rows, start=1):
                kinds = {key: int if key == "_id" else str for key in FIELDS}
                if wrong := [k for k, kind in kinds.items() if not isinstance(row.get(k), kind)]:
                    raise UserError(f"{path}: problem {number} lacks {wrong[0]!r}; {REMEDY}")
                if numbers.setdefault(row["_id"], number) != number:
                    raise UserError(
                        f"{path}: problem {number} has the _id {row['_id']} of problem "
                        f"{numbers[row['_id']]}; {REMEDY}"
                    )
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
        write_cheat=write_cheat,
        faults={
            problem.problem_id: FAULTS[problem.problem_id]
            for problem in problems
            if problem.problem_id in FAULTS
        },
    )


def make_problem(row: Mapping[str, Any], language: str, prompt: str) -> Problem:
    """Turn one row into a problem whose group is its language and that of its prompt."""
    group = f"{language}-{prompt}"
    is_java = language == "java"
    check = make_java_check(row) if is_java else make_check(row)
    solution = row["reference_solution"]
    reference = (
        write_java(take_java(solution, ()).code) if is_java else take_python(solution, ()).code
    )
    modules = set() if is_java else find_packages(reference, row["testcases"], row["setup_code"])
    if isinstance(check, SuiteCheck) and check.is_pytest:
        modules.add("pytest")
    return Problem(
        problem_id=f"{group}/{row['_id']}",
        prompt="",
        reference=reference,
        entry_point="",
        check=check,
        group=group,
        statement=row["prompt"],
        modules=tuple(sorted(modules)),
        not_judged=explain_java(row) if is_java else explain_python(row, check),
    )


def find_packages(*sources: str) -> set[str]:
    """Top-level modules that sources import, the answer's own left out; pytest where it is used."""
    found: set[str] = set()
    for source in sources:
        with contextlib.suppress(SyntaxError):
            found |= list_modules(source)
    if any(re.search(r"\bpytest\b", source) for source in sources[1:]):
        found.add("pytest")
    return found - {"solution"}


NOT_HERE = ExitCodeCheck("python project without tests", "pytest", "solution.py")
"""The check of a problem that is not judged, in a language that no sandbox has."""


def make_check(row: Mapping[str, Any]) -> Check:
    """The tests as a suite, if there are any."""
    tests = f"from solution import *\n{row['testcases']}\n{row['setup_code']}\n"
    if re.search(r"\bpytest\b", tests):
        tests = f"import pytest\n{tests}"
    try:
        ids, is_pytest = list_tests(ast.parse(tests))
    except SyntaxError:
        return NOT_HERE
    if not ids:
        return NOT_HERE
    return SuiteCheck((("test_solution.py", tests),), tuple(ids), is_pytest=is_pytest)


def make_java_check(row: Mapping[str, Any]) -> SuiteCheck:
    """The tests in a class that upstream's name tells from every class of an answer."""
    name, tests = f"Test_java_{row['_id']}", row["testcases"]
    if found := re.search(r"\bclass (\w+)", tests):
        tests = re.sub(rf"\b{found[1]}\b", name, tests)
    ids = projects.list_tests(tests, "java-junit")
    return SuiteCheck(((f"{name}.java", tests),), tuple(ids), "Answer.java", language="java-junit")


NO_FILES = "its tests read files that only upstream's container has"


def explain_python(row: Mapping[str, Any], check: Check) -> str:
    """Why the tests of a Python problem cannot run here; empty if they can."""
    if not isinstance(check, SuiteCheck):
        return "its tests are no source with test functions"
    return NO_FILES if row["_id"] in NEEDS_FILES["python"] else ""


def explain_java(row: Mapping[str, Any]) -> str:
    """Why the tests of a Java problem cannot run here; empty if they can."""
    tests = row["testcases"]
    if found := re.search(
        r"^import (?:static )?(?:org\.|com\.alibaba\.)?(jsoup|fastjson2|lombok)", tests, re.M
    ):
        return f"its tests need {found[1]}, which the image java lacks"
    if row["_id"] in NEEDS_FILES["java"]:
        return NO_FILES
    num_marked = len(re.findall(r"^\s*@(?:\w+\.)*\w*Test\b", tests, re.MULTILINE))
    if not num_marked or num_marked != len(projects.list_tests(tests, "java-junit")):
        return "its tests are not all methods marked @Test"
    return ""


SETUP = re.compile("(setup|teardown)_(method|class|function|module)$")
"""What pytest calls around the tests of a file or of a plain class."""


def list_tests(tree: ast.Module) -> tuple[list[str], bool]:
    """The ids of all tests, and whether one needs pytest for more than to be called."""
    ids: list[str] = []
    is_pytest = False
    for node in tree.body:
        is_unittest = False
        functions: list[tuple[str, ast.stmt, int]] = []
        if isinstance(node, ast.ClassDef) and (node.name.startswith("Test") or node.bases):
            is_unittest = bool(node.bases)
            functions = [(f"{node.name}.", part, 1) for part in node.body]
        elif isinstance(node, ast.FunctionDef):
            functions = [("", node, 0)]
        for prefix, part, num_own in functions:
            if not isinstance(part, ast.FunctionDef):
                continue
            if part.name.startswith("test"):
                ids.append(f"test_solution.{prefix}{part.name}")
                is_pytest |= len(part.args.args) != num_own or bool(part.decorator_list)
            elif not is_unittest:
                is_pytest |= bool(SETUP.match(part.name)) or any(
                    "fixture" in ast.unparse(decorator) for decorator in part.decorator_list
                )
    return ids, is_pytest


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


def find_tagged(text: str, language: str) -> str | None:
    """What stands between the first [LANGUAGE] and the [/LANGUAGE] behind it."""
    _, opening, rest = text.partition(f"[{language}]")
    code, closing, _ = rest.partition(f"[/{language}]")
    return code if opening and closing else None


def take_python(text: str, stop: tuple[str, ...]) -> Extract:
    """Upstream's order: [Python] tags, first Python block, first bare one, from the first keyword.

    Tags count only without a fence between them, and one without its end only where there is no
    Python block. A block has to be closed. A keyword may stand anywhere in a line.
    """
    tagged = find_tagged(text, "Python")
    if tagged is not None and "```" not in tagged:
        return Extract(tagged, "python_tags")
    _, opening, rest = text.partition("[Python]")
    if tagged is None and opening and "```python" not in text:
        code, fence, _ = rest.partition("```")
        return Extract(code if fence else "", "python_tags_unclosed")
    for fence, rule in (("```python", "first_python_block"), ("```", "first_bare_block")):
        if fence in text:
            found = re.search(rf"{fence}[\n\r]", text)
            end = found and re.compile(r"[\n\r]```").search(text, found.end())
            if not found or not end:
                return Extract("", "no_block")
            return Extract(text[found.end() : end.start()], rule)
    imports = [word for word in ("import", "from") if f"{word} " in text]
    if len(imports) == 2 and text.find("from") < text.find("import"):
        imports = ["from"]
    for word in (*imports, "class", "def"):
        if f"{word} " in text and (line := re.search(rf"{word}\s", text)):
            return Extract(text[line.start() :], "first_code")
    return Extract("", "no_block")


_TYPE = (
    r"(?:(?:abstract|final|sealed|static|strictfp)[ \t]+)*(?:class|@?interface|enum|record)[ \t]"
)
_JAVA_TYPE = re.compile(rf"^[ \t]*(?:public[ \t]+)?{_TYPE}", re.MULTILINE)
_JAVA_LINE = re.compile(rf"^[ \t]*(?:import[ \t]|(?:public[ \t]+)?{_TYPE})", re.MULTILINE)
_PUBLIC_TYPE = re.compile(rf"^public[ \t]+(?={_TYPE})", re.MULTILINE)
_PACKAGE = re.compile(r"^[ \t]*package[ \t][^;\n]*;", re.MULTILINE)
_IMPORT = re.compile(r"^[ \t]*(import[ \t][^;\n]*;)", re.MULTILINE)
JUNIT_IMPORTS = (
    "import org.junit.jupiter.api.Test;",
    "import static org.junit.jupiter.api.Assertions.*;",
)
"""Upstream puts them in front of every answer: it may hold tests, which are not run."""


def take_java(text: str, stop: tuple[str, ...]) -> Extract:
    """[Java] tags, else every Java or bare block that declares a type, else from the first code on.

    As upstream, which takes the types out of all these blocks.
    """
    if (tagged := find_tagged(text, "Java")) is not None:
        return Extract(tagged.strip("\n") + "\n", "java_tags")
    blocks = [block for block in find_fenced_blocks(text) if block.language in ("java", "")]
    if codes := [block.code for block in blocks if _JAVA_TYPE.search(block.code)]:
        return Extract("".join(codes), "java_blocks")
    line = _JAVA_LINE.search(text)
    if line is None:
        return Extract(text, "whole")
    return Extract(text[line.start() : text.rfind("}") + 1] + "\n", "first_code")


def write_java(code: str) -> str:
    """One source file of the default package: imports, then types of which none is public.

    With imports in front a package cannot be declared, so no class takes the place of JUnit's.
    """
    imports = dict.fromkeys((*JUNIT_IMPORTS, *_IMPORT.findall(code)))
    types = _PUBLIC_TYPE.sub("", _IMPORT.sub("", _PACKAGE.sub("", code)))
    return "\n".join((*imports, types))


def choose_extraction(problem: Problem) -> Callable[[str, tuple[str, ...]], Extract]:
    """By the problem's language."""
    return take_java if problem.group.startswith("java") else take_python


def assemble_file(problem: Problem, code: str) -> str:
    """The whole program: Python as it is, Java as one file that compiles beside the tests."""
    return write_java(code) if problem.group.startswith("java") else code


def write_cheat(problem: Problem) -> str | None:
    """A Java program that leaves with exit code 0 as soon as any of its classes is loaded."""
    if problem.group.startswith("python"):
        return None
    leave = r"\g<0> static { System.exit(0); } "
    return re.sub(r"^(?:\w+ )*class \w+[^{;]*\{", leave, problem.reference, flags=re.MULTILINE)


_CHAT = Preset(
    source="NaturalCodeBench: its prompt as a user turn, greedy, one sample.",
    ask=ask_chat,
    stop=(),
    find_code=take_python,
    assemble=assemble_file,
    find_code_of=choose_extraction,
    version=3,
)
_SEED = replace(
    _CHAT,
    source="The Seed reports: the steps of `chat` on the 70 development problems of each of "
    "{Python, Java} x {zh, en}; the total is the mean of the zh and the en total.",
)
PROTOCOLS: Mapping[str, Preset] = {
    **spread_wordings("chat", _CHAT, ask_chat_briefly, ask_chat_after),
    "paper": replace(
        _CHAT, source="Zhang et al.: the steps of `chat`; its test set is unpublished."
    ),
    **spread_wordings("seed", _SEED, ask_chat_briefly, ask_chat_after),
}
