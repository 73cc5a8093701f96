"""`sdbench generate` on the shipped checkpoint: every policy and gaps; nonsense is one line."""

import pytest
from click.testing import CliRunner, Result

from sdb_harness.cli import main

TASK = "Keep the even numbers, then take their sum."


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["generate", TASK, "--max-new-tokens", "32", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--num-steps", "4"],
        ["--policy", "entropy:0.2"],
        ["--policy", "edit:0.9:0.9:4", "--show"],
        ["--policy", "prefix:0.9"],
        ["--policy", "pipelined:0.9:0.5", "--model", "demo-scratch"],
    ],
    ids=" ".join,
)
def test_an_answer_and_its_forwards_are_shown(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert f'    """{TASK}"""\n    ' in result.output
    assert "return sum(" in result.output
    assert "tokens per forward" in result.output


def test_steps_per_block_are_kept() -> None:
    assert "2 forwards" in call("--num-steps", "1").output  # 32 tokens in two blocks


@pytest.mark.parametrize("show", [[], ["--show"]])
def test_a_gap_is_filled_and_shown_between_both_sides(show: list[str]) -> None:
    prompt = f'def solve(nums):\n    """{TASK}"""\n    nums = ['
    suffix = "]\\n    return sum(nums)\\n"
    arguments = ["generate", prompt, "--suffix", suffix, "--max-new-tokens", "12", *show]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    before, behind = result.output.split("]\n    return sum(nums)\n")
    assert "nums = [" in before
    assert before.split("nums = [")[-1].strip()
    assert " tokens" in behind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "0.9", "--num-steps", "2"], "not threshold=0.9 and num_steps=2"),
        (["--policy", "top:2", "--threshold", "1"], "exactly one of threshold, num_steps and pol"),
        (["--policy", "best"], "unknown policy 'best'"),
        (["--policy", "top:0"], "does not fit top:TOKENS"),
        (["--policy", "levenshtein:0.9:0.9:2"], "needs a checkpoint trained with edit_lengths"),
        (["--suffix", ""], "the suffix is empty; leave it out"),
        (["--suffix", "x", "--block-size", "8"], "leave --block-size out"),
        (["--suffix", "x", "--policy", "pipelined:0.9:0.5"], "needs a block-causal model and a t"),
        (["--suffix", "x", "--sampler", "replayed"], "replayed cannot run: it fills no gaps"),
        (["--policy", "top:2", "--sampler", "replayed"], "it commits by --threshold or --policy p"),
        (["--policy", "pipelined:0.9:0.5"], "needs a block-causal model and a t"),
        (["--policy", "pipelined:1:1", "--show", "--model", "demo-scratch"], "two blocks at once"),
        (["--model", "demo-ar", "--policy", "top:2"], "fills no gaps and has no policies"),
        (["--model", "demo-ar", "--suffix", "x"], "fills no gaps and has no policies"),
        (["--suffix", "x " * 400], "exceed the model's max_seq_len=512"),
    ],
)
def test_nonsense_is_one_line(arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("sdbench: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
