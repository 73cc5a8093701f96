"""The replay generator: completions from another harness's sample file instead of a model.

Place in the flow: the second stage for programs that were written elsewhere. `replay:FILE` reads
the forms of `sample_files.py`, plain or gzip, and EvalPlus's folders. Where the file numbers its
problems it is `replay:FILE,ids=HumanEval/{}`; where it lists those of a benchmark in turn, without
their names, as bigcode-evaluation-harness does, `replay:FILE,of=mbpp`. A task's samples count in
file order. Use the protocol `as-is` of HumanEval to judge a file of completions exactly as
openai/human-eval does, `script` for whole programs.

What it does not do: measure speed. The file says nothing about time or tokens, so every completion
has 0 tokens and 0 seconds, and no tokens per second.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from sdb_harness.benchmarks import load_benchmark
from sdb_harness.errors import UserError
from sdb_harness.generators import Prompted
from sdb_harness.records import Completion, SamplingConfig
from sdb_harness.sample_files import parse_samples


def load(argument: str) -> "ReplayGenerator":
    """Read the sample file named by `argument`.

    Raises:
        UserError: the file is missing, damaged, empty, or a line is not a sample.
    """
    rest, _, spec = argument.partition(",of=")
    name, _, ids = rest.partition(",ids=")
    path = Path(name).expanduser()
    data = gather_folder(path) if path.is_dir() else read_bytes(path)
    revision = hashlib.sha256(data).hexdigest()
    samples = parse_samples(path, data, ids or "{}")
    if spec:
        samples = name_problems(path, samples, spec)
    return ReplayGenerator(path, samples, revision)


def name_problems(path: Path, samples: Mapping[str, list[str]], spec: str) -> dict[str, list[str]]:
    """Samples under the ids of a benchmark's problems, in whose order the file lists them.

    Raises:
        UserError: the file is no such list, or one of another number of problems.
    """
    names = [problem.problem_id for problem in load_benchmark(spec).problems]
    if list(samples) != [str(place) for place in range(len(names))]:
        raise UserError(
            f"{path} is not a list with samples for each of the {len(names)} problems of {spec}; "
            "name its benchmark with all options, or its problems by ids=NAME/{}"
        )
    return dict(zip(names, samples.values(), strict=True))


def gather_folder(path: Path) -> bytes:
    """A folder of EvalPlus's, `HumanEval_0/0.py` and so on, as the sample file of its programs.

    Raises:
        UserError: it holds no such program, or one cannot be read.
    """
    found = [
        (file.parent.name.replace("_", "/"), int(file.stem), file)
        for file in path.glob("*/*.py")
        if file.stem.isdecimal()
    ]
    try:
        lines = [
            json.dumps({"task_id": name, "solution": file.read_text(encoding="utf-8")})
            for name, _, file in sorted(found)
        ]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the samples in {path}: {error}") from error
    if not lines:
        raise UserError(f"{path} holds no samples; a folder's are called HumanEval_0/0.py")
    return "\n".join(lines).encode()


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
            is_numbered = all(name.isdecimal() for name in self._samples)
            way_out = "complete the file or lower samples_per_problem" + (
                "; its ids are numbers: replay:FILE,of=BENCHMARK or replay:FILE,ids=NAME/{}"
                if is_numbered
                else ""
            )
            raise UserError(
                f"{self._path} has fewer than {samples_per_problem} samples for {len(short)} of "
                f"{len(problem_ids)} problems: {named}; {num_unknown} of its task ids are not of "
                f"this benchmark; {way_out}"
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
