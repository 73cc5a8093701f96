"""What aider asks back before any test runs: about malformed edits and its linter's findings.

Place in the flow: `LeaderboardProtocol` (`aider_messages.py`) shows a model these words, up to
`MAX_QUESTIONS` times in a try. Source: release 0.70.0 of Aider-AI/aider, whose words are quoted
(`wholefile_coder.py`, `editblock_coder.py` and `udiff_coder.py` in `aider/coders`, `linter.py`;
Apache License 2.0, copyright of its authors), and the form in which CPython, flake8 7.1 and
grep-ast print what they find.

Choice: Python is read by Python's own parser and pyflakes, no other language is linted.
aider reads all languages with tree-sitter too, whose grammars are many packages; of Python it adds
only more marked lines to an error of syntax, of the others it finds errors of syntax, which a model
here sees in what the compiler says instead, a try later. Left out with it: what only CPython's
compiler finds (`return` outside of a function), and new files. Errors of syntax are those of the
interpreter that runs the harness, in its words; aider's image had 3.11.
"""

import ast
import io
import tokenize
import traceback
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import PurePosixPath

from sdb_harness.edit_formats import Edit, Edited, split_lines
from sdb_harness.sanitise import parse_quietly

MAX_QUESTIONS = 3
"""In one try, `max_reflections` of aider."""
MAX_ASKED_CHARS = 32_000
"""Of one question: aider has no such limit, but a model's context has."""
MAX_LINTED_CHARS = 1 << 18
"""Longest file that is read for errors, about a second."""
MAX_COMPARED = 1 << 25
"""Pairs of lines that one question's search for similar lines compares at most, some seconds; then
it is left out. difflib compares each searched line with each line at every place of the file."""

# Malformed edits

NO_NAME = {
    "whole": "No filename provided before ``` in file listing",
    "diff": "Bad/missing filename. The filename must be alone on the line before the opening "
    "fence ```",
}
"""Edit format -> what is said of a file's name that is missing; in `udiff` nothing is."""
NO_MARK = {"divider": "Expected `=======`", "end": "Expected `>>>>>>> REPLACE` or `=======`"}
FAILED_HUNK = """\
UnifiedDiffNoMatch: hunk failed to apply!

{path} does not contain lines that match the diff you provided!
Try again.
DO NOT skip blank lines, comments, docstrings, etc!
The diff needs to apply cleanly to the lines in {path}!

{path} does not contain these {number} exact lines in a row:
```
{search}```
"""
FAILED_BLOCK = """
## SearchReplaceNoExactMatch: This SEARCH block failed to exactly match lines in {path}
<<<<<<< SEARCH
{search}=======
{replace}>>>>>>> REPLACE

"""
SIMILAR = """\
Did you mean to match some of these actual lines from {path}?

```
{lines}
```

"""
ALREADY = """\
Are you sure you need this SEARCH/REPLACE block?
The REPLACE lines are already in {path}!

"""
EXACTLY = (
    "The SEARCH section must exactly match an existing block of lines including all white space, "
    "comments, indentation, docstrings, etc\n"
)
OTHERS = """
# The other {number} SEARCH/REPLACE {others} were applied successfully.
Don't re-send them.
Just reply with fixed versions of the {blocks} above that failed to match.
"""
MIN_SIMILAR = 0.6
NUM_AROUND = 5
"""Lines that are shown on each side of similar ones, unless the first and the last are equal."""


def ask_about_edits(edit_format: str, edited: Edited, known: Sequence[str]) -> str:
    """What aider says to edits that it could not read or apply; empty if there are none.

    Args:
        edit_format: `whole`, `diff` or `udiff`.
        edited: What became of the reply.
        known: The files in the chat, which are shown without their folders.
    """
    if edited.unread is not None:
        lacks = edited.unread.lacks
        words = NO_NAME[edit_format] if lacks == "name" else NO_MARK[lacks]
        if edit_format != "diff":
            return words
        return f"{edited.unread.text[-MAX_ASKED_CHARS:]}\n^^^ {words}"
    if not edited.failed:
        return ""
    if edit_format == "udiff":
        text = "\n\n".join(_spell_hunk(edit, known) for edit in edited.failed)
    else:
        text = "".join(_spell_blocks(edited, known))
    return text[:MAX_ASKED_CHARS]


def _name(path: str, known: Sequence[str]) -> str:
    return PurePosixPath(path).name if path in known else path


def _spell_hunk(edit: Edit, known: Sequence[str]) -> str:
    number = len(edit.search.splitlines())
    return FAILED_HUNK.format(path=_name(edit.path, known), number=number, search=edit.search)


def _spell_blocks(edited: Edited, known: Sequence[str]) -> Iterator[str]:
    failed, num_chars, num_pairs = edited.failed, 0, 0
    blocks = "block" if len(failed) == 1 else "blocks"
    yield f"# {len(failed)} SEARCH/REPLACE {blocks} failed to match!\n"
    for edit in failed:
        if num_chars > MAX_ASKED_CHARS:
            return
        path, text = _name(edit.path, known), edited.files.get(edit.path, "")
        words = FAILED_BLOCK.format(path=path, search=edit.search, replace=edit.replace)
        wanted, lines = edit.search.splitlines(), text.splitlines()
        num_pairs += max(0, len(lines) - len(wanted) + 1) * len(wanted) ** 2
        similar = find_similar(wanted, lines) if num_pairs <= MAX_COMPARED else ""
        if similar:
            words += SIMILAR.format(path=path, lines=similar)
        if edit.replace and edit.replace in text:
            words += ALREADY.format(path=path)
        num_chars += len(words)
        yield words
    yield EXACTLY
    if edited.num_applied:
        others = "block" if edited.num_applied == 1 else "blocks"
        yield OTHERS.format(number=edited.num_applied, others=others, blocks=blocks)


def find_similar(wanted: Sequence[str], lines: Sequence[str]) -> str:
    """The run of as many lines that is most like the wanted ones, the first of equals; or empty."""
    best, at = 0.0, 0
    for start in range(len(lines) - len(wanted) + 1 if wanted else 0):
        matcher = SequenceMatcher(None, wanted, lines[start : start + len(wanted)])
        if matcher.quick_ratio() > max(best, MIN_SIMILAR - 0.01):  # an upper bound, and cheap
            ratio = matcher.ratio()
            if ratio > best:
                best, at = ratio, start
    if best < MIN_SIMILAR:
        return ""
    end = at + len(wanted)
    if lines[at] != wanted[0] or lines[end - 1] != wanted[-1]:
        at, end = max(0, at - NUM_AROUND), end + NUM_AROUND
    return "\n".join(lines[at:end])


# The linter

COMMAND = (
    "/usr/bin/python3 -m flake8 --select=E9,F821,F823,F831,F406,F407,F701,F702,F704,F706 "
    "--show-source --isolated"
)
"""Choice: the interpreter of aider's own image. aider writes whichever runs it."""
FOLDER = "/benchmarks"
"""Choice: where exercises lie in that image; its folder of a run is left out."""
NUM_BESIDE, NUM_HEAD = 3, 10
"""Lines shown around a marked one, and at most of the head of a statement that holds it."""


def ask_about_python(problem_id: str, files: Mapping[str, str]) -> str:
    """What aider's linter says of files; empty if it finds nothing. Other languages pass.

    Args:
        problem_id: Names the folder that an error of syntax shows.
        files: Path -> text.
    """
    found = (
        _lint(f"{FOLDER}/{problem_id}/{path}", PurePosixPath(path).name, text)
        for path, text in files.items()
        if path.endswith(".py") and len(text) <= MAX_LINTED_CHARS
    )
    return "".join(f"\n{words}\n" for words in found if words)[:MAX_ASKED_CHARS]


def _lint(path: str, name: str, source: str) -> str:
    try:
        module = parse_quietly(source, path)
        found = find_names(module)
    except SyntaxError as error:
        text, marked = _spell_syntax_error(name, source, error)
        heads: dict[int, set[int]] = {}
    except (ValueError, MemoryError, RecursionError):
        return ""
    else:
        if not found:
            return ""
        text, marked = _spell_findings(name, source, found), {line - 1 for line, _, _ in found}
        heads = _find_heads(module, marked, source.splitlines())
    shown = _show_lines(source.splitlines(), marked, heads)
    lines = "lines" if len(marked) > 1 else "line"
    return (
        f"# Fix any errors below, if possible.\n\n{text}\n"
        f"## See relevant {lines} below marked with █.\n\n{name}:\n{shown}"
    )


def find_names(module: ast.Module) -> list[tuple[int, int, str]]:
    """(line and column from 1, words) of each name that nothing defines, or not before its use."""
    from pyflakes.checker import Checker
    from pyflakes.messages import UndefinedLocal, UndefinedName

    codes = {UndefinedName: "F821", UndefinedLocal: "F823"}
    return [
        (one.lineno, one.col + 1, f"{codes[type(one)]} {one.message % one.message_args}")
        for kind in codes
        for one in sorted(Checker(module).messages, key=lambda one: one.lineno)
        if type(one) is kind
    ]


def _spell_syntax_error(name: str, source: str, error: SyntaxError) -> tuple[str, set[int]]:
    """(words, lines from 0): what CPython says, and the same as flake8 says it."""
    line = error.lineno or 1
    end = max(line, error.end_lineno or line)
    said = "".join(traceback.format_exception_only(error))
    finding = line, (error.offset or 0) + 1, f"E999 {type(error).__name__}: {error.msg}"
    words = f"Traceback (most recent call last):\n{said}\n"
    return words + _spell_findings(name, source, [finding]), set(range(line - 1, end))


def _spell_findings(name: str, source: str, found: Sequence[tuple[int, int, str]]) -> str:
    """(line and column from 1, words) of each finding, as flake8 prints them with their lines."""
    shown, size = _read_shown_lines(source), 0
    text = f"## Running: {COMMAND} {name}\n\n"
    for line, column, words in found:
        if len(text) + size > MAX_ASKED_CHARS:
            break
        text += f"{name}:{line}:{column}: {words}\n"
        if line in shown:
            before = shown[line][: column - 1]
            indent = "".join(char if char.isspace() else " " for char in before)
            text += f"{shown[line]}{indent}^\n"
    return text


def _read_shown_lines(source: str) -> dict[int, str]:
    """Line from 1 -> its text, or that of all lines of its string; empty if it has no tokens."""
    lines, shown = split_lines(source), dict[int, str]()
    first, last = len(lines) + 2, 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in (tokenize.ENDMARKER, tokenize.DEDENT):
                continue
            first, last = min(first, token.start[0]), max(last, token.end[0])
            if token.type in (tokenize.NL, tokenize.NEWLINE):
                text = "".join(lines[first - 1 : last])
                text = text if text.endswith("\n") else f"{text}\n"
                shown |= dict.fromkeys(range(first, last + 1), text)
                first, last = len(lines) + 2, 0
    except (tokenize.TokenError, SyntaxError):
        return {}
    return shown


def _find_heads(module: ast.Module, marked: set[int], lines: list[str]) -> dict[int, set[int]]:
    """Marked line (from 0) -> lines that begin what it stands in: statements, blocks, brackets."""
    spans = [(first, last) for node in ast.walk(module) for first, last in _list_spans(node, lines)]
    ends: dict[int, list[int]] = {}
    for first, last in spans:
        ends.setdefault(first, []).append(last)
    heads: dict[int, set[int]] = {line: set() for line in marked}
    for first, last_lines in ends.items():
        last = min(last_lines)
        head = range(first, min(last, first + NUM_HEAD)) if len(last_lines) > 1 else [first]
        for line in marked.intersection(range(first, max(last_lines) + 1)) if first else ():
            heads[line].update(head)
    return heads


def _list_spans(node: ast.AST, lines: list[str]) -> Iterator[tuple[int, int]]:
    """First and last lines, from 0, of what begins and ends with a node over several lines."""
    spans = []
    if isinstance(node, ast.expr | ast.stmt | ast.excepthandler):
        spans.append((node.lineno - 1, (node.end_lineno or node.lineno) - 1))
        if decorators := getattr(node, "decorator_list", []):
            spans.append((decorators[0].lineno - 1, spans[0][1]))
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(node, ast.Module) or not isinstance(block, list) or not block:
            continue
        decorators = getattr(block[0], "decorator_list", [])
        first = min(one.lineno for one in (block[0], *decorators))
        last = (block[-1].end_lineno or block[-1].lineno) - 1
        spans.append((first - 1, last))
        word = {"orelse": "else", "finalbody": "finally"}.get(name, "")
        above = [
            number
            for number in range(max(0, first - 4), first - 1)
            if word and lines[number].lstrip().startswith(word)
        ]
        spans += [(number, last) for number in above[-1:]]
    return ((first, last) for first, last in spans if last > first)


def _show_lines(lines: list[str], marked: set[int], heads: Mapping[int, set[int]]) -> str:
    """Numbered lines: the marked ones, those beside them and what they stand in."""
    num_lines = len(lines) + 1
    shown = set(marked).union(*heads.values())
    for line in marked:
        shown.update(range(max(0, line - NUM_BESIDE), min(num_lines, line + NUM_BESIDE + 1)))
    shown |= {first + 1 for first, second in pairwise(sorted(shown)) if second - first == 2}
    for number in range(len(lines) - 1):  # a blank line below
        if number in shown and lines[number].strip() and not lines[number + 1].strip():
            shown.add(number + 1)
    text, has_gap = "", 0 not in shown
    for number, source in enumerate(lines):
        if number in shown:
            text += f"{number + 1:3}{'█' if number in marked else '│'}{source}\n"
            has_gap = True
        elif has_gap:
            text += "...⋮...\n"
            has_gap = False
    return text
