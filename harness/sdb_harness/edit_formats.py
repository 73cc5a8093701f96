"""From a model's reply to edited files: aider's edit formats `whole`, `diff` and `udiff`.

Place in the flow: like `extract.py`, but for benchmarks whose answer changes files that exist.
Every function takes a reply and the files as they are, and returns an `Edited`: the files as they
become, the rule, and what was malformed. Any reply is accepted and nothing is executed. What cannot
be read is not applied at all, and of what can be read whatever fits, as aider does; one fault makes
the reply count as not well formed. A reply without any edit is well formed, as aider counts, and
has a rule of its own.

Source: the formats as aider documents them (`edit-formats`), and what its coder classes forgive (at
commit 5dc9490b): a name above the fence in bold or quotes, a last fence left open, lines that are
all indented otherwise than in the file, elided ones written as `...`, another file that holds the
searched lines, hunks with wrong context. What it does not do: for `udiff`, lines that a hunk leaves
out, and indentation that differs.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from pathlib import PurePosixPath
from typing import NamedTuple

Files = Mapping[str, str]
"""Path below the exercise's folder -> text."""

MAX_NAME = 250
"""Longest line that can be a file's name; a paragraph above a fence is none."""
MAX_CHARS = 1 << 20
"""Longest file that repeated matches or indentation may make: a short reply could double it at
every edit."""
MAX_SEARCHED = 1 << 25
"""Characters of files that the edits of one reply search at most, some seconds; what comes behind
is malformed."""


class Edit(NamedTuple):
    """Lines of a file to find and those that take their place, as the reply has them."""

    path: str
    search: str
    replace: str


class Unread(NamedTuple):
    """Why nothing of a reply was applied."""

    lacks: str
    """`name`, `divider` or `end`."""
    text: str = ""
    """The reply up to there."""


class Edited(NamedTuple):
    """Files after the edits of one reply."""

    files: dict[str, str]
    rule: str
    faults: tuple[str, ...]
    """One line per malformed edit; empty if the reply is well formed."""
    paths: tuple[str, ...] = ()
    """The files that its edits name, or change instead, empty where a hunk names none; none if the
    reply could not be read."""
    failed: tuple[Edit, ...] = ()
    """Edits whose lines no file holds."""
    num_applied: int = 0
    unread: Unread | None = None


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
    one counts, and of equals the first. Where a block has no name, nothing of the reply is applied.
    """
    faults: list[str] = []
    blocks = list(_find_whole_blocks(split_lines(reply), files, faults))
    if faults:
        return Edited(dict(files), "whole", tuple(faults), unread=Unread("name"))
    edited = dict(files)
    best: dict[str, int] = {}
    for block in blocks:
        if not is_safe_path(block.path):
            faults.append(f"no file can be named {block.path[:80]!r}")
        elif block.source < best.get(block.path, 3):
            best[block.path] = block.source
            edited[block.path] = block.text
    paths = tuple(dict.fromkeys(block.path for block in blocks))
    return Edited(edited, "whole" if blocks else "whole_no_edit", tuple(faults), paths)


def _find_whole_blocks(lines: list[str], files: Files, faults: list[str]) -> Iterator[_Block]:
    path, source, code, named, above = "", 0, list[str](), "", ""
    is_open = False
    for line in lines:
        if line.startswith("```"):
            if is_open:
                if path:
                    yield _Block(path, "".join(code), source)
                is_open, named, above = False, "", line
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
_SHELL = re.compile(r"\s*```(?:bash|sh|cmd|batch|powershell|ps1|zsh|fish|ksh|csh|tcsh)")
"""What opens a block of commands, which hold no edits."""
_NUM_ABOVE = 3
"""Lines above `<<<<<<< SEARCH` in which its file's name may stand, as in aider."""
_NUM_PLACES = 100
"""Runs of lines, equal but for their indentation, that are looked at for one search."""


def apply_diff(reply: str, files: Files) -> Edited:
    """Apply search/replace blocks in order, each to the file as the earlier ones left it.

    A block without a name belongs to the file of the block before it. One whose lines its file does
    not hold belongs to the first file that does. An empty search part makes a new file, or adds to
    the end of one. Where a block has no name or no end, nothing of the reply is applied.
    """
    edits: list[Edit] = []
    unread = _read_edits(split_lines(reply), files, edits)
    if unread:
        what = ": no file's name above it" if unread.lacks == "name" else " has no end"
        return Edited(dict(files), "diff", (f"block {len(edits) + 1}{what}",), unread=unread)
    edited, faults, searched = dict(files), list[str](), 0
    paths, failed, num_applied = dict[str, None](), list[Edit](), 0
    for number, edit in enumerate(edits, 1):
        searched += sum(map(len, edited.values()))
        if searched > MAX_SEARCHED:
            faults.append(f"block {number} and those behind it: too much to search")
            failed += edits[number - 1 :]
            break
        path, fault = _apply_edit(edited, edit)
        paths[path] = None
        if not fault:
            num_applied += 1
            continue
        faults.append(f"block {number}: {fault}")
        if is_safe_path(edit.path):
            failed.append(edit)
    rule = "diff" if edits else "diff_no_edit"
    return Edited(edited, rule, tuple(faults), tuple(paths), tuple(failed), num_applied)


def _read_edits(lines: list[str], files: Files, edits: list[Edit]) -> Unread | None:
    """Collect the blocks of a reply; returns what the first lacks that cannot be read."""
    path, position = "", 0
    while position < len(lines):
        line = lines[position]
        if _SHELL.match(line) and not _opens_block(lines, position):
            position += 1
            while position < len(lines) and not lines[position].strip().startswith("```"):
                position += 1
        elif _HEAD.fullmatch(line.strip()):
            is_new = bool(_DIVIDER.fullmatch("".join(lines[position + 1 : position + 2]).strip()))
            above = lines[max(0, position - _NUM_ABOVE) : position]
            path = _find_path_above(above, files, is_new=is_new) or path
            if not path:
                return Unread("name", "".join(lines[: position + 1]))
            search, middle = _take_until(lines, position + 1, (_DIVIDER,))
            replace, end = _take_until(lines, middle, (_TAIL, _DIVIDER))
            if middle < 0 or end < 0:
                return Unread("divider" if middle < 0 else "end", "".join(lines))
            edits.append(Edit(path, search, replace))
            position = end - 1
        position += 1
    return None


def _opens_block(lines: list[str], position: int) -> bool:
    """Whether a search/replace block begins in one of the two lines below."""
    return any(_HEAD.fullmatch(line.strip()) for line in lines[position + 1 : position + 3])


def _find_path_above(lines: list[str], files: Files, *, is_new: bool) -> str:
    """The file that the lines above a block name: fences are passed over, any other line is last.

    Of several a known one counts, by its own name or, unless the block makes a new file, nearly so;
    else one that looks like a file.
    """
    names = []
    for line in reversed(lines):
        name = line.strip()
        if name.startswith("```"):
            name = name[3:] if set("./") & set(name[3:]) else ""
        elif name == "...":
            name = ""
        else:
            name = name.rstrip(":").lstrip("#").strip().strip("`").strip("*")
        if name and len(name) <= MAX_NAME:
            names.append(name)
        if not line.startswith("```"):
            break
    known = {PurePosixPath(path).name: path for path in files} | {path: path for path in files}
    for name in names:
        if name in known:
            return known[name]
    for name in () if is_new else names:
        if close := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            return known[close[0]]
    return next((name for name in names if "." in name), names[0] if names else "")


def _take_until(
    lines: list[str], start: int, marks: tuple[re.Pattern[str], ...]
) -> tuple[str, int]:
    """The lines from `start` up to the first mark, and the index behind it; -1 if there is none."""
    if start < 0:
        return "", -1
    for position in range(start, len(lines)):
        if any(mark.fullmatch(lines[position].strip()) for mark in marks):
            return "".join(lines[start:position]), position + 1
    return "", -1


def _apply_edit(files: dict[str, str], edit: Edit) -> tuple[str, str]:
    """Apply one block to `files`; returns (path, what was wrong), empty if nothing."""
    if not is_safe_path(edit.path):
        return edit.path, f"no file can be named {edit.path[:80]!r}"
    is_new = not edit.search.strip()
    for path in (edit.path,) if is_new else dict.fromkeys((edit.path, *files)):
        search, replace = _unwrap(edit.search, path), _unwrap(edit.replace, path)
        text = files.get(path, "")
        found = replace_lines(text, search, replace) if search.strip() else text + replace
        if found:
            files[path] = found
            return path, ""
    if is_new:
        return edit.path, f"it leaves {edit.path} empty"
    if edit.path in files:
        return edit.path, f"{edit.path} does not hold the searched lines"
    return edit.path, f"no file {edit.path!r}"


def _unwrap(text: str, path: str) -> str:
    """A part of a block without the file's name and the fences that some models put around it."""
    lines = text.splitlines()
    if lines and lines[0].strip().endswith(PurePosixPath(path).name):
        lines = lines[1:]
    if lines and lines[0].startswith("```") and lines[-1].startswith("```"):
        lines = lines[1:-1]
    # As aider joins them, which drops a blank last line.
    return _end_line("\n".join(lines))


def replace_lines(text: str, search: str, replace: str) -> str | None:
    """The text with the first run of whole lines equal to `search` replaced; None if there is none.

    If no run is equal, one that differs only in its indentation, every line alike, counts, and the
    replacement is indented as much. If none is like that, the search is tried without a first line
    that is blank, and then with each line `...`, in both parts, for any lines between.
    """
    lines, wanted = split_lines(_end_line(text)), split_lines(_end_line(search))
    new = split_lines(_end_line(replace))
    starts = [wanted, wanted[1:]] if len(wanted) > 2 and not wanted[0].strip() else [wanted]
    for part in starts:
        found = _replace_run(lines, part, new) or _replace_indented(lines, part, new)
        if found:
            return found
    return _replace_elided(_end_line(text), wanted, new)


def _replace_run(lines: list[str], wanted: list[str], new: list[str]) -> str:
    """The text with the first equal run replaced; empty if there is none."""
    at = next(_find_runs(lines, wanted), None)
    return "" if at is None else "".join(lines[:at] + new + lines[at + len(wanted) :])


def _replace_indented(lines: list[str], wanted: list[str], new: list[str]) -> str:
    """The same for a run whose lines are all indented by as much more or less."""
    depth = min(
        (len(line) - len(line.lstrip()) for line in (*wanted, *new) if line.strip()), default=0
    )
    wanted = [line[depth:] if line.strip() else line for line in wanted]
    new = [line[depth:] if line.strip() else line for line in new]
    places = _find_runs([line.lstrip() for line in lines], [line.lstrip() for line in wanted])
    for at in islice(places, _NUM_PLACES):
        pairs = zip(lines[at : at + len(wanted)], wanted, strict=True)
        added = {line[: len(line) - len(part)] for line, part in pairs if line.strip()}
        if len(added) == 1:
            (indent,) = added
            if sum(map(len, lines)) + len(indent) * len(new) > MAX_CHARS:
                return ""
            new = [indent + line if line.strip() else line for line in new]
            return "".join(lines[:at] + new + lines[at + len(wanted) :])
    return ""


def _replace_elided(text: str, wanted: list[str], new: list[str]) -> str | None:
    """The text with the pieces between lines `...` replaced, each of which it holds once."""
    pieces, new_pieces = _split_at_dots(wanted), _split_at_dots(new)
    if len(pieces) == 1 or pieces[1::2] != new_pieces[1::2] or len(pieces) != len(new_pieces):
        return None
    for piece, new_piece in zip(pieces[::2], new_pieces[::2], strict=True):
        if piece and text.count(piece) != 1:
            return None
        text = text.replace(piece, new_piece, 1) if piece else text + new_piece
    return text


def _split_at_dots(lines: list[str]) -> list[str]:
    """Text, line of dots with the blank ones above it, text, and so on."""
    pieces, blank = [""], ""
    for line in lines:
        if line.lstrip() == "...\n":
            pieces += [blank + line, ""]
            blank = ""
        elif not line.strip():
            blank += line
        else:
            pieces[-1] += blank + line
            blank = ""
    pieces[-1] += blank
    return pieces


def _end_line(text: str) -> str:
    return text if text.endswith("\n") or not text else text + "\n"


def _find_runs(lines: list[str], wanted: list[str]) -> Iterator[int]:
    """Where runs of lines equal to `wanted` begin; Knuth, Morris and Pratt: linear time."""
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
            yield i + 1 - matched
            matched = borders[matched - 1]


# udiff

_FEW = 10
"""Characters but white space below which a hunk must say what it changes by more than that."""
_NUM_TRIES = 1000
"""Choices of context that are tried for one change."""


def apply_udiff(reply: str, files: Files) -> Edited:
    """Apply the hunks of every fenced block marked `diff`; their line numbers are not read.

    A hunk's lines without its `+` lines must stand in the file; they become its lines without the
    `-` ones, wherever they stand. If they do not, each of its changes is tried with less and less
    of its context. A hunk that changes nothing, or that stood there before, is passed over. One
    without a file's name belongs to the file of the hunk before it; where there is none, nothing of
    the reply is applied, and the reply is well formed all the same, as aider counts.
    """
    edited, faults, seen = dict(files), list[str](), set[tuple[str, str]]()
    paths, failed, searched, last = dict[str, None](), list[Edit](), 0, ""
    for path, lines in _find_hunks(split_lines(reply), edited):
        last = path or last
        hunk = [_sign_line(line) for line in lines]
        before, after = _keep(hunk, "-"), _keep(hunk, "+")
        if any(sign != " " for sign, _ in hunk):
            paths[last] = None
        key = last, "".join(sign + text for sign, text in hunk)
        if key in seen or before == after:
            continue
        if not last:
            return Edited(dict(files), "udiff", (), ("",))
        seen.add(key)
        searched += len(edited.get(last, ""))
        if searched > MAX_SEARCHED:
            faults.append(f"hunk {len(seen)} and those behind it: too much to search")
            failed.append(Edit(last, before, after))
            break
        if fault := _apply_hunk(edited, last, hunk):
            faults.append(f"hunk {len(seen)}: {fault}")
            if is_safe_path(last):
                failed.append(Edit(last, before, after))
    rule, num_applied = "udiff" if seen else "udiff_no_edit", len(seen) - len(faults)
    return Edited(edited, rule, tuple(faults), tuple(paths), tuple(failed), num_applied)


_Hunk = list[tuple[str, str]]
"""Lines with their signs."""


def _sign_line(line: str) -> tuple[str, str]:
    """A line's sign and text; one without a sign stays, and white space alone is none."""
    sign, text = (line[0], line[1:]) if line[0] in " +-" and len(line) > 1 else (" ", line)
    return sign, text if text.strip() else "\n"


def _keep(hunk: _Hunk, sign: str) -> str:
    """The lines that stay and those of one sign: `-` for what was, `+` for what will be."""
    return "".join(text for one, text in hunk if one in (" ", sign))


def _find_hunks(lines: list[str], files: Files) -> Iterator[tuple[str, list[str]]]:
    """(path, lines with their signs) of each hunk inside ```diff blocks; a last one may be open."""
    is_open, path, hunk = False, "", list[str]()
    previous = ""
    for line in [*lines, "```\n"]:
        if line.startswith("```"):
            if is_open and hunk:
                yield path, hunk
            is_open = not is_open and line.startswith("```diff")
            path, hunk = "", []
        elif is_open and line.startswith("+++ ") and previous.startswith("--- "):
            if hunk[:-1]:  # the `---` line was taken for a removed one
                yield path, hunk[:-1]
            path, hunk = _find_changed(previous[4:].strip(), line[4:].strip(), files), []
        elif is_open and line.startswith("@@"):
            if hunk:
                yield path, hunk
            hunk = []
        elif is_open:
            hunk.append(line)
        previous = line


def _find_changed(old: str, new: str, files: Files) -> str:
    """The file that the two lines above a hunk name, without git's prefixes."""
    if (old.startswith("a/") or old == "/dev/null") and new.startswith("b/"):
        new = new[2:]
    return next((path for path in files if new in (path, PurePosixPath(path).name)), new)


def _apply_hunk(files: dict[str, str], path: str, hunk: _Hunk) -> str:
    """Apply one hunk to `files`; returns what was wrong, empty if nothing."""
    if not is_safe_path(path):
        return f"no file can be named {path[:80]!r}"
    text = files.get(path, "")
    if not _keep(hunk, "-").strip():
        files[path] = text + _keep(hunk, "+")
        return ""
    if path not in files:
        return f"there is no file {path}"
    found = _replace_hunk(text, hunk) or _replace_changes(text, hunk)
    if not found:
        return f"{path} does not hold the searched lines"
    files[path] = found
    return ""


def _replace_hunk(text: str, hunk: _Hunk) -> str:
    """The text with the hunk applied wherever its lines stand; empty if they stand nowhere."""
    before, after = _keep(hunk, "-"), _keep(hunk, "+")
    if not before or (len("".join(before.split())) < _FEW and text.count(before) > 1):
        return ""
    if before not in text:
        text, before, after = (f"{one.strip(chr(10))}\n" for one in (text, before, after))
    count = text.count(before)
    size = len(text) + count * (len(after) - len(before))
    return text.replace(before, after) if count and size <= MAX_CHARS else ""


def _replace_changes(text: str, hunk: _Hunk) -> str:
    """The text with each change of a hunk applied, with as much context as it takes; or empty."""
    parts = [(key, list(lines)) for key, lines in groupby(hunk, key=lambda line: line[0] == " ")]
    for number, (is_context, change) in enumerate(parts):
        if is_context:
            continue
        above = parts[number - 1][1] if number else []
        below = parts[number + 1][1] if number + 1 < len(parts) else []
        choices = (
            above[len(above) - first :] + change + below[: used - first]
            for used in range(len(above) + len(below), -1, -1)
            for first in range(min(used, len(above)), max(0, used - len(below)) - 1, -1)
        )
        tried = (_replace_hunk(text, choice) for choice in islice(choices, _NUM_TRIES))
        text = next(filter(None, tried), "")
        if not text:
            return ""
    return text


EDIT_FORMATS = {"whole": apply_whole, "diff": apply_diff, "udiff": apply_udiff}
