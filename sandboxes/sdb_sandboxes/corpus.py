"""Reads a corpus of hostile, cheating and merely unusual programs, and what each must end as.

Place in the flow: `tests/sandboxes/attacks/` holds the corpus as plain data, one file per family;
its test runs every entry in every sandbox, and `sandboxes/benchmarks/attacks.py` prints a table of
what is accepted. A maker of a new sandbox runs it after `conformance.py`. What it does not do: it
runs nothing itself.

A family's file defines `FAMILY` (its name), `CHECKS` (how its entries are judged unless they say
otherwise) and `ENTRIES`, a list of dictionaries of text:

    id        one word with dashes, unique in the corpus
    about     one line: what it tries
    program   the whole source; or `body`: the body of `f(n)`; `{SEND}` at its start stands for SEND
              and `{LONG:text*number}` anywhere for so many repetitions of a text
    allowed   statuses it may end as, separated by spaces; where objects or a whole program are
              judged, a wrong answer and an error are always among them
    checks    names of CHECKS, separated by commas (left out: the family's)
    limits    a name of LIMITS (left out: usual)
    races     why two runs may end as two of the allowed statuses (left out: they may not)
"""

import re
import runpy
import textwrap
from dataclasses import dataclass
from pathlib import Path

from sdb_sandboxes.types import (
    AssertionCheck,
    Case,
    Check,
    ExitCodeCheck,
    FunctionCheck,
    ObjectCheck,
    ReferenceCheck,
    ResourceLimits,
    Status,
    StdinCheck,
    SuiteCheck,
)

HONEST_FAMILY = "good programs"
FAMILIES = (
    "leaving early",
    "lying values",
    "stealing",
    "writing the verdict",
    "rewriting the grader",
    "processes, signals, time",
    "memory, disk, output",
    "kernel, network, privileges",
    "state left behind",
    "odd sources",
    HONEST_FAMILY,
)

SEND = """
import os, struct
def send(body, descriptor=3):
    left = struct.pack("<I", len(body)) + body
    while left:
        left = left[os.write(descriptor, left):]
"""
"""For entries that speak to the judge themselves: one frame on the channel."""
LONG = re.compile(r"\{LONG:(.+?)\*(\d+)\}", re.DOTALL)


def build_assertions(body: str) -> AssertionCheck:
    """Test source whose `check(candidate)` has this body."""
    return AssertionCheck("f", "def check(candidate):\n" + textwrap.indent(body, "    ") + "\n")


SUITE = """
import unittest
from solution import f
class T(unittest.TestCase):
    def test_one(self): self.assertEqual(f(1), [1, 2])
def test_five():
    assert f(5) == [5, 6]
"""
WORDS = ("abc", "bcd", "cde", "def")
PAIRS = (Case((1,), [1, 2]), Case((5,), [5, 6]))
CHECKS: dict[str, Check] = {
    "data": FunctionCheck("f", PAIRS),
    "equality": FunctionCheck("f", PAIRS, "python_equality"),
    "numbers": FunctionCheck("f", (Case((1,), 0.5), Case((4,), 2.0)), "float_tolerance"),
    "assertions": build_assertions("assert candidate(1) == [1, 2]\nassert candidate(5) == [5, 6]"),
    "loops": build_assertions(
        "for n, answer in zip(range(1, 9), map(candidate, range(1, 9))):\n"
        "    assert answer == [n, n + 1]"
    ),
    "caught": build_assertions(
        "for n in range(1, 9):\n    try:\n        assert candidate(n) == [n, n + 1]\n"
        "    except Exception:\n        assert False"
    ),
    "tolerant": build_assertions(
        "assert abs(candidate(1) - 0.5) < 1e-6\nassert abs(candidate(4) - 2.0) < 1e-6"
    ),
    "truth": build_assertions("assert candidate(2)\nassert not candidate(3)"),
    "raises": build_assertions(
        "assert candidate(1) == [1, 2]\nfor bad in (-1, -2):\n    try:\n        candidate(bad)\n"
        "    except ValueError:\n        continue\n    assert False"
    ),
    "in place": build_assertions(
        "numbers, words = [3, 1, 2], {'b': [2, 1]}\ncandidate(numbers)\n"
        "assert numbers == [1, 2, 3]\ncandidate(words['b'])\nassert words == {'b': [1, 2]}"
    ),
    "called at once": AssertionCheck("f", "x = f(2) + [1]\ndef check(c): assert x == [2, 3, 1]\n"),
    "reference": ReferenceCheck("f", "def f(n): return [n, n + 1]\n", ((1,), (5,)), "evalplus"),
    "rearranged": FunctionCheck("f", PAIRS, "multiset"),
    "as a set": FunctionCheck("f", (Case((1,), {0, 1}), Case((5,), {0, 5})), "set"),
    "output": StdinCheck((("1\n", "1 2\n"), ("5\n", "5 6\n"))),
    "words": StdinCheck((("1\n", "1 2\n"), ("5\n", "5 6\n")), "tokens_float"),
    "decimals": StdinCheck((("1\n", "1 2\n"), ("5\n", "5 6\n")), "lines_decimal"),
    # Every control there is: with one alone, leaving after the first test is a bet on its place.
    "exit code": ExitCodeCheck(
        "python", "\nv0 = [1, 2]\nassert f(1) == v0\nv1 = [5, 6]\nassert f(5) == v1\n", "", 4
    ),
    # Four controls: a program that guesses the letter of one passes one time in 52, of all never.
    "words by exit code": ExitCodeCheck(
        "python",
        "".join(f'\nv{n} = "{word}"\nassert f({n}) == v{n}\n' for n, word in enumerate(WORDS)),
        "",
        len(WORDS),
    ),
    "objects": ObjectCheck("assert f(1) == [1, 2]\nassert f(5) == [5, 6]\n", ("f",), "", "", (), 4),
    "suite": SuiteCheck(
        (("test_f.py", SUITE),), ("test_f.T.test_one", "test_f.test_five"), num_controls=4
    ),
    "sets": FunctionCheck("f", (Case((1,), {1, 2}), Case((5,), {5, 6}))),
    "tables": FunctionCheck("f", (Case((1,), {1: 2}), Case((5,), {5: 6}))),
}

OUTPUT_MAIN = "\nprint(*f(int(input())))\n"
"""Behind every program that is judged by its output."""

LIMITS = {
    "usual": ResourceLimits(0.4, 30.0, memory_bytes=256 << 20, num_processes=16),
    "short wall": ResourceLimits(1.0, 0.5, memory_bytes=256 << 20, num_processes=16),
    "small memory": ResourceLimits(5.0, 60.0, memory_bytes=64 << 20, num_processes=16),
    "small files": ResourceLimits(2.0, 60.0, 256 << 20, file_bytes=1 << 20, num_processes=16),
    "patient": ResourceLimits(5.0, 60.0, memory_bytes=512 << 20),
    "little time": ResourceLimits(0.15, 30.0, memory_bytes=256 << 20, num_processes=16),
    "little output": ResourceLimits(2.0, 30.0, 256 << 20, 1 << 16, num_processes=16),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One program of the corpus."""

    id: str
    family: str
    about: str
    program: str
    checks: tuple[str, ...]
    """Names in CHECKS; the program is judged by each."""
    allowed: frozenset[Status]
    limits: ResourceLimits
    races: str = ""

    @property
    def is_honest(self) -> bool:
        """Whether it solves its problem and has to pass."""
        return self.family == HONEST_FAMILY

    def build(self, name: str) -> tuple[str, Check, frozenset[Status]]:
        """What to judge by the check of this name: program, check, statuses it may end as."""
        check = CHECKS[name]
        own = {Status.WRONG_ANSWER, Status.RUNTIME_ERROR}
        strict = FunctionCheck | ReferenceCheck | AssertionCheck
        is_loose = not isinstance(check, strict) and not self.is_honest
        main = OUTPUT_MAIN if isinstance(check, StdinCheck) else ""
        return self.program + main, check, self.allowed | own if is_loose else self.allowed


def read_corpus(folder: Path) -> list[Entry]:
    """Read every family in `folder`.

    Raises:
        ValueError: An unknown or missing field or name, an id used twice, a cheat that may pass or
            an honest program that may fail.
    """
    entries: list[Entry] = []
    for path in sorted(folder.glob("*.py")):
        names = runpy.run_path(str(path))
        entries += [read_entry(item, names["FAMILY"], names["CHECKS"]) for item in names["ENTRIES"]]
    ids = [entry.id for entry in entries]
    if len(set(ids)) < len(ids):
        raise ValueError(f"ids used twice: {sorted({i for i in ids if ids.count(i) > 1})}")
    return entries


def read_entry(item: dict[str, str], family: str, checks: str) -> Entry:
    """Build one entry. Raises ValueError for anything unknown in it."""
    name = item.get("id", "without an id")
    unknown = set(item) - {"id", "about", "program", "body", "allowed", "checks", "limits", "races"}
    if (
        unknown
        or not {"id", "about", "allowed"} <= set(item)
        or ("program" in item) == ("body" in item)
    ):
        raise ValueError(f"entry {name}: needs id, about, allowed and program or body: {set(item)}")
    program = item.get("program", "")
    if "body" in item:
        body = item["body"].strip("\n")
        prefix, body = ("{SEND}", body[6:]) if body.startswith("{SEND}") else ("", body)
        program = prefix + "def f(n):\n" + textwrap.indent(body.strip("\n"), "    ") + "\n"
    if program.startswith("{SEND}"):
        program = SEND + program.removeprefix("{SEND}")
    program = LONG.sub(lambda match: match[1] * int(match[2]), program)
    names = tuple(name.strip() for name in item.get("checks", checks).split(","))
    entry = Entry(
        id=item["id"],
        family=family,
        about=item["about"],
        program=program,
        checks=names,
        allowed=frozenset(map(Status, item["allowed"].split())),
        limits=LIMITS[item.get("limits", "usual")],
        races=item.get("races", ""),
    )
    if family not in FAMILIES:
        raise ValueError(f"entry {name}: unknown family {family!r}; use {', '.join(FAMILIES)}")
    if entry.is_honest != (entry.allowed == {Status.PASSED}) or set(names) - set(CHECKS):
        raise ValueError(f"entry {name}: statuses {item['allowed']!r} or checks {names} do not fit")
    if not entry.is_honest and entry.allowed & {Status.PASSED, Status.INFRASTRUCTURE}:
        raise ValueError(f"entry {name}: a cheat may end as {item['allowed']!r}")
    return entry
