"""How LiveCodeBench's own runner executes a program, for numbers that are to match published ones.

Place in the flow: the `assemble` step of `livecodebench:judge=lcb-compat`. Source: testing_util.py
of LiveCodeBench's runner (HEAD), described here in our own words. It does not start a program that
reads standard input: it moves the imports to the top and all the rest into one function, puts star
imports in front, calls that function with a stand-in for `sys.stdin`, and takes what was printed.
`DRIVER` does so around the program's text, inside the sandbox. Right programs that are rejected:

- `for line in sys.stdin`: the stand-in cannot be iterated;
- a second `sys.stdin.buffer.readline()`: it answers with the first line again;
- `open(0).read()`: the star imports bring the real `open`, and real standard input is empty;
- `from sys import stdin` or `stdout`: bound before the stand-ins are there;
- `global` for a name of the top level: that is a function's local now;
- a helper class called `Solution`, `quit()`, `sys.stdout.buffer`, `import resource`.

What it does not do: all tests in one process (each has its own here, so what a program leaves in
modules does not reach the next test), and the functions of `os` that upstream takes away.
"""

STAR_IMPORTS = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins"),
    "typing",
)
PLAIN_IMPORTS = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json"),
)
PRELUDE = (
    "".join(f"from {name} import *\n" for name in STAR_IMPORTS)
    + "".join(f"import {name}\n" for name in PLAIN_IMPORTS)
    + "sys.setrecursionlimit(50000)\n"
)
"""What upstream puts in front of every program."""

DRIVER = """
import ast, builtins, io, sys
from types import ModuleType


class Buffer:
    def __init__(self, text):
        self.data = text.encode()

    def read(self, *_):
        return self.data

    def readline(self, *_):
        return self.data.split(b"\\n")[0] + b"\\n"


class Stdin:
    def __init__(self, text):
        self.text, self.lines, self.buffer = text, io.StringIO(text), Buffer(text)

    def read(self, *_):
        return self.text

    def readline(self, *given):
        return self.lines.readline(*given)

    def readlines(self, *_):
        return self.text.split("\\n")

    def __getattr__(self, name):
        return getattr(self.lines, name)


def rearrange(source):
    try:
        body = ast.parse(source).body
    except Exception:
        return source
    last = body[-1] if body else None
    if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
        body = body[:-1] + last.body
    imports = [one for one in body if isinstance(one, (ast.Import, ast.ImportFrom))]
    function = ast.parse("def wrapped_function(): pass").body[0]
    function.body = [one for one in body if one not in imports]
    return PRELUDE + ast.unparse(imports) + "\\n" + ast.unparse(function)


def run():
    given, stdout = sys.stdin.read(), sys.stdout
    builtins.quit = None
    for name in ("ipdb", "joblib", "resource", "psutil", "tkinter"):
        sys.modules[name] = None
    code = rearrange(SOURCE)
    module = ModuleType("tmp_sol")
    sys.stdout = io.TextIOWrapper(io.BytesIO())
    exec(code, module.__dict__)
    if "class Solution" in code:
        module.Solution()
    sys.stdin, sys.stdout = Stdin(given), io.StringIO()
    try:
        module.wrapped_function()
    except SystemExit:
        pass
    stdout.write(sys.stdout.getvalue())
    stdout.flush()


run()
"""


def wrap_program(code: str) -> str:
    """A program that executes `code` as upstream's runner would."""
    return f"SOURCE = {code!r}\nPRELUDE = {PRELUDE!r}\n{DRIVER}"
