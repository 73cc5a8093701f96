"""The comparison with other samplers, without them: what was measured is kept and shown."""

import subprocess
import sys
from pathlib import Path

from tests.scripts import load_script

SCRIPT = Path(__file__).parents[2] / "reference_model" / "benchmarks" / "peers.py"


def test_a_part_that_is_measured_again_replaces_itself_alone() -> None:
    def make(vocab_size: int, threads: int, rounds: int) -> dict[str, int]:
        return {"vocab_size": vocab_size, "threads": threads, "rounds": rounds}

    put = load_script(SCRIPT).put
    records = put(make(4096, 2, 1), put(make(32_768, 1, 1), []))
    assert records == [make(4096, 2, 1), make(32_768, 1, 1)]
    records = put(make(4096, 1, 1), put(make(32_768, 1, 9), records))
    assert records == [make(4096, 1, 1), make(4096, 2, 1), make(32_768, 1, 9)]


def test_without_peers_the_committed_results_are_shown() -> None:
    process = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert process.returncode == 0
    assert "committed results; give --peers DIR" in process.stdout
    assert "SDAR" in process.stdout
