"""Runs cells: generate, then extract, execute and score; each stage resumable by itself.

This is the main path of the harness, to be read from top to bottom. For every cell in turn:

1. `generate_cell` submits the missing programs batch by batch and stores each completion the moment
   it is finished.
2. `judge_cell` extracts and executes every stored completion that has no verdict, in parallel over
   the sandbox's slots, and stores the verdicts.

A cell is generated completely before any of its programs is executed, and nothing is executed while
a model generates: judging uses every core, so running both at once would slow down the very
generations whose speed is published.

Infrastructure faults (the server hung up, the sandbox broke) are retried once, logged apart, and
leave no row, so the next run tries again. A wrong program is just a verdict. Problems that this
host cannot judge (`PlannedCell.not_judged`) are not asked: no fault, no row, no time lost on them.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Protocol

from sdb_harness.benchmarks import ChatMessage, Gap, MultiTurnProtocol, Prompt, Try
from sdb_harness.errors import StoreError, UserError, spell_error
from sdb_harness.generators import Generator, Prompted, load_generator
from sdb_harness.judging import Judge
from sdb_harness.records import Cell, Completion, Problem
from sdb_harness.store import Stage, Store, StoredTry
from sdb_harness.sweep import PlannedCell, describe_sampling
from sdb_harness.timing import check_times
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import Status, Verdict

WARM_UP_MARK = "# Warm-up; the next lines only have the right shape.\n"
"""In front of warm-up prompts, so that no prefix cache holds a benchmark prompt afterwards."""


MAX_REASONS = 20
"""Reasons for programs that were not generated or judged that are told at most, the most frequent
first."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run leaves for the next one."""

    num_faults: int
    """Programs that an infrastructure fault left without a row, after one retry."""
    left_out: Mapping[str, str]
    """Cell, for people -> why it could not run (a bad server, say); its other cells ran."""


class Observer(Protocol):
    """Sees the run go by; the command line draws progress bars with it."""

    def warn(self, message: str) -> None:
        """Something that a user should know, and that stops nothing."""
        ...

    def begin_run(self, cells: Sequence[PlannedCell], num_generated: int) -> None:
        """The run starts, with how many of its programs are already generated."""
        ...

    def begin_cell(self, planned: PlannedCell, num_generated: int, num_judged: int) -> None:
        """A cell starts, with what the store already has of it."""
        ...

    def advance(self, stage: Stage) -> None:
        """One more program has passed this stage."""
        ...

    def end_cell(self, planned: PlannedCell, num_judged: int, num_passed: int) -> None:
        """A cell is done, up to infrastructure faults."""
        ...


def run_cells(
    cells: Sequence[PlannedCell],
    store: Store,
    run_id: str,
    sandbox: Sandbox,
    observer: Observer,
) -> RunOutcome:
    """Run every cell as far as it is not stored yet.

    A cell that cannot run (its server answers nonsense, the sampling does not fit its generator) is
    told and left out; the others go on, and what it has stored is kept.

    Raises:
        StoreError: the store cannot be written.
        ValueError, OSError: why the only cell cannot run.
    """
    num_faults = 0
    left_out: dict[str, str] = {}
    generators = _GeneratorHolder()
    hashes = [planned.cell.compute_hash() for planned in cells]
    num_generated = sum(
        len(planned.keys & store.list_generated(cell_hash))
        for planned, cell_hash in zip(cells, hashes, strict=True)
    )
    observer.begin_run(cells, num_generated)
    try:
        for planned, cell_hash in zip(cells, hashes, strict=True):
            store.add_cell(planned.cell)
            progress = store.measure_progress(cell_hash)
            observer.begin_cell(planned, progress.num_generated, progress.num_judged)
            try:
                num_faults += _run_cell(planned, generators, store, run_id, sandbox, observer)
            except StoreError:
                raise
            except (ValueError, OSError) as error:
                if len(cells) == 1:
                    raise
                name = f"{planned.cell.generator} on {planned.cell.benchmark}"
                name = f"{name}, {describe_sampling(planned.cell)}"
                left_out[name] = spell_error(error)
                observer.warn(f"{name} left out: {left_out[name]}")
                continue
            progress = store.measure_progress(cell_hash)
            observer.end_cell(planned, progress.num_judged, progress.num_passed)
    finally:
        generators.close()
    return RunOutcome(num_faults, left_out)


def _run_cell(
    planned: PlannedCell,
    generators: "_GeneratorHolder",
    store: Store,
    run_id: str,
    sandbox: Sandbox,
    observer: Observer,
) -> int:
    """Generate and judge what is missing of a cell; returns the faults."""
    cell, cell_hash, num_faults = planned.cell, planned.cell.compute_hash(), 0
    if isinstance(planned.protocol, MultiTurnProtocol):
        if planned.keys - list_judged(store, cell_hash):
            generator = generators.open(cell)
            protocol = planned.protocol
            return run_tries(planned, protocol, generator, sandbox, store, run_id, observer)
        return 0
    if planned.keys - store.list_generated(cell_hash):
        num_faults = generate_cell(planned, generators.open(cell), store, run_id, observer)
    return num_faults + judge_cell(planned, sandbox, store, run_id, observer)


class _GeneratorHolder:
    """Keeps one generator open: the one of the current cell."""

    def __init__(self) -> None:
        self._spec = ""
        self._generator: Generator | None = None

    def open(self, cell: Cell) -> Generator:
        if self._generator is None or self._spec != cell.generator:
            self.close()
            self._generator = load_generator(cell.generator)
            self._spec = cell.generator
        if self._generator.revision != cell.generator_revision:
            raise UserError(
                f"generator {cell.generator!r} changed from {cell.generator_revision} to "
                f"{self._generator.revision} since the run was planned; run again"
            )
        return self._generator

    def close(self) -> None:
        if self._generator is not None:
            self._generator.close()
        self._generator = None


# Generate


def generate_cell(
    planned: PlannedCell, generator: Generator, store: Store, run_id: str, observer: Observer
) -> int:
    """Generate the programs of a cell that are not stored; returns the faults that remain."""
    cell_hash = planned.cell.compute_hash()

    def keep(prompted: Prompted, completion: Completion) -> None:
        problem = prompted.problem
        store.add_completion(
            cell_hash,
            problem.problem_id,
            problem.group,
            prompted.sample_index,
            run_id,
            completion,
        )
        observer.advance("generate")

    todo = list_missing(planned, store.list_generated(cell_hash))
    return generate_programs(planned.cell, todo, generator, store, run_id, observer, keep)


def generate_programs(
    cell: Cell,
    todo: Sequence[Prompted],
    generator: Generator,
    store: Store,
    run_id: str,
    observer: Observer,
    keep: Callable[[Prompted, Completion], None],
) -> int:
    """Warm up, generate batch by batch and keep each completion; returns the faults that remain."""
    if not todo:
        return 0
    generator.warm_up(build_warm_up(todo[: cell.sampling.batch_size]), cell.sampling)
    found = {f"{cell.generator}/{part}": name for part, name in generator.implementations.items()}
    store.add_implementations(run_id, found)
    faults: dict[int, str] = dict.fromkeys(range(len(todo)), "not generated")
    refusals: list[str] = []
    for _ in range(2):  # the second round retries the faults of the first
        for members in _split(list(faults), cell.sampling.batch_size):
            batch = [todo[member] for member in members]
            for position, completion in _generate_batch(generator, batch, cell):
                prompted = batch[position]
                if completion.finish_reason == "error":
                    faults[members[position]] = completion.error
                    continue
                if completion.finish_reason == "refused":
                    refusals.append(f"{prompted.problem.problem_id}: {completion.error}")
                check_times(completion)
                keep(prompted, completion)
                del faults[members[position]]
    if refusals:
        observer.warn(
            f"{len(refusals)} of {len(todo)} prompts are too long for {cell.generator} and count "
            f"as unanswered; the first is {refusals[0]}"
        )
    for detail, number in Counter(faults.values()).most_common(MAX_REASONS):
        observer.warn(f"{number} programs of {cell.benchmark} not generated: {detail}")
    cell_hash = cell.compute_hash()
    for member, detail in faults.items():
        prompted = todo[member]
        problem_id = prompted.problem.problem_id
        store.add_fault(run_id, "generate", cell_hash, problem_id, prompted.sample_index, detail)
    return len(faults)


def list_missing(planned: PlannedCell, done: set[tuple[str, int]]) -> list[Prompted]:
    """List what has to be generated: sample 0 of every problem, then sample 1, and so on.

    A cell that is stopped early has then seen all problems rather than all samples of a few.
    """
    cell, protocol = planned.cell, planned.protocol
    return [
        Prompted(
            problem=problem,
            prompt=protocol.build_prompt(problem),
            sample_index=index,
            seed=derive_seed(cell.sampling.seed, problem.problem_id, index),
            stop=protocol.choose_stop(problem),
        )
        for index in range(cell.samples_per_problem)
        for problem in planned.problems
        if (problem.problem_id, index) not in done
    ]


def derive_seed(seed: int, problem_id: str, sample_index: int) -> int:
    """Own seed of one sample, in [0, 2**31), whatever else is generated beside it."""
    text = f"{seed}\0{problem_id}\0{sample_index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def build_warm_up(batch: Sequence[Prompted]) -> list[Prompted]:
    """Make prompts of the batch's shape that are not benchmark prompts."""
    return [replace(prompted, prompt=_mark_prompt(prompted.prompt)) for prompted in batch]


def _mark_prompt(prompt: Prompt) -> Prompt:
    if isinstance(prompt, str):
        return WARM_UP_MARK + prompt
    if isinstance(prompt, Gap):
        return replace(prompt, prefix=WARM_UP_MARK + prompt.prefix)
    first, *rest = prompt
    return (ChatMessage(first.role, WARM_UP_MARK + first.content), *rest)


def _generate_batch(
    generator: Generator, batch: Sequence[Prompted], cell: Cell
) -> Iterator[tuple[int, Completion]]:
    """Pass a batch on and hold the generator to its contract: each member exactly once."""
    missing = set(range(len(batch)))
    for position, completion in generator.generate(batch, cell.sampling):
        if position not in missing:
            raise RuntimeError(
                f"{cell.generator} yielded position {position} of a batch of {len(batch)} twice "
                "or out of range"
            )
        missing.remove(position)
        yield position, completion
    if missing:
        raise RuntimeError(f"{cell.generator} never yielded positions {sorted(missing)}")


def _split(members: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(members), size):
        yield members[start : start + size]


# Extract, execute, score


@dataclass(frozen=True, slots=True)
class _Judged:
    """One completion with the program that ran and its verdict."""

    problem_id: str
    sample_index: int
    program: str
    extraction_rule: str
    verdict: Verdict
    observation: str | None = None
    """What the model is shown of a failure, where it is asked again."""
    num_tries: int = 1


def judge_cell(
    planned: PlannedCell, sandbox: Sandbox, store: Store, run_id: str, observer: Observer
) -> int:
    """Judge the stored completions of a cell that have no verdict; returns the faults.

    Equal programs for a problem, frequent at low temperature, are run once and share the verdict.
    """
    cell_hash = planned.cell.compute_hash()
    problems = {problem.problem_id: problem for problem in planned.benchmark.problems}
    judge_of_benchmark = Judge(planned.benchmark, sandbox)
    equals: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for stored in store.list_unjudged(cell_hash):
        if stored.problem_id not in planned.not_judged:
            text = stored.completion.text
            program, rule = planned.protocol.extract(problems[stored.problem_id], text)
            equals[stored.problem_id, program].append((stored.sample_index, rule))

    def judge(
        problem_id: str, program: str, samples: Sequence[tuple[int, str]]
    ) -> Sequence[_Judged]:
        verdict = judge_twice(judge_of_benchmark, problems[problem_id], program)
        return [_Judged(problem_id, index, program, rule, verdict) for index, rule in samples]

    def keep(judged: _Judged) -> None:
        store.add_verdict(
            cell_hash,
            judged.problem_id,
            judged.sample_index,
            judged.program,
            judged.extraction_rule,
            judged.verdict,
        )
        observer.advance("judge")

    jobs = [partial(judge, *key, samples) for key, samples in equals.items()]
    return judge_programs(planned, jobs, sandbox, store, run_id, observer, keep)


def judge_twice(judge: Judge, problem: Problem, program: str) -> Verdict:
    """Judge a program, once more after a fault of ours."""
    verdict = judge.judge(problem, program)
    if verdict.status is Status.INFRASTRUCTURE:
        verdict = judge.judge(problem, program)
    return verdict


def judge_programs(
    planned: PlannedCell,
    jobs: Sequence[Callable[[], Sequence[_Judged]]],
    sandbox: Sandbox,
    store: Store,
    run_id: str,
    observer: Observer,
    keep: Callable[[_Judged], None],
) -> int:
    """Do the jobs in parallel and keep each verdict; returns the faults."""
    cell_hash = planned.cell.compute_hash()
    faults: Counter[str] = Counter()
    pool = ThreadPoolExecutor(max_workers=sandbox.num_slots, thread_name_prefix="judge")
    try:
        ended = as_completed([pool.submit(job) for job in jobs])
        for judged in chain.from_iterable(future.result() for future in ended):
            if judged.verdict.status is Status.INFRASTRUCTURE:
                detail = judged.verdict.detail
                store.add_fault(
                    run_id, "judge", cell_hash, judged.problem_id, judged.sample_index, detail
                )
                faults[detail] += 1
                continue
            keep(judged)
    finally:
        # After an error or Ctrl-C the waiting programs are dropped; the next run judges them.
        pool.shutdown(wait=True, cancel_futures=True)
    for detail, number in faults.most_common(MAX_REASONS):
        observer.warn(f"{number} programs of {planned.cell.benchmark} not judged: {detail}")
    return faults.total()


# Several tries


def run_tries(
    planned: PlannedCell,
    protocol: MultiTurnProtocol,
    generator: Generator,
    sandbox: Sandbox,
    store: Store,
    run_id: str,
    observer: Observer,
) -> int:
    """Ask, judge, and ask those that failed again with what their tests said; returns the faults.

    All samples reply once, then all of them are judged, then the next time: nothing is executed
    while a model generates. A reply that calls for a question back gets it in place of test output,
    and is not judged. A sample that passed or has no try left gets its rows: the completion with
    the counters of all its replies, and the verdict. A rerun goes on where the last one ended.
    """
    cell_hash = planned.cell.compute_hash()
    problems = {problem.problem_id: problem for problem in planned.benchmark.problems}
    judge_of_benchmark = Judge(planned.benchmark, sandbox)
    num_faults = 0
    for number in range(protocol.num_replies):

        def keep_try(prompted: Prompted, completion: Completion, number: int = number) -> None:
            key = prompted.problem.problem_id, prompted.sample_index
            store.add_try(cell_hash, *key, number, run_id, completion)

        if not planned.keys - list_judged(store, cell_hash):
            break
        todo = list_open_tries(planned, protocol, store, number)
        num_faults += generate_programs(
            planned.cell, todo, generator, store, run_id, observer, keep_try
        )
        tries = store.list_tries(cell_hash)

        def judge(problem_id: str, index: int, texts: Sequence[str]) -> Sequence[_Judged]:
            problem = problems[problem_id]
            num_tries = protocol.count_tries(problem, texts)
            program, rule = protocol.extract_tries(problem, texts)
            verdict = judge_twice(judge_of_benchmark, problem, program)
            judged = _Judged(problem_id, index, program, rule, verdict, num_tries=num_tries)
            is_last = num_tries == protocol.num_tries
            if verdict.is_passed or is_last or verdict.status is Status.INFRASTRUCTURE:
                return [judged]
            shown = protocol.observe(sandbox, problem, program, planned.benchmark.limits)
            if shown is None:
                lost = replace(verdict, status=Status.INFRASTRUCTURE, detail="no test output")
                return [replace(judged, verdict=lost)]
            return [replace(judged, observation=shown)]

        def keep(judged: _Judged, number: int = number) -> None:
            key = judged.problem_id, judged.sample_index
            if judged.observation is not None:
                store.add_observation(cell_hash, *key, number, judged.observation)
                return
            whole = join_tries(
                [one.completion for one in tries[key]],  # noqa: B023
                judged.num_tries,
            )
            group = problems[judged.problem_id].group
            store.add_completion(
                cell_hash, judged.problem_id, group, judged.sample_index, run_id, whole
            )
            observer.advance("generate")
            store.add_verdict(
                cell_hash, *key, judged.program, judged.extraction_rule, judged.verdict
            )
            observer.advance("judge")

        left = planned.keys - list_judged(store, cell_hash)
        waiting = []
        for key, made in tries.items():
            if key not in left or len(made) != number + 1 or made[-1].observation is not None:
                continue
            texts = [one.completion.text for one in made]
            if question := protocol.find_question(problems[key[0]], texts):
                store.add_observation(cell_hash, *key, number, question)
            else:
                waiting.append(partial(judge, *key, texts))
        num_faults += judge_programs(planned, waiting, sandbox, store, run_id, observer, keep)
    return num_faults


def list_judged(store: Store, cell_hash: str) -> set[tuple[str, int]]:
    """The samples of a cell that have their final verdict."""
    unjudged = {(one.problem_id, one.sample_index) for one in store.list_unjudged(cell_hash)}
    return store.list_generated(cell_hash) - unjudged


def list_open_tries(
    planned: PlannedCell, protocol: MultiTurnProtocol, store: Store, number: int
) -> list[Prompted]:
    """List the samples whose reply `number` (from 0) has to be generated."""
    cell_hash = planned.cell.compute_hash()
    tries, done = store.list_tries(cell_hash), list_judged(store, cell_hash)
    todo = []
    for prompted in list_missing(planned, done):
        made = tries.get((prompted.problem.problem_id, prompted.sample_index), [])
        if len(made) != number or (made and made[-1].observation is None):
            continue
        if made:
            prompt = protocol.ask_again(prompted.problem, [show_try(one) for one in made])
            seed = derive_seed(prompted.seed, prompted.problem.problem_id, number)
            prompted = replace(prompted, prompt=prompt, seed=seed)
        todo.append(prompted)
    return todo


def show_try(stored: StoredTry) -> Try:
    """A stored try as the next prompt shows it."""
    return Try(stored.completion.text, stored.observation or "")


def join_tries(replies: Sequence[Completion], num_tries: int) -> Completion:
    """One completion with the counters and times of all replies, one after the other.

    Text and finish reason are the last one's. Commit sizes are kept where every reply has them.
    """
    before_s = 0.0
    times_s: list[float] = []
    for one in replies:
        times_s += [before_s + time_s for time_s in one.commit_times_s]
        before_s += one.e2e_s
    has_sizes = all(len(one.commit_tokens) == len(one.commit_times_s) for one in replies)
    return replies[-1].model_copy(
        update={
            "token_ids": tuple(token for one in replies for token in one.token_ids),
            "output_tokens": sum(one.output_tokens for one in replies),
            "nfe_prefill": sum(one.nfe_prefill for one in replies),
            "nfe_denoise": sum(one.nfe_denoise for one in replies),
            "nfe_commit": sum(one.nfe_commit for one in replies),
            "commit_times_s": tuple(times_s),
            "commit_tokens": tuple(size for one in replies for size in one.commit_tokens)
            if has_sizes
            else (),
            "e2e_s": before_s,
            "num_tries": num_tries,
        }
    )
