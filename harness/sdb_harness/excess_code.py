"""ExcessCode: how much of an edit no test ever runs. CanItEdit's second metric.

Place in the flow: `sdbench benchmarks excess-code STORE`, after a run. Source: Cassano et al. 2024
(arXiv 2312.12450). For a program that passed: lines of the program that its tests do not run,
divided by the lines of a `difflib.Differ` comparison of the program before and after; the mean over
a problem's samples, then over problems, times 100. Problems that no sample passed drop out.

Upstream divides by all lines of that comparison, unchanged ones and the `?` lines included, and
calls the mean a median. It reads the lines that did not run off the report of the `coverage`
package, whose ranges (`17-24`) span blank lines, comments and the rest of long statements, and
counts those too. All three are kept, so that numbers can be compared: benchmark/pass_k.py and
evaluator_overlay.py of nuprl/CanItEdit, coverage 7.3.2. Here the sandbox traces the lines itself.
What a program prints about itself could lie, and only this metric would believe it: verdicts come
from elsewhere.
"""

import ast
import difflib
import json
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from math import sqrt
from statistics import fmean, pstdev

from sdb_harness.benchmarks import Benchmark
from sdb_harness.records import Problem, SampleRow
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ObjectCheck, ProgramRequest, ResourceLimits, Status, SuiteCheck

TRACER = """\
import json, sys, threading, types

lines = set()

def trace(frame, event, argument):
    if frame.f_code.co_filename != "program.py":
        return None
    if event == "line":
        lines.add(frame.f_lineno)
    return trace

with open("program.py") as file:
    source = file.read()
tracer, program = sys.modules["__main__"], types.ModuleType("__main__")
program.__file__ = "program.py"  # some tests ask for the source of what they test
sys.modules["__main__"] = program
threading.settrace(trace)
sys.settrace(trace)
try:
    exec(compile(source, "program.py", "exec", dont_inherit=True), vars(program))
finally:
    sys.settrace(None)
    print()
    print(json.dumps(sorted(lines)))
"""


@dataclass(frozen=True, slots=True)
class ExcessCode:
    """The metric of one cell, in percent."""

    mean: float
    standard_error: float
    """Between problems, as upstream computes it: dividing by their number, not by one less."""
    num_problems: int
    """Those that a sample passed."""


def compute_excess_code(
    benchmark: Benchmark, sandbox: Sandbox, rows: Iterable[SampleRow]
) -> ExcessCode | None:
    """The metric of one cell.

    Args:
        benchmark: With `starter` in its problems: the programs before the edit.
        sandbox: Where the programs run once more.
        rows: The cell's rows; those that did not pass are skipped.

    Returns:
        None if nothing passed.
    """
    problems = {problem.problem_id: problem for problem in benchmark.problems}

    def measure(row: SampleRow) -> tuple[str, float | None]:
        problem = problems[row.problem_id]
        return row.problem_id, measure_program(problem, row.program, sandbox, benchmark.limits)

    shares: dict[str, list[float]] = {}
    with ThreadPoolExecutor(sandbox.num_slots) as pool:
        for problem_id, share in pool.map(measure, [r for r in rows if r.status == "passed"]):
            if share is not None:
                shares.setdefault(problem_id, []).append(share)
    if not shares:
        return None
    values = [100 * fmean(of_problem) for of_problem in shares.values()]
    return ExcessCode(fmean(values), pstdev(values) / sqrt(len(values)), len(values))


def measure_program(
    problem: Problem, program: str, sandbox: Sandbox, limits: ResourceLimits
) -> float | None:
    """Lines not run, per line of the comparison; None if the traced run did not end well."""
    files = (("main.py", TRACER), ("program.py", f"{program}\n{get_tests(problem)}"))
    result = sandbox.run_program(ProgramRequest("python", files, ("",), limits))
    if result.status is not Status.PASSED:
        return None
    try:
        run = set(json.loads(result.runs[0].stdout.rstrip("\n").rpartition("\n")[2]))
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    comparison = difflib.Differ().compare(problem.starter.splitlines(), program.splitlines())
    return count_missing_lines(program, run) / max(1, sum(1 for _ in comparison))


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


def count_missing_lines(program: str, run: Collection[int]) -> int:
    """Lines in the ranges of `coverage report -m`: from each first to last statement not run."""
    statements = sorted(list_statements(program), key=lambda lines: (lines.start, lines.stop))
    missed = groupby(statements, key=lambda lines: not any(line in run for line in lines))
    starts = [[lines.start for lines in group] for is_missed, group in missed if is_missed]
    return sum(found[-1] - found[0] + 1 for found in starts)


def list_statements(program: str) -> Iterator[range]:
    """The lines of each statement that `coverage` counts: of a compound one, those of its head.

    Docstrings, declarations (`global`, `nonlocal`) and abstract methods are none; handlers of
    exceptions and cases of a match are.
    """
    waiting: list[ast.AST] = [ast.parse(program)]
    while waiting:
        node = waiting.pop()
        decorators = getattr(node, "decorator_list", [])
        if any(map(is_abstract, decorators)):
            continue  # upstream's .coveragerc leaves these out
        waiting += ast.iter_child_nodes(node)
        match node:
            case ast.Global() | ast.Nonlocal() | ast.Expr(value=ast.Constant(value=str())):
                continue
            case ast.stmt() | ast.excepthandler():
                start, end = node.lineno, node.end_lineno or node.lineno
            case ast.match_case():
                start, end = node.pattern.lineno, node.pattern.end_lineno
            case _:
                continue
        if body := getattr(node, "body", None) or getattr(node, "cases", None):
            first = body[0].pattern if isinstance(body[0], ast.match_case) else body[0]
            end = max(start, first.lineno - 1)
        yield range(min([start, *(one.lineno for one in decorators)]), end + 1)


def is_abstract(decorator: ast.expr) -> bool:
    """Whether it is `abstractmethod` or `abc.abstractmethod`."""
    match decorator:
        case ast.Name("abstractmethod") | ast.Attribute(ast.Name("abc"), "abstractmethod"):
            return True
    return False
