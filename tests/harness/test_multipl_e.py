"""MultiPL-E: published data, stop strings, and what stands in for upstream's tools."""

import gzip
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sdb_harness.benchmarks import load_benchmark
from sdb_harness.benchmarks.multipl_e import (
    ENDINGS,
    LIMITS,
    PROTOCOLS,
    SETS,
    adapt_tests,
    make_problem,
    write_cheat,
    write_tuple,
)
from sdb_harness.errors import UserError
from sdb_harness.verification import list_groups
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.types import ExitCodeCheck, Status
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.expectations import list_controls

FOLDER = Path(os.environ.get("SDBENCH_DATA", "/none"))
needs_data = pytest.mark.skipif(
    not (FOLDER / "multipl_e").is_dir(), reason="no MultiPL-E below $SDBENCH_DATA"
)


def test_chats_are_asked_in_sandbox_fusions_words() -> None:
    row = {"name": "a", "prompt": "function f(){\n", "tests": "", "stop_tokens": []}
    prompt = PROTOCOLS["chat"].build_prompt(make_problem(row, "javascript"))
    assert prompt == (
        (
            "user",
            "```js\nfunction f(){\n\n```\n\nPlease complete the above code according to the "
            "requirements in the docstring. Write the complete code and wrap it in markdown "
            "syntax. The code should not contain `Main` function.",
        ),
    )


@needs_data
class TestPublishedData:
    @pytest.mark.parametrize("chosen_set", SETS)
    def test_has_eighteen_languages(self, chosen_set: str) -> None:
        benchmark = load_benchmark(f"multipl_e:set={chosen_set}")
        groups = list_groups(benchmark)
        assert list(groups) == list(ENDINGS)
        low, high = (154, 161) if chosen_set == "humaneval" else (354, 397)
        assert all(low <= len(problems) <= high for problems in groups.values())
        assert len({problem.problem_id for problem in benchmark.problems}) == len(
            benchmark.problems
        )

    @pytest.mark.parametrize(
        "language",
        [
            *("cpp", "go", "java", "javascript", "rust", "bash", "php"),
            *("d", "julia", "lua", "r", "racket"),
        ],
    )
    def test_nearly_every_check_has_a_negative_control(self, language: str) -> None:
        problems = load_benchmark(f"multipl_e:language={language}").problems
        checks = [problem.check for problem in problems]
        assert all(isinstance(check, ExitCodeCheck) for check in checks)
        with_control = [
            check
            for check in checks
            if isinstance(check, ExitCodeCheck) and list_controls(check.tests, check.language)
        ]
        assert len(with_control) > 0.97 * len(checks)

    def test_a_changed_file_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = gzip.decompress((FOLDER / "multipl_e" / "humaneval-rs.jsonl.gz").read_bytes())
        (tmp_path / "multipl_e").mkdir()
        path = tmp_path / "multipl_e" / "humaneval-rs.jsonl"
        monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
        path.write_bytes(rows)
        assert len(load_benchmark("multipl_e:language=rust").problems) == 156
        reordered = [dict(reversed(json.loads(line).items())) for line in rows.splitlines()]
        path.write_text("\n".join(json.dumps(row) for row in reordered))
        assert len(load_benchmark("multipl_e:language=rust").problems) == 156
        path.write_bytes(rows.replace(b"assert_eq", b"assert_ne", 1))
        with pytest.raises(UserError, match=r"is not the published data: SHA-256 .*load_dataset"):
            load_benchmark("multipl_e:language=rust")
        path.write_bytes(rows[:-40])
        with pytest.raises(UserError, match=r"humaneval-rs.jsonl:156: not JSON"):
            load_benchmark("multipl_e:language=rust")


def test_missing_data_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"humaneval-lua.jsonl is missing .*'nuprl/MultiPL-E'"):
        load_benchmark("multipl_e:language=lua")
    with pytest.raises(UserError, match="set='mbp'; did you mean 'mbpp'"):
        load_benchmark("multipl_e:set=mbp")


def make_row(**changes: object) -> dict[str, object]:
    row = {"name": "HumanEval_0_f", "prompt": "", "tests": "", "stop_tokens": ["\n}"]}
    return row | changes


def test_the_data_s_own_stop_strings_end_a_completion() -> None:
    problem = make_problem(make_row(prompt="int f() {\n", stop_tokens=["\n}", "\n//"]), "cpp")
    protocol = PROTOCOLS["base"]
    assert protocol.choose_stop(problem) == ("\n}", "\n//")
    assert protocol.extract(problem, "    return 1;\n}\nint g() {}") == (
        "int f() {\n    return 1;",
        "stop",
    )
    assert isinstance(problem.check, ExitCodeCheck)
    assert problem.check.tests.startswith("\n")


@pytest.mark.parametrize("language", ENDINGS)
def test_a_language_that_is_not_here_is_not_judged(language: str) -> None:
    problem = make_problem(make_row(tests="exit 1"), language)
    with LanguageSandbox("embedded", num_slots=1) as sandbox:
        verdict = verify(sandbox, "", problem.check, LIMITS)
    assert verdict.status is Status.INFRASTRUCTURE
    assert "unknown" in verdict.detail or "use --sandbox docker" in verdict.detail


def test_go_tests_are_called_from_a_main() -> None:
    tests = "func TestF_G(t *testing.T) {\n}\n"
    assert "F: TestF_G}" in adapt_tests(tests, "go")
    problem = make_problem(make_row(prompt="package f_test\n\nfunc f() {\n", tests=tests), "go")
    program, _ = PROTOCOLS["base"].extract(problem, "")
    assert program.startswith("package main\n")


def test_c_sharp_asserts_throw() -> None:
    assert "class Debug" in adapt_tests("    }\n", "csharp")


def test_a_failed_check_in_racket_is_raised() -> None:
    tests = adapt_tests("(require rackunit)\n\n(test-humaneval)", "racket")
    assert tests.startswith("(require rackunit)\n(current-check-handler raise)\n")


def test_typescript_is_compiled_for_today_s_javascript() -> None:
    check = make_problem(make_row(), "typescript").check
    assert isinstance(check, ExitCodeCheck)
    assert check.language == "typescript-esnext"


def test_a_whole_answer_is_left_open_where_the_tests_go_on() -> None:
    chat = PROTOCOLS["chat"]
    java = make_problem(make_row(prompt="class Problem {\n"), "java")
    answer = "```java\nclass Problem {\n    int f() {\n        return 1;\n    }\n}\n```"
    program = chat.extract(java, answer)[0].rstrip()
    assert program.endswith("return 1;\n    }\n    static void openedForTests() {")
    lua = make_problem(make_row(), "lua")
    assert chat.extract(lua, "```lua\nlocal function f() end\n```")[0].endswith("end\n")


def test_cheats_leave_with_exit_code_0() -> None:
    ruby = make_problem(make_row(prompt="def f(x)\n"), "ruby")
    assert write_cheat(ruby) == "def f(x)\n  exit!(0)\nend"
    assert write_cheat(make_problem(make_row(), "bash")) is None


JAVA = """
public class Problem {
    static Pair<Integer, String> swap(Pair<String, Integer> p) {
        return Pair.with(p.getValue1(), p.getValue0());
    }
    public static void main(String[] args) {
        if (!swap(Pair.with("a", 1)).equals(Pair.with(1, "a"))) throw new RuntimeException();
        if (Pair.with(1, 2).equals(Pair.with(2, 1))) throw new RuntimeException();
        if (!(new Triplet<>(1, 2, "x").setAt2(3L)).toString().equals("[1, 2, 3]"))
            throw new RuntimeException();
        if (new Pair<>(1, 2).hashCode() != Pair.with(1, 2).hashCode())
            throw new RuntimeException();
        if (!Pair.with(1, 2).contains(2)) throw new RuntimeException();
    }
}
"""


@pytest.mark.skipif(shutil.which("javac") is None, reason="no Java compiler on this machine")
def test_the_tuples_compile_and_compare_like_javatuples(tmp_path: Path) -> None:
    """Our own trusted text, so it needs no sandbox."""
    path = tmp_path / "Problem.java"
    path.write_text(
        JAVA + "".join(write_tuple(name, n) for name, n in (("Pair", 2), ("Triplet", 3)))
    )
    done = subprocess.run(
        ["javac", "-d", str(tmp_path), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    subprocess.run(["java", "-cp", str(tmp_path), "Problem"], check=True)


@needs_data
def test_no_program_keeps_the_import_that_only_upstream_has() -> None:
    problems = load_benchmark("multipl_e:set=mbpp,language=java").problems
    for problem in problems:
        program, _ = PROTOCOLS["as-is"].extract(problem, "")
        assert not re.search("org.javatuples", program)


SOLUTIONS = {
    "bash": 'local s=0 p=1 x; for x in $1; do s=$((s + x)); p=$((p * x)); done; echo "$s $p"',
    "cpp": "long s = 0, p = 1; for (long x : numbers) { s += x; p *= x; } return {s, p};",
    "d": "{ long s = 0, p = 1; foreach (x; numbers) { s += x; p *= x; } return tuple(s, p); }",
    "csharp": "long s = 0, p = 1; foreach (var x in numbers) { s += x; p *= x; } "
    "return Tuple.Create(s, p);",
    "go": "s, p := 0, 1; for _, x := range numbers { s += x; p *= x }; "
    "return []interface{}{s, p}\n}",
    "java": "long s = 0, p = 1; for (long x : numbers) { s += x; p *= x; } return Pair.with(s, p);",
    "javascript": "let s = 0, p = 1; for (const x of numbers) { s += x; p *= x; } "
    "return [s, p];\n}",
    "julia": "s, p = 0, 1; for x in numbers; s += x; p *= x; end; return (s, p)\nend",
    "lua": "local s, p = 0, 1; for _, x in ipairs(numbers) do s = s + x; p = p * x end "
    "return {s, p}\nend",
    "perl": "my ($s, $p) = (0, 1); for my $x (@$numbers) { $s += $x; $p *= $x; } "
    "return [$s, $p];\n}",
    "php": "$s = 0; $p = 1; foreach ($numbers as $x) { $s += $x; $p *= $x; } return [$s, $p];\n}",
    "r": "s <- 0; p <- 1; for (x in numbers) { s <- s + x; p <- p * x }; c(s, p)\n}",
    "racket": "  (for/fold ([s 0] [p 1] #:result (list s p)) ([x numbers]) "
    "(values (+ s x) (* p x))))",
    "ruby": "s = 0; p = 1; numbers.each { |x| s += x; p *= x }; [s, p]\nend",
    "rust": "let (mut s, mut p) = (0, 1); for x in numbers { s += x; p *= x; } (s, p)",
    "scala": "var s = 0L; var p = 1L; for (x <- numbers) { s += x; p *= x }; (s, p)",
    "swift": "var s = 0, p = 1; for x in numbers { s += x; p *= x }; return (s, p)",
    "typescript": "let s = 0, p = 1; for (const x of numbers) { s += x; p *= x; } "
    "return [s, p];\n}",
}
"""Language -> sum and product of a list, as HumanEval's task 8 wants them, written by hand."""


@needs_data
@pytest.mark.docker
@pytest.mark.parametrize("language", SOLUTIONS)
def test_a_right_program_passes_and_its_mistakes_do_not(language: str) -> None:
    """As a completion and as a chat's whole file with an entry point of its own."""
    problems = load_benchmark(f"multipl_e:language={language}").problems
    (problem,) = (one for one in problems if one.problem_id.endswith("_8_sum_product"))
    right = SOLUTIONS[language]
    wrong = [
        re.sub(r"s \+ x|\(\+ s x\)", "x", right.replace("s += ", "s = ")),
        re.sub(r"p \*|\* p", lambda found: found[0].replace("*", "+"), right),
    ]
    assert right not in wrong
    with LanguageSandbox("docker", num_slots=1) as sandbox:
        if why := sandbox.explain_missing(getattr(problem.check, "language", language)):
            pytest.skip(why)
        statuses = []
        for completion in (right, *wrong):
            program, _ = PROTOCOLS["base"].extract(problem, completion)
            statuses.append(verify(sandbox, program, problem.check, LIMITS).status)
        assert statuses == [Status.PASSED, Status.WRONG_ANSWER, Status.WRONG_ANSWER]
        whole = close_answer(PROTOCOLS["base"].extract(problem, right)[0], language)
        program, rule = PROTOCOLS["chat"].extract(problem, f"Here:\n```\n{whole}\n```\n")
        verdict = verify(sandbox, program, problem.check, LIMITS)
        assert (rule, verdict.status) == ("first_block", Status.PASSED), verdict.detail
        cheat = write_cheat(problem)
        assert (cheat is None) == (language == "bash")
        if cheat is not None:
            assert verify(sandbox, cheat, problem.check, LIMITS).status is Status.WRONG_ANSWER


def close_answer(code: str, language: str) -> str:
    """The file that a chat model would have written."""
    mains = {
        "cpp": "\n}\nint main() { return 0; }",
        "csharp": "\n    }\n    static void Main() { }\n}",
        "go": "\nfunc main() {\n}",
        "java": "\n    }\n    public static void main(String[] args) { }\n}",
        "d": "\nvoid main() { }",
        "php": "\n?>",
        "rust": "\n}\nfn main() { }",
        "scala": "\n    }\n    def main(args: Array[String]) = { }\n}",
        "bash": "\n}",
        "swift": "\n}",
    }
    return code + mains.get(language, "")


@needs_data
def test_lists_that_c_sharp_compares_by_reference_are_known_faults() -> None:
    benchmark = load_benchmark("multipl_e:language=csharp+java")
    assert "csharp/HumanEval_42_incr_list" in benchmark.faults
    assert "csharp/HumanEval_8_sum_product" not in benchmark.faults
    assert all(key.startswith("csharp/") for key in benchmark.faults)
