"""Groups take turns, places are bounded, nothing is lost."""

from concurrent.futures import Future
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdb_sandboxes.errors import SandboxError
from sdb_sandboxes.rewards.fair_queue import FairQueue, Turns

GROUPS = st.lists(st.sampled_from("abc"), max_size=30)


@given(groups=GROUPS)
def test_groups_take_turns_and_keep_their_order(groups: list[str]) -> None:
    turns: Turns[tuple[str, int]] = Turns()
    for number, group in enumerate(groups):
        turns.add(group, (group, number))
    order = []
    while turns:
        order.append(turns.pop())
    assert sorted(order) == sorted((group, number) for number, group in enumerate(groups))
    for group in "abc":
        numbers = [number for name, number in order if name == group]
        assert numbers == sorted(numbers)
    # As long as several groups have something, no group comes twice in a row.
    for place, (first, second) in enumerate(pairwise(order)):
        others = {name for name, _ in order[place + 1 :]} - {first[0]}
        assert first[0] != second[0] or not others


def _fill(queue: FairQueue[str], group: str, items: str) -> list[Future[None]]:
    places = []
    for item in items:
        places.append(queue.ask_place(group))
        places[-1].add_done_callback(lambda _, item=item: queue.put(group, item))  # type: ignore[misc]
    return places


def test_a_late_group_does_not_wait_behind_a_flood() -> None:
    queue: FairQueue[str] = FairQueue(100)
    _fill(queue, "flood", "123456789")
    _fill(queue, "late", "x")
    assert [queue.take() for _ in range(3)] == ["1", "x", "2"]


def test_places_are_bounded_and_given_in_turns() -> None:
    queue: FairQueue[str] = FairQueue(2)
    first, second, third = (queue.ask_place("flood") for _ in range(3))
    late = queue.ask_place("late")
    assert [place.done() for place in (first, second, third, late)] == [True, True, False, False]
    queue.put("flood", "1")
    queue.put("flood", "2")
    assert queue.take() == "1"
    assert (third.done(), late.done()) == (True, False)
    assert queue.take() == "2"
    assert late.done()


def test_who_stops_asking_gets_no_place() -> None:
    queue: FairQueue[str] = FairQueue(1)
    queue.ask_place("a")
    gone, patient = queue.ask_place("a"), queue.ask_place("a")
    assert gone.cancel()
    queue.free_place()
    assert patient.done()


def test_an_item_taken_back_frees_its_place() -> None:
    queue: FairQueue[str] = FairQueue(1)
    queue.ask_place("a")
    queue.put("a", "1")
    waiting = queue.ask_place("a")
    assert queue.remove("a", "1")
    assert waiting.done()
    assert not queue.remove("a", "1")


def test_closing_tells_everyone() -> None:
    queue: FairQueue[str] = FairQueue(1)
    queue.ask_place("a")
    queue.put("a", "1")
    waiting = queue.ask_place("a")
    assert queue.close() == ["1"]
    assert queue.take() is None
    with pytest.raises(SandboxError, match="closed before this program ran"):
        waiting.result()
    with pytest.raises(SandboxError, match="closed before this program ran"):
        queue.ask_place("a").result()
    with pytest.raises(SandboxError, match="closed before this program ran"):
        queue.put("a", "2")
