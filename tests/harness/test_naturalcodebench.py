"""NaturalCodeBench: the user's files, upstream's extraction order, and what cannot be judged."""

import json
from pathlib import Path

import pytest

from sdb_harness.benchmarks import Benchmark, load_benchmark
from sdb_harness.benchmarks.naturalcodebench import take_python
from sdb_harness.errors import UserError
from sdb_harness.verification import verify_judging
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.types import ExitCodeCheck, SuiteCheck

PLAIN = {
    "_id": 1,
    "prompt": "Write double(n).",
    "problem": "double",
    "testcases": "class TestDouble:\n    def test_two(self):\n        assert double(2) == 4\n\n"
    "    def test_zero(self):\n        assert double(0) == 0\n",
    "setup_code": "",
    "reference_solution": "```python\ndef double(n):\n    return 2 * n\n```",
    "classification": "Algorithm",
}
FIXTURE = PLAIN | {"_id": 2, "testcases": "def test_file(tmp_path):\n    assert double(1) == 2\n"}
RAISES = PLAIN | {
    "_id": 3,
    "testcases": "def test_text():\n    with pytest.raises(TypeError):\n        double(None)\n",
}
JAVA = PLAIN | {"reference_solution": "```java\nclass A {}\n```", "testcases": "class ATest {}"}


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    folder = tmp_path / "naturalcodebench"
    folder.mkdir()
    rows = "\n".join(map(json.dumps, (PLAIN, FIXTURE, RAISES)))
    for prompt in ("en", "zh"):
        (folder / f"ncb_python_{prompt}.jsonl").write_text(rows)
        (folder / f"ncb_java_{prompt}.jsonl").write_text(json.dumps(JAVA))
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    return load_benchmark("naturalcodebench")


def test_four_files_give_four_groups(benchmark: Benchmark) -> None:
    assert len(benchmark.problems) == 8
    assert {problem.group for problem in benchmark.problems} == {
        *("python-en", "python-zh", "java-en", "java-zh")
    }
    assert len({problem.problem_id for problem in benchmark.problems}) == 8
    only = load_benchmark("naturalcodebench:language=python,prompt=en")
    assert [problem.problem_id for problem in only.problems] == [
        *("python-en/1", "python-en/2", "python-en/3")
    ]
    assert only.revision != benchmark.revision


def test_what_a_suite_cannot_run_is_not_judged(benchmark: Benchmark) -> None:
    plain, fixture, raises = benchmark.problems[:3]
    assert isinstance(plain.check, SuiteCheck)
    assert plain.check.test_ids == (
        "test_solution.TestDouble.test_two",
        "test_solution.TestDouble.test_zero",
    )
    assert plain.modules == ()
    assert isinstance(fixture.check, ExitCodeCheck)
    assert raises.modules == ("pytest",)


def test_references_pass_and_the_rest_is_named(benchmark: Benchmark) -> None:
    python = load_benchmark("naturalcodebench:language=python,prompt=en")
    with LanguageSandbox("embedded") as sandbox:
        findings = {finding.name: finding for finding in verify_judging(python, sandbox)}
    reference = findings["reference"]
    assert reference.num_passed == reference.num_programs >= 1
    assert reference.exceptions == ()
    assert sum((reference.not_judged or {}).values()) == 3 - reference.num_programs
    assert any("pytest's fixtures" in reason for reason in reference.not_judged or {})
    assert findings["empty"].num_passed == 0


@pytest.mark.parametrize(
    ("text", "code", "rule"),
    [
        ("a [Python]\nx = 1\n[/Python]\n```python\ny\n```", "x = 1\n", "python_tags"),
        ("```\nz\n```\n```python\ny\n```", "y\n", "first_python_block"),
        ("```\nz\n```", "z\n", "first_bare_block"),
        ("Sure:\nimport os\nos\n", "import os\nos\n", "first_code"),
        ("no code", "no code", "whole"),
    ],
)
def test_code_is_found_in_upstream_s_order(text: str, code: str, rule: str) -> None:
    assert take_python(text, ()) == (code, rule)


def test_bad_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: Benchmark
) -> None:
    path = tmp_path / "naturalcodebench" / "ncb_java_zh.jsonl"
    path.write_text('{"_id": 1}')
    with pytest.raises(UserError, match=r"ncb_java_zh.jsonl: a problem lacks 'prompt'; fetch"):
        load_benchmark("naturalcodebench")
    path.write_text("{}\n{")
    with pytest.raises(UserError, match=r"ncb_java_zh.jsonl:2: not JSON"):
        load_benchmark("naturalcodebench")
    path.unlink()
    with pytest.raises(UserError, match=r"ncb_java_zh.jsonl is missing .*THUDM/NaturalCodeBench"):
        load_benchmark("naturalcodebench")
