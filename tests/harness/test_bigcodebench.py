"""BigCodeBench: prompts, calibration, the two parts, and problems whose modules are not here."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from sdb_harness.benchmarks import Benchmark, bigcodebench, load_benchmark
from sdb_harness.benchmarks.data_files import DataFile
from sdb_harness.errors import UserError
from sdb_harness.generators import Prompted
from sdb_harness.generators.canonical import write_answer
from sdb_harness.verification import verify_judging
from sdb_sandboxes.open import open_sandbox

needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("SDBENCH_DATA", "")) / "bigcodebench").is_dir(),
    reason="the published files are not in $SDBENCH_DATA",
)


def make_row(number: int, module: str) -> dict[str, str]:
    code_prompt = f"import {module}\ndef task_func(x):\n"
    return {
        "task_id": f"BigCodeBench/{number}",
        "complete_prompt": f'import {module}\n\ndef task_func(x):\n    """Twice."""\n',
        "instruct_prompt": "Return twice the argument.\nYou should write self-contained code.",
        "canonical_solution": "    return 2 * x",
        "code_prompt": code_prompt,
        "test": "import unittest\nclass TestCases(unittest.TestCase):\n"
        "    def test_case_1(self):\n        self.assertEqual(task_func(2), 4)\n"
        "    def test_case_2(self):\n        self.assertEqual(task_func(0), 0)\n",
        "entry_point": "task_func",
    }


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    content = "\n".join(json.dumps(make_row(*pair)) for pair in enumerate(("math", "no_such")))
    hard = '["BigCodeBench/1"]'
    for name, text in (("b.jsonl", content), ("hard.json", hard)):
        (tmp_path / name).write_text(text)
    files = {
        name: DataFile(name, hashlib.sha256(text.encode()).hexdigest(), "https://example.org")
        for name, text in (("b.jsonl", content), ("hard.json", hard))
    }
    monkeypatch.setitem(bigcodebench.VERSIONS, "v0.1.4", files["b.jsonl"])
    monkeypatch.setattr(bigcodebench, "HARD_IDS", files["hard.json"])
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    return load_benchmark("bigcodebench")


@needs_data
def test_every_reference_survives_the_extraction() -> None:
    """12 of the 1,140 return nothing; EvalPlus's sanitiser would drop them."""
    benchmark = load_benchmark("bigcodebench")
    for name in ("base", "chat"):
        for problem in benchmark.problems:
            text = problem.reference if name == "base" else problem.prompt + problem.reference
            program, _ = benchmark.protocols[name].extract(problem, text)
            assert program.count("\ndef task_func(") == 2, (name, problem.problem_id)


def test_references_pass_and_what_needs_a_missing_module_is_not_judged(
    benchmark: Benchmark,
) -> None:
    with open_sandbox(num_slots=1) as sandbox:
        findings = verify_judging(benchmark, sandbox)
    assert all(not finding.exceptions for finding in findings), findings
    reference = findings[0]
    assert (reference.num_programs, reference.num_passed) == (1, 1)
    assert reference.not_judged == {"needs no_such, which this sandbox lacks": 1}


def test_the_hard_part_is_chosen_by_id(benchmark: Benchmark) -> None:
    hard = load_benchmark("bigcodebench:subset=hard,prompt=instruct")
    assert [problem.problem_id for problem in hard.problems] == ["BigCodeBench/1"]
    assert hard.split == "instruct hard"
    assert hard.revision != benchmark.revision
    with pytest.raises(UserError, match="bigcodebench subset='easy'; use one of full, hard"):
        load_benchmark("bigcodebench:subset=easy")


@pytest.mark.parametrize("prompt", ["complete", "instruct"])
def test_a_perfect_answer_is_calibrated(benchmark: Benchmark, prompt: str) -> None:
    chosen = load_benchmark(f"bigcodebench:prompt={prompt}")
    problem = chosen.problems[0]
    for protocol in chosen.protocols.values():
        asked = Prompted(problem, protocol.build_prompt(problem), 0, 0, protocol.stop)
        program, _ = protocol.extract(problem, write_answer(asked))
        assert program.startswith("import math\ndef task_func(x):\n\n    pass\nimport math\n")
        assert program.rstrip().endswith('def task_func(x):\n    """Twice."""\n    return 2 * x')


def test_prompts_are_upstreams(benchmark: Benchmark) -> None:
    """0.2.5 opens the fence bare, where EvalPlus names the language, and ends with a newline."""
    problem = benchmark.problems[0]
    (turn,) = read_turns(benchmark, "chat")
    assert turn == (
        "Please provide a self-contained Python script that solves the following problem in a "
        f"markdown code block:\n```\n{problem.prompt.strip()}\n```\n"
    )
    instruct = load_benchmark("bigcodebench:prompt=instruct")
    user, opening = read_turns(instruct, "chat-prefilled")
    assert user.endswith(f"markdown code block:\n{problem.statement}\n")
    assert opening.endswith("corresponding tests:\n```python\n")


def read_turns(benchmark: Benchmark, protocol: str) -> list[str]:
    prompt = benchmark.protocols[protocol].build_prompt(benchmark.problems[0])
    assert isinstance(prompt, tuple)
    return [turn.content for turn in prompt]


@needs_data
def test_published_files_hold_what_their_names_say() -> None:
    assert len(load_benchmark("bigcodebench").problems) == 1140
    assert len(load_benchmark("bigcodebench:subset=hard,version=v0.1.0_hf").problems) == 148
    hard = load_benchmark("bigcodebench:subset=hard")
    assert set(hard.faults) <= {problem.problem_id for problem in hard.problems}
