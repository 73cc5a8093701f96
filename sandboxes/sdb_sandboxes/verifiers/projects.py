"""L1 for projects of other languages than Python: several files, and a framework that tests them.

Place in the flow: `verify` with a `SuiteCheck` whose language is a row of `languages.PROJECTS`. The
program's files and then the trusted ones are written into a fresh folder, compiled and run;
`project_runner.py`, a process without the program, reports what the tests printed. It is believed
if exactly the data set's tests passed and the process ended with 0, so leaving early proves
nothing. A program that passed runs again with every test made to fail: by a wrong expected value
where the framework's assertions show one, else by a statement of ours. Who passes any test then has
not been tested by it, but prints results or says what equals what: wrong answer, "forged".

What it does not do: it is no proof. Tests and program share a process, so a program that reads the
tests beside it, and gives up when they are not the original, is not found out. Rewards from L1 are
to be reported apart.
"""

import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    ExecutionResult,
    ProgramRequest,
    ResourceLimits,
    Status,
    SuiteCheck,
    Verdict,
)
from sdb_sandboxes.verifiers.exit_code import FORGED
from sdb_sandboxes.verifiers.expectations import change_literal, list_literals
from sdb_sandboxes.verifiers.suites import read_signed
from sdb_sandboxes.verifiers.verdicts import build_verdict
from sdb_sandboxes.watch import TAIL_BYTES

Files = Mapping[str, str]
"""Path -> text."""


@dataclass(frozen=True, slots=True)
class Framework:
    """What the judge knows of one test framework."""

    head: re.Pattern[str]
    """Beginning of a test in the source, up to and with its opening brace; group `name`."""
    fail: str
    """What makes the test fail at whose beginning it stands; another WORD each time, for a program
    must not know the mark of a control."""
    result: re.Pattern[str]
    """How the result of a test is printed; groups `name` and `outcome`."""
    expected: re.Pattern[str]
    """What stands before an expected value; if it has a group `first`, that is one literal."""
    fail_end: str = ""
    """What then stands at its end. A test that fails at once would not run the program, which then
    could not show that it prints results."""
    fail_expression: str = ""
    """The same in front of an expression, where a test may be one."""
    has_tables: bool = False
    """Whether expected values stand in tables outside of the tests too."""
    write_files: Callable[[SuiteCheck], Files] = lambda check: {}
    """What else has to be in the folder, for example a main program that lists the tests."""


@cache
def read_source(name: str) -> str:
    """A file of this folder that goes along with the program."""
    return Path(__file__).with_name(name).read_text()


def write_go_main(check: SuiteCheck) -> Files:
    """The main program that `go test` would write."""
    tests = "".join(f'\t\t{{"{name}", exercise.{name}}},\n' for name in check.test_ids)
    return {"_main/main.go": GO_MAIN % tests}


GO_MAIN = """\
package main

import (
	"testing"

	exercise "exercise"
)

func match(_, _ string) (bool, error) { return true, nil }

func main() {
	testing.Main(match, []testing.InternalTest{
%s	}, nil, nil)
}
"""


def write_jest(check: SuiteCheck) -> Files:
    """Our stand-in for Jest, and the program that starts it."""
    main = "import { main } from './_jest_like.mjs';\nawait main();\n"
    return {"_jest_like.mjs": read_source("jest_like.mjs"), "_main.mjs": main}


def write_junit(check: SuiteCheck) -> Files:
    """The program that runs the tests, and the names of the classes that may hold some."""
    names = "".join(f"{PurePosixPath(path).stem}\n" for path, _ in check.files if ".java" in path)
    return {"JUnitRunner.java": read_source("JUnitRunner.java"), "_trusted.txt": names}


PRINTED = r"--- (?P<outcome>PASS|FAIL|SKIP): "
FRAMEWORKS = {
    "go-test": Framework(
        head=re.compile(r"^func (?P<name>Test\w*)\(t \*testing\.T\) \{", re.MULTILINE),
        fail='t.Error("WORD")',
        result=re.compile(PRINTED + r"(?P<name>\w+) \("),
        expected=re.compile(r"^[ \t]*(?:expected|want)(?!Err)\w*:[ \t]*", re.MULTILINE),
        has_tables=True,
        write_files=write_go_main,
    ),
    "cpp-catch2": Framework(
        head=re.compile(
            r"^[ \t]*TEST_CASE\(\s*(?://[^\n]*\n\s*)*"
            r'"(?P<name>[^"\n]*(?:"\s*"[^"\n]*)*)"[^{;]*\{',
            re.MULTILINE,
        ),
        fail='FAIL_CHECK("WORD");',
        result=re.compile(PRINTED + r"(?P<name>.*)"),
        expected=re.compile(
            r"\b(?:REQUIRE|CHECK)\(.*==[ \t]*(?=[\"'\d{-]|true|false|std::)|WithinAbs\("
        ),
    ),
    "javascript-jest": Framework(
        head=re.compile(
            r"^[ \t]*(?:test|it)\(\s*(?P<quote>['\"`])(?P<name>.*?)(?P=quote),\s*"
            r"(?:async )?(?:\(\w*\) =>\s*|function \(\w*\) )\{?",
            re.MULTILINE,
        ),
        fail="throw new Error('WORD');",
        fail_expression="Promise.reject(new Error('WORD')) ||",
        result=re.compile(PRINTED + r"(?P<name>.*)"),
        expected=re.compile(r"(?<!\.not)\.to(?:Be|Equal)\(\s*(?=[\"'\d\[{-]|true|false)"),
        write_files=write_jest,
    ),
    "rust-test": Framework(
        head=re.compile(
            r"^[ \t]*#\[test\]\n(?:[ \t]*(?:#\[[^\n]*\]|//[^\n]*)\n)*"
            r"[ \t]*fn (?P<name>\w+)\(\s*\)[^{\n]*\{",
            re.MULTILINE,
        ),
        fail='panic!("WORD");',
        result=re.compile(
            r"^test (?:\w+::)*(?P<name>\w+) \.\.\. (?P<outcome>ok|FAILED|ignored)", re.MULTILINE
        ),
        expected=re.compile(
            r"\bassert_eq!\((?:[^,()\n]|\([^()\n]*\))*,[ \t]*"
            r"(?=(?:Some\(|Ok\()?(?:[\"'\d-]|true|false))|\bexpected\b[^=\n]*=[ \t]*(?!=)"
        ),
    ),
    "java-junit": Framework(
        head=re.compile(
            r"^[ \t]*@Test(?:\([^()\n]*\))?\n(?:[ \t]*(?:@\w+[^\n]*)?\n)*"
            r"[ \t]*(?:public )?void (?P<name>\w+)\([^()\n]*\)\s*(?:throws [\w, .]+)?\{",
            re.MULTILINE,
        ),
        fail="try {",
        fail_end='\n} finally { org.junit.jupiter.api.Assertions.fail("WORD"); }',
        result=re.compile(PRINTED + r"(?P<name>.*)"),
        # A text may be JUnit 4's message, and a tolerance may forgive a fraction.
        expected=re.compile(
            r"\.(?:isEqualTo|containsExactly)\(\s*(?=[\"'\d-]|true|false)"
            r"|\bassertEquals\(\s*(?P<first>-?)(?=\d+\s*,)"
        ),
        write_files=write_junit,
    ),
}
"""By the name in `languages.PROJECTS`."""
PASSING = ("PASS", "ok")
RUNNER_PATH = "_runner.py"


def verify_project(
    sandbox: Sandbox, program: str, check: SuiteCheck, limits: ResourceLimits
) -> Verdict:
    """Compile, run all tests, then the controls against a program that passed them."""
    if not check.test_ids or not check.files:
        raise ValueError("the check has no test; zero tests prove nothing")
    result, status, detail, passed = judge_project(sandbox, program, check, limits)
    if status is Status.PASSED:
        status, detail = run_controls(sandbox, program, check, limits)
    num_tests = len(check.test_ids)
    num_passed = 0 if detail == FORGED else sum(passed)
    return build_verdict(sandbox, result, status, detail, "L1", num_tests, num_passed, len(passed))


def judge_project(
    sandbox: Sandbox, program: str, check: SuiteCheck, limits: ResourceLimits
) -> tuple[ExecutionResult, Status, str, list[bool]]:
    """One run: result, status, one line, and whether each test passed that ended."""
    result, ended, output = run_project(sandbox, program, check, limits)
    if result.status is not Status.PASSED:
        return result, result.status, result.detail, []
    if ended is None:
        return result, Status.RUNTIME_ERROR, "the tests ended without a report", []
    results = read_results(output, check)
    passed = [is_passed for _, is_passed in results]
    if Counter(name for name, _ in results) - Counter(check.test_ids):
        return result, Status.WRONG_ANSWER, "tests were run that are not the data set's", passed
    if not all(passed):
        name = results[passed.index(False)][0]
        return result, Status.WRONG_ANSWER, f"{name} failed", passed
    num_tests = len(check.test_ids)
    if ended or len(passed) < num_tests:
        detail = f"{len(passed)} of {num_tests} tests ended, then the process with {ended}"
        return result, Status.RUNTIME_ERROR, detail, passed
    return result, Status.PASSED, "", passed


def run_project(
    sandbox: Sandbox, program: str, check: SuiteCheck, limits: ResourceLimits
) -> tuple[ExecutionResult, int | None, str]:
    """One run: result, exit code of the tests (None without a report), all that they printed."""
    nonce = secrets.token_hex(16)
    files = list_files(program, check)
    result = sandbox.run_program(ProgramRequest(check.language, files, (f"{nonce}\n",), limits))
    report = read_signed(result.runs[0].stdout, nonce) if result.runs else None
    if result.status is not Status.PASSED or report is None:
        return result, None, ""
    output = str(report["output"])
    return replace(result, stdout_tail=output[-TAIL_BYTES:]), int(report["status"]), output


def read_results(output: str, check: SuiteCheck) -> list[tuple[str, bool]]:
    """(name, whether it passed) of every test that is said to have ended, in order."""
    found = FRAMEWORKS[check.language].result.finditer(output)
    return [(result["name"], result["outcome"] in PASSING) for result in found]


def list_files(program: str, check: SuiteCheck) -> tuple[tuple[str, str], ...]:
    """The runner, the program, and the trusted files in their place, whatever it wrote there."""
    files = {
        **split_program(program, (check.program_path, *check.more_paths)),
        **dict(check.files),
        **FRAMEWORKS[check.language].write_files(check),
    }
    return ((RUNNER_PATH, read_source("project_runner.py")), *files.items())


def join_files(files: Files) -> str:
    """The text that stands for a program of these files: each behind a line with its path."""
    if len(files) == 1:
        return next(iter(files.values()))
    ended = ((path, text if text.endswith("\n") else f"{text}\n") for path, text in files.items())
    return "".join(f"=== {path}\n{text}" for path, text in ended)


def split_program(program: str, paths: tuple[str, ...]) -> dict[str, str]:
    """The files of a program; what stands before the first path belongs to the first file.

    Only these paths count: a program cannot put a file anywhere else.
    """
    if len(paths) == 1:
        return {paths[0]: program}
    marks = "|".join(re.escape(path) for path in paths)
    first, *rest = re.split(rf"^=== ({marks})\n", program, flags=re.MULTILINE)
    files = dict(zip(rest[::2], rest[1::2], strict=True))
    return {paths[0]: first, **files} if first else files


def run_controls(
    sandbox: Sandbox, program: str, check: SuiteCheck, limits: ResourceLimits
) -> tuple[Status, str]:
    """Whether a program that passed fails where it must."""
    for _ in range(check.num_controls):
        # A wrong value need not compile; statements do.
        for files in (draw_control(check, True), draw_control(check, False)):
            _, status, detail, passed = judge_project(
                sandbox, program, replace(check, files=files), limits
            )
            if status is Status.INFRASTRUCTURE:
                return status, detail
            if any(passed):
                return Status.WRONG_ANSWER, FORGED
            if status is not Status.COMPILE_ERROR:
                break
        tables = change_tables(check)
        if tables == check.files or not FRAMEWORKS[check.language].has_tables:
            continue
        _, status, detail, _ = judge_project(sandbox, program, replace(check, files=tables), limits)
        if status is Status.INFRASTRUCTURE:
            return status, detail
        if status is Status.PASSED:
            return Status.WRONG_ANSWER, FORGED
    return Status.PASSED, ""


def list_tests(text: str, language: str) -> list[str]:
    """The names of a file's tests, as the framework prints them."""
    heads = FRAMEWORKS[language].head.finditer(text)
    return [re.sub(r'"\s*"', "", head["name"]) for head in heads]


def draw_control(check: SuiteCheck, has_values: bool) -> tuple[tuple[str, str], ...]:
    """The files with every test made to fail: by one wrong value, or else by a statement."""
    framework = FRAMEWORKS[check.language]
    changed = []
    for path, text in check.files:
        for start, end in reversed(list_bodies(text, framework)):
            values = list(find_values(text, start, end, framework)) if has_values else []
            if values:
                text = change_value(text, secrets.choice(values), check)
            else:
                is_block = text[start - 1] == "{"
                statement = framework.fail if is_block else framework.fail_expression
                word = secrets.token_hex(4)
                before = statement.replace("WORD", word)
                behind = framework.fail_end.replace("WORD", word)
                text = f"{text[:start]} {before} {text[start:end]}{behind}{text[end:]}"
        changed.append((path, text))
    return tuple(changed)


def change_tables(check: SuiteCheck) -> tuple[tuple[str, str], ...]:
    """The files with every expected value made wrong that stands outside the tests."""
    framework = FRAMEWORKS[check.language]
    changed = []
    for path, text in check.files:
        bodies = list_bodies(text, framework)
        for value in reversed(list(find_values(text, 0, len(text), framework))):
            if not any(start <= value[0] < end for start, end in bodies):
                text = change_value(text, value, check)
        changed.append((path, text))
    return tuple(changed)


def list_bodies(text: str, framework: Framework) -> list[tuple[int, int]]:
    """(start, end) of what stands between the braces of every test, by its indentation."""
    heads = list(framework.head.finditer(text))
    bodies = []
    for i, head in enumerate(heads):
        indent = head[0][: len(head[0]) - len(head[0].lstrip(" \t"))]
        limit = heads[i + 1].start() if i + 1 < len(heads) else len(text)
        end = text.find(f"\n{indent}}}", head.end(), limit)
        bodies.append((head.end(), end if end >= 0 else limit))
    return bodies


def find_values(text: str, start: int, end: int, framework: Framework) -> Iterator[tuple[int, int]]:
    """(start, end) of the literals that belong to an expected value."""
    for found in framework.expected.finditer(text, start, end):
        is_first = found.groupdict().get("first") is not None
        for first, last in list_literals(text, found.end())[: 1 if is_first else None]:
            # Not the zero of `0xff`, nor the number of `7u8`.
            if not text[last : last + 1].isalnum():
                yield first, last


def change_value(text: str, value: tuple[int, int], check: SuiteCheck) -> str:
    """The text with another literal in that place."""
    start, end = value
    language = check.language.partition("-")[0]
    return text[:start] + change_literal(text[start:end], language) + text[end:]
