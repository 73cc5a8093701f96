"""Aider's benchmarks: two tries in one chat, trusted tests, and the exercises' own references."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sdb_harness.benchmarks import Benchmark, MultiTurnProtocol, Try, load_benchmark
from sdb_harness.benchmarks.aider import (
    FORMATS,
    EditProtocol,
    TryScores,
    clean_output,
    drop_skipped,
    make_problem,
    make_protocols,
    score_tries,
    write_cheat,
)
from sdb_harness.benchmarks.aider_messages import RULES, make_leaderboard, open_chat
from sdb_harness.benchmarks.exercises import activate_tests
from sdb_harness.errors import UserError
from sdb_harness.generators import Generator, Prompted
from sdb_harness.hardware import describe_hardware
from sdb_harness.provenance import build_manifest
from sdb_harness.records import Completion, Problem, SamplingConfig
from sdb_harness.stages import run_cells
from sdb_harness.store import Store
from sdb_harness.sweep import PlannedCell, find_templates, parse_sweep, resolve_cells
from sdb_harness.verification import judge_programs
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.types import ObjectCheck, ResourceLimits, Status, SuiteCheck

TESTS = """import unittest
from leap import leap

class LeapTest(unittest.TestCase):
    def test_1996(self):
        self.assertEqual(leap(1996), True)

    def test_1997(self):
        self.assertEqual(leap(1997), False)

    @unittest.skip("extra")
    def test_slow(self):
        self.assertEqual(leap(10 ** 9), True)
"""
FILES = {
    ".docs/instructions.md": "Is it a leap year?\n",
    ".meta/example.py": "def leap(year):\n    return year % 4 == 0\n",
    "leap.py": "def leap(year):\n    pass\n",
    "leap_test.py": TESTS,
}
ROW = {
    "language": "python",
    "name": "leap",
    "solution": ["leap.py"],
    "test": ["leap_test.py"],
    "example": [".meta/example.py"],
    "files": FILES,
}
GO_TESTS = 'package leap\n\nimport "testing"\n\nfunc TestLeap(t *testing.T) {\n}\n'
GO_ROW = {
    "language": "go",
    "name": "leap",
    "solution": ["leap.go"],
    "test": ["leap_test.go"],
    "example": [".meta/example.go"],
    "files": {
        ".meta/example.go": "package leap\n",
        "leap.go": "package leap\n",
        "leap_test.go": GO_TESTS,
        "go.mod": "module leap\n",
    },
}
CPP_ROW = {
    "language": "cpp",
    "name": "leap",
    "solution": ["leap.cpp", "leap.h"],
    "test": ["leap_test.cpp"],
    "example": [".meta/example.h"],
    "files": {
        ".docs/instructions.md": "Is it a leap year?\n",
        ".meta/example.h": "int right;\n",
        "leap.cpp": "int old;\n",
        "leap.h": "int header;\n",
        "leap_test.cpp": 'TEST_CASE("a leap year", "[x]") { }\n'
        '#if defined(EXERCISM_INCLUDE_BENCHMARK)\nTEST_CASE("fast") { }\n#endif\n',
    },
}
CLOSING = "\n####\nModify {files}\n"
WRONG = "leap.py\n```\ndef leap(year):\n    return True\n```\n"
RIGHT = "leap.py\n```\ndef leap(year):\n    return year % 4 == 0\n```\n"
FAILURE = "Fix the code in {files}.\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LanguageSandbox]:
    with LanguageSandbox("embedded") as opened:
        yield opened


def make_benchmark() -> Benchmark:
    return Benchmark(
        name="aider_edit",
        revision="r",
        problems=(make_problem(ROW, "python", CLOSING),),
        protocols={
            **make_protocols(FAILURE, 50),
            **make_leaderboard(FAILURE, 50),
        },
        licence="ours",
        citation="none",
        limits=ResourceLimits(cpu_s=10.0, wall_s=60.0),
        write_cheat=write_cheat,
    )


def find_protocol(name: str = "whole") -> EditProtocol:
    protocol = make_benchmark().protocols[name]
    assert isinstance(protocol, EditProtocol)
    return protocol


class TestPrompts:
    def test_the_first_request_holds_file_task_and_format(self) -> None:
        problem = make_problem(ROW, "python", CLOSING)
        for name in ("whole", "diff", "udiff"):
            prompt = find_protocol(name).build_prompt(problem)
            assert isinstance(prompt, tuple)
            system, user = prompt
            assert system.role == "system"
            assert user.content.startswith("leap.py\n```\ndef leap(year):\n    pass\n```\n")
            assert user.content.endswith("Is it a leap year?\n\n####\nModify leap.py\n")
            assert "assertEqual" not in user.content  # neither tests nor reference are shown
            assert "% 4" not in user.content

    def test_the_second_request_goes_on_in_the_same_chat(self) -> None:
        problem = make_problem(ROW, "python", CLOSING)
        prompt = find_protocol().ask_again(problem, [Try(WRONG, "FAIL: test_1997")])
        assert isinstance(prompt, tuple)
        assert [turn.role for turn in prompt] == ["system", "user", "assistant", "user"]
        assert prompt[2].content == WRONG
        assert "return True" in prompt[3].content  # the file as the first reply left it
        assert prompt[3].content.endswith("FAIL: test_1997\nFix the code in leap.py.\n")

    @pytest.mark.parametrize("name", ["whole", "diff", "udiff"])
    def test_three_wordings_hold_the_same_parts(self, name: str) -> None:
        problem = make_problem(ROW, "python", CLOSING)
        rules = FORMATS[name].splitlines()[0]
        texts = set()
        for wording in (name, f"{name}/2", f"{name}/3"):
            protocol = find_protocol(wording)
            first = protocol.build_prompt(problem)
            again = protocol.ask_again(problem, [Try("Sorry.", "FAIL: test_1997")])
            assert isinstance(first, tuple)
            assert isinstance(again, tuple)
            for turns in (first, again):
                text = "\n".join(turn.content for turn in turns)
                assert all(
                    text.count(part) == 1
                    for part in (rules, "Is it a leap year?", "leap.py\n```\ndef leap(year):")
                )
            assert [turn.role for turn in again[-2:]] == ["assistant", "user"]
            texts.add(str(first))
        assert len(texts) == 3

    @pytest.mark.parametrize("name", ["leaderboard", "leaderboard-diff", "leaderboard-udiff"])
    def test_aider_s_words_have_two_paraphrases(self, name: str) -> None:
        problem = make_problem(ROW, "python", CLOSING)
        presets = find_templates(make_benchmark(), name, 3)
        assert len({str(preset.build_prompt(problem)) for preset in presets.values()}) == 3
        assert len({preset.extract(problem, "no") for preset in presets.values()}) == 1
        assert {getattr(preset, "num_questions", 0) for preset in presets.values()} == {3}

    def test_aider_s_own_chat_has_its_turns_in_its_order(self) -> None:
        problem = make_problem(ROW, "python", CLOSING)
        protocol = find_protocol("leaderboard")
        first = protocol.build_prompt(problem)
        assert isinstance(first, tuple)
        assert [turn.role for turn in first] == ["system", *("user", "assistant") * 3, "user"]
        assert first[:5] == open_chat("whole")
        assert first[5].content.endswith(
            "files' contents.\n\nleap.py\n```\ndef leap(year):\n    pass\n```\n"
        )
        assert first[-1].content == f"{problem.statement}\n\n{RULES['whole']}"
        # Edited: the request goes in front of the files. Not edited: it stays behind them.
        edited = protocol.ask_again(problem, [Try(WRONG, "FAIL: test_1997")])
        assert isinstance(edited, tuple)
        assert [turn.content for turn in edited[5:9]] == [
            problem.statement,
            WRONG,
            "I updated the files.",
            "Ok.",
        ]
        assert "return True" in edited[9].content
        assert edited[-1].content.startswith("FAIL: test_1997")
        assert edited[-1].content.endswith(RULES["whole"])
        kept = protocol.ask_again(problem, [Try("Sorry.", "FAIL")])
        assert isinstance(kept, tuple)
        assert [turn.content for turn in kept[5:-1]] == [
            *(first[5].content, first[6].content),
            *(problem.statement, "Sorry."),
        ]

    @pytest.mark.parametrize(
        ("edit_format", "digest"),
        [
            ("whole", "98f7bbb6de9ed6dd96040654fc83b902a634f2fc7238f46380921589abe9f58a"),
            ("diff", "0bfc5bb02bdb5384189446459285d227d813f8cd5c78d098e8942c10c9da3b51"),
            ("udiff", "0a1d85366a6bd4347aace7e87a7e67fb657545405d30834d1767c9f76df7dedc"),
        ],
    )
    def test_aider_s_words_are_those_of_its_release(self, edit_format: str, digest: str) -> None:
        """Hashes of what the prompt classes of aider 0.70.0 give for a model without settings."""
        words = [tuple(turn) for turn in open_chat(edit_format)], RULES[edit_format]
        assert hashlib.sha256(repr(words).encode()).hexdigest() == digest
        name = "leaderboard" if edit_format == "whole" else f"leaderboard-{edit_format}"
        protocol, problem = find_protocol(name), make_problem(ROW, "python", CLOSING)
        prompt = protocol.build_prompt(problem)
        assert isinstance(prompt, tuple)
        assert prompt[: len(words[0])] == open_chat(edit_format)
        assert prompt[-1].content.endswith(f"\n\n{RULES[edit_format]}")
        assert protocol.extract(problem, "no")[1] == f"{edit_format}_no_edit"

    def test_later_edits_build_on_earlier_ones(self) -> None:
        problem = make_problem(ROW, "python", CLOSING)
        protocol = find_protocol("diff")
        first = "leap.py\n<<<<<<< SEARCH\n    pass\n=======\n    return 1\n>>>>>>> REPLACE\n"
        second = "leap.py\n<<<<<<< SEARCH\n    return 1\n=======\n    return 2\n>>>>>>> REPLACE\n"
        assert protocol.extract_tries(problem, [first, second]) == (
            "def leap(year):\n    return 2\n",
            "diff",
        )
        assert protocol.extract_tries(problem, [second, first])[1] == "diff_malformed"
        assert protocol.extract(problem, "no") == (problem.starter, "diff_no_edit")


class TestChecks:
    def test_skipped_tests_are_not_counted(self) -> None:
        check = make_problem(ROW, "python", CLOSING).check
        assert check == ObjectCheck(
            drop_skipped(TESTS),
            module="leap",
            test_ids=("LeapTest.test_1996", "LeapTest.test_1997"),
        )

    def test_tests_with_files_beside_them_share_the_process(self, sandbox: LanguageSandbox) -> None:
        tests = TESTS.replace("1996)", "years.LEAP)").replace(
            "from leap", "import years\nfrom leap"
        )
        files = {**FILES, "years.py": "LEAP = 1996\n", "leap_test.py": tests}
        problem = make_problem({**ROW, "files": files}, "python", CLOSING)
        assert isinstance(problem.check, SuiteCheck)
        assert problem.check.program_path == problem.entry_point
        programs = [(problem, problem.reference), (problem, problem.starter)]
        verdicts = judge_programs(make_benchmark(), sandbox, programs)
        assert [verdict.is_passed for verdict in verdicts] == [True, False]
        shown = find_protocol().observe(sandbox, problem, problem.starter, make_benchmark().limits)
        assert "AssertionError: None != True" in (shown or "")

    def test_what_no_sandbox_judges_says_why(self, sandbox: LanguageSandbox) -> None:
        problem = make_problem({**GO_ROW, "name": "counter"}, "go", CLOSING)
        (verdict,) = judge_programs(make_benchmark(), sandbox, [(problem, "")])
        assert verdict.status is Status.INFRASTRUCTURE
        assert "there is nothing that tests it" in verdict.detail

    def test_another_language_needs_its_image(self, sandbox: LanguageSandbox) -> None:
        problem = make_problem(GO_ROW, "go", CLOSING)
        assert problem.check == SuiteCheck(
            (("leap_test.go", GO_TESTS), ("go.mod", "module leap\n")),
            ("TestLeap",),
            "leap.go",
            language="go-test",
        )
        (verdict,) = judge_programs(make_benchmark(), sandbox, [(problem, "package leap")])
        assert verdict.status is Status.INFRASTRUCTURE
        assert "runs Python only, not go-test; use --sandbox docker" in verdict.detail
        assert (write_cheat(problem) or "").endswith("func init() { leave.Exit(0) }\n")

    def test_programs_of_several_files_are_shown_and_edited_file_by_file(self) -> None:
        problem = make_problem(CPP_ROW, "cpp", CLOSING)
        check = problem.check
        assert isinstance(check, SuiteCheck)
        assert (check.program_path, check.more_paths) == ("leap.cpp", ("leap.h",))
        assert dict(check.files)["leap_test.cpp"].endswith("{ }\n\n")  # without the benchmark
        assert check.test_ids == ("a leap year",)
        prompt = find_protocol().build_prompt(problem)
        assert isinstance(prompt, tuple)
        shown = "leap.cpp\n```\nint old;\n```\n\nleap.h\n```\nint header;\n```\n"
        assert prompt[1].content.startswith(shown)
        assert prompt[1].content.endswith("Modify leap.cpp leap.h\n")
        reply = "leap.h\n```\nint new_header;\n```\n"
        program, rule = find_protocol().extract(problem, reply)
        assert program == "=== leap.cpp\nint old;\n=== leap.h\nint new_header;\n"
        assert rule == "whole"
        again = find_protocol().ask_again(problem, [Try(reply, "FAIL")])
        assert isinstance(again, tuple)
        assert "leap.h\n```\nint new_header;\n```\n" in again[3].content
        assert again[3].content.endswith("Fix the code in leap.cpp leap.h.\n")
        # The author changed one file; the other is as it was.
        assert problem.reference == "=== leap.cpp\nint old;\n=== leap.h\nint right;\n"
        assert (write_cheat(problem) or "").startswith("=== leap.cpp\n#include <cstdlib>\n")

    def test_tests_for_later_are_run_and_those_of_features_are_not(self) -> None:
        assert activate_tests("a.spec.js", "xtest('a', xit('b'") == "test('a', xit('b'"
        assert activate_tests("src/test/java/A.java", '@Disabled("x")\n@Test\n') == "\n@Test\n"
        rust = (
            '#[cfg(feature = "io")]\nuse std::io;\n#[test]\nfn a() {\n}\n\nmod m {\n'
            '    #[test]\n    #[cfg(feature = "io")]\n    fn b() {\n        {}\n    }\n\n}\n'
        )
        assert activate_tests("tests/a.rs", rust) == "#[test]\nfn a() {\n}\n\nmod m {\n\n}\n"

    def test_cleaned_output_has_no_times(self) -> None:
        text = f"{'=' * 70}\nRan 2 tests in 0.003s\n{'-' * 70}\n1 failed in 0.05s\nlast\n"
        assert clean_output(text, 4) == "====\n\n----\n1 failed in 0.05s"
        assert clean_output(text, None) == text.strip("\n").replace("in 0.003s", "").replace(
            "in 0.05s", ""
        )

    def test_replies_are_judged_by_the_trusted_tests(self, sandbox: LanguageSandbox) -> None:
        benchmark = make_benchmark()
        (problem,) = benchmark.problems
        cheat = "import os, sys\nopen('leap_test.py', 'w').close()\ndef leap(y):\n    return True\n"
        programs = [problem.reference, problem.starter, "", cheat, write_cheat(problem) or ""]
        verdicts = judge_programs(benchmark, sandbox, [(problem, text) for text in programs])
        assert [verdict.is_passed for verdict in verdicts] == [True, False, False, False, False]

    def test_a_model_is_shown_what_the_tests_say(self, sandbox: LanguageSandbox) -> None:
        benchmark = make_benchmark()
        (problem,) = benchmark.problems
        text = "def leap(year):\n    return True\n"
        shown = find_protocol().observe(sandbox, problem, text, benchmark.limits)
        assert shown is not None
        assert "FAIL: test_1997" in shown
        assert 'File "leap/leap_test.py"' in shown
        assert "AssertionError: True != False" in shown
        assert len(shown.splitlines()) <= 50
        loop = find_protocol().observe(
            sandbox, problem, "while True: pass\n", ResourceLimits(cpu_s=0.5, wall_s=20.0)
        )
        assert loop == "Tests timed out!"


class ScriptedModel:
    """Replies as scripted, and remembers what it was asked."""

    revision = "canonical-1"
    engine = "scripted"
    precision = "none"
    min_batch_size = 1

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.prompts: list[object] = []
        self.seeds: list[int] = []
        self.implementations: dict[str, str] = {}

    def warm_up(self, problems: Sequence[Prompted], sampling: SamplingConfig) -> None: ...

    def generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig
    ) -> Iterator[tuple[int, Completion]]:
        for position, prompted in enumerate(batch):
            self.prompts.append(prompted.prompt)
            self.seeds.append(prompted.seed)
            text = self.replies.pop(0)
            is_error = text == "error"
            yield (
                position,
                Completion(
                    text=text,
                    token_ids=(1, 2),
                    output_tokens=2,
                    finish_reason="error" if is_error else "stop",
                    nfe_prefill=1,
                    nfe_denoise=1,
                    commit_times_s=(0.5, 1.0),
                    commit_tokens=(1, 1),
                    e2e_s=1.0,
                    error="lost" if is_error else "",
                ),
            )

    def close(self) -> None: ...


class Silent:
    """An observer that only counts."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def warn(self, message: str) -> None: ...
    def begin_run(self, cells: Sequence[PlannedCell], num_generated: int) -> None: ...
    def begin_cell(self, planned: PlannedCell, num_generated: int, num_judged: int) -> None: ...
    def advance(self, stage: str) -> None:
        self.stages.append(stage)

    def end_cell(self, planned: PlannedCell, num_judged: int, num_passed: int) -> None: ...


def run_once(
    model: Generator,
    folder: Path,
    sandbox: LanguageSandbox,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str = "whole",
) -> tuple[int, Silent]:
    from sdb_harness import stages, sweep

    monkeypatch.setattr(sweep, "load_benchmark", lambda spec: make_benchmark())
    monkeypatch.setattr(stages, "load_generator", lambda spec: model)
    sweep_file = {"name": "t", "benchmarks": ["aider_edit"], "generators": ["canonical"]}
    asked = parse_sweep({**sweep_file, "protocol": protocol})
    hardware = describe_hardware()
    cells = resolve_cells(asked, hardware.compute_hash()).cells
    observer = Silent()
    with Store.open_for_writing(folder / "store.sqlite") as store:
        manifest = build_manifest(hardware, {})
        store.add_manifest(manifest)
        outcome = run_cells(cells, store, manifest.run_id, sandbox, observer)
        return outcome.num_faults, observer


def read_row(folder: Path) -> tuple[str, str, Completion]:
    with Store.open_for_reading(folder / "store.sqlite") as store:
        (row,) = store.iterate_rows()
        return row.status, row.extraction_rule, row.completion


class TestTries:
    def test_a_protocol_of_several_tries_is_recognised(self) -> None:
        assert isinstance(find_protocol(), MultiTurnProtocol)

    def test_who_passes_at_once_is_asked_once(
        self, tmp_path: Path, sandbox: LanguageSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = ScriptedModel(RIGHT)
        faults, observer = run_once(model, tmp_path, sandbox, monkeypatch)
        assert faults == 0
        assert observer.stages == ["generate", "judge"]
        status, rule, completion = read_row(tmp_path)
        assert (status, rule, completion.num_tries) == ("passed", "whole", 1)

    def test_who_fails_is_asked_again_with_the_output(
        self, tmp_path: Path, sandbox: LanguageSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = ScriptedModel(WRONG, RIGHT)
        assert run_once(model, tmp_path, sandbox, monkeypatch)[0] == 0
        first, second = model.prompts
        assert "FAIL: test_1997" not in str(first)
        assert "FAIL: test_1997" in str(second)
        assert model.seeds[0] != model.seeds[1]
        status, _, completion = read_row(tmp_path)
        assert (status, completion.num_tries, completion.text) == ("passed", 2, RIGHT)
        with Store.open_for_reading(tmp_path / "store.sqlite") as store:
            rows = list(store.iterate_rows())
        assert score_tries(rows) == TryScores(1, pass_rate_1=0, pass_rate_2=100, well_formed=100)
        assert completion.output_tokens == 4
        assert completion.e2e_s == 2.0
        assert completion.commit_times_s == (0.5, 1.0, 1.5, 2.0)
        assert (completion.nfe_prefill, completion.nfe_denoise) == (2, 2)

    def test_two_failures_are_a_failure(
        self, tmp_path: Path, sandbox: LanguageSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = ScriptedModel("I cannot.", WRONG)
        assert run_once(model, tmp_path, sandbox, monkeypatch)[0] == 0
        status, rule, completion = read_row(tmp_path)
        assert (status, rule, completion.num_tries) == ("wrong_answer", "whole", 2)
        # Complete: nothing is asked or judged again.
        again = ScriptedModel()
        assert run_once(again, tmp_path, sandbox, monkeypatch)[0] == 0
        assert again.prompts == []

    def test_a_lost_second_try_is_taken_up_by_the_next_run(
        self, tmp_path: Path, sandbox: LanguageSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = ScriptedModel(WRONG, "error", "error")
        assert run_once(broken, tmp_path, sandbox, monkeypatch)[0] == 1
        with Store.open_for_reading(tmp_path / "store.sqlite") as store:
            assert list(store.iterate_rows()) == []
        model = ScriptedModel(RIGHT)
        assert run_once(model, tmp_path, sandbox, monkeypatch)[0] == 0
        assert len(model.prompts) == 1  # the first try is not made again
        assert "FAIL: test_1997" in str(model.prompts[0])
        assert read_row(tmp_path)[2].num_tries == 2

    def test_replies_to_questions_back_are_no_tries(
        self, tmp_path: Path, sandbox: LanguageSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        block = "leap.py\n<<<<<<< SEARCH\n    {}\n=======\n    {}\n>>>>>>> REPLACE\n"
        wrong, unknown = block.format("past", "return 1"), block.format("pass", "return yaer")
        name = "leaderboard-diff"
        broken = ScriptedModel(wrong, unknown, "error", "error")
        assert run_once(broken, tmp_path, sandbox, monkeypatch, name)[0] == 1
        first, second, third, _ = map(str, broken.prompts)
        assert "1 SEARCH/REPLACE block failed to match!" not in first
        assert "1 SEARCH/REPLACE block failed to match!" in second
        assert "undefined name 'yaer'" in third
        # The next run goes on with the same question; the first tests fail, the second pass.
        fine, right = (
            block.format("return yaer", "return True"),
            block.format("return True", "return year % 4 == 0"),
        )
        model = ScriptedModel(fine, right)
        assert run_once(model, tmp_path, sandbox, monkeypatch, name)[0] == 0
        assert str(model.prompts[0]) == third
        assert "FAIL: test_1997" in str(model.prompts[1])
        assert len({*broken.seeds, *model.seeds}) == 4
        status, rule, completion = read_row(tmp_path)
        assert (status, rule, completion.num_tries) == ("passed", "diff_malformed", 2)
        assert (completion.output_tokens, completion.e2e_s) == (8, 4.0)  # of all four replies
        with Store.open_for_reading(tmp_path / "store.sqlite") as store:
            assert score_tries(list(store.iterate_rows())) == TryScores(1, 0, 100, 0)
            ((tries,),) = [store.list_tries(row.cell_hash).values() for row in store.iterate_rows()]
        assert [bool(one.observation) for one in tries] == [True, True, True, False]

    def test_a_model_that_never_conforms_is_asked_back_three_times_a_try(
        self, tmp_path: Path, sandbox: LanguageSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = ScriptedModel(*["leap.py\n<<<<<<< SEARCH\n"] * 8)
        assert run_once(model, tmp_path, sandbox, monkeypatch, "leaderboard-diff")[0] == 0
        assert ["Expected `=======`" in str(prompt[-1]) for prompt in model.prompts] == [  # type: ignore[index]
            *(False, True, True, True),
            *(False, True, True, True),
        ]
        status, rule, completion = read_row(tmp_path)
        assert (status, rule, completion.num_tries) == ("wrong_answer", "diff_malformed", 2)


HAS_DATA = (Path(os.environ.get("SDBENCH_DATA", "/none")) / "aider_edit_python133").is_dir()
needs_data = pytest.mark.skipif(not HAS_DATA, reason="no aider exercises below $SDBENCH_DATA")


@needs_data
class TestPublishedData:
    def test_the_published_exercises_are_all_there(self) -> None:
        edit, polyglot = load_benchmark("aider_edit"), load_benchmark("aider_polyglot")
        assert len(edit.problems) == 133
        counts = {
            language: sum(problem.group == language for problem in polyglot.problems)
            for language in ("cpp", "go", "java", "javascript", "python", "rust")
        }
        assert counts == {
            **{"cpp": 26, "go": 39, "java": 47, "javascript": 49, "python": 34, "rust": 30}
        }

    def test_no_request_shows_a_reference_or_a_test(self) -> None:
        for name in ("aider_edit", "aider_polyglot"):
            benchmark = load_benchmark(name)
            for problem in benchmark.problems:
                shown = str(benchmark.protocols["whole"].build_prompt(problem))
                assert problem.reference not in shown
                assert "import unittest" not in shown

    def test_every_exercise_is_judged_or_says_why_not(self) -> None:
        benchmark = load_benchmark("aider_polyglot")
        known = {problem.problem_id for problem in benchmark.problems}
        assert set(benchmark.faults) <= known
        assert sum(bool(problem.not_judged) for problem in benchmark.problems) == 10
        for problem in benchmark.problems:
            if isinstance(problem.check, SuiteCheck) and not problem.not_judged:
                assert problem.check.test_ids
                assert "xit" in (write_cheat(problem) or "")

    @pytest.mark.slow
    @pytest.mark.parametrize("spec", ["aider_edit", "aider_polyglot:language=python"])
    def test_references_pass_and_starters_do_not(self, spec: str, sandbox: LanguageSandbox) -> None:
        benchmark = load_benchmark(spec)

        def judge(texts: list[str]) -> list[str]:
            programs = list(zip(benchmark.problems, texts, strict=True))
            verdicts = judge_programs(benchmark, sandbox, programs)
            return [
                p.problem_id for (p, _), v in zip(programs, verdicts, strict=True) if v.is_passed
            ]

        everyone = [problem.problem_id for problem in benchmark.problems]
        assert judge([problem.reference for problem in benchmark.problems]) == everyone
        passing = judge([problem.starter for problem in benchmark.problems])
        assert set(passing) == set(benchmark.faults)

    def test_every_python_check_names_its_tests(self) -> None:
        checked: list[Problem] = list(load_benchmark("aider_edit").problems)
        assert all(getattr(problem.check, "test_ids", ()) for problem in checked)
        assert sum(isinstance(problem.check, ObjectCheck) for problem in checked) == 129


def test_missing_data_and_options_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"python133.jsonl is missing"):
        load_benchmark("aider_edit")
    with pytest.raises(UserError, match="aider_edit has no option 'tries'"):
        load_benchmark("aider_edit:tries=3")
