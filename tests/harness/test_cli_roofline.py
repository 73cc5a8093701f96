from pathlib import Path

from click.testing import CliRunner, Result

from sdb_harness.cli import main
from sdb_harness.cli_roofline import GPU_NAMES, PRECISION_NAMES, SIZE_NAMES
from sdb_reference_model.model import SIZES
from sdb_reference_model.roofline import GPUS, PRECISIONS


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["roofline", *arguments])


def test_it_answers_what_a_claim_needs() -> None:
    result = call("--gpu", "H20", "--size", "8b")
    assert result.exit_code == 0, result.output
    assert "3.93 ms a forward of 32 tokens, 255 forwards/s, by memory: 15.23 GB" in result.output
    assert "knee   37 tokens per forward" in result.output
    assert "2,146 tok/s needs tokens per forward: 8.43 at 100%  11.24 at 75%" in result.output
    assert "by arithmetic" in call("--block-size", "64").output


def test_it_draws(tmp_path: Path) -> None:
    out = tmp_path / "picture.svg"
    assert call("--svg", str(out)).exit_code == 0
    assert "<svg" in out.read_text()


def test_wrong_values_are_one_line() -> None:
    for arguments, message in (
        (("--gpu", "H21"), "'H21' is not one of 'H20', 'H100', 'H200'"),
        (("--size", "9b"), "'9b' is not one of '0.5b', '1b', '8b'"),
        (("--block-size", "0"), "0 is not in the range x>=1"),
        (("--tokens-per-s", "0"), "0.0 is not in the range x>0.0"),
        (("--tokens-per-s", "nan"), "nan is no speed"),
        (("--tokens-per-s", "inf"), "inf is no speed"),
    ):
        result = call(*arguments)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert message in result.stderr


def test_names_are_those_of_the_tables() -> None:
    # Written twice, so that `sdbench --help` need not import torch.
    assert GPU_NAMES == tuple(GPUS)
    assert PRECISION_NAMES == tuple(PRECISIONS)
    assert set(SIZE_NAMES) <= set(SIZES)
