"""From a completion to a program, and from a verdict to a reward: small pure functions.

Place in the flow: adapter -> `Extract` -> `Judge` -> `Shape` -> number. Both ends are arguments of
every adapter, so another prompt format or another shape is a function of yours.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sdb_sandboxes.types import Status, Verdict

Conversation = str | Sequence[Mapping[str, Any]]
"""A text, or chat messages with `role` and `content`."""

Extract = Callable[[Conversation, Conversation], str]
"""(prompt, completion) -> the whole program to judge."""

Shape = Callable[[Verdict], float]
"""A verdict that is not an infrastructure fault -> its reward."""


def continue_prompt(prompt: Conversation, completion: Conversation) -> str:
    """The program is the prompt and what a base model wrote behind it.

    Raises:
        ValueError: One of them is a list of messages; take the program with `take_code_block`.
    """
    if not isinstance(prompt, str) or not isinstance(completion, str):
        raise ValueError(
            "continue_prompt needs prompt and completion as texts, not as messages; "
            "use extract=take_code_block for a chat"
        )
    return prompt + completion


_BLOCK = re.compile(
    r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE
)
_PYTHON_NAMES = frozenset({"python", "python3", "py", "py3"})


def take_code_block(prompt: Conversation, completion: Conversation) -> str:
    """The program is the answer's last Python block, else its last bare one, else all of it."""
    text = read_text(completion)
    blocks = [(match[1].lower(), match[2]) for match in _BLOCK.finditer(text)]
    for names in (_PYTHON_NAMES, {""}):
        found = [code for language, code in blocks if language in names]
        if found:
            return found[-1]
    return text


def read_text(completion: Conversation) -> str:
    """The text of a completion: itself, or the content of the last message; empty without one."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    if isinstance(content, str):
        return content
    # Blocks, as in [{"type": "text", "text": "..."}]; a tool call may have none at all.
    return "".join(str(part.get("text", "")) for part in content or () if isinstance(part, Mapping))


def all_or_nothing(verdict: Verdict) -> float:
    """1.0 if every test passed, else 0.0."""
    return float(verdict.is_passed)


def fraction_of_tests(verdict: Verdict) -> float:
    """Share of tests passed, where the program answered wrongly or raised; 0.0 at any limit hit.

    With cases as data a constant answer may earn part of it: prefer `all_or_nothing` for tasks
    with few distinct answers.
    """
    if verdict.is_passed:
        return 1.0
    is_honest_failure = verdict.status in (Status.WRONG_ANSWER, Status.RUNTIME_ERROR)
    is_part = 0 < verdict.num_tests_passed < verdict.num_tests
    return verdict.num_tests_passed / verdict.num_tests if is_honest_failure and is_part else 0.0


def compute_reward(verdict: Verdict, shape: Shape = all_or_nothing) -> float | None:
    """The reward of a verdict; None for a fault of ours, which says nothing about the program."""
    return None if verdict.status is Status.INFRASTRUCTURE else shape(verdict)
