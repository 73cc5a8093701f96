"""Does this machine judge a benchmark rightly? References must pass, trivial programs must not.

Place in the flow: `sdbench benchmarks verify NAME`, before any model is asked. A benchmark whose
own references fail here (missing module, too tight a limit, broken sandbox) would understate every
model; one whose empty programs pass would overstate them. Where the authors ship samples of a model
with the pass@1 that they measured, `verify_published` measures it here. What this machine cannot
judge at all is counted apart, with the reason, and is neither right nor wrong.
"""

import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import sqrt
from random import Random

from sdb_harness.benchmarks import Benchmark
from sdb_harness.judging import Judge
from sdb_harness.records import Problem
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import Status, Verdict
from sdb_sandboxes.verifiers.exit_code import FORGED, LOOSE


@dataclass(frozen=True, slots=True)
class Finding:
    """How one kind of program was judged over all problems of a group."""

    name: str
    should_pass: bool
    num_programs: int
    num_passed: int
    exceptions: tuple[str, ...]
    """`problem: status` wherever the judgement is not the expected one."""
    known: tuple[str, ...] = field(default=(), kw_only=True)
    """The same for problems whose own data are known to be at fault: excused."""
    group: str = "all"
    not_judged: Mapping[str, int] = field(default_factory=dict)
    """Why -> how many programs this host cannot judge."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """The same for programs that a fault of ours lost: judge them again."""
    trust_levels: Mapping[str, int] = field(default_factory=dict)
    """How strongly the judged ones were judged -> how many."""


Write = Callable[[Problem], str | None]

EVERYTHING = """\
class Everything(int):
    __eq__ = __le__ = __ge__ = __lt__ = __gt__ = __contains__ = lambda *_: True
    __ne__ = lambda *_: False
    __hash__ = int.__hash__
    __call__ = __getattr__ = __getitem__ = lambda self, *_, **__: self
    __sub__ = __rsub__ = __abs__ = lambda self, *_: self
    __len__ = lambda _: 0
    __iter__ = lambda self: iter(())
"""
"""A class whose objects equal, contain and answer everything."""


def write_always_equal(problem: Problem) -> str | None:
    """A program in which all that is asked for equals everything; None for other languages."""
    if getattr(problem.check, "language", "python") != "python":
        return None
    asked = {problem.entry_point, *getattr(problem.check, "names", ())}
    names = sorted(name for name in asked if name.isidentifier())
    return EVERYTHING + "".join(f"{name} = Everything()\n" for name in names)


def write_early_exit(statement: str) -> Write:
    """A program that leaves with exit code 0 before it can be asked anything."""

    def write(problem: Problem) -> str | None:
        is_python = getattr(problem.check, "language", "python") == "python"
        return f"import os\n{statement}\n" if is_python else None

    return write


PROGRAM_KINDS: dict[str, tuple[bool, Write]] = {
    "reference": (True, lambda problem: problem.solution if problem.reference else None),
    "empty": (False, lambda problem: ""),
    "prompt alone": (False, lambda problem: problem.prompt + problem.suffix),
    "return None": (False, lambda problem: f"{problem.prompt}    return None\n"),
    "always equal": (False, write_always_equal),
    "exit(0)": (False, write_early_exit("exit(0)")),
    "os._exit(0)": (False, write_early_exit("os._exit(0)")),
}
"""Name -> (must it pass, how it is written; None where there is no such program)."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of program for every chosen problem of a group: judged, it is a `Finding`."""

    name: str
    group: str
    should_pass: bool
    programs: Sequence[tuple[Problem, str]]
    load: int = 0
    """Busy processes beside it for each processor."""


def plan_trials(
    benchmark: Benchmark,
    num_problems: int | None = None,
    num_cheats: int | None = None,
    load: int = 0,
) -> list[Trial]:
    """What is to be judged of a benchmark, language by language where there are several.

    References are judged a second time, with busy processes beside: a verdict must not depend on
    the machine's load.

    Args:
        benchmark: What to judge.
        num_problems: A random part of this size of each group, always the same; all if None.
        num_cheats: Problems of that part for which programs that must fail are written.
        load: Busy processes for each processor during the second time; 0 leaves it out.
    """
    kinds = dict(PROGRAM_KINDS)
    if benchmark.write_cheat is not None:
        kinds["leaves early"] = (False, benchmark.write_cheat)
    trials = []
    for group, problems in list_groups(benchmark).items():
        chosen = choose_part(problems, num_problems)
        for name, (should_pass, write) in kinds.items():
            part = chosen if should_pass else choose_part(chosen, num_cheats)
            written = [(problem, write(problem)) for problem in part]
            programs = [(problem, text) for problem, text in written if text is not None]
            if programs:
                trials.append(Trial(name, group, should_pass, programs))
            if programs and should_pass and load:
                trials.append(Trial(f"{name}, load {load}", group, should_pass, programs, load))
    return trials


def choose_part(problems: list[Problem], size: int | None) -> list[Problem]:
    """A random part, always the same; all if it is not smaller."""
    return problems if size is None or size >= len(problems) else Random(0).sample(problems, size)


def run_trial(
    benchmark: Benchmark,
    sandbox: Sandbox,
    trial: Trial,
    advance: Callable[[], None] = lambda: None,
) -> Finding:
    """Judge the programs of a trial; `advance` is called after each."""
    with keep_processors_busy(trial.load) if trial.load else contextlib.nullcontext():
        verdicts = judge_programs(benchmark, sandbox, trial.programs, advance)
    lacking, lost = count_not_judged(benchmark, sandbox, trial.programs, verdicts)
    finding = replace(summarize(trial, verdicts), not_judged=lacking, lost=lost)
    return excuse(finding, benchmark.remarks if trial.load else benchmark.faults)


def verify_judging(
    benchmark: Benchmark, sandbox: Sandbox, num_problems: int | None = None, load: int = 0
) -> list[Finding]:
    """Run every trial of a benchmark, see `plan_trials`."""
    trials = plan_trials(benchmark, num_problems, load=load)
    return [run_trial(benchmark, sandbox, trial) for trial in trials]


@contextlib.contextmanager
def keep_processors_busy(factor: int) -> Iterator[None]:
    """Run `factor` endless processes for each processor; they end with the block or with us."""
    spin = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    num_processes = factor * len(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        for _ in range(num_processes):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-I", "-c", spin]))
            stack.callback(process.kill)
        yield


def list_groups(benchmark: Benchmark) -> dict[str, list[Problem]]:
    """Problems by language; all together where the groups are no languages."""
    groups: dict[str, list[Problem]] = {}
    for problem in benchmark.problems:
        group = problem.group if benchmark.is_multilingual else "all"
        groups.setdefault(group, []).append(problem)
    return groups


def judge_programs(
    benchmark: Benchmark,
    sandbox: Sandbox,
    programs: Sequence[tuple[Problem, str]],
    advance: Callable[[], None] = lambda: None,
) -> list[Verdict]:
    """Judge programs, as many at once as the sandbox has slots; in order."""
    judge = Judge(benchmark, sandbox)
    verdicts = []
    with ThreadPoolExecutor(max_workers=sandbox.num_slots) as pool:
        for verdict in pool.map(lambda program: judge.judge(*program), programs):
            verdicts.append(verdict)
            advance()
    return verdicts


def summarize(trial: Trial, verdicts: Sequence[Verdict]) -> Finding:
    """Count what passed, and name what was judged as it should not be."""
    judged = [
        (problem, verdict)
        for (problem, _), verdict in zip(trial.programs, verdicts, strict=True)
        if verdict.status is not Status.INFRASTRUCTURE
    ]
    return Finding(
        name=trial.name,
        should_pass=trial.should_pass,
        num_programs=len(judged),
        num_passed=sum(verdict.is_passed for _, verdict in judged),
        exceptions=tuple(
            f"{problem.problem_id}: {verdict.status.value}"
            for problem, verdict in judged
            if verdict.is_passed is not trial.should_pass
        ),
        group=trial.group,
        trust_levels=dict(Counter(verdict.trust_level for _, verdict in judged)),
    )


def excuse(finding: Finding, faults: Mapping[str, str]) -> Finding:
    """Set exceptions apart whose reason is known to lie in the data."""
    known = tuple(text for text in finding.exceptions if text.rpartition(": ")[0] in faults)
    others = tuple(text for text in finding.exceptions if text not in known)
    return replace(finding, exceptions=others, known=known)


def count_not_judged(
    benchmark: Benchmark,
    sandbox: Sandbox,
    programs: Sequence[tuple[Problem, str]],
    verdicts: Sequence[Verdict],
) -> tuple[dict[str, int], dict[str, int]]:
    """Reason -> programs: what this host cannot judge, and what a fault of ours lost."""
    failed = [
        (problem, verdict.detail or "infrastructure")
        for (problem, _), verdict in zip(programs, verdicts, strict=True)
        if verdict.status is Status.INFRASTRUCTURE
    ]
    if not failed:
        return {}, {}
    judge = Judge(benchmark, sandbox)
    reasons = [(judge.explain_missing(problem), detail) for problem, detail in failed]
    lacking = Counter(why for why, _ in reasons if why)
    return dict(lacking), dict(Counter(detail for why, detail in reasons if not why))


TOLERANCE = 0.6
"""Points by which pass@1 of shipped samples may differ from the published one: tools are newer here
than its authors', and their limits were of wall time."""


@dataclass(frozen=True, slots=True)
class PublishedFinding:
    """Samples of a model, judged here and by the authors of the benchmark."""

    group: str
    published: float | None
    """Percent that passed there; None if nobody said."""
    measured: float | None
    """Percent that passed here, forged ones included as there; None if any was not judged."""
    standard_error: float
    """Of `measured`, for not having judged all samples; 0 if all were."""
    num_samples: int
    num_forged: int
    """Those that pass a wrong expected value too, `FORGED` or `LOOSE`: wrong by our count."""
    num_not_compiled: int
    not_judged: Mapping[str, int]
    lost: Mapping[str, int] = field(default_factory=dict)

    @property
    def allowed(self) -> float:
        """Points by which `measured` may differ from `published`; more is a fault of judging."""
        return TOLERANCE + 3 * self.standard_error

    def describe(self) -> str:
        """The same in one line."""
        here = "not judged" if self.measured is None else f"pass@1 {self.measured:.2f}"
        there = "" if self.published is None else f", published {self.published:.2f}"
        wrong = "" if self.is_right else f", wrong: not within {self.allowed:.1f}"
        return f"{self.num_samples} samples, {self.group}: {here}{there}{wrong}"

    @property
    def is_right(self) -> bool:
        """Whether nothing was lost, and what could be compared is as published."""
        if self.measured is None or self.published is None:
            return not self.lost
        return abs(self.measured - self.published) <= self.allowed


def verify_published(
    benchmark: Benchmark,
    sandbox: Sandbox,
    num_samples: int | None = None,
    done: Mapping[str, PublishedFinding] | None = None,
) -> Iterator[PublishedFinding]:
    """Judge the samples of a model that come with the data, counted as its authors count.

    Args:
        benchmark: Without `read_samples` there are none.
        sandbox: Where they run.
        num_samples: A random part of this size for each group, always the same; all if None.
        done: Group -> what is known of it already.

    Yields:
        One finding for each group that has samples.

    Raises:
        UserError: the samples are missing or not the published ones.
    """
    if benchmark.read_samples is None:
        return
    problems = {problem.problem_id: problem for problem in benchmark.problems}
    for group in list_groups(benchmark):
        if done and group in done:
            yield done[group]
            continue
        samples = [(problems[key], text) for key, text in benchmark.read_samples(group)]
        chosen = samples
        if num_samples is not None and num_samples < len(samples):
            chosen = Random(0).sample(samples, num_samples)
        verdicts = judge_programs(benchmark, sandbox, chosen)
        not_judged, lost = count_not_judged(benchmark, sandbox, chosen, verdicts)
        num_forged = sum(verdict.detail.startswith((FORGED, LOOSE)) for verdict in verdicts)
        n = len(verdicts)
        if not n:
            continue
        rate = (sum(verdict.is_passed for verdict in verdicts) + num_forged) / n
        left_out = (len(samples) - n) / max(1, len(samples) - 1)
        yield PublishedFinding(
            group=group,
            published=benchmark.published.get(group),
            measured=None if not_judged or lost else 100 * rate,
            standard_error=100 * sqrt(rate * (1 - rate) / n * left_out),
            num_samples=n,
            num_forged=num_forged,
            num_not_compiled=sum(one.status is Status.COMPILE_ERROR for one in verdicts),
            not_judged=not_judged,
            lost=lost,
        )
