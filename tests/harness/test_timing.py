"""The clock counts from submission, and contradicting counters are refused."""

import pytest

from sdb_harness.records import Completion
from sdb_harness.timing import CommitClock, check_times


def make_completion(
    times: tuple[float, ...], tokens: tuple[int, ...], output_tokens: int, e2e_s: float
) -> Completion:
    return Completion(
        text="",
        token_ids=(),
        output_tokens=output_tokens,
        finish_reason="stop",
        commit_times_s=times,
        commit_tokens=tokens,
        e2e_s=e2e_s,
    )


def test_clock_gives_rising_times_and_ends_at_the_last_commit() -> None:
    clock = CommitClock()
    before = clock.read_e2e_s()
    clock.commit(4)
    clock.commit(2)
    assert 0 <= before <= clock.commit_times_s[0] <= clock.commit_times_s[1] == clock.read_e2e_s()
    times, tokens = tuple(clock.commit_times_s), tuple(clock.commit_tokens)
    check_times(make_completion(times, tokens, 6, clock.read_e2e_s()))


def test_generators_without_commits_are_allowed() -> None:
    check_times(make_completion((), (), 5, 0.0))


def test_times_without_sizes_are_allowed_but_still_checked() -> None:
    check_times(make_completion((1.0, 2.0), (), 5, 2.0))
    with pytest.raises(ValueError, match="must rise"):
        check_times(make_completion((2.0, 1.0), (), 5, 2.0))


@pytest.mark.parametrize(
    ("times", "tokens", "output_tokens", "e2e_s", "message"),
    [
        ((1.0,), (4,), 5, 1.0, "commits carry 4 tokens, output_tokens=5"),
        ((1.0,), (4, 1), 5, 1.0, "1 commit times for 2 commit sizes"),
        ((), (5,), 5, 1.0, "0 commit times for 1 commit sizes"),
        ((2.0, 1.0), (4, 1), 5, 2.0, "must rise"),
        ((1.0, 2.0), (4, 1), 5, 1.5, "end by e2e_s=1.5"),
    ],
)
def test_contradictions_are_refused(
    times: tuple[float, ...],
    tokens: tuple[int, ...],
    output_tokens: int,
    e2e_s: float,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        check_times(make_completion(times, tokens, output_tokens, e2e_s))
