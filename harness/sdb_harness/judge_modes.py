"""LiveCodeBench's two ways of judging on the same completions: how many verdicts differ.

Place in the flow: `sdbench benchmarks judge-modes STORE`, after a run in either mode. Every stored
completion is judged once more in the other mode; no row changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sdb_harness.benchmarks import load_benchmark, parse_benchmark_spec, spell_benchmark_spec
from sdb_harness.benchmarks.livecodebench import JUDGES
from sdb_harness.records import Cell, SampleRow
from sdb_harness.verification import judge_programs
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import Status


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cell under both modes."""

    stored: str
    """The mode of its rows."""
    other: str
    num_compared: int
    num_passed_stored: int
    num_passed_other: int
    differing: tuple[str, ...]
    """`problem, sample: verdict in the stored mode -> in the other one`."""
    num_not_judged: int


def compare_judges(cell: Cell, rows: Sequence[SampleRow], sandbox: Sandbox) -> Comparison:
    """Judge a cell's completions in the other mode.

    Raises:
        UserError: the benchmark's data are missing or damaged.
    """
    name, options = parse_benchmark_spec(cell.benchmark)
    stored = options.get("judge", JUDGES[0])
    (other,) = (mode for mode in JUDGES if mode != stored)
    benchmark = load_benchmark(spell_benchmark_spec(name, options | {"judge": other}))
    problems = {problem.problem_id: problem for problem in benchmark.problems}
    protocol = benchmark.protocols[cell.protocol]
    programs = [
        (problem, protocol.extract(problem, row.completion.text)[0])
        for row in rows
        if (problem := problems[row.problem_id])
    ]
    verdicts = judge_programs(benchmark, sandbox, programs)
    pairs = [
        (row, verdict)
        for row, verdict in zip(rows, verdicts, strict=True)
        if verdict.status is not Status.INFRASTRUCTURE
    ]
    return Comparison(
        stored=stored,
        other=other,
        num_compared=len(pairs),
        num_passed_stored=sum(row.status == Status.PASSED.value for row, _ in pairs),
        num_passed_other=sum(verdict.is_passed for _, verdict in pairs),
        differing=tuple(
            f"{row.problem_id}, sample {row.sample_index}: {row.status} -> {verdict.status.value}"
            for row, verdict in pairs
            if (row.status == Status.PASSED.value) is not verdict.is_passed
        ),
        num_not_judged=len(rows) - len(pairs),
    )
