"""ExcessCode: how much of an edit no test ever runs. CanItEdit's second metric.

Place in the flow: `sdbench benchmarks excess-code STORE`, after a run. Source: Cassano et al. 2024
(arXiv 2312.12450). For a program that passed: statements of the program that its tests do not run,
divided by the lines of a `difflib.Differ` comparison of the program before and after; the mean over
a problem's samples, then over problems, times 100. Problems that no sample passed drop out.

Upstream divides by all lines of that comparison, unchanged ones and the `?` lines included, and
calls the mean a median; both are kept, so that numbers can be compared. It counts with the
`coverage` package; here the sandbox traces the lines itself. What a program prints about itself
could lie, and only this metric would believe it: verdicts come from elsewhere.
"""

import ast
import difflib
import json
from collections.abc import Iterable
from statistics import fmean

from sdb_harness.benchmarks import Benchmark
from sdb_harness.records import Problem, SampleRow
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ObjectCheck, ProgramRequest, ResourceLimits, SuiteCheck

TRACER = """\
import json, sys, threading

lines = set()

def trace(frame, event, argument):
    if frame.f_code.co_filename != "<program>":
        return None
    if event == "line":
        lines.add(frame.f_lineno)
    return trace

with open("program.txt") as file:
    source = file.read()
names = {"__name__": "__main__"}
threading.settrace(trace)
sys.settrace(trace)
try:
    exec(compile(source, "<program>", "exec", dont_inherit=True), names)
finally:
    sys.settrace(None)
    print()
    print(json.dumps(sorted(lines)))
"""


def compute_excess_code(
    benchmark: Benchmark, sandbox: Sandbox, rows: Iterable[SampleRow]
) -> tuple[float, int] | None:
    """The metric of one cell.

    Args:
        benchmark: With `starter` in its problems: the programs before the edit.
        sandbox: Where the programs run once more.
        rows: The cell's rows; those that did not pass are skipped.

    Returns:
        (percent, number of problems that count), or None if nothing passed.
    """
    problems = {problem.problem_id: problem for problem in benchmark.problems}
    shares: dict[str, list[float]] = {}
    for row in rows:
        if row.status == "passed":
            problem = problems[row.problem_id]
            share = measure_program(problem, row.program, sandbox, benchmark.limits)
            if share is not None:
                shares.setdefault(row.problem_id, []).append(share)
    if not shares:
        return None
    return 100 * fmean(map(fmean, shares.values())), len(shares)


def measure_program(
    problem: Problem, program: str, sandbox: Sandbox, limits: ResourceLimits
) -> float | None:
    """Statements not run, per line of the comparison; None if the traced run did not end well."""
    files = (("main.py", TRACER), ("program.txt", f"{program}\n{get_tests(problem)}"))
    result = sandbox.run_program(ProgramRequest("python", files, ("",), limits))
    try:
        run = set(json.loads(result.runs[0].stdout.rstrip("\n").rpartition("\n")[2]))
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    missed = [lines for lines in list_statements(program) if not run & set(lines)]
    comparison = difflib.Differ().compare(problem.starter.splitlines(), program.splitlines())
    return len(missed) / max(1, sum(1 for _ in comparison))


def get_tests(problem: Problem) -> str:
    """The source of the tests that stand behind the program.

    Raises:
        ValueError: the check has none.
    """
    match problem.check:
        case ObjectCheck(tests=tests):
            return tests
        case SuiteCheck(files=((_, tests), *_)):
            return tests
    raise ValueError(f"{problem.problem_id} is not judged by a script behind the program")


def list_statements(program: str) -> list[range]:
    """The lines of each statement that can be run: of a compound one, those of its head.

    Docstrings and declarations (`global`, `nonlocal`) cannot.
    """
    statements = []
    for node in ast.walk(ast.parse(program)):
        if not isinstance(node, ast.stmt) or isinstance(node, ast.Global | ast.Nonlocal):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        body = getattr(node, "body", None) or getattr(node, "cases", None)
        end = node.end_lineno or node.lineno
        if body:
            first = body[0].pattern if isinstance(body[0], ast.match_case) else body[0]
            end = max(node.lineno, first.lineno - 1)
        decorators = getattr(node, "decorator_list", [])
        start = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        statements.append(range(start, end + 1))
    return statements
