"""Constrained-order fine-tuning: Eq. 9 against a slow definition, exact resume, and refusals."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from sdb_reference_model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from sdb_reference_model.constrained import (
    ConstrainedConfig,
    compute_constrained_loss,
    draw_states,
    fine_tune,
    replay_batch,
)
from sdb_reference_model.data import collate
from sdb_reference_model.distill import COLUMNS, check_tokenizer
from sdb_reference_model.edits import EditProcess, draw_new_tokens, edit_answers
from sdb_reference_model.finetune import Metrics
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.states import Batch
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.trajectories import Trajectory, pad_steps

BLOCK = 4
TOKENIZER = CodeTokenizer.train(["red blue green"], 300)
CONFIG = ConstrainedConfig(
    init_from="tiny",
    trajectories="here",
    num_updates=6,
    learning_rate=1e-2,
    warmup_updates=2,
    block_size=BLOCK,
    batch_size=4,
    seed=1,
)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    model = Transformer(replace(SIZES["test"], vocab_size=300))
    model.initialise(torch.Generator().manual_seed(7))
    for weight in model.parameters():
        weight.data *= 3
    return Checkpoint(model.eval().requires_grad_(False), TOKENIZER, "diffusion", "f" * 16, {})


def make_batch() -> Batch:
    end = TOKENIZER.end_id
    answers = [[50, 51, 52, 53, 54, end], [60, 61, end]]
    return collate([[10, 11, 12], [20]], answers, TOKENIZER.pad_id, end, BLOCK)


STEPS = [[0, 1, 1, 2, 0, 1], [1, 0, 2]]


def make_trajectories(
    block_size: int = BLOCK, fingerprint: str | None = TOKENIZER.fingerprint
) -> Dataset:
    """Eight winners over prompts that name their answer, and eight losers that must not be used."""
    rows = []
    for index in range(16):
        answer = [50 + index % 4, 60, 70 + index % 4, 61, 62, TOKENIZER.end_id]
        trajectory = Trajectory(answer, [3, 2, 1, 0, 0, 1], [-1.0] * 6, True, 0, 5)
        rows.append(
            {
                "prompt_ids": [10 + index % 4] if index < 8 else [10**9],
                "answer_ids": trajectory.answer_ids,
                "completion": TOKENIZER.decode(trajectory.answer_ids),
                "commit_steps": trajectory.commit_steps,
                "is_selected": index < 8,
            }
        )
    dataset = Dataset.from_list(rows)
    dataset.info.description = json.dumps(
        {"config": {"block_size": block_size}, "tokenizer": fingerprint}
    )
    return dataset


def run(
    checkpoint: Checkpoint, out: Path, config: ConstrainedConfig = CONFIG, stop_after: int = 99
) -> list[float]:
    losses: list[float] = []

    class Killed(Exception):
        pass

    def note(update: int, metrics: Metrics) -> None:
        losses.append(metrics["loss"])
        if update == stop_after:
            raise Killed

    try:
        fine_tune(
            config,
            checkpoint,
            make_trajectories(),
            out,
            provenance={"machine": "test"},
            on_update=note,
            save_every=2,
        )
    except Killed:
        pass
    return losses


@pytest.mark.parametrize("weighting", ["elbo", "uniform"])
def test_loss_is_equation_9(checkpoint: Checkpoint, weighting: str) -> None:
    batch, mask_id, model = make_batch(), TOKENIZER.mask_id, checkpoint.model
    steps = pad_steps(STEPS, 8, BLOCK)
    is_masked = draw_states(batch, steps, BLOCK, torch.Generator().manual_seed(4))
    edited = batch.answer.clone()
    edited[0, [0, 4]] = 99
    edited[1, 1] = 98
    fast = compute_constrained_loss(
        model,
        batch,
        is_masked,
        edited,
        BLOCK,
        mask_id,
        weighting,  # type: ignore[arg-type]
    )
    total, num_blocks, num_edits_asked = 0.0, 0, 0
    for row, block in [(0, 0), (0, 1), (1, 0)]:
        own = slice(block * BLOCK, (block + 1) * BLOCK)
        prompt = batch.prompt[row, -int(batch.prompt_lengths[row]) :].tolist()
        state = edited[row, own].clone()
        state[is_masked[row, block]] = mask_id
        tokens = torch.tensor([prompt + batch.answer[row, : own.start].tolist() + state.tolist()])
        part = torch.cat((torch.zeros(len(prompt)), torch.arange(own.stop) // BLOCK + 1))
        mask = (part[None] <= part[:, None])[None, None]
        logits = model(tokens, mask=mask)[0, -BLOCK:] @ model.head_weight.T
        logits[:, mask_id] = -torch.inf
        num_masked = int(is_masked[row, block].sum())
        weight = BLOCK / num_masked if weighting == "elbo" else 1.0
        for index, target in enumerate(batch.answer[row, own].tolist()):
            if is_masked[row, block, index] or state[index] != target:
                num_edits_asked += not is_masked[row, block, index]
                total -= weight * float(logits[index].log_softmax(-1)[target])
        num_blocks += 1
    assert num_edits_asked > 0
    assert float(fast) == pytest.approx(total / (num_blocks * BLOCK), rel=1e-4)


def test_states_are_those_of_the_trajectory_and_equally_likely() -> None:
    batch, steps = make_batch(), pad_steps(STEPS, 8, BLOCK)
    generator = torch.Generator().manual_seed(0)
    seen: Counter[str] = Counter()
    for _ in range(600):
        is_masked = draw_states(batch, steps, BLOCK, generator)
        seen["".join(str(int(m)) for m in is_masked[0, 0])] += 1
        assert not is_masked[1, 1].any()  # a block behind the end
        assert is_masked[1, 0, 2] == is_masked[1, 0, 3]  # the tail goes with its end token
    assert seen.keys() == {"1111", "0111", "0001"}
    assert min(seen.values()) > 150


def test_edits_are_few_and_spare_the_end(checkpoint: Checkpoint) -> None:
    answers = [[*range(50, 90), TOKENIZER.end_id]] * 50
    batch = collate([[1]] * 50, answers, TOKENIZER.pad_id, TOKENIZER.end_id, BLOCK)
    weights = torch.zeros(300)
    weights[100:110] = 1
    generator = torch.Generator().manual_seed(0)
    none = edit_answers(batch, EditProcess(weights, probability=0.0), generator)
    assert torch.equal(none, batch.answer)
    edited = edit_answers(batch, EditProcess(weights, probability=0.5), generator)
    assert torch.equal(edited[:, 40:], batch.answer[:, 40:])
    num_new = ((edited >= 100) & (edited < 110)).sum(dim=1)
    assert int(num_new.max()) <= 4  # one token in ten
    assert 5 < int((edited != batch.answer).any(dim=1).sum()) < 40


def test_unigram_edits_put_in_what_the_batch_has_as_often() -> None:
    answers = [[*[50] * 30, *[51] * 10, TOKENIZER.end_id]] * 200
    batch = collate([[1]] * 200, answers, TOKENIZER.pad_id, TOKENIZER.end_id, BLOCK)
    weights = torch.ones(300)
    weights[[TOKENIZER.end_id, 51]] = torch.tensor([0.0, 2.0])
    process = EditProcess(weights, max_ratio=1.0, substitution_share=1.0, source="unigram")
    drawn = draw_new_tokens(batch.answer, process, torch.Generator().manual_seed(0))[:, 40:]
    assert set(drawn.flatten().tolist()) == {50, 51}
    assert float((drawn == 51).float().mean()) == pytest.approx(0.4, abs=0.05)  # 2 x 10 : 30
    edited = edit_answers(batch, process, torch.Generator().manual_seed(0))
    assert set(edited[:, :40].flatten().tolist()) == {50, 51}
    one_word = draw_new_tokens(batch.answer[:, :30], process, torch.Generator().manual_seed(0))
    assert len(set(one_word.flatten().tolist())) > 200  # any token, rather than none


def test_fine_tuning_learns_the_winners_and_leaves_the_start_alone(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    before = {k: w.clone() for k, w in checkpoint.model.state_dict().items()}
    losses = run(checkpoint, tmp_path, replace(CONFIG, num_updates=25))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert all(torch.equal(w, before[k]) for k, w in checkpoint.model.state_dict().items())
    loaded = load_checkpoint(str(tmp_path))
    assert loaded.training["provenance"] == {"machine": "test"}
    assert loaded.training["checkpoint"] == "f" * 16
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == list(range(1, 26))


def test_resumed_run_ends_where_an_uninterrupted_one_does(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    run(checkpoint, tmp_path / "whole")
    run(checkpoint, tmp_path / "parts", stop_after=3)
    run(checkpoint, tmp_path / "parts")
    first = load_file(tmp_path / "whole/state.safetensors")
    second = load_file(tmp_path / "parts/state.safetensors")
    assert first.keys() == second.keys()
    for name in first.keys() - {"progress"}:
        assert torch.equal(first[name], second[name]), name
    log = [json.loads(x) for x in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    assert [line["update"] for line in log] == [1, 2, 3, 4, 5, 6]


def test_trajectories_of_another_tokenizer_are_refused(checkpoint: Checkpoint) -> None:
    other = CodeTokenizer.train(["to be or not to be"] * 9, 300)
    assert other.vocab_size != TOKENIZER.vocab_size or other.fingerprint != TOKENIZER.fingerprint
    for fingerprint in (TOKENIZER.fingerprint, None):  # None: from before it was stored
        check_tokenizer(make_trajectories(fingerprint=fingerprint), TOKENIZER)
    for dataset in (make_trajectories(), make_trajectories(fingerprint=None)):
        shifted = dataset.map(lambda row: {"completion": row["completion"] + "?"})
        shifted.info.description = dataset.info.description
        with pytest.raises(ValueError, match="made with another tokenizer") as caught:
            check_tokenizer(shifted, other)
        assert "\n" not in str(caught.value)


def test_poisoned_gradients_stop_before_the_step_and_the_batch_can_be_replayed(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (loss, *_) = run(checkpoint, tmp_path / "sound", replace(CONFIG, num_updates=1))
    monkeypatch.setattr(torch.Tensor, "backward", poison)
    with pytest.raises(ValueError, match=r"update 0 gave .*nan.* and use another --out"):
        run(checkpoint, tmp_path / "poisoned")
    assert not (tmp_path / "poisoned/state.safetensors").exists()
    saved = tmp_path / "poisoned/failed_batch.json"
    assert replay_batch(saved, checkpoint, checkpoint.model) == pytest.approx(loss, rel=1e-6)


def poison(loss: torch.Tensor) -> None:
    """A backward pass that finds no number."""
    torch.autograd.backward(loss * float("nan"))


@pytest.mark.parametrize("order", ["confidence", "random", "left-to-right"])
def test_every_order_trains(checkpoint: Checkpoint, tmp_path: Path, order: str) -> None:
    config = replace(CONFIG, order=order, num_updates=2)  # type: ignore[arg-type]
    assert len(run(checkpoint, tmp_path, config)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_size": 8}, "made of blocks of 4; use 4"),
        ({"batch_size": 9}, "has 8 examples, fewer than batch_size=9"),
        ({"batch_size": 0}, "batch_size=0 must be positive, and the trajectories have 8 winners"),
        ({"edit_probability": 2.0}, "edit_probability=2.0"),
        ({"num_updates": 0}, "num_updates must be positive"),
        ({"learning_rate": 0.0}, "must be positive"),
        ({"learning_rate": 1e30}, "lower learning_rate"),
    ],
)
def test_wrong_values_are_one_clear_line(
    checkpoint: Checkpoint, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        run(checkpoint, tmp_path, replace(CONFIG, **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_folders_of_other_runs_and_the_twin_are_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    run(checkpoint, tmp_path / "run")
    with pytest.raises(CheckpointError, match="holds another run; use another --out"):
        run(checkpoint, tmp_path / "run", replace(CONFIG, seed=2))
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed/run.json.partial").write_text('{"con')  # a kill at the very start
    run(checkpoint, tmp_path / "killed")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="holds something else"):
        run(checkpoint, tmp_path / "other")
    with pytest.raises(ValueError, match="needs a diffusion model"):
        run(replace(checkpoint, objective="autoregressive"), tmp_path / "twin")
    with pytest.raises(ValueError, match="block by block, and the start checkpoint is full"):
        run(replace(checkpoint, attention="full"), tmp_path / "full")


def test_the_columns_that_fine_tuning_reads_are_stored() -> None:
    assert set(make_trajectories().column_names) < set(COLUMNS)
