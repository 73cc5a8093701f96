"""From a model's reply to edited files: aider's edit formats `whole`, `diff` and `udiff`.

Place in the flow: like `extract.py`, but for benchmarks whose answer changes files that exist.
Every function takes a reply and the files as they are, and returns an `Edited`: the files as they
become, the rule, and what was malformed. Any reply is accepted and nothing is executed. What could
be applied is applied, as aider does; one fault makes the reply count as not well formed.

Source: the formats as aider documents them (`edit-formats`), and what its coder classes forgive: a
name above the fence in bold or quotes, a last fence left open, lines that are all indented less
than in the file. What it does not do: aider's further guesses (elided lines written as `...`,
another file that holds the searched lines, hunks taken apart) and its up to three questions back to
the model.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

Files = Mapping[str, str]
"""Path below the exercise's folder -> text."""

MAX_NAME = 250
"""Longest line that can be a file's name; a paragraph above a fence is none."""


class Edited(NamedTuple):
    """Files after the edits of one reply."""

    files: dict[str, str]
    rule: str
    faults: tuple[str, ...]
    """One line per malformed edit; empty if the reply is well formed."""


_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def split_lines(text: str) -> list[str]:
    """Lines with their newlines, split at newlines only."""
    return _LINE.findall(text)


def find_path(line: str, files: Files) -> str:
    """The file that a line names: without bold, quotes, colon and heading marks; empty if none.

    A known file's name alone, or behind folders that the model made up, is that file.
    """
    name = line.strip().strip("*").rstrip(":").strip("`").lstrip("#").strip().strip("`*")
    if not name or len(name) > MAX_NAME:
        return ""
    if name in files:
        return name
    known = [path for path in files if PurePosixPath(path).name == PurePosixPath(name).name]
    return known[0] if len(known) == 1 else name


def is_safe_path(path: str) -> bool:
    """Whether a path stays below its folder and every sandbox can make it."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and not path.startswith("/")
        and ".." not in parts
        and all(part.isprintable() and "\\" not in part for part in parts)
        and str(PurePosixPath(path)) == path
    )


# whole


class _Block(NamedTuple):
    path: str
    text: str
    source: int
    """How surely the path is known: 0 line above the fence, 1 named in prose, 2 the only file."""


def apply_whole(reply: str, files: Files) -> Edited:
    """Replace each file by the fenced block under its name.

    The name stands on the line above the fence; if that is blank, it is the file last named in
    backquotes, or the only one there is. Where two blocks hold the same file, the more surely named
    one counts, and of equals the last.
    """
    faults: list[str] = []
    blocks = list(_find_whole_blocks(split_lines(reply), files, faults))
    edited = dict(files)
    best: dict[str, int] = {}
    for block in blocks:
        if not is_safe_path(block.path):
            faults.append(f"no file can be named {block.path[:80]!r}")
        elif block.source <= best.get(block.path, 2):
            best[block.path] = block.source
            edited[block.path] = block.text
    if not blocks and not faults:
        faults.append("no fenced block")
    return Edited(edited, "whole", tuple(faults))


def _find_whole_blocks(lines: list[str], files: Files, faults: list[str]) -> Iterator[_Block]:
    path, source, code, named, above = "", 0, list[str](), "", ""
    is_open = False
    for line in lines:
        if line.startswith("```"):
            if is_open:
                if path:
                    yield _Block(path, "".join(code), source)
                is_open, named, above = False, "", ""
                continue
            path, source = find_path(above, files), 0
            if not path and named:
                path, source = named, 1
            elif not path and len(files) == 1:
                path, source = next(iter(files)), 2
            elif not path:
                faults.append("a block without a file's name")
            is_open, code = True, []
        elif is_open:
            code.append(line)
        else:
            above = line
            words = (word.rstrip(".:,;!") for word in line.split())
            quoted = [word[1:-1] for word in words if len(word) > 2 and word[0] == word[-1] == "`"]
            named = next((name for name in reversed(quoted) if name in files), named)
    if is_open and path:
        yield _Block(path, "".join(code), source)


# diff

_HEAD = re.compile(r"<{5,9} SEARCH>?\s*")
_DIVIDER = re.compile(r"={5,9}\s*")
_TAIL = re.compile(r">{5,9} REPLACE\s*")
_NUM_ABOVE = 3
"""Lines above `<<<<<<< SEARCH` in which its file's name may stand, as in aider."""


def apply_diff(reply: str, files: Files) -> Edited:
    """Apply search/replace blocks in order, each to the file as the earlier ones left it.

    A block without a name belongs to the file of the block before it, or to the only file. An empty
    search part makes a new file, or adds to the end of one.
    """
    lines = split_lines(reply)
    edited, faults = dict(files), list[str]()
    path, position, num_blocks = "", 0, 0
    while position < len(lines):
        if not _HEAD.fullmatch(lines[position]):
            position += 1
            continue
        num_blocks += 1
        path = _find_path_above(lines[max(0, position - _NUM_ABOVE) : position], edited) or path
        if not path and len(files) == 1:
            path = next(iter(files))
        search, middle = _take_until(lines, position + 1, _DIVIDER)
        replace, end = _take_until(lines, middle, _TAIL)
        if middle < 0 or end < 0:
            faults.append(f"block {num_blocks} has no end")
            break
        position = end
        fault = _replace_block(edited, path, search, replace)
        if fault:
            faults.append(f"block {num_blocks}: {fault}")
    if not num_blocks:
        faults.append("no search/replace block")
    return Edited(edited, "diff", tuple(faults))


def _find_path_above(lines: list[str], files: Files) -> str:
    """The nearest line above a block that names a known file, else one that looks like a path."""
    names = [
        find_path(line, files)
        for line in reversed(lines)
        if not line.startswith("```") and not _TAIL.fullmatch(line)
    ]
    known = next((name for name in names if name in files), "")
    return known or next((name for name in names if re.fullmatch(r"[\w./+-]+\.\w+", name)), "")


def _take_until(lines: list[str], start: int, mark: re.Pattern[str]) -> tuple[str, int]:
    """The lines from `start` up to the first mark, and the index behind it; -1 if there is none."""
    if start < 0:
        return "", -1
    for position in range(start, len(lines)):
        if mark.fullmatch(lines[position]):
            return "".join(lines[start:position]), position + 1
    return "", -1


def _replace_block(files: dict[str, str], path: str, search: str, replace: str) -> str:
    """Apply one block to `files`; returns what was wrong, empty if nothing."""
    if not path:
        return "no file's name above it"
    if not is_safe_path(path):
        return f"no file can be named {path[:80]!r}"
    text = files.get(path)
    if not search.strip():
        files[path] = (text or "") + replace
        return ""
    if text is None:
        return f"there is no file {path}"
    found = replace_lines(text, search, replace)
    if found is None:
        return f"{path} does not hold the searched lines"
    files[path] = found
    return ""


def replace_lines(text: str, search: str, replace: str) -> str | None:
    """The text with the first run of whole lines equal to `search` replaced; None if there is none.

    If no run is equal, one that differs only in being indented further, every line alike, counts,
    and the replacement is indented as much.
    """
    lines, wanted = split_lines(_end_line(text)), split_lines(_end_line(search))
    new = split_lines(_end_line(replace)) if replace else []
    at = _find_run(lines, wanted)
    if at is not None:
        return "".join(lines[:at] + new + lines[at + len(wanted) :])
    at = _find_run([line.strip() for line in lines], [line.strip() for line in wanted])
    if at is None:
        return None
    pairs = zip(lines[at : at + len(wanted)], wanted, strict=True)
    added = {line[: len(line) - len(part)] for line, part in pairs if part.strip()}
    if len(added) != 1 or not _are_ends(lines[at : at + len(wanted)], wanted):
        return None
    (indent,) = added
    if indent.strip():
        return None
    new = [indent + line if line.strip() else line for line in new]
    return "".join(lines[:at] + new + lines[at + len(wanted) :])


def _are_ends(lines: list[str], ends: list[str]) -> bool:
    return all(line.endswith(end) for line, end in zip(lines, ends, strict=True))


def _end_line(text: str) -> str:
    return text if text.endswith("\n") or not text else text + "\n"


def _find_run(lines: list[str], wanted: list[str]) -> int | None:
    """Index of the first run of lines equal to `wanted`; Knuth, Morris and Pratt: linear time."""
    border, borders = 0, [0] * len(wanted)
    for i in range(1, len(wanted)):
        while border and wanted[i] != wanted[border]:
            border = borders[border - 1]
        border += wanted[i] == wanted[border]
        borders[i] = border
    matched = 0
    for i, line in enumerate(lines):
        while matched and line != wanted[matched]:
            matched = borders[matched - 1]
        matched += line == wanted[matched]
        if matched == len(wanted):
            return i + 1 - matched
    return None


# udiff


def apply_udiff(reply: str, files: Files) -> Edited:
    """Apply the hunks of every fenced block marked `diff`; their line numbers are not read.

    A hunk's lines without its `+` lines must stand in the file; they become its lines without the
    `-` ones.
    """
    edited, faults, num_hunks = dict(files), list[str](), 0
    for path, hunk in _find_hunks(split_lines(reply), edited):
        num_hunks += 1
        fault = _apply_hunk(edited, path, hunk)
        if fault:
            faults.append(f"hunk {num_hunks}: {fault}")
    if not num_hunks:
        faults.append("no hunk in a block marked diff")
    return Edited(edited, "udiff", tuple(faults))


def _find_hunks(lines: list[str], files: Files) -> Iterator[tuple[str, list[str]]]:
    """(path, lines with their signs) of each hunk inside ```diff blocks; a last one may be open."""
    is_open, path, hunk = False, "", list[str]()
    previous = ""
    for line in [*lines, "```\n"]:
        if line.startswith("```"):
            if is_open and hunk:
                yield path, hunk
            is_open = not is_open and line.strip() == "```diff"
            path, hunk = "", []
        elif is_open and line.startswith("+++ ") and previous.startswith("--- "):
            if hunk[:-1]:  # the `---` line was taken for a removed one
                yield path, hunk[:-1]
            path, hunk = find_path(line[4:].partition("\t")[0], files), []
        elif is_open and line.startswith("@@"):
            if hunk:
                yield path, hunk
            hunk = []
        elif is_open:
            hunk.append(line)
        previous = line


def _apply_hunk(files: dict[str, str], path: str, hunk: list[str]) -> str:
    """Apply one hunk to `files`; returns what was wrong, empty if nothing."""
    if not path and len(files) == 1:
        path = next(iter(files))
    if not path:
        return "no file's name above it"
    signed = [(line[0], line[1:]) if line[0] in " +-" else (" ", line) for line in hunk]
    before = "".join(text for sign, text in signed if sign != "+")
    after = "".join(text for sign, text in signed if sign != "-")
    if before == after:
        return "it changes nothing"
    return _replace_block(files, path, before, after)


EDIT_FORMATS = {"whole": apply_whole, "diff": apply_diff, "udiff": apply_udiff}
