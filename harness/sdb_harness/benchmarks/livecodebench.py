"""LiveCodeBench, code generation: contest problems by release or by window of contest dates.

Place in the flow: `load` -> `Benchmark`. Source: Jain et al. 2024 (arXiv 2403.07974). The
statements belong to LeetCode, AtCoder and Codeforces, so the files come from the user or the hub:
`$SDBENCH_DATA/livecodebench/test.jsonl` to `test6.jsonl`, 4.5 GB in all. Options: `release=v1` to
`v6` (cumulative), `start` and `end` (contest dates, inclusive); the Seed reports use v1 to v6
whole, or 2024-10 to 2025-02.

Judging: a stdin program is run as a process of its own, once per test, its output compared by
`lines_decimal`; a `Solution` method is called with decoded arguments, its answer compared outside.
The upstream runner mocks standard input inside its own process and so rejects several kinds of
right programs (`livecodebench_compat.py` lists them); what it accepts, this accepts. Option
`judge=lcb-compat` judges as it does, for numbers that are to match published ones;
`sdbench benchmarks judge-modes STORE` prints how many verdicts the two change.

Hidden tests are read and decoded when a program of their problem is judged, and the last few kept:
unpacked they are many times the files.

What it does not do: the prompts of single model families. The problems of upstream's ERRATA.md,
which no one judges fairly, are judged as upstream judges them, and noted by id.
"""

import base64
import binascii
import gzip
import hashlib
import json
import pickletools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from sdb_harness.benchmarks import Benchmark, ChatMessage
from sdb_harness.benchmarks.choices import choose_one
from sdb_harness.benchmarks.data_files import (
    DataFile,
    HubFile,
    describe_mismatch,
    locate_file,
    number_lines,
    read_rows,
)
from sdb_harness.benchmarks.livecodebench_compat import PRELUDE as COMPAT_PRELUDE
from sdb_harness.benchmarks.livecodebench_compat import wrap_program
from sdb_harness.benchmarks.protocols import Preset, spread_wordings
from sdb_harness.errors import UserError
from sdb_harness.extract import Extract, cut_at_stops
from sdb_harness.records import Problem
from sdb_sandboxes.types import Case, Check, FunctionCheck, ResourceLimits, StdinCheck

REPO = "livecodebench/code_generation_lite"
REVISION = "0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
_SHOTS = (
    "https://github.com/LiveCodeBench/LiveCodeBench/raw/28fef95ea8c9f7a547c8329f2cd3d32b92c1fa24/"
    "lcb_runner/prompts/few_shot_examples/generation/"
)
SHOTS = {
    True: DataFile(
        "livecodebench/func.json",
        "75b50ffef185c71aa702499b015da50b03d7732195332186c759dfa0304bf1aa",
        f"{_SHOTS}func.json",
    ),
    False: DataFile(
        "livecodebench/stdin.json",
        "28a3a50b79869aa9cc5cc2e3c611c8b39e1ab2d192f6b2b9ce0f6a4b014ee726",
        f"{_SHOTS}stdin.json",
    ),
}
"""Whether a problem has starter code -> solved problems of upstream's prompt for base models."""


def _describe(name: str, sha256: str) -> DataFile:
    return DataFile(f"livecodebench/{name}", sha256, HubFile(REPO, name, REVISION))


FILES = (
    _describe("test.jsonl", "2bd02b38beb48e8c46b5b9987095d999ff38cd8efc255ea5d58974317c48f63f"),
    _describe("test2.jsonl", "095df7c5daf15f882c51a9deb84085cff1e073495a5dbcf95015a564d485f3a3"),
    _describe("test3.jsonl", "28ed26cc83363ce3f1fe2d5fad9f8393077beb1907b167a31bd3b32f80801b79"),
    _describe("test4.jsonl", "d711138ddaebfcf5f8ec6a4283ee677298c0f5c5d374a235af92aaf0584510da"),
    _describe("test5.jsonl", "7f77571c2a6df0c2a72a3277650309f67e01e0008e18117e624633df53f81214"),
    _describe("test6.jsonl", "bb4c364f71921c4495a6ad15abe1a927350b720009f4933e2e71f8af0f6fd1f5"),
)
"""The hashes are those that public projects record for this commit; we have not fetched them."""
FIELDS = (
    *("question_id", "question_title", "question_content", "contest_date", "starter_code"),
    *("difficulty", "public_test_cases", "private_test_cases", "metadata"),
)
"""What is used of a row: texts, all of them."""
JUDGES = ("process", "lcb-compat")
"""How a program is executed: as a process of its own, or as upstream's runner does."""
RELEASES = ("v1", "v2", "v3", "v4", "v5", "v6")
"""Cumulative: release n is the first n files, of 400, 111, 101, 101, 167 and 175 problems."""

_SEVERAL = "several answers are right, of which its tests take one"
_INTERACTIVE = "wants a dialogue with a judge, which no program gets: none passes"
ERRATA = {
    **dict.fromkeys(
        (
            *("abc311_c", "abc326_d", "abc327_b", "abc333_e", "abc343_a", "abc343_e", "abc362_c"),
            *("arc185_c", "find-the-peaks", "find-words-containing-character"),
            "generate-binary-strings-without-adjacent-zeros",
        ),
        _SEVERAL,
    ),
    **dict.fromkeys(("abc337_e", "abc355_e"), _INTERACTIVE),
    "abc350_c": "its tests are wrong: none passes",
    "apply-operations-to-make-string-empty": "one of its tests is wrong: an empty string",
    "arc189_a": "one of its tests expects a wrong output",
    "most-frequent-ids": "one of its tests breaks the problem's own constraints",
}
"""Upstream's ERRATA.md at commit 28fef95e: AtCoder's `question_id`, or the title of LeetCode's
problem as addresses have it -> what is wrong."""

LIMITS = ResourceLimits(cpu_s=6.0, wall_s=60.0, memory_bytes=4 << 30, output_bytes=16 << 20)
"""6 seconds a test as upstream, but of CPU time; the 4 GB its comment names and never sets."""

ENTRY_POINT = "call_solution"
PRELUDE = """\
import collections, functools, heapq, itertools, math, operator, random, re, string, sys
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from typing import *
"""
"""In front of every program, as upstream puts star imports there; fewer, for its `from io import *`
hides `open` and its `from operator import *` hides `pow`."""


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the problems of a release, narrowed to a window of contest dates.

    Args:
        options: `release` (default v6), `start`, `end` (YYYY-MM-DD), `judge` (default process).

    Raises:
        UserError: an unknown option or value, a missing or damaged file, or an empty window.
    """
    if unknown := sorted(options.keys() - {"release", "start", "end", "judge"}):
        raise UserError(
            f"livecodebench has no option {unknown[0]!r}; use release, start, end, judge"
        )
    judge = choose_one("livecodebench", options, "judge", JUDGES)
    release = options.get("release", "v6")
    if release not in RELEASES:
        raise UserError(f"livecodebench release={release!r}; use one of {', '.join(RELEASES)}")
    start = read_date(options.get("start", "0001-01-01"))
    end = read_date(options.get("end", "9999-12-31"))
    digest = hashlib.sha256()
    problems, notes, places = [], {}, dict[str, tuple[Path, int]]()
    for file in FILES[: RELEASES.index(release) + 1]:
        path = locate_file(file)
        for place, line, row in read_lines(file, path):
            if start <= read_date(row["contest_date"][:10]) <= end:
                digest.update(line)
                problems.append(make_problem(row, f"{file.path}, {row['question_id']}"))
                places[row["question_id"]] = path, place
                if erratum := find_erratum(row):
                    notes[row["question_id"]] = erratum
    if not problems:
        raise UserError(f"no problem of release {release} is from {start} to {end}; widen it")
    dates = f"{options.get('start', 'first')} to {options.get('end', 'last')}"
    return Benchmark(
        name="livecodebench",
        revision=digest.hexdigest(),
        problems=tuple(problems),
        protocols=PROTOCOLS if judge == "process" else COMPAT_PROTOCOLS,
        version=f"release {release}",
        split=f"{dates}, judged as {judge}" if judge != "process" else dates,
        licence="cc (no version named); statements belong to LeetCode, AtCoder and Codeforces",
        citation="Jain et al., LiveCodeBench, arXiv 2403.07974",
        limits=LIMITS,
        read_check=lambda problem: read_check(*places[problem.problem_id]),
        notes=notes,
    )


def find_erratum(row: Mapping[str, Any]) -> str:
    """What upstream says is wrong with a problem, and what it calls it; empty if nothing."""
    names = row["question_id"], "-".join(row["question_title"].lower().split())
    return next((f"{name}: {ERRATA[name]} (ERRATA.md)" for name in names if name in ERRATA), "")


def read_date(text: str) -> date:
    """Read YYYY-MM-DD. Raises UserError for anything else."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UserError(f"livecodebench date {text!r}; write it as 2024-10-01") from None


def open_lines(path: Path) -> BufferedIOBase:
    """A file of lines, packed or not."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def read_lines(file: DataFile, path: Path) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Each line of a file with its place and its parsed row, then the check of the file's hash.

    Raises:
        UserError: a line is not JSON or no problem (with its number), or the hash is wrong.
    """
    digest, place = hashlib.sha256(), 0
    with open_lines(path) as lines:
        for number, line in number_lines(lines, str(path)):
            digest.update(line)
            start, place = place, place + len(line)
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}:{number}: not JSON: {error}; fetch it again") from None
            texts = row if isinstance(row, dict) else {}
            if lacking := [name for name in FIELDS if not isinstance(texts.get(name), str)]:
                raise UserError(f"{path}:{number}: no text {lacking[0]!r}; fetch it again")
            yield start, line, row
    if digest.hexdigest() != file.sha256:
        remedy = file.describe_replacing()
        raise UserError(describe_mismatch(str(path), digest.hexdigest(), file.sha256, remedy))


def make_problem(row: Mapping[str, Any], where: str) -> Problem:
    """Turn one row into a problem without its tests. Raises UserError if that cannot be read."""
    try:
        method = json.loads(row["metadata"]).get("func_name", "")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{where}: its metadata cannot be read: {error}; fetch it again") from None
    return Problem(
        problem_id=row["question_id"],
        prompt="",
        reference="",
        entry_point=method,
        check=make_check([], is_functional=bool(method)),
        group=row["difficulty"],
        statement=row["question_content"],
        starter=row["starter_code"],
    )


@lru_cache(maxsize=4)  # samples of one problem are mostly judged one after the other
def read_check(path: Path, place: int) -> Check:
    """Read the tests of the row that starts at a byte of a file. Raises UserError if none can be.

    A packed file is read from its beginning each time.
    """
    try:
        with open_lines(path) as lines:
            lines.seek(place)
            row = json.loads(lines.readline())
        tests = json.loads(row["public_test_cases"]) + read_private_tests(row["private_test_cases"])
        method = json.loads(row["metadata"]).get("func_name", "")
        return make_check(tests, is_functional=bool(method))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}, byte {place}: its tests cannot be read: {error}; fetch it again"
        ) from None


def read_private_tests(text: str) -> list[dict[str, str]]:
    """Decode hidden tests: JSON, or base64 of zlib of a pickle that holds one text.

    The pickle is never loaded: its operations are listed, and anything but one text is refused.

    Raises:
        ValueError: neither form.
    """
    if not text.lstrip().startswith("["):
        try:
            packed = zlib.decompress(base64.b64decode(text, validate=True))
        except (binascii.Error, zlib.error) as error:
            raise ValueError(f"hidden tests are neither JSON nor packed: {error}") from None
        harmless = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}
        operations = [op for op in pickletools.genops(packed) if op[0].name not in harmless]
        if len(operations) != 1 or not operations[0][0].name.endswith("UNICODE"):
            names = ", ".join(sorted({operation[0].name for operation in operations}))
            raise ValueError(f"hidden tests are a pickle of more than a text ({names})")
        text = str(operations[0][1])
    tests: list[dict[str, str]] = json.loads(text)
    return tests


def make_check(tests: list[dict[str, str]], *, is_functional: bool) -> Check:
    """All tests as data: texts for a program, decoded JSON lines for a method."""
    if not is_functional:
        cases = tuple((test["input"], test["output"]) for test in tests)
        return StdinCheck(cases, "lines_decimal")
    calls = []
    for test in tests:
        arguments = tuple(json.loads(line) for line in test["input"].split("\n") if line.strip())
        calls.append(Case(arguments, json.loads(test["output"])))
    return FunctionCheck(ENTRY_POINT, tuple(calls), "python_equality")


# Protocols.

_SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and "
    "will generate a correct Python program that matches the specification and passes all tests."
)
_WITH_STARTER = (
    "### Format: You will use the following starter code to write the solution to the problem and "
    "enclose your code within delimiters.\n```python\n{starter}\n```\n\n"
)
_WITHOUT_STARTER = (
    "### Format: Read the inputs from stdin solve the problem and write the answer to stdout (do "
    "not directly test on the sample inputs). Enclose your code within delimiters as follows. "
    "Ensure that when the python program runs, it reads the inputs, runs the algorithm and writes "
    "output to STDOUT.\n```python\n# YOUR CODE HERE\n```\n\n"
)


_QWEN_TASK = (
    "You will be given a question (problem specification) and will generate a correct Python "
    "program that matches the specification and passes all tests. You will NOT return anything "
    "except for the program."
)
_QWEN_STARTER = _WITH_STARTER.removeprefix("### Format: ")
_QWEN_STDIN = _WITHOUT_STARTER.removeprefix("### Format: ")


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """System and user turn in upstream's words for chat models."""
    form = _WITH_STARTER.format(starter=problem.starter) if problem.starter else _WITHOUT_STARTER
    text = (
        f"### Question:\n{problem.statement}\n\n{form}"
        "### Answer: (use the provided format with backticks)\n\n"
    )
    return ChatMessage("system", _SYSTEM), ChatMessage("user", text)


def ask_codeqwen(problem: Problem) -> tuple[ChatMessage, ...]:
    """Upstream's prompt for CodeQwen and its successors, as the turns that its text is made of."""
    form = _QWEN_STARTER.format(starter=problem.starter) if problem.starter else _QWEN_STDIN
    text = f"\n{_QWEN_TASK}\n\nQuestion: {problem.statement}\n\n{form}"
    return ChatMessage("system", "You are a helpful assistant."), ChatMessage("user", text)


def ask_base(problem: Problem) -> str:
    """One solved problem of the same kind, then this one, in upstream's words for base models."""
    shot = read_rows(SHOTS[bool(problem.starter)])[0]
    solved = write_base(shot["question"], shot.get("sample_code", ""))
    asked = write_base(problem.statement, problem.starter)
    return f"{solved}{shot['answer']}\n\n{asked}"


def write_base(question: str, starter: str) -> str:
    """One problem in upstream's words for base models, up to where its answer begins."""
    code = f"### Starter Code\n{starter}\n\n" if starter else ""
    return f"### Question\n{question}\n\n{code}### Answer\n\n"


def ask_chat_briefly(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: one user turn, what is wanted in front."""
    form = (
        f"Complete the class:\n```python\n{problem.starter}\n```"
        if problem.starter
        else "It reads standard input and writes the answer to standard output."
    )
    text = f"Write a Python program for this problem, in one code block. {form}\n\n"
    return (ChatMessage("user", text + problem.statement),)


def ask_chat_after(problem: Problem) -> tuple[ChatMessage, ...]:
    """A paraphrase: the problem first, what is wanted behind it."""
    form = (
        f"Start from this code and keep its names:\n```python\n{problem.starter}\n```\n"
        if problem.starter
        else "Your program gets the input on stdin and prints its answer to stdout.\n"
    )
    text = f"{problem.statement}\n\nSolve the problem in Python. {form}Put the code between ```."
    return (ChatMessage("user", text),)


def take_between_last_fences(text: str, stop: tuple[str, ...]) -> Extract:
    """The lines between the last two lines that hold a fence; nothing where there are fewer."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    if len(fences) < 2:
        return Extract("", "no_block")
    return Extract("\n".join(lines[fences[-2] + 1 : fences[-1]]), "between_last_fences")


def cut_and_take_last(text: str, stop: tuple[str, ...]) -> Extract:
    """The same of what stands in front of a stop string."""
    return take_between_last_fences(cut_at_stops(text, stop).code, stop)


def cut_and_strip(text: str, stop: tuple[str, ...]) -> Extract:
    """What stands in front of a stop string, without outer white space."""
    cut = cut_at_stops(text, stop)
    return Extract(cut.code.strip(), cut.rule)


def put_prelude_in_front(problem: Problem, code: str) -> str:
    """Star imports, the model's program, and for a method the function that calls it."""
    program = f"{PRELUDE}\n{code}\n"
    return f"{program}{call_method(problem)}" if problem.entry_point else program


def run_as_upstream(problem: Problem, code: str) -> str:
    """The program in upstream's runner; a method is called as it is, behind upstream's imports."""
    if not problem.entry_point:
        return wrap_program(code)
    return f"{COMPAT_PRELUDE}\n{code}\n{call_method(problem)}"


def call_method(problem: Problem) -> str:
    """The function that calls the asked method of the program's class."""
    return (
        f"\n\ndef {ENTRY_POINT}(*arguments):\n"
        f"    answer = Solution().{problem.entry_point}(*arguments)\n"
        "    return list(answer) if isinstance(answer, tuple) else answer\n"
    )


_CHAT = Preset(
    source="LiveCodeBench's runner for chat models; 10 samples, temperature 0.2, top-p 0.95, "
    "2000 new tokens.",
    ask=ask_chat,
    stop=(),
    find_code=take_between_last_fences,
    assemble=put_prelude_in_front,
)
STOP = ("###",)
_CHAT_LOCAL = replace(
    _CHAT,
    source="LiveCodeBench's runner for chat models that it runs by vLLM, whose answers it ends at "
    "a heading, base model or not; else as `chat`.",
    stop=STOP,
    find_code=cut_and_take_last,
)
_CODEQWEN = replace(
    _CHAT_LOCAL,
    source="LiveCodeBench's runner for CodeQwen's family, by vLLM; Qwen2.5-Coder's suite, which "
    "sister reports of Seed Diffusion name, has its form.",
    ask=ask_codeqwen,
)
_BASE = replace(
    _CHAT,
    source="LiveCodeBench's runner for base models, one solved problem in front; 10 samples, "
    "temperature 0.2, top-p 0.95, 2000 new tokens.",
    ask=ask_base,
    stop=STOP,
    find_code=cut_and_strip,
)
_SEED = replace(
    _CHAT,
    source="The Seed reports: greedy, one sample, release v6 whole (1,055 problems) in Seed "
    "Diffusion's, 2024-10 to 2025-02 in Seed-Coder's. Unknown, and chosen here: the prompt.",
)
PROTOCOLS: Mapping[str, Preset] = {
    **spread_wordings("chat", _CHAT, ask_chat_briefly, ask_chat_after),
    "chat-local": _CHAT_LOCAL,
    "codeqwen": _CODEQWEN,
    "base": _BASE,
    "paper": replace(_CHAT, source="Jain et al.: the steps of `chat`; 10 samples, T 0.2."),
    **spread_wordings("seed", _SEED, ask_chat_briefly, ask_chat_after),
}
COMPAT_PROTOCOLS: Mapping[str, Preset] = {
    name: replace(preset, assemble=run_as_upstream) for name, preset in PROTOCOLS.items()
}
