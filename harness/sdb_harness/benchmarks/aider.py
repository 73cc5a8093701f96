"""What aider's two benchmarks share: exercises to edit, in two tries, in one of three formats.

Place in the flow: `aider_edit.py` and `aider_polyglot.py` name their data and call `make_problem`
and `make_protocols`. Source: the benchmark folder of Aider-AI/aider and the exercises of Exercism.
The model sees the task and the files to change, and replies in an edit format (`edit_formats.py`).
If the tests fail, it is shown their output and replies once more, in the same chat and on top of
its own edits. The tests come from the trusted copy, whatever the model wrote. Python's run in a
process of their own (L2b); those that replace parts of the module, or need other files beside them,
share its process (L1), as do those of all other languages (`exercises.py`). All have a negative
control.

The presets `leaderboard`, `leaderboard-diff` and `leaderboard-udiff` ask in aider's own words
(`aider_messages.py`). Choice: in all others the closing sentences of each request are aider's, and
the format is explained in this project's words, so a score can differ from aider's own.

Before any test runs, those presets, `seed` and their other wordings ask the model back about
malformed edits and what a linter finds in edited Python (`aider_questions.py`), up to three times a
try. What became of a reply is computed again from the replies before it; stored are the replies and
what each was answered. The other presets do not ask back.

In all of them, new files that a model adds are not kept. What a model is shown of failing Python
tests is unittest's output, as in aider's first benchmark. Polyglot's presets that ask back show
pytest's, as aider does, where the sandbox has it (`docker:py-numpy`; aider had release 8). Choice:
unittest's elsewhere, rather than pytest in every image; the image is recorded with the run.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sdb_harness.benchmarks import ChatMessage, Prompt, Try
from sdb_harness.benchmarks.aider_questions import ask_about_edits, ask_about_python
from sdb_harness.benchmarks.exercises import Exercise, leave_early, read_exercise
from sdb_harness.edit_formats import EDIT_FORMATS, Edited
from sdb_harness.records import Problem, SampleRow
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    ObjectCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
    SuiteCheck,
)
from sdb_sandboxes.verifiers.projects import join_files, run_project, split_program
from sdb_sandboxes.verifiers.test_sources import build_unittest_check

FIELDS = ("name", "solution", "test", "example", "files")
"""What is used of a row of a data file, see `conversions.read_exercises`."""
NUM_TRIES = 2
MAX_SHOWN_CHARS = 32_000
"""Of test output in one prompt: aider has no such limit, but a model's context has."""
FORMATS = {
    "whole": (
        "You change source files as the user asks. Reply with the complete new text of every file "
        "that changes, also of the parts that stay as they are. Write the path of the file alone "
        "on a line, then a fenced code block with the text:\n\npath/of/file.ext\n```\nthe whole "
        "file\n```\n"
    ),
    "diff": (
        "You change source files as the user asks. Describe each change by a block: the path of "
        "the file alone on a line, and in a fenced code block the lines to find, exactly as they "
        "stand in the file, and the lines that take their place:\n\npath/of/file.ext\n```\n"
        "<<<<<<< SEARCH\nlines of the file\n=======\nnew lines\n>>>>>>> REPLACE\n```\n\nA block "
        "with nothing to find makes a new file. Use as many blocks as it takes.\n"
    ),
    "udiff": (
        "You change source files as the user asks. Describe the changes as a unified diff in a "
        "fenced code block marked diff, with both lines that name the file and without line "
        "numbers:\n\n```diff\n--- path/of/file.ext\n+++ path/of/file.ext\n@@ ... @@\n a line that "
        "stays\n-a line that goes\n+a line that comes\n```\n"
    ),
}
"""Edit format -> system prompt."""


def make_problem(row: Mapping[str, Any], language: str, closing: str) -> Problem:
    """Turn one exercise into a problem.

    Args:
        row: `name`, `solution`, `test`, `example` (paths) and `files` (path -> text).
        language: Its language; also the problem's group.
        closing: What the request ends with; `{files}` stands for the files to change.
    """
    files: dict[str, str] = row["files"]
    documents = ("introduction.md", "instructions.md", "instructions.append.md")
    task = "".join(files.get(f".docs/{name}", "") for name in documents)
    exercise = read_python(row) if language == "python" else read_exercise(row, language)
    return Problem(
        problem_id=f"{language}/{row['name']}",
        prompt="",
        reference=join_files(exercise.reference),
        entry_point=next(iter(exercise.starter)),
        check=exercise.check,
        group=language,
        statement=task + closing.format(files=name_files(exercise.starter)),
        starter=join_files(exercise.starter),
        not_judged=exercise.not_judged,
    )


def name_files(paths: Iterable[str]) -> str:
    """The files to change as a request names them, without their folders."""
    return " ".join(PurePosixPath(path).name for path in paths)


def read_python(row: Mapping[str, Any]) -> Exercise:
    """An exercise in Python with its tests: all of them have to be run and to pass."""
    files: dict[str, str] = row["files"]
    path = next(name for name in row["test"] if name.endswith("_test.py"))
    (solution,), (example,) = row["solution"], row["example"]
    others = tuple(
        (name, text)
        for name, text in files.items()
        if name not in (path, solution) and not name.startswith(".")
    )
    check = build_unittest_check(
        drop_skipped(files[path]), files[example], PurePosixPath(solution).stem, path, others
    )
    return Exercise({solution: files[solution]}, {solution: files[example]}, check)


def drop_skipped(text: str) -> str:
    """A test file without the tests that it skips itself: nothing is to be counted for them."""
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            marks = [mark for mark in node.decorator_list if "unittest.skip" in ast.unparse(mark)]
            if marks:
                start, end = node.decorator_list[0].lineno - 1, node.end_lineno or node.lineno
                lines[start:end] = [""] * (end - start)
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one reply."""

    edited: Edited
    files: dict[str, str]
    """The exercise's files after it."""
    finding: str
    """What the linter says of well-formed edits; empty if nothing."""
    is_asked: bool
    """Whether something is asked back: there is something to ask, and a question left."""


RUNNER = """\
import contextlib, io, os, sys, unittest
folder, shown, pytest = os.getcwd(), io.StringIO(), None
if SHOWS_PYTEST:
    with contextlib.suppress(ImportError):
        import pytest
sys.path.insert(0, folder)
if pytest:
    with contextlib.redirect_stdout(shown):
        pytest.main(["-p", "no:cacheprovider"])
else:
    suite = unittest.defaultTestLoader.discover(".", pattern="*_test.py")
    unittest.TextTestRunner(stream=shown).run(suite)
sys.stdout.write(shown.getvalue().replace(folder, NAME))
"""
"""Shows a model what its tests say; the verdict comes from elsewhere. `NAME` is the exercise's, in
place of the folder, as aider shows it."""


@dataclass(frozen=True, slots=True)
class EditProtocol:
    """One edit format, in two tries. Implements `MultiTurnProtocol`."""

    edit_format: str
    failure: str
    """What stands below the test output in a second request; `{files}` as in the first."""
    max_lines: int | None
    """Lines of test output that the model is shown, from the start; all if None."""
    reported_by: str = ""
    """Who reports scores by it, in front of `source`."""
    wording: int = 1
    """1: the format is a turn of the system; 2: it stands below the task; 3: above task and files,
    without a turn of the system."""
    num_tries: int = NUM_TRIES
    stop: tuple[str, ...] = ()
    version: int = 3
    num_questions: int = 0
    """How often a model is asked back in one try."""

    @property
    def shows_pytest(self) -> bool:
        """Whether pytest's output is shown of Python where the sandbox has it: polyglot's chat."""
        return self.max_lines is None and self.num_questions > 0

    @property
    def num_replies(self) -> int:
        """Those to questions back included."""
        return self.num_tries * (1 + self.num_questions)

    @property
    def source(self) -> str:
        """Whose protocol it is, and what is known to differ."""
        return self.reported_by + (
            f"aider's benchmark in edit format {self.edit_format}, {self.num_tries} tries, "
            "temperature 0; the format is explained in this project's words"
        )

    @property
    def steps(self) -> str:
        """The steps by name, for the record."""
        shown = "all" if self.max_lines is None else f"the first {self.max_lines}"
        asked = f"; questions back {self.num_questions} a try" if self.num_questions else ""
        asked += "; pytest where the sandbox has it" if self.shows_pytest else ""
        return (
            f"version {self.version}; {type(self).__name__}, wording {self.wording}; format "
            f"{self.edit_format}; tries {self.num_tries}; test output {shown} lines{asked}"
        )

    def choose_stop(self, problem: Problem) -> tuple[str, ...]:
        """None: a reply ends by itself."""
        return self.stop

    def build_prompt(self, problem: Problem) -> Prompt:
        """Format, files and task."""
        return self.open_chat(problem, show_files(read_files(problem, problem.starter)))

    def open_chat(self, problem: Problem, shown: str) -> tuple[ChatMessage, ...]:
        """The first request, with the files as they are shown or with none."""
        rules = FORMATS[self.edit_format]
        if self.wording == 2:
            return (ChatMessage("user", f"{shown}\n{problem.statement}\n{rules}"),)
        if self.wording == 3:
            return (ChatMessage("user", f"{rules}\n{problem.statement}\n{shown}"),)
        text = f"{shown}\n{problem.statement}" if shown else problem.statement
        return ChatMessage("system", rules), ChatMessage("user", text)

    def ask_again(self, problem: Problem, tries: Sequence[Try]) -> Prompt:
        """The chat so far, the files as the replies left them, and what the tests or aider said."""
        messages = list(self.open_chat(problem, ""))
        failure = self.failure.format(files=name_files(read_files(problem, problem.starter)))
        steps = self.follow(problem, [one.text for one in tries])
        for number, (one, step) in enumerate(zip(tries, steps, strict=True), start=1):
            request = one.observation if step.is_asked else f"{one.observation}\n{failure}"
            if number == len(tries):
                request = f"{show_files(step.files)}\n{request}"
            messages += [ChatMessage("assistant", one.text), ChatMessage("user", request)]
        return tuple(messages)

    def follow(self, problem: Problem, texts: Sequence[str]) -> Iterator[Step]:
        """What became of each reply, one after the other."""
        files, num_asked = read_files(problem, problem.starter), 0
        for text in texts:
            edited = EDIT_FORMATS[self.edit_format](text, files)
            files = {path: edited.files[path] for path in files}
            finding, is_wrong = "", bool(edited.unread or edited.failed)
            if self.num_questions and not is_wrong:
                changed = {path: text for path, text in files.items() if path in edited.paths}
                finding = ask_about_python(problem.problem_id, changed)
            is_asked = (is_wrong or bool(finding)) and num_asked < self.num_questions
            num_asked = num_asked + 1 if is_asked else 0
            yield Step(edited, files, finding, is_asked)

    def find_question(self, problem: Problem, texts: Sequence[str]) -> str:
        """About malformed edits, else about what the linter found."""
        *_, last = self.follow(problem, texts)
        if not last.is_asked:
            return ""
        return last.finding or ask_about_edits(self.edit_format, last.edited, tuple(last.files))

    def count_tries(self, problem: Problem, texts: Sequence[str]) -> int:
        """Those after which nothing is asked back."""
        return sum(not step.is_asked for step in self.follow(problem, texts))

    def extract(self, problem: Problem, text: str) -> tuple[str, str]:
        """(the edited files as one program, rule) after one reply."""
        return self.extract_tries(problem, [text])

    def extract_tries(self, problem: Problem, texts: Sequence[str]) -> tuple[str, str]:
        """(the edited files as one program, rule).

        The rule says if any reply was malformed, or else if the last one edited nothing.
        """
        steps = list(self.follow(problem, texts))
        is_well_formed = not any(step.edited.faults for step in steps)
        rule = steps[-1].edited.rule if is_well_formed else f"{self.edit_format}_malformed"
        return join_files(steps[-1].files), rule

    def observe(
        self, sandbox: Sandbox, problem: Problem, program: str, limits: ResourceLimits
    ) -> str | None:
        """What the tests of a failed program print; None if the sandbox broke."""
        check = problem.check
        assert isinstance(check, ObjectCheck | SuiteCheck), "only what was judged is observed"
        if isinstance(check, SuiteCheck) and check.language != "python":
            result, _, text = run_project(sandbox, program, check, limits)
        else:
            path = f"{PurePosixPath(problem.entry_point).stem}_test.py"  # as Exercism names it
            tests = check.files if isinstance(check, SuiteCheck) else ((path, check.tests),)
            name = problem.problem_id.partition("/")[2]
            runner = f"NAME, SHOWS_PYTEST = {name!r}, {self.shows_pytest}\n{RUNNER}"
            files = {"main.py": runner, problem.entry_point: program, **dict(tests)}
            request = ProgramRequest("python", tuple(files.items()), ("",), limits)
            result = sandbox.run_program(request)
            text = result.runs[0].stdout if result.runs else ""
        if result.status is Status.INFRASTRUCTURE:
            return None
        if result.status in (Status.CPU_TIME, Status.WALL_TIME):
            return "Tests timed out!"
        return clean_output(text or result.stderr_tail or result.detail, self.max_lines)


def read_files(problem: Problem, program: str) -> dict[str, str]:
    """The files of a program: the starter's, an answer's, or the reference's."""
    check = problem.check
    if isinstance(check, SuiteCheck):
        return split_program(program, (check.program_path, *check.more_paths))
    return {problem.entry_point: program}


def show_files(files: Mapping[str, str]) -> str:
    """Files in a prompt: each with its name, and its text in a fence."""
    return "\n".join(
        f"{PurePosixPath(path).name}\n```\n{text}```\n" for path, text in files.items()
    )


def clean_output(text: str, max_lines: int | None) -> str:
    """Test output without times, as aider shows it; with a limit, as its first benchmark did."""
    if max_lines is None:
        text = re.sub(r"\bin \d+\.\d+s\b", "", text)
    else:
        text = re.sub(r"^Ran \d+ tests in \d+\.\d+s$", "", text, flags=re.MULTILINE)
        text = re.sub(r"^===+$", "====", text, flags=re.MULTILINE)
        text = re.sub(r"^---+$", "----", text, flags=re.MULTILINE)
    lines = text.splitlines()[:max_lines]
    return "\n".join(lines)[:MAX_SHOWN_CHARS]


def make_protocols(failure: str, max_lines: int | None) -> dict[str, EditProtocol]:
    """Three wordings for each edit format; `whole` first, as in the Seed reports."""
    return {
        name if wording == 1 else f"{name}/{wording}": EditProtocol(
            name, failure, max_lines, wording=wording
        )
        for name in FORMATS
        for wording in (1, 2, 3)
    }


@dataclass(frozen=True, slots=True)
class TryScores:
    """Aider's own figures, each in percent of the samples."""

    num_samples: int
    pass_rate_1: float
    """Passed at the first try."""
    pass_rate_2: float
    """Passed at the first or second try: the score of the leaderboard."""
    well_formed: float
    """Samples without any malformed edit."""


def score_tries(rows: Sequence[SampleRow]) -> TryScores:
    """Score the rows of one cell. Raises ZeroDivisionError if there are none."""
    passed = [row for row in rows if row.status == Status.PASSED]
    num_malformed = sum(row.extraction_rule.endswith("_malformed") for row in rows)
    percent = 100 / len(rows)
    return TryScores(
        num_samples=len(rows),
        pass_rate_1=percent * sum(row.completion.num_tries == 1 for row in passed),
        pass_rate_2=percent * len(passed),
        well_formed=100 - percent * num_malformed,
    )


def write_cheat(problem: Problem) -> str | None:
    """A program that leaves with exit code 0 as soon as the tests load it."""
    if problem.group == "python":
        return "import os\nos._exit(0)\n"
    return leave_early(problem.reference, problem.group)
