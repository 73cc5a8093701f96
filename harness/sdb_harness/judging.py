"""Judges the programs of one benchmark in one sandbox, and knows what that sandbox cannot judge.

Place in the flow: the execute step of `stages.py`, and `verification.py`. A problem may need
modules that the sandbox does not have (`Problem.modules`): its programs would all fail, and none of
them for a fault of the model. So a run does not ask for them (`list_missing`). Where one is judged
nevertheless, it is not run, and the verdict is INFRASTRUCTURE with the reason, never wrong.
"""

from collections.abc import Iterable

from sdb_harness.benchmarks import Benchmark
from sdb_harness.records import Problem
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ExecutionRequest, ResourceLimits, Status, Verdict
from sdb_sandboxes.verifiers import verify

PROBE = """\
from importlib.util import find_spec

def list_missing(names):
    missing = []
    for name in names:
        try:
            found = find_spec(name) is not None
        except Exception:
            found = False
        if not found:
            missing.append(name)
    return missing
"""


class Judge:
    """Thread-safe once made; making it asks the sandbox for the modules that the problems need."""

    def __init__(self, benchmark: Benchmark, sandbox: Sandbox) -> None:
        """Ask once.

        Raises:
            SandboxUnavailable: the sandbox cannot answer.
        """
        self._sandbox, self._benchmark = sandbox, benchmark
        wanted = {name for problem in benchmark.problems for name in problem.modules}
        self.missing = find_missing_modules(sandbox, wanted)

    def judge(self, problem: Problem, program: str) -> Verdict:
        """Judge one program, or say why nobody can here.

        Raises:
            UserError: the benchmark's data went away or changed since it was loaded.
        """
        lacking = self._explain_problem(problem)
        if not lacking:
            check = self._benchmark.find_check(problem)
            return verify(self._sandbox, program, check, self._benchmark.limits)
        return Verdict(
            status=Status.INFRASTRUCTURE,
            num_tests=0,
            num_tests_passed=0,
            cpu_s=0.0,
            wall_s=0.0,
            peak_memory_bytes=0,
            trust_level="L1",
            sandbox_level=self._sandbox.level,
            detail=lacking,
        )

    def list_missing(self) -> dict[str, str]:
        """Problem id -> what this sandbox lacks to judge it, for those that it cannot judge."""
        reasons = {one.problem_id: self.explain_missing(one) for one in self._benchmark.problems}
        return {problem_id: why for problem_id, why in reasons.items() if why}

    def explain_missing(self, problem: Problem) -> str:
        """What this sandbox lacks to judge a problem; empty if nothing."""
        if reason := self._explain_problem(problem):
            return reason
        language = getattr(problem.check, "language", "python")
        if isinstance(self._sandbox, LanguageSandbox):
            return self._sandbox.explain_missing(language)
        return ""

    def _explain_problem(self, problem: Problem) -> str:
        if problem.not_judged:
            return problem.not_judged
        lacking = [name for name in problem.modules if name in self.missing]
        return f"needs {', '.join(lacking)}, which this sandbox lacks" if lacking else ""


def find_missing_modules(sandbox: Sandbox, names: Iterable[str]) -> frozenset[str]:
    """Which of these Python modules cannot be imported in the sandbox.

    Raises:
        SandboxUnavailable: the sandbox cannot answer.
    """
    wanted = sorted(names)
    if not wanted:
        return frozenset()
    limits = ResourceLimits(cpu_s=30.0, wall_s=120.0)
    result = sandbox.call_functions(ExecutionRequest(PROBE, (("list_missing", (wanted,)),), limits))
    answer = result.outcomes[0].value if result.outcomes else None
    if not isinstance(answer, list):
        raise SandboxUnavailable(
            f"the sandbox cannot say which modules it has: {result.detail or result.status.value}; "
            "run the same command again"
        )
    return frozenset(map(str, answer))
