"""MBXP and multilingual HumanEval: published data, cuts and assembly of every language."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sdb_harness.benchmarks import Benchmark, load_benchmark, multipl_e
from sdb_harness.benchmarks import livecodebench as lcb
from sdb_harness.benchmarks import naturalcodebench as ncb
from sdb_harness.benchmarks.mbxp import FILES, PUBLISHED
from sdb_harness.benchmarks.mxeval import (
    PROTOCOLS,
    choose_stop,
    close_function,
    make_problem,
    put_before_tests,
    take_first_code,
    write_cheat,
)
from sdb_harness.benchmarks.protocols import Preset
from sdb_harness.errors import UserError
from sdb_harness.verification import PROGRAM_KINDS, list_groups, verify_judging, verify_published
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.types import AssertionCheck, ExitCodeCheck, FunctionCheck, ObjectCheck

HAS_DATA = (Path(os.environ.get("SDBENCH_DATA", "/none")) / "mbxp").is_dir()
needs_data = pytest.mark.skipif(not HAS_DATA, reason="no MBXP below $SDBENCH_DATA")

TASK = {
    "task_id": "MBJP/1",
    "prompt": "class Twice {\n    public static int twice(int n) {\n",
    "entry_point": "twice",
    "test": "class Main { }\n",
    "canonical_solution": "        return n;\n    }\n}",
}


@pytest.fixture(scope="module")
def mbxp() -> Benchmark:
    return load_benchmark("mbxp")


@needs_data
class TestPublishedData:
    def test_has_every_problem_of_every_language(self, mbxp: Benchmark) -> None:
        sizes = {language: len(found) for language, found in list_groups(mbxp).items()}
        assert sizes == {
            **{"python": 974, "java": 966, "javascript": 966, "typescript": 968, "kotlin": 966},
            **{"ruby": 966, "php": 966, "cpp": 848, "csharp": 968, "go": 939, "perl": 966},
            **{"scala": 966, "swift": 966},
        }
        assert len({problem.problem_id for problem in mbxp.problems}) == len(mbxp.problems)
        assert set(PUBLISHED) == set(FILES) == set(sizes)

    def test_python_is_judged_apart_and_the_others_by_their_tests(self, mbxp: Benchmark) -> None:
        for problem in mbxp.problems:
            if problem.group == "python":
                assert isinstance(problem.check, FunctionCheck | AssertionCheck | ObjectCheck)
                assert problem.reference
            else:
                assert isinstance(problem.check, ExitCodeCheck)
                assert problem.check.language == problem.group
                assert not problem.reference

    @pytest.mark.parametrize("language", FILES)
    def test_samples_are_cut_where_they_end(self, mbxp: Benchmark, language: str) -> None:
        """What `base` makes of a published sample is what upstream would run."""
        assert mbxp.read_samples is not None
        problems = {problem.problem_id: problem for problem in mbxp.problems}
        samples = mbxp.read_samples(language)
        num_same = 0
        for key, program in samples:
            problem = problems[key]
            completion = program.removeprefix(problem.prompt)
            again, _ = PROTOCOLS["base"].extract(problem, completion)
            num_same += again.split() == program.split()
        # Some samples end early or hold a second function; a wrong cut would lose nearly all.
        assert num_same > 0.8 * len(samples)

    def test_multilingual_humaneval_has_twelve_languages(self) -> None:
        benchmark = load_benchmark("multilingual_humaneval")
        sizes = {language: len(found) for language, found in list_groups(benchmark).items()}
        assert len(sizes) == 12
        assert sizes["python"] == 164
        assert sizes["go"] == 160
        assert all(size in (160, 161, 164) for size in sizes.values())

    def test_python_references_pass_and_others_are_named_with_the_reason(self) -> None:
        benchmark = load_benchmark("mbxp:language=python+java")
        with LanguageSandbox("embedded") as sandbox:
            findings = {(f.group, f.name): f for f in verify_judging(benchmark, sandbox, 8)}
            (python, java) = verify_published(benchmark, sandbox, 8)
        assert findings["python", "reference"].num_passed == 8
        assert findings["python", "return None"].num_passed == 0
        assert ("java", "reference") not in findings
        java_empty = findings["java", "empty"]
        assert (java_empty.num_programs, java_empty.exceptions) == (0, ())
        (reason,) = java_empty.not_judged or {}
        assert "runs Python only, not java; use --sandbox docker" in reason
        assert python.measured is not None
        assert python.num_samples == 8
        assert java.measured is None
        assert sum(java.not_judged.values()) == 8


def test_unknown_language_and_missing_file_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="mbxp language='jva'; did you mean 'java'"):
        load_benchmark("mbxp:language=jva")
    with pytest.raises(UserError, match="mbxp has no option 'lang'"):
        load_benchmark("mbxp:lang=java")
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    with pytest.raises(
        UserError, match=r"mbjp_release_v1.2.jsonl is missing; fetch it once: .*curl"
    ):
        load_benchmark("mbxp:language=java")


def test_a_java_body_is_cut_and_closed() -> None:
    problem = make_problem(TASK, "java")
    assert choose_stop(problem) == ("\n    }",)
    text = "        if (n) {\n            n = 2;\n        }\n        return n;\n    }\n}\njunk"
    program, rule = PROTOCOLS["base"].extract(problem, text)
    assert rule == "stop"
    assert program == problem.prompt + text.removesuffix("\njunk") + "\n"
    stopped_by_the_server = text.partition("\n    }")[0]
    assert PROTOCOLS["base"].extract(problem, stopped_by_the_server)[0] == program


def test_python_has_no_closer() -> None:
    task = {**TASK, "prompt": "def f(x):\n", "test": "def check(candidate):\n    assert False\n"}
    problem = make_problem(task, "python")
    assert close_function(problem, "    return x") == "def f(x):\n    return x"
    assert write_cheat(problem) is None


def test_a_whole_answer_is_left_open_where_the_tests_go_on() -> None:
    answer = "namespace Solution\n{\n    class P\n    {\n        int F() { return 1; }\n    }\n}\n"
    problem = make_problem(TASK, "csharp")
    assert put_before_tests(problem, answer).rstrip().endswith("int F() { return 1; }")
    assert put_before_tests(make_problem(TASK, "kotlin"), answer) == answer


def test_the_tests_bring_the_entry_point_not_the_answer() -> None:
    answer = "int f() { return 1; }\nint main() { return f(); }\n"
    problem = make_problem({**TASK, "prompt": "#include <vector>\nint f() {\n"}, "cpp")
    assert put_before_tests(problem, answer) == (
        "#include <vector>\nint f() { return 1; }\nint answer_main() { return f(); }\n"
    )
    java = put_before_tests(make_problem(TASK, "java"), "public class F { void main() {} }")
    assert java == "class F { void answer_main() {} }\n"
    problem = make_problem({**TASK, "prompt": 'package main\nimport (\n\t"fmt"\n)\n'}, "go")
    assert put_before_tests(problem, 'package f\nimport "os"\n').split("\n") == [
        *("package main", 'import "fmt"', 'import "os"', "")
    ]
    answer = 'package main\n\nimport (\n\t"fmt"\n)\n'
    assert put_before_tests(problem, answer).count("fmt") == 1
    php = make_problem(TASK, "php")
    assert put_before_tests(php, "<?php\n$x = 1;\n?>\n") == "<?php\n$x = 1;\n"


def test_the_first_block_that_is_code_is_taken() -> None:
    text = "Install:\n```bash\nnpm i lodash\n```\nthen\n```js\nlet x;\n```\n"
    assert take_first_code(text, ()) == ("let x;\n", "first_block")
    assert take_first_code("```bash\necho\n```\n```text\nx\n```", ()) == ("echo\n", "first_block")
    assert take_first_code("let x;", ()) == ("let x;", "no_block")
    assert take_first_code("```\nlet x;", ()) == ("let x;", "first_block_unclosed")


def test_no_reference_no_program() -> None:
    _, write = PROGRAM_KINDS["reference"]
    assert write(make_problem(TASK, "java")) is None
    assert write(make_problem({**TASK, "test": "def check(c): pass"}, "python"))


def open_docker() -> LanguageSandbox:
    try:
        return LanguageSandbox("docker", num_slots=1)
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.docker
@needs_data
@pytest.mark.parametrize("language", ["javascript", "java", "cpp"])
def test_published_samples_pass_as_often_here(language: str) -> None:
    benchmark = load_benchmark(f"mbxp:language={language}")
    with open_docker() as sandbox:
        if reason := sandbox.explain_missing(language):
            pytest.skip(reason)
        (finding,) = verify_published(benchmark, sandbox, 30)
        cheats = [f for f in verify_judging(benchmark, sandbox, 5) if f.name == "leaves early"]
    assert finding.measured is not None
    assert finding.published is not None
    assert abs(finding.measured - finding.published) < 3 * finding.standard_error + 1.0
    assert [cheat.num_passed for cheat in cheats] == [0]


@pytest.mark.parametrize(
    "protocols", [PROTOCOLS, multipl_e.PROTOCOLS, lcb.PROTOCOLS, ncb.PROTOCOLS]
)
def test_chats_can_be_asked_in_three_wordings(protocols: Mapping[str, Preset]) -> None:
    problem = replace(make_problem(TASK, "java"), statement="Task.")
    asked = [protocols[name].build_prompt(problem) for name in ("chat", "chat/2", "chat/3")]
    assert len(set(asked)) == 3
    for prompt in asked:
        assert isinstance(prompt, tuple)
        assert (problem.prompt in prompt[-1].content) or ("Task." in prompt[-1].content)
