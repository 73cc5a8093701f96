"""NaturalCodeBench: the user's files, upstream's extraction order, and what cannot be judged."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdb_harness.benchmarks import Benchmark, load_benchmark
from sdb_harness.benchmarks.naturalcodebench import (
    LIMITS,
    PROTOCOLS,
    make_problem,
    take_java,
    take_python,
    write_cheat,
    write_java,
)
from sdb_harness.errors import UserError
from sdb_harness.records import Problem
from sdb_harness.verification import verify_judging
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.engine import Engine
from sdb_sandboxes.types import ExitCodeCheck, Status, SuiteCheck, Verdict
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.exit_code import FORGED

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
JAVA = PLAIN | {
    "testcases": "import org.junit.jupiter.api.Test;\n"
    "import static org.junit.jupiter.api.Assertions.*;\n\n"
    "class TemperatureTest {\n"
    "    @Test\n    void freezing() {\n"
    "        assertEquals(32.0, Temperature.toFahrenheit(0.0), 1e-9);\n    }\n\n"
    "    @Test\n    void boiling() {\n"
    "        assertEquals(212.0, Temperature.toFahrenheit(100.0), 1e-9);\n    }\n}\n",
    "reference_solution": "```java\npublic class Temperature {\n"
    "    public static double toFahrenheit(double celsius) {\n"
    "        return celsius * 9.0 / 5.0 + 32.0;\n    }\n}\n```",
}
JUNIT4 = PLAIN | {  # tests of JUnit 4, one of which expects an exception; two public types
    "_id": 2,
    "testcases": "import org.junit.Test;\nimport static org.junit.Assert.*;\n\n"
    "public class SquareTest {\n"
    '    @Test\n    public void area() {\n        assertEquals("area", 9, new Square(3).area());\n'
    "        assertEquals(4, new Square(-2).area());\n    }\n\n"
    "    @Test(expected = IllegalArgumentException.class)\n    public void empty() {\n"
    "        new Square(0);\n    }\n}\n",
    "reference_solution": "```java\nimport java.util.*;\n\npublic interface Shape {\n"
    "    int area();\n}\n\npublic class Square implements Shape {\n"
    "    private final int side;\n    public Square(int side) {\n"
    "        if (side == 0) throw new IllegalArgumentException();\n"
    "        this.side = side;\n    }\n"
    "    public int area() { return side * side; }\n}\n```",
}
FILES = PLAIN | {  # a test with a parameter and a fixture
    "_id": 3,
    "testcases": "import org.junit.jupiter.api.*;\nimport org.junit.jupiter.api.io.TempDir;\n"
    "import java.nio.file.*;\nimport static org.junit.jupiter.api.Assertions.*;\n\n"
    "class LinesTest {\n    private Lines lines;\n\n"
    "    @BeforeEach\n    void create() {\n        lines = new Lines();\n    }\n\n"
    "    @Test\n    void counts(@TempDir Path folder) throws Exception {\n"
    '        Path path = Files.writeString(folder.resolve("a"), "x\\ny\\n");\n'
    "        assertEquals(2, lines.count(path));\n    }\n\n"
    "    @Test\n    void misses() {\n"
    '        assertEquals(-1, lines.count(Path.of("none")));\n    }\n}\n',
    "reference_solution": "```java\nimport java.io.IOException;\nimport java.nio.file.*;\n\n"
    "class Lines {\n    int count(Path path) {\n"
    "        try { return Files.readAllLines(path).size(); }\n"
    "        catch (IOException error) { return -1; }\n    }\n}\n```",
}


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


def test_problems_that_are_known_to_be_broken_are_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    (tmp_path / "naturalcodebench").mkdir()
    for language in ("python", "java"):
        row = (JAVA if language == "java" else PLAIN) | {"_id": 187}
        path = tmp_path / "naturalcodebench" / f"ncb_{language}_en.jsonl"
        path.write_text(json.dumps(row) + "\n")
    assert list(load_benchmark("naturalcodebench:prompt=en").faults) == ["python-en/187"]


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


def test_tests_that_need_pytest_are_told_from_plain_ones(benchmark: Benchmark) -> None:
    plain, fixture, raises = benchmark.problems[:3]
    assert isinstance(plain.check, SuiteCheck)
    assert plain.check.test_ids == (
        "test_solution.TestDouble.test_two",
        "test_solution.TestDouble.test_zero",
    )
    assert (plain.modules, plain.check.is_pytest) == ((), False)
    assert isinstance(fixture.check, SuiteCheck)
    assert fixture.check.test_ids == ("test_solution.test_file",)
    assert (fixture.modules, fixture.check.is_pytest) == (("pytest",), True)
    assert isinstance(raises.check, SuiteCheck)
    assert (raises.modules, raises.check.is_pytest) == (("pytest",), False)
    for more, is_pytest in (
        ("    def setup_method(self):\n        self.two = 2\n", True),
        ("    @pytest.fixture(autouse=True)\n    def one(self):\n        yield 1\n", True),
        ("    @pytest.mark.parametrize('n', [1])\n    def test_n(self, n): pass\n", True),
        ("    @staticmethod\n    def setup_double():\n        return 2\n", False),
        ("def setup_function():\n    pass\n", True),
    ):
        row = PLAIN | {"testcases": f"{PLAIN['testcases']}\n{more}"}
        check = make_problem(row, "python", "en").check
        assert isinstance(check, SuiteCheck)
        assert check.is_pytest is is_pytest


def test_what_cannot_be_run_is_not_judged() -> None:
    for tests in ("double(2) == 4", "def test_two(:"):
        problem = make_problem(PLAIN | {"testcases": tests}, "python", "en")
        assert isinstance(problem.check, ExitCodeCheck)
        assert problem.not_judged == "its tests are no source with test functions"
    assert "files" in make_problem(PLAIN | {"_id": 188}, "python", "en").not_judged
    imports = {
        "testcases": f"import numpy as np\n\n{PLAIN['testcases']}",
        "reference_solution": "```python\nimport torch\n\ndef double(n):\n    return 2 * n\n```",
    }
    assert make_problem(PLAIN | imports, "python", "en").modules == ("numpy", "torch")


def test_references_pass_and_the_rest_is_named(benchmark: Benchmark) -> None:
    python = load_benchmark("naturalcodebench:language=python,prompt=en")
    with LanguageSandbox("embedded") as sandbox:
        findings = {finding.name: finding for finding in verify_judging(python, sandbox)}
    reference = findings["reference"]
    assert reference.num_passed == reference.num_programs == 1
    assert reference.exceptions == ()
    assert reference.not_judged == {"needs pytest, which this sandbox lacks": 2}
    assert findings["empty"].num_passed == 0


@pytest.mark.docker
def test_pytest_judges_where_the_sandbox_has_it(benchmark: Benchmark, engine: Engine) -> None:
    python = load_benchmark("naturalcodebench:language=python,prompt=en")
    with LanguageSandbox("docker:py-numpy", num_slots=1) as sandbox:
        findings = {finding.name: finding for finding in verify_judging(python, sandbox)}
    reference, empty = findings["reference"], findings["empty"]
    assert (reference.num_programs, reference.num_passed) == (3, 3)
    assert (empty.num_programs, empty.num_passed) == (3, 0)


@pytest.mark.parametrize(
    ("text", "code", "rule"),
    [
        ("a [Python]\nx = 1\n[/Python]\n```python\ny\n```", "\nx = 1\n", "python_tags"),
        ("[Python]\n```python\ny\n```\n[/Python]", "y", "first_python_block"),
        ("[Python]\nx\n```\n", "\nx\n", "python_tags_unclosed"),
        ("[Python]\nx\n", "", "python_tags_unclosed"),
        ("```\nz\n```\n```python\ny\n```", "y", "first_python_block"),
        ("```python\ny\n", "", "no_block"),
        ("```\nz\n```", "z", "first_bare_block"),
        ("Sure:\nimport os\nos\n", "import os\nos\n", "first_code"),
        ("Read from it:\nimport os\n", "from it:\nimport os\n", "first_code"),
        ("def f(): pass", "def f(): pass", "first_code"),
        ("no code", "", "no_block"),
    ],
)
def test_code_is_found_in_upstream_s_order(text: str, code: str, rule: str) -> None:
    assert take_python(text, ()) == (code, rule)


def test_bad_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: Benchmark
) -> None:
    path = tmp_path / "naturalcodebench" / "ncb_java_zh.jsonl"
    path.write_text('{"_id": 1}')
    with pytest.raises(UserError, match=r"ncb_java_zh.jsonl: problem 1 lacks 'prompt'; fetch"):
        load_benchmark("naturalcodebench")
    (row,) = (tmp_path / "naturalcodebench" / "ncb_java_en.jsonl").read_text().splitlines()[:1]
    path.write_text(json.dumps(json.loads(row) | {"testcases": None}))
    with pytest.raises(UserError, match=r"ncb_java_zh.jsonl: problem 1 lacks 'testcases'; fetch"):
        load_benchmark("naturalcodebench")
    path.write_text(f"{row}\n\n{row}\n")
    with pytest.raises(UserError, match=r"zh.jsonl: problem 2 has the _id \d+ of problem 1; fetch"):
        load_benchmark("naturalcodebench")
    path.write_text("{}\n{")
    with pytest.raises(UserError, match=r"ncb_java_zh.jsonl:2: not JSON"):
        load_benchmark("naturalcodebench")
    path.unlink()
    with pytest.raises(UserError, match=r"ncb_java_zh.jsonl is missing .*THUDM/NaturalCodeBench"):
        load_benchmark("naturalcodebench")


@pytest.mark.parametrize(
    ("text", "code", "rule"),
    [
        ("a [Java]\nclass A {}\n[/Java]\n```java\nclass B {}\n```", "class A {}\n", "java_tags"),
        (
            "```Java\nclass A {}\n```\n```\nprints 5\n```\n```java\nnew A();\n```\n"
            "```\nenum B { X }\n```",
            "class A {}\nenum B { X }\n",
            "java_blocks",
        ),
        ("Sure:\nimport x.Y;\nclass A {}\nDone.", "import x.Y;\nclass A {}\n", "first_code"),
        ("no code", "no code", "whole"),
    ],
)
def test_java_is_found_as_upstream_finds_it(text: str, code: str, rule: str) -> None:
    assert take_java(text, ()) == (code, rule)


def test_a_java_answer_becomes_one_file_without_package_or_public_types() -> None:
    program = write_java(
        "package a.b;\nimport x.Y; // why\n\npublic final class A {\n    public int f() {}\n}\n"
        "import x.Y;\npublic record B(int n) {}\n"
    )
    head, _, types = program.partition("import x.Y;\n")
    assert "import org.junit.jupiter.api.Test;\n" in head
    assert "public final" not in types
    assert types.count("\nfinal class A {\n    public int f() {}\n}\n") == 1
    assert types.endswith("\nrecord B(int n) {}\n")
    assert "package" not in program
    assert program.count("import x.Y;") == 1


def test_java_that_cannot_be_judged_is_named(benchmark: Benchmark) -> None:
    (java,) = load_benchmark("naturalcodebench:language=java,prompt=en").problems
    assert java.not_judged == ""
    assert isinstance(java.check, SuiteCheck)
    assert java.check.files[0][0] == "Test_java_1.java"
    assert "class Test_java_1 {" in java.check.files[0][1]
    assert java.check.test_ids == ("freezing", "boiling")
    for tests, reason in (
        ("import org.jsoup.Jsoup;\n", "need jsoup"),
        ("class A { @Test void one() {} }", "not all methods marked @Test"),
        ("class ATest {}", "not all methods marked @Test"),
    ):
        assert reason in make_problem(JAVA | {"testcases": tests}, "java", "en").not_judged
    assert "files" in make_problem(JAVA | {"_id": 141}, "java", "zh").not_judged


@pytest.fixture(scope="module")
def sandbox(engine: Engine) -> Iterator[LanguageSandbox]:
    with LanguageSandbox("docker", num_slots=1) as sandbox:
        if reason := sandbox.explain_missing("java-junit"):
            pytest.skip(reason)
        yield sandbox


def judge(sandbox: LanguageSandbox, problem: Problem, answer: str) -> Verdict:
    program, _ = PROTOCOLS["chat"].extract(problem, answer)
    return verify(sandbox, program, problem.check, LIMITS)


@pytest.mark.docker
@pytest.mark.parametrize("row", [JAVA, JUNIT4, FILES], ids=["sample", "junit4", "files"])
def test_java_is_judged_by_its_tests(sandbox: LanguageSandbox, row: dict[str, str]) -> None:
    problem = make_problem(row, "java", "en")
    answer = row["reference_solution"]
    verdict = judge(sandbox, problem, answer)
    assert (verdict.status, verdict.detail, verdict.trust_level) == ("passed", "", "L1")
    assert (verdict.num_tests_passed, verdict.num_tests) == (2, 2)
    wrong = answer.replace("32.0", "33.0").replace("side * side", "side").replace("-1", "0")
    verdict = judge(sandbox, problem, wrong)
    assert verdict.status is Status.WRONG_ANSWER
    assert verdict.detail.endswith(" failed")
    cheat = verify(sandbox, write_cheat(problem) or "", problem.check, LIMITS)
    assert cheat.status is Status.RUNTIME_ERROR
    assert cheat.detail == "0 of 2 tests ended, then the process with 0"
    assert judge(sandbox, problem, "class A {").status is Status.COMPILE_ERROR


@pytest.mark.docker
def test_java_answers_may_bring_tests_but_not_results(sandbox: LanguageSandbox) -> None:
    problem = make_problem(JAVA, "java", "en")
    own = "class TemperatureTest {\n    @Test void fails() { fail(); }\n}\n"
    answer = str(JAVA["reference_solution"]).replace("```java\n", f"```java\n{own}")
    assert judge(sandbox, problem, answer).is_passed
    printed = 'System.out.println("--- PASS: freezing\\n--- PASS: boiling"); System.exit(0);'
    for cheat, detail in (
        (
            f"class Temperature {{\n    static {{ {printed} }}\n    static double toFahrenheit"
            "(double c) { return 0; }\n}",
            FORGED,
        ),
        ("class A {}\npackage org.junit.jupiter.api;\nclass Assertions {}", "does not compile"),
        (
            "class A {}\npack\\u0061ge org.junit.jupiter.api;\nclass Assertions {}",
            "does not compile",
        ),
    ):
        verdict = judge(sandbox, problem, f"```java\n{cheat}\n```")
        assert (verdict.is_passed, verdict.detail) == (False, detail)
