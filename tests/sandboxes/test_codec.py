"""The closed plain-data codec: what passes, what is refused, what cannot hurt the judge."""

import collections
import enum
import json
import marshal
import math
import sys
from typing import Any, NamedTuple

import pytest

from sdb_sandboxes.agent.codec import (
    Foreign,
    ProtocolError,
    UnsendableError,
    decode,
    encode,
    pack_frame,
    pack_order,
    parse_frame,
    simplify,
)


class Color(enum.IntEnum):
    RED = 3


class Point(NamedTuple):
    x: int
    y: int


class Liar(list[int]):
    def __eq__(self, other: object) -> bool:
        return True

    def __iter__(self) -> Any:
        raise RuntimeError


def travel(value: Any) -> Any:
    return decode(parse_frame(pack_frame({"v": encode(value)})[4:])["v"])


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 1 << 53, -(10**99), 0.1, -0.0, math.inf, 5e-324, 1 - 2j, "",
        "\0ä\ud800",
        b"\xff", [], [[1]], (), (1,), {}, {1: 2, "1": 3, (1, 2): [4]}, set(), {1, "a"},
        frozenset({frozenset()}), {"i": "0x1"}, {"t": [1]}, [{"d": []}],
    ],
)  # fmt: skip
def test_plain_data_comes_back_the_same(value: Any) -> None:
    back = travel(value)
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        [1, "a", 0.5, None, True], [1 << 60, 1],
        [-(1 << 60), "a"], (1, [2, (3, {4})]), [[1], [[2]]],
        {"a": [1], (1, 2): {3: frozenset({4})}}, [True, 1 << 53, 2], [Color.RED], Point(1, 2),
        [collections.Counter("ab")], {Color.RED: Liar([1])}, [b"a", 1j], ["\ud800", "\0"],
    ],
)  # fmt: skip
def test_both_ways_in_carry_the_same(value: Any) -> None:
    there = marshal.loads(pack_order(simplify(value))[4:])
    assert repr(there) == repr(travel(value))


def test_one_list_in_two_places_arrives_as_two() -> None:
    shared = [1]
    first, second = marshal.loads(pack_order(simplify([shared, shared]))[4:])
    assert first == second == [1]
    assert first is not second


@pytest.mark.parametrize("value", [object(), [iter([])], {1: range(3)}, bytearray(b"a")])
def test_nothing_else_goes_in(value: Any) -> None:
    with pytest.raises(UnsendableError):
        simplify(value)


def test_nan_and_very_long_numbers_travel() -> None:
    assert math.isnan(travel(math.nan))
    assert travel(10**5000) == 10**5000


def test_subclasses_travel_as_their_plain_base() -> None:
    values = [
        collections.Counter("aa"),
        Point(1, 2),
        Color.RED,
        Liar([1, 2]),
        collections.OrderedDict(),
    ]
    back = travel(values)
    assert [type(item) for item in back] == [dict, tuple, int, list, dict]
    assert back == [{"a": 2}, (1, 2), 3, [1, 2], {}]


@pytest.mark.parametrize(
    "value", [object(), iter([]), range(3), bytearray(b"a"), print, [object()]]
)
def test_other_objects_are_refused(value: Any) -> None:
    with pytest.raises(UnsendableError):
        encode(value)


def test_depth_and_size_are_capped() -> None:
    nested: list[Any] = []
    for _ in range(1000):
        nested = [nested]
    with pytest.raises(UnsendableError):
        encode(nested)
    with pytest.raises(UnsendableError):
        pack_frame({"v": "x" * (17 << 20)})


@pytest.mark.parametrize(
    "text",
    [
        '{"x": 1}', '{"i": 1}', '{"i": "1", "t": []}', "{}", '{"d": [1]}', '{"d": [[1, 2, 3]]}',
        '{"s": [[1]]}', '{"b": "xyz"}', '{"c": [1]}', '{"c": null}', '{"t": 5}',
        '{"d": [[{"d": []}, 1]]}', '{"c": {"a": 1}}', '{"c": "12"}', '{"c": [1, 2, 3]}',
        '{"c": [[], 1]}', '{"d": {"ab": 1}}', '{"t": "ab"}', '{"t": {"a": 1}}', '{"s": "ab"}',
        '{"i": ["1"]}', '{"o": 1}',
        '{"s": [[]]}', '{"s": [{"o": "x"}]}', '{"i": "0x"}', '{"v": null}',
    ],
)  # fmt: skip
def test_malformed_values_are_protocol_errors(text: str) -> None:
    with pytest.raises(ProtocolError):
        decode(json.loads(text))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"\xff", b"[" * 100_000, b"9" * 10_000, b"{", b'{"v":' + b"[]," * 1_100_000],
)
def test_malformed_frames_are_protocol_errors(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_frame(body)


@pytest.mark.parametrize("part", [(b"[", b"]"), (b'{"a":', b"}"), (b'["]",{"":', b"}]")])
def test_nesting_is_no_end_where_the_recursion_limit_was_lifted(part: tuple[bytes, bytes]) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        with pytest.raises(ProtocolError, match="deep"):
            parse_frame(b'{"v":' + part[0] * 400_000 + b"1" + part[1] * 400_000 + b"}")
    finally:
        sys.setrecursionlimit(limit)


def test_many_containers_and_brackets_in_texts_are_no_nesting() -> None:
    value = [[[]] * 50_000, "[" * 30_000 + '"\\{', {"]": [{1: 2}] * 5_000}]
    assert travel(value) == value


def test_long_numbers_cost_nothing_where_the_judge_lifted_the_limit() -> None:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(ProtocolError):
            parse_frame(b'{"v":' + b"9" * 7_000_000 + b"}")
    finally:
        sys.set_int_max_str_digits(limit)


def test_colliding_keys_are_capped() -> None:
    modulus = (1 << 61) - 1
    keys = [{"i": hex(i * modulus)} for i in range(1, 10_002)]
    with pytest.raises(ProtocolError, match="keys"):
        decode({"s": keys})


def test_foreign_equals_nothing_and_is_neither_true_nor_false() -> None:
    foreign = decode({"o": "Thing"})
    assert isinstance(foreign, Foreign)
    assert foreign != foreign
    with pytest.raises(TypeError):
        bool(foreign)
    with pytest.raises(TypeError):
        hash(foreign)
