"""The generators: what one is, and the dictionary of those we have.

Second stage of the flow: prompts in, `Completion`s out, with counters and times. A generator is one
file with a function `load(argument) -> Generator`, named in `GENERATORS`; its module is imported
only when it is asked for, so a run that needs no model never imports torch.
"""

import importlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from sdb_harness.benchmarks import Prompt
from sdb_harness.errors import UserError, name_nearest
from sdb_harness.records import Completion, Problem, SamplingConfig


@dataclass(frozen=True, slots=True)
class Prompted:
    """One program to generate."""

    problem: Problem
    prompt: Prompt
    sample_index: int
    seed: int
    """Own seed of this sample, derived from the cell's seed, the problem and the index."""
    stop: tuple[str, ...] = ()
    """Strings that end the generation; the text may or may not still contain them."""


class Generator(Protocol):
    """Something that writes programs. Opened by its `load`, used by one thread, then closed."""

    revision: str
    """Hash of weights, config and tokenizer; model name and URL for a server."""
    engine: str
    """Implementation and version, for example `sdb-block-sampler/0.1.0`."""
    precision: str
    implementations: dict[str, str]
    """What really runs: attention, head, device, threads. Complete after `warm_up`."""
    min_batch_size: int
    """Programs that are submitted at once at the least; a cell records this or the sweep's
    `batch_size`, whichever is larger. 1 but for servers that were given a `concurrency`."""

    def warm_up(self, problems: Sequence[Prompted], sampling: SamplingConfig) -> None:
        """Make the next timed call as fast as the ones after it; the output is thrown away.

        Raises:
            ValueError: `sampling` does not fit this generator (value, limit, way out).
        """
        ...

    def generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (position in the batch, completion) as each member finishes.

        The whole batch is submitted at once: its members run together, whether as one tensor or
        as concurrent requests, and each carries its own times. A member that could not be
        generated for a reason of ours is yielded with `finish_reason="error"`, never raised.
        """
        ...

    def close(self) -> None:
        """Free what was loaded. May be called twice."""
        ...


@runtime_checkable
class LimitedGenerator(Protocol):
    """A generator that can answer some problems only; asked before anything runs or is stored."""

    def check_coverage(self, problem_ids: Collection[str], samples_per_problem: int) -> int:
        """Compare what it has with what a benchmark needs.

        Returns:
            How many problems it has that the benchmark does not: a warning, not an error.

        Raises:
            UserError: it has fewer samples for a problem than asked.
        """
        ...


AUTOREGRESSIVE_AXES = frozenset(
    {"max_new_tokens", "temperature", "top_p", "batch_size", "seed", "samples_per_problem"}
)
DIFFUSION_AXES = AUTOREGRESSIVE_AXES | {"block_size", "threshold", "num_steps", "policy"}


@dataclass(frozen=True, slots=True)
class GeneratorEntry:
    """Where a generator is loaded from, and which axes of a sweep move it."""

    loader: str
    """`module:function`; the function takes the text after the colon and returns a `Generator`."""
    axes: frozenset[str]
    """Fields of `SamplingConfig`, and `samples_per_problem`, that it uses. Grid points that differ
    only in the others are the same cell."""
    argument: str
    """What the text after the colon is, for messages; empty if there is none."""


GENERATORS: dict[str, GeneratorEntry] = {
    "autoregressive": GeneratorEntry(
        "sdb_harness.generators.autoregressive:load",
        AUTOREGRESSIVE_AXES,
        "demo, a folder or hf:ID",
    ),
    "canonical": GeneratorEntry(
        "sdb_harness.generators.canonical:load", frozenset({"samples_per_problem"}), ""
    ),
    "openai": GeneratorEntry(
        "sdb_harness.generators.openai_api:load", AUTOREGRESSIVE_AXES, "URL,model=NAME"
    ),
    "replay": GeneratorEntry(
        "sdb_harness.generators.replay:load", frozenset({"samples_per_problem"}), "FILE.jsonl"
    ),
    "seed_diffusion": GeneratorEntry(
        "sdb_harness.generators.seed_diffusion:load", DIFFUSION_AXES, "demo, a folder or hf:ID"
    ),
    "transformers": GeneratorEntry(
        "sdb_harness.generators.transformers_ar:load", AUTOREGRESSIVE_AXES, "ID_OR_FOLDER"
    ),
}


def find_generator(spec: str) -> tuple[GeneratorEntry, str]:
    """Split `seed_diffusion:demo` into the entry and the argument.

    Raises:
        UserError: unknown name, a missing argument, or one where none is taken.
    """
    name, _, argument = spec.strip().partition(":")
    entry = GENERATORS.get(name)
    if name in ("vllm", "sglang"):
        raise UserError(
            f"{name} is asked through its server: start it, then write "
            "openai:http://localhost:PORT/v1,model=NAME"
        )
    if entry is None:
        raise UserError(f"unknown generator {name!r}; {name_nearest(name, GENERATORS)}")
    if entry.argument and not argument:
        raise UserError(f"generator {name!r} needs an argument; write {name}:{entry.argument}")
    if argument and not entry.argument:
        raise UserError(f"generator {name!r} takes no argument; got {argument!r}; write {name}")
    return entry, argument


def load_generator(spec: str) -> Generator:
    """Open the generator that a specification such as `replay:samples.jsonl` names.

    Raises:
        UserError: unknown generator or missing argument.
        ValueError: the argument cannot be opened, from the generator's own loader.
    """
    entry, argument = find_generator(spec)
    module, _, function = entry.loader.partition(":")
    load = cast(Callable[[str], Generator], getattr(importlib.import_module(module), function))
    return load(argument)
