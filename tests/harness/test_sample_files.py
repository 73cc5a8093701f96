"""Other harnesses' sample files are read, written, and read back as they were."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sdb_harness.cli import main
from sdb_harness.errors import UserError
from sdb_harness.records import Completion, SampleRow
from sdb_harness.sample_files import FORMATS, parse_samples, split_id, write_samples

PATH = Path("samples.jsonl")


def parse(*lines: object, ids: str = "{}") -> dict[str, list[str]]:
    return parse_samples(PATH, "\n".join(map(json.dumps, lines)).encode(), ids)


def test_completions_and_solutions_are_read() -> None:
    lines = (
        {"task_id": "HumanEval/0", "completion": "    return 1\n", "language": "python"},
        {"task_id": "HumanEval/1", "solution": "def f(): ...\n"},
        {"task_id": "HumanEval/0", "completion": "    return 2\n", "solution": "ignored"},
    )
    assert parse(*lines) == {
        "HumanEval/0": ["    return 1\n", "    return 2\n"],
        "HumanEval/1": ["def f(): ...\n"],
    }


def test_generations_are_numbered_by_their_place() -> None:
    assert parse([["a", "b"], ["c"]], ids="HumanEval/{}") == {
        "HumanEval/0": ["a", "b"],
        "HumanEval/1": ["c"],
    }


def test_logged_samples_are_the_raw_responses() -> None:
    line = {"doc_id": 0, "doc": {"task_id": 11}, "resps": [["x", "y"]], "filtered_resps": ["p x"]}
    assert parse(line, ids="Mbpp/{}") == {"Mbpp/11": ["x", "y"]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "samples.jsonl:1: not JSON"),
        ("\n7", "samples.jsonl:2: not an object"),
        ('{"task_id": "a"}', "samples.jsonl:1: key 'completion' is missing"),
        ('{"task_id": 3, "completion": "x"}', "samples.jsonl:1: key 'task_id' is not a string"),
        ('{"task_id": "a", "solution": 1}', "samples.jsonl:1: key 'solution' is not a string"),
        ('{"resps": [["x"]], "doc": {}}', "samples.jsonl:1: its doc has no task_id"),
        ('{"resps": [[1]], "doc": {"task_id": "a"}}', "samples.jsonl:1: a response is int"),
        ("[[1]]", "samples.jsonl: entry 0 is not a list of programs"),
        ("[", "samples.jsonl: not JSON"),
        ("[" * 100_000, "samples.jsonl: not JSON"),
        ("", "holds no samples"),
        ("[]", "holds no samples"),
        ('{"task_id": "a", "completion": "\\ud800"}', "half of a surrogate pair"),
    ],
)
def test_bad_input_is_one_line_with_its_place(data: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_samples(PATH, data.encode())


def make_row(problem_id: str, index: int, text: str, program: str) -> SampleRow:
    completion = Completion(
        text=text, token_ids=(), output_tokens=0, finish_reason="stop", e2e_s=0.0
    )
    return SampleRow(
        cell_hash="c",
        problem_id=problem_id,
        group="all",
        sample_index=index,
        run_id="r",
        completion=completion,
        program=program,
        extraction_rule="whole",
        status="passed",
        num_tests=1,
        num_tests_passed=1,
        cpu_s=0.0,
        wall_s=0.0,
        peak_memory_bytes=0,
        trust_level="L3",
        sandbox_level="none",
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@pytest.mark.parametrize("form", FORMATS)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12))
def test_what_is_written_is_read_back(form: str, texts: list[tuple[str, str]]) -> None:
    rows = [
        make_row(f"HumanEval/{number // 2}", number % 2, text, program)
        for number, (text, program) in enumerate(texts)
    ]
    ids = "HumanEval/{}" if form == "bigcode" else "{}"
    again = parse_samples(PATH, write_samples(reversed(rows), form).encode(), ids)
    has_programs = form in ("evalplus", "bigcodebench", "bigcode")
    wanted: dict[str, list[str]] = {}
    for row in rows:
        text = row.program if has_programs else row.completion.text
        wanted.setdefault(row.problem_id, []).append(text)
    assert again == wanted


def test_problems_are_in_natural_order() -> None:
    names = ["HumanEval/10", "HumanEval/9", "BigCodeBench/1"]
    assert sorted(names, key=split_id) == ["BigCodeBench/1", "HumanEval/9", "HumanEval/10"]
    with pytest.raises(UserError, match="format 'csv' is not known"):
        write_samples([], "csv")


def test_a_run_is_exported_and_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    call("run", "--benchmark", "minipy:num_problems=3", "--generator", "canonical", "--name", "a")
    assert "3 programs" in call("export", "runs/a/store.sqlite", "samples.jsonl")
    replayed = ("--benchmark", "minipy:num_problems=3", "--generator", "replay:samples.jsonl")
    call("run", *replayed, "--name", "b")
    again = call("export", "runs/b/store.sqlite", "again.jsonl")
    assert "3 programs" in again
    assert Path("again.jsonl").read_bytes() == Path("samples.jsonl").read_bytes()
