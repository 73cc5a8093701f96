"""A generator as a plain function from prompts to texts, for harnesses that bring their own tasks.

Place in the flow: `lm_eval_model.py` and `inspect_provider.py` wrap it. Settings are those of
`sdbench run`. Neither harness says which repetition of a problem it asks for, so the n-th time that
a prompt is seen is its n-th sample: its seed comes from the seed of the settings, the prompt and n,
and repetitions differ where something is drawn. What it does not do: judge, time or store; those
harnesses do it their way.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from sdb_harness.benchmarks import Prompt
from sdb_harness.extract import cut_at_stops
from sdb_harness.generators import Prompted, load_generator
from sdb_harness.records import Completion, Problem, SamplingConfig
from sdb_harness.stages import derive_seed
from sdb_sandboxes.types import FunctionCheck

SETTINGS: dict[str, type[int] | type[float] | type[str]] = {
    **{"block_size": int, "num_steps": int, "batch_size": int, "seed": int},
    **{"threshold": float, "top_p": float, "policy": str},
}
"""What may be set for all requests; length and temperature come with each. A request's own `seed`
and `top_p` go before these."""


@dataclass(frozen=True, slots=True)
class Request:
    """One text to write."""

    prompt: Prompt
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float | None = None
    """None takes the one of the settings; so does `seed`."""
    seed: int | None = None


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
        self.num_seen = Counter[Prompt]()
        self.generator = load_generator(generator)

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """Write every text, cut at its first stop string; in order.

        Raises:
            ValueError: the settings do not fit the generator.
            RuntimeError: a text could not be generated, for a reason of ours.
        """
        done: dict[int, Completion] = {}
        asked = [self._ask(request) for request in requests]
        for (length, temperature, top_p), members in group_requests(requests).items():
            sampling = self._choose_sampling(length, temperature, top_p)
            for start in range(0, len(members), sampling.batch_size):
                chosen = members[start : start + sampling.batch_size]
                batch = [asked[member] for member in chosen]
                for position, completion in self.generator.generate(batch, sampling):
                    if completion.finish_reason == "error":
                        raise RuntimeError(completion.error)
                    text = cut_at_stops(completion.text, batch[position].stop).code
                    done[chosen[position]] = completion.model_copy(update={"text": text})
        return [done[member] for member in range(len(requests))]

    def close(self) -> None:
        """Free what was loaded. May be called twice."""
        self.generator.close()

    def _choose_sampling(
        self, max_new_tokens: int, temperature: float, top_p: float | None
    ) -> SamplingConfig:
        block_size = int(self.settings.get("block_size", 1))
        rounded = -(-max_new_tokens // block_size) * block_size  # blocks tile the answer
        given = {"max_new_tokens": rounded, "temperature": temperature, **self.settings}
        if top_p is not None:
            given["top_p"] = top_p
        try:
            return SamplingConfig.model_validate(given)
        except ValidationError as error:
            raise ValueError(str(error.errors()[0]["msg"])) from error

    def _ask(self, request: Request) -> Prompted:
        problem = Problem("text", "", "", "", FunctionCheck("none", ()))
        sample_index = self.num_seen[request.prompt]
        self.num_seen[request.prompt] += 1
        base = int(self.settings.get("seed", 0)) if request.seed is None else request.seed
        seed = derive_seed(base, str(request.prompt), sample_index)
        return Prompted(problem, request.prompt, sample_index, seed, request.stop)


def group_requests(
    requests: Sequence[Request],
) -> dict[tuple[int, float, float | None], list[int]]:
    """Indices of the requests that may share a batch."""
    groups: dict[tuple[int, float, float | None], list[int]] = {}
    for member, request in enumerate(requests):
        key = (request.max_new_tokens, request.temperature, request.top_p)
        groups.setdefault(key, []).append(member)
    return groups
