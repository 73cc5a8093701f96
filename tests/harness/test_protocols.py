"""Every preset of every benchmark: any text becomes some program, in time linear in the text."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import pytest

from sdb_harness.benchmarks import (
    PromptProtocol,
    bigcodebench,
    canitedit,
    humaneval,
    humaneval_infilling,
    jsonl,
    livecodebench,
    mbpp,
    mbpp_plus,
    minipy,
    multipl_e,
    mxeval,
    naturalcodebench,
)
from sdb_harness.benchmarks.protocols import Preset
from sdb_harness.records import Problem
from sdb_sandboxes.types import ExitCodeCheck

TABLES: dict[str, Mapping[str, PromptProtocol]] = {
    "bigcodebench": {**bigcodebench.COMPLETE, **bigcodebench.INSTRUCT},
    "canitedit": canitedit.PROTOCOLS,
    "humaneval": humaneval.PROTOCOLS,
    "humaneval_infilling": humaneval_infilling.PROTOCOLS,
    "jsonl": jsonl.PROTOCOLS,
    "livecodebench": livecodebench.PROTOCOLS,
    "livecodebench, lcb-compat": livecodebench.COMPAT_PROTOCOLS,
    "mbpp": mbpp.PROTOCOLS,
    "mbpp_plus": mbpp_plus.PROTOCOLS,
    "minipy": minipy.PROTOCOLS,
    "multipl_e": multipl_e.PROTOCOLS,
    "mxeval": mxeval.PROTOCOLS,
    "naturalcodebench": naturalcodebench.PROTOCOLS,
}
"""All but aider's, whose edits have laws of their own in `test_edit_formats.py`."""
GROUPS = ("python", "java", "go", "csharp", "php", "rust")

UNITS = (
    *("[Python]", "[/Python]", "[Java]", "```", "```\n", "```python\n", "```java\n", "~~~", "`"),
    *("public a\n", "public a ", "public class A {\n", "final ", "class A ", "package a ", "}\n"),
    *(
        "import a ",
        'import "a"\n',
        "import (\n",
        "\n",
        "\n\t",
        " ",
        "\t",
        "main",
        "main (",
        "<?php",
    ),
    *("from __future__ import a\n", "def f(x):\n", "    return x\n", "#", "'", '"""', "\\", "("),
    *("é", "\0", "\u2028", "\r\n"),
)


def make_problem(group: str) -> Problem:
    return Problem(
        problem_id="a",
        prompt='package a\nimport "b"\ndef f(x):\n',
        reference="",
        entry_point="f",
        check=ExitCodeCheck(group, ""),
        group=group,
        starter="def f(x):",
        stop=("\n}",),
    )


def list_presets() -> Iterator[tuple[str, Preset]]:
    for table, presets in TABLES.items():
        for name, preset in presets.items():
            assert isinstance(preset, Preset)
            yield f"{table}: {name}", preset


def list_steps() -> dict[str, Callable[[str], object]]:
    """Each way to find code and to put it into a program, once."""
    steps: dict[str, Callable[[str], object]] = {}
    for _, preset in list_presets():
        for group in GROUPS:
            problem, assemble = make_problem(group), preset.assemble
            find = preset.find_code_of(problem) if preset.find_code_of else preset.find_code
            stop = preset.choose_stop(problem)
            steps[find.__name__] = bind_stop(find, stop)
            name = f"{assemble.__module__}.{assemble.__name__}, {group}"
            if "sanitise" not in name and "calibrate" not in name:  # see test_sanitise.py
                steps[name] = partial(assemble, problem)
    return steps


def bind_stop(
    find: Callable[[str, tuple[str, ...]], object], stop: tuple[str, ...]
) -> Callable[[str], object]:
    return lambda text: find(text, stop)


STEPS = list_steps()


def test_chats_are_asked_in_three_wordings_and_nothing_else_differs() -> None:
    chats = {"seed", "evalplus-leaderboard", "evalplus-chat", "chat"}
    for table, presets in TABLES.items():
        for name in presets.keys() & chats:
            first, *others = (presets[name + wording] for wording in ("", "/2", "/3"))
            problem = make_problem("python")
            prompts = {repr(preset.build_prompt(problem)) for preset in (first, *others)}
            assert len(prompts) == 3, (table, name)
            for other in others:
                assert isinstance(first, Preset)
                assert isinstance(other, Preset)
                assert replace(other, ask=first.ask, source=first.source) == first


@pytest.mark.parametrize(
    "table",
    ["humaneval", "mbpp", "mxeval", "multipl_e", "naturalcodebench", "livecodebench", "canitedit"],
)
def test_what_a_benchmarks_paper_did_is_called_paper(table: str) -> None:
    assert "paper" in TABLES[table]
    for presets in (bigcodebench.COMPLETE, bigcodebench.INSTRUCT, humaneval_infilling.PROTOCOLS):
        assert "paper" in presets


def test_bigcode_strips_multipl_es_prompts() -> None:
    problem = make_problem("rust")
    preset = multipl_e.PROTOCOLS["bigcode"]
    assert preset.build_prompt(problem) == problem.prompt.strip()
    assert preset.choose_stop(problem) == ("\n}", "<file_sep>")
    program, _ = preset.extract(problem, "\n    1<file_sep>2")
    assert program == problem.prompt.strip() + "\n    1"


def test_lm_eval_puts_the_suffix_first() -> None:
    problem = replace(make_problem("python"), suffix="    return y\n")
    preset = humaneval_infilling.PROTOCOLS["lm-eval-single-line"]
    assert preset.build_prompt(problem) == f"    return y\n\n\n{problem.prompt}"
    program, _ = preset.extract(problem, "    y = x\n    junk")
    assert program == f"{problem.prompt}    y = x    return y\n"


@pytest.mark.parametrize(("name", "preset"), tuple(list_presets()))
def test_any_text_becomes_some_program(name: str, preset: Preset) -> None:
    draw = random.Random(name)
    for group in GROUPS:
        problem = make_problem(group)
        for _ in range(5):
            text = "".join(draw.choices(UNITS, k=draw.randrange(30)))
            program, rule = preset.extract(problem, text)
            assert isinstance(program, str)
            assert rule


@pytest.mark.parametrize("name", tuple(STEPS))
def test_time_is_linear_in_the_text(name: str) -> None:
    """Quadratic code needs ten seconds or more."""
    for unit in UNITS:
        text = unit * (200_000 // len(unit))
        started = time.process_time()
        STEPS[name](text)
        assert time.process_time() - started < 4, unit
