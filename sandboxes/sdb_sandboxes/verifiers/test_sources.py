"""Turns a data set's Python tests about whole modules into checks: scripts and unittest files.

Place in the flow: a benchmark loader calls `build_script_check` (CanItEdit) or
`build_unittest_check` (BigCodeBench, exercism) with the reference beside the tests, because only
the reference says which names are the program's. Tests that fit get L2b, `needs_one_interpreter`
says which do not; those get L1. That the reference passes under the chosen check is what
`sdbench benchmarks verify` shows.

What it does not do: it runs nothing, and it knows pytest's plain functions but none of its
fixtures and parameters.
"""

import ast
import builtins
import symtable
import sys
from collections.abc import Iterator, Sequence

from sdb_sandboxes.types import ObjectCheck, SuiteCheck

PATCHES = {
    *("patch", "mock", "Mock", "MagicMock", "monkeypatch", "capsys", "inspect", "globals"),
    "seed",
}
"""Names whose use reaches into the program's interpreter."""
SHARED = {"glob", "os", "pathlib", "shutil", "subprocess", "tempfile"}
"""Modules by which tests share files and the environment with a program."""


def build_script_check(tests: str, reference: str) -> ObjectCheck | SuiteCheck:
    """The check of a script that uses the names of the program in front of it.

    Args:
        tests: Source whose top level asserts.
        reference: A right program.
    """
    if needs_one_interpreter(tests, reference):
        return SuiteCheck((("solution.py", tests),), ("solution",), is_joined=True)
    names, prelude = list_shared_names(tests, reference)
    return ObjectCheck(tests, names, prelude=prelude)


def build_unittest_check(
    tests: str,
    reference: str,
    module: str = "",
    path: str = "",
    others: Sequence[tuple[str, str]] = (),
) -> ObjectCheck | SuiteCheck:
    """The check of a file of unittest cases.

    Args:
        tests: Source that defines the cases.
        reference: A right program.
        module: What the tests import the program as; empty where they use its globals, standing
            behind it in one file.
        path: Name of the test file; needed with `module`.
        others: (path, text) of files that the tests need beside them.
    """
    ids = list_test_ids(tests)
    if not ids:
        raise ValueError(f"no test case in {path or 'the tests'}; zero tests prove nothing")
    if others or needs_one_interpreter(tests, reference, module):
        return build_suite_check(tests, module, path, others)
    names, prelude = ((), "") if module else list_shared_names(tests, reference)
    return ObjectCheck(tests, names, module, prelude, ids)


def build_suite_check(
    tests: str, module: str = "", path: str = "", others: Sequence[tuple[str, str]] = ()
) -> SuiteCheck:
    """The L1 check of a file of tests, whatever they do; arguments as `build_unittest_check`."""
    ids = list_test_ids(tests)
    if not module:
        own = tuple(f"solution.{name}" for name in ids)
        return SuiteCheck((("solution.py", tests), *others), own, is_joined=True)
    stem = path.removesuffix(".py").replace("/", ".")
    program_path = module.replace(".", "/") + ".py"
    own = tuple(f"{stem}.{name}" for name in ids)
    return SuiteCheck(((path, tests), *others), own, program_path)


def list_test_ids(tests: str) -> tuple[str, ...]:
    """`Class.method` of every unittest case of a file and the names of its plain test functions."""
    ids: list[str] = []
    cases: dict[str, list[str]] = {}
    for node in ast.parse(tests).body:
        match node:
            case ast.ClassDef(name=name, bases=bases, body=body):
                parents = [ast.unparse(base).rpartition(".")[2] for base in bases]
                if "TestCase" in parents or any(parent in cases for parent in parents):
                    inherited = [test for parent in parents for test in cases.get(parent, ())]
                    own = list(list_tests(body))
                    cases[name] = sorted({*inherited, *own})
                    if not is_skipped(node.decorator_list):
                        ids += [f"{name}.{test}" for test in cases[name]]
            case ast.FunctionDef(name=name, args=arguments) if name.startswith("test"):
                has_parameters = arguments.args or arguments.kwonlyargs or arguments.posonlyargs
                ids += [] if has_parameters else [name]
    return tuple(ids)


def list_tests(body: Sequence[ast.stmt]) -> Iterator[str]:
    """The test methods of a class that are not marked to be left out."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test") and not is_skipped(node.decorator_list):
                yield node.name


def is_skipped(decorators: Sequence[ast.expr]) -> bool:
    """Whether a test is never run."""
    return any("skip" in ast.unparse(decorator).lower() for decorator in decorators)


def needs_one_interpreter(tests: str, reference: str, module: str = "") -> bool:
    """Whether tests need more of a program than its objects.

    They replace parts of it, extend its classes, use foreign packages, or share files or
    the state of a random generator with it.

    `module` is what they import the program as.
    """
    nodes = list(ast.walk(ast.parse(tests)))
    reference_nodes = list(ast.walk(ast.parse(reference)))
    foreign = {*list_defined(reference_nodes), *({*list_imported(nodes)} - {"TestCase"})}
    for node in nodes:
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in PATCHES:
                return True
            case ast.Name(id="open"):
                return True
            case ast.ClassDef(bases=bases):
                if foreign & {ast.unparse(base).rpartition(".")[2] for base in bases}:
                    return True
    if SHARED & {name for node in list_imports(nodes) for name in roots(node)}:
        return True
    imports = [*list_imports(nodes), *list_imports(reference_nodes)]
    packages = {name for node in imports for name in roots(node)} - {module.partition(".")[0]}
    return not packages <= sys.stdlib_module_names


def roots(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The packages that a statement imports from; those of the program's own folder left out."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [] if node.level else [(node.module or "").partition(".")[0]]


def list_imports(nodes: Sequence[ast.AST]) -> list[ast.Import | ast.ImportFrom]:
    """The import statements among them."""
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def list_imported(nodes: Sequence[ast.AST]) -> list[str]:
    """Names that the import statements among them bind."""
    return [
        (alias.asname or alias.name).partition(".")[0]
        for node in list_imports(nodes)
        for alias in node.names
    ]


def list_defined(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Names that the functions, classes and assignments among them bind."""
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name


def list_shared_names(tests: str, reference: str) -> tuple[tuple[str, ...], str]:
    """What tests behind a program use of it: its names, and its import statements as source."""
    free = find_free_names(tests)
    tree = ast.parse(reference)
    names = tuple(sorted(free & {name for name in list_top_level(tree)}))
    lines = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != (
            "__future__"
        ):
            used = [
                alias
                for alias in node.names
                if alias.name == "*" or (alias.asname or alias.name).partition(".")[0] in free
            ]
            if used:
                node.names = used
                lines.append(ast.unparse(node))
    return names, "\n".join(lines)


def list_top_level(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and values of a module, not those inside them."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Assign() | ast.AnnAssign():
                yield from (
                    part.id
                    for part in ast.walk(node)
                    if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
                )


def find_free_names(source: str) -> set[str]:
    """Global names that a source uses but neither binds nor finds among the built-in ones."""
    top = symtable.symtable(source, "<tests>", "exec")
    bound = {
        symbol.get_name()
        for symbol in top.get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }
    free: set[str] = set()
    waiting = [top]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        free |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (table is top or symbol.is_global())
        }
    return free - bound - set(dir(builtins))
