"""minipy: small Python functions to write from one sentence, generated on demand.

Place in the flow: `load` -> `Benchmark`; training draws `make_example` in the hundred thousands and
judges on-policy programs with the check of `make_problem`. Source: ours, in the manner of
procedural generators such as reasoning-gym; nothing is downloaded, nothing can have leaked into a
training set, and a bigger or another sample is another seed.

A composition problem names operations in order, and its body does one a line in the same order:

    def solve(nums):
        \"\"\"Keep the even numbers, then take their sum.\"\"\"
        nums = [v for v in nums if v % 2 == 0]
        return sum(nums)

`operations` is the table of operations, `generate` the composition, the split and the inputs,
`families` the groups that each isolate one dependency between distant tokens. What it does not
measure: reading comprehension, algorithms or libraries.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sdb_harness.benchmarks import Benchmark, ChatMessage
from sdb_harness.benchmarks.minipy.families import FAMILIES, draw_family
from sdb_harness.benchmarks.minipy.generate import Draft, Split, draw_cases, draw_composition
from sdb_harness.benchmarks.protocols import (
    PARAPHRASE,
    SCRIPT,
    Preset,
    ask_as_is,
    continue_prompt,
    run_script_alone,
    take_first_block,
)
from sdb_harness.errors import UserError, name_nearest
from sdb_harness.extract import Extract, keep_function_body
from sdb_harness.records import Problem
from sdb_sandboxes.types import FunctionCheck, ResourceLimits

COMPOSITION = "composition"
GROUPS = (COMPOSITION, *FAMILIES)
"""What `group` of `make_problem` may be."""

LEVELS = (1, 2, 3, 4, 5)

LIMITS = ResourceLimits(cpu_s=2.0, wall_s=30.0, memory_bytes=1 << 29)
"""The references need microseconds and kilobytes."""

DEFAULT_OPTIONS = {
    "split": "test",
    "level": "1",
    "num_problems": "200",
    "seed": "0",
    "families": "off",
}

MAX_NUM_PROBLEMS = 100_000
"""All problems of a benchmark are held in memory, some kilobytes each."""


def make_example(
    index: int, *, split: Split, level: int, seed: int = 0, group: str = COMPOSITION
) -> tuple[str, str]:
    """Make the prompt and the reference of a problem, without inputs; thousands a second.

    The same text as `make_problem` gives for the same arguments, in both splits.

    Returns:
        (prompt, reference). The prompt ends with the docstring's line, the reference is the
        indented body; both end with a newline, and together they are the program.

    Raises:
        ValueError: an argument out of range.
    """
    draft, _ = draw_draft(index, split, level, seed, group)
    return draft.prompt, draft.reference


def make_problem(
    index: int, *, split: Split, level: int, seed: int = 0, group: str = COMPOSITION
) -> Problem:
    """Make one problem with its hidden inputs, the same in every process.

    Args:
        index: Any number from 0; it becomes the id `minipy/<index>`.
        split: `test` problems have compositions (or family contents) that never occur in `train`.
        level: 1 to 5. Compositions have 2, 2, 3, 4, 5 operations, at level 1 on lists of numbers
            only; families grow with it.
        seed: Another seed is another sample.
        group: `composition` or the name of a family; the problem is reported under `level-<level>`
            or under the family's name.

    Raises:
        ValueError: an argument out of range.
    """
    draft, identity = draw_draft(index, split, level, seed, group)
    return Problem(
        problem_id=f"minipy/{index}",
        prompt=draft.prompt,
        reference=draft.reference,
        entry_point=draft.entry_point,
        check=FunctionCheck(draft.entry_point, draw_cases(draft, identity)),
        group=f"level-{level}" if group == COMPOSITION else group,
    )


def draw_draft(index: int, split: Split, level: int, seed: int, group: str) -> tuple[Draft, str]:
    """Draw the text from a generator that is seeded with everything that names the problem."""
    if index < 0:
        raise ValueError(f"index={index}: problems are numbered from 0")
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}; use train or test")
    if level not in LEVELS:
        raise ValueError(f"level={level}; use {LEVELS[0]} to {LEVELS[-1]}")
    if group not in GROUPS:
        raise ValueError(f"group={group!r}: {name_nearest(group, GROUPS)}")
    identity = f"minipy/{seed}/{split}/{level}/{group}/{index}"
    rng = random.Random(identity)
    if group == COMPOSITION:
        return draw_composition(rng, split, level), identity
    return draw_family(rng, split, level, group), identity


def load(options: Mapping[str, str]) -> Benchmark:
    """Load the benchmark that options such as `split=test,level=1+2,families=on` describe.

    Args:
        options: `split` (train, test; default test), `level` (one or several joined by `+`;
            default 1), `num_problems` (default 200), `seed` (default 0), `families` (on: every
            second problem comes from a family in turn; default off).

    Raises:
        UserError: an unknown option or a value out of range.
    """
    for key in options:
        if key not in DEFAULT_OPTIONS:
            nearest = name_nearest(key, DEFAULT_OPTIONS)
            raise UserError(f"benchmark minipy has no option {key!r}; {nearest}")
    given = {**DEFAULT_OPTIONS, **options}
    if given["families"] not in ("on", "off"):
        raise UserError(f"families={given['families']!r}; use on or off")
    if given["split"] not in ("train", "test"):
        raise UserError(f"split={given['split']!r}; use train or test")
    problems = load_problems(
        split="test" if given["split"] == "test" else "train",
        levels=[read_number("level", text) for text in given["level"].split("+")],
        num_problems=read_number("num_problems", given["num_problems"]),
        seed=read_number("seed", given["seed"]),
        has_families=given["families"] == "on",
    )
    return Benchmark(
        name="minipy",
        revision=compute_revision(problems),
        problems=tuple(problems),
        protocols=PROTOCOLS,
        licence="Apache-2.0",
        citation="minipy, generated by Seed Diffusion Bench",
        limits=LIMITS,
        version=f"seed {given['seed']}",
        split=f"{given['split']} level {given['level']}",
    )


def read_number(key: str, text: str) -> int:
    """Read a whole number from 0 in plain digits.

    Raises:
        UserError: it is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{key}={text!r} is not a whole number from 0")
    return int(text)


def load_problems(
    *,
    split: Split = "test",
    levels: Sequence[int] = (1,),
    num_problems: int = 200,
    seed: int = 0,
    has_families: bool = False,
) -> list[Problem]:
    """Make the problems 0 to `num_problems - 1`; fewer of them are a prefix of more.

    The levels take turns. With families, every second problem comes from one of them in turn, at
    the level whose turn it is.

    Raises:
        UserError: a level out of range, none at all, no problems or too many.
    """
    if not 1 <= num_problems <= MAX_NUM_PROBLEMS:
        raise UserError(f"num_problems={num_problems}; use 1 to {MAX_NUM_PROBLEMS}")
    if not levels or any(level not in LEVELS for level in levels):
        raise UserError(f"level={'+'.join(map(str, levels))}; use 1 to {LEVELS[-1]}, joined by +")
    groups = [COMPOSITION]
    if has_families:
        groups = [group for family in FAMILIES for group in (COMPOSITION, family)]
    return [
        make_problem(
            index,
            split=split,
            level=levels[index // len(groups) % len(levels)],
            seed=seed,
            group=groups[index % len(groups)],
        )
        for index in range(num_problems)
    ]


def compute_revision(problems: Sequence[Problem]) -> str:
    """SHA-256 over ids, prompts and checks."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(repr((problem.problem_id, problem.prompt, problem.check)).encode())
    return digest.hexdigest()


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn that asks for the whole function in a code block."""
    request = "Complete this Python function. Answer with the whole function in a code block."
    return (ChatMessage("user", f"{request}\n\n```python\n{problem.prompt}```\n"),)


def ask_chat_after(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the source first, the request after it."""
    request = "Write the function above in full, with its body, in one Markdown code block."
    return (ChatMessage("user", f"```python\n{problem.prompt}```\n\n{request}"),)


def ask_chat_briefly(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: source without a fence."""
    request = f"Implement `{problem.entry_point}`. Only give the code, inside ```python fences."
    return (ChatMessage("user", f"{request}\n\n{problem.prompt}"),)


def keep_body(text: str, stop: tuple[str, ...]) -> Extract:
    """What stands before the first unindented code."""
    return keep_function_body(text)


_CHAT = Preset(
    source="This project's own words.",
    ask=ask_chat,
    stop=(),
    find_code=take_first_block,
    assemble=run_script_alone,
)
PROTOCOLS: Mapping[str, Preset] = {
    "base": Preset(
        source="This project's own: the prompt is continued until the function's body ends.",
        ask=ask_as_is,
        stop=(),
        find_code=keep_body,
        assemble=continue_prompt,
    ),
    "script": SCRIPT,
    "chat": _CHAT,
    "chat/2": replace(_CHAT, ask=ask_chat_after, source=PARAPHRASE),
    "chat/3": replace(_CHAT, ask=ask_chat_briefly, source=PARAPHRASE),
}
