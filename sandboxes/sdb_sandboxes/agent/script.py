"""A cell that becomes `python3 file`: standard input on descriptor 0, exit code at the end.

Place in the flow: `cell.py` hands over once the judge has sent files instead of a program to call.
The program is compiled, the judge is told so, and then the channel itself becomes standard input:
the case's text comes down the same line, and its end is the line's end. From there the judge only
reads what is printed and how the process ends. What it does not do: it never sees an expected
output, there is no `/dev/stdin`, and signals to oneself without a handler do nothing, because a
cell is the first process of its namespace.
"""

import atexit
import builtins
import contextlib
import linecache
import os
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

EXIT_UNCAUGHT, EXIT_MEMORY, EXIT_FLUSH = 1, 98, 120
"""As Python exits, but for memory that ran out, which the judge wants to tell apart."""


def run_script(channel: int, request: dict[str, Any], send: Callable[[Any], None]) -> NoReturn:
    """Write the files, compile the first, report, run it as `__main__`, leave as Python does.

    `request["files"]` is a list of [relative path, text]; the first one is the program.
    """
    path = request["files"][0][0]
    try:
        for name, text in request["files"]:
            write_file(name, text)
        with open(path, "rb") as file:
            code = compile(file.read(), os.path.abspath(path), "exec", dont_inherit=True)
    except BaseException as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        flush_output()
        send({"failed": type(error).__name__, "stage": "compile"})
        os._exit(EXIT_UNCAUGHT)
    send({"ready": True})
    # Nothing that is written to standard input may look like an answer.
    with socket.socket(fileno=channel) as line:
        line.shutdown(socket.SHUT_WR)
        os.dup2(channel, 0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = types.ModuleType("__main__")
    module.__dict__.update({"__file__": os.path.abspath(path), "__builtins__": builtins})
    sys.modules["__main__"] = module
    sys.argv = [path]
    sys.path.insert(0, os.getcwd())
    linecache.clearcache()
    leave(run_to_end(lambda: exec(code, module.__dict__)), module)


def write_file(name: str, text: str) -> None:
    """Write one file below the working folder."""
    if os.path.dirname(name):
        os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "wb") as file:
        file.write(text.encode())


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
