"""Configurations as TOML files: every key typed, unknown ones refused.

Place in the flow: each training phase declares a frozen dataclass; `read_config` fills it from a
shipped file or a file of the user. A field with a default is a key that may be left out.
"""

import tomllib
from dataclasses import MISSING, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


def read_config(name: str, kind: type[Config]) -> Config:
    """Read a shipped configuration by name, or a TOML file by path, as a `kind`.

    Raises:
        ValueError: if it is missing, has an unknown or missing key, or a value of a wrong kind.
    """
    shipped = resources.files("sdb_reference_model") / "configs"
    source = shipped / f"{name}.toml"
    if not source.is_file():
        source = Path(name)
    if not source.is_file():
        names = sorted(item.name.removesuffix(".toml") for item in shipped.iterdir())
        raise ValueError(f"no configuration {name!r}; shipped: {', '.join(names)}; or give a file")
    try:
        values = tomllib.loads(source.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: not valid TOML: {error}") from error
    declared = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - declared.keys()):
        raise ValueError(
            f"{name}: unknown key {unknown[0]!r}; known: {', '.join(sorted(declared))}"
        )
    required = {f.name for f in declared.values() if f.default is f.default_factory is MISSING}
    if missing := sorted(required - values.keys()):
        raise ValueError(f"{name}: missing key {missing[0]!r}")
    hints = get_type_hints(kind)
    return kind(**{k: read_value(f"{name}: {k}", v, hints[k]) for k, v in values.items()})


def read_value(where: str, value: Any, hint: Any) -> Any:
    """Check one TOML value against the annotation of its field; lists become tuples.

    Raises:
        ValueError: if it is of another kind, or none of the allowed words.
    """
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            words = [repr(word) for word in get_args(hint)]
            allowed = " or ".join([", ".join(words[:-1]), words[-1]] if words[:-1] else words)
            raise ValueError(f"{where}={value!r}; use {allowed}")
        return value
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if not isinstance(value, list) or not all(is_of(entry, item) for entry in value):
            raise ValueError(f"{where}={value!r} must be a list of {item.__name__}")
        return tuple(value)
    plain = get_origin(hint) or hint
    if not is_of(value, plain):
        raise ValueError(f"{where}={value!r} must be of type {plain.__name__}")
    return value


def is_of(value: Any, plain: type) -> bool:
    """Whether a TOML value fits a plain type: an integer is a float too, a boolean is no number."""
    if isinstance(value, bool):
        return plain is bool
    return isinstance(value, int | float if plain is float else plain)
