"""Our sanitiser beside EvalPlus's own on the same answers, each difference with its reason.

Run (the peer is only parsed with; no program is executed on either side):

    python -m venv /tmp/peers && /tmp/peers/bin/pip install evalplus==0.3.1
    python harness/benchmarks/sanitiser_agreement.py --peers /tmp/peers/bin/python

For every problem of HumanEval+ and MBPP+ the reference is put in the shapes in which models answer
(`SHAPES`) and reduced by `sdb_harness.sanitise` and by `evalplus.sanitize`. Two results agree if
they are the same program: equal syntax trees. It writes `results/sanitiser_agreement.md`; exit
code 1 if a difference has no reason in `REASONS`.
"""

import argparse
import ast
import json
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sdb_harness.benchmarks import load_benchmark
from sdb_harness.records import Problem
from sdb_harness.sanitise import sanitise

RESULT = Path(__file__).parent / "results" / "sanitiser_agreement.md"

Shape = Callable[[str, random.Random], str]
TAIL = """
# Tests
if __name__ == "__main__":
    print("all good")
"""
SHAPES: dict[str, Shape] = {
    "bare": lambda code, rng: code,
    "fenced": lambda code, rng: f"Here is it:\n\n```python\n{code}\n```\n\nIt isn't slow.\n",
    "after a wrong block": lambda code, rng: (
        f"```python\nimport math\nx = 1\n```\nBetter:\n```python\n{code}\n```"
    ),
    "with a main": lambda code, rng: code + TAIL,
    "class in front": lambda code, rng: f"class Point:\n    x = 1\n\n    y = 2\n\n\n{code}",
    "decorated": lambda code, rng: code.replace("\ndef ", "\n@staticmethod\ndef "),
    "twice": lambda code, rng: f"{code}\n\n{code}",
    "async": lambda code, rng: code.replace("def ", "async def ", 1),
    "tabs": lambda code, rng: code.replace("    ", "\t"),
    "cut": lambda code, rng: code[: rng.randrange(len(code) // 2, len(code))],
    "a line lost": lambda code, rng: drop_line(code, rng),
    "crooked": lambda code, rng: indent_line(code, rng),
}
"""How an answer may look, by name."""
REASONS: dict[str, str] = {}
"""Shape -> why the two sides differ on some of its texts."""

PEER = """\
import json, sys
from evalplus.sanitize import sanitize
for line in sys.stdin:
    answer = json.loads(line)
    print(json.dumps(sanitize(answer["text"], answer["entry_point"])), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One text that a model could have written."""

    task: str
    shape: str
    entry_point: str
    text: str


def drop_line(code: str, rng: random.Random) -> str:
    """The code without one of its lines."""
    lines = code.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def indent_line(code: str, rng: random.Random) -> str:
    """The code with one line a space further in."""
    lines = code.split("\n")
    place = rng.randrange(len(lines))
    lines[place] = " " + lines[place]
    return "\n".join(lines)


def write_answers(problems: tuple[Problem, ...]) -> Iterator[Answer]:
    """Every problem's reference in every shape, always the same ones."""
    for problem in problems:
        for name, shape in SHAPES.items():
            rng = random.Random(f"{problem.problem_id} {name}")
            text = shape(problem.solution, rng)
            yield Answer(problem.problem_id, name, problem.entry_point, text)


def parse(program: str) -> str:
    """The syntax tree as text; the text itself where there is none."""
    try:
        return ast.dump(ast.parse(program))
    except (SyntaxError, ValueError):
        return program.strip()


def render(answers: list[Answer], differing: list[tuple[Answer, str, str]]) -> str:
    """The table: for each shape how many texts there are, how many differ, and why."""
    num_texts = Counter(answer.shape for answer in answers)
    num_differing = Counter(answer.shape for answer, _, _ in differing)
    lines = [
        "# Our sanitiser beside EvalPlus's",
        "",
        "Written by `harness/benchmarks/sanitiser_agreement.py`: references of HumanEval+ and",
        "MBPP+ in the shapes of answers, reduced by `sdb_harness.sanitise` and by evalplus 0.3.1.",
        "",
        "| shape | texts | differ | why |",
        "|---|---|---|---|",
    ]
    for shape in SHAPES:
        why = REASONS.get(shape, "UNEXPLAINED") if num_differing[shape] else ""
        lines.append(f"| {shape} | {num_texts[shape]} | {num_differing[shape]} | {why} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Reduce everything on both sides, print what differs, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="a Python that has evalplus 0.3.1")
    parser.add_argument("--every", type=int, default=1, help="take every n-th problem")
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    chosen = parser.parse_args()
    problems = tuple(
        problem
        for spec in ("humaneval_plus", "mbpp_plus")
        for problem in load_benchmark(spec).problems[:: chosen.every]
    )
    answers = [one for one in write_answers(problems) if one.shape in chosen.shapes]
    done = subprocess.run(
        [chosen.peers, "-c", PEER],
        input="".join(json.dumps(asdict(answer)) + "\n" for answer in answers),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    differing = []
    for answer, there in zip(answers, theirs, strict=True):
        here = sanitise(answer.text, answer.entry_point)
        if parse(here) != parse(there):
            differing.append((answer, here, there))
            print(json.dumps({**asdict(answer), "ours": here, "theirs": there}))
    if chosen.every == 1 and len(chosen.shapes) == len(SHAPES):
        RESULT.write_text(render(answers, differing))
    unexplained = {answer.shape for answer, _, _ in differing} - REASONS.keys()
    raise SystemExit(f"no reason for {', '.join(sorted(unexplained))}" if unexplained else 0)


if __name__ == "__main__":
    main()
