"""CanItEdit: both instructions, the edit judged, its cheats refused, ExcessCode measured."""

import gzip
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sdb_harness.benchmarks import Benchmark, canitedit, load_benchmark
from sdb_harness.benchmarks.canitedit import flatten, take_between_first_fences
from sdb_harness.benchmarks.data_files import DataFile
from sdb_harness.excess_code import (
    compute_excess_code,
    count_missing_lines,
    list_statements,
    measure_program,
)
from sdb_harness.generators import Prompted
from sdb_harness.generators.canonical import write_answer
from sdb_harness.records import Completion, SampleRow
from sdb_harness.verification import verify_judging
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.types import ObjectCheck, SuiteCheck

BEFORE = "class Counter:\n    def __init__(self):\n        self.n = 0\n"
AFTER = BEFORE + "\n    def add(self, k):\n        self.n += k\n        return self.n\n"
ROW: dict[str, str] = {
    "full_name": "1_counter",
    "before": BEFORE,
    "after": AFTER,
    "tests": "### START TESTS ###\nif True:  # pragma: no cover\n    c = Counter()\n"
    "    assert c.add(2) == 2\n    assert c.add(3) == 5\n",
    "instruction_descriptive": "Add a method `add` that adds its argument and returns the sum.",
    "instruction_lazy": "add add",
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps(ROW).encode()
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(content))
    file = DataFile("c.jsonl", hashlib.sha256(content).hexdigest(), "https://example.org")
    monkeypatch.setattr(canitedit, "DATA", file)
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))


@pytest.fixture
def benchmark(data: None) -> Benchmark:
    return load_benchmark("canitedit")


def test_the_edit_passes_and_nothing_or_leaving_early_does_not(benchmark: Benchmark) -> None:
    assert isinstance(benchmark.problems[0].check, ObjectCheck)
    with open_sandbox(num_slots=1) as sandbox:
        findings = {finding.name: finding for finding in verify_judging(benchmark, sandbox)}
    assert all(not finding.exceptions for finding in findings.values()), findings
    assert findings["reference"].num_passed == 1
    assert findings["leaves early"].num_passed == 0


@pytest.mark.usefixtures("data")
def test_both_instructions_are_problems_with_a_group() -> None:
    benchmark = load_benchmark("canitedit:instruction=both")
    assert [(p.problem_id, p.group, p.statement) for p in benchmark.problems] == [
        ("1_counter/descriptive", "descriptive", ROW["instruction_descriptive"]),
        ("1_counter/lazy", "lazy", ROW["instruction_lazy"]),
    ]
    assert "47_merge_sort/lazy" in benchmark.notes


def test_prompts_are_upstreams(benchmark: Benchmark) -> None:
    (problem,) = benchmark.problems
    direct = benchmark.protocols["direct"].build_prompt(problem)
    assert direct == (
        f"## Code Before:\n{BEFORE}\n## Instruction:\n{problem.statement}\n## Code After:\n"
    )
    turns = benchmark.protocols["chat"].build_prompt(problem)
    assert isinstance(turns, tuple)
    assert turns[0].content.startswith("You are PythonEditGPT. You will be provided")
    assert turns[1].content == (
        f"## Code Before\n```py\n{BEFORE}\n```\n\n## Instruction\n{problem.statement}"
        "\n\n## Code After"
    )


@pytest.mark.parametrize("name", canitedit.PROTOCOLS)
def test_a_perfect_answer_is_the_edit(benchmark: Benchmark, name: str) -> None:
    protocol, problem = benchmark.protocols[name], benchmark.problems[0]
    answer = write_answer(Prompted(problem, protocol.build_prompt(problem), 0, 0, protocol.stop))
    program, _ = protocol.extract(problem, answer)
    assert program.strip() == AFTER.strip()


@pytest.mark.parametrize(
    ("text", "code", "rule"),
    [
        ("Sure\n```py\na\nb\n```\nor\n```\nc\n```", "a\nb", "between_first_fences"),
        ("```\na\n", "a\n", "between_first_fences_unclosed"),
        ("x = 1", "", "no_block"),
        (" ```\nx\n```", "", "between_first_fences_unclosed"),
    ],
)
def test_the_first_fenced_block_is_the_program(text: str, code: str, rule: str) -> None:
    assert take_between_first_fences(text, ()) == (code, rule)


def test_controls_can_be_made_of_what_stood_in_a_branch() -> None:
    assert flatten(ROW["tests"]) == ("c = Counter()\nassert c.add(2) == 2\nassert c.add(3) == 5\n")
    assert flatten("if x:\n    assert y\nelse:\n    z\n") == "if x:\n    assert y\nelse:\n    z\n"


COUNTED = '''\
import abc
from abc import abstractmethod


class Base(abc.ABC):
    """Doc."""

    @abstractmethod
    def area(self):
        raise NotImplementedError

    def used(self, a):
        try:
            b = a + 1
        except (
            TypeError,
            ValueError,
        ) as error:
            # never
            raise KeyError(
                "x"
            ) from error
        if b:
            return b

        # a comment between two statements
        for item in [
            1,
            2,
        ]:
            print(item)
        else:
            print("none")
        return None

    def hint(self): ...

    def unused(
        self,
        k,
    ):
        """Doc."""
        global seen
        seen = [
            k,
        ]

        match k:
            case 1:
                return seen

            case _:
                pass

        return (
            k
        )


class Shape(Base):
    def area(self):
        return 0
'''
"""Run by `Shape().used(1)`; coverage 7.3.2 with upstream's .coveragerc reports as missing:"""
MISSING = [*range(15, 21), *range(27, 35), *range(44, 56), 62]


class TestExcessCode:
    def test_statements_are_counted_once_without_docstrings(self) -> None:
        source = (
            '"""Doc."""\nimport os\n\n@dec\ndef f(a,\n      b):\n    """Doc."""\n    global g\n'
            "    if (a and\n            b):\n        return 1\n    return [\n        2,\n    ]\n"
        )
        spans = [(lines.start, lines.stop - 1) for lines in list_statements(source)]
        assert sorted(spans) == [(2, 2), (4, 6), (9, 10), (11, 11), (12, 14)]

    def test_no_depth_of_a_decorator_ends_the_count(self) -> None:
        assert len(list(list_statements(f"@a{'.b' * 900}\ndef f(): pass\n"))) == 2

    def test_lines_are_counted_as_upstream_counts_them(self, benchmark: Benchmark) -> None:
        problem = replace(
            benchmark.problems[0],
            check=SuiteCheck((("t.py", "assert Shape().used(1) == 2\n"),), ("solution",)),
            starter="",
        )
        with open_sandbox(num_slots=1) as sandbox:
            share = measure_program(problem, COUNTED, sandbox, benchmark.limits)
            source = "import inspect\nassert 'area' in inspect.getsource(Shape)\n"
            asking = replace(problem, check=SuiteCheck((("t.py", source),), ("solution",)))
            assert measure_program(asking, COUNTED, sandbox, benchmark.limits) is not None
            failing = replace(problem, check=SuiteCheck((("t.py", "1 / 0\n"),), ("solution",)))
            assert measure_program(failing, COUNTED, sandbox, benchmark.limits) is None
        assert share == pytest.approx(len(MISSING) / len(COUNTED.splitlines()))
        assert count_missing_lines(COUNTED, range(100)) == 0

    def test_what_no_test_runs_is_excess(self, benchmark: Benchmark) -> None:
        (problem,) = benchmark.problems
        excess = AFTER + "\n    def unused(self):\n        x = 1\n        return x\n"
        with open_sandbox(num_slots=1) as sandbox:
            assert measure_program(problem, AFTER, sandbox, benchmark.limits) == 0.0
            share = measure_program(problem, excess, sandbox, benchmark.limits)
            rows = [make_row(AFTER, "passed"), make_row(excess, "passed"), make_row("", "memory")]
            found = compute_excess_code(benchmark, sandbox, rows)
        num_lines = len(excess.splitlines())  # only additions: Differ has no other lines
        assert share == pytest.approx(2 / num_lines)
        assert found is not None
        assert found.mean == pytest.approx(100 * (2 / num_lines) / 2)
        assert (found.standard_error, found.num_problems) == (0.0, 1)

    def test_nothing_passed_is_no_number(self, benchmark: Benchmark) -> None:
        with open_sandbox(num_slots=1) as sandbox:
            assert compute_excess_code(benchmark, sandbox, [make_row("", "memory")]) is None


def make_row(program: str, status: str) -> SampleRow:
    completion = Completion(
        text=program, token_ids=(), output_tokens=0, finish_reason="stop", e2e_s=0.0
    )
    return SampleRow(
        cell_hash="c",
        problem_id="1_counter",
        group="all",
        sample_index=0,
        run_id="r",
        completion=completion,
        program=program,
        extraction_rule="whole",
        status=status,
        num_tests=1,
        num_tests_passed=0,
        cpu_s=0.0,
        wall_s=0.0,
        peak_memory_bytes=0,
        trust_level="L2b",
        sandbox_level="s",
    )


@pytest.mark.skipif(
    not (Path(os.environ.get("SDBENCH_DATA", "")) / "canitedit").is_dir(),
    reason="the published file is not in $SDBENCH_DATA",
)
def test_the_published_file_has_105_problems() -> None:
    benchmark = load_benchmark("canitedit")
    assert len({problem.problem_id for problem in benchmark.problems}) == 105
    assert set(benchmark.notes) <= {problem.problem_id for problem in benchmark.problems}
    needing = {p.problem_id: p.modules for p in benchmark.problems}
    assert "vllm" in needing["78_llm_inference"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1\n", "x = 1\n"),
        ("x = 1\n\n# Instruction\nmore", "x = 1\n"),
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1"),
        ("```py\nx = 1\n# Example usage:\nprint(x)\n```", "x = 1"),
        ("```x = 1```", "x = 1"),
        ("```py\nx = 1\n", "```py\nx = 1\n"),
    ],
)
def test_base_models_answers_are_read_as_by_upstream_s_runner(text: str, code: str) -> None:
    direct = canitedit.PROTOCOLS["direct"]
    assert direct.find_code(text, direct.stop).code == code


def test_the_paper_s_runner_took_nothing_out_of_fences() -> None:
    paper, text = canitedit.PROTOCOLS["paper-direct"], "```py\nx = 1\n```\n# Instruction\n"
    assert paper.find_code(text + "## Instruction:\n", paper.stop).code == text
