"""The worked example of docs/adding-a-benchmark.md works, and is as short as it says."""

import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sdb_harness.benchmarks import BENCHMARKS
from sdb_harness.cli import main

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-a-benchmark.md"
ROWS = [
    {
        "id": "tiny/0",
        "prompt": "def double(x):\n",
        "body": "    return 2 * x\n",
        "name": "double",
        "cases": [[[2], 4], [[5], 10]],
    },
    {
        "id": "tiny/1",
        "prompt": "def half(x):\n",
        "body": "    return x / 2\n",
        "name": "half",
        "cases": [[[3], 2]],
    },
]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    content = "\n".join(map(json.dumps, ROWS)).encode()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tiny.jsonl").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    path = tmp_path / "tiny_example.py"
    path.write_text(re.sub(r'sha256="[0-9a-f]{64}"', f'sha256="{digest}"', source))
    spec = importlib.util.spec_from_file_location("tiny_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "tiny_example", module)
    monkeypatch.setitem(BENCHMARKS, "tiny", "tiny_example:load")
    monkeypatch.setenv("SDBENCH_DATA", str(tmp_path))


def test_the_example_has_60_lines_of_code() -> None:
    (source,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    body = re.sub(r'^""".*?"""\n', "", source, flags=re.DOTALL)
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 60


@pytest.mark.usefixtures("tiny")
def test_the_example_is_verified_shown_and_run(tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(main, ["benchmarks", "verify", "tiny", "--load", "0"])
    assert result.exit_code == 0, result.output
    assert "known fault: reference, tiny/1: wrong_answer" in result.output
    result = runner.invoke(main, ["benchmarks", "protocols", "tiny"])
    assert "version 1; prompt ask_as_is; stop '\\nclass'" in result.output
    for protocol in ("base", "chat"):
        arguments = ["run", "--benchmark", "tiny", "--generator", "canonical"]
        arguments += ["--protocol", protocol, "--runs", str(tmp_path / "runs"), "--name", protocol]
        result = runner.invoke(main, arguments)
        assert result.exit_code == 0, result.output
        assert "50.0" in result.output
