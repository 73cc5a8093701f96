"""Things made of a check and kept by identity."""

import pytest

from sdb_sandboxes.remember import Remember


def test_makes_once_for_each_object_not_for_each_value() -> None:
    made: list[list[int]] = []

    def make(source: list[int]) -> int:
        made.append(source)
        return sum(source)

    remember = Remember(make)
    first, second = [1, 2], [1, 2]
    assert [remember(first), remember(second), remember(first)] == [3, 3, 3]
    assert [id(source) for source in made] == [id(first), id(second)]


def test_keeps_the_latest_and_never_mistakes_a_new_object_for_a_lost_one() -> None:
    remember: Remember[list[int], int] = Remember(lambda source: source[0], max_kept=3)
    assert [remember([n]) for n in range(1000)] == list(range(1000))
    assert len(remember.kept) == 3


def test_a_failure_is_not_kept() -> None:
    empty: list[int] = []
    remember: Remember[list[int], int] = Remember(lambda source: source[0])
    for _ in range(2):
        with pytest.raises(IndexError):
            remember(empty)
    assert not remember.kept
