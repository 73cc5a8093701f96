"""Does this machine judge a benchmark rightly? References must pass, trivial programs must not.

Place in the flow: `sdbench benchmarks verify NAME`, before any model is asked. A benchmark whose
own references fail here (missing module, too tight a limit, broken sandbox) would understate every
model; one whose empty programs pass would overstate them.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sdb_harness.benchmarks import Benchmark
from sdb_harness.records import Problem
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.verifiers import verify


@dataclass(frozen=True, slots=True)
class Finding:
    """How one kind of program was judged over all problems."""

    name: str
    should_pass: bool
    num_programs: int
    num_passed: int
    exceptions: tuple[str, ...]
    """`problem: status` wherever the judgement is not the expected one."""


PROGRAM_KINDS: dict[str, tuple[bool, Callable[[Problem], str]]] = {
    "reference": (True, lambda problem: problem.prompt + problem.reference),
    "empty": (False, lambda problem: ""),
    "prompt alone": (False, lambda problem: problem.prompt),
    "return None": (False, lambda problem: f"{problem.prompt}    return None\n"),
}
"""Name -> (must it pass, how it is written)."""


def verify_judging(benchmark: Benchmark, sandbox: Sandbox) -> list[Finding]:
    """Judge every kind of program on every problem of a benchmark."""
    findings = []
    for name, (should_pass, write) in PROGRAM_KINDS.items():

        def judge(problem: Problem, write: Callable[[Problem], str] = write) -> str:
            verdict = verify(sandbox, write(problem), problem.check, benchmark.limits)
            return verdict.status.value

        with ThreadPoolExecutor(max_workers=sandbox.num_slots) as pool:
            statuses = list(pool.map(judge, benchmark.problems))
        exceptions = tuple(
            f"{problem.problem_id}: {status}"
            for problem, status in zip(benchmark.problems, statuses, strict=True)
            if (status == "passed") is not should_pass or status == "infrastructure"
        )
        num_passed = statuses.count("passed")
        findings.append(Finding(name, should_pass, len(statuses), num_passed, exceptions))
    return findings
