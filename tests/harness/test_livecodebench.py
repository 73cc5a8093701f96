"""LiveCodeBench on four problems of our own: loading, windows, prompts, judging."""

import base64
import dataclasses
import gzip
import hashlib
import json
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sdb_harness.benchmarks import Benchmark, data_files, livecodebench, load_benchmark
from sdb_harness.cli import main
from sdb_harness.errors import UserError
from sdb_harness.judging import Judge
from sdb_harness.records import Problem
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import Case, Check, FunctionCheck, Status, StdinCheck
from sdb_sandboxes.verifiers import verify


def pack(tests: list[dict[str, str]], protocol: int = 4) -> str:
    packed = pickle.dumps(json.dumps(tests), protocol)
    return base64.b64encode(zlib.compress(packed)).decode()


def make_row(name: str, day: str, tests: list[tuple[str, str]], **changes: Any) -> dict[str, Any]:
    kind = "functional" if "metadata" in changes else "stdin"
    listed = [{"input": given, "output": wanted, "testtype": kind} for given, wanted in tests]
    return {
        "question_id": name,
        "question_title": name,
        "question_content": f"Task {name}.",
        "contest_date": f"{day}T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(listed[:1]),
        "private_test_cases": pack(listed[1:]),
        "metadata": "{}",
    } | changes


ROWS = [
    make_row("sum", "2024-11-02", [("2\n3 4\n", "7\n"), ("1\n5\n", "5\n"), ("0\n\n", "0\n")]),
    make_row("mean", "2025-01-15", [("1 2\n", "1.5\n"), ("3 3\n", "3.0\n")]),
    make_row(
        "letters",
        "2025-04-05",
        [('"ab"\n1', '["b", "c"]'), ('"z"\n0', '["z"]')],
        metadata='{"func_name": "shift"}',
        starter_code="class Solution:\n    def shift(self, word: str, k: int) -> List[str]:\n",
        difficulty="hard",
    ),
]
SUM = "print(sum(map(int, open(0).read().split()[1:])))"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    folder = tmp_path / "livecodebench"
    folder.mkdir()
    pinned = []
    for file, rows in zip(livecodebench.FILES, (ROWS[:2], ROWS[2:]), strict=False):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (tmp_path / file.path).write_bytes(content)
        pinned.append(dataclasses.replace(file, sha256=hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(livecodebench, "FILES", tuple(pinned))
    monkeypatch.setattr(livecodebench, "RELEASES", ("v1", "v2"))
    return folder


@pytest.fixture
def benchmark(folder: Path) -> Benchmark:
    return load_benchmark("livecodebench:release=v2")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox(num_slots=1) as sandbox:
        yield sandbox


def get(benchmark: Benchmark, name: str) -> Problem:
    return next(p for p in benchmark.problems if p.problem_id == name)


def find_check(benchmark: Benchmark, name: str) -> Check:
    return benchmark.find_check(get(benchmark, name))


def test_releases_are_cumulative_and_windows_are_inclusive(folder: Path) -> None:
    names = {
        spec: [p.problem_id for p in load_benchmark(f"livecodebench:{spec}").problems]
        for spec in ("release=v1", "release=v2", "release=v2,start=2025-01-15,end=2025-04-04")
    }
    assert list(names.values()) == [["sum", "mean"], ["sum", "mean", "letters"], ["mean"]]
    revisions = {load_benchmark(f"livecodebench:{spec}").revision for spec in names}
    assert len(revisions) == 3


def test_problems_of_upstreams_errata_are_noted_by_id() -> None:
    rows = [
        make_row("abc337_e", "2024-01-20", [("", "")]),
        make_row("3200", "2024-01-20", [("", "")], question_title="Find the Peaks"),
        make_row("3201", "2024-01-20", [("", "")], question_title="find-the-peaks"),
        make_row("sum", "2024-01-20", [("", "")]),
    ]
    interactive, several, same, none = map(livecodebench.find_erratum, rows)
    assert interactive.startswith("abc337_e: wants a dialogue")
    assert several == same
    assert several.startswith("find-the-peaks: several answers are right")
    assert none == ""
    assert len(livecodebench.ERRATA) == 17


def test_errata_excuse_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livecodebench, "ERRATA", {"mean": "wrong", "letters": "wrong too"})
    benchmark = load_benchmark("livecodebench:release=v1")
    assert benchmark.notes == {"mean": "mean: wrong (ERRATA.md)"}
    assert not benchmark.faults


def test_public_and_hidden_tests_become_data(benchmark: Benchmark) -> None:
    assert find_check(benchmark, "sum") == StdinCheck(
        (("2\n3 4\n", "7\n"), ("1\n5\n", "5\n"), ("0\n\n", "0\n")), "lines_decimal"
    )
    cases = (Case(("ab", 1), ["b", "c"]), Case(("z", 0), ["z"]))
    assert find_check(benchmark, "letters") == FunctionCheck(
        "call_solution", cases, "python_equality"
    )
    assert get(benchmark, "letters").group == "hard"


def test_hidden_tests_are_read_only_when_a_program_is_judged(
    folder: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(livecodebench, "read_private_tests", lambda text: pytest.fail("decoded"))
        benchmark = load_benchmark("livecodebench:release=v2")
    for problem in benchmark.problems:
        with pytest.raises(ValueError, match=r"no case|no call"):
            verify(sandbox, SUM, problem.check, benchmark.limits)
    judge = Judge(benchmark, sandbox)
    assert judge.judge(get(benchmark, "sum"), SUM).is_passed
    assert not judge.judge(get(benchmark, "sum"), "print(7)").is_passed


@pytest.mark.parametrize("damage", ["{", '{"private_test_cases": "@@"}', ""])
def test_tests_that_were_damaged_since_are_one_line(benchmark: Benchmark, damage: str) -> None:
    path = data_files.locate_file(livecodebench.FILES[0])
    path.write_text(damage)
    with pytest.raises(UserError, match=r"test\.jsonl, byte 0: its tests cannot be read"):
        find_check(benchmark, "sum")
    path.unlink()
    with pytest.raises(UserError, match="its tests cannot be read"):
        find_check(benchmark, "mean")


def test_packed_files_are_read_too(folder: Path) -> None:
    for path in folder.glob("*.jsonl"):
        path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    benchmark = load_benchmark("livecodebench:release=v2")
    assert find_check(benchmark, "mean") == StdinCheck(
        (("1 2\n", "1.5\n"), ("3 3\n", "3.0\n")), "lines_decimal"
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hidden_tests_are_read_whatever_the_protocol(protocol: int) -> None:
    tests = [{"input": "é\n", "output": "x" * 300}]
    assert livecodebench.read_private_tests(pack(tests, protocol)) == tests


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("unpickled",))


@pytest.mark.parametrize("payload", [Bomb(), ["a"], ("a", "b"), 7, b"text"])
def test_a_pickle_of_more_than_a_text_is_refused_unloaded(
    payload: object, capsys: pytest.CaptureFixture[str]
) -> None:
    text = base64.b64encode(zlib.compress(pickle.dumps(payload))).decode()
    with pytest.raises(ValueError, match="a pickle of more than a text"):
        livecodebench.read_private_tests(text)
    assert capsys.readouterr().out == ""


RIGHT = {
    "sum": [
        SUM,
        "import sys\nfirst, *rest = [line for line in sys.stdin]\n"
        "print(sum(map(int, ' '.join(rest).split())))",
        "import sys\nread = sys.stdin.buffer.readline\nread()\n"
        "print(sum(map(int, read().split())))",
        "total = 0\ndef add(x):\n    global total\n    total += x\n"
        "input()\n[add(int(x)) for x in input().split()]\nprint(total)",
        "def main():\n    input()\n    print(sum(map(int, input().split())))\n"
        "if __name__ == '__main__':\n    main()",
    ],
    "mean": [
        "v = list(map(int, input().split()))\nprint(sum(v) / len(v))",
        "v = [int(x) for x in input().split()]\nprint(f'  {sum(v) / len(v):.3f} ')",
    ],
    "letters": [
        "class Solution:\n    def shift(self, word: str, k: int) -> List[str]:\n"
        "        return tuple(chr((ord(c) - 97 + k) % 26 + 97) for c in word)",
    ],
}
WRONG = {
    "sum": [
        SUM.replace("sum", "max") + "\n",
        "print(7)",
        "import os\nprint(7, flush=True)\nos._exit(0)",
        SUM + "\nprint()\nprint(1)",
        "",
    ],
    "mean": ["v = list(map(int, input().split()))\nprint(sum(v) // len(v))", "print('nan')"],
    "letters": [
        "class Solution:\n    def shift(self, word, k):\n        return word",
        "class Solution:\n    def shift(self, word, k):\n"
        "        class Yes(list):\n            __eq__ = lambda *a: True\n        return Yes()",
        "def shift(word, k): return []",
        "",
    ],
}


@pytest.mark.parametrize(
    ("name", "code", "is_right"),
    [
        *((name, code, True) for name, programs in RIGHT.items() for code in programs),
        *((name, code, False) for name, programs in WRONG.items() for code in programs),
    ],
)
def test_right_programs_pass_and_wrong_ones_do_not(
    benchmark: Benchmark, sandbox: Sandbox, name: str, code: str, is_right: bool
) -> None:
    problem, protocol = get(benchmark, name), benchmark.protocols["chat"]
    program, rule = protocol.extract(problem, f"Here:\n```python\n{code}\n```\nDone.")
    assert rule == "between_last_fences"
    verdict = verify(sandbox, program, benchmark.find_check(problem), benchmark.limits)
    assert verdict.is_passed is is_right, verdict
    assert verdict.status is not Status.INFRASTRUCTURE
    assert verdict.trust_level == "L3"


@pytest.mark.parametrize(
    ("name", "code", "is_right"),
    [
        *((name, code, False) for name, programs in WRONG.items() for code in programs),
        *(("sum", code, False) for code in RIGHT["sum"][:4]),
        ("sum", RIGHT["sum"][4], True),
        *((name, code, True) for name in ("mean", "letters") for code in RIGHT[name]),
        (
            "sum",
            "from sys import stdin\nstdin.readline()\nprint(sum(map(int, input().split())))",
            0,
        ),
        ("sum", "import sys\ninput()\nprint(sum(map(int, input().split())))\nsys.exit()", 1),
        ("sum", "import sys\nprint(sum(map(int, sys.stdin.read().split()[1:])))\nquit()", 0),
        ("sum", "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split()[1:])))", 1),
    ],
)
def test_the_compatible_mode_takes_and_rejects_what_upstream_does(
    folder: Path, sandbox: Sandbox, name: str, code: str, is_right: bool
) -> None:
    benchmark = load_benchmark("livecodebench:release=v2,judge=lcb-compat")
    assert "livecodebench release v2 first to last, judged as lcb-compat:" in benchmark.describe()
    dated = load_benchmark("livecodebench:release=v2,start=2025-01-01").describe()
    assert dated.startswith("livecodebench release v2 2025-01-01 to last: 2 problems")
    problem = get(benchmark, name)
    program, _ = benchmark.protocols["chat"].extract(problem, f"```\n{code}\n```")
    verdict = verify(sandbox, program, benchmark.find_check(problem), benchmark.limits)
    assert verdict.is_passed is bool(is_right), verdict
    assert verdict.status is not Status.INFRASTRUCTURE


def test_differing_verdicts_of_the_two_modes_are_counted(folder: Path, tmp_path: Path) -> None:
    texts = {"sum": RIGHT["sum"][0], "mean": RIGHT["mean"][0]}
    lines = [
        json.dumps({"task_id": name, "completion": f"```\n{code}\n```"})
        for name, code in texts.items()
    ]
    (tmp_path / "samples.jsonl").write_text("\n".join(lines))
    call = CliRunner().invoke
    runs = ["--runs", str(tmp_path / "runs"), "--name", "lcb"]
    spec = ["--benchmark", "livecodebench:release=v1"]
    done = call(main, ["run", *runs, *spec, "--generator", f"replay:{tmp_path}/samples.jsonl"])
    assert done.exit_code == 0, done.output
    store = str(tmp_path / "runs" / "lcb" / "store.sqlite")
    told = call(main, ["benchmarks", "judge-modes", store]).output
    assert "1 of 2 verdicts differ; 2 passed as process, 1 as lcb-compat" in told
    assert "sum, sample 0: passed -> wrong_answer" in told or "passed -> runtime_error" in told


def test_chat_prompts_are_in_upstreams_words(benchmark: Benchmark) -> None:
    protocol = benchmark.protocols["chat"]
    prompt = protocol.build_prompt(get(benchmark, "sum"))
    assert isinstance(prompt, tuple)
    system, user = prompt
    assert system.role == "system"
    assert user.content.startswith("### Question:\nTask sum.\n\n### Format: Read the inputs from")
    ending = "# YOUR CODE HERE\n```\n\n### Answer: (use the provided format with backticks)\n\n"
    assert user.content.endswith(ending)
    prompt = protocol.build_prompt(get(benchmark, "letters"))
    assert isinstance(prompt, tuple)
    assert "```python\nclass Solution:\n    def shift" in prompt[1].content


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```\na\n```\n```python\nb\n```", "b"),
        ("```python\na\n```\nthen ```x``` inline", ""),
        ("only ```one", ""),
        ("", ""),
    ],
)
def test_code_stands_between_the_last_two_fences(text: str, code: str) -> None:
    assert livecodebench.take_between_last_fences(text, ()).code == code


def test_bad_data_is_one_clear_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for spec, message in {
        "release=v9": "release='v9'; use one of v1, v2",
        "window=1": "no option 'window'",
        "release=v1,start=yesterday": "date 'yesterday'; write it as 2024-10-01",
        "release=v2,start=2030-01-01": "no problem of release v2",
    }.items():
        with pytest.raises(UserError, match=message):
            load_benchmark(f"livecodebench:{spec}")
    path = folder / "test.jsonl"
    good = path.read_text()
    path.write_text(good.splitlines()[0] + "\n")
    with pytest.raises(
        UserError, match=r"test\.jsonl is not the published data.*remove it and fetch"
    ):
        load_benchmark("livecodebench:release=v1")
    path.write_text(good + "{")
    with pytest.raises(UserError, match=r"test\.jsonl:3: not JSON"):
        load_benchmark("livecodebench:release=v1")
    for metadata in ("@@", "[]"):
        path.write_text(json.dumps(ROWS[0] | {"metadata": metadata}) + "\n")
        with pytest.raises(UserError, match="sum: its metadata cannot be read"):
            load_benchmark("livecodebench:release=v1")
    for line, name in (('{"question_id": "a"}', "question_title"), ("[1]", "question_id")):
        path.write_text(f"{line}\n")
        with pytest.raises(UserError, match=rf"test\.jsonl:1: no text '{name}'"):
            load_benchmark("livecodebench:release=v1")
    path.unlink()
    packed = path.with_name("test.jsonl.gz")
    packed.write_bytes(gzip.compress(good.encode())[:-9])
    with pytest.raises(UserError, match=r"test\.jsonl\.gz: cannot be read behind line \d"):
        load_benchmark("livecodebench:release=v1")
    packed.unlink()
    command = r"hf download livecodebench/code_generation_lite test\.jsonl .*--revision 0fe84c39"
    with pytest.raises(UserError, match=command):
        load_benchmark("livecodebench:release=v1")


class TestLocalModels:
    """Presets of what upstream runs itself, by vLLM."""

    def test_base_models_see_a_solved_problem_of_the_kind(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for is_method, shot in (
            (True, {"question": "Q", "sample_code": "class S:", "answer": "A"}),
            (False, {"question": "P", "answer": "B"}),
        ):
            file = livecodebench.SHOTS[is_method]
            content = json.dumps([shot]).encode()
            (folder.parent / file.path).write_bytes(content)
            pinned = dataclasses.replace(file, sha256=hashlib.sha256(content).hexdigest())
            monkeypatch.setitem(livecodebench.SHOTS, is_method, pinned)
        benchmark = load_benchmark("livecodebench:release=v2")
        base, problems = benchmark.protocols["base"], benchmark.problems
        assert base.build_prompt(problems[0]) == (
            "### Question\nP\n\n### Answer\n\nB\n\n### Question\nTask sum.\n\n### Answer\n\n"
        )
        starter = ROWS[2]["starter_code"]
        assert base.build_prompt(problems[2]) == (
            "### Question\nQ\n\n### Starter Code\nclass S:\n\n### Answer\n\nA\n\n"
            f"### Question\nTask letters.\n\n### Starter Code\n{starter}\n\n### Answer\n\n"
        )

    def test_codeqwen_s_form(self, folder: Path) -> None:
        benchmark = load_benchmark("livecodebench:release=v2")
        prompt = benchmark.protocols["codeqwen"].build_prompt(benchmark.problems[2])
        assert isinstance(prompt, tuple)
        (system, user), starter = prompt, ROWS[2]["starter_code"]
        assert system == ("system", "You are a helpful assistant.")
        assert user.content == (
            "\nYou will be given a question (problem specification) and will generate a correct "
            "Python program that matches the specification and passes all tests. You will NOT "
            "return anything except for the program.\n\nQuestion: Task letters.\n\nYou will use "
            "the following starter code to write the solution to the problem and enclose your code "
            f"within delimiters.\n```python\n{starter}\n```\n\n"
        )

    def test_their_answers_end_at_a_heading(self, folder: Path) -> None:
        protocols = livecodebench.PROTOCOLS
        text = "\n```python\nx = 1\n```\n### More\n```python\ny = 2\n```\n"
        found = {
            name: protocols[name].find_code(text, protocols[name].stop).code
            for name in ("chat", "chat-local", "base")
        }
        assert found == {"chat": "y = 2", "chat-local": "x = 1", "base": "```python\nx = 1\n```"}
