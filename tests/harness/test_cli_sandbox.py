"""`sdbench sandbox serve` as a process: starts, says where, serves, ends on SIGTERM."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

SDBENCH = Path(sys.executable).with_name("sdbench")


def test_serving_starts_with_a_new_token_and_ends_cleanly() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "SDBENCH_SANDBOX_TOKEN"}
    process = subprocess.Popen(
        [SDBENCH, "sandbox", "serve", "--port", "0", "--slots", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stderr is not None
        token = process.stderr.readline().removeprefix("token: ").strip()
        found = re.search(r"listening on (http://127.0.0.1:\d+)", process.stderr.readline())
        assert found
        answer = httpx.post(
            f"{found[1]}/run_code",
            json={"code": "print(input())", "language": "python", "stdin": "hello\n"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )
        assert answer.json()["run_result"]["stdout"] == "hello\n"
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert rest == ""
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "add --allow-remote"),
        (["--host", "nowhere"], "host 'nowhere' is no address"),
        (["--port", "99999"], "99999"),
        (["--port", "0", "--sandbox", "chroot"], "sandbox 'chroot' does not exist"),
        (["--token-file", "no-such-file"], "no-such-file"),
    ],
)
def test_bad_settings_are_one_line(arguments: list[str], message: str) -> None:
    result = subprocess.run(
        [SDBENCH, "sandbox", "serve", *arguments], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
