"""Each stage does only what is missing, retries faults once, and never mixes them with answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from sdb_harness import stages
from sdb_harness.generators import Generator, Prompted
from sdb_harness.hardware import describe_hardware
from sdb_harness.judging import find_missing_modules
from sdb_harness.provenance import build_manifest
from sdb_harness.records import Completion, SamplingConfig
from sdb_harness.stages import WARM_UP_MARK, derive_seed, generate_cell, judge_cell, run_cells
from sdb_harness.store import Stage, Store
from sdb_harness.sweep import PlannedCell, parse_sweep, resolve_cells
from sdb_sandboxes.errors import SandboxUnavailable
from sdb_sandboxes.types import (
    AssertionCheck,
    CallOutcome,
    ExecutionRequest,
    ExecutionResult,
    ObjectCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
)


class ScriptedGenerator:
    """Answers with the reference, except where a script says otherwise."""

    revision = "canonical-1"
    engine = "scripted"
    precision = "none"
    min_batch_size = 1

    def __init__(self, num_errors: int = 0) -> None:
        self.implementations: dict[str, str] = {}
        self.num_errors = num_errors
        self.batches: list[list[tuple[str, int]]] = []
        self.warm_up_prompts: list[object] = []

    def warm_up(self, problems: Sequence[Prompted], sampling: SamplingConfig) -> None:
        self.warm_up_prompts += [prompted.prompt for prompted in problems]
        self.implementations["server"] = "scripted/1"

    def generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig
    ) -> Iterator[tuple[int, Completion]]:
        self.batches.append([(one.problem.problem_id, one.sample_index) for one in batch])
        for position in reversed(range(len(batch))):
            if self.num_errors:
                self.num_errors -= 1
                yield position, make_completion("", error="server hung up")
            else:
                yield position, make_completion(batch[position].problem.reference)

    def close(self) -> None: ...


class ScriptedSandbox:
    """Runs trusted references in this process; its first calls break as scripted."""

    level = "scripted"
    image = ""
    layers = ()
    num_slots = 1

    def __init__(self, num_faults: int = 0) -> None:
        self.num_faults = num_faults
        self.num_calls = 0

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        self.num_calls += 1
        if self.num_faults:
            self.num_faults -= 1
            return ExecutionResult(Status.INFRASTRUCTURE, (), 0.0, 0.0, 0, detail="slot died")
        namespace: dict[str, object] = {}
        exec(request.program, namespace)
        outcomes = []
        for name, arguments in request.calls:
            function = namespace[name]
            assert callable(function)
            outcomes.append(CallOutcome(function(*arguments)))
        return ExecutionResult(Status.PASSED, tuple(outcomes), 0.0, 0.0, 0)

    def run_assertions(
        self, program: str, check: AssertionCheck | ObjectCheck, limits: ResourceLimits
    ) -> ExecutionResult:
        raise NotImplementedError

    def run_program(self, request: ProgramRequest) -> ExecutionResult:
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...


class Recorder:
    """Writes down what the stages report."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def warn(self, message: str) -> None:
        self.events.append(message)

    def begin_run(self, cells: Sequence[PlannedCell], num_generated: int) -> None:
        self.events.append(f"run of {len(cells)} from {num_generated}")

    def begin_cell(self, planned: PlannedCell, num_generated: int, num_judged: int) -> None:
        self.events.append("cell")

    def advance(self, stage: Stage) -> None:
        self.events.append(stage)

    def end_cell(self, planned: PlannedCell, num_judged: int, num_passed: int) -> None:
        self.events.append(f"{num_passed} of {num_judged}")


def make_completion(text: str, error: str = "") -> Completion:
    return Completion(
        text=text,
        token_ids=(),
        output_tokens=0,
        finish_reason="error" if error else "stop",
        e2e_s=0.0,
        error=error,
    )


def plan_cell(num_problems: int = 3, num_samples: int = 1, batch_size: int = 2) -> PlannedCell:
    document: dict[str, object] = {
        "name": "s",
        "benchmarks": [f"minipy:num_problems={num_problems}"],
        "generators": ["canonical"],
        "grid": {"samples_per_problem": [num_samples]},
    }
    (planned,) = resolve_cells(parse_sweep(document), "machine").cells
    sampling = SamplingConfig(batch_size=batch_size)
    cell = planned.cell.model_copy(update={"sampling": sampling})
    return PlannedCell(cell, planned.benchmark, planned.protocol)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open_for_writing(tmp_path / "store.sqlite") as store:
        manifest = build_manifest(describe_hardware(), {})
        store.add_manifest(manifest.model_copy(update={"run_id": "run-1"}))
        yield store


def generate(planned: PlannedCell, generator: Generator, store: Store) -> int:
    store.add_cell(planned.cell)
    return generate_cell(planned, generator, store, "run-1", Recorder())


def test_batches_take_sample_zero_of_every_problem_first(store: Store) -> None:
    generator = ScriptedGenerator()
    assert generate(plan_cell(num_samples=2), generator, store) == 0
    assert generator.batches == [
        [("minipy/0", 0), ("minipy/1", 0)],
        [("minipy/2", 0), ("minipy/0", 1)],
        [("minipy/1", 1), ("minipy/2", 1)],
    ]


def test_warm_up_has_the_shape_but_not_the_prompts_of_the_benchmark(store: Store) -> None:
    generator, planned = ScriptedGenerator(), plan_cell()
    generate(planned, generator, store)
    first, second = planned.benchmark.problems[:2]
    assert generator.warm_up_prompts == [WARM_UP_MARK + first.prompt, WARM_UP_MARK + second.prompt]


def test_what_warm_up_found_stands_in_the_manifest(store: Store) -> None:
    generate(plan_cell(), ScriptedGenerator(), store)
    assert store.list_manifests()["run-1"].implementations == {"canonical/server": "scripted/1"}


def test_only_what_is_missing_is_generated(store: Store) -> None:
    planned = plan_cell()
    store.add_cell(planned.cell)
    completion = make_completion("    return 0\n")
    store.add_completion(planned.cell.compute_hash(), "minipy/1", "g", 0, "run-1", completion)
    generator = ScriptedGenerator()
    generate(planned, generator, store)
    assert generator.batches == [[("minipy/0", 0), ("minipy/2", 0)]]
    again = ScriptedGenerator()
    generate(planned, again, store)
    assert again.batches == []
    assert again.warm_up_prompts == []


def test_faults_are_retried_once(store: Store) -> None:
    generator = ScriptedGenerator(num_errors=2)
    assert generate(plan_cell(), generator, store) == 0
    assert generator.batches[-1] == [("minipy/0", 0), ("minipy/1", 0)]
    assert store.count_faults() == 0


def test_faults_that_stay_are_counted_and_tried_again_by_the_next_run(store: Store) -> None:
    planned, recorder = plan_cell(), Recorder()
    store.add_cell(planned.cell)
    broken = ScriptedGenerator(num_errors=1000)
    assert generate_cell(planned, broken, store, "run-1", recorder) == 3
    assert recorder.events == ["3 programs of minipy:num_problems=3 not generated: server hung up"]
    assert store.count_faults() == 3
    assert store.list_generated(planned.cell.compute_hash()) == set()
    assert generate(planned, ScriptedGenerator(), store) == 0
    assert len(store.list_generated(planned.cell.compute_hash())) == 3


def test_generator_that_breaks_its_contract_is_caught(store: Store) -> None:
    class Forgetful(ScriptedGenerator):
        def generate(
            self, batch: Sequence[Prompted], sampling: SamplingConfig
        ) -> Iterator[tuple[int, Completion]]:
            yield 0, make_completion("    return 0\n")

    class Doubling(ScriptedGenerator):
        def generate(
            self, batch: Sequence[Prompted], sampling: SamplingConfig
        ) -> Iterator[tuple[int, Completion]]:
            yield 0, make_completion("    return 0\n")
            yield 0, make_completion("    return 1\n")

    with pytest.raises(RuntimeError, match=r"never yielded positions \[1\]"):
        generate(plan_cell(), Forgetful(), store)
    with pytest.raises(RuntimeError, match="position 0 of a batch of 2 twice"):
        generate(plan_cell(num_problems=4), Doubling(), store)
    assert len(store.list_generated(plan_cell().cell.compute_hash())) == 1


def test_judging_retries_a_broken_sandbox_once(store: Store) -> None:
    planned = plan_cell()
    generate(planned, ScriptedGenerator(), store)
    sandbox = ScriptedSandbox(num_faults=1)
    assert judge_cell(planned, sandbox, store, "run-1", Recorder()) == 0
    assert sandbox.num_calls == 4
    assert [row.status for row in store.iterate_rows()] == ["passed"] * 3


def test_broken_sandbox_leaves_no_verdict_and_the_next_run_judges(store: Store) -> None:
    planned = plan_cell()
    generate(planned, ScriptedGenerator(), store)
    assert judge_cell(planned, ScriptedSandbox(1000), store, "run-1", Recorder()) == 3
    assert list(store.iterate_rows()) == []
    assert store.count_faults() == 3
    assert judge_cell(planned, ScriptedSandbox(), store, "run-1", Recorder()) == 0
    assert [row.status for row in store.iterate_rows()] == ["passed"] * 3


def test_equal_programs_of_a_problem_run_once_and_share_the_verdict(store: Store) -> None:
    class Varied(ScriptedGenerator):
        def generate(
            self, batch: Sequence[Prompted], sampling: SamplingConfig
        ) -> Iterator[tuple[int, Completion]]:
            for position, one in enumerate(batch):
                is_other = (one.problem.problem_id, one.sample_index) == ("minipy/0", 1)
                text = "# in other words\n" * is_other + one.problem.reference
                yield position, make_completion(text)

    planned, sandbox, recorder = plan_cell(num_samples=3), ScriptedSandbox(), Recorder()
    generate(planned, Varied(), store)
    assert judge_cell(planned, sandbox, store, "run", recorder) == 0
    assert sandbox.num_calls == 3 + 1
    assert recorder.events == ["judge"] * 9
    assert [row.status for row in store.iterate_rows()] == ["passed"] * 9


def test_a_sandbox_that_cannot_answer_at_all_is_one_line() -> None:
    with pytest.raises(SandboxUnavailable, match="which modules it has: slot died; run the same"):
        find_missing_modules(ScriptedSandbox(num_faults=1), ["numpy"])


def test_cells_are_generated_before_they_are_judged_and_loaded_only_if_needed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(spec: str) -> Generator:
        loaded.append(spec)
        return ScriptedGenerator()

    monkeypatch.setattr(stages, "load_generator", load)
    cells = [plan_cell(num_problems=2), plan_cell(num_problems=3)]
    recorder = Recorder()
    assert run_cells(cells, store, "run-1", ScriptedSandbox(), recorder).num_faults == 0
    assert recorder.events == [
        "run of 2 from 0",
        *["cell", *["generate"] * 2, *["judge"] * 2, "2 of 2"],
        *["cell", *["generate"] * 3, *["judge"] * 3, "3 of 3"],
    ]
    assert loaded == ["canonical"]
    run_cells(cells, store, "run-1", ScriptedSandbox(), Recorder())
    assert loaded == ["canonical"]


def test_seeds_are_stable_and_differ_between_samples() -> None:
    assert derive_seed(0, "minipy/0", 0) == derive_seed(0, "minipy/0", 0)
    seeds = {derive_seed(s, f"minipy/{p}", i) for s in range(5) for p in range(20) for i in (0, 1)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)
