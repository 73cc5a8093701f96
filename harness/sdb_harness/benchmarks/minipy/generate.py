"""Chains of operations become problems: the text, the split, the filter and the hidden inputs.

Place in the flow: `draw_composition` makes a `Draft` (prompt and reference, nothing executed beyond
single operations on fixed probes), `draw_cases` adds the hidden inputs and their expected outputs.

Two rules hold for every problem. A composition, that is the tuple of its operation names, belongs
to the test split if its BLAKE2 hash falls in one tenth, so none of test occurs in train. And a
chain must be telling: on the probe inputs its outputs vary, differ from the input, and change if
any operation that can be left out is left out. Only our own templates are executed here.
"""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Literal

from sdb_harness.benchmarks.minipy.operations import (
    CONSTANTS,
    KINDS,
    Kind,
    Operation,
    list_operations,
)
from sdb_sandboxes.types import Case

Split = Literal["train", "test"]
Step = tuple[Operation, int]
"""An operation and its constant (0 where it has none)."""

Function = Callable[[object], object]

NUM_CASES = 12
NUM_EDGES = 5

FUNCTION_NAMES = ("solve", "run", "calc", "apply", "make", "build", "process", "f")
VARIABLE_NAMES = ("v", "n", "e", "y", "item", "elem")
ARGUMENT_NAMES: dict[Kind, tuple[str, ...]] = {
    "int": ("num", "a", "m", "p", "q", "size", "total", "value", "amount", "code"),
    "ints": ("xs", "nums", "values", "items", "data", "row", "seq", "arr", "vals", "ints"),
    "str": ("s", "text", "word", "line", "name", "msg", "title", "label", "phrase", "raw"),
    "strs": ("words", "names", "lines", "texts", "parts", "tags", "labels", "terms", "strs", "ws"),
    "dict": (
        "d",
        "table",
        "counts",
        "scores",
        "ages",
        "prices",
        "stock",
        "votes",
        "sizes",
        "lookup",
    ),
}
JOINERS = (", then ", "; then ")

EDGES: dict[Kind, tuple[object, ...]] = {
    "int": (0, 1, -1, 7, -25),
    "ints": ([], [7], [-3, -8, -3], [4, 4, 2, 4, 9, 9], [0, -5, 12, 3]),
    "str": ("", "a", "aab Abba 22", "ñandú Ünï ß", " two  spaces "),
    "strs": ([], ["a"], ["", "bb", "bb", ""], ["ñandú", "Ünï", "ß"], ["Zoo", "apple", "zoo"]),
    "dict": ({}, {"a": 1}, {"b": -4, "a": -4}, {"ñu": 3, "Ünï": 0}, {"x": 5, "longer": 5}),
}
WORDS = (
    *("apple", "Bob", "tree", "Sun", "x", "hello", "level", "River", "day", "MOON", "ice", "ox"),
    *("b2", "42", "naïve", "Ünï", "stone", "A", "window", "Castle", "umbrella", "banana", "kiwis"),
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A problem before its inputs."""

    key: str
    """What the split is decided on."""
    entry_point: str
    arguments: tuple[Kind, ...]
    prompt: str
    reference: str
    steps: tuple[Step, ...] = ()
    """The chain, for compositions; families are telling by construction."""


@lru_cache(maxsize=1 << 16)
def assign_split(key: str) -> Split:
    """Decide by a stable hash of the content: one tenth is test."""
    digest = blake2b(f"minipy/{key}".encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest) % 10 == 0 else "train"


def draw_composition(rng: random.Random, split: Split, level: int) -> Draft:
    """Draw a telling chain of `level + 1` operations (level 1: two) whose key is in `split`.

    Level 1 has lists of numbers only, level 2 all kinds; three, four and five operations follow
    at levels 3, 4 and 5, with a dict on the way from level 4 on.
    """
    while True:
        chain = draw_chain(rng, level)
        key = ">".join([operation.name for operation in chain])
        if assign_split(key) != split:
            continue
        steps = tuple([(op, rng.choice(CONSTANTS) if op.has_constant else 0) for op in chain])
        if passes_probes(steps):
            return write_composition(rng, key, steps)


def draw_chain(rng: random.Random, level: int) -> list[Operation]:
    """Draw distinct operations, each taking what the one before gives."""
    if level == 1:
        first = rng.choice(list_operations("ints", ("ints",)))
        return [first, draw_other(rng, list_operations("ints", ("ints", "int")), [first])]
    num_operations = count_operations(level)
    while True:
        kind = rng.choice(KINDS)
        chain: list[Operation] = []
        while len(chain) < num_operations:
            chain.append(draw_other(rng, list_operations(kind), chain))
            kind = chain[-1].target
        if level < 4 or any("dict" in (op.source, op.target) for op in chain):
            return chain


def count_operations(level: int) -> int:
    """Operations of a composition: levels 1 to 5 have 2, 2, 3, 4, 5."""
    return max(2, level)


def draw_other(
    rng: random.Random, candidates: Sequence[Operation], used: Sequence[Operation]
) -> Operation:
    """Draw an operation that is not used yet; every kind has more of them than a chain is long."""
    while (operation := rng.choice(candidates)) in used:
        pass
    return operation


def write_composition(rng: random.Random, key: str, steps: tuple[Step, ...]) -> Draft:
    """Word the steps as one sentence and write one line of code for each, in the same order."""
    kind = steps[0][0].source
    name = rng.choice(FUNCTION_NAMES)
    x = rng.choice(ARGUMENT_NAMES[kind])
    v = rng.choice(VARIABLE_NAMES)
    sentence = rng.choice(JOINERS).join([rng.choice(op.wordings).format(k=k) for op, k in steps])
    lines = [op.expression.format(x=x, v=v, k=k) for op, k in steps]
    body = "".join([f"    {x} = {line}\n" for line in lines[:-1]])
    return Draft(
        key=key,
        entry_point=name,
        arguments=(kind,),
        prompt=f'def {name}({x}):\n    """{sentence[0].upper()}{sentence[1:]}."""\n',
        reference=f"{body}    return {lines[-1]}\n",
        steps=steps,
    )


@lru_cache(maxsize=1 << 16)
def passes_probes(steps: tuple[Step, ...]) -> bool:
    """Whether the chain is telling on the probes of its input kind."""
    return is_telling(steps, list_probes(steps[0][0].source))


def is_telling(steps: tuple[Step, ...], inputs: Sequence[object]) -> bool:
    """Whether these inputs tell the chain from a constant, from identity and from a shorter chain.

    A shorter chain leaves out one operation that keeps the kind. Stops at the first input by which
    everything is told apart, which for most chains is one of the first few.
    """
    functions = [compile_operation(operation, k) for operation, k in steps]
    pending = [i for i, (op, _) in enumerate(steps) if op.source == op.target]
    is_identity = is_constant = True
    first = run_rest(functions, 0, inputs[0])
    for value in inputs:
        states = [value]
        for function in functions:
            states.append(function(states[-1]))
        output = states[-1]
        is_constant = is_constant and output == first
        is_identity = is_identity and output == value
        pending = [i for i in pending if run_rest(functions, i + 1, states[i]) == output]
        if not (pending or is_identity or is_constant):
            return True
    return False


def run_rest(functions: Sequence[Function], start: int, value: object) -> object:
    """Apply the functions from `start` on; none of them mutates its input."""
    for i in range(start, len(functions)):
        value = functions[i](value)
    return value


@cache
def compile_operation(operation: Operation, k: int) -> Function:
    """Turn one template of our own table into a function."""
    expression = operation.expression.format(x="x_", v="v_", k=k)
    function: Function = eval(f"lambda x_: {expression}")
    return function


@cache
def list_probes(kind: Kind) -> tuple[object, ...]:
    """Fixed inputs of one kind: larger random ones first, they tell the most."""
    rng = random.Random(f"minipy/probes/{kind}")
    return (*[draw_input(rng, kind) for _ in range(NUM_CASES - NUM_EDGES)], *EDGES[kind])


def draw_input(rng: random.Random, kind: Kind) -> object:
    """Draw one ordinary value: up to a dozen elements, negatives, zeros, duplicates, non-ASCII."""
    if kind == "int":
        return rng.choice((rng.randint(-99, 99), rng.randint(-9, 30), rng.randint(100, 9999)))
    if kind == "ints":
        bound = rng.choice((9, 20, 60))
        return [rng.randint(-bound // 2, bound) for _ in range(rng.randint(4, 12))]
    if kind == "str":
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 5)))
    if kind == "strs":
        return rng.choices(WORDS, k=rng.randint(3, 12))
    return {word: rng.randint(-6, 15) for word in rng.choices(WORDS, k=rng.randint(2, 9))}


def draw_cases(draft: Draft, seed: str) -> tuple[Case, ...]:
    """Draw `NUM_CASES` hidden inputs and execute the reference on them."""
    namespace: dict[str, object] = {}
    exec(draft.prompt + draft.reference, namespace)
    function = namespace[draft.entry_point]
    assert callable(function)
    inputs = draw_inputs(draft, seed)
    return tuple([Case(args, function(*copy.deepcopy(args))) for args in inputs])


def draw_inputs(draft: Draft, seed: str) -> list[tuple[object, ...]]:
    """Draw argument tuples that are telling: the edge inputs and random ones.

    Where a few draws do not tell everything apart the probes are the inputs, which do. Families
    are telling by construction, and with several arguments all inputs are random.
    """
    kinds = draft.arguments
    if len(kinds) > 1:
        rng = random.Random(f"{seed}/inputs")
        return [tuple([draw_input(rng, kind) for kind in kinds]) for _ in range(NUM_CASES)]
    kind = kinds[0]
    for attempt in range(8):
        rng = random.Random(f"{seed}/inputs/{attempt}")
        drawn = [draw_input(rng, kind) for _ in range(NUM_CASES - NUM_EDGES)]
        values = [*EDGES[kind], *drawn]
        if not draft.steps or is_telling(draft.steps, values):
            return [(value,) for value in values]
    return [(value,) for value in list_probes(kind)]
