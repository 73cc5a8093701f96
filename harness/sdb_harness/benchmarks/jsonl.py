r"""Problems from a file of the user's own: `--benchmark jsonl:FILE`, no code needed.

Place in the flow: `load` -> `Benchmark`. The file is UTF-8, plain or gzip, one JSON object a line:

    {"prompt": "def add(a, b):\n    # The sum.\n", "entry_point": "add",
     "tests": ["assert add(1, 2) == 3"]}

- `prompt`: source that ends where the model goes on, or the task in words. It counts as source if
  it holds `def ENTRY_POINT(`.
- `entry_point`: the function that the tests call.
- `tests`: assertions that call it by its name, as a list or one text; or a text that defines
  `check(candidate)` as HumanEval does. Assertions that are pure data are compared outside the
  sandbox, any others run in a process of their own.
- optional: `task_id` (else FILE's name and a running number from 0), `reference` (what a perfect
  model would write: the continuation of source, or a whole program for words), `group` (reported
  apart). Other keys are ignored.

What it does not do: no language but Python, and no tests that look at anything but calls.
"""

import ast
import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdb_harness.benchmarks import Benchmark, ChatMessage, PromptProtocol
from sdb_harness.benchmarks.protocols import (
    OPENAI_STOP,
    SCRIPT,
    Preset,
    ask_as_is,
    continue_prompt,
    keep_all,
    put_header_in_front,
    spread_wordings,
    take_first_block,
)
from sdb_harness.errors import UserError
from sdb_harness.extract import cut_at_stops
from sdb_harness.records import Problem
from sdb_sandboxes.types import AssertionCheck, Check, ResourceLimits
from sdb_sandboxes.verifiers.conversion import convert_assertions

LIMITS = ResourceLimits(cpu_s=10.0, wall_s=60.0, memory_bytes=1 << 30)
EXAMPLE = '{"prompt": "...", "entry_point": "f", "tests": ["assert f(1) == 2"]}'


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the file named by the option `file`.

    Raises:
        UserError: no file is named, it cannot be read, a line is not a problem (with its number),
            or two problems have one id.
    """
    path = Path(options.get("file", "")).expanduser()
    if not options.get("file"):
        raise UserError("name the file: jsonl:FILE, as in --benchmark jsonl:problems.jsonl")
    data = read_bytes(path)
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        problem = read_problem(line, f"{path}:{number}", f"{path.stem}/{len(problems)}")
        if problem.problem_id in lines:
            raise UserError(
                f"{path}:{number}: the id {problem.problem_id!r} stands in line "
                f"{lines[problem.problem_id]} already; give every problem its own task_id"
            )
        lines[problem.problem_id] = number
        problems.append(problem)
    if not problems:
        raise UserError(f"{path} holds no problems; each line must be {EXAMPLE}")
    are_source = any(problem.prompt for problem in problems)
    return Benchmark(
        name=path.name,
        revision=hashlib.sha256(data).hexdigest(),
        problems=tuple(problems),
        protocols=PROTOCOLS if are_source else CHAT_PROTOCOLS,
        licence="the file's own",
        citation=str(path),
        limits=LIMITS,
    )


def read_bytes(path: Path) -> bytes:
    """Content of the file, uncompressed if it is gzip. Raises UserError if it cannot be read."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read the problems {path}: {error}") from error


def read_problem(line: bytes, where: str, default_id: str) -> Problem:
    """Turn one line into a problem.

    Raises:
        UserError: it is not JSON, a key is missing or of the wrong type, or the tests are not
            Python; the message begins with `where`.
    """
    try:
        row = json.loads(line)
        line.decode().encode()
        json.dumps(row, ensure_ascii=False).encode()  # halves of surrogate pairs are no text
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}); each line must be {EXAMPLE}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: not an object; each line must be {EXAMPLE}")
    prompt, entry_point = read_text(row, "prompt", where), read_text(row, "entry_point", where)
    reference = read_text(row, "reference", where, default="")
    if not entry_point.isidentifier():
        raise UserError(f"{where}: entry_point {entry_point!r} is no name of a function")
    is_source = f"def {entry_point}(" in prompt
    return Problem(
        problem_id=read_text(row, "task_id", where, default=default_id),
        prompt=prompt if is_source else "",
        reference=reference,
        entry_point=entry_point,
        check=read_tests(row.get("tests"), prompt if is_source else "", entry_point, where),
        group=read_text(row, "group", where, default="all"),
        statement="" if is_source else prompt,
    )


def read_text(row: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    """A key's text. Raises UserError if it is missing without a default, or not a text."""
    value = row.get(key, default)
    if not isinstance(value, str) or not (value or default is not None):
        problem = "is not a text" if row.get(key) is not None else "is missing"
        raise UserError(f"{where}: key {key!r} {problem}; each line must be {EXAMPLE}")
    return value


def read_tests(tests: object, prompt: str, entry_point: str, where: str) -> Check:
    """Make the check from the key `tests`. Raises UserError if it is no test source."""
    if isinstance(tests, list) and all(isinstance(test, str) for test in tests):
        tests = "\n".join(tests)
    if not isinstance(tests, str) or not tests.strip():
        raise UserError(
            f"{where}: key 'tests' must be a text or a list of texts with assertions; each line "
            f"must be {EXAMPLE}"
        )
    try:
        source = write_check_function(tests, entry_point)
    except SyntaxError as error:
        raise UserError(f"{where}: the tests are not Python: {error.msg}") from None
    if not any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(ast.parse(source))):
        raise UserError(
            f"{where}: the tests assert nothing; write assert {entry_point}(...) == ..."
        )
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    if not names & {entry_point, "candidate"}:
        raise UserError(
            f"{where}: the tests never call {entry_point!r}; correct entry_point or them"
        )
    return convert_assertions(source, entry_point) or AssertionCheck(
        entry_point, source, prelude=find_header(prompt, entry_point)
    )


def write_check_function(tests: str, entry_point: str) -> str:
    """Statements that call `entry_point`, as the body of a `check` with that parameter.

    A source that already defines `check` is returned as it is.

    Raises:
        SyntaxError: the tests are not Python.
    """
    module = ast.parse(tests)
    if any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in module.body):
        return tests
    function = ast.parse(f"def check({entry_point}): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = module.body
    return ast.unparse(function) + "\n"


def find_header(prompt: str, entry_point: str) -> str:
    """What stands in front of the function to write, where that is a program of its own."""
    header = prompt.partition(f"def {entry_point}(")[0]
    try:
        ast.parse(header)
    except SyntaxError:
        return ""
    return header


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn: complete this source, or solve this task; answer with one code block."""
    if problem.prompt:
        task = f"Complete this Python function:\n\n```python\n{problem.prompt.rstrip()}\n```"
    else:
        task = f"{problem.statement.rstrip()}\n\nName the function `{problem.entry_point}`."
    text = f"{task}\n\nAnswer with the whole Python program in one Markdown code block."
    return (ChatMessage("user", text),)


def ask_chat_before(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: what form the answer is to have in front."""
    text = (
        f"Write Python that defines `{problem.entry_point}` as described below. Reply with the "
        f"complete program as a ```python block.\n\n{problem.statement or problem.prompt}"
    )
    return (ChatMessage("user", text),)


def ask_chat_listed(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: a form with headings."""
    text = (
        f"# Task\n{problem.statement or problem.prompt}\n\n# Function\n{problem.entry_point}\n\n"
        "# Answer\nOne Markdown code block with all of the program."
    )
    return (ChatMessage("user", text),)


_CHAT = Preset(
    source="This project's own words; the first code block is the program, with the prompt's "
    "imports and helper functions in front.",
    ask=ask_chat,
    stop=(),
    find_code=take_first_block,
    assemble=put_header_in_front,
)
CHAT_PROTOCOLS: Mapping[str, PromptProtocol] = {
    **spread_wordings("chat", _CHAT, ask_chat_before, ask_chat_listed),
    "script": SCRIPT,
}
PROTOCOLS: Mapping[str, PromptProtocol] = {
    "base": Preset(
        source="As HumanEval's `base`: the source is continued and cut at the next definition.",
        ask=ask_as_is,
        stop=OPENAI_STOP,
        find_code=cut_at_stops,
        assemble=continue_prompt,
    ),
    "as-is": Preset(
        source="The completion is executed as it stands, never cut. For replayed files.",
        ask=ask_as_is,
        stop=(),
        find_code=keep_all,
        assemble=continue_prompt,
    ),
    **CHAT_PROTOCOLS,
}
