"""A user's own problems: what is read, what is refused with file and line, and the whole run."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sdb_harness.benchmarks import load_benchmark, parse_benchmark_spec, spell_benchmark_spec
from sdb_harness.cli import main
from sdb_harness.errors import UserError
from sdb_harness.verification import verify_judging
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.types import AssertionCheck, Case, FunctionCheck

ADD = {
    "task_id": "mine/add",
    "prompt": 'import math\n\ndef add(a, b):\n    """Sum."""\n',
    "entry_point": "add",
    "tests": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "reference": "    return a + b\n",
}
WORDS = {
    "prompt": "Write a function that returns the sorted list of the squares of its argument.",
    "entry_point": "squares",
    "tests": "for n in range(1, 4):\n    assert squares(list(range(n)))[-1] == (n - 1) ** 2",
    "reference": "def squares(values):\n    return sorted(v * v for v in values)\n",
    "group": "words",
}


def write(folder: Path, *rows: object, name: str = "mine.jsonl") -> str:
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return f"jsonl:{path}"


def test_source_and_words_become_problems(tmp_path: Path) -> None:
    benchmark = load_benchmark(write(tmp_path, ADD, "", WORDS))
    add, words = benchmark.problems
    assert (add.problem_id, words.problem_id) == ("mine/add", "mine/1")
    cases = (Case((1, 2), 3), Case((0, 0), 0))
    assert add.check == FunctionCheck("add", cases, "python_equality")
    assert isinstance(words.check, AssertionCheck)
    assert (words.prompt, words.statement, words.group) == ("", WORDS["prompt"], "words")
    chats = ["chat", "chat/2", "chat/3", "script"]
    assert list(benchmark.protocols) == ["base", "as-is", *chats]
    assert list(load_benchmark(write(tmp_path, WORDS)).protocols) == chats
    for problem in benchmark.problems:
        asked = {str(benchmark.protocols[name].build_prompt(problem)) for name in chats[:3]}
        assert len(asked) == 3
        assert all(problem.entry_point in text for text in asked)


def test_references_pass_and_nothing_else_does(tmp_path: Path) -> None:
    check = {
        **ADD,
        "task_id": "c",
        "tests": "def check(candidate):\n    assert candidate(1, 1) == 2",
    }
    benchmark = load_benchmark(write(tmp_path, ADD, WORDS, check))
    with open_sandbox(num_slots=1) as sandbox:
        findings = verify_judging(benchmark, sandbox)
    assert all(not finding.exceptions for finding in findings), findings


def test_a_perfect_model_scores_one(tmp_path: Path) -> None:
    spec = write(tmp_path, ADD, WORDS)
    arguments = ["run", "--benchmark", spec, "--generator", "canonical", "--protocol", "chat"]
    result = CliRunner().invoke(main, [*arguments, "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 0, result.output
    assert "100.0" in result.output
    assert "mine.jsonl: 2 problems, sha256" in result.output


def test_the_path_may_hold_anything_and_gzip_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "a=b, c"
    folder.mkdir()
    path = folder / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(ADD).encode()))
    spec = f"jsonl:{path}"
    assert spell_benchmark_spec(*parse_benchmark_spec(spec)) == spec
    assert len(load_benchmark(spec).problems) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"mine.jsonl:2: not JSON \(Expecting property name"),
        ("[1]", "mine.jsonl:2: not an object; each line must be"),
        (
            '{"prompt": "\\ud800", "entry_point": "f", "tests": "assert f()"}',
            "mine.jsonl:2: not JSON",
        ),
        ({**ADD, "prompt": 3}, "mine.jsonl:2: key 'prompt' is not a text"),
        ({"prompt": "p", "tests": []}, "mine.jsonl:2: key 'entry_point' is missing"),
        ({**ADD, "entry_point": "a b"}, "entry_point 'a b' is no name of a function"),
        ({**ADD, "tests": []}, "mine.jsonl:2: key 'tests' must be a text or a list of texts"),
        ({**ADD, "tests": "assert ("}, "mine.jsonl:2: the tests are not Python"),
        ({**ADD, "tests": "add(1, 2)"}, "mine.jsonl:2: the tests assert nothing"),
        ({**ADD, "entry_point": "plus"}, "mine.jsonl:2: the tests never call 'plus'; correct"),
        (ADD, "mine.jsonl:2: the id 'mine/add' stands in line 1 already"),
    ],
)
def test_bad_lines_are_named_by_file_and_number(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_benchmark(write(tmp_path, ADD, row))


def test_files_that_are_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the file: jsonl:FILE"):
        load_benchmark("jsonl")
    with pytest.raises(UserError, match="cannot read the problems"):
        load_benchmark(f"jsonl:{tmp_path / 'none.jsonl'}")
    with pytest.raises(UserError, match="holds no problems"):
        load_benchmark(write(tmp_path, ""))
