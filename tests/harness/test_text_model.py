"""Generators inside other harnesses: the shared core here, each harness where it is installed.

Scores are those of our own verifier, in a sandbox.
"""

import gc
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sdb_harness.benchmarks import ChatMessage, Prompt, load_benchmark
from sdb_harness.generators import Generator, Prompted
from sdb_harness.judging import Judge
from sdb_harness.plugins.text_model import Request, TextModel
from sdb_harness.records import Completion, SamplingConfig
from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.types import Status

SETTINGS: dict[str, str | int | float] = {"block_size": "4", "threshold": 0.9, "batch_size": "3"}
needs_lm_eval = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="lm-eval is not installed: pip install -e '.[harnesses]'"
)
needs_inspect = pytest.mark.skipif(
    find_spec("inspect_ai") is None,
    reason="inspect_ai is not installed: pip install -e '.[harnesses]'",
)


@pytest.fixture(scope="module")
def model() -> Iterator[TextModel]:
    opened = TextModel("seed_diffusion:demo", SETTINGS)
    yield opened
    opened.close()


MINIPY = load_benchmark("minipy:num_problems=5")
PROMPTS = [problem.prompt for problem in MINIPY.problems]


def passes(number: int, text: str) -> bool:
    """Judge an answer to a problem of `MINIPY` in a sandbox."""
    problem = MINIPY.problems[number]
    with EmbeddedSandbox(1) as sandbox:
        return Judge(MINIPY, sandbox).judge(problem, problem.prompt + text).status == Status.PASSED


def test_texts_come_in_order_whatever_is_batched_together(model: TextModel) -> None:
    requests = [
        Request(prompt, max_new_tokens=length)
        for prompt, length in zip(PROMPTS, (32, 30, 32, 61, 32), strict=True)
    ]
    together = [one.text for one in model.write(requests)]
    assert together == [model.write([request])[0].text for request in requests]
    assert any(together)


def test_texts_are_cut_at_stop_strings(model: TextModel) -> None:
    (whole,) = model.write([Request(PROMPTS[0], max_new_tokens=64)])
    (cut,) = model.write([Request(PROMPTS[0], stop=("return",), max_new_tokens=64)])
    assert "return" in whole.text
    assert cut.text == whole.text.partition("return")[0]


def test_the_judge_of_these_tests_tells_right_from_wrong() -> None:
    assert passes(0, MINIPY.problems[0].reference)
    assert not passes(0, "    return None\n")


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="setting 'blocksize' is not known"):
        TextModel("seed_diffusion:demo", {"blocksize": 4})
    odd = TextModel("seed_diffusion:demo", {"block_size": 4})
    with pytest.raises(ValueError, match="needs exactly one of threshold, num_steps, policy"):
        odd.write([Request("x")])


class Noting:
    """A generator that notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Prompt, int, int, float]] = []

    def generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig
    ) -> Iterator[tuple[int, Completion]]:
        for position, one in enumerate(batch):
            self.asked.append((one.prompt, one.sample_index, one.seed, sampling.top_p))
            yield (
                position,
                Completion(text="", token_ids=(), output_tokens=0, finish_reason="stop", e2e_s=0.0),
            )


def note(settings: dict[str, str | int | float], *requests: Request) -> list[Any]:
    noting, model = Noting(), TextModel("canonical", settings)
    model.generator = cast(Generator, noting)
    for request in requests:
        model.write([request])
    return noting.asked


def test_repetitions_and_prompts_have_seeds_of_their_own() -> None:
    one, other = Request("a", temperature=1.0), Request("b", temperature=1.0)
    asked = note({"seed": 3}, one, other, one, one)
    assert [(prompt, index) for prompt, index, _, _ in asked] == [
        ("a", 0), ("b", 0), ("a", 1), ("a", 2)
    ]  # fmt: skip
    seeds = [seed for _, _, seed, _ in asked]
    assert len(set(seeds)) == 4
    assert [seed for _, _, seed, _ in note({"seed": 3}, one, other, one, one)] == seeds
    assert not set(seeds) & {seed for _, _, seed, _ in note({"seed": 4}, one, other, one, one)}


def test_a_request_s_own_seed_and_share_go_first() -> None:
    plain, own = Request("a", temperature=1.0), Request("a", temperature=1.0, top_p=0.5, seed=7)
    ((_, _, seed, share),) = note({"seed": 3, "top_p": 0.9}, plain)
    assert share == 0.9
    ((_, _, own_seed, own_share),) = note({"seed": 3, "top_p": 0.9}, own)
    assert own_share == 0.5
    assert own_seed != seed
    assert own_seed == note({"seed": 7}, plain)[0][2]


def test_repetitions_differ_where_something_is_drawn(model: TextModel) -> None:
    drawn = Request(PROMPTS[0], max_new_tokens=64, temperature=2.0)
    assert len({one.text for one in model.write([drawn] * 4)}) > 1


@needs_lm_eval
@pytest.mark.filterwarnings("ignore")
def test_lm_eval_runs_a_task_of_minipy_with_it() -> None:
    """The real package on minipy: texts are those of our own sampler, the score our verifier's."""
    import datasets
    import lm_eval
    from lm_eval.api.task import ConfigurableTask

    from sdb_harness.plugins.lm_eval_model import SdbenchModel

    problems = MINIPY.problems
    ours = SdbenchModel("seed_diffusion:demo", block_size=4, threshold=0.9, batch_size=2)
    rows = [{"prompt": problem.prompt, "number": n} for n, problem in enumerate(problems)]
    seen: dict[int, str] = {}

    def process(doc: dict[str, object], results: list[str]) -> dict[str, float]:
        number = int(str(doc["number"]))
        seen[number] = results[0]
        return {"passed": float(passes(number, results[0]))}

    task = ConfigurableTask(
        config={
            "task": "minipy_prompts",
            "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "",
            "process_results": process,
            "generation_kwargs": {"until": ["\ndef"], "max_gen_toks": 64, "do_sample": False},
            "metric_list": [{"metric": "passed", "aggregation": "mean", "higher_is_better": True}],
        }
    )
    found = lm_eval.evaluate(ours, task_dict={"minipy_prompts": task}, bootstrap_iters=0)
    wanted = ours.text_model.write([Request(p.prompt, ("\ndef",), 64) for p in problems])
    assert [seen[n] for n in range(5)] == [one.text for one in wanted]
    (score,) = (
        value for key, value in found["results"]["minipy_prompts"].items() if "passed," in key
    )
    assert score == sum(passes(number, one.text) for number, one in enumerate(wanted)) / 5
    assert score > 0.0


@needs_lm_eval
def test_lm_eval_tasks_of_likelihoods_are_refused_by_name() -> None:
    from sdb_harness.plugins.lm_eval_model import SdbenchModel, read_request

    with pytest.raises(NotImplementedError, match="choose tasks of output_type generate_until"):
        SdbenchModel("canonical").loglikelihood([])
    given = {"until": "\n\n", "max_gen_toks": 9, "temperature": 0.5, "top_p": 0.9}
    request = read_request(SimpleNamespace(args=("p", given)))
    assert request == Request("p", ("\n\n",), 9, 0.5, 0.9)


@needs_lm_eval
@pytest.mark.filterwarnings("ignore")
def test_lm_eval_s_chats_reach_the_generator_as_turns() -> None:
    """`apply_chat_template` of the real package, with the start of an answer."""
    import datasets
    import lm_eval
    from lm_eval.api.task import ConfigurableTask

    from sdb_harness.plugins.lm_eval_model import SdbenchModel

    ours, noting = SdbenchModel("canonical"), Noting()
    ours.text_model.generator = cast(Generator, noting)
    task = ConfigurableTask(
        config={
            "task": "chats",
            "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list([{"q": "Write é."}])},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{q}}",
            "doc_to_target": "",
            "gen_prefix": "Here:",
            "repeats": 3,
            "process_results": lambda doc, results: {"is_empty": float(results[0] == "")},
            "generation_kwargs": {"until": [], "max_gen_toks": 8, "temperature": 1.0},
            "metric_list": [
                {"metric": "is_empty", "aggregation": "mean", "higher_is_better": False}
            ],
        }
    )
    lm_eval.evaluate(
        ours,
        task_dict={"chats": task},
        bootstrap_iters=0,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        system_instruction="Be brief.",
    )
    turns = (
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "Write é."),
        ChatMessage("assistant", "Here:"),
    )
    assert [(prompt, index) for prompt, index, _, _ in noting.asked] == [
        (turns, index) for index in range(3)
    ]
    assert len({seed for _, _, seed, _ in noting.asked}) == 3


@needs_inspect
@pytest.mark.filterwarnings("ignore")
def test_inspect_ai_evaluates_with_it(tmp_path: object) -> None:
    import inspect_ai
    from inspect_ai.dataset import Sample
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.scorer import Score, Target, accuracy, scorer
    from inspect_ai.solver import TaskState

    import sdb_harness.plugins.inspect_provider  # noqa: F401

    def verifier() -> Any:
        async def score(state: TaskState, target: Target) -> Score:
            return Score(value=passes(int(target.text), state.output.completion))

        return score

    task = inspect_ai.Task(
        dataset=[Sample(input=prompt, target=str(n)) for n, prompt in enumerate(PROMPTS[:2])],
        scorer=scorer(metrics=[accuracy()])(verifier)(),
        config=GenerateConfig(max_tokens=64, temperature=8.0, top_p=0.9, seed=7),
        epochs=3,
    )
    found = get_model("sdbench/seed_diffusion:demo", block_size=4, threshold=0.9)
    (log,) = inspect_ai.eval(task, model=found, display="none", log_dir=str(tmp_path))
    assert log.status == "success"
    samples = log.samples or []
    assert len(samples) == 6
    again = TextModel("seed_diffusion:demo", {"block_size": 4, "threshold": 0.9, "seed": 7})
    for number, prompt in enumerate(PROMPTS[:2]):
        asked = [Request(prompt, max_new_tokens=64, temperature=8.0, top_p=0.9)] * 3
        texts = [one.output.completion for one in samples if one.target == str(number)]
        assert sorted(texts) == sorted(one.text for one in again.write(asked))
        assert len(set(texts)) > 1, "epochs repeat one sample"
    gc.collect()  # inspect_ai leaves streams open: their warnings belong here, not to pytest's end
