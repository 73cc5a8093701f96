"""The candidate pool: what is sampled and stored, that it resumes, and what is refused."""

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.distill import (
    COLUMNS,
    DistillConfig,
    build_policy,
    distill,
    load_trajectories,
    read_provenance,
)
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.trajectories import Verify

PROMPTS = ["red", "blue green", "a b c", "xyz", "one more"]
CONFIG = DistillConfig(
    init_from="tiny",
    block_size=4,
    max_new_tokens=8,
    policies=("threshold:1.0", "threshold:0.3", "leftmost:1", "random:2"),
    temperatures=(0.0, 1.0),
    num_seeds=2,
    must_pass=False,
    prompts_per_shard=2,
    seed=3,
)


@functools.cache
def make_checkpoint() -> Checkpoint:
    """Random weights, wide enough that confidences differ; the end token is likely."""
    tokenizer = CodeTokenizer.train(["red blue green"], 300)
    model = Transformer(replace(SIZES["test"], vocab_size=300))
    model.initialise(torch.Generator().manual_seed(7))
    for block in model.blocks:
        for weight in block.parameters():
            weight.data *= 6
    model.embedding.weight.data *= 20
    model.embedding.weight.data[tokenizer.end_id] *= 1.4
    return Checkpoint(
        model.eval().requires_grad_(False), tokenizer, "diffusion", "0" * 16, {"name": "tiny"}
    )


def make_pool(
    out: Path, config: DistillConfig = CONFIG, verify: Verify | None = None, stop_after: int = 99
) -> Dataset:
    class Killed(Exception):
        pass

    def stop(num_done: int, num_winners: int) -> None:
        if num_done >= stop_after:
            raise Killed

    try:
        return distill(
            config,
            make_checkpoint(),
            PROMPTS,
            out,
            verify=verify,
            provenance={"machine": "test"},
            on_shard=stop,
        )
    except Killed:
        return Dataset.from_list([])


def test_the_pool_holds_every_candidate_and_the_best_complete_one_wins(tmp_path: Path) -> None:
    dataset = make_pool(tmp_path)
    assert dataset.column_names == list(COLUMNS)
    assert len(dataset) == len(PROMPTS) * (3 * (1 + 2) + 2 * 2)
    assert any(dataset["is_selected"])
    for prompt_row in range(len(PROMPTS)):
        pool = [row for row in dataset if row["prompt_row"] == prompt_row]
        assert {row["prompt"] for row in pool} == {PROMPTS[prompt_row]}
        may_win = [row["elbo"] for row in pool if row["is_complete"]]
        winners = [row["elbo"] for row in pool if row["is_selected"]]
        assert winners == ([max(may_win)] if may_win else [])
        assert len({tuple(row["answer_ids"]) for row in pool}) > 1
        for row in pool:
            assert len(row["answer_ids"]) == len(row["commit_steps"]) == len(row["log_p"])
            assert row["elbo"] == pytest.approx(sum(row["log_p"]))


def test_only_what_the_verifier_accepts_may_win(tmp_path: Path) -> None:
    asked: list[int] = []

    def accept_even(rows: Sequence[int], completions: Sequence[str]) -> list[float | None]:
        asked.extend(rows)
        return [None if row == 4 else float(row % 2 == 0) for row in rows]

    dataset = make_pool(tmp_path, replace(CONFIG, must_pass=True), accept_even)
    assert sorted(asked) == dataset["prompt_row"]
    assert {row["prompt_row"] for row in dataset if row["is_selected"]} <= {0, 2}
    assert {row["reward"] for row in dataset if row["prompt_row"] == 4} == {None}
    assert any(dataset["is_selected"])


def test_a_killed_pool_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = make_pool(tmp_path / "whole")
    make_pool(tmp_path / "parts", stop_after=2)
    assert len(list((tmp_path / "parts/shards").iterdir())) == 1
    with pytest.raises(ValueError, match="no finished trajectories; make them with"):
        load_trajectories(tmp_path / "parts")
    parts = make_pool(tmp_path / "parts")
    assert parts.to_list() == whole.to_list()
    assert load_trajectories(tmp_path / "parts").to_list() == whole.to_list()


def test_the_data_set_says_what_it_is_and_where_it_comes_from(tmp_path: Path) -> None:
    make_pool(tmp_path)
    provenance = read_provenance(load_trajectories(tmp_path))
    assert provenance["provenance"] == {"machine": "test"}
    assert provenance["config"]["policies"] == list(CONFIG.policies)
    assert provenance["checkpoint"] == "0" * 16
    text = (tmp_path / "README.md").read_text()
    assert all(f"`{column}`" in text for column in COLUMNS)
    assert json.dumps("machine") in text


def test_the_monte_carlo_elbo_selects_if_asked(tmp_path: Path) -> None:
    dataset = make_pool(tmp_path, replace(CONFIG, elbo="monte-carlo", num_elbo_samples=2))
    for prompt_row in range(len(PROMPTS)):
        pool = [row for row in dataset if row["prompt_row"] == prompt_row and row["is_complete"]]
        winners = [row["monte_carlo_elbo"] for row in pool if row["is_selected"]]
        assert winners == ([max(row["monte_carlo_elbo"] for row in pool)] if pool else [])


def test_policies_commit_as_their_names_say() -> None:
    confidence = torch.tensor([[0.2, -1.0, 0.9, 0.5, 0.6]])
    is_open = torch.tensor([[True, True, True, False, True]])
    leftmost = build_policy("leftmost:2", torch.Generator())(confidence, is_open, 0)
    assert leftmost.tolist() == [[True, False, True, False, False]]
    generator = torch.Generator().manual_seed(0)
    random = build_policy("random:1", generator)
    chosen = {tuple(random(confidence, is_open, 0)[0].tolist()) for _ in range(50)}
    assert {row.index(True) for row in chosen} == {0, 2, 4}
    assert all(sum(row) == 1 for row in chosen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policies": ("best",)}, "policy 'best'; use threshold:P"),
        ({"policies": ("threshold:2",)}, "with P in"),
        ({"policies": ("steps:1.5",)}, "use threshold:P"),
        ({"policies": ()}, "at least one entry"),
        ({"temperatures": (-1.0,)}, "must not be negative"),
        ({"num_seeds": 0}, "must be positive"),
        ({"must_pass": True}, "needs a verifier"),
        ({"block_size": 5}, "does not divide max_new_tokens=8"),
    ],
)
def test_wrong_values_are_one_clear_line(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_pool(tmp_path, replace(CONFIG, **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_another_pool_and_an_autoregressive_model_are_refused(tmp_path: Path) -> None:
    make_pool(tmp_path)
    with pytest.raises(ValueError, match="holds another pool; use another --out"):
        make_pool(tmp_path, replace(CONFIG, seed=4))
    twin = replace(make_checkpoint(), objective="autoregressive")
    with pytest.raises(ValueError, match="only a diffusion model has trajectories"):
        distill(
            CONFIG, twin, PROMPTS, tmp_path, verify=None, provenance={}, on_shard=lambda *_: None
        )
