"""Runs a suite inside a cell: tests in a child, the report by a parent without the program.

Place in the flow: `suites.py` sends this source along as the script to run; nothing imports it. The
child loads the program and the tests, says how each test ended down a pipe, and ends. Only when it
has ended does the parent read the judge's line from standard input, which holds the nonce, and
write the report to the standard output that the child never had.

What it does not do: tests and program share the child, so what the child says may be a lie; that
is what the judge's controls are for.
"""

import importlib
import inspect
import json
import os
import struct
import sys
import traceback
import types
import unittest
from typing import Any

MAX_REPORT_BYTES = 1 << 22
PYTEST_OPTIONS = (
    *("-q", "-s", "-p", "no:cacheprovider", "--noconftest", "--disable-plugin-autoload"),
    *("-c", os.devnull, "--rootdir=.", "--confcutdir=.", "--basetemp=.pytest"),
    *("--assert=plain", "--import-mode=importlib"),
)
"""Pytest alone, without settings or plugins of other packages, in the one folder there is."""


class Record(unittest.TestResult):
    """Remembers the tests that passed and nothing else did."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: set[str] = set()
        self.spoiled: set[str] = set()

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.passed.add(test.id())

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.passed.add(test.id())

    def addSubTest(self, test: unittest.TestCase, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.spoiled.add(test.id())


def run_modules(names: dict[str, bool]) -> list[list[Any]]:
    """Every test of these modules, or the modules themselves: [id, whether it passed]."""
    found: list[list[Any]] = []
    for name, is_script in names.items():
        if is_script:
            found.append([name, run_function(lambda name=name: importlib.import_module(name))])
            continue
        module = importlib.import_module(name)
        suite = unittest.TestSuite()
        functions = []
        for kind in list(vars(module).values()):
            if isinstance(kind, type) and issubclass(kind, unittest.TestCase):
                if kind.__module__ == name:
                    suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(kind))
            elif isinstance(kind, type) and kind.__module__ == name and kind.__name__[:4] == "Test":
                functions += list_methods(kind, name)
            elif isinstance(kind, types.FunctionType) and kind.__module__ == name:
                if kind.__name__.startswith("test") and not inspect.signature(kind).parameters:
                    functions.append((f"{name}.{kind.__name__}", kind))
        cases = (test for test in suite if isinstance(test, unittest.TestCase))
        ids = [test.id() for test in cases if not is_left_out(test)]
        record = Record()
        # Not under unittest's own module set-up: each file is a module of its own here.
        suite.run(record)
        for text in (error for _, error in (*record.failures, *record.errors)):
            sys.stderr.write(text)
        found += [[test, test in record.passed - record.spoiled] for test in ids]
        found += [[test, run_function(function)] for test, function in functions]
    return found


class Phases:
    """A plugin of pytest: which phases of each test passed, whatever its parameters."""

    def __init__(self, tests: dict[str, str]) -> None:
        self.tests, self.spoiled = tests, set[str]()
        self.seen: dict[str, set[str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        test = self.tests[report.nodeid.partition("[")[0]]
        self.seen.setdefault(test, set()).add(report.when)
        if not report.passed or hasattr(report, "wasxfail"):
            self.spoiled.add(test)

    def list_outcomes(self) -> list[list[Any]]:
        """[id, whether it was set up, called and torn down without an error] of every test."""
        return [
            [test, phases == {"setup", "call", "teardown"} and test not in self.spoiled]
            for test, phases in self.seen.items()
        ]


def run_pytest(names: dict[str, bool], tests: list[str]) -> list[list[Any]]:
    """These tests of these modules by pytest and none that the program brings along."""
    import pytest

    nodes: dict[str, str] = {}
    for name in names:
        importlib.import_module(name)
        path = name.replace(".", "/") + ".py"
        own = [test for test in tests if test.startswith(f"{name}.")]
        nodes |= {f"{path}::{test[len(name) + 1 :].replace('.', '::')}": test for test in own}
    phases = Phases(nodes)
    pytest.main([*PYTEST_OPTIONS, *nodes], plugins=[phases])
    return phases.list_outcomes()


def is_left_out(test: Any) -> bool:
    """Whether a test is marked in its source as one that is never run."""
    method = getattr(test, test.id().rpartition(".")[2])
    return any(getattr(part, "__unittest_skip__", False) for part in (type(test), method))


def list_methods(kind: type, name: str) -> list[tuple[str, Any]]:
    """The tests of a plain class, each on an instance of its own."""
    return [
        (f"{name}.{kind.__name__}.{method}", lambda method=method: getattr(kind(), method)())
        for method in vars(kind)
        if method.startswith("test")
    ]


def run_function(function: Any) -> bool:
    """Whether a plain test function ends without an error."""
    try:
        function()
    except BaseException:
        traceback.print_exc()
        return False
    return True


def serve_child(line: int, names: dict[str, bool], tests: list[str]) -> None:
    """Run everything and tell the parent; the end of this process is the end of the tests."""
    try:
        found = run_pytest(names, tests) if tests else run_modules(names)
        report: dict[str, Any] = {"tests": found}
    except BaseException as error:
        traceback.print_exc()
        report = {"error": type(error).__name__}
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    body = json.dumps(report).encode()
    data = memoryview(struct.pack("<I", len(body)) + body)
    while data:
        data = data[os.write(line, data) :]


def read_report(line: int) -> Any:
    """What the child said: one frame; None if it is none."""
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "little"):
        piece = os.read(line, 1 << 16)
        data += piece
        if not piece or len(data) > MAX_REPORT_BYTES:
            return None
    try:
        return json.loads(data[4:])
    except ValueError:
        return None


def main() -> None:
    """Fork, wait, report. `sys.argv` is the script's name alone; the order says what to run."""
    with open("_suite.json") as file:
        order = json.load(file)
    os.unlink("_suite.json")
    os.environ["HOME"] = os.getcwd()  # nltk and librosa cannot be imported without one
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(2, 1)
        try:
            serve_child(writer, order["modules"], order["pytest"])
        finally:
            os._exit(0)
    os.close(writer)
    report = read_report(reader)
    _, status = os.waitpid(child, 0)
    nonce = sys.stdin.readline().strip()
    if not isinstance(report, dict) or status:
        report = {"status": status}
    sys.stdout.write(json.dumps({"report": report, "nonce": nonce}))


if __name__ == "__main__":
    main()
