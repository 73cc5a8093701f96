"""minipy: deterministic, split by composition, telling, total; references right, cheats wrong.

Programs that run here are our own reference text and three fixed cheats, so no sandbox is needed.
"""

import builtins
import copy
import hashlib
import keyword
import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import cast

import pytest

from sdb_harness.benchmarks import Benchmark, load_benchmark
from sdb_harness.benchmarks.minipy import (
    GROUPS,
    LEVELS,
    draw_draft,
    load_problems,
    make_example,
    make_problem,
)
from sdb_harness.benchmarks.minipy.families import FAMILIES, draw_word
from sdb_harness.benchmarks.minipy.generate import (
    ARGUMENT_NAMES,
    EDGES,
    FUNCTION_NAMES,
    JOINERS,
    NUM_CASES,
    NUM_EDGES,
    VARIABLE_NAMES,
    Split,
    compile_operation,
    draw_input,
    is_telling,
    list_probes,
)
from sdb_harness.benchmarks.minipy.operations import (
    CONSTANTS,
    KINDS,
    Kind,
    Operation,
    list_operations,
    load_operations,
)
from sdb_harness.errors import UserError
from sdb_harness.records import Problem
from sdb_sandboxes.types import FunctionCheck

SPLITS: tuple[Split, ...] = ("train", "test")
GROUP_LEVELS = [(group, level) for group in GROUPS for level in LEVELS]

PRINT_DIGEST = """
import hashlib
from sdb_harness.benchmarks.minipy import GROUPS, LEVELS, make_problem
digest = hashlib.sha256()
for group in GROUPS:
    for level in LEVELS:
        for index in range(4):
            problem = make_problem(index, split="test", level=level, seed=3, group=group)
            digest.update(repr(problem).encode())
print(digest.hexdigest())
"""


def score(problem: Problem, program: str) -> bool:
    """Judge a program of ours as the verifier would: same types, equal, on every case."""
    namespace: dict[str, object] = {}
    exec(program, namespace)
    function = cast(Callable[..., object], namespace[problem.entry_point])
    check = problem.check
    assert isinstance(check, FunctionCheck)
    assert len(check.cases) == NUM_CASES
    for case in check.cases:
        output = function(*copy.deepcopy(case.args))
        if repr(output) != repr(case.expected):
            return False
    return True


def draw_problems(level: int, group: str, count: int) -> list[Problem]:
    half = count // 2
    return [
        make_problem(index, split=split, level=level, group=group)
        for split in SPLITS
        for index in range(half)
    ]


@pytest.mark.parametrize(("group", "level"), GROUP_LEVELS)
def test_references_pass_and_cheats_fail(group: str, level: int) -> None:
    for problem in draw_problems(level, group, 200):
        argument = problem.prompt.split("(")[1].split(")")[0].split(",")[0]
        assert score(problem, problem.prompt + problem.reference), problem
        assert not score(problem, problem.prompt), problem
        assert not score(problem, f"{problem.prompt}    return None\n"), problem
        assert not score(problem, f"{problem.prompt}    return {argument}\n"), problem


@pytest.mark.parametrize(("group", "level"), GROUP_LEVELS)
def test_no_constant_answer_passes(group: str, level: int) -> None:
    for problem in draw_problems(level, group, 100):
        assert isinstance(problem.check, FunctionCheck)
        assert len({repr(case.expected) for case in problem.check.cases}) > 1, problem


@pytest.mark.parametrize("level", LEVELS)
def test_leaving_out_any_line_fails(level: int) -> None:
    for index in range(100):
        problem = make_problem(index, split="test", level=level)
        draft, _ = draw_draft(index, "test", level, 0, "composition")
        *lines, last = problem.reference.splitlines(keepends=True)
        for i, (operation, _) in enumerate(draft.steps[:-1]):
            if operation.source == operation.target:
                shorter = problem.prompt + "".join([*lines[:i], *lines[i + 1 :], last])
                assert not score(problem, shorter), shorter


def test_is_telling_refuses_degenerate_chains() -> None:
    by_name = {operation.name: operation for operation in load_operations()}
    inputs = list_probes("ints")

    def chain(*names: str) -> tuple[tuple[Operation, int], ...]:
        return tuple((by_name[name], 2) for name in names)

    assert is_telling(chain("keep_even", "sum"), inputs)
    assert not is_telling(chain("keep_even", "keep_odd"), inputs)
    assert not is_telling(chain("sort", "sort_down"), inputs)
    assert not is_telling(chain("reverse", "sum"), inputs)
    assert not is_telling(chain("negate_each", "square_each", "sum"), inputs)
    assert not is_telling(chain("keep_even", "sum"), [[], [1]])


@pytest.mark.parametrize(("group", "level"), GROUP_LEVELS)
def test_example_is_the_problem_text(group: str, level: int) -> None:
    for split in SPLITS:
        for index in range(20):
            problem = make_problem(index, split=split, level=level, seed=1, group=group)
            example = make_example(index, split=split, level=level, seed=1, group=group)
            assert example == (problem.prompt, problem.reference)
            assert problem.problem_id == f"minipy/{index}"
            assert problem.group == (f"level-{level}" if group == "composition" else group)


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_another_process_makes_the_same_problems(hash_seed: str) -> None:
    digest = hashlib.sha256()
    for group, level in GROUP_LEVELS:
        for index in range(4):
            problem = make_problem(index, split="test", level=level, seed=3, group=group)
            digest.update(repr(problem).encode())
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", PRINT_DIGEST]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == digest.hexdigest()


def test_problems_do_not_depend_on_what_was_made_before() -> None:
    alone = make_problem(7, split="test", level=2)
    make_problem(8, split="train", level=5)
    assert make_problem(7, split="test", level=2) == alone


def test_seed_split_and_index_change_the_problem() -> None:
    base = make_example(0, split="train", level=3)
    assert make_example(0, split="train", level=3, seed=1) != base
    assert make_example(0, split="test", level=3) != base
    assert make_example(1, split="train", level=3) != base


@pytest.mark.parametrize(("group", "level"), GROUP_LEVELS)
def test_no_content_of_test_is_in_train(group: str, level: int) -> None:
    keys = {
        split: {draw_draft(index, split, level, 0, group)[0].key for index in range(1500)}
        for split in SPLITS
    }
    assert len(keys["test"]) > 20
    assert not keys["train"] & keys["test"]


def test_compositions_of_levels_1_and_2_share_one_split() -> None:
    train = {draw_draft(i, "train", 2, 0, "composition")[0].key for i in range(5000)}
    test = {draw_draft(i, "test", 1, 0, "composition")[0].key for i in range(1500)}
    assert not train & test


def test_table_is_big_and_worded() -> None:
    operations = load_operations()
    assert len(operations) >= 60
    assert len({operation.name for operation in operations}) == len(operations)
    wordings = [wording for operation in operations for wording in operation.wordings]
    assert len(set(wordings)) == len(wordings), "a wording means exactly one operation"
    for operation in operations:
        assert operation.source in KINDS
        assert operation.target in KINDS
        assert len(operation.wordings) >= 3
        for wording in operation.wordings:
            assert ("{k}" in wording) == operation.has_constant, wording
            assert 5 <= len(wording) <= 42, wording
            assert not any(joiner in wording for joiner in (*JOINERS, '"')), wording


def test_names_never_collide() -> None:
    arguments = {name for names in ARGUMENT_NAMES.values() for name in names}
    pools = [arguments, set(VARIABLE_NAMES), set(FUNCTION_NAMES)]
    assert sum(map(len, pools)) == len(set.union(*pools))
    for name in set.union(*pools):
        assert name.isidentifier()
        assert not keyword.iskeyword(name)
        assert not hasattr(builtins, name)
    rng = random.Random(0)
    for _ in range(2000):
        word = draw_word(rng)
        assert word not in set.union(*pools)
        assert not keyword.iskeyword(word)
        assert not hasattr(builtins, word)


def is_of_kind(value: object, kind: Kind) -> bool:
    if kind == "int":
        return type(value) in (int, bool)
    if kind == "str":
        return type(value) is str
    if kind == "dict":
        return type(value) is dict and all(
            type(key) is str and type(item) is int for key, item in value.items()
        )
    element = int if kind == "ints" else str
    return type(value) is list and all(type(item) is element for item in value)


@pytest.mark.parametrize("operation", load_operations(), ids=lambda operation: operation.name)
def test_operation_is_total_and_pure(operation: Operation) -> None:
    rng = random.Random(operation.name)
    inputs = [*EDGES[operation.source], *[draw_input(rng, operation.source) for _ in range(30)]]
    extremes: dict[Kind, object] = {"int": 10**60, "ints": [10**60, -(10**60)] * 9}
    inputs.append(extremes.get(operation.source, inputs[-1]))
    for k in CONSTANTS if operation.has_constant else (0,):
        function = compile_operation(operation, k)
        for value in inputs:
            before = copy.deepcopy(value)
            output = function(value)
            assert value == before
            assert is_of_kind(output, operation.target), (value, output)
            assert type(output) is not bool


@pytest.mark.parametrize("operation", load_operations(), ids=lambda operation: operation.name)
def test_operation_does_something(operation: Operation) -> None:
    assert is_telling(((operation, 3),), list_probes(operation.source))


def test_every_operation_is_drawn_at_its_levels() -> None:
    for level in LEVELS[:3]:
        drawn = {
            name
            for index in range(4000)
            for name in draw_draft(index, "train", level, 0, "composition")[0].key.split(">")
        }
        reachable = list_operations("ints", ("ints", "int")) if level == 1 else load_operations()
        assert drawn == {operation.name for operation in reachable}


@pytest.mark.parametrize("level", LEVELS)
def test_body_has_one_line_an_operation(level: int) -> None:
    num_operations = max(2, level)
    for index in range(200):
        draft, _ = draw_draft(index, "train", level, 0, "composition")
        lines = draft.reference.splitlines()
        assert len(lines) == len(draft.steps) == num_operations
        assert [line.startswith("    return ") for line in lines] == [
            *[False] * (num_operations - 1),
            True,
        ]
        assert any(draft.prompt.count(joiner) == num_operations - 1 for joiner in JOINERS)
        for (operation, k), line in zip(draft.steps, lines, strict=True):
            assert not operation.has_constant or str(k) in line
            assert not operation.has_constant or str(k) in draft.prompt
        if level >= 4:
            assert any("dict" in (op.source, op.target) for op, _ in draft.steps)


def test_level_1_is_short() -> None:
    for split in SPLITS:
        for index in range(3000):
            prompt, reference = make_example(index, split=split, level=1)
            assert len(prompt) <= 130, prompt
            assert len(reference) <= 130, reference


@pytest.mark.parametrize("level", LEVELS)
def test_outputs_stay_small(level: int) -> None:
    for problem in draw_problems(level, "composition", 300):
        assert isinstance(problem.check, FunctionCheck)
        assert all(len(repr(case.expected)) < 4000 for case in problem.check.cases), problem


@pytest.mark.parametrize("family", FAMILIES)
def test_family_grows_with_level_and_compiles(family: str) -> None:
    mean_length = []
    for level in LEVELS:
        examples = [
            make_example(index, split="train", level=level, group=family) for index in range(100)
        ]
        for prompt, reference in examples:
            compile(prompt + reference, "minipy", "exec")
        mean_length.append(sum(len(reference) for _, reference in examples))
    assert mean_length == sorted(mean_length)
    assert mean_length[0] < mean_length[-1]


def test_inconsistent_name_breaks_renaming_and_fresh_identifier() -> None:
    for index in range(20):
        renaming = make_problem(index, split="test", level=2, group="renaming")
        new = renaming.prompt.split("(")[1].split(")")[0]
        broken = renaming.reference.replace(new, "bogus", 1)
        with pytest.raises(NameError):
            score(renaming, renaming.prompt + broken)
        fresh = make_problem(index, split="test", level=2, group="fresh_identifier")
        new = fresh.reference.split()[0]
        assert fresh.reference.count(new) >= 4
        broken = fresh.reference[::-1].replace(new[::-1], "sugob", 1)[::-1]
        with pytest.raises(NameError):
            score(fresh, fresh.prompt + broken)


def test_load_mixes_levels_and_families() -> None:
    spec = "minipy:split=test,level=1+3,num_problems=40,seed=5,families=on"
    benchmark = load_benchmark(spec)
    assert isinstance(benchmark, Benchmark)
    assert len({problem.problem_id for problem in benchmark.problems}) == 40
    groups = [problem.group for problem in benchmark.problems]
    assert set(groups) == {"level-1", "level-3", *FAMILIES}
    assert groups.count("level-1") == groups.count("level-3") == 10
    assert load_benchmark(spec).revision == benchmark.revision
    assert load_benchmark(spec.replace("seed=5", "seed=6")).revision != benchmark.revision


def test_fewer_problems_are_a_prefix() -> None:
    many = load_problems(levels=(1, 2), num_problems=30, has_families=True)
    assert load_problems(levels=(1, 2), num_problems=11, has_families=True) == many[:11]


def test_defaults_are_test_compositions_of_level_1() -> None:
    benchmark = load_benchmark("minipy")
    assert len(benchmark.problems) == 200
    assert {problem.group for problem in benchmark.problems} == {"level-1"}
    assert benchmark.problems[3] == make_problem(3, split="test", level=1)


@pytest.mark.parametrize(
    "tail",
    [
        "split=dev",
        "level=0",
        "level=6",
        "level=1+",
        "level=",
        "num_problems=0",
        "num_problems=-1",
        "num_problems=²",
        "seed=x",
        "families=yes",
        "famlies=on",
    ],
)
def test_load_refuses_bad_options(tail: str) -> None:
    with pytest.raises(UserError, match=r"use|ask|not a whole number|no option"):
        load_benchmark(f"minipy:{tail}")


@pytest.mark.parametrize(
    ("index", "split", "level", "group"),
    [
        (-1, "test", 1, "composition"),
        (0, "dev", 1, "composition"),
        (0, "test", 0, "composition"),
        (0, "test", 6, "composition"),
        (0, "test", 1, "bracket"),
    ],
)
def test_make_problem_refuses_bad_arguments(index: int, split: str, level: int, group: str) -> None:
    with pytest.raises(ValueError, match="="):
        make_problem(index, split=cast(Split, split), level=level, group=group)


def test_protocols_rebuild_the_reference_program() -> None:
    benchmark = load_benchmark("minipy:num_problems=5")
    assert next(iter(benchmark.protocols)) == "base"
    for problem in benchmark.problems:
        program = problem.prompt + problem.reference
        base, chat = benchmark.protocols["base"], benchmark.protocols["chat"]
        assert base.build_prompt(problem) == problem.prompt
        assert base.extract(problem, f"{problem.reference}\nprint(1)\n")[0] == program
        assert problem.prompt in chat.build_prompt(problem)[-1].content  # type: ignore[union-attr, index]
        assert chat.extract(problem, f"Sure:\n```python\n{program}```\n")[0] == program


def test_edges_and_probes_fill_the_cases() -> None:
    for kind in KINDS:
        assert len(EDGES[kind]) == NUM_EDGES
        assert len(list_probes(kind)) == NUM_CASES
