"""Two ranks on gloo: they compute what one does, resume bit by bit, and stop together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from datasets import Dataset, disable_progress_bars

from sdb_reference_model.model import SIZES
from sdb_reference_model.train import train
from sdb_reference_model.train_config import TrainConfig

torch.set_num_threads(1)
if "RANK" in os.environ:  # one group for all runs
    dist.init_process_group("gloo")
disable_progress_bars()
SIZES["tiny"] = replace(SIZES["test"], vocab_size=300)
words = ("red", "blue", "green", "black")
data = Dataset.from_dict(
    {
        "prompt": [f"say {word}\\n" for word in words] * 8,
        "completion": [f"    return {word}\\n" for word in words] * 8,
    }
)
config = TrainConfig(
    size="tiny", objective="diffusion", block_sizes=(4, 8), batch_size=8, piece_size=2,
    num_train_steps=8, warmup_steps=2, adam_lr=0.01, precision="float32", seed=0, data={},
    edit_fraction=0.5,
)


def run(config, out):
    lines = []

    def report(line):
        lines.append((line.train_step, line.mask_loss, line.edit_loss))

    train(config, data, out, provenance={}, on_report=report, report_every=1, save_every=4)
    return lines


folder, kinds = Path(sys.argv[1]), sys.argv[2:]
for kind in kinds:
    is_low = kind == "bfloat16"
    own = replace(config, precision=kind) if is_low else replace(config, parallel=kind)
    losses = run(own, folder / kind)
    # The state after step 4 is what a kill later on would have left.
    shorter = replace(own, num_train_steps=4, decay_fraction=0.0, edit_fraction=0.0)
    longer = replace(own, decay_fraction=0.0, edit_fraction=0.5)
    whole = run(longer, folder / f"{kind}-whole")
    run(shorter, folder / f"{kind}-parts")
    parts = run(longer, folder / f"{kind}-parts")
    if losses:
        result = {"losses": losses, "whole": whole[4:], "parts": parts}
        (folder / f"{kind}.json").write_text(json.dumps(result))
shorter = replace(config, num_train_steps=4, decay_fraction=0.0, edit_fraction=0.0)
if not dist.is_initialized():
    run(shorter, folder / "moved")
    raise SystemExit
moved = run(replace(config, decay_fraction=0.0), folder / "moved")
refusals = []
for name, change in {"uneven": {"batch_size": 6}, "failed": {"adam_lr": float("inf")}}.items():
    try:
        run(replace(config, **change), folder / name)
    except ValueError as error:
        refusals.append(str(error))
result = {"moved": moved, "refusals": refusals}
(folder / f"rank-{dist.get_rank()}.json").write_text(json.dumps(result))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_compute_what_one_does_and_resume_exactly(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    alone = [sys.executable, str(script), str(tmp_path / "alone"), "ddp", "bfloat16"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    together = [*launcher, str(script), str(tmp_path / "together"), "ddp", "fsdp", "bfloat16"]
    for folder, command in (("alone", alone), ("together", together)):
        (tmp_path / folder).mkdir()
        if folder == "together":
            shutil.copytree(tmp_path / "alone/moved", tmp_path / "together/moved")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    expected = json.loads((tmp_path / "alone/ddp.json").read_text())
    for kind in ("ddp", "fsdp"):
        result = json.loads((tmp_path / f"together/{kind}.json").read_text())
        assert result["parts"] == result["whole"], kind
        assert len(result["parts"]) == 4
        for own, reference in zip(result["losses"], expected["losses"], strict=True):
            assert own == pytest.approx(reference, rel=1e-4), kind
    rounded = [
        json.loads((tmp_path / f"{x}/bfloat16.json").read_text()) for x in ("alone", "together")
    ]
    assert rounded[1]["parts"] == rounded[1]["whole"]
    assert rounded[0]["losses"] != expected["losses"]
    for own, reference in zip(rounded[1]["losses"], rounded[0]["losses"], strict=True):
        assert own == pytest.approx(reference, rel=0.02)
    first, second = (json.loads((tmp_path / f"together/rank-{n}.json").read_text()) for n in (0, 1))
    assert first["refusals"] == second["refusals"]
    uneven, failed = first["refusals"]
    assert "pieces of 2 does not divide among 2 ranks; make batch_size a multiple of 4" in uneven
    assert "loss is nan" in failed
    assert (
        len(json.loads((tmp_path / "together/failed/failed_batch.json").read_text())["seeds"]) == 4
    )
    assert len(first["moved"]) == 4  # begun by one rank, ended by two
    for own, reference in zip(first["moved"], expected["whole"], strict=True):
        assert own == pytest.approx(reference, rel=1e-4)
