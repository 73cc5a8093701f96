"""Extraction rules: known answers, hostile text, and the laws each function promises."""

import random
import time

import pytest

from sdb_harness.extract import (
    Extract,
    FencedBlock,
    cut_at_stops,
    find_fenced_blocks,
    keep_function_body,
    take_fenced_block,
)

_PIECES = (
    *(
        "```",
        "```python\n",
        "~~~",
        "\n",
        "\n\n",
        " ",
        "    ",
        "\t",
        "\r\n",
        "\x0c",
        "\u2028",
        "é",
        "\0",
    ),
    *('"""', "'''", '"', "'", "\\", "\\\n", "(", ")", "[", "]", "{", "}", "#", "# note\n", '\\"'),
    *("def f(x):\n", "    return x\n", "\nclass", "\ndef", "\n#", "\nif", "\nprint", "x = 1", "`"),
)
_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


def make_random_text(seed: int) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice(_PIECES) for _ in range(rng.randrange(40)))


class TestCutAtStops:
    def test_cuts_at_the_earliest_stop_whatever_the_order(self) -> None:
        text = "    return 1\nif True:\n    pass\ndef g(): ...\n"
        assert cut_at_stops(text, _STOPS) == Extract("    return 1", "stop")
        assert cut_at_stops(text, _STOPS[::-1]) == Extract("    return 1", "stop")

    def test_leaves_text_without_a_stop(self) -> None:
        assert cut_at_stops("    return 1\n", _STOPS) == Extract("    return 1\n", "whole")
        assert cut_at_stops("anything", ()) == Extract("anything", "whole")
        assert cut_at_stops("anything", ("",)) == Extract("anything", "whole")

    def test_random_text_is_cut_to_a_prefix_without_stops_and_stays(self) -> None:
        for seed in range(300):
            text = make_random_text(seed)
            code = cut_at_stops(text, _STOPS).code
            assert text.startswith(code)
            assert not any(stop in code for stop in _STOPS)
            assert cut_at_stops(code, _STOPS) == Extract(code, "whole")


class TestFencedBlocks:
    def test_finds_language_code_and_closing(self) -> None:
        text = "Sure:\n```Python\nx = 1\n```\nand\n~~~\ny\n~~~\nlast\n```py\nz = 3"
        assert find_fenced_blocks(text) == [
            FencedBlock("python", "x = 1\n", True),
            FencedBlock("", "y\n", True),
            FencedBlock("py", "z = 3", False),
        ]

    def test_a_longer_fence_holds_shorter_ones(self) -> None:
        text = '````python\ns = """\n```\n"""\n````\n'
        assert find_fenced_blocks(text) == [FencedBlock("python", 's = """\n```\n"""\n', True)]

    def test_a_fence_inside_a_list_item_loses_its_indentation(self) -> None:
        text = "1. Code:\n   ```python\n   def f():\n       return 1\n   ```\n"
        assert find_fenced_blocks(text)[0].code == "def f():\n    return 1\n"

    def test_inline_backticks_and_windows_line_ends(self) -> None:
        assert find_fenced_blocks("``` not ``` a fence\n") == []
        assert find_fenced_blocks("```python\r\nx\r\n```\r\n") == [
            FencedBlock("python", "x\r\n", True)
        ]

    def test_chooses_python_before_bare_and_bare_before_other_languages(self) -> None:
        bare, shell = "```\nbare\n```\n", "```bash\nls\n```\n"
        python = "```python\na = 1\n```\n```py\nlonger = 22\n```\n```python\nb\n```\n"
        assert take_fenced_block(shell + bare + python) == ("a = 1\n", "first_python_block")
        assert take_fenced_block(bare + python, "last") == ("b\n", "last_python_block")
        assert take_fenced_block(python, "longest") == ("longer = 22\n", "longest_python_block")
        assert take_fenced_block(shell + bare) == ("bare\n", "first_bare_block")
        assert take_fenced_block(shell) == (shell, "no_block")
        assert take_fenced_block("```python\ncut of") == ("cut of", "first_python_block_unclosed")

    def test_random_text_never_raises_and_blocks_come_from_it(self) -> None:
        for seed in range(300):
            text = make_random_text(seed)
            for block in find_fenced_blocks(text):
                assert all(line in text for line in block.code.split("\n"))
            for which in ("first", "last", "longest"):
                code, rule = take_fenced_block(text, which)
                assert rule.startswith((which, "no_block"))
                if not find_fenced_blocks(code):
                    assert take_fenced_block(code, which) == (code, "no_block")


class TestKeepFunctionBody:
    def test_ends_before_code_at_column_zero(self) -> None:
        body = "    if x:\n        return 1\n\n    return 2\n"
        assert keep_function_body(body) == (body, "whole")
        for tail in ("print(f(1))\n", "\n\ndef g():\n    pass\n", "\n# usage\nf(1)", "\n\n", "```"):
            assert keep_function_body(body + tail) == (body, "function_body")

    def test_a_comment_at_column_zero_inside_the_body_is_kept(self) -> None:
        body = "    x = 1\n# odd, but legal\n    return x\n"
        assert keep_function_body(body + "# end\n") == (body, "function_body")

    @pytest.mark.parametrize(
        "body",
        [
            '    s = """\nline at column 0\n\\""" still inside\n"""\n    return s\n',
            "    x = [\n1,\n(2,\n)]\n    return x\n",
            "    x = 1 + \\\n2\n    return x\n",
            "    return '# no comment' + \"(\" # )\n",
            "    s = '''it's\nfine'''\n    return s\n",
            "    s = 'carried \\\nover'\n    return s\n",
        ],
    )
    def test_strings_brackets_and_backslashes_carry_over_lines(self, body: str) -> None:
        compile(f"def f():\n{body}", "body", "exec")
        assert keep_function_body(body + "f()\n") == (body, "function_body")

    def test_text_that_does_not_continue_the_function_leaves_nothing(self) -> None:
        assert keep_function_body("Here is the code:\n    return 1\n").code == ""
        assert keep_function_body("") == ("", "whole")

    def test_random_text_gives_a_prefix_and_stays(self) -> None:
        for seed in range(500):
            text = make_random_text(seed)
            body = keep_function_body(text).code
            assert text.startswith(body)
            assert keep_function_body(body) == (body, "whole")


@pytest.mark.parametrize(
    "unit", ['\\"', '"', "'''", "```a", "(", "\\", " ", "\n", "```\n", "`", "#", "    x\n", "\t`"]
)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    """A megabyte each: linear code needs well under a second, quadratic code minutes."""
    text = unit * (1_000_000 // len(unit))
    for hostile in (text, f"```{text}`\n", f"    x = '{text}"):
        started = time.process_time()
        keep_function_body(hostile)
        take_fenced_block(hostile, "longest")
        cut_at_stops(hostile, _STOPS)
        assert time.process_time() - started < 10
