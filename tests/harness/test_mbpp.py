"""MBPP's sets and MBPP+: which tasks, what is asked, and how an answer becomes a program."""

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdb_harness.benchmarks import (
    Benchmark,
    humaneval_plus,
    load_benchmark,
    mbpp,
    mbpp_plus,
    mbpp_shots,
)
from sdb_harness.benchmarks.data_files import DataFile
from sdb_harness.errors import UserError
from sdb_harness.generators import Prompted
from sdb_harness.generators.canonical import write_answer
from sdb_harness.verification import judge_programs, verify_judging
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.types import FunctionCheck, ReferenceCheck

needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("SDBENCH_DATA", "")) / "mbpp").is_dir(),
    reason="the published files are not in $SDBENCH_DATA",
)


def pin(folder: Path, name: str, rows: list[dict[str, object]]) -> DataFile:
    content = "\n".join(map(json.dumps, rows)).encode()
    (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return DataFile(name, hashlib.sha256(content).hexdigest(), "https://example.org")


def make_row(number: int) -> dict[str, object]:
    return {
        "task_id": number,
        "text": f"Write a function to add {number} to a number.",
        "code": f"def helper():\r\n  return {number}\r\ndef add(n):\r\n  return n + helper()",
        "test_list": [f"assert add(1) == {number + 1}", f"assert add(2) == {number + 2}"],
        "test_setup_code": "",
    }


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Benchmark]:
    file = pin(tmp_path, "mbpp.jsonl", [make_row(n) for n in (2, 3, 4, 11, 510, 511)])
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(mbpp, "FULL", file)
    monkeypatch.setattr(mbpp_shots, "FULL", file)
    mbpp_shots.write_shots.cache_clear()
    yield load_benchmark("mbpp")
    mbpp_shots.write_shots.cache_clear()


class TestFull:
    def test_only_test_tasks_are_problems_and_their_tests_are_data(self, full: Benchmark) -> None:
        assert [problem.problem_id for problem in full.problems] == ["Mbpp/11", "Mbpp/510"]
        for problem in full.problems:
            assert problem.entry_point == "add"
            assert isinstance(problem.check, FunctionCheck)
        assert "mbpp google-research, first version full-500: 2 problems" in full.describe()

    def test_the_paper_shows_three_solved_tasks(self, full: Benchmark) -> None:
        prompt = full.protocols["paper"].build_prompt(full.problems[0])
        assert isinstance(prompt, str)
        assert prompt.count("You are an expert Python programmer, and here is your task: ") == 4
        assert prompt.count("[DONE]\n\n") == 3
        assert "  return n + helper()\n[DONE]" in prompt
        assert prompt.endswith(
            "here is your task: Write a function to add 11 to a number. Your code should pass "
            "these tests:\n\nassert add(1) == 12\nassert add(2) == 13\n[BEGIN]\n"
        )

    @pytest.mark.parametrize("name", mbpp.PROTOCOLS)
    def test_a_perfect_answer_passes_under_every_protocol(self, full: Benchmark, name: str) -> None:
        protocol, problem = full.protocols[name], full.problems[0]
        prompt = protocol.build_prompt(problem)
        answer = write_answer(Prompted(problem, prompt, 0, 0, protocol.stop))
        tail = "\n[DONE]\nand more" if "[DONE]" in protocol.stop else ""
        program, _ = protocol.extract(problem, answer + tail)
        assert program.strip() == problem.solution.strip()

    def test_options_are_checked(self) -> None:
        with pytest.raises(UserError, match="mbpp set='test'; use one of full-500, sanitized-427"):
            load_benchmark("mbpp:set=test")
        with pytest.raises(UserError, match="mbpp has no option 'split'; use set"):
            load_benchmark("mbpp:split=test")


class TestPlus:
    @pytest.fixture
    def plus(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        task = {
            "task_id": "Mbpp/2",  # whose arguments were tuples before JSON
            "prompt": '"""\nThe first items.\nassert first((1, 2), (3,)) == (1, 3)\n"""\n',
            "entry_point": "first",
            "canonical_solution": "\ndef first(a, b):\n    assert isinstance(a, tuple)\n"
            "    return (a[0], b[0])\n",
            "base_input": [[[1, 2], [3]]],
            "plus_input": [[[5], [6, 7]]],
            "atol": 0,
        }
        file = pin(tmp_path, "plus.jsonl", [task])
        monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
        monkeypatch.setitem(mbpp_plus.VERSIONS, "v0.2.0", file)

    @pytest.mark.usefixtures("plus")
    def test_the_reference_passes_and_nothing_else(self) -> None:
        benchmark = load_benchmark("mbpp_plus")
        with open_sandbox(num_slots=1) as sandbox:
            findings = verify_judging(benchmark, sandbox)
        assert all(not finding.exceptions for finding in findings), findings

    @pytest.mark.usefixtures("plus")
    def test_base_inputs_are_a_benchmark_of_their_own(self) -> None:
        plus, base = load_benchmark("mbpp_plus"), load_benchmark("mbpp:set=plus-378")
        assert isinstance(plus.problems[0].check, ReferenceCheck)
        assert isinstance(base.problems[0].check, ReferenceCheck)
        assert plus.problems[0].check.inputs == (((1, 2), (3,)), ((5,), (6, 7)))
        assert base.problems[0].check.inputs == (((1, 2), (3,)),)
        assert plus.revision != base.revision
        assert (base.name, base.split) == ("mbpp", "plus-378")

    @pytest.mark.usefixtures("plus")
    def test_a_chat_answer_is_sanitised(self) -> None:
        benchmark = load_benchmark("mbpp_plus")
        text = "Sure.\n```python\ndef first(a, b):\n    return (a[0], b[0])\n\nprint(first)\n```"
        program, _ = benchmark.protocols["seed"].extract(benchmark.problems[0], text)
        assert program == "def first(a, b):\n    return (a[0], b[0])"

    @pytest.fixture
    def listed(
        self, plus: None, full: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[None]:
        tests = [f"assert first(({n},), (3,)) == ({n}, 3)" for n in range(4)]
        row: dict[str, object] = {
            **{"task_id": 2, "prompt": "The two first.", "code": "def first(a, b): ..."},
            **{"test_list": tests, "test_imports": []},
        }
        monkeypatch.setattr(mbpp_plus, "LISTED", pin(tmp_path, "listed.jsonl", [row]))
        mbpp_plus.read_listed.cache_clear()
        yield
        mbpp_plus.read_listed.cache_clear()

    @pytest.mark.usefixtures("listed")
    def test_lm_eval_shows_and_judges_by_three_assertions(self) -> None:
        benchmark = load_benchmark("mbpp_plus:tests=listed")
        (problem,), preset = benchmark.problems, benchmark.protocols["lm-eval"]
        prompt = preset.build_prompt(problem)
        assert isinstance(prompt, str)
        assert prompt.startswith(mbpp_shots.write_shots())
        assert prompt.endswith(
            "\n[DONE]\n\nYou are an expert Python programmer, and here is your task: The two first."
            " Your code should pass these tests:\n\nassert first((0,), (3,)) == (0, 3)\nassert "
            "first((1,), (3,)) == (1, 3)\nassert first((2,), (3,)) == (2, 3)\n[BEGIN]\n"
        )
        code = "def first(a, b):\n    return (a[0], 3) if a[0] < 3 else None\n"
        program, _ = preset.extract(problem, f"{code}[DONE]\n[BEGIN]")
        assert program == code
        with open_sandbox(num_slots=1) as sandbox:
            plus = load_benchmark("mbpp_plus")
            verdicts = [
                judge_programs(one, sandbox, [(one.problems[0], code)])[0].is_passed
                for one in (benchmark, plus)
            ]
        assert verdicts == [True, False]  # what is right where lm-eval looks is wrong for EvalPlus
        assert (benchmark.split, benchmark.revision) != (plus.split, plus.revision)

    @pytest.mark.usefixtures("listed")
    def test_bigcode_shows_the_hubs_sentence(self) -> None:
        benchmark = load_benchmark("mbpp_plus")
        prompt = benchmark.protocols["bigcode"].build_prompt(benchmark.problems[0])
        assert prompt == '"""\nThe two first.\nassert first((0,), (3,)) == (0, 3)\n"""\n'

    def test_the_first_version_has_no_listed_assertions(self) -> None:
        assert not {"lm-eval", "bigcode"} & mbpp_plus.PROTOCOLS_OF_FIRST.keys()
        with pytest.raises(UserError, match=r"the hub lists no assertions of v0\.1\.0"):
            load_benchmark("mbpp_plus:version=v0.1.0,tests=listed")


@needs_data
def test_the_references_that_need_an_import_pass_the_listed_assertions() -> None:
    benchmark = load_benchmark("mbpp_plus:tests=listed")
    needy = [problem for problem in benchmark.problems if problem.problem_id in benchmark.notes]
    assert "Mbpp/596" in benchmark.notes
    with open_sandbox() as sandbox:
        pairs = [(problem, problem.solution) for problem in needy]
        verdicts = judge_programs(benchmark, sandbox, pairs)
    assert all(verdict.is_passed for verdict in verdicts)


@needs_data
@pytest.mark.parametrize(
    ("spec", "num_problems"),
    [
        ("mbpp", 500),
        ("mbpp:set=sanitized-427", 427),
        ("mbpp:set=plus-399", 399),
        ("mbpp:set=plus-378", 378),
        ("mbpp_plus", 378),
        ("mbpp_plus:tests=listed", 378),
        ("humaneval_plus", 164),
        ("humaneval_plus:version=v0.1.9,tests=base", 164),
    ],
)
def test_published_files_hold_what_their_names_say(spec: str, num_problems: int) -> None:
    benchmark = load_benchmark(spec)
    assert len({problem.problem_id for problem in benchmark.problems}) == num_problems


def test_a_file_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"is missing; fetch it once: .*curl -fL -o"):
        load_benchmark("humaneval_plus")
    path = tmp_path / humaneval_plus.VERSIONS["v0.1.10"].path
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(UserError, match="is not the published data"):
        load_benchmark("humaneval_plus")
