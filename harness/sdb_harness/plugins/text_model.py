"""A generator as a plain function from prompts to texts, for harnesses that bring their own tasks.

Place in the flow: `lm_eval_model.py` and `inspect_provider.py` wrap it. Settings are those of
`sdbench run`. What it does not do: judge, time or store; those harnesses do it their way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from sdb_harness.benchmarks import Prompt
from sdb_harness.extract import cut_at_stops
from sdb_harness.generators import Prompted, load_generator
from sdb_harness.records import Completion, Problem, SamplingConfig
from sdb_sandboxes.types import FunctionCheck

SETTINGS: dict[str, type[int] | type[float] | type[str]] = {
    **{"block_size": int, "num_steps": int, "batch_size": int, "seed": int},
    **{"threshold": float, "top_p": float, "policy": str},
}
"""What may be set for all requests; length and temperature come with each."""


@dataclass(frozen=True, slots=True)
class Request:
    """One text to write."""

    prompt: Prompt
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 256
    temperature: float = 0.0
    sample_index: int = 0


class TextModel:
    """A loaded generator with its settings. Used by one thread."""

    def __init__(self, generator: str, settings: Mapping[str, str | int | float]) -> None:
        """Open the generator.

        Args:
            generator: As `sdbench run --generator` spells it.
            settings: Rows of `SETTINGS`, as numbers or text.

        Raises:
            ValueError: an unknown generator or setting, or a value that does not fit.
        """
        unknown = sorted(settings.keys() - SETTINGS.keys())
        if unknown:
            raise ValueError(f"setting {unknown[0]!r} is not known; use {', '.join(SETTINGS)}")
        self.settings = {key: SETTINGS[key](value) for key, value in settings.items()}
        self.generator = load_generator(generator)

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """Write every text, cut at its first stop string; in order.

        Raises:
            ValueError: the settings do not fit the generator.
            RuntimeError: a text could not be generated, for a reason of ours.
        """
        done: dict[int, Completion] = {}
        for (length, temperature), members in group_requests(requests).items():
            sampling = self._choose_sampling(length, temperature)
            for start in range(0, len(members), sampling.batch_size):
                chosen = members[start : start + sampling.batch_size]
                batch = [self._ask(requests[member]) for member in chosen]
                for position, completion in self.generator.generate(batch, sampling):
                    if completion.finish_reason == "error":
                        raise RuntimeError(completion.error)
                    text = cut_at_stops(completion.text, batch[position].stop).code
                    done[chosen[position]] = completion.model_copy(update={"text": text})
        return [done[member] for member in range(len(requests))]

    def close(self) -> None:
        """Free what was loaded. May be called twice."""
        self.generator.close()

    def _choose_sampling(self, max_new_tokens: int, temperature: float) -> SamplingConfig:
        block_size = int(self.settings.get("block_size", 1))
        rounded = -(-max_new_tokens // block_size) * block_size  # blocks tile the answer
        given = {"max_new_tokens": rounded, "temperature": temperature, **self.settings}
        try:
            return SamplingConfig.model_validate(given)
        except ValidationError as error:
            raise ValueError(str(error.errors()[0]["msg"])) from error

    def _ask(self, request: Request) -> Prompted:
        problem = Problem("text", "", "", "", FunctionCheck("none", ()))
        seed = int(self.settings.get("seed", 0)) + request.sample_index
        return Prompted(problem, request.prompt, request.sample_index, seed, request.stop)


def group_requests(requests: Sequence[Request]) -> dict[tuple[int, float], list[int]]:
    """Indices of the requests that may share a batch."""
    groups: dict[tuple[int, float], list[int]] = {}
    for member, request in enumerate(requests):
        groups.setdefault((request.max_new_tokens, request.temperature), []).append(member)
    return groups
