"""Every command, on real input; every user error is one line on stderr and exit status 2."""

import socket
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner, Result

from sdb_harness import cli, verification_record
from sdb_harness.cli import main
from sdb_harness.progress import RunProgress
from sdb_harness.runner import RunReport
from sdb_harness.store import Store
from sdb_harness.sweep import Sweep
from sdb_harness.verification import PublishedFinding
from sdb_reference_model.checkpoint import save_checkpoint
from sdb_reference_model.model import ModelConfig, Transformer
from sdb_reference_model.tokenizer import CodeTokenizer

SWEEP = """
name = "small"
benchmarks = ["minipy:num_problems=4"]
generators = ["canonical"]
[grid]
samples_per_problem = [1, 2]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SWEEP)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def run_one(*arguments: str) -> Result:
    return call("run", "--benchmark", "minipy:num_problems=3", *arguments)


def assert_one_line(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("sdbench: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["run", "--block-sizes", "4"], "'--block-size'?) See `sdbench run --help`"),
        (["run", "--benchmark", "minipy", "--block-size", "x"], "'x' is not a valid integer"),
        (["run"], "give a sweep file, or both --benchmark and --generator"),
        (["run", "small.toml", "--seed", "1"], "give either the sweep small.toml or"),
        (["run", "missing.toml"], "cannot read sweep missing.toml: No such file"),
        (["plan", "missing.toml"], "cannot read sweep missing.toml: No such file"),
        (["status"], "no store below runs"),
        (["status", "small.toml"], "no store at runs/small/store.sqlite"),
        (["leaderboard", "build"], "no store below runs; run `sdbench run` first"),
        (["leaderboard", "build", "--store", "x.sqlite"], "no store at x.sqlite"),
        (["benchmarks", "show", "minipy"], "write BENCHMARK/NUMBER"),
        (["benchmarks", "show", "minipy/²"], "write BENCHMARK/NUMBER"),
        (["benchmarks", "show", "humaneval/164"], "use 0 to 163"),
        (["benchmarks", "show", "humaneval/1", "--level", "2"], "humaneval has no options"),
        (["benchmarks", "verify", "minipi"], "did you mean 'minipy'? allowed: aider_edit, "),
        (["benchmarks", "verify", "minipy:lvl=1"], "no option 'lvl'; did you mean 'level'?"),
        (["benchmarks", "verify", "minipy:level=9"], "level=9; use 1 to 5"),
        (["benchmarks", "show", "minipy/99999999999"], "num_problems=100000000000; use 1 to"),
        (
            ["sample", "x", "--seed", "9223372036854775808"],
            "9223372036854775808 is not in the range",
        ),
        (["sample", "x", "--threshold", "nan"], "threshold=nan must be at least 0"),
        (["sample", "x " * 300], "exceed the model's max_seq_len=512; shorten the prompt"),
    ],
)
def test_wrong_arguments(folder: Path, arguments: list[str], message: str) -> None:
    assert_one_line(call(*arguments), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--generator", "vllm:x"],
            "vllm is asked through its server: start it, then write openai:",
        ),
        (["--generator", "transformers:./none"], "transformers: no folder ./none; name a model"),
        (["--generator", "canonicel"], "unknown generator 'canonicel'; did you mean 'canonical'?"),
        (["--generator", "replay:no.jsonl"], "no.jsonl"),
        (
            [*("--generator", "seed_diffusion:nowhere"), *("--block-size", "4"), "--num-steps=2"],
            "no checkpoint 'nowhere'",
        ),
        (["--generator", "seed_diffusion:demo", "--block-size", "4"], "needs block_size and thres"),
        (["--generator", "canonical", "--protocol", "bas"], "no protocol 'bas'; did you mean"),
        (["--generator", "canonical", "--name", "../x"], "name = '../x'; write up to"),
        (["--generator", "canonical", "--runs", "small.toml/x"], "can be written"),
        (["--generator", "canonical", "--runs", "small.toml"], "Directory 'small.toml' is a file"),
        (["--generator", "openai:http://h/v1,model=m,conc=3"], "did you mean 'concurrency'?"),
        (
            [
                *("--generator", "seed_diffusion:demo", "--threshold", "0.9"),
                *("--block-size", "48", "--max-new-tokens", "100"),
            ],
            "block_size=48 does not divide max_new_tokens=100; use max_new_tokens=96",
        ),
    ],
)
def test_wrong_cells(folder: Path, arguments: list[str], message: str) -> None:
    assert_one_line(run_one(*arguments), message)
    assert not list(folder.glob("runs/*/store.sqlite"))


def test_replayed_file_without_a_sample_stores_nothing(folder: Path) -> None:
    samples = [f'{{"task_id": "minipy/{n}", "completion": "    return 0"}}' for n in (0, 1, 7)]
    (folder / "samples.jsonl").write_text("\n".join(samples))
    result = run_one("--generator", "replay:samples.jsonl")
    assert_one_line(result, "fewer than 1 samples for 1 of 3 problems: minipy/2 (0)")
    assert not (folder / "runs").exists()
    result = call("run", "--benchmark=minipy:num_problems=2", "--generator=replay:samples.jsonl")
    assert result.exit_code == 0, result.output
    expected = "note: replay:samples.jsonl has samples for 1 task ids that minipy does not have\n"
    assert result.stderr == expected


def test_unreachable_server_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = run_one("--generator", f"openai:http://127.0.0.1:{port}/v1,model=m")
    assert_one_line(result, f"cannot talk to http://127.0.0.1:{port}/v1")


def test_checkpoints_that_do_not_fit_are_one_line(folder: Path) -> None:
    tokenizer = CodeTokenizer.train(["ab"], 300)
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 1, 4, 2, 64, 512))
    model.initialise(torch.Generator().manual_seed(0))
    save_checkpoint(folder / "model", model, tokenizer, "diffusion", {})
    options = ["--block-size=4", "--threshold=1", "--max-new-tokens=8"]
    chat = run_one("--generator=seed_diffusion:model", "--protocol=chat", *options)
    assert_one_line(chat, "a base model continues source and takes no chat; use --protocol base")
    long = run_one("--generator=seed_diffusion:model", *options[:2], "--max-new-tokens=512")
    assert_one_line(long, "exceed the model's max_seq_len=512; set max_new_tokens to at most")
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = run_one("--generator=seed_diffusion:model", *options)
    assert_one_line(result, "model.safetensors is truncated or damaged")
    (folder / "model" / "config.json").write_bytes(b"\xff\xfe")
    result = run_one("--generator=seed_diffusion:model", *options)
    assert_one_line(result, "checkpoint model cannot be read (UnicodeDecodeError")


def test_mistyped_key_names_file_and_nearest(folder: Path) -> None:
    (folder / "small.toml").write_text(SWEEP.replace("samples_per_problem", "samples_by_problem"))
    result = call("run", "small.toml")
    assert_one_line(result, "sweep small.toml: unknown [grid] key 'samples_by_problem'; did you")


def test_store_in_use_damaged_or_of_a_stranger(folder: Path) -> None:
    path = folder / "runs" / "small" / "store.sqlite"
    with Store.open_for_writing(path):
        assert_one_line(call("run", "small.toml"), "is being written by process")
    path.write_bytes(b"not a database at all" * 100)
    for command in ("run", "plan", "status"):
        assert_one_line(call(command, "small.toml"), "is damaged (file is not a database)")
    assert path.read_bytes().startswith(b"not a database")


def test_sweep_is_planned_run_resumed_and_listed(folder: Path) -> None:
    plan = call("plan", "small.toml")
    assert plan.exit_code == 0, plan.output
    assert "2 cells, at most 0 forwards to go" in plan.output
    assert "4 problems x 1 independent samples resolve" in plan.output
    assert not (folder / "runs").exists()
    first = call("run", "small.toml")
    assert first.exit_code == 0, first.output
    assert "[2/2] 100.0% passed (8 of 8): canonical on minipy:num_problems=4, 2 sa" in first.output
    assert (
        "minipy seed 0 test level 1: 4 problems, sha256 " in first.stdout
    )  # which data the scores are of
    again = call("run", "small.toml")
    assert again.exit_code == 0, again.output
    assert "[1/2]" not in again.output
    with Store.open_for_reading(folder / "runs" / "small" / "store.sqlite") as store:
        assert len(list(store.iterate_rows())) == 12
        (manifest,) = store.list_manifests().values()
        assert manifest.implementations["sandbox"].startswith("embedded")
    assert "8 / 8" in call("plan", "small.toml").output
    assert "0 infrastructure faults" in call("status", "small.toml").output
    assert "small" in call("status").output


def test_one_cell_run_says_what_is_ignored(folder: Path) -> None:
    result = run_one("--generator", "canonical", "--block-size", "4")
    assert result.exit_code == 0, result.output
    assert result.stderr == "note: canonical does not use block_size\n"
    assert (folder / "runs" / "minipy-num_problems-3-canonical" / "store.sqlite").is_file()


def test_benchmarks_are_listed_shown_and_verified(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDBENCH_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    listed = call("benchmarks", "list")
    assert listed.exit_code == 0
    assert "humaneval" in listed.output
    assert "164" in listed.output
    assert "livecodebench/test.jsonl is missing; fetch it once" in listed.output
    shown = call("benchmarks", "show", "minipy/3", "--level", "2", "--split", "train").output
    assert "minipy/3 (level-2)" in shown
    assert "entry_point=" in shown
    verified = call("benchmarks", "verify", "minipy:num_problems=5", "--load", "0")
    assert verified.exit_code == 0, verified.output
    assert "0 exceptions" in verified.output


@pytest.mark.parametrize(
    ("finding", "told"),
    [
        (
            PublishedFinding("all", None, None, 0.0, 1, 0, 0, {}, {"the engine went away": 1}),
            "the engine went away",
        ),
        (
            PublishedFinding("all", 80.0, 79.0, 0.0, 9, 0, 0, {}),
            "wrong: all: more than 0.6 points from published",
        ),
    ],
)
def test_samples_that_are_lost_or_fare_otherwise_are_no_success(
    folder: Path, monkeypatch: pytest.MonkeyPatch, finding: PublishedFinding, told: str
) -> None:
    monkeypatch.setattr(verification_record, "verify_published", lambda *_: iter([finding]))
    for specs in (["minipy:num_problems=2"], ["minipy:num_problems=2", "minipy:num_problems=3"]):
        done = call("benchmarks", "verify", *specs, "--load", "0", "--samples", "1")
        assert done.exit_code == 1, done.output
        assert told in done.output


def test_verifying_several_goes_on_after_one_that_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDBENCH_DATA", str(folder))
    few = ("--problems", "2", "--cheats", "1", "--load", "0")
    done = call("benchmarks", "verify", "livecodebench", "minipy:num_problems=3", *few)
    assert done.exit_code == 0, done.output
    assert "livecodebench: left out: livecodebench/test.jsonl is missing; fetch it" in done.output
    assert "2 of 2" in done.output
    (folder / "mbpp").mkdir()
    (folder / "mbpp" / "mbpp.jsonl").write_text("{}")
    failed = call("benchmarks", "verify", "mbpp", "minipy:num_problems=3", *few)
    assert failed.exit_code == 1
    assert "mbpp: failed: " in failed.output
    assert "mbpp.jsonl is not the published data: SHA-256" in failed.output
    assert "1 of 2 benchmarks verified" in failed.output
    nothing = call("benchmarks", "verify", "mbpp_plus", "livecodebench", *few)
    assert (nothing.exit_code, "0 of 2 benchmarks" in nothing.output) == (1, True)
    assert call("benchmarks", "verify", "minipy", "nothing").exit_code == 2


def test_faults_make_the_exit_status_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("run", "small.toml").exit_code == 0

    def run_with_faults(
        sweep: Sweep, runs_folder: Path, observer: RunProgress, *rest: object
    ) -> RunReport:
        return RunReport(
            runs_folder / "small" / "store.sqlite", 2, num_faults=3, sources=(), left_out={}
        )

    monkeypatch.setattr(cli, "run_sweep", run_with_faults)
    result = call("run", "small.toml")
    assert result.exit_code == 1
    assert "3 programs could not be generated or judged because of infrastructure" in result.stderr


def test_ctrl_c_says_how_to_resume(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(
        sweep: Sweep, runs_folder: Path, observer: RunProgress, *rest: object
    ) -> RunReport:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_sweep", interrupt)
    result = call("run", "small.toml")
    assert result.exit_code == 130
    assert "run the same command again to resume" in result.stderr


def list_commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    return [path, *(p for n, c in command.commands.items() for p in list_commands(c, (*path, n)))]


@pytest.mark.parametrize("path", list_commands(cli.main), ids=" ".join)
def test_no_help_shows_its_own_markup(path: tuple[str, ...]) -> None:
    result = call(*path, "--help")
    assert result.exit_code == 0
    assert "\\b" not in result.output


def test_help_has_an_example_and_names_every_command() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert "sdbench run sweeps/demo.toml" in result.output
    for name in main.commands:
        assert f"  {name}" in result.output


def test_demo_ends_with_the_path_of_its_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_demo_sweep", lambda: folder / "small.toml")
    result = call("demo")
    assert result.exit_code == 0, result.output
    assert (folder / result.stdout.splitlines()[-1]).is_file()


def test_demo_variable_is_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDBENCH_DEMO", "tiny")
    assert_one_line(call("demo"), "SDBENCH_DEMO='tiny'; use full or short, or unset it")
