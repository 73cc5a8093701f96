"""Whatever comes over the wire: never a crash of the judge, never a pass, never a fault of ours."""

import json
import math
import secrets
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdb_sandboxes.agent.codec import (
    MAX_FRAME_BYTES,
    Foreign,
    ProtocolError,
    UnsendableError,
    decode,
    encode,
    pack_frame,
    parse_frame,
)
from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.errors import RunStopped
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.slot import read_outcome, read_report
from sdb_sandboxes.types import (
    AssertionCheck,
    CallOutcome,
    Case,
    FunctionCheck,
    ResourceLimits,
    Status,
)
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.comparison import is_equal

SECRET = secrets.token_hex(16)
"""The right answer, which no frame below can hold."""
CHECKS = (
    FunctionCheck("f", (Case((1,), SECRET),)),
    AssertionCheck("f", f"def check(candidate):\n    assert candidate(1) == {SECRET!r}\n"),
)
LIMITS = ResourceLimits(cpu_s=1.0, wall_s=20.0)

TEXTS = st.text(st.characters(exclude_categories=()))
KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    TEXTS,
    st.binary(),
)
"""Without NaN, which no rule finds again in a set."""
HASHABLE = st.recursive(
    KEYS,
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
SCALARS = st.one_of(KEYS, st.just(math.nan), st.just(complex(math.nan, 1)))
PLAIN = st.recursive(
    st.one_of(SCALARS, st.sets(HASHABLE, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(HASHABLE, inner, max_size=3),
    ),
    max_leaves=10,
)
TAGS = st.sampled_from(
    "i b o c d t s f v e m a k id ready locked failed stage pong ping nonce num_calls".split()
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    TEXTS,
    st.sampled_from(["0x1", "ff", "nan", "SyntaxError", "compile", "StopIteration", "SystemExit"]),
)
WIRE: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(TAGS, inner, max_size=3),
        st.tuples(TAGS, inner).map(lambda pair: {pair[0]: pair[1]}),
    ),
    max_leaves=12,
)
REPLIES = st.builds(
    lambda first, more: {**first, **more},
    st.fixed_dictionaries({"id": st.sampled_from([1, 0, True, 1.0, "1", None])}),
    st.dictionaries(TAGS, WIRE, max_size=4),
)


def frame(message: Any) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack("<I", len(body)) + body


FRAMES = st.one_of(
    WIRE.map(frame),
    REPLIES.map(frame),
    st.binary(max_size=40),
    st.binary(max_size=20).map(lambda body: struct.pack("<I", len(body)) + body),
    st.builds(lambda whole, cut: whole[:cut], REPLIES.map(frame), st.integers(0, 60)),
    st.sampled_from([0, 1, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, (1 << 32) - 1]).map(
        lambda length: struct.pack("<I", length)
    ),
)


def is_plain(value: Any) -> bool:
    """Exact types of the codec all the way down."""
    if type(value) is dict:
        return all(is_plain(k) and is_plain(v) for k, v in value.items())
    if type(value) in (list, tuple, set, frozenset):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, complex, str, bytes, Foreign)


@settings(max_examples=300, deadline=None)
@given(value=PLAIN)
def test_plain_data_travels_unchanged(value: Any) -> None:
    back = decode(parse_frame(pack_frame({"v": encode(value)})[4:])["v"])
    assert is_equal(value, back, "exact")
    assert is_plain(back)


@settings(max_examples=300, deadline=None)
@given(wire=WIRE)
def test_any_json_is_plain_data_or_refused(wire: Any) -> None:
    try:
        value = decode(wire)
    except ProtocolError:
        return
    assert is_plain(value)
    assert not is_equal(SECRET, value, "python_equality")
    try:
        again = decode(json.loads(json.dumps(encode(value))))
    except UnsendableError:
        return  # a foreign object inside
    assert is_plain(again)


@settings(max_examples=300, deadline=None)
@given(body=st.one_of(st.binary(max_size=200), WIRE.map(json.dumps).map(str.encode)))
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    try:
        assert type(parse_frame(body)) is dict
    except ProtocolError:
        pass


@settings(max_examples=300, deadline=None)
@given(reply=REPLIES, number=st.integers(1, 2))
def test_any_reply_is_an_outcome_or_stops_the_run(reply: dict[str, Any], number: int) -> None:
    status, detail = Status.RUNTIME_ERROR, ""
    try:
        outcome = read_outcome(reply, number)
        assert isinstance(outcome, CallOutcome)
        detail = outcome.exception or ""
    except RunStopped as stopped:
        status, detail = stopped.status, stopped.detail
    assert status is Status.RUNTIME_ERROR
    assert detail.isprintable()


@settings(max_examples=300, deadline=None)
@given(report=st.dictionaries(st.one_of(TAGS, st.just("error"), st.just("is_candidates")), WIRE))
def test_no_report_passes_without_the_nonce(report: dict[str, Any]) -> None:
    with pytest.raises(RunStopped) as caught:
        read_report(report, SECRET)
    assert caught.value.status is not Status.PASSED


@pytest.fixture(scope="module")
def sandbox() -> Iterator[EmbeddedSandbox]:
    with EmbeddedSandbox(1) as sandbox:
        yield sandbox


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    frames=st.lists(FRAMES, min_size=1, max_size=3),
    is_early=st.booleans(),
    check=st.sampled_from(CHECKS),
)
def test_no_bytes_of_a_cell_pass_or_harm(
    sandbox: Sandbox, frames: list[bytes], is_early: bool, check: FunctionCheck | AssertionCheck
) -> None:
    attack = f"import os\nos.write(3, {b''.join(frames)!r})\nos._exit(0)\n"
    body = "".join(f"    {line}\n" for line in attack.splitlines())
    program = attack if is_early else f"def f(n):\n{body}"
    verdict = verify(sandbox, program, check, LIMITS)
    assert verdict.status not in (Status.PASSED, Status.INFRASTRUCTURE), verdict
    assert math.isfinite(verdict.cpu_s)
    assert verdict.detail.isascii()
    assert verdict.detail.isprintable()
    assert "slot" not in verdict.detail, "the slot was lost"
    canary = verify(sandbox, f"def f(n): return {SECRET!r}", check)
    assert canary.is_passed, canary
