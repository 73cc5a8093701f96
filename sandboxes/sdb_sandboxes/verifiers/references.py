"""L3 with an oracle: the right answers are what a reference program answers, in the same sandbox.

Place in the flow: `verify` with a `ReferenceCheck`; how EvalPlus judges, whose data has inputs and
a reference but no outputs. The reference runs in a cell of its own, and what it answers becomes a
`FunctionCheck`; its answers are kept for later sessions, as long as nothing changes that matters
(`answers.py`). A reference that fails here is a fault of the data or the machine: status
INFRASTRUCTURE, never the candidate's.

What it does not do: the reference never runs on the host, and its answers never enter a cell. What
a call does to its arguments is not looked at: every call gets its own copy of the inputs.
"""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    CallOutcome,
    Calls,
    Case,
    ExecutionRequest,
    ExecutionResult,
    FunctionCheck,
    ReferenceCheck,
    ResourceLimits,
    Status,
    Verdict,
)
from sdb_sandboxes.verifiers.answers import run_trusted
from sdb_sandboxes.verifiers.functions import judge_calls
from sdb_sandboxes.verifiers.verdicts import build_verdict

PATIENCE = 20
"""How many times the candidate's time the reference may take before it counts as broken."""
MAX_REFERENCE_BYTES = 1 << 29
"""Bytes that the answers of a reference may take."""
MAX_ORACLES = 4096
"""Answers kept for one sandbox, in checks."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """What a reference was found to answer, or why it could not."""

    check: FunctionCheck | None
    result: ExecutionResult
    """Of the reference itself: its CPU seconds scale the candidate's limit."""
    answer_bytes: int = 0
    """What its answers take: the candidate's may take twice that."""
    calls: Calls = ()
    """Those of the check, packed already."""


def verify_reference(
    sandbox: Sandbox, program: str, check: ReferenceCheck, limits: ResourceLimits
) -> Verdict:
    """Judge by the reference's answers. All cases must be right."""
    if not check.inputs:
        raise ValueError(
            f"the check of {check.entry_point!r} has no input; zero tests prove nothing"
        )
    oracle = find_oracle(sandbox, check, limits)
    if oracle.check is None:
        result, num_tests = oracle.result, len(check.inputs)
        status = Status.INFRASTRUCTURE
        return build_verdict(sandbox, result, status, result.detail, "L3", num_tests, 0, 0)
    limits = scale_limits(limits, oracle.result.cpu_s, check.cpu_factor)
    limits = replace(limits, answer_bytes=max(limits.answer_bytes, 2 * oracle.answer_bytes))
    return judge_calls(sandbox, program, oracle.check, oracle.calls, limits)


def scale_limits(limits: ResourceLimits, cpu_s: float, factor: float) -> ResourceLimits:
    """Limits with at least `factor` times `cpu_s` CPU seconds; the wall bound grows alike."""
    scale = max(1.0, factor * cpu_s / limits.cpu_s)
    return replace(limits, cpu_s=limits.cpu_s * scale, wall_s=limits.wall_s * scale)


class Session:
    """The oracles of one open sandbox; each is computed once, whoever asks first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.oracles: OrderedDict[int, tuple[ReferenceCheck, Future[Oracle]]] = OrderedDict()

    def find(self, sandbox: Sandbox, check: ReferenceCheck, limits: ResourceLimits) -> Oracle:
        """Compute the oracle, or wait for whoever computes it."""
        # By identity: a check holds lists, and comparing all inputs would cost more than a call.
        key = id(check)
        with self.lock:
            known = self.oracles.get(key)
            future = Future[Oracle]() if known is None else known[1]
            self.oracles[key] = (check, future)
            if len(self.oracles) > MAX_ORACLES:
                self.oracles.popitem(last=False)
        if known is None:
            try:
                future.set_result(compute_oracle(sandbox, check, limits))
            except BaseException as error:
                future.set_exception(error)
            if future.exception() is not None or future.result().check is None:
                with self.lock:
                    self.oracles.pop(key, None)  # so that the next one tries again
        return future.result()


SESSIONS: WeakKeyDictionary[Sandbox, Session] = WeakKeyDictionary()


def find_oracle(sandbox: Sandbox, check: ReferenceCheck, limits: ResourceLimits) -> Oracle:
    """The reference's answers in this sandbox: computed before, or now."""
    return SESSIONS.setdefault(sandbox, Session()).find(sandbox, check, limits)


def compute_oracle(sandbox: Sandbox, check: ReferenceCheck, limits: ResourceLimits) -> Oracle:
    """Run the reference, and the alternatives, on every input, or recall what they answered.

    An alternative that fails on an input has no answer there; the reference must have them all.
    """
    limits = replace(
        limits,
        cpu_s=limits.cpu_s * PATIENCE,
        wall_s=limits.wall_s * PATIENCE,
        answer_bytes=MAX_REFERENCE_BYTES,
    )
    calls = tuple((check.entry_point, arguments) for arguments in check.inputs)
    result, num_bytes = run_trusted(sandbox, ExecutionRequest(check.reference, calls, limits))
    failure = find_failure(result, check)
    if failure:
        return Oracle(None, replace(result, detail=f"the reference fails here: {failure}"))
    others = []
    for program in check.alternatives:
        other, _ = run_trusted(sandbox, ExecutionRequest(program, calls, limits))
        if other.status is Status.INFRASTRUCTURE:
            return Oracle(None, other)
        unanswered = (CallOutcome(exception="unanswered"),) * len(calls)
        others.append((other.outcomes + unanswered)[: len(calls)])
    cases = tuple(
        Case(
            arguments,
            read_answer(outcome, check),
            tuple(other[i].value for other in others if other[i].exception is None),
        )
        for i, (arguments, outcome) in enumerate(zip(check.inputs, result.outcomes, strict=True))
    )
    found = FunctionCheck(check.entry_point, cases, check.comparison, check.tolerance)
    return Oracle(found, result, num_bytes, calls)


def find_failure(result: ExecutionResult, check: ReferenceCheck) -> str:
    """Why the reference's answers cannot be used; empty if they can."""
    if result.status is not Status.PASSED:
        return f"{result.status}: {result.detail}"
    for number, outcome in enumerate(result.outcomes, 1):
        is_any_object = outcome.exception == "Undecodable" and check.comparison == "not_none"
        if outcome.exception is not None and not is_any_object:
            return f"call {number} of {check.entry_point} gave {outcome.exception}"
    return ""


def read_answer(outcome: CallOutcome, check: ReferenceCheck) -> object:
    """The reference's answer, as the comparison wants it: for `not_none` a yes or a no."""
    if check.comparison != "not_none":
        return outcome.value
    return outcome.exception == "Undecodable" or outcome.value not in (None, False)
