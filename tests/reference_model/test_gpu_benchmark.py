"""The run of all GPU benchmarks: parts that crash or hang keep no other from running."""

import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.scripts import load_script

SCRIPT = Path(__file__).parents[2] / "reference_model" / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_script(SCRIPT)


@pytest.mark.parametrize(
    ("program", "seconds", "ending"),
    [
        ("pass", 60, "done"),
        ("raise SystemExit(3)", 60, "failed with status 3; see above"),
        ("import time; time.sleep(60)", 1, "out of time; what it did until then is in its file"),
        ("pass", -1, "out of time; what it did until then is in its file"),
    ],
)
def test_a_part_ends_by_itself_or_at_its_moment(
    benchmark: ModuleType, program: str, seconds: float, ending: str
) -> None:
    started = time.monotonic()
    assert benchmark.run_part([sys.executable, "-c", program], started + seconds) == ending
    assert time.monotonic() - started < 30


def test_all_parts_end_within_eight_minutes_and_exist(benchmark: ModuleType) -> None:
    moments = [until_s for until_s, _ in benchmark.PARTS.values()]
    assert moments == sorted(moments)
    assert moments[-1] < 480
    named = [word for _, command in benchmark.PARTS.values() for word in command if "/" in word]
    assert named
    assert all((benchmark.ROOT / name).exists() for name in named)


def test_a_table_of_all_files(benchmark: ModuleType) -> None:
    head = {"gpu": "NVIDIA H20", "torch": "2.11", "triton": "3.6", "commit": "abc"}
    speeds = {"replayed": 1234.4, "blocks": 1000.0, "twin": 999.0, "twin, plain": 9.0}
    texts = [
        {"size": "1b", "tokens_per_s": speeds},
        {"size": "0.5b", "failed": "the twins: 3 of 64 tokens agree; nothing timed"},
    ]
    step = {
        "size": "1b",
        "weights": "bf16",
        "block_size": 32,
        "milliseconds": {"fused": 1.5, "modules": 3.0},
        "forwards_per_s": 666.7,
        "share_of_roofline": 0.5,
    }
    operator = {
        "operator": "head_select",
        "size": "1b",
        "block_size": 32,
        "milliseconds": {"ours": {"median": 0.1234}},
        "share_of_copy_bandwidth": 0.87,
        "speed_over": {"chain": 2.5, "bare product": 0.98},
    }
    table = benchmark.make_table(
        {
            "texts": {**head, "results": texts},
            "step": {**head, "results": [step]},
            "operators": {**head, "results": [operator]},
        }
    )
    assert table.count("NVIDIA H20, torch 2.11, triton 3.6, commit abc.") == 3
    assert "| 1b | 1,234 | 1,000 | 999 | 9 |" in table
    assert "0.5b, texts: failed, the twins: 3 of 64 tokens agree; nothing timed" in table
    assert "| 1b | bf16 | 32 | 1.5 | 3.0 |  | 666.7 | 50% |" in table
    assert "| head_select | 1b | 32 | 123.4 | 87% | chain 2.50, bare product 0.98 |" in table


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and the run takes minutes")
def test_without_a_gpu_it_says_so_in_one_line(benchmark: ModuleType) -> None:
    process = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr.strip() == benchmark.NO_GPU
