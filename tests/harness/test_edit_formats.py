"""Aider's edit formats: what they promise, what is forgiven, and that no reply breaks them."""

import difflib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdb_harness import edit_formats
from sdb_harness.edit_formats import (
    EDIT_FORMATS,
    MAX_CHARS,
    Edited,
    apply_diff,
    apply_udiff,
    apply_whole,
    is_safe_path,
    replace_lines,
    split_lines,
)

FILES = {"leap.py": "def leap(year):\n    pass\n"}
TWO = {"src/a.h": "int a;\n", "src/a.cpp": "int a = 1;\nint b = 2;\n"}
NEW = "def leap(year):\n    return year % 4 == 0\n"


def read(edited: Edited) -> tuple[dict[str, str], str, tuple[str, ...]]:
    return edited.files, edited.rule, edited.faults


class TestWhole:
    @pytest.mark.parametrize(
        "name",
        ["leap.py", "**leap.py**", "`leap.py`", "### leap.py", "leap.py:", "code/leap.py", ""],
    )
    def test_the_name_stands_above_the_fence(self, name: str) -> None:
        reply = f"Here it is.\n\n{name}\n```python\n{NEW}```\nDone.\n"
        assert read(apply_whole(reply, FILES)) == ({"leap.py": NEW}, "whole", ())

    def test_the_last_fence_may_be_open(self) -> None:
        assert apply_whole(f"leap.py\n```\n{NEW}", FILES).files == {"leap.py": NEW}

    def test_a_file_named_in_prose_is_taken_where_the_line_above_is_blank(self) -> None:
        reply = "I changed `src/a.h`:\n\n```\nint c;\n```\n"
        assert apply_whole(reply, TWO).files == {**TWO, "src/a.h": "int c;\n"}

    def test_several_files(self) -> None:
        reply = "a.h\n```\nint x;\n```\n\nsrc/a.cpp\n```\nint x = 3;\n```\n"
        assert apply_whole(reply, TWO).files == {"src/a.h": "int x;\n", "src/a.cpp": "int x = 3;\n"}

    def test_a_surely_named_block_beats_a_guessed_one(self) -> None:
        reply = f"leap.py\n```\n{NEW}```\n\n```\nleap(1996)\n```\n"
        assert apply_whole(reply, FILES).files == {"leap.py": NEW}

    def test_of_two_blocks_for_a_file_the_first_counts(self) -> None:
        reply = f"leap.py\n```\n{NEW}```\n\nleap.py\n```\nleap(1996)\n```\n"
        assert apply_whole(reply, FILES).files == {"leap.py": NEW}

    def test_a_block_without_a_name_spoils_the_reply(self) -> None:
        reply = "a.h\n```\nint x;\n```\n\n```\nint y;\n```\n"
        fault = "a block without a file's name"
        assert read(apply_whole(reply, TWO)) == (TWO, "whole", (fault,))

    def test_faults_are_named(self) -> None:
        assert read(apply_whole("I cannot.", FILES)) == (FILES, "whole_no_edit", ())
        assert apply_whole("```\nx\n```", TWO).faults == ("a block without a file's name",)
        escaped = apply_whole("../../etc/passwd\n```\nx\n```", TWO)
        assert escaped.files == TWO
        assert escaped.faults == ("no file can be named '../../etc/passwd'",)


def make_block(search: str, replace: str, name: str = "leap.py") -> str:
    return f"{name}\n```python\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n```\n"


class TestDiff:
    def test_a_block_replaces_equal_lines(self) -> None:
        reply = "I will.\n\n" + make_block("    pass\n", "    return year % 4 == 0\n")
        assert read(apply_diff(reply, FILES)) == ({"leap.py": NEW}, "diff", ())

    def test_blocks_build_on_each_other_and_inherit_the_name(self) -> None:
        reply = make_block("int a = 1;\n", "int a = 3;\n", "src/a.cpp")
        reply += "<<<<<<< SEARCH\nint a = 3;\n=======\n>>>>>>> REPLACE\n"
        assert apply_diff(reply, TWO).files["src/a.cpp"] == "int b = 2;\n"

    def test_less_indented_lines_are_found(self) -> None:
        reply = make_block("pass\n", "if year:\n    return 1\n")
        assert apply_diff(reply, FILES).files["leap.py"] == (
            "def leap(year):\n    if year:\n        return 1\n"
        )

    def test_an_empty_search_makes_or_extends_a_file(self) -> None:
        edited = apply_diff(make_block("", "int c;\n", "src/c.h"), TWO)
        assert edited.files["src/c.h"] == "int c;\n"
        assert apply_diff(make_block("", "x\n"), FILES).files["leap.py"].endswith("pass\nx\n")

    @pytest.mark.parametrize(
        ("reply", "fault"),
        [
            ("<<<<<<< SEARCH\na\n=======\n>>>>>>> REPLACE", "block 1: no file's name above it"),
            (make_block("absent\n", "x\n"), "block 1: leap.py does not hold the searched lines"),
            ("leap.py\n<<<<<<< SEARCH\n    pass\n", "block 1 has no end"),
            ("leap.py\n<<<<<<< SEARCH\n    pass\n=======\nx\n", "block 1 has no end"),
            (make_block("a\n", "b\n", "none.py"), "block 1: no file 'none.py'"),
            (make_block("", "b\n", "../x.py"), "block 1: no file can be named '../x.py'"),
        ],
    )
    def test_faults_are_named_and_leave_the_files(self, reply: str, fault: str) -> None:
        assert read(apply_diff(reply, FILES)) == (FILES, "diff", (fault,))

    @pytest.mark.parametrize(
        ("search", "replace", "wanted"),
        [
            ("int b = 2;\n", "int c;\n", "int a = 1;\nint c;\n"),
            ("    int a = 1;\n", "    int c;\n", "int c;\nint b = 2;\n"),  # indented more
            ("\nint a = 1;\nint b = 2;\n", "int c;\n", "int c;\n"),  # a blank line in front
            ("int a = 1;\n...\n", "int c;\n...\n", "int c;\nint b = 2;\n"),  # elided
            ("a.cpp\n```\nint a = 1;\n```\n", "int c;\n", "int c;\nint b = 2;\n"),  # wrapped
        ],
    )
    def test_what_aider_forgives(self, search: str, replace: str, wanted: str) -> None:
        assert read(apply_diff(make_block(search, replace, "a.cpp"), TWO)) == (
            {**TWO, "src/a.cpp": wanted},
            "diff",
            (),
        )

    def test_names_and_marks_as_aider_reads_them(self) -> None:
        wanted = {**TWO, "src/a.cpp": "int c;\nint b = 2;\n"}
        block = "<<<<<<< SEARCH\nint a = 1;\n=======\nint c;\n>>>>>>> REPLACE\n"
        for reply in (
            f"a.cp\n```cpp\n{block}```\n",  # nearly a name
            f"This changes it:\n{block}",  # no name: the other files are searched
            f"a.cpp\n  {block.replace('>>>>>>> REPLACE', '=======')}",
        ):
            assert read(apply_diff(reply, TWO)) == (wanted, "diff", ()), reply
        commands = f"```bash\ncd a\ncat <<X\n{block}```\n"
        assert read(apply_diff(commands, TWO)) == (TWO, "diff_no_edit", ())

    def test_a_block_that_cannot_be_read_spoils_the_reply(self) -> None:
        reply = make_block("    pass\n", "    return 1\n") + "leap.py\n<<<<<<< SEARCH\nx\n"
        assert read(apply_diff(reply, FILES)) == (FILES, "diff", ("block 2 has no end",))

    def test_what_can_be_applied_is(self) -> None:
        reply = make_block("absent\n", "x\n") + make_block("    pass\n", "    return 1\n")
        edited = apply_diff(reply, FILES)
        assert edited.files["leap.py"].endswith("    return 1\n")
        assert len(edited.faults) == 1


class TestUdiff:
    def test_hunks_are_found_without_line_numbers(self) -> None:
        reply = (
            "```diff\n--- leap.py\n+++ leap.py\n@@ ... @@\n def leap(year):\n-    pass\n"
            "+    return year % 4 == 0\n```\n"
        )
        assert read(apply_udiff(reply, FILES)) == ({"leap.py": NEW}, "udiff", ())

    def test_two_files_and_an_open_fence(self) -> None:
        reply = (
            "```diff\n--- a/src/a.h\n+++ b/src/a.h\n@@ @@\n-int a;\n+int z;\n"
            "--- src/a.cpp\n+++ src/a.cpp\n@@ -1 +1 @@\n int a = 1;\n-int b = 2;\n"
        )
        assert read(apply_udiff(reply, TWO)) == (
            {"src/a.h": "int z;\n", "src/a.cpp": "int a = 1;\n"},
            "udiff",
            (),
        )

    def test_faults_are_named(self) -> None:
        assert read(apply_udiff("no", FILES)) == (FILES, "udiff_no_edit", ())
        missing = "```diff\n--- leap.py\n+++ leap.py\n@@ @@\n-absent\n+x\n```\n"
        assert apply_udiff(missing, FILES).faults == (
            "hunk 1: leap.py does not hold the searched lines",
        )

    def test_what_aider_forgives(self) -> None:
        head = "```diff\n--- leap.py\n+++ leap.py\n@@ ... @@\n"
        wrong_context = f"{head} def leap(y):\n-    pass\n+    return 1\n```\n"
        edited = apply_udiff(wrong_context, FILES)
        assert read(edited) == ({"leap.py": "def leap(year):\n    return 1\n"}, "udiff", ())
        nothing = f"{head} def leap(year):\n     pass\n```\n"
        assert read(apply_udiff(nothing, FILES)) == (FILES, "udiff_no_edit", ())
        twice = {"leap.py": "    return False\nx\n    return False\n"}
        everywhere = f"{head}-    return False\n+    return True\n```\n"
        assert apply_udiff(everywhere, twice).files["leap.py"].count("True") == 2
        too_little = f"{head}-x\n+y\n```\n"
        assert apply_udiff(too_little, {"leap.py": "x\nx\n"}).faults


TEXT = st.text(st.sampled_from(["a", "b", " ", "\n", "`", "é"]), max_size=40)
PIECES = st.lists(
    st.sampled_from(
        [
            *("leap.py\n", "```\n", "```diff\n", "```python\n", "<<<<<<< SEARCH\n", "=======\n"),
            *(">>>>>>> REPLACE\n", "--- leap.py\n", "+++ leap.py\n", "@@ @@\n", "-    pass\n"),
            *(
                "+x\n",
                "def leap(year):\n",
                "    pass\n",
                "\n",
                "../up\n",
                "`leap.py` ",
                "\x00\udcff",
            ),
        ]
    )
    | TEXT,
    max_size=25,
).map("".join)


@pytest.mark.parametrize("name", EDIT_FORMATS)
@given(reply=PIECES)
def test_no_reply_breaks_a_format(name: str, reply: str) -> None:
    edited = EDIT_FORMATS[name](reply, FILES)
    assert set(FILES) <= set(edited.files)
    assert all(is_safe_path(path) for path in edited.files)
    assert all("\n" not in fault for fault in edited.faults)
    if edited.files != FILES and name == "whole":
        assert "```" in reply


LINES = st.lists(st.sampled_from(["a\n", "b\n", "  a\n", "c\n", "\n"]), max_size=12)


@given(old=LINES, new=LINES)
def test_a_diff_made_by_difflib_gives_the_new_file(old: list[str], new: list[str]) -> None:
    """One hunk with the whole file as context, so that its place is certain."""
    if old == new or not "".join(old).strip() or not "".join(new).strip():
        return
    hunk = list(difflib.unified_diff(old, new, n=100))[3:]
    reply = "```diff\n--- leap.py\n+++ leap.py\n@@ @@\n" + "".join(hunk) + "```\n"
    assert apply_udiff(reply, {"leap.py": "".join(old)}).files == {"leap.py": "".join(new)}


@given(old=LINES.filter(bool), new=LINES, start=st.integers(0, 11), length=st.integers(1, 5))
def test_a_run_of_lines_is_replaced_where_it_first_stands(
    old: list[str], new: list[str], start: int, length: int
) -> None:
    search = old[start : start + length]
    if not "".join(search).strip() or not new:
        return
    text = "".join(old)
    first = next(i for i in range(len(old)) if old[i : i + len(search)] == search)
    wanted = "".join(old[:first] + new + old[first + len(search) :])
    assert replace_lines(text, "".join(search), "".join(new)) == wanted


def test_lines_are_split_at_newlines_only() -> None:
    assert split_lines("a\x0cb\u2028c\nd") == ["a\x0cb\u2028c\n", "d"]


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("whole", "```\n" * 200_000),
        ("diff", "<<<<<<< SEARCH\n" + "a\n" * 200_000 + "b\n=======\n>>>>>>> REPLACE\n"),
        ("udiff", "```diff\n--- x\n+++ x\n" + "@@ @@\n-a\n" * 20_000),
    ],
)
def test_time_is_linear_in_the_reply(name: str, reply: str) -> None:
    files = {"x": "a\n" * 1000}
    started = time.process_time()
    EDIT_FORMATS[name](reply, files)
    assert time.process_time() - started < 20.0  # quadratic in the lines would take minutes


def write_block(search: str, replace: str) -> str:
    return f"leap.py\n```\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n```\n"


DOUBLING = "".join(f"@@ @@\n def leap(year):\n+a{i}\n+def leap(year):\n" for i in range(60))


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("udiff", f"```diff\n--- leap.py\n+++ leap.py\n{DOUBLING}```\n"),
        ("diff", write_block("", " " * 9000 + "x\n") + write_block("x\n", "y\n" * 9000)),
    ],
)
def test_a_short_reply_makes_no_huge_file(name: str, reply: str) -> None:
    edited = EDIT_FORMATS[name](reply, FILES)
    assert len(edited.files["leap.py"]) <= MAX_CHARS
    assert edited.faults


def test_edits_that_search_too_much_are_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_formats, "MAX_SEARCHED", 3 * len(FILES["leap.py"]))
    blocks = "".join(write_block(f"nothing {i}\n", "a\n") for i in range(9))
    hunks = "".join(f"@@ @@\n-nothing {i}\n+a\n" for i in range(9))
    for edited in (
        apply_diff(blocks, FILES),
        apply_udiff(f"```diff\n--- leap.py\n+++ leap.py\n{hunks}```\n", FILES),
    ):
        assert len(edited.faults) == 4
        assert "too much to search" in edited.faults[-1]
