"""Ten words in a row: the fast search equals its definition, and the command splits a data set."""

import gzip
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sdb_harness import decontaminate
from sdb_harness.benchmarks import load_benchmark
from sdb_harness.cli import main
from sdb_harness.decontaminate import (
    SLOTS_PER_NGRAM,
    NgramIndex,
    list_ngrams,
    make_powers,
    write_whole,
)

HUMANEVAL = load_benchmark("humaneval")


def find_slowly(index: NgramIndex, texts: list[str]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for position, text in enumerate(texts):
        for ngram in list_ngrams(text, index.num_words):
            if ngram in index.problems:
                found.setdefault(position, set()).update(index.problems[ngram])
    return found


@pytest.mark.parametrize("window_bytes", [40, decontaminate.WINDOW_BYTES])
@pytest.mark.parametrize("num_words", [1, 2, 10])
def test_equals_its_definition_on_shuffled_pieces_of_problems(
    num_words: int, window_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decontaminate, "WINDOW_BYTES", window_bytes)
    index = NgramIndex([HUMANEVAL], num_words)
    draw = random.Random(0)
    texts = []
    for _ in range(300):
        problem = draw.choice(HUMANEVAL.problems)
        words = (problem.prompt + problem.reference).split()
        start, length = draw.randrange(len(words)), draw.randrange(16)
        piece = draw.choice([" ", "\n\n", "\t", " \f"]).join(words[start : start + length])
        noise = draw.choices(["x", "Äpfel", "\ud800", "a\x00b", "", "def"], k=draw.randrange(4))
        if draw.random() < 0.5:
            piece = piece.upper()
        texts.append(" ".join([*noise, piece, *reversed(noise)]))
    fast = {o.position: set(o.problem_ids) for o in index.find(texts)}
    assert fast == find_slowly(index, texts)
    assert 0 < len(fast) < len(texts)


def test_the_filter_grows_with_the_index() -> None:
    draw = random.Random(0)
    words = [str(draw.randrange(10**6)) for _ in range(160_000)]
    one = replace(HUMANEVAL.problems[0], statement=" ".join(words))
    index = NgramIndex([replace(HUMANEVAL, problems=(one,))])
    assert index._may_hold.mean() <= 1 / SLOTS_PER_NGRAM
    runs = [words[start : start + 10] for start in range(0, 150_000, 9973)]
    texts = [" ".join(run if number % 2 else run[::-1]) for number, run in enumerate(runs)]
    assert {found.position for found in index.find(texts)} == set(range(1, len(texts), 2))


def test_no_run_crosses_from_one_document_into_the_next() -> None:
    index = NgramIndex([HUMANEVAL])
    words = HUMANEVAL.problems[0].prompt.split()
    assert index.find([" ".join(words[:9]), " ".join(words[9:18])]) == []
    (overlap,) = index.find(["", " ".join(words[:9]), " ".join(words[9:19]).upper()])
    assert overlap.position == 2
    assert overlap.problem_ids == ("HumanEval/0",)
    assert overlap.ngram == " ".join(words[9:19]).upper()
    assert index.find([]) == index.find([""]) == index.find([" ".join(words[:9])]) == []


def test_powers_and_inverses_cancel() -> None:
    powers, inverses = make_powers(1000)
    assert (powers * inverses == 1).all()


def test_command_keeps_what_does_not_overlap(tmp_path: Path) -> None:
    problem = HUMANEVAL.problems[3]
    rows = [
        {"source": "x = 1\n" * 40},
        {"source": "# copied\n" + problem.prompt},
        {"source": "tail"},
    ]
    data = tmp_path / "data.jsonl.gz"
    data.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    clean, report = tmp_path / "clean.jsonl.gz", tmp_path / "report.jsonl"
    arguments = ["decontaminate", str(data), "--against", "humaneval", "--column", "source"]
    result = CliRunner().invoke(main, [*arguments, "--clean", str(clean), "--report", str(report)])
    assert result.exit_code == 0, result.output
    assert "1 of 3 documents (33.333%)" in result.output
    assert "humaneval: 1 of 164 problems found" in result.output
    cleaned = gzip.decompress(clean.read_bytes()).splitlines()
    assert [json.loads(line) for line in cleaned] == [rows[0], rows[2]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("clean.jsonl.gz", "data.jsonl.gz", "report.jsonl")
    ]
    (line,) = report.read_text().splitlines()
    assert json.loads(line)["line"] == 2
    assert json.loads(line)["problems"] == ["HumanEval/3"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "data.jsonl:2: not JSON"),
        ("[" * 100_000, "data.jsonl:2: not JSON"),
        ("[1]", "data.jsonl:2: not a JSON object"),
        ('{"code": "x"}', "data.jsonl:2: no text in column 'text'; it has code"),
        ('{"text": null}', "name the column with --column"),
    ],
)
def test_bad_lines_are_named(line: str, message: str, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "fine"}\n' + line + "\n")
    clean = tmp_path / "clean.jsonl"
    arguments = ["decontaminate", str(data), "--against", "humaneval", "--clean", str(clean)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert list(tmp_path.iterdir()) == [data]  # no part of what would have been clean


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_data_without_documents_are_no_clean_data(text: str, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(text)
    arguments = ["decontaminate", str(data), "--against", "humaneval"]
    result = CliRunner().invoke(main, [*arguments, "--clean", str(tmp_path / "clean.jsonl")])
    assert result.exit_code == 2
    assert f"{data} holds no document; give JSON lines" in result.output
    assert list(tmp_path.iterdir()) == [data]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with write_whole(tmp_path / "link") as file:
        file.write(b"clean")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"clean"


def test_damaged_files_are_named_and_the_data_are_never_written_over(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl.gz"
    whole = gzip.compress(b'{"text": "fine"}\n' * 9999)
    arguments = ["decontaminate", str(data), "--against", "humaneval"]
    for content, options, message in (
        (whole[:-20], (), "data.jsonl.gz: cannot be read behind line "),
        (b"{}", (), "data.jsonl.gz: cannot be read behind line 0: Not a gzipped file"),
        (whole, ("--clean", str(data)), "is the data itself"),
        (whole, ("--report", str(tmp_path / "." / data.name)), "is the data itself"),
        (whole, ("--clean", str(tmp_path / "no" / "x")), "cannot write"),
        (whole, ("--clean", "x", "--report", "./x"), "name two files"),
    ):
        data.write_bytes(content)
        result = CliRunner().invoke(main, [*arguments, *options])
        assert result.exit_code == 2, result.output
        assert message in result.output
        assert len(result.output.splitlines()) == 1
        assert data.read_bytes() == content
