"""What MBXP and multilingual HumanEval share: mxeval's form of a problem, and how it is asked.

Place in the flow: `mbxp.py` and `multilingual_humaneval.py` name their files and call
`load_languages`. Source: Athiwaratkun et al. 2022 (arXiv 2210.14868) and amazon-science/mxeval.
A problem is a prompt that ends inside an open function; program = prompt + completion + test,
nothing between, judged by its exit code (L1, with a negative control of ours). Python's
tests are `check(candidate)`, judged apart from the program (L2), or as plain data (L3).

Choice: mxeval leaves cutting to the caller. Here a completion ends where the function's last brace
stands in its column, which is the end that every shipped sample has.

References: only Python's `canonical_solution` is one. Those of other languages are model output,
some of it plainly wrong (MBPHP/2, MBTSP/2), so they are not used as references.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sdb_harness.benchmarks import Benchmark, ChatMessage, whole_answers
from sdb_harness.benchmarks.choices import check_options, choose_names
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_harness.benchmarks.protocols import (
    SCRIPT,
    Preset,
    ask_as_is,
    continue_prompt,
    keep_all,
    spread_wordings,
)
from sdb_harness.extract import Extract, cut_at_stops, find_fenced_blocks
from sdb_harness.records import Problem
from sdb_sandboxes.types import Check, ExitCodeCheck, ResourceLimits
from sdb_sandboxes.verifiers.conversion import build_process_check, convert_assertions

_COMMIT = "e09974f990eeaf0c0e8f2b5eaff4be66effb2c86"
LIMITS = ResourceLimits(cpu_s=10.0, wall_s=120.0)
"""The 10 seconds of mxeval, but of CPU time; compilers have limits of their own."""

CLOSERS = {
    "java": "\n    }",
    "scala": "\n    }",
    "csharp": "\n        }",
    "ruby": "\nend",
    **dict.fromkeys(("cpp", "go", "javascript", "kotlin", "perl", "php", "swift"), "\n}"),
    "typescript": "\n}",
}
"""Language -> what ends the function that the prompt opens. Python has none, see `PYTHON_STOP`."""
AFTER_CLOSER = {"java": "\n}\n"}
"""Language -> what closes the prompt's class, where the tests do not."""
PYTHON_STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")

EXITS = {
    "cpp": "    exit(0);",
    "csharp": "            System.Environment.Exit(0); throw new System.Exception();",
    "go": '\tpanic("unreachable")',
    "java": "        System.exit(0); throw new RuntimeException();",
    "javascript": "  process.exit(0);",
    "kotlin": "    kotlin.system.exitProcess(0)",
    "perl": "  exit(0);",
    "php": "    exit(0);",
    "ruby": "  exit!(0)",
    "scala": "        sys.exit(0)",
    "swift": "    exit(0)\n}\nimport Glibc\nfunc unused() {",
    "typescript": "  eval('process.exit(0)'); return null as any;",
}
"""Language -> a body that leaves with exit code 0 in the first test. Go's prompts import nothing
that could; Swift imports anywhere in the file."""


def describe_file(folder: str, name: str, sha256: str) -> DataFile:
    """A file of mxeval's repository at the pinned commit."""
    url = f"https://github.com/amazon-science/mxeval/raw/{_COMMIT}/data/{folder}/{name}.jsonl"
    return DataFile(f"{folder}/{name}.jsonl", sha256, url)


def load_languages(
    name: str, options: Mapping[str, str], files: Mapping[str, DataFile], licence: str
) -> Benchmark:
    """Read the problems of the chosen languages.

    Args:
        name: The benchmark's.
        options: `language`: one or several joined by `+`; all if not given.
        files: Language -> its file.
        licence: Of the data.

    Raises:
        UserError: an unknown option or language, or a file that is missing or damaged.
    """
    check_options(name, options, ("language",))
    languages = choose_names(name, options, "language", files)
    hashes = [f"{language}={files[language].sha256}" for language in languages]
    joined = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    return Benchmark(
        name=name,
        revision=joined if len(languages) > 1 else files[languages[0]].sha256,
        problems=tuple(
            make_problem(task, language)
            for language in languages
            for task in read_rows(files[language])
        ),
        protocols=PROTOCOLS,
        licence=licence,
        citation="Athiwaratkun et al., Multi-lingual Evaluation of Code Generation Models, "
        "arXiv 2210.14868",
        limits=LIMITS,
        version=f"mxeval {_COMMIT[:8]}",
        split="+".join(languages),
        is_multilingual=True,
        write_cheat=write_cheat,
    )


def make_problem(task: Mapping[str, Any], language: str) -> Problem:
    """Turn one task into a problem whose group is its language."""
    is_python = language == "python"
    return Problem(
        problem_id=task["task_id"],
        prompt=task["prompt"],
        reference=task["canonical_solution"] if is_python else "",
        entry_point=task["entry_point"],
        check=make_check(task, language),
        group=language,
    )


def make_check(task: Mapping[str, Any], language: str) -> Check:
    """Python's tests apart from the program, every other language's behind it."""
    tests, entry_point = task["test"], task["entry_point"]
    if language != "python":
        return ExitCodeCheck(language, tests)
    return convert_assertions(tests, entry_point) or build_process_check(
        tests, entry_point, prelude=task["prompt"]
    )


def choose_stop(problem: Problem) -> tuple[str, ...]:
    """Where a completion of this language ends."""
    closer = CLOSERS.get(problem.group)
    return PYTHON_STOP if closer is None else (closer,)


def close_function(problem: Problem, code: str) -> str:
    """Prompt, completion, and the brace at which it was cut."""
    closer = CLOSERS.get(problem.group, "")
    return problem.prompt + code + closer + AFTER_CLOSER.get(problem.group, "")


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn in the words of SandboxFusion."""
    text = (
        "To complete the following code tasks, write the full-code, including the part of the "
        f"package import.\n```{problem.group}\n{problem.prompt}\n```"
    )
    return (ChatMessage("user", text),)


def ask_chat_briefly(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the task in one sentence in front."""
    text = (
        f"Complete this {problem.group} source and answer with the whole file in one Markdown code "
        f"block.\n\n```{problem.group}\n{problem.prompt}\n```"
    )
    return (ChatMessage("user", text),)


def ask_chat_after(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the source first, then what to do with it."""
    text = (
        f"```{problem.group}\n{problem.prompt}\n```\n\nThe last function above has no body yet. "
        "Write it. Give me the finished file, with everything that it imports, as a code block."
    )
    return (ChatMessage("user", text),)


NOT_CODE = frozenset(("console", "text", "txt", "output", "json", "yaml"))
SHELL = frozenset(("bash", "sh", "shell"))


def take_first_code(text: str, stop: tuple[str, ...]) -> Extract:
    """The first block of code, else the whole text.

    Shell commands count only where there is nothing else, as in an answer in Bash: next to a
    program they say how to compile it.
    """
    blocks = [block for block in find_fenced_blocks(text) if block.language not in NOT_CODE]
    others = [block for block in blocks if block.language not in SHELL]
    for block in others or blocks:
        return Extract(block.code, "first_block" if block.is_closed else "first_block_unclosed")
    return Extract(text, "no_block")


NUM_CLASSES = {"scala": 1, "csharp": 2}
"""Language -> classes and namespaces of a whole answer that the tests close."""


def put_before_tests(problem: Problem, code: str) -> str:
    """A whole answer in front of the tests, open where they go on inside it."""
    language = problem.group
    return whole_answers.put_before_tests(
        code,
        language,
        problem.prompt,
        num_classes=NUM_CLASSES.get(language, 0),
        opens_function=False,
    )


def write_cheat(problem: Problem) -> str | None:
    """The prompt with a body that ends the process in the first test."""
    body = EXITS.get(problem.group)
    return None if body is None else close_function(problem, body)


_CHAT = Preset(
    source="The chat prompt of SandboxFusion, which puts the first block of the language into "
    "the tests; here the block stands in front of them.",
    ask=ask_chat,
    stop=(),
    find_code=take_first_code,
    assemble=put_before_tests,
    version=2,
)
_SEED = replace(
    _CHAT,
    source="The Seed reports: greedy, one sample, the mean over 13 languages; their Python "
    "column is mbpp:set=plus-399, not MBXP's. Unknown, and chosen here: the prompt of `chat`.",
)
_BASE = Preset(
    source="mxeval: the prompt as it is, the function's body as completion.",
    ask=ask_as_is,
    stop=(),
    stop_of=choose_stop,
    find_code=cut_at_stops,
    assemble=close_function,
)
PROTOCOLS: Mapping[str, Preset] = {
    "base": _BASE,
    "as-is": Preset(
        source="mxeval's evaluate_functional_correctness: the completion of a sample file is "
        "executed as it stands, never cut. For replayed files.",
        ask=ask_as_is,
        stop=(),
        find_code=keep_all,
        assemble=continue_prompt,
    ),
    "script": SCRIPT,
    **spread_wordings("chat", _CHAT, ask_chat_briefly, ask_chat_after),
    "paper": replace(_BASE, source="Athiwaratkun et al.: the steps of `base`."),
    **spread_wordings("seed", _SEED, ask_chat_briefly, ask_chat_after),
}
