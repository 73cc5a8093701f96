"""Aider's questions back: its own words, its linter's findings, and that none is long."""

import ast
import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdb_harness.benchmarks import MultiTurnProtocol, Try
from sdb_harness.benchmarks.aider import RUNNER, EditProtocol, clean_output
from sdb_harness.benchmarks.aider_messages import LeaderboardProtocol
from sdb_harness.benchmarks.aider_questions import (
    MAX_ASKED_CHARS,
    ask_about_edits,
    ask_about_python,
    find_names,
    find_similar,
)
from sdb_harness.edit_formats import apply_diff
from sdb_harness.records import Problem
from sdb_sandboxes.types import SuiteCheck
from sdb_sandboxes.verifiers.projects import join_files

LEAP = (
    "def leap(year):\n    pass\n\n\ndef century(year):\n    return year // 100 + 1\n\n\n"
    "def decade(year):\n    return year // 10\n"
)
PYTHON = {"leap.py": LEAP}
CPP = {"leap.cpp": "int leap(int y) {\n    return 0;\n}\n", "leap.h": "int leap(int y);\n"}
UNDEFINED = (
    "class A:\n    def f(self, x):\n        if x:\n            a = 1\n            b = 2\n"
    "            c = 3\n            d = 4\n            e = 5\n            return math.sqrt(x)\n\n\n"
    "def leap(year) -> List[int]:\n    return calendar.isleap(year)\n"
)
RIGHT = LEAP.replace("    pass\n", "    return year % 4 == 0\n")


def make_problem(files: dict[str, str]) -> Problem:
    first, *others = files
    check = SuiteCheck((), ("a",), first, language="python", more_paths=tuple(others))
    return Problem(
        problem_id="python/leap",
        prompt="",
        reference="x",
        entry_point=first,
        check=check,
        group="python",
        statement="Is it a leap year?\n\n####\nModify leap.py\n",
        starter=join_files(files),
    )


def write_file(text: str, name: str = "leap.py") -> str:
    return f"Here:\n\n{name}\n```\n{text}```\n"


def write_block(search: str, replace: str, name: str = "leap.py") -> str:
    return f"{name}\n```python\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n```\n"


def write_hunk(lines: str, name: str = "leap.py") -> str:
    return f"```diff\n--- {name}\n+++ {name}\n@@ ... @@\n{lines}```\n"


def talk(
    edit_format: str, files: dict[str, str], replies: list[str]
) -> tuple[list[list[tuple[str, ...]]], list[int]]:
    """(what a model is asked before each reply, replies of each try); all tests fail."""
    problem = make_problem(files)
    protocol = LeaderboardProtocol(edit_format, "Fix the code in {files}.\n", 50)
    assert isinstance(protocol, MultiTurnProtocol)
    asked, made, per_try = [], list[Try](), [0]
    for reply in replies:
        prompt = protocol.ask_again(problem, made)
        assert isinstance(prompt, tuple)
        asked.append([tuple(turn) for turn in prompt])
        texts = [*(one.text for one in made), reply]
        question = protocol.find_question(problem, texts)
        per_try[-1] += 1
        made.append(Try(reply, question or "FAIL: test\n"))
        if not question:
            assert protocol.count_tries(problem, texts) == len(per_try)
            per_try.append(0)
    return asked, [number for number in per_try if number]


TALKS = {
    "an undefined name": (
        *("whole", PYTHON, [write_file(UNDEFINED), write_file(RIGHT), write_file(RIGHT)]),
        *([2, 1], "ccd194f2f6805c79"),
    ),
    "a fourth finding is not asked about": (
        "whole",
        PYTHON,
        [
            *(write_file(UNDEFINED), write_file(UNDEFINED + "x = y\n"), write_file(UNDEFINED)),
            *(write_file(UNDEFINED + "\n"), write_file(UNDEFINED), write_file(RIGHT)),
        ],
        *([4, 2], "cefac988f5250566"),
    ),
    "a block without a name": (
        "whole",
        CPP,
        [
            "```\nint x;\n```\n",
            write_file("int leap(int y) {\n    return 1;\n}\n", "leap.cpp"),
            write_file("int z;\n", "leap.h"),
        ],
        *([2, 1], "bd9486f017aa1dfe"),
    ),
    "similar lines": (
        "diff",
        PYTHON,
        [
            write_block(
                "def century(yeer):\n    return year // 100 + 1\n\n",
                "def century(year):\n    return 1\n",
            ),
            *(write_block("    pass\n", "    return 2\n"), "ok"),
        ],
        *([2, 1], "a4783201065f2a70"),
    ),
    "one of three blocks, another stands there already": (
        "diff",
        PYTHON,
        [
            write_block("def leap(y):\n", "def leap(year):\n")
            + write_block("absent\n", "x\n")
            + write_block("    pass\n", "    return 1\n"),
            *(write_block("    return 1\n", "    return 2\n"), "ok"),
        ],
        *([2, 1], "a781cc0941876137"),
    ),
    "a search without a name": (
        "diff",
        CPP,
        [
            "<<<<<<< SEARCH\n    return 0;\n=======\n    return 1;\n>>>>>>> REPLACE\n",
            *(write_block("    return 0;\n", "    return 2;\n", "leap.cpp"), "ok"),
        ],
        *([2, 1], "425c62c12a4ed1af"),
    ),
    "a search without an end": (
        "diff",
        PYTHON,
        [
            write_block("    pass\n", "    return 2\n")
            + "leap.py\n```\n<<<<<<< SEARCH\n    pass\n=======\n    return 1\n```\n",
            *(write_block("    pass\n", "    return 2\n"), "ok"),
        ],
        *([2, 1], "c91b7b9f426311da"),
    ),
    "hunks that no file holds": (
        "udiff",
        PYTHON,
        [
            write_hunk(
                "-absent\n+    return 1\n@@ ... @@\n def absent(year):\n"
                "-    return 5\n+    return 6\n"
            ),
            *(write_hunk("-    pass\n+    return 2\n"), "ok"),
        ],
        *([2, 1], "7eaf0cc26e91ed7b"),
    ),
    "a hunk without a name is neither applied nor asked about": (
        "udiff",
        PYTHON,
        [
            "```diff\n@@ ... @@\n-    pass\n+    return 1\n```\n",
            write_hunk("-    pass\n+    return 1\n"),
        ],
        *([1, 1], "5780ac825b3f1959"),
    ),
}


@pytest.mark.parametrize("name", TALKS)
def test_a_talk_goes_as_with_aider(name: str) -> None:
    """Hashes of all messages that aider 0.70.0 itself sent to a model that replied so."""
    edit_format, files, replies, per_try, digest = TALKS[name]
    asked, found = talk(edit_format, files, replies)
    assert found == per_try
    assert hashlib.sha256(repr(asked).encode()).hexdigest()[:16] == digest


class TestOutput:
    @pytest.mark.parametrize(("max_lines", "shows_pytest"), [(None, True), (50, False)])
    def test_polyglot_shows_pytest_s_where_there_is_one(
        self, max_lines: int | None, shows_pytest: bool, tmp_path: Path
    ) -> None:
        """The interpreter of these tests has pytest, and the program is ours."""
        protocol = LeaderboardProtocol("whole", "", max_lines)
        assert protocol.shows_pytest is shows_pytest
        assert ("pytest" in protocol.source) is shows_pytest
        assert not EditProtocol("whole", "", max_lines).shows_pytest
        tests = "import unittest, leap\nclass A(unittest.TestCase):\n    def test_b(self):\n"
        (tmp_path / "leap_test.py").write_text(f"{tests}        self.assertTrue(leap.leap(1))\n")
        (tmp_path / "leap.py").write_text(LEAP)
        (tmp_path / "main.py").write_text(f"NAME, SHOWS_PYTEST = 'leap', {shows_pytest}\n{RUNNER}")
        command = [sys.executable, "main.py"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        text = clean_output(result.stdout, max_lines)
        if shows_pytest:
            assert "\nrootdir: leap\n" in text
            assert text.endswith(
                "\nFAILED leap_test.py::A::test_b - AssertionError: None is not true\n"
                "============================== 1 failed  ==============================="
            )
        else:
            assert text.startswith("F\n====\nFAIL: test_b (leap_test.A.test_b)\n----\n")


class TestEdits:
    def test_what_failed_is_quoted_with_similar_lines(self) -> None:
        reply = write_block("def century(y):\n    return year // 100 + 1\n", "x\n")
        edited = apply_diff(reply + write_block("    pass\n", "    return 1\n"), PYTHON)
        text = ask_about_edits("diff", edited, ["leap.py"])
        assert text.startswith("# 1 SEARCH/REPLACE block failed to match!\n")
        assert "<<<<<<< SEARCH\ndef century(y):\n    return year // 100 + 1\n=======\nx\n" in text
        assert "Did you mean to match some of these actual lines from leap.py?" not in text
        assert "# The other 1 SEARCH/REPLACE block were applied successfully.\n" in text

    def test_similar_lines_are_the_first_of_the_best(self) -> None:
        lines = [*"abcdefghij", *"abxde"]
        assert find_similar(["a", "b", "x", "d"], lines) == "a\nb\nx\nd"
        assert find_similar(["a", "b", "y", "d"], lines) == "a\nb\nc\nd"
        assert find_similar(["q", "g", "h", "i"], lines) == "\n".join("abcdefghijabxde"[:14])
        assert find_similar(["a", "q", "r"], lines) == ""
        assert find_similar([], lines) == ""
        assert find_similar(["a"] * 99, lines) == ""

    def test_no_question_is_long_or_takes_long(self) -> None:
        long_line = {"leap.py": "a" * 300_000 + "\n"}
        many = "".join(write_block(f"{'b' * 100}{number}\n", "a\n") for number in range(500))
        similar = {"leap.py": "x\ny\n" * 2000}
        blocks = "".join(write_block("x\n" * 150 + f"{n}\n", "a\n") for n in range(200))
        started = time.process_time()
        for files, reply in ((long_line, many), (similar, blocks)):
            edited = apply_diff(reply, files)
            assert len(ask_about_edits("diff", edited, ["leap.py"])) <= MAX_ASKED_CHARS
        unread = apply_diff("x\n" * 99_999 + "<<<<<<< SEARCH\n", PYTHON)
        text = ask_about_edits("diff", unread, ["leap.py"])
        assert len(text) < MAX_ASKED_CHARS + 200
        assert "^^^ " in text
        assert time.process_time() - started < 30.0


class TestLinter:
    def test_an_undefined_name_is_shown_where_it_stands(self) -> None:
        assert ask_about_python("python/leap", {"leap.py": UNDEFINED}) == (
            "\n# Fix any errors below, if possible.\n\n"
            "## Running: /usr/bin/python3 -m flake8 "
            "--select=E9,F821,F823,F831,F406,F407,F701,F702,F704,F706 --show-source --isolated "
            "leap.py\n\n"
            "leap.py:9:20: F821 undefined name 'math'\n            return math.sqrt(x)\n"
            "                   ^\n"
            "leap.py:12:19: F821 undefined name 'List'\ndef leap(year) -> List[int]:\n"
            "                  ^\n"
            "leap.py:13:12: F821 undefined name 'calendar'\n    return calendar.isleap(year)\n"
            "           ^\n\n"
            "## See relevant lines below marked with █.\n\nleap.py:\n"
            "...⋮...\n  2│    def f(self, x):\n  3│        if x:\n  4│            a = 1\n"
            "  5│            b = 2\n  6│            c = 3\n  7│            d = 4\n"
            "  8│            e = 5\n  9█            return math.sqrt(x)\n 10│\n 11│\n"
            " 12█def leap(year) -> List[int]:\n 13█    return calendar.isleap(year)\n\n"
        )

    def test_a_name_bound_below_its_use_is_found_after_undefined_ones(self) -> None:
        source = "x = 1\ndef f():\n    print(x)\n    x = 2\n    return y\n"
        assert find_names(ast.parse(source)) == [
            (5, 12, "F821 undefined name 'y'"),
            (
                *(3, 11),
                "F823 local variable 'x' defined in enclosing scope on line 1 "
                "referenced before assignment",
            ),
        ]

    def test_an_error_of_syntax_is_told_twice(self) -> None:
        source = "def leap(year):\n    if year:\n        return 1\n      return 2\n"
        text = ask_about_python("python/leap", {"leap.py": source})
        said = "unindent does not match any outer indentation level"
        assert 'File "/benchmarks/python/leap/leap.py", line 4\n' in text
        assert f"\nIndentationError: {said}\n\n## Running: " in text
        assert (
            f"\nleap.py:4:16: E999 IndentationError: {said}\n\n## See relevant line below" in text
        )
        assert text.endswith("\n  4█      return 2\n\n")

    def test_other_languages_and_right_files_pass(self) -> None:
        files = {"leap.py": RIGHT, "leap.cpp": "int f( {", "a.txt": "(", "warns.py": "'\\d'\n"}
        assert ask_about_python("python/leap", files) == ""

    @pytest.mark.parametrize(
        "source",
        [
            f"f({','.join(f'a{n}' for n in range(20_000))})\n",
            "".join(f"a{n}\n" for n in range(20_000)),
            "+".join(["a"] * 50_000) + "\n",
            "(" * 50_000,
            "x = f'''" + "\n{a}" * 20_000 + "'''\n",
            "x = '\udcff' + a\n",
            "x\0y",
            "x = 1\r\ry = a\r\nz = b\x1c\u2028\n",
            "",
        ],
    )
    def test_no_file_breaks_it_or_makes_it_long(self, source: str) -> None:
        started = time.process_time()
        assert len(ask_about_python("python/leap", {"leap.py": source})) <= MAX_ASKED_CHARS
        assert time.process_time() - started < 20.0
