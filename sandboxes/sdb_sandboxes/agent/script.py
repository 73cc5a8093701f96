"""A cell that becomes `python3 file`: standard input on descriptor 0, exit code at the end.

Place in the flow: `cell.py` hands over once the judge has sent files instead of a program to call.
The program is compiled, the judge is told so, and then the channel itself becomes standard input:
the case's text comes down the same line, and its end is the line's end. From there the judge only
reads what is printed and how the process ends. What it does not do: it never sees an expected
output, there is no `/dev/stdin`, and signals to oneself without a handler do nothing, because a
cell is the first process of its namespace.
"""

import _socket
import atexit
import builtins
import contextlib
import linecache
import os
import signal
import sys
import threading
import types
from _signal import signal as set_handler  # type: ignore[import-not-found]
from collections.abc import Callable
from typing import Any, NoReturn

from sdb_sandboxes.agent.codec import READY, pack_frame, write_all

HANDLERS: tuple[tuple[int, Any], ...] = (
    (int(signal.SIGPIPE), int(signal.SIG_IGN)),
    (int(signal.SIGXFSZ), int(signal.SIG_IGN)),
    (int(signal.SIGINT), signal.default_int_handler),
)
"""As Python starts with them; plain numbers, for enumerations cost a cell a dozen pages."""
EXIT_UNCAUGHT, EXIT_MEMORY, EXIT_FLUSH = 1, 98, 120
"""As Python exits, but for memory that ran out, which the judge wants to tell apart."""


def run_script(channel: int, request: dict[str, Any]) -> NoReturn:
    """Write the files, compile the first, report, run it as `__main__`, leave as Python does.

    `request["files"]` is a list of [relative path, text]; the first one is the program.
    """
    files, name = dict(request["files"]), request["files"][0][0]
    folder = os.getcwd()
    path = os.path.abspath(name)
    try:
        for other, text in files.items():
            write_file(other, text.encode())
        code = compile(files[name].encode(), path, "exec", dont_inherit=True)
    except BaseException as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        flush_output()
        write_all(channel, pack_frame({"failed": type(error).__name__, "stage": "compile"}))
        os._exit(EXIT_UNCAUGHT)
    write_all(channel, READY)
    # Nothing that is written to standard input may look like an answer.
    line = _socket.socket(fileno=channel)
    line.shutdown(_socket.SHUT_WR)
    os.dup2(channel, 0)
    line.close()
    for number, handler in HANDLERS:
        set_handler(number, handler)
    module = build_module(path)
    sys.modules["__main__"] = module
    sys.argv = [name]
    sys.path.insert(0, folder)
    leave(run_to_end(lambda: exec(code, module.__dict__)), module)


def rehearse() -> None:
    """What every script does and leaves no trace: see `cell.rehearse`."""
    for _ in range(20):
        module = build_module(os.path.abspath("main.py"))
        code = compile(b"x = 1\n", module.__dict__["__file__"], "exec", dont_inherit=True)
        run_to_end(lambda: exec(code, module.__dict__))  # noqa: B023
        flush_output()
    linecache.clearcache()


def build_module(path: str) -> types.ModuleType:
    """What a script sees as itself."""
    module = types.ModuleType("__main__")
    module.__dict__.update({"__file__": path, "__builtins__": builtins})
    return module


def write_file(name: str, text: bytes) -> None:
    """Write one file below the working folder."""
    if "/" in name and os.path.dirname(name):
        os.makedirs(os.path.dirname(name), exist_ok=True)
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    write_all(file, text)
    os.close(file)


def run_to_end(step: Callable[[], object]) -> int:
    """The exit code that Python would give; an uncaught error is shown by the current hook."""
    try:
        step()
    except SystemExit as stop:
        return read_exit_code(stop)
    except BaseException as error:
        # Without the two frames that are ours.
        trace = error.__traceback__
        for _ in range(2):
            trace = trace.tb_next if trace is not None else None
        with contextlib.suppress(BaseException):
            sys.excepthook(type(error), error.with_traceback(trace), trace)
        return EXIT_MEMORY if isinstance(error, MemoryError) else EXIT_UNCAUGHT
    return 0


def read_exit_code(stop: SystemExit) -> int:
    """What `sys.exit(code)` means."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    with contextlib.suppress(BaseException):
        sys.stderr.write(f"{stop.code}\n")
    return 1


def leave(code: int, module: types.ModuleType) -> NoReturn:
    """End as the interpreter does: threads, exit functions, output, destructors, output."""
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    is_flushed = flush_output()
    with contextlib.suppress(BaseException):
        for name in [name for name in module.__dict__ if name != "__builtins__"]:
            module.__dict__[name] = None
    is_flushed = flush_output() and is_flushed
    os._exit(code if is_flushed else EXIT_FLUSH)


def flush_output() -> bool:
    """Whether everything that was printed could be written."""
    is_flushed = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException:
            is_flushed = False
    return is_flushed
