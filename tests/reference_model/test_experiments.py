"""What the experiments share: journal and resume, intervals, report; and their own arithmetic."""

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from rapidfuzz.distance import Levenshtein

from sdb_reference_model.experiments import EXPERIMENTS, find_experiment
from sdb_reference_model.experiments.answering import compute_repetition
from sdb_reference_model.experiments.laboratory import (
    Estimate,
    Exam,
    Experiment,
    ExperimentConfig,
    Finding,
    Report,
    Row,
    Supplies,
    Table,
    compare,
    estimate,
    estimate_ratio,
    examine,
    read_journal,
    run,
    say,
    select,
)
from sdb_reference_model.experiments.mistakes import align, classify
from sdb_reference_model.experiments.mixing import compute_calibration_error
from sdb_reference_model.experiments.pools import compute_auc, correlate_across
from sdb_reference_model.experiments.tuning import add_noise

PASSED = Finding(is_passed=True, is_malformed=False, is_undefined_name=False)


def make_supplies() -> Supplies:
    def refuse(*_: object, **__: object) -> Exam:
        raise AssertionError("this experiment asks for nothing")

    return Supplies(refuse, refuse, {"host": "here"}, lambda done, total, unit: None)  # type: ignore[arg-type]


def make_experiment(measured: list[tuple[str, int]], stop_at: int) -> Experiment:
    """Two arms; the measurement is interrupted when `stop_at` units have been done."""

    def measure(
        config: ExperimentConfig, arm: str, seed: int, supplies: Supplies, work: Path
    ) -> Row:
        if len(measured) == stop_at:
            raise KeyboardInterrupt
        measured.append((arm, seed))
        work.mkdir(exist_ok=True)
        (work / "half").write_text("done")
        return {"passed": [seed % 2, 1, int(arm == "b")]}

    def report(config: ExperimentConfig, rows: Sequence[Row]) -> Report:
        lines = [{"arm": arm, "pass %": estimate(select(rows, arm, "passed"))} for arm in "ab"]

        def draw(figure: Figure) -> None:
            figure.subplots().plot([1, 2], [3, 4])

        return Report([Table("Both", {"arm": "", "pass %": "of three"}, lines)], "As it is.", draw)

    return Experiment(
        "made-up", "Is it so?", ExperimentConfig, lambda _: ["a", "b"], measure, report
    )


def test_a_killed_run_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    config = ExperimentConfig(num_seeds=2, num_problems=3)
    whole, first, rest = [], [], []  # type: ignore[var-annotated]
    run(make_experiment(whole, 99), config, tmp_path / "whole", make_supplies())
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run(make_experiment(first, 3), config, out, make_supplies())
    with (out / "rows.jsonl").open("a") as journal:
        journal.write('{"arm":"b","seed":1,"pas')  # the kill came while a line was written
    run(make_experiment(rest, 99), config, out, make_supplies())
    assert first + rest == whole == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    for name in ("table.json", "table.md", "plot.svg", "README.md"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    rows, expected = (read_journal(path / "rows.jsonl") for path in (out, tmp_path / "whole"))
    assert all(row.pop("elapsed_s") >= 0 for row in [*rows, *expected])
    assert rows == expected
    assert not (out / "work").exists()


def test_the_report_is_renewed_but_edited_words_are_kept(tmp_path: Path) -> None:
    config = ExperimentConfig(num_seeds=1)
    run(make_experiment([], 99), config, tmp_path, make_supplies())
    assert "As it is." in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("in our own words")
    (tmp_path / "table.md").unlink()
    measured: list[tuple[str, int]] = []
    run(make_experiment(measured, 99), config, tmp_path, make_supplies())
    assert measured == []
    assert (tmp_path / "README.md").read_text() == "in our own words"
    assert "| a | 33.3 (" in (tmp_path / "table.md").read_text()
    (table,) = json.loads((tmp_path / "table.json").read_text())["tables"]
    assert table["lines"][1]["pass %"]["mean"] == pytest.approx(2 / 3)


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    run(make_experiment([], 99), ExperimentConfig(num_seeds=1), tmp_path, make_supplies())
    for config in (ExperimentConfig(num_seeds=2), ExperimentConfig(checkpoint="demo-ar")):
        with pytest.raises(ValueError, match="another configuration or checkpoint"):
            run(make_experiment([], 99), config, tmp_path, make_supplies())
    with pytest.raises(ValueError, match="must be positive"):
        run(make_experiment([], 99), ExperimentConfig(num_seeds=0), tmp_path, make_supplies())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no experiment 'blocksize'") as error:
        find_experiment("blocksize")
    assert all(name in str(error.value) for name in EXPERIMENTS)
    assert len(EXPERIMENTS) == 9
    assert all(e.config().num_seeds >= 3 for e in EXPERIMENTS.values())


def test_a_fault_of_the_sandbox_is_no_wrong_answer() -> None:
    with pytest.raises(ValueError, match="1 answers could not be judged"):
        examine(lambda rows, texts: [PASSED, None], [0, 1], ["x", "y"])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    random_ = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        own = (random_.random(100) < 0.4).astype(float)
        found = estimate([own[:50].tolist(), own[50:].tolist()])
        hits += found.low <= 0.4 <= found.high
    assert 88 <= hits <= 99


def test_runs_that_differ_widen_the_interval() -> None:
    values = [[1.0] * 40, [0.0] * 40, [1.0] * 40]
    pooled, runs = estimate(values), estimate(values, are_runs=True)
    assert pooled.mean == runs.mean == pytest.approx(2 / 3)
    assert (runs.low, runs.high) == (0.0, 1.0)
    assert 0.55 < pooled.low < pooled.high < 0.78


def test_certain_outcomes_keep_an_honest_interval() -> None:
    assert estimate([[1.0] * 50]).low == pytest.approx(0.025 ** (1 / 50))
    same = compare([[1.0, 0.0]], [[1.0, 0.0]])
    assert (same.mean, same.low) == (0.0, -same.high)
    assert same.high > 0.8
    assert compare([[1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]).mean == pytest.approx(2 / 3)
    assert estimate_ratio([[10.0, 30.0]], [[5.0, 5.0]]).mean == 4.0
    assert estimate_ratio([[5.0, 3.0]], [[5.0, 3.0]]) == Estimate(1.0, 1.0, 1.0)
    assert say(Estimate(0.5, 0.25, 0.75), points=True) == "50.0 (25.0 to 75.0)"
    with pytest.raises(ValueError, match="nothing was measured"):
        estimate([[]])


@pytest.mark.parametrize("seed", range(20))
def test_alignment_is_a_shortest_one(seed: int) -> None:
    draw = random.Random(seed)
    right = [draw.randrange(5) for _ in range(draw.randrange(12))]
    wrong = [draw.randrange(5) for _ in range(draw.randrange(12))]
    operations = align(right, wrong)
    assert len(operations) == Levenshtein.distance(right, wrong)
    rebuilt, done = [], 0
    targets = iter(wrong)
    for kind, place, token in operations:
        while done < place:
            rebuilt.append(next(targets))
            assert rebuilt[-1] == right[done]
            done += 1
        if kind == "insert":
            assert next(targets) == token
            rebuilt.append(token)
            continue
        assert token == right[place]
        if kind == "substitute":
            rebuilt.append(next(targets))
        done += 1
    assert [*rebuilt, *targets] == wrong


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" for", "keyword"),
        ("7", "number"),
        ("\n    ", "space"),
        (" +=", "operator"),
        ("nums", "name"),
        (" '", "string"),
        ("", "space"),
    ],
)
def test_tokens_have_classes(text: str, kind: str) -> None:
    assert classify(text) == kind


def test_auc_is_the_share_of_pairs_in_order() -> None:
    assert compute_auc([1.0, 2.0, 3.0], [0, 0, 1]) == 1.0
    assert compute_auc([1.0, 2.0, 2.0, 0.0], [0, 1, 0, 1]) == pytest.approx((1 + 0.5) / 4)
    assert compute_auc([1.0, 2.0], [1, 1]) is None


def test_a_rank_correlation_has_an_interval_that_covers_the_truth() -> None:
    def make_pools(weight: float) -> list[Row]:
        noise = np.random.default_rng(3).normal(size=(60, 2))
        noise[:, 0] += weight * noise[:, 1]
        return [{"elbo": [a], "passed": [b]} for a, b in noise]

    unrelated, related = (correlate_across(make_pools(weight), "elbo") for weight in (0.0, 3.0))
    assert unrelated.low < 0 < unrelated.high
    assert 0.8 < related.low < related.mean < related.high < 1
    flat = correlate_across([{"elbo": [1.0], "passed": [0]}] * 3, "elbo")
    assert (flat.low, flat.mean, flat.high) == (0, 0, 0)


def test_elapsed_time_adds_up_over_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 3000, 90))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    config = ExperimentConfig(num_seeds=1)
    with pytest.raises(KeyboardInterrupt):
        run(make_experiment([], 1), config, tmp_path, make_supplies())
    run(make_experiment([], 99), config, tmp_path, make_supplies())
    assert [row["elapsed_s"] for row in read_journal(tmp_path / "rows.jsonl")] == [90, 90]
    assert "made them in 3.0 minutes" in (tmp_path / "README.md").read_text()


def test_calibration_error_is_the_gap_of_the_bins() -> None:
    """Ten positions at confidence 0.9 of which 7 are right, ten at 0.2 of which 2 are."""
    bins = [[10, 9.0, 7], [10, 2.0, 2]]
    assert compute_calibration_error(bins) == pytest.approx(0.1)


def test_repetition_counts_what_came_before() -> None:
    assert compute_repetition([1, 2, 3, 4, 5]) == 0.0
    assert compute_repetition([1, 2, 1, 2, 1, 2, 1]) == 0.5
    assert compute_repetition([1]) == 0.0


def test_noise_contradicts_a_stable_share() -> None:
    judge: Callable[..., list[Finding | None]] = lambda rows, texts: [PASSED] * len(texts)  # noqa: E731
    noisy = add_noise(judge, ["ask"], 0.2)
    texts = [str(number) for number in range(1000)]
    said = [finding.is_passed for finding in noisy([0] * 1000, texts) if finding]
    assert 150 < said.count(False) < 250
    assert said == [finding.is_passed for finding in noisy([0] * 1000, texts) if finding]
    assert torch.tensor(said).float().mean() < 1
