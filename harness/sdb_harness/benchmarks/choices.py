"""Options of a benchmark whose values are names from a table, such as `language=java+go`.

Place in the flow: a benchmark's `load` reads its options here, so that all spell them alike.
"""

from collections.abc import Collection, Mapping

from sdb_harness.errors import UserError, name_nearest


def check_options(benchmark: str, options: Mapping[str, str], allowed: Collection[str]) -> None:
    """Refuse an option that the benchmark does not have.

    Raises:
        UserError: with the nearest option.
    """
    for key in options:
        if key not in allowed:
            raise UserError(f"{benchmark} has no option {key!r}; {name_nearest(key, allowed)}")


def choose_one(benchmark: str, options: Mapping[str, str], key: str, known: Collection[str]) -> str:
    """The chosen name; the first one if the option is not given.

    Raises:
        UserError: a name that is not known.
    """
    return choose_names(benchmark, {key: options.get(key, next(iter(known)))}, key, known)[0]


def choose_names(
    benchmark: str, options: Mapping[str, str], key: str, known: Collection[str]
) -> tuple[str, ...]:
    """The chosen names, joined by `+`, in the order of the table; all if the option is not given.

    Raises:
        UserError: a name that is not known.
    """
    if key not in options:
        return tuple(known)
    chosen = options[key].split("+")
    for name in chosen:
        if name not in known:
            raise UserError(f"{benchmark} {key}={name!r}; {name_nearest(name, known)}")
    return tuple(name for name in known if name in chosen)
