"""Verification finds references that fail and trivial programs that pass."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from sdb_harness import verification
from sdb_harness.benchmarks import Benchmark
from sdb_harness.errors import UserError
from sdb_harness.records import Problem
from sdb_harness.verification import (
    PublishedFinding,
    Trial,
    plan_trials,
    run_trial,
    verify_judging,
    write_always_equal,
)
from sdb_harness.verification_record import (
    Record,
    Row,
    Settings,
    list_details,
    summarize_findings,
    verify_benchmark,
)
from sdb_sandboxes.by_language import LanguageSandbox
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    Case,
    ExecutionResult,
    ExitCodeCheck,
    FunctionCheck,
    ObjectCheck,
    ResourceLimits,
    Status,
    Verdict,
)
from sdb_sandboxes.verifiers.exit_code import FORGED, LOOSE


def make_problem(name: str, reference: str, expected: object) -> Problem:
    return Problem(
        problem_id=name,
        prompt='def f(x):\n    """Do it."""\n',
        reference=reference,
        entry_point="f",
        check=FunctionCheck("f", (Case((1,), expected),)),
    )


def test_wrong_reference_and_too_weak_check_are_found() -> None:
    problems = (
        make_problem("right", "    return x + 1\n", 2),
        make_problem("broken", "    return x\n", 2),
        make_problem("weak", "    return None\n", None),
    )
    benchmark = Benchmark("b", "r", problems, {}, "none", "none", ResourceLimits())
    with open_sandbox(num_slots=1) as sandbox:
        findings = {finding.name: finding for finding in verify_judging(benchmark, sandbox)}
    assert findings["reference"].exceptions == ("broken: wrong_answer",)
    assert findings["empty"].exceptions == ()
    assert findings["prompt alone"].exceptions == ("weak: passed",)
    assert findings["return None"].exceptions == ("weak: passed",)
    assert findings["reference"].num_passed == 2
    for cheat in ("always equal", "exit(0)", "os._exit(0)"):
        assert (findings[cheat].num_programs, findings[cheat].exceptions) == (3, ())


def test_faults_excuse_and_notes_do_not_but_beside_busy_processes() -> None:
    problems = tuple(make_problem(name, "    return x\n", 2) for name in ("faulty", "noted"))
    benchmark = Benchmark("b", "r", problems, {}, "none", "none", ResourceLimits())
    benchmark = replace(benchmark, faults={"faulty": "bad data"}, notes={"noted": "measures time"})
    (alone, loaded, *_) = plan_trials(benchmark, load=1)
    with open_sandbox(num_slots=1) as sandbox:
        found = run_trial(benchmark, sandbox, alone)
        busy = run_trial(benchmark, sandbox, loaded)
    assert found.exceptions == ("noted: wrong_answer",)
    assert found.known == ("faulty: wrong_answer",)
    assert (busy.exceptions, len(busy.known)) == ((), 2)
    row = summarize_findings([found, busy], benchmark)
    assert row["known_faults"][-1] == "reference, load 1, noted: wrong_answer: measures time"
    assert "b, note: noted: measures time" in list_details("b", row | {"lost": {}})


@pytest.mark.parametrize(
    ("measured", "error", "is_right"),
    [(80.6, 0.0, True), (80.7, 0.0, False), (79.3, 0.0, False), (83.5, 1.0, True), (None, 0, True)],
)
def test_samples_may_differ_from_what_is_published_by_a_little(
    measured: float | None, error: float, is_right: bool
) -> None:
    finding = PublishedFinding("perl", 80.0, measured, error, 9, 0, 0, {})
    assert finding.is_right is is_right
    assert replace(finding, published=None).is_right
    assert not replace(finding, measured=None, lost={"gone": 1}).is_right


@pytest.mark.parametrize("detail", [FORGED, LOOSE])
def test_what_passes_a_wrong_value_too_counts_as_its_authors_count_it(
    monkeypatch: pytest.MonkeyPatch, detail: str
) -> None:
    wrong = Status.WRONG_ANSWER
    ends = ((Status.PASSED, ""), (wrong, detail), (wrong, "returns 1"))
    verdicts = [
        Verdict(status, 1, 0, 0.1, 0.1, 0, "L1", "test", detail=why) for status, why in ends
    ]
    problem = make_problem("a", "    return x\n", 1)
    benchmark = replace(
        Benchmark("b", "r", (problem,), {}, "none", "none", ResourceLimits()),
        read_samples=lambda _: [("a", "")] * 3,
        published={"all": 66.7},
    )
    monkeypatch.setattr(verification, "judge_programs", lambda *_: verdicts)
    with open_sandbox(num_slots=1) as sandbox:
        (finding,) = verification.verify_published(benchmark, sandbox)
    assert (finding.num_forged, round(finding.measured or 0, 1)) == (1, 66.7)


def test_references_pass_on_an_overloaded_machine_too() -> None:
    busy = "    import time\n    end = time.process_time() + 0.2\n" + (
        "    while time.process_time() < end: pass\n    return x + 1\n"
    )
    problems = tuple(make_problem(f"busy {i}", busy, 2) for i in range(4))
    limits = ResourceLimits(cpu_s=0.6, wall_s=60.0)
    benchmark = Benchmark("b", "r", problems, {}, "none", "none", limits)
    with open_sandbox(num_slots=2) as sandbox:
        findings = verify_judging(benchmark, sandbox, load=8)
    assert [(found.name, found.num_passed) for found in findings[:2]] == [
        ("reference", 4),
        ("reference, load 8", 4),
    ]


def test_programs_that_equal_everything_take_every_name_that_is_asked_for() -> None:
    problem = make_problem("a", "", 2)
    assert (write_always_equal(problem) or "").endswith("f = Everything()\n")
    objects = replace(problem, check=ObjectCheck("assert A()", ("A", "b")))
    assert "A = Everything()\nb = Everything()\nf = Everything()\n" in (
        write_always_equal(objects) or ""
    )
    other = replace(problem, check=ExitCodeCheck("perl", "1"))
    assert write_always_equal(other) is None


def verify_into(path: Path | None, benchmark: Benchmark, sandbox: Sandbox) -> tuple[Row, list[str]]:
    """The row of a benchmark, and which trials really ran."""
    ran: list[str] = []
    record = Record(path)
    names: list[str] = []
    row = verify_benchmark(
        "b",
        benchmark,
        sandbox,
        Settings(problems=None, cheats=1, load=0),
        record,
        begin=lambda name, num: names.append(name),
        advance=lambda: ran.append(names[-1]),
    )
    return row, ran


def test_a_record_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    problems = (make_problem("right", "    return x + 1\n", 2), make_problem("b", "    pass\n", 2))
    benchmark = Benchmark("b", "r", problems, {}, "none", "none", ResourceLimits())
    path = tmp_path / "new" / "record.json"
    with open_sandbox(num_slots=1) as sandbox:
        row, ran = verify_into(path, benchmark, sandbox)
        assert (row["passed"], row["judged"], row["others"]) == (1, 2, 6)
        assert row["exceptions"] == ["reference, b: wrong_answer"]
        assert ran.count("reference") == 2
        assert "| b | 1 of 2 | not tried | 0 of 6 |" in path.with_suffix(".md").read_text()
        again, ran = verify_into(path, benchmark, sandbox)
        assert (summarize_row(again), ran) == (summarize_row(row), [])
        kept = json.loads(path.read_text())
        del kept["b"]["findings"][-2:]
        kept["b"]["findings"][1]["lost"] = {"the engine went away": 1}
        path.write_text(json.dumps(kept))
        assert set(verify_into(path, benchmark, sandbox)[1]) == {"empty", "exit(0)", "os._exit(0)"}
        kept = json.loads(path.read_text())
        kept["b"]["settings"]["images"]["python"] = "sha256:of an older image"
        path.write_text(json.dumps(kept))
        assert "reference" in verify_into(path, benchmark, sandbox)[1]
        changed = replace(benchmark, revision="another")
        assert "reference" in verify_into(path, changed, sandbox)[1]
    for text in ("[1]", '{"b": {"references": 3}}', ""):
        path.write_text(text)
        with pytest.raises(UserError, match=r"record.json is no record of `benchmarks verify`"):
            Record(path)
    with pytest.raises(UserError, match=r"cannot write the record .*/r.json: File exists"):
        Record(path / "r.json").keep("b", kept["b"])
    with pytest.raises(UserError, match=r"where the table goes; name the record record.json"):
        Record(path.with_suffix(".md"))


def test_samples_are_recorded_with_the_commit_and_judged_once(tmp_path: Path) -> None:
    right = make_problem("right", "    return x + 1\n", 2)
    benchmark = Benchmark("b", "r", (right,), {}, "none", "none", ResourceLimits())
    programs = [("right", right.solution), ("right", "def f(x): return 0\n")]
    benchmark = replace(benchmark, read_samples=lambda _: programs, published={"all": 80.0})
    path = tmp_path / "record.json"
    settings = Settings(problems=None, cheats=1, load=0, samples="all")
    with open_sandbox(num_slots=1) as sandbox:
        row = verify_benchmark("b", benchmark, sandbox, settings, Record(path))
        (sample,) = json.loads(path.read_text())["b"]["samples"]
        assert (sample["measured"], sample["num_samples"]) == (50.0, 2)
        assert row["settings"]["commit"]
        text = "b, 2 samples, all: pass@1 50.00, published 80.00, wrong: not within 0.6"
        assert text in path.with_suffix(".md").read_text()
        programs.clear()  # whoever reads them again finds none
        again = verify_benchmark("b", benchmark, sandbox, settings, Record(path))
    assert again["samples"] == row["samples"]


def summarize_row(row: Row) -> str:
    return json.dumps({key: value for key, value in row.items() if key != "manifest"})


class Broken:
    """A sandbox that loses every program."""

    level, image, num_slots = "broken", "", 1

    def call_functions(self, request: object) -> ExecutionResult:
        return ExecutionResult(Status.INFRASTRUCTURE, (), 0.0, 0.0, 0, detail="gone")


def test_what_a_fault_of_ours_lost_is_no_verdict() -> None:
    benchmark = Benchmark(
        "b", "r", (make_problem("a", "    return 2\n", 2),), {}, "none", "none", ResourceLimits()
    )
    (trial, *_) = plan_trials(benchmark)
    finding = run_trial(benchmark, cast(Sandbox, Broken()), trial)
    assert (finding.num_programs, finding.exceptions, finding.not_judged) == (0, (), {})
    assert sum(finding.lost.values()) == 1
    with LanguageSandbox("embedded", num_slots=1) as sandbox:
        other = replace(benchmark.problems[0], check=ExitCodeCheck("perl", "die;"))
        finding = run_trial(replace(benchmark, problems=(other,)), sandbox, trial_of(other))
    assert (finding.num_programs, finding.lost) == (0, {})
    assert list(finding.not_judged) == [
        f"{sandbox.level} runs Python only, not perl; use --sandbox docker"
    ]


def trial_of(problem: Problem) -> Trial:
    return Trial("empty", "all", False, [(problem, "")])
