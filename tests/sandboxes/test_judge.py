"""A judge from threads, event loops, forked and spawned processes; order, cancelling, bounds."""

import asyncio
import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from sdb_sandboxes.errors import SandboxError
from sdb_sandboxes.rewards import Candidate, Judge
from sdb_sandboxes.rewards import judge as judge_module
from sdb_sandboxes.rewards.verl import VerlReward
from sdb_sandboxes.types import (
    AssertionCheck,
    CallOutcome,
    Case,
    ExecutionRequest,
    ExecutionResult,
    FunctionCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
)
from sdb_sandboxes.wire import check_to_json

CHECK = FunctionCheck("f", (Case((3,), 3), Case((4,), 4)))
RIGHT = "def f(x): return x\n"
WRONG = "def f(x): return 3\n"


class Scripted:
    """A sandbox of one slot that waits for the test and answers what the test says."""

    def __init__(self) -> None:
        self.level, self.image, self.num_slots = "scripted", "", 1
        self.is_open = threading.Event()
        self.has_started = threading.Semaphore(0)
        self.seen: list[str] = []
        self.statuses: list[Status] = []
        self.is_closed = False

    def call_functions(self, request: ExecutionRequest) -> ExecutionResult:
        self.has_started.release()
        assert self.is_open.wait(60)
        self.seen.append(request.program)
        status = self.statuses.pop(0) if self.statuses else Status.PASSED
        outcomes = tuple(CallOutcome(arguments[0]) for _, arguments in request.calls)
        return ExecutionResult(status, outcomes, 0.0, 0.0, 0)

    def run_assertions(
        self, program: str, check: AssertionCheck, limits: ResourceLimits
    ) -> ExecutionResult:
        raise NotImplementedError

    def run_program(self, request: ProgramRequest) -> ExecutionResult:
        raise NotImplementedError

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """The sandbox that every judge of the test opens."""
    sandbox = Scripted()
    monkeypatch.setattr(judge_module, "open_sandbox", lambda name, num_slots: sandbox)
    yield sandbox
    sandbox.is_open.set()
    judge_module.close_all()


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    judge = Judge(num_slots=1)
    yield judge
    judge.close()


def test_verdicts_come_in_the_order_of_the_programs(judge: Judge) -> None:
    candidates = [Candidate(program, CHECK) for program in (RIGHT, WRONG, "def f(x", RIGHT)]
    statuses = [verdict.status for verdict in judge.verify_batch(candidates)]
    assert statuses == [
        Status.PASSED,
        Status.WRONG_ANSWER,
        Status.COMPILE_ERROR,
        Status.PASSED,
    ]
    assert judge.verify(RIGHT, check_to_json(CHECK)).is_passed
    assert judge.verify_batch([]) == []


def test_the_event_loop_stays_free_while_programs_run(judge: Judge) -> None:
    async def judge_many() -> list[Status]:
        verdicts = await asyncio.gather(
            *(judge.verify_async(f"{RIGHT}# {number}", CHECK) for number in range(8))
        )
        return [verdict.status for verdict in verdicts]

    assert asyncio.run(judge_many()) == [Status.PASSED] * 8


def test_limits_of_a_candidate_outrank_the_judges(judge: Judge) -> None:
    looping = Candidate("while True: pass", CHECK, ResourceLimits(cpu_s=0.1))
    assert judge.verify_batch([looping])[0].status is Status.CPU_TIME


def test_a_malformed_check_is_the_callers_error(judge: Judge) -> None:
    with pytest.raises(ValueError, match="has no case"):
        judge.verify(RIGHT, FunctionCheck("f", ()))
    with pytest.raises(ValueError, match="the check is not JSON"):
        judge.verify(RIGHT, "assert f(1) == 1")
    assert judge.verify(RIGHT, CHECK).is_passed


def test_equal_programs_are_judged_once(scripted: Scripted) -> None:
    judge = Judge()
    scripted.is_open.set()
    verdicts = judge.verify_batch([Candidate(RIGHT, CHECK)] * 5 + [Candidate(WRONG, CHECK)])
    assert all(verdict.is_passed for verdict in verdicts)
    judge.verify(RIGHT, check_to_json(CHECK))
    assert sorted(scripted.seen) == sorted([RIGHT, WRONG])


def test_another_check_or_limit_is_another_judgement(scripted: Scripted) -> None:
    judge = Judge()
    scripted.is_open.set()
    judge.verify(RIGHT, CHECK)
    judge.verify(RIGHT, FunctionCheck("f", (Case((5,), 5),)))
    judge.verify(RIGHT, CHECK, ResourceLimits(cpu_s=9.0))
    assert len(scripted.seen) == 3


def test_nothing_is_remembered_if_so_configured(scripted: Scripted) -> None:
    scripted.is_open.set()
    Judge(num_remembered=0).verify_batch([Candidate(RIGHT, CHECK)] * 3)
    assert len(scripted.seen) == 3


def test_only_so_many_verdicts_are_remembered(scripted: Scripted) -> None:
    judge = Judge(num_remembered=1)
    scripted.is_open.set()
    for program in (RIGHT, WRONG, WRONG, RIGHT):
        judge.verify(program, CHECK)
    assert scripted.seen == [RIGHT, WRONG, RIGHT]


def test_a_fault_of_ours_is_tried_again_and_never_remembered(scripted: Scripted) -> None:
    judge = Judge()
    scripted.is_open.set()
    scripted.statuses = [Status.INFRASTRUCTURE, Status.PASSED]
    assert judge.verify(RIGHT, CHECK).is_passed
    scripted.statuses = [Status.INFRASTRUCTURE, Status.INFRASTRUCTURE, Status.PASSED]
    assert judge.verify(WRONG, CHECK).status is Status.INFRASTRUCTURE
    assert judge.verify(WRONG, CHECK).is_passed


def test_a_wall_time_is_not_remembered(scripted: Scripted) -> None:
    judge = Judge()
    scripted.is_open.set()
    scripted.statuses = [Status.WALL_TIME, Status.PASSED]
    assert judge.verify(RIGHT, CHECK).status is Status.WALL_TIME
    assert judge.verify(RIGHT, CHECK).is_passed


def test_a_late_group_does_not_wait_behind_a_flood(scripted: Scripted) -> None:
    judge = Judge()
    flood = [Candidate(f"{number}", CHECK) for number in range(9)]

    async def judge_both() -> None:
        flooding = asyncio.create_task(judge.verify_batch_async(flood, "flood"))
        await asyncio.to_thread(scripted.has_started.acquire)
        late = asyncio.create_task(judge.verify_async("late", CHECK, group="late"))
        crew = judge_module.open_crew(judge)
        while len(crew._pending) < 10:
            await asyncio.sleep(0)
        scripted.is_open.set()
        await asyncio.gather(flooding, late)

    asyncio.run(judge_both())
    assert scripted.seen.index("late") <= 2


def test_candidates_are_drawn_only_as_places_free(scripted: Scripted) -> None:
    judge = Judge(max_waiting=2)
    num_drawn = 0
    drawn_ahead: list[int] = []

    def draw() -> Iterator[Candidate]:
        nonlocal num_drawn
        for number in range(40):
            num_drawn += 1
            drawn_ahead.append(num_drawn - len(scripted.seen))
            if number == 3:  # one runs, two wait, one is in hand
                scripted.is_open.set()
            yield Candidate(f"{number}", CHECK)

    assert len(judge.verify_batch(draw())) == 40
    assert max(drawn_ahead) <= 5  # one more may be between two places


def test_cancelling_takes_back_what_waits(scripted: Scripted) -> None:
    judge = Judge(max_waiting=2)

    async def cancel_and_go_on() -> None:
        task = asyncio.create_task(
            judge.verify_batch_async([Candidate(f"{number}", CHECK) for number in range(9)])
        )
        await asyncio.to_thread(scripted.has_started.acquire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        after = asyncio.create_task(judge.verify_batch_async([Candidate("after", CHECK)] * 2))
        scripted.is_open.set()
        assert [verdict.is_passed for verdict in await after] == [True, True]

    asyncio.run(cancel_and_go_on())
    assert scripted.seen == ["0", "after"]


def test_who_cancels_does_not_take_it_from_another(scripted: Scripted) -> None:
    judge = Judge()

    async def cancel_one() -> bool:
        running = asyncio.create_task(judge.verify_async("first", CHECK))
        await asyncio.to_thread(scripted.has_started.acquire)
        gone = asyncio.create_task(judge.verify_async("shared", CHECK))
        patient = asyncio.create_task(judge.verify_async("shared", CHECK))
        crew = judge_module.open_crew(judge)
        while sum(len(work.tickets) for work in crew._pending.values()) < 3:
            await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        scripted.is_open.set()
        await running
        return (await patient).is_passed

    assert asyncio.run(cancel_one())
    assert scripted.seen == ["first", "shared"]


def test_closing_refuses_what_waits_and_ends_what_runs(scripted: Scripted) -> None:
    judge = Judge()
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(judge.verify, "running", CHECK)
        assert scripted.has_started.acquire(timeout=60)
        waiting = pool.submit(judge.verify, "waiting", CHECK)
        crew = judge_module.open_crew(judge)
        while len(crew._pending) < 2:
            threading.Event().wait(0.001)
        closing = pool.submit(judge.close)
        with pytest.raises(SandboxError, match="closed before this program ran"):
            waiting.result(60)
        scripted.is_open.set()
        assert running.result(60).is_passed
        closing.result(60)
    assert scripted.is_closed


def test_a_closed_judge_opens_again() -> None:
    judge = Judge(num_slots=1, max_waiting=7)
    assert judge.verify(RIGHT, CHECK).is_passed
    judge.close()
    judge.close()
    assert judge.open().startswith("embedded/")
    assert judge.verify(RIGHT, CHECK).is_passed
    judge.close()


def test_equal_configurations_share_a_sandbox(judge: Judge) -> None:
    copied = pickle.loads(pickle.dumps(judge))
    assert copied == judge
    assert judge_module.open_crew(copied) is judge_module.open_crew(judge)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_open_their_own_sandbox(judge: Judge, method: str) -> None:
    """As verl's and Ray's workers do: the reward is pickled, the parent's sandbox is open."""
    assert judge.verify(RIGHT, CHECK).is_passed
    reward, text = VerlReward(judge), check_to_json(CHECK)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        scores = list(pool.map(reward, ["minipy"] * 4, [RIGHT, WRONG] * 2, [text] * 4))
    assert [score["score"] for score in scores] == [1.0, 0.0] * 2
    assert judge.verify(f"{RIGHT}# after {method}", CHECK).is_passed


RAY_WORKERS = """
import ray
from sdb_sandboxes.rewards import Judge
from sdb_sandboxes.rewards.verl import VerlReward
from sdb_sandboxes.types import Case, FunctionCheck
from sdb_sandboxes.wire import check_to_json

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
judge = Judge(num_slots=1)
right, wrong = "def f(x): return x", "def f(x): return 3"
check = FunctionCheck("f", (Case((3,), 3), Case((4,), 4)))
assert judge.verify(right, check).is_passed  # this process's sandbox is open
reward = VerlReward(judge)


@ray.remote
def score(program):
    return reward("minipy", program, check_to_json(check))["score"]


print(ray.get([score.remote(program) for program in [right, wrong] * 2], timeout=120))
judge.close()
ray.shutdown()
"""


@pytest.mark.slow
def test_ray_workers_open_their_own_sandbox() -> None:
    pytest.importorskip("ray")
    result = subprocess.run([sys.executable, "-c", RAY_WORKERS], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["[1.0, 0.0, 1.0, 0.0]"], result.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"max_waiting": 0}, "max_waiting=0"), ({"num_remembered": -1}, "num_remembered=-1")],
)
def test_settings_out_of_range_are_named(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Judge(**settings)  # type: ignore[arg-type]


def test_the_first_example_of_the_documentation_runs() -> None:
    text = (Path(__file__).parents[2] / "docs/rewards.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "passed 2\n", result.stderr
