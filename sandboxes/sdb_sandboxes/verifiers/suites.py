"""L1 for Python: tests of unittest or pytest in the program's own interpreter.

Place in the flow: `verify` with a `SuiteCheck`; for tests that replace parts of the program's
modules (mocks), subclass its classes or hand it objects of third-party packages, as BigCodeBench
does, and for projects of several files. Every run gets a fresh folder: first the program's file,
then the trusted test files. The report comes from a parent process that outlives the program
(`suite_runner.py`) and is read after all processes are dead; it must name exactly the tests of the
data set. Unittest cases, plain classes and plain functions need the standard library alone; tests
that take fixtures are run by pytest (`SuiteCheck.is_pytest`), where the sandbox has it. Whoever
passes must fail a control with an expected value made wrong, else: forged.

What it does not do: it is no proof. Program and tests share an interpreter, so a program that
knows the tests by heart can tell a control from the original. Rewards from L1 are to be reported
apart.
"""

import json
import secrets
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    ExecutionResult,
    ProgramRequest,
    ResourceLimits,
    Status,
    SuiteCheck,
    Verdict,
)
from sdb_sandboxes.verifiers.controls import draw_controls, draw_suite_control
from sdb_sandboxes.verifiers.exit_code import FORGED, UNCONTROLLED
from sdb_sandboxes.verifiers.verdicts import build_verdict

RUNNER_PATH = "_suite_runner.py"


def verify_suite(
    sandbox: Sandbox, program: str, check: SuiteCheck, limits: ResourceLimits
) -> Verdict:
    """Run all tests, then a control against a program that passed them."""
    if not check.test_ids or not check.files:
        raise ValueError("the check has no test; zero tests prove nothing")
    result, status, detail, passed = run_suite(sandbox, program, check, limits)
    if status is Status.PASSED:
        status, detail = run_controls(sandbox, program, check, limits)
    num_tests = len(check.test_ids)
    num_passed = 0 if detail == FORGED else sum(passed)
    num_run = num_tests if passed else 0
    return build_verdict(sandbox, result, status, detail, "L1", num_tests, num_passed, num_run)


def run_suite(
    sandbox: Sandbox, program: str, check: SuiteCheck, limits: ResourceLimits
) -> tuple[ExecutionResult, Status, str, list[bool]]:
    """One run of the suite: result, status, one line, and how each test ended."""
    nonce = secrets.token_hex(16)
    request = ProgramRequest("python", list_files(program, check), (f"{nonce}\n",), limits)
    result = sandbox.run_program(request)
    if result.status is not Status.PASSED:
        return result, result.status, result.detail, []
    status, detail, passed = read_report(result.runs[0].stdout, nonce, check)
    return replace(result, stdout_tail=""), status, detail, passed


def list_files(program: str, check: SuiteCheck) -> tuple[tuple[str, str], ...]:
    """The runner, the program, and the tests in their place, whatever the program wrote there."""
    (path, tests), *others = check.files
    if check.is_joined:
        files = {check.program_path: f"{program}\n\n{tests}", **dict(others)}
    else:
        files = {check.program_path: program, path: tests, **dict(others)}
    modules = {find_module(test, files): False for test in check.test_ids}
    order = {
        "modules": {name: name in check.test_ids for name in modules},
        "pytest": check.test_ids if check.is_pytest else (),
    }
    return ((RUNNER_PATH, read_runner()), ("_suite.json", json.dumps(order)), *files.items())


def find_module(test_id: str, files: dict[str, str]) -> str:
    """The module that holds a test. Raises ValueError if no file is that module."""
    modules = {".".join(PurePosixPath(path).with_suffix("").parts) for path in files}
    parts = test_id.split(".")
    for end in (len(parts), len(parts) - 1, len(parts) - 2):
        if (name := ".".join(parts[:end])) in modules:
            return name
    raise ValueError(f"test {test_id!r} is in none of the files {', '.join(sorted(files))}")


@cache
def read_runner() -> str:
    """The source of `suite_runner.py`."""
    return Path(__file__).with_name("suite_runner.py").read_text()


def read_report(stdout: str, nonce: str, check: SuiteCheck) -> tuple[Status, str, list[bool]]:
    """Believe a report only if it has the nonce and exactly the tests that are expected."""
    report = read_signed(stdout, nonce)
    if report is None:
        return Status.RUNTIME_ERROR, "the tests ended without a report", []
    if "error" in report:
        name = str(report["error"])
        name = name if name.isidentifier() and len(name) <= 80 else "an error"
        return Status.RUNTIME_ERROR, f"the tests could not be loaded: {name}", []
    tests = report.get("tests")
    if not isinstance(tests, list):
        return Status.RUNTIME_ERROR, "the process ended before the tests did", []
    outcomes: dict[str, bool] = {}
    for item in tests:
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
            return Status.RUNTIME_ERROR, "the report of the tests is malformed", []
        outcomes[item[0]] = outcomes.get(item[0], True) and item[1] is True
    if set(outcomes) != set(check.test_ids) or len(tests) != len(check.test_ids):
        detail = f"{len(tests)} tests were run that are not the data set's {len(check.test_ids)}"
        return Status.WRONG_ANSWER, detail, []
    passed = [outcomes[test] for test in check.test_ids]
    if all(passed):
        return Status.PASSED, "", passed
    first = check.test_ids[passed.index(False)]
    return Status.WRONG_ANSWER, f"{first} failed", passed


def read_signed(stdout: str, nonce: str) -> dict[str, Any] | None:
    """The report of a runner; None if it is none or does not bear the nonce."""
    try:
        told = json.loads(stdout)
        report = told["report"]
        is_ours = told["nonce"] == nonce and isinstance(report, dict)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return report if is_ours else None


def run_controls(
    sandbox: Sandbox, program: str, check: SuiteCheck, limits: ResourceLimits
) -> tuple[Status, str]:
    """Whether a program that passed fails every test that was made wrong."""
    for _ in range(check.num_controls):
        files, wrong = draw_control_files(check)
        if not wrong:
            return Status.PASSED, UNCONTROLLED
        control = replace(check, files=files)
        _, status, detail, passed = run_suite(sandbox, program, control, limits)
        if status is Status.INFRASTRUCTURE:
            return status, detail
        outcomes = zip(check.test_ids, passed, strict=False)
        if any(is_passed and test in wrong for test, is_passed in outcomes):
            return Status.WRONG_ANSWER, FORGED
    return Status.PASSED, ""


def draw_control_files(check: SuiteCheck) -> tuple[tuple[tuple[str, str], ...], set[str]]:
    """The files with tests made wrong, by their expected values where they have any; and those."""
    files, wrong = list(check.files), set[str]()
    for i, (path, tests) in enumerate(check.files):
        path = check.program_path if check.is_joined and i == 0 else path
        module = ".".join(PurePosixPath(path).with_suffix("").parts)
        if module in check.test_ids:
            controls = draw_controls(tests, 1)
            names = [module] if controls else []
        elif any(test.startswith(f"{module}.") for test in check.test_ids):
            control, tests_changed = draw_suite_control(tests, fails_others=True)
            controls, names = [control], [f"{module}.{name}" for name in tests_changed]
        else:
            continue
        if controls:
            files[i] = (check.files[i][0], controls[0])
        wrong |= set(names)
    return tuple(files), wrong & set(check.test_ids)
