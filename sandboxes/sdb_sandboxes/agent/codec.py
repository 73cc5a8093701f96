"""Plain data on the wire: JSON frames in which a one-key object names what JSON lacks.

Place in the flow: both ends of every channel speak this and nothing else. It is closed: None,
bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset; depth, count and size are
capped, and decoding trusts nothing. What it does not do: no object, no code, no reference passes.
"""

import json
import os
import struct
from collections import Counter
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
    budget = [MAX_NODES] if budget is None else budget
    budget[0] -= 1
    if depth > MAX_DEPTH or budget[0] < 0:
        raise UnsendableError("too deep or too large")
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if kind is int:
        return value if -MAX_PLAIN_INT < value < MAX_PLAIN_INT else {"i": hex(value)}
    if kind is list:
        return [encode(item, depth + 1, budget) for item in value]
    if kind is tuple:
        return {"t": [encode(item, depth + 1, budget) for item in value]}
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
        return [decode(item, depth + 1) for item in wire]
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
            items = [decode(item, depth + 1) for item in body]
            if tag == "t":
                return tuple(items)
            if tag in ("s", "f"):
                return set(check_keys(items)) if tag == "s" else frozenset(check_keys(items))
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise ProtocolError(f"malformed value: {type(error).__name__}") from None
    raise ProtocolError("unknown tag")


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
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise UnsendableError(f"a message of {len(body)} bytes")
    return struct.pack("<I", len(body)) + body


def parse_frame(body: bytes) -> dict[str, Any]:
    """Parse a frame's body. Raises ProtocolError for anything but one JSON object."""
    num_containers = body.count(b"[") + body.count(b"{")
    if num_containers > MAX_NODES:
        raise ProtocolError("too many containers")
    if num_containers > MAX_NESTING and is_nested(body):
        raise ProtocolError("too deep")
    try:
        # Python's own limit on digits may be lifted in the judge; a long frame must not rely on it.
        is_long = len(body) > MAX_UNCHECKED_BYTES
        message = json.loads(body, parse_int=parse_plain_int if is_long else None)
    except (ValueError, RecursionError):
        raise ProtocolError("not JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError("not an object")
    return message


def is_nested(body: bytes) -> bool:
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


def send_frame(descriptor: int, message: Any) -> None:
    """Write one frame, waiting as long as it takes."""
    left = memoryview(pack_frame(message))
    while left:
        left = left[os.write(descriptor, left) :]


def receive_frame(descriptor: int) -> dict[str, Any]:
    """Read one frame. Raises EOFError when the other side is gone."""
    (length,) = struct.unpack("<I", read_exactly(descriptor, 4))
    if length > MAX_FRAME_BYTES:
        raise ProtocolError("frame too long")
    return parse_frame(read_exactly(descriptor, length))


def read_exactly(descriptor: int, length: int) -> bytes:
    body = bytearray()
    while len(body) < length:
        piece = os.read(descriptor, min(1 << 20, length - len(body)))
        if not piece:
            raise EOFError
        body += piece
    return bytes(body)
