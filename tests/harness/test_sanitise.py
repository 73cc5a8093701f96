"""EvalPlus's sanitiser: known answers, equality with its cubic definition, hostile texts."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from sdb_harness.sanitise import (
    find_longest_run,
    is_python,
    keep_reachable,
    sanitise,
    sanitise_for_bigcodebench,
    search_longest_run,
)

_LINES = (
    *(
        "def f(x):",
        "    return x",
        "    x = 1",
        "        w",
        "\tz",
        "",
        "   ",
        "# note",
        "  # note",
    ),
    *("Here is (a note:", "Sure! It's:", "```python", "```", "import os", "x = [1,", "  2]"),
    *("@dec", "class A:", "else:", "if x:", "  pass", "try:", "except E:", "for i in y: z", "'"),
    *("    return (", "    )", "two words", "async def g(): pass", "finally:", "x = 1; y = 2"),
)
texts = st.lists(st.sampled_from(_LINES), max_size=14).map("\n".join)


class TestFindLongestRun:
    def test_prose_around_code_is_left_out(self) -> None:
        code = "import os\n\ndef f(x):\n    return x\n"
        text = f"Sure! It's (see below:\n\n{code}\nThis, of course, works.\nIsn't it?"
        assert find_longest_run(text).strip() == code.strip()

    def test_an_answer_cut_short_keeps_what_is_whole(self) -> None:
        text = "def f(x):\n    return x\n\ndef g(x):\n    y = x\n    return h(x,"
        assert find_longest_run(text) == "def f(x):\n    return x\n\ndef g(x):\n    y = x"

    def test_without_a_run_of_two_lines_the_first_line_is_left(self) -> None:
        assert find_longest_run("no code\nx = 1\nat all!") == "no code"
        assert find_longest_run("") == ""

    @settings(max_examples=200, deadline=None)
    @given(texts)
    def test_equals_trying_every_pair_of_lines(self, text: str) -> None:
        assert find_longest_run(text).strip() == search_longest_run(text).strip()

    @settings(max_examples=200, deadline=None)
    @given(st.text(st.sampled_from("ab=:\n\t '\"()[]{}#\\@.\x00\ud800é"), max_size=60))
    def test_any_text_gives_one_of_its_runs(self, text: str) -> None:
        run = find_longest_run(text)
        assert run in text
        assert is_python(run) or run == text.split("\n")[0]

    def test_hostile_texts_take_linear_time(self) -> None:
        for piece in ("(\n", '"""\n', "@a\n", "def f(:\n", "[(\n\n", "-", "not ", "a.", "'\n"):
            times = []
            for size in (20_000, 80_000):
                started = time.process_time()
                find_longest_run(piece * (size // len(piece)))
                times.append(time.process_time() - started)
            assert times[1] < 16 * times[0] + 2.0, piece  # a square would be 16 times


class TestKeepReachable:
    def test_keeps_imports_and_what_the_entry_point_reaches(self) -> None:
        source = (
            "import os\nfrom math import pi\nLIMIT = 3\nOTHER = 4\n\n"
            "def helper(x):\n    return x + LIMIT\n\ndef unused():\n    return 0\n\n"
            "def f(x):\n    return helper(x)\n\nprint(f(1))\nif True:\n    f(2)\n"
        )
        assert keep_reachable(source, "f") == (
            "import os\nfrom math import pi\nLIMIT = 3\n"
            "def helper(x):\n    return x + LIMIT\ndef f(x):\n    return helper(x)"
        )

    def test_the_first_definition_of_a_name_wins(self) -> None:
        source = "def f():\n    return 1\ndef f():\n    return 2\nf = 3\n"
        assert keep_reachable(source, "f") == "def f():\n    return 1"

    def test_drops_what_upstream_drops(self) -> None:
        source = (
            "def g():\n    pass\n@cache\ndef h():\n    return 1\ndef f():\n    return g() + h()\n"
        )
        assert keep_reachable(source, "f") == "def f():\n    return g() + h()"

    def test_columns_are_counted_in_bytes(self) -> None:
        source = "é = 'ü'; f = é; x = 'ö'\n"
        assert keep_reachable(source, "f") == "é = 'ü'\nf = é"


class TestSanitise:
    def test_a_chat_answer_becomes_its_function(self) -> None:
        answer = "Sure:\n```python\ndef f(x):\n    return x\n```\nIt returns x."
        assert sanitise(answer, "f") == "def f(x):\n    return x"

    def test_without_the_entry_point_the_whole_run_is_left(self) -> None:
        assert sanitise("def g():\n    return 1\ng()\n", "f") == "def g():\n    return 1\ng()"

    def test_invalid_escapes_are_no_matter(self) -> None:
        assert "\\d" in sanitise("def f(x):\n    return '\\d'\n", "f")

    @settings(max_examples=200, deadline=None)
    @given(texts)
    def test_again_changes_nothing_that_matters(self, text: str) -> None:
        once = sanitise(text, "f")
        assert sanitise(once, "f").strip() == once.strip()


class TestBigCodeBench:
    """What `bigcodebench.sanitize` 0.2.5 does otherwise than EvalPlus."""

    def test_functions_without_return_are_kept(self) -> None:
        text = "import os\n\ndef task_func(x):\n    os.remove(x)\n"
        assert sanitise_for_bigcodebench(text, "task_func") == text.replace("\n\n", "\n").strip()
        assert sanitise(text, "task_func") == "import os"

    def test_uses_at_the_end_are_dropped(self) -> None:
        code = "def task_func(x):\n    y = x\n    return y"
        uses = "task_func = wrap(task_func)\nother = 1"
        assert sanitise_for_bigcodebench(f"{code}\n{uses}\n", "task_func") == code
        assert (
            sanitise_for_bigcodebench("x = 1\ndef task_func(): return x\n", "task_func") == "x = 1"
        )

    def test_any_text_gives_some_text(self) -> None:
        assert sanitise_for_bigcodebench("\n\nno code\nat all!", "task_func") == ""
        assert sanitise_for_bigcodebench("", "task_func") == ""
