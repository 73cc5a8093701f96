"""Training end to end at a tiny size: it learns, resumes exactly, and refuses what is wrong."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset, load_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from transformers import Qwen2Config, Qwen2ForCausalLM

from sdb_reference_model import data
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import CheckpointError, load_checkpoint
from sdb_reference_model.constrained import ConstrainedConfig
from sdb_reference_model.data import BatchStream, StreamedBatches, take, tokenize
from sdb_reference_model.finetune import run_updates
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.policies import commit_above, label_above
from sdb_reference_model.preparation import build_model, find_shape
from sdb_reference_model.sampler import sample_blocks
from sdb_reference_model.states import Batch
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.train import StepReport, replay_batch, train
from sdb_reference_model.train_config import (
    TrainConfig,
    check_config,
    find_edit_ratio,
    find_factor,
    find_max_time,
    load_config,
)

WORDS = ("red", "blue", "green", "black")
DATASET = Dataset.from_dict(
    {
        "prompt": [f"say {word}\n" for word in WORDS] * 8,
        "completion": [f"    return {word}\n" for word in WORDS] * 8,
    }
)
DIFFUSION = TrainConfig(
    size="tiny",
    objective="diffusion",
    block_sizes=(4, 8),
    batch_size=8,
    num_train_steps=12,
    warmup_steps=2,
    decay_fraction=0.25,
    optimizer="muon",
    muon_lr=0.02,
    adam_lr=0.01,
    weight_decay=0.0,
    precision="float32",
    seed=0,
    data={},
)
AUTOREGRESSIVE = replace(DIFFUSION, objective="autoregressive", block_sizes=())


@pytest.fixture(autouse=True)
def _tiny_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", replace(SIZES["test"], vocab_size=300))


def run(
    config: TrainConfig,
    out: Path,
    save_every: int = 4,
    dataset: Dataset | IterableDataset = DATASET,
    report_every: int = 4,
) -> list[StepReport]:
    reports: list[StepReport] = []
    train(
        config,
        dataset,
        out,
        provenance={"machine": "test"},
        on_report=reports.append,
        report_every=report_every,
        save_every=save_every,
    )
    return reports


def assert_same_state(first: Path, second: Path) -> None:
    """Weights and optimizer moments are equal bit by bit."""
    states = [read_state(folder) for folder in (first, second)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if name != "progress" and isinstance(value, torch.Tensor):
            assert torch.equal(value, states[1][name]), name


def read_state(folder: Path) -> dict[str, Any]:
    """Names and values of the saved state."""
    reader = FileSystemReader(folder / (folder / "latest").read_text())
    entries = reader.read_metadata().state_dict_metadata
    state: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in entries.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is alone
        load(state, storage_reader=reader, no_dist=True)
    return state


def read_losses(folder: Path) -> list[tuple[int, float, float]]:
    """(step, mask loss, edit loss) of every line of the log."""
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(line["train_step"], line["mask_loss"], line["edit_loss"]) for line in lines]


@pytest.mark.parametrize("is_streamed", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("config", [DIFFUSION, AUTOREGRESSIVE], ids=["diffusion", "ar"])
def test_resumed_run_ends_where_an_uninterrupted_one_does(
    config: TrainConfig, is_streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "BATCHES_PER_BUCKET", 5)  # more than one window
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    def make_dataset() -> Dataset | IterableDataset:
        return stream_from(tmp_path / "data.jsonl") if is_streamed else DATASET

    whole = run(config, tmp_path / "whole", dataset=make_dataset())
    assert [report.train_step for report in whole] == [4, 8, 12]

    class Killed(Exception):
        pass

    def stop(report: StepReport) -> None:
        if report.train_step == 8:
            raise Killed

    with pytest.raises(Killed):
        train(
            config,
            make_dataset(),
            tmp_path / "parts",
            provenance={},
            on_report=stop,
            report_every=4,
            save_every=4,
        )
    run(config, tmp_path / "parts", dataset=make_dataset())
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
    assert read_losses(tmp_path / "whole") == read_losses(tmp_path / "parts")
    assert [step for step, *_ in read_losses(tmp_path / "parts")] == [4, 8, 12]


@pytest.mark.slow
def test_a_tiny_diffusion_model_learns_its_data(tmp_path: Path) -> None:
    run(replace(DIFFUSION, num_train_steps=150, edit_fraction=0.0), tmp_path, save_every=1000)
    loaded = load_checkpoint(str(tmp_path))
    assert loaded.objective == "diffusion"
    assert loaded.training["provenance"] == {"machine": "test"}
    generations = sample_blocks(
        loaded.model,
        loaded.tokenizer,
        [loaded.tokenizer.encode(f"say {word}\n") for word in WORDS],
        block_size=8,
        policy=commit_above(1.0),
        max_new_tokens=16,
    )
    texts = [loaded.tokenizer.decode(g.token_ids) for g in generations]
    assert texts == [f"    return {word}\n" for word in WORDS]


def test_a_run_made_longer_before_the_rate_falls_is_the_longer_run(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def stop(report: StepReport) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(
            DIFFUSION,
            DATASET,
            tmp_path / "parts",
            provenance={},
            on_report=stop,
            report_every=5,
            save_every=4,
        )
    longer = replace(DIFFUSION, num_train_steps=20)  # edits begin at 16 instead of 10
    assert [report.train_step for report in run(longer, tmp_path / "parts")] == [8, 12, 16, 20]
    run(longer, tmp_path / "whole")
    assert_same_state(tmp_path / "whole", tmp_path / "parts")


def test_a_run_is_not_made_longer_or_changed_after_the_rate_fell(tmp_path: Path) -> None:
    run(DIFFUSION, tmp_path)
    with pytest.raises(CheckpointError, match="another configuration"):
        run(replace(DIFFUSION, num_train_steps=20), tmp_path)
    with pytest.raises(CheckpointError, match="use another --out"):
        run(replace(DIFFUSION, muon_lr=0.5), tmp_path)


def test_a_loss_that_is_no_number_stops_with_advice_that_works(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"loss is nan .* at step 1; .*another --out") as caught:
        run(replace(DIFFUSION, adam_lr=float("inf")), tmp_path / "x")
    assert "\n" not in str(caught.value)
    assert "lower muon_lr=0.02 and adam_lr=inf" in str(caught.value)
    assert "muon" not in read_failure(replace(DIFFUSION, optimizer="adamw"), tmp_path / "y")


def read_failure(config: TrainConfig, out: Path) -> str:
    with pytest.raises(ValueError, match="loss is nan") as caught:
        run(replace(config, adam_lr=float("inf")), out)
    return str(caught.value)


@pytest.mark.parametrize("piece_size", [0, 2])
def test_poisoned_gradients_stop_before_the_step_and_the_batch_can_be_replayed(
    piece_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(DIFFUSION, edit_fraction=1.0, piece_size=piece_size)
    (sound, *_) = run(config, tmp_path / "sound", report_every=1)
    models = []

    def build_watched(*arguments: Any) -> Transformer:
        models.append(build_model(*arguments))
        return models[0]

    def poison(loss: torch.Tensor) -> None:
        torch.autograd.backward(loss * float("nan"))

    monkeypatch.setattr("sdb_reference_model.train.build_model", build_watched)
    monkeypatch.setattr(torch.Tensor, "backward", poison)
    with pytest.raises(ValueError, match=r"loss is \d.* the gradient's norm nan at step 0;"):
        run(config, tmp_path / "poisoned")
    assert not (tmp_path / "poisoned/latest").exists()
    fresh = build_model(config, None)
    for kept, start in zip(models[0].parameters(), fresh.parameters(), strict=True):
        assert torch.equal(kept, start)
    tokenizer = CodeTokenizer.load(tmp_path / "poisoned/tokenizer.json")
    losses = replay_batch(tmp_path / "poisoned/failed_batch.json", fresh, tokenizer)
    assert losses == pytest.approx([sound.mask_loss, sound.edit_loss, 0.0], rel=1e-6)


def test_a_causal_past_starts_as_its_twin_and_is_kept_by_the_checkpoint(tmp_path: Path) -> None:
    run(AUTOREGRESSIVE, tmp_path / "twin")
    config = replace(
        DIFFUSION, init_from=str(tmp_path / "twin"), attention="causal_past", past_weight=0.5,
        optimizer="adamw", adam_lr=1e-12, weight_decay=0.0,
    )  # fmt: skip
    first, *_ = run(config, tmp_path / "blocks", report_every=1)
    assert first.loss == pytest.approx(first.mask_loss + 0.5 * first.past_loss, rel=1e-6)
    assert 0 < first.past_loss
    twin, blocks = (load_checkpoint(str(tmp_path / name)) for name in ("twin", "blocks"))
    assert blocks.attention == "causal_past"
    assert blocks.model.config == replace(twin.model.config, causal_past=True)
    prompts = [blocks.tokenizer.encode("def f():")]
    (a,) = sample_tokens(twin.model, twin.tokenizer, prompts, max_new_tokens=8)
    (b,) = sample_blocks(
        blocks.model, blocks.tokenizer, prompts, block_size=1, policy=commit_above(1.0),
        max_new_tokens=8, past=blocks.choose_past(1),
    )  # fmt: skip
    assert a.token_ids == b.token_ids


def test_a_finite_explosion_stops(tmp_path: Path) -> None:
    config = replace(DIFFUSION, optimizer="adamw", adam_lr=100.0, warmup_steps=1)
    with pytest.raises(ValueError, match=r"over 4 times the best of 5\.\d+; its batch is in"):
        run(config, tmp_path, report_every=1)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["mask_loss"] > 4 * 5.7
    assert last["gradient_norm"] > 0
    saved = json.loads((tmp_path / "failed_batch.json").read_text())
    assert saved["train_step"] == last["train_step"] - 1
    assert len(saved["answer_ids"]) == 8


KILLED = """
import os, random, signal, sys, time, traceback
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars

from sdb_reference_model.model import SIZES
from sdb_reference_model.train import train
from sdb_reference_model.train_config import TrainConfig

torch.set_num_threads(1)
disable_progress_bars()
SIZES["tiny"] = replace(SIZES["test"], vocab_size=300)
data = Dataset.from_dict(
    {"prompt": ["say red", "say blue"] * 8, "completion": ["red", "blue"] * 8}
)
config = TrainConfig(
    size="tiny", objective="diffusion", block_sizes=(4, 8), batch_size=8, num_train_steps=12,
    warmup_steps=2, adam_lr=0.01, precision="float32", seed=0, data={}, edit_fraction=0.5,
)


def start(out):
    # A fork, so that none of the time is spent on imports.
    if child := os.fork():
        return child
    try:
        train(
            config, data, out, provenance={}, on_report=lambda _: None, report_every=1, save_every=1
        )
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def finish(out):
    _, status = os.waitpid(start(out), 0)
    assert status == 0, status


folder, num_kills, rng = Path(sys.argv[1]), 0, random.Random(0)
started = time.perf_counter()
finish(folder / "whole")
duration = time.perf_counter() - started
for _ in range(8):
    child = start(folder / "parts")
    time.sleep(rng.uniform(0, 0.5 * duration))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    num_kills += status != 0
finish(folder / "parts")
print(num_kills)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path: Path) -> None:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 4
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
    assert read_losses(tmp_path / "whole") == read_losses(tmp_path / "parts")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_a_line_of_the_log_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    run(DIFFUSION, tmp_path)
    losses = read_losses(tmp_path)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"train_step": 9, "lo')
    run(DIFFUSION, tmp_path)
    assert read_losses(tmp_path) == losses


def test_a_folder_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    run(replace(DIFFUSION, num_train_steps=1), tmp_path / "start")
    (tmp_path / "next").mkdir()
    CodeTokenizer.train(["entirely other words"], 300).save(tmp_path / "next/tokenizer.json")
    with pytest.raises(ValueError, match="another tokenizer than this run's folder") as caught:
        run(replace(DIFFUSION, init_from=str(tmp_path / "start")), tmp_path / "next")
    assert "\n" not in str(caught.value)


def test_learning_rate_warms_up_holds_and_falls_to_zero() -> None:
    config = replace(DIFFUSION, num_train_steps=100, warmup_steps=10)
    factors = [find_factor(step, config) for step in range(100)]
    assert factors[0] == 0.1
    assert factors[9:75] == [1.0] * 66
    assert factors[99] == pytest.approx(1 / 25)
    assert factors[74:] == sorted(factors[74:], reverse=True)


def test_a_cosine_warms_up_and_falls_to_zero_over_all_other_steps() -> None:
    config = replace(DIFFUSION, num_train_steps=110, warmup_steps=10, schedule="cosine")
    factors = [find_factor(step, config) for step in range(110)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert [factors[10 + step] for step in (0, 50, 75)] == pytest.approx(
        [1.0, 0.5, 0.5 - 0.5**1.5], abs=1e-9
    )
    assert 0 < factors[109] < 0.001


def test_gradients_are_clipped_to_a_norm_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def measure(self: torch.optim.AdamW) -> None:
        gradients = [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", measure)
    config = replace(DIFFUSION, optimizer="adamw", edit_fraction=1.0, edit_weight=100.0)
    reports = run(config, tmp_path)
    assert min(report.gradient_norm for report in reports) > 1.0
    assert len(norms) == config.num_train_steps
    assert norms == pytest.approx([1.0] * len(norms), rel=1e-3)


def test_an_epoch_shows_every_example_once_and_differs_from_the_next() -> None:
    tokenizer = CodeTokenizer.train(DATASET["prompt"], 300)
    stream = BatchStream(tokenize(DATASET, tokenizer), 8, seed=3)
    epochs = [[stream.select(4 * e + i).tolist() for i in range(4)] for e in range(2)]
    assert sorted(chain.from_iterable(epochs[0])) == list(range(32))
    assert epochs[0] != epochs[1]
    assert stream.select(0).tolist() == epochs[0][0]


def test_batches_are_padded_as_documented() -> None:
    tokenizer = CodeTokenizer.train(DATASET["prompt"], 300)
    stream = BatchStream(tokenize(DATASET, tokenizer), 4, seed=0)
    batch = stream.collate(stream.select(0), tokenizer.pad_id, tokenizer.end_id, 8)
    assert batch.answer.shape[1] % 8 == 0
    for row in range(4):
        length = int(batch.answer_lengths[row])
        assert (batch.answer[row, length - 1 :] == tokenizer.end_id).all()
        assert (batch.answer[row, : length - 1] != tokenizer.end_id).all()
        assert (batch.prompt[row, : -int(batch.prompt_lengths[row])] == tokenizer.pad_id).all()


def stream_from(path: Path, texts: Sequence[str] = WORDS * 5) -> IterableDataset:
    """A file read as it goes, every text with its number."""
    rows = [
        {"prompt": f"say {n} {text}\n", "completion": f"{text}\n"} for n, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    streamed = load_dataset("json", data_files=str(path), split="train", streaming=True)
    assert isinstance(streamed, IterableDataset)
    return streamed


def read_window(stream: StreamedBatches, window: int) -> list[list[int]]:
    """The prompts of all batches of a window."""
    rows = [stream.select(window * data.BATCHES_PER_BUCKET + i) for i in range(3)]
    return [stream.prompts[row].tolist() for row in chain.from_iterable(rows)]


def test_a_streamed_data_set_is_read_once_in_order_and_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "BATCHES_PER_BUCKET", 3)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    streamed = stream_from(tmp_path / "data.jsonl")
    tokenizer = CodeTokenizer.train(take(streamed, 20)["prompt"], 300)

    def open_stream() -> StreamedBatches:
        return StreamedBatches(
            stream_from(tmp_path / "data.jsonl"),
            tokenizer,
            batch_size=2,
            seed=0,
            is_usable=lambda prompt, answer: "black" not in tokenizer.decode(answer.tolist()),
            journal=tmp_path / "windows.json",
        )

    stream = open_stream()
    windows = [read_window(stream, window) for window in range(5)]  # 30 of 15 usable examples
    seen = [tokenizer.decode(ids) for ids in chain.from_iterable(windows)]
    usable = [f"say {n} {text}\n" for n, text in enumerate(WORDS * 5) if text != "black"]
    assert sorted(seen) == sorted(usable * 2)
    assert sorted(seen[:6]) == sorted(usable[:6])
    assert stream.num_left_out == 9
    again = open_stream()
    for window in (3, 4, 1):
        assert read_window(again, window) == windows[window]
    assert again.num_left_out == 3
    places = json.loads((tmp_path / "windows.json").read_text())
    for last in (4, 1):  # stopped when one window was done and before the next was begun
        kept = {str(window): places[str(window)] for window in range(last)}
        (tmp_path / "windows.json").write_text(json.dumps(kept))
        assert read_window(open_stream(), last) == windows[last]
    with pytest.raises(ValueError, match=r"windows.json does not say where window 9"):
        again.select(27)


def test_a_stream_without_anything_usable_is_one_clear_line(tmp_path: Path) -> None:
    streamed = stream_from(tmp_path / "data.jsonl", ["red " * 200] * 9)
    with pytest.raises(ValueError, match="no example that fits the model"):
        train(DIFFUSION, streamed, tmp_path, provenance={}, on_report=lambda report: None)


def test_missing_columns_and_too_little_data_are_refused() -> None:
    tokenizer = CodeTokenizer.train(["x"], 300)
    with pytest.raises(ValueError, match=r"lacks the columns \['completion'\]"):
        tokenize(Dataset.from_dict({"prompt": ["x"]}), tokenizer)
    with pytest.raises(ValueError, match="fewer than batch_size=64"):
        BatchStream(tokenize(DATASET, tokenizer), 64, seed=0)


@pytest.mark.parametrize(
    "example", [(1, "red"), (None, "red"), ("say red", 2), ("say red", None), ("", "red")]
)
@pytest.mark.parametrize("init_from", ["", "demo-ar"])
def test_examples_that_are_no_text_are_one_clear_line(
    example: tuple[Any, Any], init_from: str, tmp_path: Path
) -> None:
    prompts, completions = [example[0]] * 16, [example[1]] * 16
    dataset = Dataset.from_dict({"prompt": prompts, "completion": completions})
    config = replace(AUTOREGRESSIVE, init_from=init_from, size="" if init_from else "tiny")
    with pytest.raises(ValueError, match="both must be text, and the prompt not empty") as caught:
        run(config, tmp_path, dataset=dataset)
    assert f"prompt {example[0]!r} and completion {example[1]!r}" in str(caught.value)


@pytest.mark.parametrize("name", ["demo-mask", "demo-diffusion", "demo-ar", "demo-edit"])
def test_shipped_configurations_are_valid(name: str) -> None:
    config = load_config(name)
    assert config.size == "demo"
    if config.init_from:
        causal_past = config.attention == "causal_past"
        shape = replace(SIZES["demo"], causal_past=causal_past)
        assert find_shape(config, load_checkpoint(config.init_from)) == shape


def test_both_demo_configurations_differ_only_in_the_objective() -> None:
    diffusion, twin = load_config("demo-mask"), load_config("demo-ar")
    assert diffusion == replace(
        twin, objective="diffusion", block_sizes=diffusion.block_sizes, edit_fraction=0.0
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('colour = "red"', "unknown key 'colour'"),
        ("batch_size = 0", "must be positive"),
        ("canvas_size = 64", "canvas_size=64 goes with attention='full'"),
        ("mask_warmup_steps = -1", "mask_warmup_steps=-1 must be 0 or more"),
        ("warmup_steps = -1", "warmup_steps=-1 must be 0 or more"),
        ("seed = -1", "seed=-1 must be 0 or more"),
        ('objective = "autoregressive"', "attention='causal_past' needs objective='diffusion'"),
        ("past_weight = -1", "past_weight=-1 must be 0 or more"),
        ('attention = "block_causal"', "past_weight needs attention='causal_past'"),
        ("weight_decay = nan", "weight_decay=nan must be 0 or more"),
        ("adam_lr = inf", "adam_lr=inf must be positive"),
        ("muon_lr = -0.1", "muon_lr=-0.1 must be positive"),
        ("insertion_share = 0.7", "insertion_share=0.7 needs edit_lengths='labels'"),
        ("insertion_share = 1.7", "insertion_share=1.7 must be in"),
        ("edit_window = 0", "edit_window=0 must be at least 1"),
        ('mask_clip = "token"', "use 'block' or 'none'"),
        ('size = "huge"', "use one of"),
        ('objective = "gan"', "use 'diffusion' or 'autoregressive'"),
        ("block_sizes = []", "block_sizes goes with"),
        ('batch_size = "many"', "must be of type int"),
        ('muon_lr = "fast"', "must be of type float"),
        ('block_sizes = ["4"]', "must be a list of int"),
        ("block_sizes = 4", "must be a list of int"),
        ("size = ", "not valid TOML"),
        ('edit_lengths = "free"', "use 'balanced' or 'labels'"),
    ],
)
def test_wrong_configuration_is_one_clear_line(line: str, message: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "reference_model/sdb_reference_model/configs").joinpath(
        "demo-diffusion.toml"
    )
    key = line.split(" ")[0]
    kept = [old for old in text.read_text().splitlines() if not old.startswith(f"{key} ")]
    (tmp_path / "x.toml").write_text("\n".join([line, *kept]))
    with pytest.raises(ValueError, match=message) as caught:
        load_config(str(tmp_path / "x.toml"))
    assert "\n" not in str(caught.value).split("not valid TOML")[0]


def test_a_file_that_is_no_text_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfes\0i\0z\0e\0")
    with pytest.raises(ValueError, match="not valid TOML"):
        load_config(str(tmp_path / "x.toml"))


def test_a_truth_value_is_no_number(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "reference_model/sdb_reference_model/configs"
    text = (shipped / "demo-mask.toml").read_text().replace("seed = 0", "seed = true", 1)
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ValueError, match="seed=True must be of type int"):
        load_config(str(tmp_path / "x.toml"))


def test_masks_grow_in_the_warm_up_and_are_weighed_alike(tmp_path: Path) -> None:
    config = replace(DIFFUSION, num_train_steps=6, mask_warmup_steps=4, edit_fraction=0.0)
    assert [find_max_time(step, config) for step in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert find_max_time(0, DIFFUSION) == 1.0
    # Of an untrained model every masked token costs the same, so the loss says how many there are.
    flat = replace(config, optimizer="adamw", adam_lr=0.0, block_sizes=(32,), batch_size=32)
    losses = [report.mask_loss for report in run(flat, tmp_path, report_every=1)]
    assert losses[0] < losses[1] < losses[2] < losses[3] < 0.7 * losses[5]


def test_edits_begin_in_the_last_fifth_and_grow_to_the_papers_ratio(tmp_path: Path) -> None:
    config = replace(DIFFUSION, num_train_steps=100)
    ratios = [find_edit_ratio(step, config) for step in range(100)]
    assert ratios[:80] == [0.0] * 80
    assert ratios[80] == pytest.approx(0.01)
    assert ratios[89:] == pytest.approx([0.1] * 11)
    assert find_edit_ratio(99, replace(AUTOREGRESSIVE, num_train_steps=100)) == 0.0

    reports = run(replace(DIFFUSION, num_train_steps=20, edit_ramp=0.0), tmp_path)
    assert [report.edit_loss > 0 for report in reports] == [False] * 4 + [True]
    last = reports[-1]
    assert last.edit_ratio == 0.1
    assert last.loss == pytest.approx(last.mask_loss + last.edit_loss)


@pytest.mark.parametrize(
    "change",
    [
        {"edit_place": "visible", "edit_fraction": 1.0},
        {"edit_source": "draft", "edit_fraction": 1.0},
        {"edit_source": "unigram", "edit_fraction": 1.0},
        {"edit_lengths": "labels", "edit_fraction": 1.0, "insertion_share": 0.8},
        {"attention": "full", "block_sizes": (), "edit_fraction": 1.0},
        {"optimizer": "adamw", "schedule": "cosine"},
        {"mask_schedule": "cosine", "weighting": "uniform", "edit_fraction": 0.0},
        {"mask_clip": "none", "edit_window": 2, "edit_fraction": 1.0},
    ],
    ids=str,
)
def test_every_variant_lowers_its_loss(change: dict[str, Any], tmp_path: Path) -> None:
    config = replace(DIFFUSION, num_train_steps=40, edit_ramp=0.0, **change)
    reports = run(config, tmp_path, save_every=1000)
    assert reports[-1].loss < 0.8 * reports[0].loss
    assert load_checkpoint(str(tmp_path)).attention == config.attention


@pytest.mark.parametrize(("canvas_size", "width"), [(0, 6), (16, 16), (4, 6)])
def test_a_canvas_hides_the_length_of_an_answer(
    canvas_size: int, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths, collate = [], BatchStream.collate

    def note(*arguments: Any) -> Batch:
        batch = collate(*arguments)
        widths.append(batch.answer.shape[1])
        return batch

    monkeypatch.setattr(BatchStream, "collate", note)
    full = replace(DIFFUSION, attention="full", block_sizes=(), num_train_steps=2)
    run(replace(full, canvas_size=canvas_size), tmp_path)
    assert widths == [width, width]


def test_a_start_without_control_tokens_is_given_them(tmp_path: Path) -> None:
    run(replace(DIFFUSION, num_train_steps=100), tmp_path / "start", save_every=1000)
    config = replace(
        DIFFUSION, init_from=str(tmp_path / "start"), edit_lengths="labels", edit_fraction=1.0
    )
    run(config, tmp_path / "labels")
    start, checkpoint = (load_checkpoint(str(tmp_path / name)) for name in ("start", "labels"))
    assert start.tokenizer.control_ids is None
    assert checkpoint.tokenizer.control_ids is not None
    answers = sample_blocks(
        checkpoint.model,
        checkpoint.tokenizer,
        [checkpoint.tokenizer.encode(f"say {word}\n") for word in WORDS],
        block_size=4,
        policy=commit_above(0.9),
        max_new_tokens=16,
        revision=label_above(0.9, 4),
    )
    texts = [checkpoint.tokenizer.decode(answer.token_ids) for answer in answers]
    assert texts == [f"    return {word}\n" for word in WORDS]
    with pytest.raises(ValueError, match="start from one trained with edit_lengths='balanced'"):
        run_updates(
            ConstrainedConfig(init_from="labels", trajectories="none", num_updates=1,
                              learning_rate=1e-3, warmup_updates=0, seed=0, block_size=4,
                              batch_size=4),
            checkpoint,
            tmp_path / "next",
            lambda model, update: ({}, {}),
            provenance={},
            on_update=lambda update, metrics: None,
            save_every=1,
        )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"edit_place": "visible"},
        {"attention": "full", "block_sizes": ()},
        {"objective": "autoregressive", "block_sizes": ()},
    ],
    ids=str,
)
def test_labels_are_for_whole_blocks(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="edit_lengths='labels' needs block_sizes") as caught:
        check_config(replace(DIFFUSION, size="test", edit_lengths="labels", **change), "own.toml")
    assert "\n" not in str(caught.value)


def test_pieces_and_recomputed_activations_change_nothing_but_rounding(tmp_path: Path) -> None:
    config = replace(DIFFUSION, piece_size=2, edit_fraction=1.0)
    plain = run(config, tmp_path / "plain")
    recomputed = run(replace(config, recompute_activations=True), tmp_path / "recomputed")
    assert [r.loss for r in recomputed] == pytest.approx([r.loss for r in plain], rel=1e-5)


@pytest.mark.parametrize("config", [DIFFUSION, AUTOREGRESSIVE], ids=["diffusion", "ar"])
def test_packing_changes_nothing_but_rounding(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, edit_fraction=0.5, optimizer="adamw")
    plain = run(config, tmp_path / "plain")
    packed = run(replace(config, packing=True), tmp_path / "packed")
    assert [r.mask_loss for r in packed] == pytest.approx([r.mask_loss for r in plain], rel=1e-4)
    assert [r.edit_loss for r in packed] == pytest.approx([r.edit_loss for r in plain], rel=1e-4)


def test_the_implementation_of_attention_is_recorded_and_never_falls_back(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("on a GPU flex runs")
    run(replace(DIFFUSION, num_train_steps=1), tmp_path)
    assert load_checkpoint(str(tmp_path)).training["attention_kernel"] == "sdpa"
    with pytest.raises(ValueError, match="attention_kernel='flex' is for GPUs"):
        run(replace(DIFFUSION, attention_kernel="flex"), tmp_path / "x")


def test_a_start_gives_weights_and_tokenizer(tmp_path: Path) -> None:
    run(DIFFUSION, tmp_path / "start")
    config = replace(DIFFUSION, init_from=str(tmp_path / "start"), num_train_steps=4)
    reports = run(config, tmp_path / "next")
    fresh = run(replace(DIFFUSION, num_train_steps=4), tmp_path / "fresh")
    assert reports[0].loss < fresh[0].loss
    assert (tmp_path / "next/tokenizer.json").read_text() == (
        tmp_path / "start/tokenizer.json"
    ).read_text()


def write_autoregressive_start(folder: Path, vocab_size: int) -> CodeTokenizer:
    """A tiny random Qwen2 with a tokenizer of its own, as `save_pretrained` leaves them."""
    texts = [p + c for p, c in zip(DATASET["prompt"], DATASET["completion"], strict=True)]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>", "<unused>"], initial_alphabet=alphabet
    )
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    shape = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        eos_token_id=1,
    )
    Qwen2ForCausalLM(shape).save_pretrained(folder)
    inner.save(str(folder / "tokenizer.json"))
    return CodeTokenizer(inner, (1, 1, -1))


def test_somebody_elses_autoregressive_model_is_a_start(tmp_path: Path) -> None:
    theirs = write_autoregressive_start(tmp_path / "theirs", 320)
    name = f"hf:{tmp_path / 'theirs'}"
    config = replace(DIFFUSION, size="", init_from=name, num_train_steps=3, adam_lr=0.0)
    run(replace(config, muon_lr=0.0), tmp_path / "ours")
    start, trained = load_checkpoint(name), load_checkpoint(str(tmp_path / "ours"))
    assert (start.objective, trained.objective) == ("autoregressive", "diffusion")
    assert trained.tokenizer.mask_id == theirs.vocab_size < 320
    assert trained.tokenizer.end_id == 1
    assert trained.model.config == start.model.config
    for ours, before in zip(trained.model.parameters(), start.model.parameters(), strict=True):
        assert torch.equal(ours, before.bfloat16().float())  # the rate was zero
    ids = tokenize(DATASET, trained.tokenizer)[0]
    assert (ids["prompt_ids"][0], 0 in ids["answer_ids"]) == (0, False)
    encode = trained.tokenizer.encode
    assert encode("x") == [0, *encode("x", is_start=False)]
    reports = run(replace(config, adam_lr=0.01, num_train_steps=8), tmp_path / "more")
    assert reports[-1].mask_loss < reports[0].mask_loss
    run(replace(config, adam_lr=0.01, num_train_steps=8), tmp_path / "more")  # resumes at its end


def test_a_start_without_an_id_to_spare_is_told_to_name_one(tmp_path: Path) -> None:
    theirs = write_autoregressive_start(tmp_path / "theirs", 320)
    full = write_autoregressive_start(tmp_path / "full", theirs.vocab_size)
    config = replace(DIFFUSION, size="", init_from=f"hf:{tmp_path / 'full'}", num_train_steps=1)
    with pytest.raises(ValueError, match="has no spare id beyond its") as caught:
        run(config, tmp_path / "x")
    assert "\n" not in str(caught.value)
    run(replace(config, mask_token="<unused>"), tmp_path / "y")
    assert load_checkpoint(str(tmp_path / "y")).tokenizer.mask_id == 2
    last = full.inner.id_to_token(full.vocab_size - 1)
    assert last is not None
    with pytest.raises(ValueError, match="the data has the mask in it"):
        run(replace(config, mask_token=last), tmp_path / "z")


def test_a_start_of_another_size_and_overlong_examples_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(replace(DIFFUSION, num_train_steps=1), tmp_path / "start")
    monkeypatch.setitem(SIZES, "wide", replace(SIZES["tiny"], d_model=64))
    with pytest.raises(ValueError, match="is not of size 'wide'"):
        run(replace(DIFFUSION, size="wide", init_from=str(tmp_path / "start")), tmp_path / "x")
    monkeypatch.setitem(SIZES, "short", replace(SIZES["tiny"], max_seq_len=8))
    with pytest.raises(ValueError, match="max_seq_len=8; leave long examples out"):
        run(replace(DIFFUSION, size="short"), tmp_path / "y")
    with pytest.raises(ValueError, match=r"in pieces of 3 .* make batch_size a multiple of 3"):
        run(replace(DIFFUSION, piece_size=3), tmp_path / "z")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="compile=true is for GPUs"):
            run(replace(DIFFUSION, compile=True), tmp_path / "c")


def test_a_damaged_state_is_one_clear_line(tmp_path: Path) -> None:
    run(DIFFUSION, tmp_path)
    for part in (tmp_path / (tmp_path / "latest").read_text()).glob("*.distcp"):
        part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be resumed") as caught:
        run(DIFFUSION, tmp_path)
    assert "\n" not in str(caught.value)


def test_muon_cannot_be_sharded() -> None:
    with pytest.raises(ValueError, match="optimizer='muon' needs whole matrices"):
        check_config(replace(DIFFUSION, size="test", parallel="fsdp"), "x")
