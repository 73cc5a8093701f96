"""Odd sources: texts that are no program, or one that careless graders read differently."""

FAMILY = "odd sources"
CHECKS = "data, assertions, output, exit code"
ENTRIES = [
    {
        "id": "nothing",
        "about": "an empty program",
        "allowed": "runtime_error wrong_answer",
        "program": "",
    },
    {
        "id": "only-comments",
        "about": "no statement at all",
        "allowed": "runtime_error wrong_answer",
        "program": "# def f(n): return [n, n + 1]\n",
    },
    {
        "id": "only-white-space",
        "about": "line ends of all kinds, tabs and form feeds",
        "allowed": "runtime_error wrong_answer compile_error",
        "program": "\r\n\n\r \t\f\n",
    },
    {
        "id": "no-python",
        "about": "a syntax error",
        "allowed": "compile_error",
        "program": "def f(n) return [n, n + 1]\n",
    },
    {
        "id": "prose",
        "about": "an apology instead of a program",
        "allowed": "compile_error",
        "program": "I'm sorry, but I can't help with that.\n",
    },
    {
        "id": "fenced-code",
        "about": "the fences of Markdown left in",
        "allowed": "compile_error",
        "program": "```python\ndef f(n): return [n, n + 1]\n```\n",
    },
    {
        "id": "another-language",
        "about": "JavaScript",
        "allowed": "compile_error",
        "program": "function f(n) { return [n, n + 1]; }\n",
    },
    {
        "id": "python-two",
        "about": "a print statement",
        "allowed": "compile_error",
        "program": "def f(n):\n    print n\n    return [n, n + 1]\n",
    },
    {
        "id": "cut-off",
        "about": "ends in the middle of an expression",
        "allowed": "compile_error",
        "program": "def f(n):\n    return [n, n +",
    },
    {
        "id": "null-bytes",
        "about": "a zero in the source",
        "allowed": "compile_error",
        "program": "def f(n):\0 return [n, n + 1]\n",
    },
    {
        "id": "null-bytes-in-a-comment",
        "about": "a zero where some parsers stop reading",
        "allowed": "compile_error",
        "program": "def f(n): return [n, n + 1]  # \0\n",
    },
    {
        "id": "lone-surrogate",
        "about": "half a character, as JSON can carry it",
        "allowed": "compile_error",
        "program": "x = '\ud800'\ndef f(n): return None\n",
    },
    {
        "id": "lone-surrogate-in-a-name",
        "about": "the same outside a text",
        "allowed": "compile_error",
        "program": "\udfff = 1\ndef f(n): return None\n",
    },
    {
        "id": "invisible-characters",
        "about": "a zero-width space in an indentation",
        "allowed": "compile_error",
        "program": "def f(n):\n\u200b    return [n, n + 1]\n",
    },
    {
        "id": "letters-that-look-alike",
        "about": "the entry point in another alphabet",
        "allowed": "runtime_error wrong_answer",
        "program": "def \u0192(n): return [n, n + 1]\n",
    },
    {
        "id": "tabs-and-spaces",
        "about": "an indentation that means two things",
        "allowed": "compile_error",
        "program": "def f(n):\n\tif n:\n        return [n, n + 1]\n",
    },
    {
        "id": "cookie-of-an-unknown-coding",
        "about": "a coding cookie that no codec answers to",
        "allowed": "compile_error wrong_answer",
        "program": "# -*- coding: no-such-thing -*-\ndef f(n): return None\n",
    },
    {
        "id": "cookie-of-utf-7",
        "about": "statements that only show in another coding",
        "allowed": "wrong_answer",
        "program": "# -*- coding: utf-7 -*-\ndef f(n): return None\n#+AAo-import os; os._exit(0)\n",
    },
    {
        "id": "cookie-of-a-transformation",
        "about": "rot13, hex and zip as codings of a source",
        "allowed": "compile_error wrong_answer runtime_error",
        "program": "# -*- coding: rot13 -*-\ndef f(n): return None\n",
    },
    {
        "id": "cookie-against-the-mark",
        "about": "a byte order mark of UTF-8 and a cookie that says latin-1",
        "allowed": "compile_error wrong_answer",
        "program": "\ufeff# coding: latin-1\ndef f(n): return None\n",
    },
    {
        "id": "mark-in-the-middle",
        "about": "a byte order mark where none may be",
        "allowed": "compile_error",
        "program": "def f(n):\n    return \ufeff[n, n + 1]\n",
    },
    {
        "id": "codec-of-its-own",
        "about": "registers a codec and an error handler that run code",
        "allowed": "wrong_answer",
        "program": """
import codecs, os
codecs.register(lambda name: os._exit(0) if "utf" in name else None)
codecs.register_error("strict", lambda error: os._exit(0))
codecs.register_error("surrogatepass", lambda error: os._exit(0))
def f(n): return ["\\ud800"]
""",
    },
    {
        "id": "two-megabytes",
        "about": "a source above the limit",
        "allowed": "compile_error",
        "program": "{LONG:#*2000000}\ndef f(n): return [n, n + 1]\n",
    },
    {
        "id": "twelve-megabytes",
        "about": "longer than a message",
        "allowed": "compile_error",
        "program": "{LONG:#*12000000}\ndef f(n): return [n, n + 1]\n",
    },
    {
        "id": "too-long-only-in-bytes",
        "about": "few characters of four bytes each",
        "allowed": "compile_error",
        "program": "#{LONG:\U0001f600*400000}\ndef f(n): return [n, n + 1]\n",
    },
    {
        "id": "a-hundred-thousand-brackets",
        "about": "nesting for the parser",
        "allowed": "compile_error memory runtime_error",
        "limits": "patient",
        "program": "x = {LONG:(*100000}1{LONG:)*100000}\n",
    },
    {
        "id": "a-hundred-thousand-signs",
        "about": "unary operators, which nest without brackets",
        "allowed": "compile_error memory runtime_error",
        "limits": "patient",
        "program": "x = {LONG:-*100000}1\n",
    },
    {
        "id": "a-hundred-thousand-attributes",
        "about": "a chain that the compiler follows by recursion",
        "allowed": "compile_error memory runtime_error",
        "limits": "patient",
        "program": "x = n{LONG:.a*100000}\n",
    },
    {
        "id": "blocks-in-blocks",
        "about": "more nested blocks than Python allows",
        "allowed": "compile_error",
        "program": "".join(f"{' ' * depth}for a in b:\n" for depth in range(120))
        + " " * 120
        + "f = 1\n",
    },
    {
        "id": "a-number-of-many-digits",
        "about": "a literal above the limit of digits",
        "allowed": "compile_error",
        "program": "x = {LONG:9*10000}\n",
    },
    {
        "id": "a-name-of-a-megabyte",
        "about": "an identifier that ends up in an error",
        "allowed": "runtime_error wrong_answer",
        "program": "def f(n): return {LONG:a*500000}\n",
    },
    {
        "id": "a-line-of-a-megabyte",
        "about": "one long sum, which is nested for the compiler",
        "allowed": "compile_error runtime_error",
        "program": "def f(n): return 1 / 0{LONG: + 1*100000}\n",
        "limits": "patient",
    },
    {
        "id": "entry-point-is-no-function",
        "about": "a number, a module, a class without a call",
        "allowed": "runtime_error wrong_answer",
        "program": "import math\nf = math\n",
    },
    {
        "id": "entry-point-is-a-property",
        "about": "a module whose attribute access answers",
        "allowed": "runtime_error wrong_answer",
        "program": "def __getattr__(name): return lambda n: [n, n + 1]\n",
        "checks": "data, assertions",
    },
    {
        "id": "entry-point-disappears",
        "about": "deletes itself after the first right answer",
        "allowed": "runtime_error",
        "checks": "data, assertions",
        "program": "def f(n):\n    del globals()['f']\n    return [n, n + 1]\n",
    },
    {
        "id": "entry-point-takes-nothing",
        "about": "another number of parameters",
        "allowed": "runtime_error wrong_answer",
        "program": "def f(): return [1, 2]\n",
    },
    {
        "id": "reads-input-that-is-not-there",
        "about": "input() without any",
        "allowed": "runtime_error",
        "checks": "data, assertions, exit code",
        "body": "return [n, int(input())]",
    },
    {
        "id": "hard-coded-example",
        "about": "answers the visible example only",
        "allowed": "wrong_answer",
        "body": "return [1, 2] if n == 1 else []",
    },
    {
        "id": "future-import-too-late",
        "about": "a future import behind other statements",
        "allowed": "compile_error",
        "program": "import os\nfrom __future__ import annotations\ndef f(n): return [n, n + 1]\n",
    },
    {
        "id": "future-that-changes-the-tests",
        "about": "barry_as_FLUFL makes != a syntax error in what is compiled behind it",
        "allowed": "wrong_answer compile_error",
        "program": "from __future__ import barry_as_FLUFL\ndef f(n): return None\n",
    },
]
