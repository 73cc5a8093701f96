"""From a model's text to source code: small pure functions that benchmark protocols compose.

Place in the flow: `Completion.text` -> **extract** -> program -> sandbox. Every function takes text
and returns an `Extract`: the code and the name of the rule that found it. The name is stored in
the row, so a reader can count how many answers needed which rule. Any text is accepted, nothing
is executed or parsed with `ast`, and the time is linear in the text.

Source: the stop-string cut of openai/human-eval and bigcode-evaluation-harness, the fenced-block
search of EvalPlus, inspect_evals and SandboxFusion, and the fence grammar of CommonMark 0.31
section 4.5.

EvalPlus's sanitiser, which does parse, has a file of its own: `sanitise.py`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Extract(NamedTuple):
    """Source code and the name of the rule that found it."""

    code: str
    rule: str


@dataclass(frozen=True, slots=True)
class FencedBlock:
    """One Markdown code block."""

    language: str
    """First word of the info string in lower case; empty for a bare fence."""
    code: str
    """The lines between the fences, each with its newline, without the fence's indentation."""
    is_closed: bool
    """False if the text ended before the closing fence, as after a length stop."""


def cut_at_stops(text: str, stops: Sequence[str]) -> Extract:
    """Keep what stands before the earliest stop string.

    Cutting again with the same stops changes nothing.

    Args:
        text: The completion.
        stops: Stop strings; an empty one is ignored, as it would stop before the first token.

    Returns:
        Rule `stop` if something was cut, else `whole`.
    """
    positions = [text.find(stop) for stop in stops if stop]
    cut = min((position for position in positions if position >= 0), default=None)
    return Extract(text, "whole") if cut is None else Extract(text[:cut], "stop")


_LINE = re.compile(r"[^\n]*\n|[^\n]+")  # str.splitlines would also split at form feeds and U+2028
_OPENING_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^\s`]*)")
_PYTHON_NAMES = frozenset({"python", "python3", "py", "py3"})


def find_fenced_blocks(text: str) -> list[FencedBlock]:
    """Find the Markdown code blocks of a text, in order; a fence left open ends with the text."""
    blocks: list[FencedBlock] = []
    indent, fence, language, code_lines = "", "", "", list[str]()
    for line in _LINE.findall(text):
        if fence:
            mark = line.strip()
            if len(mark) >= len(fence) and mark == fence[0] * len(mark):
                blocks.append(FencedBlock(language, "".join(code_lines), is_closed=True))
                fence = ""
            else:
                code_lines.append(line.removeprefix(indent))
        elif (opening := _OPENING_FENCE.match(line)) and "`" not in line[opening.end() :]:
            indent, fence, language = opening[1], opening[2], opening[3].lower()
            code_lines = []
    if fence:
        blocks.append(FencedBlock(language, "".join(code_lines), is_closed=False))
    return blocks


def take_fenced_block(text: str, which: Literal["first", "last", "longest"] = "first") -> Extract:
    """Choose one code block: among the Python ones, else among the bare ones, else the whole text.

    Args:
        text: A chat answer.
        which: `first`, `last` or `longest` (by characters; the first of equals) of the candidates.

    Returns:
        Rule `<which>_python_block` or `<which>_bare_block`, with `_unclosed` behind it if the
        closing fence is missing; `no_block` with the whole text if there is no such block.
    """
    blocks = find_fenced_blocks(text)
    python_blocks = [block for block in blocks if block.language in _PYTHON_NAMES]
    candidates = python_blocks or [block for block in blocks if not block.language]
    if not candidates:
        return Extract(text, "no_block")
    if which == "longest":
        chosen = max(candidates, key=lambda block: len(block.code))
    else:
        chosen = candidates[0 if which == "first" else -1]
    kind = "python" if python_blocks else "bare"
    ending = "" if chosen.is_closed else "_unclosed"
    return Extract(chosen.code, f"{which}_{kind}_block{ending}")


# The closing quote is optional so that an unterminated string also matches, up to the end of its
# line: without that, each quote of a hostile line would start a scan to the end of the line.
_LEXEME = re.compile(
    r'''"""|\'\'\'|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|\#[^\n]*|\\\n|[\[({]|[\])}]|\n''',
    re.DOTALL,
)
_REST_OF_TRIPLE = {
    '"""': re.compile(r'(?:\\.|[^\\])*?"""', re.DOTALL),
    "'''": re.compile(r"(?:\\.|[^\\])*?'''", re.DOTALL),
}
BLANK_LINE = re.compile(r"[ \t\r\f]*(?:#[^\n]*)?(?:\n|\Z)")


def keep_function_body(text: str) -> Extract:
    """Keep the indented lines that continue a function, up to the first code at column 0.

    The text follows a signature and docstring that ended with a newline. Strings, brackets and
    backslashes may carry a statement over lines that start at column 0; blank lines and comments
    behind the body are dropped. Doing it again changes nothing.

    Returns:
        Rule `function_body` if something was dropped, else `whole`.
    """
    body_end = 0
    for start, end in split_logical_lines(text):
        if BLANK_LINE.fullmatch(text, start, end):
            continue
        if not text[start].isspace():
            break
        body_end = end
    body = text[:body_end]
    return Extract(body, "whole" if body == text else "function_body")


def split_logical_lines(text: str, start: int = 0) -> Iterator[tuple[int, int]]:
    """Spans of the lines as Python's tokenizer joins them; garbage gives some split, no error."""
    position, depth = start, 0
    while lexeme := _LEXEME.search(text, position):
        mark, position = lexeme[0], lexeme.end()
        if mark in _REST_OF_TRIPLE:
            rest = _REST_OF_TRIPLE[mark].match(text, position)
            position = rest.end() if rest else len(text)
        elif mark in "[({":
            depth += 1
        elif mark in "])}":
            depth = max(0, depth - 1)
        elif mark == "\n" and depth == 0:
            yield start, position
            start = position
    if start < len(text):
        yield start, len(text)
