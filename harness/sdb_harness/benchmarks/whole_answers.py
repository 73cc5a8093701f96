"""A chat model's whole file, made to stand in front of tests that expect an open function.

Place in the flow: the `assemble` step of `chat` in `mxeval.py` and `multipl_e.py`. The tests of
both were written to follow a completion: they close its function or class, and bring the entry
point of the program. A whole answer is closed already and, asked for "the full code", most models
write an entry point as well; put in front of the tests as it stands it never compiles. So the
answer's own entry point gets another name, the classes that the tests close are opened again, and
an empty function is opened where they close one. Nothing of the answer is dropped but what stands
behind its last brace where one is taken away.

What it does not do: no parsing. An answer whose last class is not the one that was asked for does
not compile, and counts as the model's failure.
"""

import re

ENTRY_POINTS = {
    **dict.fromkeys(("cpp", "d", "go", "java", "kotlin", "rust", "scala"), "main"),
    "csharp": "Main",
}
"""Language -> the function at which a program starts."""
HEADERS = {
    **{"cpp": r"^#include.*", "csharp": r"^using .*;"},
    **dict.fromkeys(("d", "java"), r"^import .*;"),
}
"""Language -> lines of the prompt that the tests need; that they stand twice does no harm."""
PUBLIC_CLASS = re.compile(
    r"^public[ \t]+(?=(?:\w+[ \t]+)*(?:class|interface|enum|record)\b)", re.MULTILINE
)
EMPTY_FUNCTIONS = {
    "bash": "opened_for_tests() {\n    :",
    "cpp": "void opened_for_tests() {",
    "csharp": "    static void OpenedForTests() {",
    "java": "    static void openedForTests() {",
    "rust": "fn opened_for_tests() {",
    "scala": "    def openedForTests() = {",
    "swift": "func opened_for_tests() {",
}
"""Language -> a function that the tests close."""


def put_before_tests(
    code: str, language: str, prompt: str, *, num_classes: int, opens_function: bool
) -> str:
    """A whole answer, ready for the tests behind it.

    Args:
        code: The answer's code.
        language: What it is written in.
        prompt: The tests need what it includes and imports, which an answer may leave out.
        num_classes: Classes and namespaces that the tests close.
        opens_function: Whether they close a function before that.
    """
    if name := ENTRY_POINTS.get(language):
        code = re.sub(rf"\b{name}(?=\s*\()", f"answer_{name}", code)
    if language == "java":  # only the class that the file is named after may be public
        code = PUBLIC_CLASS.sub("", code)
        code = re.sub(r"\A\s*package [\w.]+;", "", code)
    if header := HEADERS.get(language):
        code = "".join(f"{line}\n" for line in re.findall(header, prompt, re.M)) + code
    if language == "go":
        code = add_go_imports(code, prompt)
    if language == "php":
        code = code.rstrip().removesuffix("?>")
        code = code if "<?php" in code else f"<?php\n{code}"
    if language == "racket" and "#lang" not in code:
        code = f"#lang racket\n{code}"
    for _ in range(num_classes):
        code = code[: max(code.rfind("}"), 0)]
    code = code if code.endswith("\n") else f"{code}\n"
    return f"{code}{EMPTY_FUNCTIONS[language]}\n" if opens_function else code


def add_go_imports(code: str, prompt: str) -> str:
    """The answer as a file of package main that imports what the prompt imports."""
    body = re.sub(r"^\s*package \w+\n?", "", code, count=1)
    pattern = r'^(?:import[ \t]+|[ \t]+)(?:\w+[ \t]+)?"([\w/]+)"'
    there = set(re.findall(pattern, body, re.M))
    lacking = [name for name in re.findall(pattern, prompt, re.M) if name not in there]
    return "package main\n" + "".join(f'import "{name}"\n' for name in lacking) + body
