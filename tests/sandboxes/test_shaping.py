"""Programs out of completions, rewards out of verdicts."""

import time
from dataclasses import replace

import pytest

from sdb_sandboxes.rewards import (
    all_or_nothing,
    compute_reward,
    continue_prompt,
    fraction_of_tests,
    take_code_block,
)
from sdb_sandboxes.types import Status, Verdict

VERDICT = Verdict(Status.WRONG_ANSWER, 4, 3, 0.0, 0.0, 0, "L3", "scripted")
PASSED = replace(VERDICT, status=Status.PASSED, num_tests_passed=4)


def test_a_base_models_text_continues_the_prompt() -> None:
    assert continue_prompt("def f(x):\n", "    return x\n") == "def f(x):\n    return x\n"
    with pytest.raises(ValueError, match="use extract=take_code_block"):
        continue_prompt([{"role": "user", "content": "hi"}], "x")


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("Sure:\n```python\nx = 1\n```\nand\n```py\nx = 2\n```\n", "x = 2\n"),
        ("```\nx = 1\n```\n```text\nno\n```", "x = 1\n"),
        ("```python\nx = 1", "x = 1"),
        ("x = 1", "x = 1"),
        ("```c\nint x;\n```", "```c\nint x;\n```"),
        ("", ""),
    ],
)
def test_the_last_python_block_is_the_program(answer: str, program: str) -> None:
    assert take_code_block("", answer) == program
    assert take_code_block([], [{"role": "assistant", "content": answer}]) == program


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": None}], [{}]])
def test_an_answer_without_text_is_an_empty_program(messages: list[dict[str, None]]) -> None:
    assert take_code_block([], messages) == ""


def test_blocks_of_content_are_joined() -> None:
    parts = [{"type": "text", "text": "```python\n"}, {"type": "text", "text": "x\n```"}]
    assert take_code_block([], [{"role": "assistant", "content": parts}]) == "x\n"


def test_hostile_fences_take_no_time() -> None:
    started = time.process_time()
    for text in ("```\n" * 100_000, " " * 400_000, "```python\n" + "`" * 400_000, "``` " * 100_000):
        take_code_block("", text)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("status", list(Status))
def test_only_a_fault_of_ours_has_no_reward(status: Status) -> None:
    verdict = replace(VERDICT, status=status)
    for shape in (all_or_nothing, fraction_of_tests):
        assert (compute_reward(verdict, shape) is None) == (status is Status.INFRASTRUCTURE)


def test_a_pass_is_one_and_nothing_else_is() -> None:
    assert compute_reward(PASSED) == compute_reward(PASSED, fraction_of_tests) == 1.0
    assert compute_reward(VERDICT) == 0.0
    assert compute_reward(VERDICT, fraction_of_tests) == 0.75


@pytest.mark.parametrize("status", [Status.CPU_TIME, Status.MEMORY, Status.OUTPUT])
def test_a_limit_hit_earns_no_part(status: Status) -> None:
    assert compute_reward(replace(VERDICT, status=status), fraction_of_tests) == 0.0


def test_all_tests_answered_without_a_pass_earn_nothing() -> None:
    broken = replace(PASSED, status=Status.RUNTIME_ERROR)
    assert compute_reward(broken, fraction_of_tests) == 0.0
