"""TensorBoard events: every number arrives, and a resumed run goes on at its step."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sdb_harness.cli import main
from sdb_harness.tensorboard import TensorBoard


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_run_goes_on_at_its_step(tmp_path: Path) -> None:
    events: Any = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is missing"
    )
    killed = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        killed.write(step, {"loss": float(step), "gradient_norm": 0.5})
    killed.writer.close()
    resumed = TensorBoard(tmp_path)
    for step in (2, 3, 4):
        resumed.write(step, {"loss": 10.0 + step, "gradient_norm": 0.5})
    resumed.writer.close()
    seen = events.EventAccumulator(str(tmp_path)).Reload()
    assert sorted(seen.Tags()["scalars"]) == ["gradient_norm", "loss"]
    losses = [(event.step, event.value) for event in seen.Scalars("loss")]
    assert losses == [(1, 1.0), (2, 12.0), (3, 13.0), (4, 14.0)]


@pytest.mark.parametrize("phase", [(), ("onpolicy",)])
def test_a_missing_package_is_one_clear_line(
    phase: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdb_harness.tensorboard.find_spec", lambda name: None)
    config = "demo-onpolicy" if phase else "demo-ar"
    result = CliRunner().invoke(main, ["train", *phase, "--config", config, "--tensorboard"])
    assert result.exit_code == 2
    (line,) = result.output.strip().splitlines()
    assert "pip install seed-diffusion-bench[tensorboard]" in line
