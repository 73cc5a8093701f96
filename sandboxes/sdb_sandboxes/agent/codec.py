"""Plain data on the wire, in two forms: one into a cell, one out of it.

Place in the flow: both ends of every channel speak this and nothing else. Plain data is closed:
None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset; depth, count and
size are capped. What comes out of a cell is JSON in which a one-key object names what JSON lacks,
and reading it trusts nothing. What goes into a cell comes from a side that it must trust anyway
and travels as `marshal` writes it, which costs a cell less time and fewer pages of memory.
What it does not do: no object, no code, no reference passes; nothing that a cell said is ever
read by `marshal`.
"""

import json
import marshal
import os
import struct
from collections import Counter
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]
from typing import Any

EXIT_FAILED, EXIT_MEMORY = 97, 98
"""A cell that could not lock itself; one that ran out of memory where nothing could catch it."""
MAX_FRAME_BYTES = 16 << 20
MAX_DEPTH = 100
MAX_NODES = 2_000_000
MAX_NESTING = 10_000
"""Containers in each other that a parser in C can follow on any thread's stack."""
BRACKETS = bytes.maketrans(b"{}", b"[]")
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
MAX_SAME_HASH = 100
"""Keys of one container that may share a hash: keys made to collide would stall the judge."""
MAX_PLAIN_INT = 1 << 53
MAX_UNCHECKED_BYTES = 1 << 16
MARSHAL_VERSION = 2
"""Without references: two arguments that are one list here are two lists in the cell."""
ATOMS = frozenset({type(None), bool, str, float})
"""Types whose values are JSON already."""
SIMPLE = ATOMS | {int}
BRANCHES = frozenset({list, dict})
"""Types of parsed JSON that hold more."""


class UnsendableError(Exception):
    """A value outside the plain data of the codec; the message is its type's name."""


class ProtocolError(Exception):
    """The other side sent bytes that this protocol does not know."""


class Foreign:
    """Stands for an answer that cannot travel: equal to nothing, neither true nor false."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return False

    def __bool__(self) -> bool:
        raise TypeError(f"an object of type {self.name} cannot leave the sandbox")

    def __repr__(self) -> str:
        return f"<foreign {self.name}>"


def encode(value: Any, depth: int = 0, budget: list[int] | None = None) -> Any:
    """Turn plain data into what JSON can carry.

    An instance of a subclass travels as its plain base value (a Counter as dict, a named tuple as
    tuple), so overridden methods such as `__eq__` never leave the cell.

    Raises:
        UnsendableError: The value, or one inside it, is not plain data, or there is too much of it.
    """
    kind = type(value)
    if budget is None:
        if kind in ATOMS:
            return value
        budget = [MAX_NODES]
    budget[0] -= 1
    if depth > MAX_DEPTH or budget[0] < 0:
        raise UnsendableError("too deep or too large")
    if kind in ATOMS:
        return value
    if kind is int:
        return value if -MAX_PLAIN_INT < value < MAX_PLAIN_INT else {"i": hex(value)}
    if kind is list:
        return encode_items(value, depth, budget)
    if kind is tuple:
        return {"t": encode_items(value, depth, budget)}
    if kind is dict:
        pairs = value.items()
        return {
            "d": [[encode(k, depth + 1, budget), encode(v, depth + 1, budget)] for k, v in pairs]
        }
    if kind is set or kind is frozenset:
        tag = "s" if kind is set else "f"
        return {tag: [encode(item, depth + 1, budget) for item in value]}
    if kind is bytes:
        return {"b": value.hex()}
    if kind is complex:
        return {"c": [value.real, value.imag]}
    return encode(to_plain_base(value), depth + 1, budget)


def encode_items(items: Any, depth: int, budget: list[int]) -> Any:
    """The items of a list or tuple; as they are where nothing in them needs a tag."""
    items = items[:]  # a thread of the program may go on adding to them
    kinds = set(map(type, items))
    if kinds <= SIMPLE:
        numbers = [item for item in items if type(item) is int] if int in kinds else (0,)
        if max(numbers) < MAX_PLAIN_INT and min(numbers) > -MAX_PLAIN_INT:
            budget[0] -= len(items)
            if kinds and (depth >= MAX_DEPTH or budget[0] < 0):
                raise UnsendableError("too deep or too large")
            return items
    return [encode(item, depth + 1, budget) for item in items]


def simplify(value: Any, depth: int = 0, budget: list[int] | None = None) -> Any:
    """The same plain data without subclasses, for `pack_order`: what `decode(encode(value))` gives.

    Raises:
        UnsendableError: As `encode`.
    """
    budget = [MAX_NODES] if budget is None else budget
    budget[0] -= 1
    if depth > MAX_DEPTH or budget[0] < 0:
        raise UnsendableError("too deep or too large")
    kind = type(value)
    if kind in ATOMS or kind is int or kind is bytes or kind is complex:
        return value
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        kinds = set(map(type, value))
        if kinds <= SIMPLE:
            budget[0] -= len(value)
            if kinds and (depth >= MAX_DEPTH or budget[0] < 0):
                raise UnsendableError("too deep or too large")
            return value
        return kind(simplify(item, depth + 1, budget) for item in value)
    if kind is dict:
        return {
            simplify(k, depth + 1, budget): simplify(v, depth + 1, budget) for k, v in value.items()
        }
    return simplify(to_plain_base(value), depth + 1, budget)


def to_plain_base(value: Any) -> Any:
    """Copy an instance of a subclass into its exact plain base, past overridden methods."""
    if isinstance(value, int):
        return int.__add__(value, 0)
    if isinstance(value, float):
        return float.__mul__(value, 1.0)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list):
        return list(list.__iter__(value))
    if isinstance(value, tuple):
        return tuple(tuple.__iter__(value))
    if isinstance(value, dict):
        return dict(dict.items(value))
    if isinstance(value, set):
        return set(set.__iter__(value))
    if isinstance(value, frozenset):
        return frozenset(frozenset.__iter__(value))
    raise UnsendableError(type(value).__name__)


def decode(wire: Any, depth: int = 0) -> Any:
    """Turn a parsed frame back into plain data, trusting nothing about it.

    Raises:
        ProtocolError: Unknown tag, wrong shape, too deep, or keys made to collide.
    """
    if depth > 2 * MAX_DEPTH:
        raise ProtocolError("too deep")
    if isinstance(wire, list):
        return decode_items(wire, depth)
    if not isinstance(wire, dict):
        return wire
    try:
        ((tag, body),) = wire.items()
        if isinstance(body, str):
            if tag == "i":
                return int(body, 16)
            if tag == "b":
                return bytes.fromhex(body)
            if tag == "o":
                return Foreign(body[:80])
        elif isinstance(body, list):
            if tag == "c":
                real, imag = body
                return complex(float(real), float(imag))
            if tag == "d":
                pairs = [(decode(k, depth + 1), decode(v, depth + 1)) for k, v in body]
                check_keys([key for key, _ in pairs])
                return dict(pairs)
            items = decode_items(body, depth)
            if tag == "t":
                return tuple(items)
            if tag in ("s", "f"):
                return set(check_keys(items)) if tag == "s" else frozenset(check_keys(items))
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise ProtocolError(f"malformed value: {type(error).__name__}") from None
    raise ProtocolError("unknown tag")


def decode_items(items: list[Any], depth: int) -> list[Any]:
    """The items of a parsed list; the list itself where it holds nothing that holds more."""
    if BRANCHES.isdisjoint(map(type, items)):
        return items
    return [decode(item, depth + 1) for item in items]


def check_keys(keys: list[Any]) -> list[Any]:
    """Refuse the keys of one container if more of them share a hash than chance would give."""
    if len(keys) > MAX_SAME_HASH:
        # The hashes of text depend on a secret of this process, so nobody can choose them.
        hashes = Counter(hash(key) for key in keys if type(key) not in (str, bytes))
        if hashes and max(hashes.values()) > MAX_SAME_HASH:
            raise ProtocolError("too many keys of one hash")
    return keys


def pack_frame(message: Any) -> bytes:
    """Four bytes of little-endian length, then JSON.

    Raises:
        UnsendableError: The frame would be longer than `MAX_FRAME_BYTES`.
    """
    body = "".join(write_json(message, 0)).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise UnsendableError(f"a message of {len(body)} bytes")
    return struct.pack("<I", len(body)) + body


def parse_frame(body: bytes | bytearray) -> dict[str, Any]:
    """Parse a frame's body. Raises ProtocolError for anything but one JSON object."""
    num_containers = body.count(b"[") + body.count(b"{")
    if num_containers > MAX_NODES:
        raise ProtocolError("too many containers")
    if num_containers > MAX_NESTING and is_nested(body):
        raise ProtocolError("too deep")
    try:
        # Python's own limit on digits may be lifted in the judge; a long frame must not rely on it.
        read = read_json if len(body) <= MAX_UNCHECKED_BYTES else read_long_json
        text = body.decode()
        message, end = read(text, 0)
    except (ValueError, StopIteration, RecursionError):
        raise ProtocolError("not JSON") from None
    if end != len(text) or not isinstance(message, dict):
        raise ProtocolError("not an object")
    return message


def is_nested(body: bytes | bytearray) -> bool:
    """Whether JSON text nests so deeply that its parser might overflow the stack.

    The interpreter's recursion limit stops that too, but programs raise it, and so may tests.
    """
    outside_texts = body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    marks = b"".join(outside_texts).translate(BRACKETS, NO_BRACKETS)
    for _ in range(4 * MAX_DEPTH):
        before, marks = len(marks), marks.replace(b"[]", b"")
        if len(marks) == before or b"[" * MAX_NESTING in marks:
            break
    return len(marks) > MAX_NESTING


def parse_plain_int(digits: str) -> int:
    """Read what `encode` writes in decimal. Raises ValueError for longer numbers."""
    if len(digits) > 20:
        raise ValueError("too many digits")
    return int(digits)


write_json = c_make_encoder(None, None, encode_basestring_ascii, None, ":", ",", False, False, True)
"""`json.dumps` without spaces, less what it does on every call: (message, 0) -> pieces of text."""
read_json = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
read_long_json = json.JSONDecoder(  # type: ignore[attr-defined]
    parse_int=parse_plain_int
).scan_once
"""The parser below `json.loads`: (text, start) -> (value, end); StopIteration if there is none."""


LOCKED = pack_frame({"locked": True})
"""Said before the first byte of the program: what ends the cell later is the program's doing. The
kernel tells the judge which process said it."""


READY = pack_frame({"ready": True})
"""Said of a script that is compiled and about to run."""


def pack_data(data: Any) -> bytes:
    """Bytes that only a cell may read.

    Raises:
        UnsendableError: Something in it is not plain data; see `simplify`.
    """
    try:
        return marshal.dumps(data, MARSHAL_VERSION)
    except ValueError as error:
        raise UnsendableError(str(error)) from None


def unpack_data(packed: bytes) -> Any:
    """What a side that this cell must trust has packed."""
    return marshal.loads(packed)


def pack_order(message: Any) -> bytes:
    """Four bytes of little-endian length, then what only a cell may read.

    Raises:
        UnsendableError: As `pack_data`.
    """
    body = pack_data(message)
    return struct.pack("<I", len(body)) + body


def receive_order(descriptor: int) -> Any:
    """Read one message of a side that this cell must trust. Raises EOFError if it is gone."""
    length = int.from_bytes(read_exactly(descriptor, 4), "little")
    return unpack_data(read_exactly(descriptor, length))


def send_frame(descriptor: int, message: Any) -> None:
    """Write one frame, waiting as long as it takes."""
    write_all(descriptor, pack_frame(message))


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, waiting as long as it takes."""
    num_sent = os.write(descriptor, data)
    left = memoryview(data)[num_sent:]
    while left:
        left = left[os.write(descriptor, left) :]


def receive_frame(descriptor: int) -> dict[str, Any]:
    """Read one frame. Raises EOFError when the other side is gone."""
    (length,) = struct.unpack("<I", read_exactly(descriptor, 4))
    if length > MAX_FRAME_BYTES:
        raise ProtocolError("frame too long")
    return parse_frame(read_exactly(descriptor, length))


def read_exactly(descriptor: int, length: int) -> bytes:
    """Read so many bytes and none behind them. Raises EOFError if the other side is gone."""
    piece = os.read(descriptor, min(1 << 20, length))
    if len(piece) == length:
        return piece
    if not piece:
        raise EOFError
    body = bytearray(piece)
    while len(body) < length:
        piece = os.read(descriptor, min(1 << 20, length - len(body)))
        if not piece:
            raise EOFError
        body += piece
    return bytes(body)
