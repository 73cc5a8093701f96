"""Finds the expected values in a test's source text and makes one of them wrong.

Place in the flow: `exit_code.py` asks for `list_controls` to get tests that no right program can
pass. It reads no language's grammar, only the shapes in which benchmarks write expectations: MBXP's
`v0 = ...`, `expected_1 := ...` and `compare(x0, ...)`, and the one-line asserts of MultiPL-E. Only
literals change, to another of the same type, so a changed test still compiles.

What it does not do: it does not prove that a change matters. `f(2) == 3 || true` fools it.
"""

import re
import secrets
import string

NAMED = re.compile(
    r"^.*?(?<![\w$])(?:\$?v\d+|expected_?\d+)\b[^=\n]*?:?=(?!=)[ \t]*|compare\(x\d+,[ \t]*",
    re.MULTILINE,
)
"""What stands before an expected value in MBXP and multilingual HumanEval."""
FIRST = re.compile(r"^.*?(?:assert_equal\(|\bexpected: |\.get == )", re.MULTILINE)
"""Ruby's and Go's order in MultiPL-E, and D's nullables: the expected value comes next."""
CALL = re.compile(
    r"(?:\bassert\(|\bassert_eq!\(|Assert\(|[eE]quals?\(|eq_deeply\(|\bif \(|@test\()"
    r"\s*\$?[\w.]+(?:->)?\("
    r"|\[\[ \$\(|\(check-within \("
)
"""The beginning of a compared call in MultiPL-E: after its end the expected value comes."""
MESSAGE = re.compile(r"\bthrow\b|\bprint\b|, candidate\b|//| 0\.001\)$", re.MULTILINE)
"""From here on a line holds no expected value, but words or Racket's tolerance."""
LITERAL = re.compile(
    r'(?P<text>"(?:\\.|[^"\\\n])*")'
    r"|(?P<quoted>'(?:\\.|[^'\\\n])*')"
    r"|(?P<truth>\b(?:true|false|True|False|TRUE|FALSE)\b|#[tf]\b)"
    r"|(?P<number>(?<![\w.$])\d[\d_]*(?:\.\d+)?)"
)
CHARACTER_LANGUAGES = frozenset(
    ("cpp", "java", "kotlin", "scala", "go", "csharp", "rust", "swift", "d", "julia")
)
"""Where single quotes hold one character, not a text."""


def list_controls(tests: str, language: str) -> list[str]:
    """Every variant of the tests with exactly one expected literal made wrong; may be empty."""
    return [
        tests[:start] + change_literal(tests[start:end], language) + tests[end:]
        for start, end in find_expected_literals(tests)
    ]


def expect_nothing(tests: str, language: str) -> str | None:
    """The tests with null in the place of every expected value, where comparisons are loose.

    PHP's `==` takes `true` for every literal that is not empty, but not for null.
    """
    if language != "php":
        return None
    changed = re.sub(r"^(\s*\$v\d+ = ).*;$", r"\1null;", tests, flags=re.MULTILINE)
    return changed if changed != tests else None


def find_expected_literals(tests: str) -> list[tuple[int, int]]:
    """(start, end) of the literals that belong to an expected value."""
    for starts in (
        [match.end() for match in NAMED.finditer(tests)],
        [match.end() for match in FIRST.finditer(tests)],
        [find_call_end(tests, match.end()) for match in CALL.finditer(tests)],
    ):
        if starts:
            return [span for start in starts for span in list_literals(tests, start)]
    return []


def list_literals(tests: str, start: int) -> list[tuple[int, int]]:
    """Literals from `start` to the end of its line, or to what no longer is the expected value."""
    end = tests.find("\n", start) if "\n" in tests[start:] else len(tests)
    message = MESSAGE.search(tests, start, end)
    # A comment sign or a word may stand inside a text: only what follows all texts ends the value.
    literals = list(LITERAL.finditer(tests, start, end))
    if message and not any(found.start() < message.start() < found.end() for found in literals):
        literals = [found for found in literals if found.end() <= message.start()]
    return [found.span() for found in literals]


def find_call_end(tests: str, start: int) -> int:
    """Where the bracket closes that opened just before `start`; brackets in texts do not count."""
    depth, place = 1, start
    while depth and place < len(tests):
        literal = LITERAL.match(tests, place) if tests[place] in "\"'" else None
        place = literal.end() if literal else place
        depth += {"(": 1, ")": -1}.get(tests[place : place + 1], 0) if not literal else 0
        place += not literal
    return place


def change_literal(literal: str, language: str) -> str:
    """Another literal of the same type, by chance: a program must not know the mark of a control.

    A number's first digit that counts changes: no tolerance forgives it, and it stays in range.
    """
    if literal[0] in "\"'":
        letter = choose_other(string.ascii_lowercase, literal[1:-1])
        if literal[0] == "'" and language in CHARACTER_LANGUAGES:
            return f"'{letter}'"
        place = secrets.choice((1, len(literal) - 1))
        return literal[:place] + letter + literal[place:]
    if literal in ("#t", "#f"):
        return "#f" if literal == "#t" else "#t"
    if literal.lower() in ("true", "false"):
        other = "false" if literal.lower() == "true" else "true"
        return other.upper() if literal.isupper() else other.title() if literal.istitle() else other
    place = next((i for i, digit in enumerate(literal) if digit in "123456789"), 0)
    digit = int(literal[place])
    return literal[:place] + str(digit - 1 if digit > 1 else digit + 1) + literal[place + 1 :]


def choose_other(letters: str, taken: str) -> str:
    """One of `letters`, but not `taken`."""
    return secrets.choice([letter for letter in letters if letter != taken])
