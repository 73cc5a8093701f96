"""The canonical generator: it answers every problem with the benchmark's own reference.

Place in the flow: the second stage without a model. A run with it must score 1.0 and takes
seconds, so it shows that a machine judges a benchmark rightly before a model is asked.

What it does not do: measure speed. There is no tokenizer, so a completion has no tokens and hence
no tokens per second; its time is the time of a string search.
"""

import time
from collections.abc import Iterator, Sequence

from sdb_harness.benchmarks import Gap
from sdb_harness.generators import Prompted
from sdb_harness.records import Completion, SamplingConfig


def load(argument: str) -> "CanonicalGenerator":
    """Make the generator; `argument` is empty, as it takes none."""
    return CanonicalGenerator()


class CanonicalGenerator:
    """Yields reference completions in order."""

    def __init__(self) -> None:
        self.revision = "canonical-1"
        self.engine = "canonical"
        self.precision = "none"
        self.min_batch_size = 1
        self.implementations: dict[str, str] = {"generator": "reference solutions, no model"}

    def warm_up(self, problems: Sequence[Prompted], sampling: SamplingConfig) -> None:
        """Nothing to warm."""

    def generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Yield the reference for each prompt, as a perfect model under that prompt would write.

        Raises:
            ValueError: a prompt that the problem's own program does not continue.
        """
        for position, prompted in enumerate(batch):
            started = time.perf_counter()
            text = write_answer(prompted)
            yield (
                position,
                Completion(
                    text=text,
                    token_ids=(),
                    output_tokens=0,
                    finish_reason="stop",
                    e2e_s=time.perf_counter() - started,
                ),
            )

    def close(self) -> None:
        """Nothing to free."""


def write_answer(prompted: Prompted) -> str:
    """The text that continues this prompt into the problem's reference program.

    Source prompts, stripped or not, are continued; a gap is filled; a chat is answered with the
    whole program in a code block; a prefilled answer that already opened a block or repeats the
    prompt is continued.

    Raises:
        ValueError: there is no reference, or it does not continue the prompt.
    """
    problem, prompt = prompted.problem, prompted.prompt
    if not problem.reference:
        raise ValueError(
            f"canonical: {problem.problem_id} has no reference solution to answer with; use "
            "replay:FILE or a model, or choose options of the benchmark under which all have one"
        )
    program = problem.solution
    if isinstance(prompt, Gap):
        return problem.reference
    if isinstance(prompt, str):
        if not (prompt and problem.prompt):  # nothing to continue: the answer is the whole program
            return program
        _, found, rest = program.partition(prompt)
        if not found:
            raise ValueError(
                f"{problem.problem_id}: the reference program does not contain the prompt, so it "
                "cannot continue it; use a protocol that asks with the problem's own source"
            )
        return rest
    opening = prompt[-1].content if prompt and prompt[-1].role == "assistant" else ""
    if problem.prompt and opening.rstrip().endswith(problem.prompt.rstrip()):
        return f"{problem.reference}\n```\n"
    fence = "" if opening.endswith("```python\n") else "```python\n"
    return f"{fence}{program}\n```\n"
