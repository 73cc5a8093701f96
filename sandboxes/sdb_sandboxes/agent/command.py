"""A cell that becomes another program: a compiler, an interpreter, or what a compiler made.

Place in the flow: `zygote.py` forks and locks the cell for a command (execute allowed on the
image's tools and the working folder, see `kernel.py`); the judge's one message then says what to
write and what to start. The channel closes by itself when the start succeeds, so only a cell that
could not start anything can still speak on it. What it does not do: it sees no expected output, it
does not outlive the start, and it starts one program; whatever that starts dies with the cell.
"""

import contextlib
import os
from typing import Any, NoReturn

from sdb_sandboxes.agent.codec import receive_order, send_frame

STDIN = ".stdin"
"""Standard input is a file, not a pipe: programs open `/dev/stdin` again or seek in it."""


def serve_command(channel: int) -> NoReturn:
    """Write the files that came, then become the command that came with them.

    The message: `files` as [path, text] each, `stdin`, `command`, `environment`.
    """
    request = receive_order(channel)
    try:
        start_command(request)
    except BaseException as error:
        with contextlib.suppress(OSError):
            send_frame(channel, {"failed": f"{type(error).__name__}: {error}"[:300]})
    os._exit(1)


def start_command(request: dict[str, Any]) -> None:
    """Replace this process. Raises OSError if a file cannot be written or nothing can start."""
    for path, text in request["files"]:
        write_file(path, text)
    write_file(STDIN, request["stdin"])
    stdin = os.open(STDIN, os.O_RDONLY)
    os.dup2(stdin, 0)
    os.close(stdin)
    for output in (1, 2):
        os.set_inheritable(output, True)
    command = request["command"]
    here = os.getcwd()
    # Compilers keep their temporary files beside the program: the only folder there is.
    environment = {"HOME": here, "TMPDIR": here, **request["environment"]}
    os.execve(command[0], command, environment)


def write_file(path: str, text: str) -> None:
    """Write one file below the working folder, in the place of what may be there."""
    if os.path.dirname(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(path, "xb") as file:
        file.write(text.encode("utf-8", "surrogatepass"))
