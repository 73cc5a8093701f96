"""MBPP's prompt of one task, and the three solved tasks that stand in front of it.

Place in the flow: the `ask` steps of `mbpp.py` and `mbpp_plus.py` that follow Austin et al. 2021 or
lm-evaluation-harness.
"""

from collections.abc import Sequence
from functools import cache

from sdb_harness.benchmarks.data_files import DataFile, read_rows

FULL = DataFile(
    "mbpp/mbpp.jsonl",
    "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
    "https://github.com/deepseek-ai/DeepSeek-Coder/raw/2f9fd85927c6/Evaluation/MBPP/data/mbpp.jsonl",
)
"""The first upstream version, which is the one on the hub; google-research holds a later one."""
SHOTS = (2, 3, 4)
"""Tasks that stand solved in front of the prompt."""


def write_task(text: str, tests: Sequence[str]) -> str:
    """The paper's wording of one task, up to where the answer begins."""
    return (
        f"You are an expert Python programmer, and here is your task: {text} Your code should "
        "pass these tests:\n\n" + "\n".join(tests) + "\n[BEGIN]\n"
    )


@cache
def write_shots() -> str:
    """The three solved tasks, their code with the file's own line ends."""
    rows = {row["task_id"]: row for row in read_rows(FULL)}
    shots = (rows[number] for number in SHOTS)
    return "".join(
        f"{write_task(row['text'], row['test_list'])}{row['code']}\n[DONE]\n\n" for row in shots
    )
