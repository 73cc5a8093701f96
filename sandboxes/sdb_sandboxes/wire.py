"""How checks and limits travel as JSON text: in a data set's column and over HTTP.

Place in the flow: a data set stores `check_to_json(check)`; a reward function or the service reads
it back with `check_from_json`. The form is closed and strict: every kind, field and value type is
known, an unknown or missing one is an error that names where it is. It is stable too: the same
check always gives the same text, and fields at their default are left out, so that a new field
changes no old text. Values are the plain data of `agent/codec.py`, and non-finite floats have a
tag of their own, so that the text is JSON for every reader.

    {"cases":[{"args":[2],"expected":4}],"entry_point":"f","kind":"function"}

What it does not do: it does not run or parse test source.
"""

import json
import math
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sdb_sandboxes.agent.codec import ProtocolError, UnsendableError, decode, encode
from sdb_sandboxes.types import (
    AssertionCheck,
    Check,
    ExitCodeCheck,
    FunctionCheck,
    ObjectCheck,
    ReferenceCheck,
    ResourceLimits,
    StdinCheck,
    SuiteCheck,
)

CHECK_KINDS: dict[str, type[Check]] = {
    "function": FunctionCheck,
    "reference": ReferenceCheck,
    "stdin": StdinCheck,
    "assertions": AssertionCheck,
    "objects": ObjectCheck,
    "suite": SuiteCheck,
    "exit_code": ExitCodeCheck,
}
"""What `kind` of a check may be."""

NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class WireError(ValueError):
    """A text that is no check or no limits; the message names the field and the way out."""


def check_to_json(check: Check) -> str:
    """Write a check as one line of JSON, the same text for the same check.

    Raises:
        WireError: A value in it is not plain data.
    """
    (kind,) = (kind for kind, shape in CHECK_KINDS.items() if type(check) is shape)
    wire = {"kind": kind, **write_record(check, "check")}
    return json.dumps(wire, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_record(record: Any, path: str) -> dict[str, Any]:
    """Turn a dataclass of types.py into what JSON can carry, without what is at its default."""
    hints = get_type_hints(type(record))
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {
        field.name: write_field(values[field.name], hints[field.name], path, field.name)
        for field in fields(record)
        if field.default is MISSING or values[field.name] != field.default
    }


def write_field(value: Any, hint: Any, path: str, name: str) -> Any:
    """Turn one field into what JSON can carry, by its declared type."""
    where = f"{path}.{name}"
    if hint is object:
        try:
            return make_stable(encode(value))
        except UnsendableError as error:
            raise WireError(
                f"{where} is not plain data: {error}; use None, bool, int, float, complex, str, "
                "bytes and their containers"
            ) from None
    if get_origin(hint) is tuple:
        items = list_item_hints(hint, len(value))
        return [
            write_field(item, inner, path, f"{name}[{i}]")
            for i, (item, inner) in enumerate(zip(value, items, strict=True))
        ]
    return write_record(value, where) if is_dataclass(value) else value


def list_item_hints(hint: Any, num_items: int) -> list[Any]:
    """The declared type of each item of a tuple, for `tuple[X, ...]` and `tuple[X, Y]` alike."""
    items = list(get_args(hint))
    return [items[0]] * num_items if items[-1] is ... else items


def make_stable(wire: Any) -> Any:
    """Sort sets, whose order differs between processes, and tag NaN and the infinities."""
    if isinstance(wire, float) and not math.isfinite(wire):
        return {"n": "nan" if math.isnan(wire) else "inf" if wire > 0 else "-inf"}
    if isinstance(wire, list):
        return [make_stable(item) for item in wire]
    if isinstance(wire, dict):
        ((tag, body),) = wire.items()
        body = make_stable(body)
        return {tag: sorted(body, key=json.dumps) if tag in ("s", "f") else body}
    return wire


def check_from_json(text: str) -> Check:
    """Read what `check_to_json` wrote.

    Raises:
        WireError: Not JSON, or not a check; the message names the field.
    """
    if not isinstance(text, str):
        raise WireError(f"the check is of type {type(text).__name__}; JSON text is needed")
    return parse_check(text)


@lru_cache(maxsize=1024)
def parse_check(text: str) -> Check:
    """Parse and read a check once for a group of answers that share it."""
    try:
        wire = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the check is not JSON: {error}; write it with check_to_json") from None
    return read_check(wire)


def read_check(wire: Any, path: str = "check") -> Check:
    """Read a check from parsed JSON.

    Raises:
        WireError: Unknown kind, unknown, missing or malformed field; the message names it.
    """
    if not isinstance(wire, dict):
        raise WireError(f"{path} is {describe(wire)}; an object with a kind is needed")
    rest = dict(wire)
    kind = rest.pop("kind", None)
    shape = CHECK_KINDS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise WireError(f"{path}.kind is {describe(kind)}; use {list_names(CHECK_KINDS)}")
    check: Check = read_record(shape, rest, path)
    return check


def read_limits(wire: Any, default: ResourceLimits, path: str = "limits") -> ResourceLimits:
    """Read limits from parsed JSON; fields that are left out are those of `default`.

    Raises:
        WireError: Unknown field, or a number that is not positive and finite.
    """
    if not isinstance(wire, dict):
        raise WireError(f"{path} is {describe(wire)}; an object is needed")
    given = {field.name: getattr(default, field.name) for field in fields(default)} | wire
    limits: ResourceLimits = read_record(ResourceLimits, given, path)
    for field in fields(limits):
        number = getattr(limits, field.name)
        if not isinstance(number, bool) and not 0 < number < math.inf:
            raise WireError(f"{path}.{field.name}={number}; a positive number is needed")
    return limits


def read_record(shape: Any, wire: Any, path: str) -> Any:
    """Build a dataclass of types.py from a JSON object that has its fields and no others."""
    if not isinstance(wire, dict):
        raise WireError(f"{path} is {describe(wire)}; an object is needed")
    hints = get_type_hints(shape)
    if unknown := sorted(set(wire) - set(hints)):
        raise WireError(f"{path} has no field {unknown[0]!r}; its fields are {list_names(hints)}")
    values = {}
    for field in fields(shape):
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        if field.name in wire:
            where = f"{path}.{field.name}"
            values[field.name] = read_field(wire[field.name], hints[field.name], where)
        elif not has_default:
            raise WireError(f"{path} lacks the field {field.name!r}")
    return shape(**values)


def read_field(wire: Any, hint: Any, path: str) -> Any:
    """Read one field by its declared type."""
    if hint is object:
        return read_value(wire, path)
    if get_origin(hint) is tuple:
        if not isinstance(wire, list):
            raise WireError(f"{path} is {describe(wire)}; a list is needed")
        items = list_item_hints(hint, len(wire))
        if len(items) != len(wire):
            raise WireError(f"{path} has {len(wire)} items; {len(items)} are needed")
        pairs = zip(wire, items, strict=True)
        return tuple(read_field(item, h, f"{path}[{i}]") for i, (item, h) in enumerate(pairs))
    if get_origin(hint) is Literal:
        if wire not in get_args(hint):
            raise WireError(f"{path} is {describe(wire)}; use {list_names(get_args(hint))}")
        return wire
    if isinstance(hint, types.UnionType):
        (other,) = (arm for arm in get_args(hint) if arm is not type(None))
        return None if wire is None else read_field(wire, other, path)
    if is_dataclass(hint):
        return read_record(hint, wire, path)
    is_number = hint is float and type(wire) is int
    if type(wire) is not hint and not is_number:
        raise WireError(f"{path} is {describe(wire)}; {hint.__name__} is needed")
    return float(wire) if is_number else wire


def read_value(wire: Any, path: str) -> object:
    """Read one value of plain data, refusing what stands for an object that could not travel."""
    try:
        return decode(untag_floats(wire, path))
    except (ProtocolError, RecursionError) as error:
        raise WireError(f"{path} is not plain data as check_to_json writes it: {error}") from None


def untag_floats(wire: Any, path: str) -> Any:
    """Undo the tags of `make_stable`."""
    if isinstance(wire, list):
        return [untag_floats(item, path) for item in wire]
    if not isinstance(wire, dict):
        return wire
    if "o" in wire:
        raise WireError(f"{path} holds an object that is not plain data")
    if set(wire) == {"n"}:
        if not isinstance(wire["n"], str) or wire["n"] not in NON_FINITE:
            raise WireError(f"{path} is {describe(wire)}; use {list_names(NON_FINITE)}")
        return NON_FINITE[wire["n"]]
    return {tag: untag_floats(body, path) for tag, body in wire.items()}


def describe(wire: Any) -> str:
    """A short and harmless name for what was given instead."""
    text = json.dumps(wire, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def list_names(names: Any) -> str:
    """Names as a sentence lists them."""
    return ", ".join(sorted(map(str, names)))
