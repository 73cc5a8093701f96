"""EvalPlus's sanitiser in linear time: from an answer to the program that defines the entry point.

Place in the flow: the assembly step of the EvalPlus and BigCodeBench protocols. Source:
`evalplus.sanitize` 0.3.1. Two steps: `find_longest_run` keeps the longest run of lines that is
Python, `keep_reachable` keeps of it the imports and what the entry point reaches by name.

Upstream tries every pair of lines and so parses n^2 runs (`search_longest_run` here, the definition
for the tests). But a module is a row of statements, and any row of valid statements is valid: so
each statement is parsed alone, once, and neighbours that are valid join.

Choice: Python's own parser rather than tree-sitter, which upstream uses for the second step only.
It is the very rule by which upstream calls a run valid (tree-sitter takes `def f():` without a body
and crooked indentation), it needs no package, and it ends quickly and in an exception on texts made
to be deep. Only parsing happens here; nothing is compiled or run.

Kept as upstream has it, since published scores do: functions without `return`, decorated
definitions, `if` blocks and calls at top level are dropped; the first definition of a name wins.
BigCodeBench's own form of it (`bigcodebench.sanitize` 0.2.5) keeps functions without `return`, and
drops what stands at the end outside of functions from the first line on that names the entry point.

What it does not do: find a run that begins inside a text of several lines of another statement.
"""

import ast
import re
import threading
import warnings
from collections.abc import Iterator

from sdb_harness.extract import BLANK_LINE, split_logical_lines

EFFORT, FREE_EFFORT = 4, 200_000
"""Characters that may be read again after statements that do not parse, per character of the text
and for any text; then such a statement is passed over whole. Keeps the time linear on hostile
texts, and is never used up by a text of less than some thousand lines that is an answer."""

_CONTINUED = re.compile(r"(?:else|elif|except|finally)\b")
_WARNINGS = threading.Lock()
"""Filters of warnings are those of the whole process."""


def sanitise(text: str, entry_point: str) -> str:
    """Reduce an answer to the program that defines `entry_point`; any text gives some text."""
    run = find_longest_run(text)
    return keep_reachable(run, entry_point).strip() or run


def sanitise_for_bigcodebench(text: str, entry_point: str) -> str:
    """The same as BigCodeBench has it; any text gives some text."""
    run = find_longest_run(text.strip())
    kept = keep_reachable(run, entry_point, needs_return=False)
    return drop_outer_lines(kept, entry_point).strip() or find_longest_run(text)


def drop_outer_lines(source: str, entry_point: str) -> str:
    """A source without the lines behind its last indented one that begin with a use of a name.

    What stands between and behind them goes too. A function on one line is such a use to upstream.
    """
    lines = source.splitlines()
    end = next((n for n in range(len(lines), 0, -1) if lines[n - 1].startswith(" ")), 0)
    first = next((n for n in range(end, len(lines)) if entry_point in lines[n]), None)
    return source if first is None else "\n".join(lines[:first])


def find_longest_run(text: str) -> str:
    """The run of lines with the most lines that are not blank among those that are Python.

    A run has at least two lines; where there is none, the first line is returned.
    """
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    effort = EFFORT * len(text) + FREE_EFFORT
    best, most = (0, 1), 0
    begin, count = 0, 0
    number = 0
    while number < len(lines):
        statement = list(_read_statement(text, starts[number]))
        num_lines = text.count("\n", starts[number], statement[-1]) or 1
        if statement[-1] == len(text) and not text.endswith("\n"):
            num_lines = len(lines) - number
        kept, skipped = num_lines, num_lines
        if not is_python(text[starts[number] : statement[-1]].removesuffix("\n")):
            kept, skipped = 0, 1
            for end in reversed(statement[:-1]):
                if effort < 0:
                    break
                effort -= end - starts[number]
                if is_python(text[starts[number] : end].removesuffix("\n")):
                    kept = text.count("\n", starts[number], end)
                    break
            effort -= statement[-1] - starts[number]
            if effort < 0:
                skipped = num_lines
        count += sum(bool(line.strip()) for line in lines[number : number + kept])
        end_line = min(number + kept, len(lines))
        if count > most and end_line - begin > 1:
            best, most = (begin, end_line), count
        number += skipped
        if kept < num_lines:
            begin, count = number, 0
    return "\n".join(lines[slice(*best)])


def _read_statement(text: str, start: int) -> Iterator[int]:
    """Ends of the logical lines that make up the statement at `start`, comments behind included."""
    is_decorated = False
    position = start
    for begin, end in split_logical_lines(text, start):
        is_blank = BLANK_LINE.fullmatch(text, begin, end) is not None
        is_inside = text[begin] in " \t\f\r\\" or _CONTINUED.match(text, begin, end) is not None
        if begin > start and not (is_blank or is_inside or is_decorated):
            return
        if begin == start and is_blank:
            yield end
            return
        if not is_blank and not is_inside:
            is_decorated = text[begin] == "@"
        position = end
        yield end
    if position == start:
        yield len(text)


def search_longest_run(text: str) -> str:
    """The definition of `find_longest_run`: every pair of lines is tried. Cubic; for tests."""
    lines = text.split("\n")
    best, most = (0, 0), 0
    for first in range(len(lines)):
        for last in range(first + 1, len(lines)):
            if is_python("\n".join(lines[first : last + 1])):
                count = sum(bool(line.strip()) for line in lines[first : last + 1])
                if count > most:
                    best, most = (first, last), count
    return "\n".join(lines[best[0] : best[1] + 1])


def is_python(source: str) -> bool:
    """Whether Python's parser takes the source as a module."""
    return _parse(source) is not None


def parse_quietly(source: str, path: str = "<unknown>") -> ast.Module:
    """`ast.parse` without its warnings of invalid escapes, which are no matter of syntax.

    Raises:
        SyntaxError, ValueError, MemoryError, RecursionError: the source is no module.
    """
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source, path)


def _parse(source: str) -> ast.Module | None:
    try:
        return parse_quietly(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def keep_reachable(source: str, entry_point: str, *, needs_return: bool = True) -> str:
    """The imports, and the first definition of each name that `entry_point` reaches.

    Args:
        source: A module.
        entry_point: Where reaching begins.
        needs_return: Whether functions without `return` are dropped.

    Returns:
        Source; empty if nothing is left or the source does not parse.
    """
    module = _parse(source)
    if module is None:
        return ""
    imports = []
    definitions: dict[str | None, ast.stmt] = {}
    for node in module.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            returns = not needs_return or any(
                isinstance(inner, ast.Return) for inner in ast.walk(node)
            )
            if not node.decorator_list and (returns or isinstance(node, ast.ClassDef)):
                definitions.setdefault(node.name, node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            definitions.setdefault(_name_assignment(node), node)
    reached, queue = {entry_point}, [entry_point]
    while queue:
        node_of_name = definitions.get(queue.pop())
        if node_of_name is not None:
            fresh = _list_names(node_of_name) - reached
            reached |= fresh
            queue += fresh
    kept = [*imports, *(node for name, node in definitions.items() if name in reached)]
    return "\n".join(_cut_sources(source, kept))


def _name_assignment(node: ast.Assign | ast.AnnAssign) -> str | None:
    """The name of the target, else of the value, as upstream finds it; None if neither has one."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for part in (targets[0], node.value if len(targets) == 1 else None):
        if isinstance(part, ast.Name):
            return part.id
    return None


def _list_names(node: ast.AST) -> set[str]:
    """Every identifier inside: variables, attributes, arguments, keywords, names of definitions."""
    names = set()
    for inner in ast.walk(node):
        for field in ("id", "attr", "arg", "name", "asname", "names", "module"):
            value = getattr(inner, field, None)
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    names |= set(text.split("."))
    return names


def _cut_sources(source: str, nodes: list[ast.stmt]) -> Iterator[str]:
    """The text of each node. Columns are counted in UTF-8 bytes."""
    lines = [line.encode() for line in re.split(r"\r\n|\r|\n", source)]
    for node in nodes:
        assert node.end_lineno is not None
        block = lines[node.lineno - 1 : node.end_lineno]
        block[-1] = block[-1][: node.end_col_offset]
        block[0] = block[0][node.col_offset :]
        yield b"\n".join(block).decode()
