"""Runs a project's tests inside a cell: tests in a child, the report by a parent without them.

Place in the flow: `projects.py` sends this source along as the first file of every project, and
`languages.PROJECTS` starts it with the command of the tests as arguments; nothing imports it. The
child has neither the standard output nor the standard input of its parent. Only when it has ended
does the parent read the judge's line from standard input, which holds the nonce, and write down how
the child ended and all that it printed.

What it does not do: tests and program share the child, so what it printed may be a lie; that is
what the judge's controls are for. Nor does it hide the nonce from a child that opens its parent's
descriptors in /proc, which gains nothing: it cannot write where the parent writes.
"""

import json
import os
import subprocess
import sys

MAX_OUTPUT_BYTES = 1 << 19
"""More than any suite prints that ends well, and little enough to travel as JSON text."""


def main() -> None:
    """Start, read, wait, report."""
    os.unlink(".stdin")  # no file of the folder shall hold the nonce
    command = sys.argv[1:]
    output = b""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        assert child.stdout is not None
        while piece := os.read(child.stdout.fileno(), 1 << 16):
            output += piece
            if len(output) > MAX_OUTPUT_BYTES:
                child.kill()
                break
    report = {
        "status": child.returncode,
        "output": output[:MAX_OUTPUT_BYTES].decode("utf-8", "replace"),
    }
    nonce = sys.stdin.readline().strip()
    sys.stdout.write(json.dumps({"report": report, "nonce": nonce}, ensure_ascii=False))


if __name__ == "__main__":
    main()
