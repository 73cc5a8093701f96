"""On-policy training: steps fall, resume is exact, and what cannot be trained is refused."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.curves import CURVES, draw_curves, smooth
from sdb_reference_model.finetune import Metrics
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.onpolicy import (
    OnPolicyConfig,
    compute_advantages,
    compute_progress,
    train_on_policy,
)
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.trajectories import Verify

TOKENIZER = CodeTokenizer.train(["red blue green"], 300)
PROMPTS = ["red", "blue green", "a b c", "xyz"]
CONFIG = OnPolicyConfig(
    init_from="tiny",
    num_updates=4,
    learning_rate=3e-3,
    block_size=4,
    max_new_tokens=8,
    threshold=0.5,
    prompts_per_update=2,
    runs_per_prompt=4,
    speed_objective="steps",
    speed_weight=1.0,
    seed=1,
)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """Random weights that make the model unsure: it commits slowly, and could be quicker."""
    model = Transformer(replace(SIZES["test"], vocab_size=300))
    model.initialise(torch.Generator().manual_seed(7))
    model.embedding.weight.data *= 10
    return Checkpoint(model.eval().requires_grad_(False), TOKENIZER, "diffusion", "f" * 16, {})


def accept(rows: Sequence[int], completions: Sequence[str]) -> list[float | None]:
    return [1.0] * len(rows)


def run(
    checkpoint: Checkpoint,
    out: Path,
    config: OnPolicyConfig = CONFIG,
    verify: Verify | None = accept,
    judge: Verify = accept,
    stop_after: int = 999,
) -> list[Metrics]:
    seen: list[Metrics] = []

    class Killed(Exception):
        pass

    def note(update: int, metrics: Metrics) -> None:
        seen.append(metrics)
        if update == stop_after:
            raise Killed

    try:
        train_on_policy(
            config,
            checkpoint,
            PROMPTS,
            out,
            judge=judge,
            verify=verify,
            provenance={"machine": "test"},
            on_update=note,
            save_every=2,
        )
    except Killed:
        pass
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["steps", "progressive"])
def test_steps_fall_where_nothing_holds_them(
    checkpoint: Checkpoint, tmp_path: Path, objective: str
) -> None:
    config = replace(
        CONFIG,
        num_updates=25,
        learning_rate=5e-3,
        speed_objective=objective,  # type: ignore[arg-type]
        prompts_per_update=4,
        runs_per_prompt=8,
        verifier="none",
    )
    log = run(checkpoint, tmp_path, config, verify=None)
    first = sum(m["tokens_per_forward"] for m in log[:5]) / 5
    last = sum(m["tokens_per_forward"] for m in log[-5:]) / 5
    assert first < 2.5
    assert last > 1.4 * first
    assert load_checkpoint(str(tmp_path)).training["config"]["speed_objective"] == objective


@pytest.mark.slow
def test_the_verifier_is_obeyed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Without a price on steps, answers become what the verifier wants."""

    def want_space(rows: Sequence[int], completions: Sequence[str]) -> list[float | None]:
        return [float(" " in text or "e" in text) for text in completions]

    config = replace(
        CONFIG,
        num_updates=30,
        learning_rate=1e-2,
        speed_weight=0.0,
        prompts_per_update=4,
        runs_per_prompt=8,
    )
    log = run(checkpoint, tmp_path, config, verify=want_space, judge=want_space)
    assert sum(m["value"] for m in log[-5:]) > sum(m["value"] for m in log[:5]) + 0.75
    assert log[0]["pass_at_1"] == log[0]["value"]


def test_a_strong_divergence_penalty_keeps_the_model_at_its_start(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    free = run(checkpoint, tmp_path / "free", replace(CONFIG, num_updates=8))
    held = run(checkpoint, tmp_path / "held", replace(CONFIG, num_updates=8, kl_weight=100.0))
    assert free[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert 0 < held[-1]["kl"] < 0.5 * free[-1]["kl"]


def test_resumed_run_ends_where_an_uninterrupted_one_does(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    run(checkpoint, tmp_path / "whole")
    run(checkpoint, tmp_path / "parts", stop_after=3)
    run(checkpoint, tmp_path / "parts")
    first = load_file(tmp_path / "whole/state.safetensors")
    second = load_file(tmp_path / "parts/state.safetensors")
    for name in first.keys() - {"progress"}:
        assert torch.equal(first[name], second[name]), name

    def read(folder: str) -> list[dict[str, float]]:
        lines = (tmp_path / folder / "log.jsonl").read_text().splitlines()
        return [{**json.loads(line), "elapsed_s": 0} for line in lines]

    assert read("parts") == read("whole")
    assert len(read("whole")) == 4


def test_the_log_holds_what_the_curves_show(checkpoint: Checkpoint, tmp_path: Path) -> None:
    log = run(checkpoint, tmp_path, judge=lambda rows, _: [float(row < 2) for row in rows])
    assert all(CURVES.keys() <= m.keys() for m in log)
    assert {m["pass_at_1"] for m in log} <= {0.0, 0.5, 1.0}
    for metrics in log:
        product = metrics["tokens_per_forward"] * metrics["steps_per_answer"]
        assert product == pytest.approx(metrics["tokens_per_answer"])
        assert metrics["reward"] == pytest.approx(metrics["value"] - metrics["speed_cost"])
    path = tmp_path / "log.jsonl"
    draw_curves({"a run": path, "the same": path}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert smooth([1.0, 1.0, 1.0]) == pytest.approx([1.0, 1.0, 1.0])
    assert smooth([0.0, 1.0])[1] == pytest.approx(1 / 1.8)


def test_a_fault_of_the_verifier_is_no_wrong_answer(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def break_down(rows: Sequence[int], completions: Sequence[str]) -> list[float | None]:
        return [None] * len(rows)

    log = run(checkpoint, tmp_path, verify=break_down, judge=break_down)
    weights = load_file(tmp_path / "state.safetensors")
    start = checkpoint.model.state_dict()
    assert all(torch.equal(weights[f"model.{name}"], w) for name, w in start.items())
    assert log[-1]["kl"] == 0.0


def test_the_baseline_leaves_the_run_itself_and_faults_out() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.0, 3.0, 3.0, 5.0, 9.0, 9.0])
    valid = torch.tensor([True, True, True, True, True, True, False, False])
    advantages = compute_advantages(rewards, valid, 4)
    assert advantages.tolist() == pytest.approx(
        [1 - 1, 0 - 4 / 3, 0 - 4 / 3, 3 - 1 / 3, 3 - 5, 5 - 3, 0, 0]
    )
    alone = torch.tensor([True, False, False, False, False, False, False, False])
    assert compute_advantages(rewards, alone, 4).tolist() == [0.0] * 8


def test_the_progressive_schedule_ends_where_it_should() -> None:
    assert compute_progress(replace(CONFIG, num_updates=5), 0) == 0.0
    assert compute_progress(replace(CONFIG, num_updates=5), 4) == 1.0
    assert compute_progress(replace(CONFIG, num_updates=9, ramp_updates=3), 1) == 0.5
    assert compute_progress(replace(CONFIG, num_updates=9, ramp_updates=3), 8) == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs_per_prompt": 1}, "a group baseline needs at least 2"),
        ({"prompts_per_update": 5}, "must be 1 to 4"),
        ({"speed_weight": -1.0}, "speed_weight=-1.0 must be 0 or more"),
        ({"kl_weight": float("nan")}, "kl_weight=nan must be 0 or more"),
        ({"seed": -1}, "seed=-1"),
        ({"speed_weight": 0.0, "verifier": "none"}, "leaves no reward"),
        ({"verifier": "learned"}, "needs trajectories"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"block_size": 3}, "does not divide max_new_tokens=8"),
        ({"max_new_tokens": 128}, "set max_new_tokens to at most"),
    ],
)
def test_wrong_values_are_one_clear_line(
    checkpoint: Checkpoint, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        run(checkpoint, tmp_path, replace(CONFIG, **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
