"""A sweep: the TOML file that says what to measure, expanded into cells.

Place in the flow: before everything. `read_sweep` parses the file strictly, `expand_grid` gives the
grid points of one generator, and `resolve_cells` opens each benchmark and generator once to
pin what really would run (revisions, engine, precision, hardware) as frozen, hashed `Cell`s.

    name = "blocks"
    benchmarks = ["minipy:split=test,level=1,num_problems=50"]
    protocol = "base"
    templates = 1                 # 3 asks in three wordings: chat, chat/2 and chat/3
    generators = ["seed_diffusion:demo", "autoregressive:demo"]

    [grid]
    block_size = [4, 8, 16, 32]
    threshold = [1.0, 0.9]        # num_steps = [...], policy = ["entropy:0.3"] add points
    max_new_tokens = [128]
    # also: temperature, top_p, batch_size, samples_per_problem, seeds

The grid is the product of its lists, except that `threshold`, `num_steps` and `policy` are kinds of
one thing and add up. Axes a generator does not use are dropped for it and equal points collapse: an
autoregressive baseline appears once, not once per block size.
"""

import hashlib
import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from sdb_harness.benchmarks import (
    Benchmark,
    PromptProtocol,
    load_benchmark,
    parse_benchmark_spec,
    spell_benchmark_spec,
)
from sdb_harness.errors import UserError, name_nearest, spell_error
from sdb_harness.generators import (
    Generator,
    LimitedGenerator,
    find_generator,
    load_generator,
)
from sdb_harness.records import Cell, Problem, SamplingConfig

AxisValue = int | float | str
GRID_AXES: dict[str, type[int] | type[float] | type[str]] = {
    "block_size": int,
    "threshold": float,
    "num_steps": int,
    "policy": str,
    "temperature": float,
    "top_p": float,
    "samples_per_problem": int,
    "batch_size": int,
    "max_new_tokens": int,
    "seeds": int,
}
"""Keys of `[grid]` and the type of their entries."""

POLICY_AXES = ("threshold", "num_steps", "policy")
"""A grid point has one of these."""

SWEEP_KEYS = ("name", "benchmarks", "protocol", "templates", "generators", "grid")
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to measure, as written by the user and checked, but with nothing opened yet."""

    name: str
    benchmarks: tuple[str, ...]
    generators: tuple[str, ...]
    protocol: str | None = None
    """Prompt preset; None means the first one of each benchmark."""
    templates: int = 1
    """In how many wordings the preset asks."""
    grid: Mapping[str, tuple[AxisValue, ...]] = field(default_factory=dict)
    """Axis name of `GRID_AXES` -> values."""


@dataclass(frozen=True, slots=True)
class GridPoint:
    """One setting of the sampler, before it meets a benchmark."""

    sampling: SamplingConfig
    samples_per_problem: int


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A cell with what is needed to run it."""

    cell: Cell
    benchmark: Benchmark
    protocol: PromptProtocol
    not_judged: Mapping[str, str] = field(default_factory=dict)
    """Problem id -> why this host cannot judge it: such a problem is not asked either."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those that are asked."""
        return tuple(p for p in self.benchmark.problems if p.problem_id not in self.not_judged)

    @property
    def keys(self) -> set[tuple[str, int]]:
        """(problem id, sample index) of every program that this cell generates."""
        indices = range(self.cell.samples_per_problem)
        return {(problem.problem_id, index) for problem in self.problems for index in indices}

    @property
    def num_programs(self) -> int:
        """How many programs this cell generates in all."""
        return len(self.problems) * self.cell.samples_per_problem


@dataclass(frozen=True, slots=True)
class ResolvedSweep:
    """Every cell of a sweep, and what a user should know before it runs."""

    cells: tuple[PlannedCell, ...]
    warnings: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Benchmark or generator that cannot be opened -> why; the others run."""


def read_sweep(path: Path) -> Sweep:
    """Parse and check a sweep file without opening any benchmark or generator.

    Raises:
        UserError: unreadable file, bad TOML, unknown key, wrong type, unknown name. The message
            names the file, the nearest right key and what is allowed.
    """
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise UserError(f"cannot read sweep {path}: {error.strerror}; give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"sweep {path} is not valid TOML: {error}") from error
    try:
        return parse_sweep(document)
    except UserError as error:
        raise UserError(f"sweep {path}: {error}") from error


def parse_sweep(document: Mapping[str, object]) -> Sweep:
    """Check a parsed sweep document; see `read_sweep` for the errors."""
    _check_keys(document, SWEEP_KEYS, "")
    for key in ("name", "benchmarks", "generators"):
        if key not in document:
            raise UserError(f"the key {key!r} is missing; needed are name, benchmarks, generators")
    name = document.get("name")
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise UserError(f"name = {name!r}; write up to 128 letters, digits and ._+- as in 'demo'")
    protocol = document.get("protocol")
    if protocol is not None and not isinstance(protocol, str):
        raise UserError(f"protocol = {protocol!r}; write one name in quotes, as in 'base'")
    templates = document.get("templates", 1)
    if not isinstance(templates, int) or isinstance(templates, bool) or templates < 1:
        raise UserError(f"templates = {templates!r}; write a number from 1, as in templates = 3")
    grid_table = document.get("grid", {})
    if not isinstance(grid_table, dict):
        raise UserError(f"grid = {grid_table!r}; write a table: [grid] and lists below it")
    _check_keys(grid_table, tuple(GRID_AXES), "[grid] ")
    sweep = Sweep(
        name=name,
        benchmarks=_read_strings(document, "benchmarks"),
        generators=_read_strings(document, "generators"),
        protocol=protocol,
        templates=templates,
        grid={axis: _read_axis(axis, values) for axis, values in grid_table.items()},
    )
    for spec in sweep.benchmarks:
        parse_benchmark_spec(spec)
    for spec in sweep.generators:
        expand_grid(sweep, spec)
    return sweep


def make_sweep_name(text: str) -> str:
    """Turn any text into a name that a folder can have; long texts end in their hash."""
    name = re.sub(r"[^A-Za-z0-9._+-]", "-", text)
    if len(name) <= 100:
        return name
    return f"{name[:100]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _check_keys(table: Mapping[str, object], allowed: Sequence[str], where: str) -> None:
    for key in table:
        if key not in allowed:
            raise UserError(f"unknown {where}key {key!r}; {name_nearest(key, allowed)}")


def _read_strings(document: Mapping[str, object], key: str) -> tuple[str, ...]:
    values = document.get(key)
    if (
        not isinstance(values, list)
        or not values
        or not all(isinstance(value, str) for value in values)
    ):
        raise UserError(f"{key} = {values!r}; write a list with at least one name in quotes")
    return tuple(values)


def _read_axis(axis: str, values: object) -> tuple[AxisValue, ...]:
    kind = GRID_AXES[axis]
    example = {int: "[4, 8]", float: "[1.0, 0.9]", str: '["top:2"]'}[kind]
    if not isinstance(values, list) or not values:
        raise UserError(f"[grid] {axis} = {values!r}; write a list, as in {axis} = {example}")
    entries: list[AxisValue] = []
    for value in values:
        allowed = int | float if kind is float else kind
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise UserError(
                f"[grid] {axis} has the entry {value!r}; write a list of {kind.__name__}, "
                f"as in {axis} = {example}"
            )
        entries.append(kind(value))
    return tuple(entries)


def expand_grid(sweep: Sweep, generator_spec: str) -> tuple[GridPoint, ...]:
    """Expand the grid into the distinct points that this generator can tell apart.

    Raises:
        UserError: a diffusion generator without block size or policy, or a value that does not
            fit (value, limit, way out).
    """
    entry, _ = find_generator(generator_spec)
    is_diffusion = "block_size" in entry.axes
    if is_diffusion and not (
        "block_size" in sweep.grid and any(axis in sweep.grid for axis in POLICY_AXES)
    ):
        raise UserError(
            f"generator {generator_spec!r} needs block_size and threshold, num_steps or policy in "
            "the grid"
        )
    axes = [
        [(name_setting(axis), value) for value in values]
        for axis, values in sweep.grid.items()
        if axis not in POLICY_AXES
    ]
    policies: list[tuple[tuple[str, AxisValue], ...]] = [
        ((axis, value),) for axis in POLICY_AXES for value in sweep.grid.get(axis, ())
    ]
    points: dict[GridPoint, None] = {}
    for choice, policy in itertools.product(itertools.product(*axes), policies or [()]):
        used = {axis: value for axis, value in (*choice, *policy) if axis in entry.axes}
        num_samples = used.pop("samples_per_problem", 1)
        try:
            point = GridPoint(SamplingConfig.model_validate(used), int(num_samples))
        except ValidationError as error:
            raise UserError(f"[grid] {spell_validation_error(error)}") from error
        _check_point(point)
        points[point] = None
    return tuple(points)


def _check_point(point: GridPoint) -> None:
    """Refuse blocks that do not tile the generation, and schedules longer than a block."""
    sampling = point.sampling
    if point.samples_per_problem < 1:
        raise UserError(
            f"samples_per_problem={point.samples_per_problem} is below 1; use 1 or more"
        )
    if sampling.block_size is None:
        return
    if sampling.max_new_tokens % sampling.block_size:
        nearest = round(sampling.max_new_tokens / sampling.block_size) or 1
        raise UserError(
            f"block_size={sampling.block_size} does not divide "
            f"max_new_tokens={sampling.max_new_tokens}; "
            f"use max_new_tokens={nearest * sampling.block_size} or another block_size"
        )
    if sampling.num_steps is not None and sampling.num_steps > sampling.block_size:
        raise UserError(
            f"num_steps={sampling.num_steps} exceeds block_size={sampling.block_size}: a block "
            f"has no more tokens to commit; use num_steps={sampling.block_size} or less"
        )


def spell_validation_error(error: ValidationError) -> str:
    """One line for the first thing that pydantic found wrong."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}={first['input']!r}: {message}" if where else message


def list_ignored_axes(sweep: Sweep) -> list[str]:
    """List the axes of the grid that no generator of the sweep uses."""
    used = {axis for spec in sweep.generators for axis in find_generator(spec)[0].axes}
    return [axis for axis in sweep.grid if name_setting(axis) not in used]


def name_setting(axis: str) -> str:
    """Name what one value of a grid axis sets: a `seed` out of `seeds`."""
    return "seed" if axis == "seeds" else axis


def resolve_cells(sweep: Sweep, hardware: str) -> ResolvedSweep:
    """Open each benchmark and generator once and pin every cell, in running order.

    Generators are the outer loop, so a run loads each model once. Everything is opened before
    anything runs: a missing checkpoint is found now, not after the first model's hours. What cannot
    be opened is left out with its reason, as long as anything remains.

    Args:
        sweep: What to measure.
        hardware: Hash of the hardware description.

    Raises:
        UserError: unknown protocol, or a generator that lacks samples for a benchmark.
        ValueError, OSError: from a loader, if nothing remains.
    """
    failures: dict[str, Exception] = {}
    benchmarks: dict[str, Benchmark] = {}
    for spec in sweep.benchmarks:
        try:
            benchmarks[spec] = load_benchmark(spec)
        except (ValueError, OSError) as error:
            failures[spec] = error
    cells: dict[str, PlannedCell] = {}
    warnings = []
    if ignored := list_ignored_axes(sweep):
        warnings.append(f"{', '.join(sweep.generators)} does not use {', '.join(ignored)}")
    for generator_spec in sweep.generators if benchmarks else ():
        try:
            generator = load_generator(generator_spec)
        except (ValueError, OSError) as error:
            failures[generator_spec] = error
            continue
        try:
            points = expand_grid(sweep, generator_spec)
            for benchmark_spec, benchmark in benchmarks.items():
                warnings += _check_coverage(generator, generator_spec, benchmark, points)
                protocols = find_templates(
                    benchmark, sweep.protocol or next(iter(benchmark.protocols)), sweep.templates
                )
                for (protocol_name, protocol), point in itertools.product(
                    protocols.items(), points
                ):
                    cell = Cell(
                        benchmark=spell_benchmark_spec(*parse_benchmark_spec(benchmark_spec)),
                        benchmark_revision=benchmark.revision,
                        num_problems=len(benchmark.problems),
                        protocol=protocol_name,
                        generator=generator_spec,
                        generator_revision=generator.revision,
                        sampling=_fill_batch(point.sampling, generator.min_batch_size),
                        samples_per_problem=point.samples_per_problem,
                        precision=generator.precision,
                        engine=generator.engine,
                        hardware=hardware,
                    )
                    cells[cell.compute_hash()] = PlannedCell(cell, benchmark, protocol)
        finally:
            generator.close()
    if not cells:
        raise next(iter(failures.values()))
    left_out = {name: spell_error(error) for name, error in failures.items()}
    return ResolvedSweep(tuple(cells.values()), tuple(warnings), left_out)


def _check_coverage(
    generator: Generator, spec: str, benchmark: Benchmark, points: Sequence[GridPoint]
) -> list[str]:
    """Ask a generator of limited problems whether it has what the benchmark needs."""
    if not isinstance(generator, LimitedGenerator):
        return []
    num_unknown = generator.check_coverage(
        [problem.problem_id for problem in benchmark.problems],
        max(point.samples_per_problem for point in points),
    )
    if not num_unknown:
        return []
    return [f"{spec} has samples for {num_unknown} task ids that {benchmark.name} does not have"]


def _fill_batch(sampling: SamplingConfig, min_batch_size: int) -> SamplingConfig:
    """Record the batch that will really be submitted."""
    batch_size = max(sampling.batch_size, min_batch_size)
    return sampling.model_copy(update={"batch_size": batch_size})


def find_templates(benchmark: Benchmark, name: str, num: int) -> dict[str, PromptProtocol]:
    """A preset and its paraphrases `name/2`, `name/3` and so on, `num` in all.

    The keys are what a cell records: a preset whose steps have changed since it was first published
    has its version behind an `@`.

    Raises:
        UserError: no preset of that name, or fewer paraphrases.
    """
    names = [name, *(f"{name}/{number}" for number in range(2, num + 1))]
    if num > 1 and names[-1] not in benchmark.protocols:
        families = sorted({key.partition("/")[0] for key in benchmark.protocols if "/" in key})
        known = sum(key.partition("/")[0] == name for key in benchmark.protocols)
        raise UserError(
            f"benchmark {benchmark.name!r} has {known} wordings of protocol {name!r}, not {num}; "
            f"there are several of {', '.join(families) or 'none'}"
        )
    found = {key: find_protocol(benchmark, key) for key in names}
    return {
        f"{key}@{protocol.version}" if protocol.version > 1 else key: protocol
        for key, protocol in found.items()
    }


def find_protocol(benchmark: Benchmark, name: str) -> PromptProtocol:
    """Find a prompt preset of a benchmark by name, or say which there are."""
    if name not in benchmark.protocols:
        raise UserError(
            f"benchmark {benchmark.name!r} has no protocol {name!r}; "
            f"{name_nearest(name, benchmark.protocols)}"
        )
    return benchmark.protocols[name]


def describe_sampling(cell: Cell) -> str:
    """Spell the settings that tell a cell from its neighbours, for people."""
    sampling = cell.sampling
    parts = []
    if sampling.block_size is not None:
        parts.append(f"block {sampling.block_size}")
    if sampling.threshold is not None:
        is_sequential = sampling.threshold == 1.0
        parts.append("one token a forward" if is_sequential else f"threshold {sampling.threshold}")
    if sampling.num_steps is not None:
        parts.append(f"{sampling.num_steps} steps")
    if sampling.policy is not None:
        parts.append(sampling.policy)
    if sampling.temperature:
        parts.append(f"temperature {sampling.temperature}")
    if sampling.top_p < 1.0:
        parts.append(f"top_p {sampling.top_p}")
    if sampling.batch_size > 1:
        parts.append(f"batch {sampling.batch_size}")
    if cell.samples_per_problem > 1:
        parts.append(f"{cell.samples_per_problem} samples")
    if sampling.seed:
        parts.append(f"seed {sampling.seed}")
    return ", ".join(parts) or "default"
