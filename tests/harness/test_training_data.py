"""Training examples: reproducible, in proportion, train split only, clear errors."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from sdb_harness.benchmarks.minipy import make_problem
from sdb_harness.errors import UserError
from sdb_harness.training_data import (
    make_training_data,
    read_exercises,
    read_training_data,
)

MIXTURE = {"level-1": 0.5, "families": 0.5}


def test_same_arguments_give_the_same_examples_and_another_seed_others() -> None:
    first = make_training_data(60, 0, MIXTURE).to_list()
    assert make_training_data(60, 0, MIXTURE).to_list() == first
    assert make_training_data(60, 1, MIXTURE).to_list() != first
    assert make_training_data(30, 0, MIXTURE).to_list() == first[:30]


def test_a_pure_mixture_gives_the_train_split_of_that_level() -> None:
    rows = make_training_data(20, 3, {"level-2": 1.0}).to_list()
    expected = [make_problem(index, split="train", level=2, seed=3) for index in range(20)]
    assert rows == [{"prompt": p.prompt, "completion": p.reference} for p in expected]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "it needs exactly num_examples, seed, mixture"),
        ({"num_examples": "many"}, "must be of type int"),
        ({"num_examples": True}, "must be of type int"),
        ({"num_examples": 0}, "must be positive"),
        ({"mixture": {"level-9": 1.0}}, "mixture names 'level-9'; use families, level-1"),
        ({"mixture": {"level-1": "much"}}, "must be a number"),
        ({"mixture": {}}, "must be positive"),
        ({"mixture": {"level-1": float("nan")}}, "must be positive"),
    ],
)
def test_wrong_tables_are_one_clear_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_training_data({"num_examples": 5, "seed": 0, "mixture": MIXTURE, **change})


def test_problems_are_the_examples_with_their_inputs() -> None:
    data = {"num_examples": 40, "seed": 2, "mixture": MIXTURE}
    problems = read_exercises(data).problems
    expected = [{"prompt": p.prompt, "completion": p.reference} for p in problems]
    assert read_training_data(data).to_list() == expected
    assert {problem.group for problem in problems} > {"level-1"}
    with pytest.raises(ValueError, match="must be positive"):
        read_exercises({**data, "num_examples": 0})


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "csv"])
def test_a_users_own_file_is_read_by_the_names_of_its_columns(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    rows = Dataset.from_dict({"question": ["a", "b"], "answer": ["1", "2"], "more": ["x", "y"]})
    path = tmp_path / f"own.{suffix}"
    write: Any = {"jsonl": rows.to_json, "parquet": rows.to_parquet, "csv": rows.to_csv}[suffix]
    write(path)
    data = {"source": str(path), "prompt": "question", "completion": "more"}
    expected = [{"prompt": "a", "completion": "x"}, {"prompt": "b", "completion": "y"}]
    assert read_training_data(data).to_list() == expected
    assert list(read_training_data({**data, "streaming": True})) == expected


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_of_the_hub_is_read_by_name_and_split(
    streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder in the hub's form, which `datasets` reads as it reads a downloaded one."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("somebody").mkdir()
    for split in ("train", "test"):
        row = f'{{"prompt": "{split}", "completion": "1", "more": "x"}}\n'
        Path("somebody", f"{split}.jsonl").write_text(row)
    for extra, expected in (({}, "train"), ({"split": "test"}, "test")):
        data = {"source": "hub:somebody", "streaming": streaming, **extra}
        assert list(read_training_data(data)) == [{"prompt": expected, "completion": "1"}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "missing.jsonl"}, "is no file that ends in .jsonl"),
        ({"source": "own.txt"}, "for a data set of the hub write hub:NAME"),
        ({"source": "own.jsonl", "seed": 1}, "seed=1: with source, use source, prompt"),
        ({"source": "own.jsonl", "streaming": "yes"}, "and streaming as true or false"),
        ({"source": "own.jsonl", "streaming": True}, r"lacks the columns"),
        ({"source": "own.jsonl"}, r"lacks the columns \['completion', 'prompt'\]; it has \['x'\]"),
        ({"source": "broken.jsonl"}, "cannot be read"),
        ({"source": "empty.jsonl"}, "empty.jsonl' holds no examples"),
        ({"source": "empty.jsonl", "streaming": True}, "empty.jsonl' holds no examples"),
        ({"source": "own.jsonl", "prompt": "x", "completion": "x"}, "both name 'x'"),
    ],
)
def test_a_wrong_source_is_one_clear_line(
    data: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.jsonl").write_text('{"x": "1"}\n')
    Path("broken.jsonl").write_text('{"x": \n')
    Path("empty.jsonl").touch()
    with pytest.raises(ValueError, match=message) as caught:
        read_training_data(data)
    assert "\n" not in str(caught.value)


PROBLEM = '{"prompt": "def f(x):\\n", "entry_point": "f", "tests": ["assert f(1) == 2"]}\n'
WORDS = '{"prompt": "Add one.", "entry_point": "f", "tests": ["assert f(1) == 2"]}\n'


def test_a_users_own_problems_are_those_of_the_benchmark_of_files(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(PROBLEM)
    first = read_exercises({"source": str(path)})
    (problem,) = first.problems
    assert problem.prompt == "def f(x):\n"
    answer = "    return x + 1\n\ndef g():\n    pass\n"
    assert first.protocol.extract(problem, answer)[0].rstrip() == "def f(x):\n    return x + 1"
    path.write_text(PROBLEM + PROBLEM.replace("2", "3"))
    assert read_exercises({"source": str(path)}).data["revision"] != first.data["revision"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "own.jsonl", "prompt": "x"}, "give source alone, a JSONL file of problems"),
        ({"source": "hub:somebody/problems"}, "give source alone"),
        ({"source": "nowhere.jsonl"}, "cannot read the problems nowhere.jsonl"),
        ({"source": "own.jsonl"}, "own.jsonl:2: not JSON"),
        ({"source": "words.jsonl"}, "words/1 lacks `def f\\(`; these phases continue source"),
    ],
)
def test_wrong_problems_are_one_clear_line(
    data: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.jsonl").write_text(PROBLEM + "{")
    Path("words.jsonl").write_text(PROBLEM + WORDS)
    with pytest.raises((ValueError, UserError), match=message) as caught:
        read_exercises(data)
    assert "\n" not in str(caught.value)
