"""Exercism's exercises in other languages than Python: which files, which tests, which framework.

Place in the flow: `aider.py` turns a row of a data file into a problem with `read_exercise`. Tests
that an exercise leaves for later are run too, as aider does (`xtest`, `#[ignore]`, `@Disabled`,
EXERCISM_RUN_ALL_TESTS). Their names are read from their source: all of them have to be run. Files
that are neither the solution nor hidden come from the trusted copy, whatever a model wrote.

What it does not do: it runs nothing, and it installs no third-party package. Exercises that cannot
be judged without one are named here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sdb_sandboxes.types import Check, SuiteCheck
from sdb_sandboxes.verifiers.projects import list_tests

PROJECTS = {
    "cpp": "cpp-catch2",
    "go": "go-test",
    "java": "java-junit",
    "javascript": "javascript-jest",
    "rust": "rust-test",
}
"""Language -> how its projects are tested, a row of `languages.PROJECTS`."""
NOT_JUDGED = {
    "cpp/bank-account": "its tests start 1,000 threads at once, more than a sandbox gives",
    "go/counter": "the solution is itself the test suite: there is nothing that tests it",
    "java/bank-account": "its tests start 1,000 threads at once, more than a sandbox gives",
    "java/hangman": "its tests need RxJava 2, which Debian does not have",
    "java/mazy-mice": "its tests need an AssertJ of 3.17 or later, Debian has 3.14",
    "java/rest-api": "its tests need org.json, which Debian does not have",
    "rust/gigasecond": "its tests need the crate time",
    "rust/macros": "its tests run cargo, which no image has",
    "rust/grep": "its starter needs the crate anyhow",
    "rust/simple-cipher": "its starter may use the crate rand",
}
"""Exercise -> why no sandbox judges it."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise, ready to be tested."""

    starter: dict[str, str]
    """The files that a model may change."""
    reference: dict[str, str]
    """The same, and any others, as the exercise's author solved it."""
    check: Check
    not_judged: str = ""


def read_exercise(row: Mapping[str, Any], language: str) -> Exercise:
    """What a row of a data file says, for every language but Python.

    Args:
        row: `name`, `solution`, `test`, `example` (paths) and `files` (path -> text).
        language: Its language.
    """
    files: dict[str, str] = row["files"]
    starter = {path: files[path] for path in row["solution"] if path != "Cargo.toml"}
    reference = {
        path: text
        for path, text in place_reference(row, starter).items()
        if path in starter or path not in files
    }
    paths = tuple(reference)
    trusted = {
        path: activate_tests(path, text)
        for path, text in files.items()
        if path not in starter and path[0] != "."
    }
    project = PROJECTS[language]
    tests = tuple(name for text in trusted.values() for name in list_tests(text, project))
    check = SuiteCheck(
        tuple(trusted.items()), tests, paths[0], language=project, more_paths=paths[1:]
    )
    return Exercise(starter, reference, check, NOT_JUDGED.get(f"{language}/{row['name']}", ""))


def activate_tests(path: str, text: str) -> str:
    """A test file with the tests that aider's scripts run, and no others."""
    if path.endswith(".spec.js"):
        return re.sub(r"\bxtest\(", "test(", text)
    if path.endswith("_test.cpp"):
        return BENCHMARKS.sub("", text)
    if path.startswith("src/test/java/"):
        return re.sub(r"@Disabled(?:\(.*\))?", "", text)
    if path.startswith("tests/"):
        return OPTIONAL.sub("", text)
    return text


BENCHMARKS = re.compile(r"#if defined\(EXERCISM_INCLUDE_BENCHMARK\)\n[\s\S]*?\n#endif")
OPTIONAL = re.compile(
    r"^(?P<indent>[ \t]*)(?:#\[[^\n]*\]\n[ \t]*)*?#\[cfg\(feature[^\n]*\n"
    r"(?:[ \t]*(?:#\[|//)[^\n]*\n)*(?:[^\n]*;\n|[^\n]*\{\n[\s\S]*?^(?P=indent)\}\n)",
    re.MULTILINE,
)
"""An item of a Rust source that only a feature adds: `cargo test` has none on."""


def place_reference(row: Mapping[str, Any], starter: Mapping[str, str]) -> dict[str, str]:
    """The author's solution, in the places where its files belong; else the starter's."""
    files: dict[str, str] = row["files"]
    reference = dict(starter)
    for example in row["example"]:
        path = example.replace(".meta/src/reference/", "src/main/")
        if path == example:  # named example.EXT, or proof.ci.EXT
            ending = PurePosixPath(example).suffix
            path = next(one for one in starter if PurePosixPath(one).suffix == ending)
        reference[path] = files[example]
    return reference


def leave_early(program: str, language: str) -> str:
    """The program, but it ends the process with exit code 0 as soon as it is loaded."""
    for place, text in EARLY_EXITS[language]:
        found = re.search(place, program)
        end = found.end() if found else len(program)
        program = program[:end] + text + program[end:]
    return program


EARLY_EXITS = {
    "java": ((r"\bclass \w+[^{]*\{", " static { System.exit(0); } "),),
    "rust": (
        (
            r"\Z",
            '\nextern "C" fn leave() { std::process::exit(0) }\n'
            '#[used]\n#[link_section = ".init_array"]\n'
            'pub static LEAVE: extern "C" fn() = leave;\n',
        ),
    ),
    "javascript": ((r"\A(?:#!.*\n)?", "process.exit(0);\n"),),
    "cpp": ((r"\A=== .*\n", "#include <cstdlib>\nint leave = (std::exit(0), 0);\n"),),
    "go": (
        (r"package \w+\n", 'import leave "os"\n'),
        (r"\Z", "\nfunc init() { leave.Exit(0) }\n"),
    ),
}
"""Language -> (behind what, what is put there)."""
