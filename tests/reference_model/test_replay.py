"""Replayed texts against `sample_blocks`, and that nothing is asked between two polls.

On a processor the step is called and not captured; the tests that need a GPU say so.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from tests.reference_model.questions import Questions
from tests.reference_model.tiny import make_model, make_tokenizer

from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import load_checkpoint
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.past import Cached, Uncached
from sdb_reference_model.policies import commit_above, commit_prefix
from sdb_reference_model.replay import (
    MAX_SHAPES,
    Canvas,
    Replayer,
    Rule,
    capture,
    find_obstacle,
    find_step,
)
from sdb_reference_model.replay_tokens import TokenCanvas, TokenReplayer
from sdb_reference_model.sampler import Generation, sample_blocks
from sdb_reference_model.tokenizer import SpecialIds

TEST = SIZES["test"]
CONFIGS = {
    "grouped heads": TEST,
    "one key head": replace(TEST, num_kv_heads=1),
    "every head": replace(TEST, num_kv_heads=4),
    "norms": replace(TEST, qk_norm=True, head_width=10),
    "bias": replace(TEST, qkv_bias=True, tie_embeddings=False),
    "causal past": replace(TEST, causal_past=True),
    "causal past, norms": replace(TEST, qk_norm=True, head_width=10, causal_past=True),
}
PROMPTS = [[10, 11, 12, 13, 14], [20, 21], [30, 31, 32, 33, 34, 35, 36, 37, 38], [40]]
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device: a graph is captured and replayed"
)


def define(
    model: Transformer,
    prompts: list[list[int]],
    rule: Rule,
    is_folded: bool = True,
    block_size: int = 8,
    tokenizer: SpecialIds | None = None,
) -> list[Generation]:
    policy = commit_prefix if rule.is_prefix else commit_above
    return sample_blocks(
        model,
        tokenizer or make_tokenizer(),
        prompts,
        block_size=block_size,
        policy=policy(rule.threshold),
        max_new_tokens=32,
        past=partial(Cached, is_folded=is_folded),
    )


def strip(generations: list[Generation]) -> list[Generation]:
    """Without times, which are the machine's."""
    return [replace(generation, commit_times_s=[]) for generation in generations]


@pytest.mark.parametrize(
    ("end_bias", "is_folded", "is_quantised"),
    [(-1.0, False, False), (0.35, True, False), (0.35, True, True)],
)
@pytest.mark.parametrize("config", CONFIGS)
def test_replays_write_what_the_sampler_writes(
    config: str, end_bias: float, is_folded: bool, is_quantised: bool
) -> None:
    model = make_model(end_bias, config=CONFIGS[config])
    if is_quantised:
        model = copy.deepcopy(model)
        model.quantise()
    replayer = Replayer(model, make_tokenizer(), is_folded=is_folded, poll_every=3)
    for rule, num_rows in (
        (Rule(1.0), 1),
        (Rule(0.9), 3),
        (Rule(0.5), 4),
        (Rule(0.5, is_prefix=True), 4),
    ):
        prompts = PROMPTS[-num_rows:]
        actual = replayer.sample(prompts, block_size=8, rule=rule, max_new_tokens=32)
        expected = define(model, prompts, rule, is_folded)
        assert strip(actual) == strip(expected)  # tokens, reasons, every count and every step
        for generation in actual:
            times = generation.commit_times_s
            assert len(times) == len(generation.commit_tokens)
            assert times == sorted(times)
            assert times[0] > 0


@pytest.mark.parametrize("is_folded", [True, False])
@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize("rule", [Rule(0.5), Rule(0.3, is_prefix=True)], ids=str)
@pytest.mark.parametrize("block_size", [1, 2, 16, 32])
def test_a_causal_past_is_replayed_at_every_block_and_length_of_prompt(
    block_size: int, rule: Rule, end_bias: float, is_folded: bool
) -> None:
    model = make_model(end_bias, config=CONFIGS["causal past"])
    replayer = Replayer(model, make_tokenizer(), is_folded=is_folded)
    for prompts in (PROMPTS[3:], PROMPTS[:1] * 2, [PROMPTS[2] * 4], [[40], PROMPTS[2] * 4, [3, 4]]):
        actual = replayer.sample(prompts, block_size=block_size, rule=rule, max_new_tokens=32)
        assert strip(actual) == strip(define(model, prompts, rule, is_folded, block_size))


@pytest.mark.parametrize("rule", [Rule(1.0), Rule(0.9), Rule(0.9, is_prefix=True)], ids=str)
@pytest.mark.parametrize("name", ["demo-diffusion", "demo-onpolicy"])
def test_a_shipped_model_is_replayed(name: str, rule: Rule) -> None:
    checkpoint = load_checkpoint(name)
    assert checkpoint.attention == "causal_past"
    assert find_obstacle(checkpoint, 16) is None
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    prompts = [
        tokenizer.encode(f'def solve(nums):\n    """{task}"""\n')
        for task in ("Keep the even numbers, then take their sum.", "Reverse the list.")
    ]
    replayer = Replayer(model, tokenizer)
    for rows in (prompts, prompts[:1]):
        actual = replayer.sample(rows, block_size=16, rule=rule, max_new_tokens=32)
        assert strip(actual) == strip(define(model, rows, rule, True, 16, tokenizer))
        assert all(generation.token_ids for generation in actual)


IMPORTS_OLD_TORCH = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
"""Inductor does, inside torch 2.13."""


@pytest.mark.parametrize(
    "compiler", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, IMPORTS_OLD_TORCH])]
)
@pytest.mark.parametrize(
    ("config", "rule"), [("norms", Rule(0.9)), ("causal past, norms", Rule(0.5, is_prefix=True))]
)
def test_a_compiled_step_writes_what_the_sampler_writes(
    config: str, rule: Rule, compiler: str
) -> None:
    model = make_model(0.35, config=CONFIGS[config])
    replayer = Replayer(model, make_tokenizer(), compiler=compiler)
    for prompts in (PROMPTS, PROMPTS[::-1]):  # the second time from the kept step
        actual = replayer.sample(prompts, block_size=8, rule=rule, max_new_tokens=32)
        assert strip(actual) == strip(define(model, prompts, rule))
    assert f"torch.compile ({compiler})" in replayer.implementation
    assert len(replayer.steps) == 1


def test_what_cannot_be_compiled_is_one_line() -> None:
    def ask() -> None:
        print(torch.ones(1).item())  # noqa: T201

    with pytest.raises(
        ValueError, match=r"torch\.compile \(eager\) cannot compile the step here: "
    ):
        capture(ask, torch.device("cpu"), "eager")


def test_a_full_gpu_keeps_no_shapes() -> None:
    """What is said to fit must not count caches that are given up."""

    def fail() -> Canvas:
        raise torch.OutOfMemoryError

    replayer = Replayer(make_model(), make_tokenizer())
    replayer.sample([[1]], block_size=1, rule=Rule(0.5), max_new_tokens=1)
    (shape,) = replayer.steps
    with pytest.raises(torch.OutOfMemoryError):
        find_step(replayer.steps, replace(shape, rule=Rule(0.6)), fail, None)
    assert replayer.steps == {}


@pytest.mark.parametrize("is_folded", [True, False])
def test_a_shape_is_used_again_and_remembers_nothing(is_folded: bool) -> None:
    replayer = Replayer(make_model(0.35), make_tokenizer(), is_folded=is_folded)
    sample = partial(replayer.sample, block_size=8, rule=Rule(0.5), max_new_tokens=32)
    first, longer = sample(PROMPTS[:1]), sample([PROMPTS[2] * 5])
    assert len(replayer.steps) == 1
    assert strip(sample(PROMPTS[:1])) == strip(first) != strip(longer)
    sample(PROMPTS[:2])
    sample([PROMPTS[2] * 5 for _ in range(2)], rule=Rule(0.6))
    assert len(replayer.steps) == 3


def test_no_answer_pays_for_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    clock = time.perf_counter

    def capture(run: Callable[[], object], *_: object) -> Callable[[], object]:
        events.append("capture")
        return run

    def read_clock() -> float:
        events.append("clock")
        return clock()

    monkeypatch.setattr("sdb_reference_model.replay.capture", capture)
    monkeypatch.setattr("sdb_reference_model.replay.time.perf_counter", read_clock)
    replayer = Replayer(make_model(0.35), make_tokenizer())
    replayer.sample(PROMPTS[:1], block_size=8, rule=Rule(0.5), max_new_tokens=32)
    assert events[:2] == ["capture", "clock"]
    events.clear()
    twin = TokenReplayer(make_model(0.35), make_tokenizer())
    twin.sample(PROMPTS[:1], max_new_tokens=8)
    assert events[:2] == ["capture", "clock"]


def test_only_so_many_shapes_are_kept() -> None:
    replayer = Replayer(make_model(), make_tokenizer())
    for step in range(MAX_SHAPES + 2):
        replayer.sample([[1]], block_size=1, rule=Rule(step / 100), max_new_tokens=1)
    assert [shape.rule.threshold for shape in replayer.steps] == [
        step / 100 for step in range(2, MAX_SHAPES + 2)
    ]


@pytest.mark.parametrize("poll_every", [1, 7, 40])
def test_polling_moves_times_and_nothing_else(poll_every: int) -> None:
    model = make_model(config=CONFIGS["bias"])
    replayer = Replayer(model, make_tokenizer(), poll_every=poll_every)
    actual = replayer.sample(PROMPTS, block_size=8, rule=Rule(0.5), max_new_tokens=32)
    assert strip(actual) == strip(define(model, PROMPTS, Rule(0.5)))
    assert actual[-1].finish_reason == "stop"
    if poll_every == 40:
        assert len({time for g in actual for time in g.commit_times_s}) == 1


@pytest.mark.parametrize("config", ["grouped heads", "causal past"])
@pytest.mark.parametrize("is_folded", [True, False])
def test_nothing_is_asked_between_polls(
    is_folded: bool, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, num_runs, runs_at_poll = Questions(), [0], list[int]()
    asked_by: list[tuple[str, str]] = []
    run, poll, read = Canvas.run, Canvas.poll, Canvas.read

    def watch(name: str, method: Callable[[Canvas], object]) -> Callable[[Canvas], object]:
        def watched(canvas: Canvas) -> object:
            assert questions.asked == [], "asked since the last poll"
            answer = method(canvas)
            asked_by.extend((name, question) for question in questions.asked)
            questions.asked.clear()
            return answer

        return watched

    def count(canvas: Canvas) -> None:
        num_runs[0] += 1
        run(canvas)

    def note(canvas: Canvas) -> object:
        runs_at_poll.append(num_runs[0])
        return poll(canvas)

    monkeypatch.setattr(Canvas, "run", count)
    monkeypatch.setattr(Canvas, "poll", watch("poll", note))
    monkeypatch.setattr(Canvas, "read", watch("read", read))
    model, rule = make_model(config=CONFIGS[config]), Rule(0.9, config == "causal past")
    replayer = Replayer(model, make_tokenizer(), is_folded=is_folded, poll_every=3)
    with questions:
        replayer.sample(PROMPTS, block_size=8, rule=rule, max_new_tokens=32)
    assert questions.asked == []
    assert asked_by == [("poll", "tolist")] * len(runs_at_poll) + [("read", "tolist")]
    assert runs_at_poll == list(range(3, num_runs[0] + 1, 3))


def test_the_sampler_itself_asks_in_every_step() -> None:
    with Questions() as questions:
        (generation,) = define(make_model(), PROMPTS[:1], Rule(0.9))
    assert len(questions.asked) > 3 * generation.nfe_denoise


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: bool(x.any()),
        lambda x: int(x.sum()),
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x[x],
        lambda x: x.__setitem__(x, x[:1]),
        lambda x: torch.masked_select(x, x),
        lambda x: torch.equal(x, x),
        lambda x: torch.where(x),
    ],
)
def test_a_question_is_seen(ask: Callable[[torch.Tensor], object]) -> None:
    x = torch.tensor([True, False])
    with torch.inference_mode(), Questions() as questions:
        (x & ~x).cumsum(0)
        assert questions.asked == []
        ask(x)
    assert questions.asked


def test_cached_definition_is_that_of_no_cache_at_all() -> None:
    model = make_model(0.35)
    actual = Replayer(model, make_tokenizer()).sample(
        PROMPTS, block_size=8, rule=Rule(0.5), max_new_tokens=32
    )
    expected = sample_blocks(
        model,
        make_tokenizer(),
        PROMPTS,
        block_size=8,
        policy=commit_above(0.5),
        max_new_tokens=32,
        past=Uncached,
    )
    assert [g.token_ids for g in actual] == [g.token_ids for g in expected]


def test_what_cannot_be_replayed_is_one_line() -> None:
    model, tokenizer = make_model(), make_tokenizer()
    with pytest.raises(ValueError, match="poll_every=0 must be at least 1"):
        Replayer(model, tokenizer, poll_every=0)
    sample = partial(Replayer(model, tokenizer).sample, rule=Rule(0.5))
    with pytest.raises(ValueError, match="block_size=8 does not divide max_new_tokens=12"):
        sample([[1]], block_size=8, max_new_tokens=12)
    with pytest.raises(ValueError, match="every prompt needs at least one token"):
        sample([], block_size=4, max_new_tokens=12)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("is_folded", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("config", "rule"), [("grouped heads", Rule(0.9)), ("causal past", Rule(0.5, is_prefix=True))]
)
def test_a_graph_writes_what_eager_steps_write(
    config: str, rule: Rule, dtype: torch.dtype, is_folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(make_model(0.35, config=CONFIGS[config])).to("cuda", dtype)
    texts = []
    for is_captured in (True, False):
        if not is_captured:
            monkeypatch.setattr("sdb_reference_model.replay.capture", lambda run, *_: run)
        replayer = Replayer(model, make_tokenizer(), is_folded=is_folded)
        for prompts in (PROMPTS, PROMPTS[::-1]):  # the second one from the kept graph
            texts.append(
                strip(replayer.sample(prompts, block_size=8, rule=rule, max_new_tokens=32))
            )
    assert texts[:2] == texts[2:]
    if dtype == torch.float32:
        assert [g.token_ids for g in texts[0]] == [
            g.token_ids for g in define(model, PROMPTS, rule)
        ]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # is a prototype, it warns
def test_a_gpu_is_not_waited_for_within_a_step() -> None:
    canvases: list[tuple[Canvas | TokenCanvas, Callable[[], object]]] = []
    for config in ("grouped heads", "causal past"):
        model = copy.deepcopy(make_model(config=CONFIGS[config])).to("cuda")
        blocks = Replayer(model, make_tokenizer())
        blocks.sample(PROMPTS, block_size=8, rule=Rule(0.9), max_new_tokens=32)
        canvases += blocks.steps.values()
    tokens = TokenReplayer(model, make_tokenizer())
    tokens.sample(PROMPTS, max_new_tokens=8)
    canvases += tokens.steps.values()
    for canvas, replay in canvases:
        torch.cuda.set_sync_debug_mode("error")
        try:
            replay()
            canvas.run()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the compiler, about its own settings
def test_a_compiled_step_can_be_captured() -> None:
    model = copy.deepcopy(make_model(0.35)).to("cuda")
    texts = [
        strip(
            Replayer(model, make_tokenizer(), compiler=compiler).sample(
                PROMPTS, block_size=8, rule=Rule(0.9), max_new_tokens=32
            )
        )
        for compiler in ("inductor", None)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("config", ["bias", "norms"])
def test_token_replays_write_what_the_twin_writes(
    config: str, temperature: float, end_bias: float
) -> None:
    model = make_model(end_bias, config=CONFIGS[config])
    replayer = TokenReplayer(model, make_tokenizer(), poll_every=3)
    for num_rows, max_new_tokens in ((1, 1), (2, 13), (4, 20)):
        settings: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "seeds": [9, 8, 7, 6][:num_rows],
        }
        prompts = PROMPTS[:num_rows]
        actual = replayer.sample(prompts, **settings)
        assert strip(actual) == strip(sample_tokens(model, make_tokenizer(), prompts, **settings))
        assert strip(replayer.sample(prompts, **settings)) == strip(actual)  # kept, and empty
        for generation in actual:
            assert len(generation.commit_times_s) == len(generation.commit_tokens)
            assert generation.commit_times_s == sorted(generation.commit_times_s)
    assert len(replayer.steps) == 3


def test_tokens_are_asked_for_between_polls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    questions, polls = Questions(), list[int]()
    run, poll = TokenCanvas.run, TokenCanvas.poll

    def watched_run(canvas: TokenCanvas) -> None:
        assert questions.asked == []
        run(canvas)
        assert questions.asked == []

    def watched_poll(canvas: TokenCanvas) -> list[bool]:
        answer = poll(canvas)
        assert questions.asked == ["tolist"]
        questions.asked.clear()
        polls.append(1)
        return answer

    monkeypatch.setattr(TokenCanvas, "run", watched_run)
    monkeypatch.setattr(TokenCanvas, "poll", watched_poll)
    with questions:
        TokenReplayer(make_model(), make_tokenizer(), poll_every=4).sample(
            PROMPTS, max_new_tokens=13
        )
    assert len(polls) == 4  # of the prefill, and of 12 forwards


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_graph_writes_what_eager_steps_write(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(make_model(0.35)).to("cuda", dtype)
    texts = []
    for is_captured in (True, False):
        if not is_captured:
            monkeypatch.setattr("sdb_reference_model.replay.capture", lambda run, *_: run)
        replayer = TokenReplayer(model, make_tokenizer())
        texts.append(strip(replayer.sample(PROMPTS, max_new_tokens=20, temperature=0.8)))
    assert texts[0] == texts[1]
