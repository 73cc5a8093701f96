"""Families whose tokens depend on each other far apart: where parallel decoding should break.

Place in the flow: `draw_family` makes a `Draft` like `generate.draw_composition` does; the hidden
inputs are drawn there. Each family isolates one dependency: a name that must be used consistently
(anything else is a NameError), a literal that must be copied, brackets that must close, an order
that must be followed. Contents (literals, names, orders) are drawn from spaces too large to
memorise, and the content decides the split, so no content of test occurs in train.
"""

import random
from collections.abc import Callable

from sdb_harness.benchmarks.minipy.generate import (
    ARGUMENT_NAMES,
    FUNCTION_NAMES,
    Draft,
    Split,
    assign_split,
)
from sdb_harness.benchmarks.minipy.operations import Kind

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"
INT: Kind = "int"
LETTERS = "abcdeghkmnpqrtuwz"


def draw_family(rng: random.Random, split: Split, level: int, family: str) -> Draft:
    """Draw a problem of a family whose content is in `split`. The size grows with `level`."""
    while True:
        draft = FAMILIES[family](rng, level)
        if assign_split(draft.key) == split:
            return draft


def draw_renaming(rng: random.Random, level: int) -> Draft:
    """Given code in which the argument has another name, write it with the argument's name.

    Level L has L assignments. Values only grow away from the argument (sums and products with
    positive factors), so the result is neither constant nor the argument.
    """
    new = draw_word(rng)
    old, *temporaries = rng.sample(LETTERS, level + 1)
    statements = []
    last = str(rng.randint(2, 9))
    for temporary in temporaries:
        statements.append(f"{temporary} = {old} {rng.choice('+*')} {last}")
        last = temporary
    statements.append(f"return {old} {rng.choice('+*')} {last}")
    code = "; ".join(statements)
    name = rng.choice(FUNCTION_NAMES)
    wording = rng.choice(("Rename {} to {}: {}.", "With {} renamed to {}: {}."))
    renamed = [
        " ".join([new if token == old else token for token in statement.split(" ")])
        for statement in statements
    ]
    return Draft(
        key=f"renaming/{new}/{code}",
        entry_point=name,
        arguments=("int",),
        prompt=f'def {name}({new}):\n    """{wording.format(old, new, code)}"""\n',
        reference="".join([f"    {statement}\n" for statement in renamed]),
    )


def draw_copying(rng: random.Random, level: int) -> Draft:
    """Write a literal of the docstring before the argument. Level L has 2 L + 2 elements."""
    literal = str([rng.randint(10, 99) for _ in range(2 * level + 2)])
    name = rng.choice(FUNCTION_NAMES)
    x = rng.choice(ARGUMENT_NAMES["ints"])
    wording = rng.choice(("Return {} plus {}.", "Put {} before {}.", "Prepend {} to {}."))
    return Draft(
        key=f"copying/{literal}",
        entry_point=name,
        arguments=("ints",),
        prompt=f'def {name}({x}):\n    """{wording.format(literal, x)}"""\n',
        reference=f"    return {literal} + {x}\n",
    )


def draw_brackets(rng: random.Random, level: int) -> Draft:
    """Nest the argument in containers named from the inside out. Level L has L + 2 of them."""
    name = rng.choice(FUNCTION_NAMES)
    x = rng.choice(ARGUMENT_NAMES["int"])
    layers = []
    expression = x
    for _ in range(level + 2):
        digit = rng.randint(0, 9)
        layer, template = rng.choice(
            (
                (f"a list with {digit}", f"[{{}}, {digit}]"),
                (f"a tuple with {digit}", f"({{}}, {digit})"),
                (f"a dict at {digit}", f"{{{{{digit}: {{}}}}}}"),
            )
        )
        layers.append(layer)
        expression = template.format(expression)
    described = ", then ".join(layers)
    return Draft(
        key=f"brackets/{described}",
        entry_point=name,
        arguments=("int",),
        prompt=f'def {name}({x}):\n    """Wrap {x} in {described}."""\n',
        reference=f"    return {expression}\n",
    )


def draw_permutation(rng: random.Random, level: int) -> Draft:
    """Return the arguments in an order given by positions. Level L has L + 2 arguments."""
    names = rng.sample(LETTERS, level + 2)
    positions = rng.sample(range(1, level + 3), level + 2)
    order = ", ".join([str(position) for position in positions])
    arguments = ", ".join(names)
    name = rng.choice(FUNCTION_NAMES)
    wording = rng.choice(("Return arguments {} as a tuple.", "Return a tuple of arguments {}."))
    permuted = ", ".join([names[position - 1] for position in positions])
    return Draft(
        key=f"permutation/{arguments}/{order}",
        entry_point=name,
        arguments=tuple([INT for _ in names]),
        prompt=f'def {name}({arguments}):\n    """{wording.format(order)}"""\n',
        reference=f"    return ({permuted})\n",
    )


def draw_fresh_identifier(rng: random.Random, level: int) -> Draft:
    """Bind a made-up name once and use it L + 2 times."""
    new = draw_word(rng)
    name = rng.choice(FUNCTION_NAMES)
    x = rng.choice(ARGUMENT_NAMES["ints"])
    noun, expression = rng.choice(
        (
            (f"the sum of {x}", f"sum({x})"),
            (f"the length of {x}", f"len({x})"),
            (f"the maximum of {x} or 0", f"max({x}, default=0)"),
            (f"the minimum of {x} or 0", f"min({x}, default=0)"),
        )
    )
    uses = [f"{new} {rng.choice('+-*')} {rng.randint(2, 9)}" for _ in range(level + 2)]
    result = f"[{', '.join(uses)}]"
    wording = rng.choice(("Let {0} be {1}; return {2}.", "Call {1} {0} and return {2}."))
    return Draft(
        key=f"fresh_identifier/{new}/{result}",
        entry_point=name,
        arguments=("ints",),
        prompt=f'def {name}({x}):\n    """{wording.format(new, noun, result)}"""\n',
        reference=f"    {new} = {expression}\n    return {result}\n",
    )


def draw_word(rng: random.Random) -> str:
    """Draw a pronounceable name of two or three syllables that no problem uses otherwise."""
    while True:
        syllables = [rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(2, 3))]
        word = "".join(syllables)
        if word not in FUNCTION_NAMES and not any(
            word in names for names in ARGUMENT_NAMES.values()
        ):
            return word


FAMILIES: dict[str, Callable[[random.Random, int], Draft]] = {
    "renaming": draw_renaming,
    "copying": draw_copying,
    "brackets": draw_brackets,
    "permutation": draw_permutation,
    "fresh_identifier": draw_fresh_identifier,
}
