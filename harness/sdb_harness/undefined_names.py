"""Names that a Python module uses and nothing defines, as pyflakes finds them (F821).

Place in the flow: `benchmarks/aider_questions.py` tells a model of them before any test runs, as
aider does. Source: the rules of pyflakes 3.2 as they show: code is read in the order of its lines,
bodies of functions last, and a name that is bound below its use counts as undefined.

Choice: written anew on `ast` rather than a dependency on flake8, of which aider uses this finding
and errors of syntax only. Only parsing happens; nothing is compiled or run.

What it does not do: undo a binding at `del`, and look into strings but for an annotation that is
one as a whole.
"""

import ast
import builtins
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

BUILTINS = frozenset(dir(builtins)) | {"__file__", "__builtins__", "WindowsError"}
FIRST_FIELDS = ("iter", "generators", "value")
"""The first of these that a node has is read before its other fields."""


class Use(NamedTuple):
    """Where an undefined name stands."""

    line: int
    """From 1."""
    column: int
    """From 0, in bytes of UTF-8."""
    name: str


@dataclass(slots=True)
class _Scope:
    kind: str
    """`module`, `class`, `function`, `comprehension` or `types`."""
    names: set[str] = field(default_factory=set)
    has_star: bool = False
    """Whether `from ... import *` may have bound anything."""


def find_undefined(module: ast.Module) -> list[Use]:
    """List the uses by line. Raises RecursionError on a module that is nested too deep."""
    reader = _Reader()
    reader.read_all(module.body)
    while reader.deferred:
        reader.scopes, read = reader.deferred.popleft()
        read()
    found = [use for use in reader.found if use.name not in reader.declared]
    return sorted(found, key=lambda use: use.line)


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.scopes = [_Scope("module")]
        self.deferred: deque[tuple[list[_Scope], Callable[[], None]]] = deque()
        self.found: list[Use] = []
        self.declared: set[str] = set()
        self.guarded = 0
        """How many `try` statements around catch a NameError."""
        self.postpones = False
        """Whether annotations are read last (`from __future__ import annotations`)."""

    def read_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        first = next((name for name in FIRST_FIELDS if name in node._fields), "")
        for _, value in sorted(ast.iter_fields(node), key=lambda item: item[0] != first):
            parts = value if isinstance(value, list) else [value]
            self.read_all(part for part in parts if isinstance(part, ast.AST))

    def defer(self, read: Callable[[], None]) -> None:
        self.deferred.append((list(self.scopes), read))

    @contextmanager
    def enter(self, kind: str) -> Iterator[None]:
        self.scopes.append(_Scope(kind))
        yield
        self.scopes.pop()

    def bind(self, name: str) -> None:
        self.scopes[-1].names.add(name)

    # Names

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.bind(node.id)
        elif isinstance(node.ctx, ast.Load):
            self.load(node)

    def load(self, node: ast.Name) -> None:
        sees_class = None
        for scope in reversed(self.scopes):
            if scope.kind == "class":
                if node.id == "__class__":
                    return
                if sees_class is False:  # a method does not see its class's names
                    continue
            if node.id in scope.names or scope.has_star:
                return
            if sees_class is not False:
                sees_class = scope.kind in ("types", "comprehension")
        is_magic = self.scopes[-1].kind == "class" and node.id in ("__module__", "__qualname__")
        if not (node.id in BUILTINS or is_magic or self.guarded):
            self.found.append(Use(node.lineno, node.col_offset, node.id))

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self.declared.update(node.names)

    visit_Nonlocal = visit_Global

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for alias in node.names:
            self.postpones |= is_future and alias.name == "annotations"
            if alias.name == "*":
                self.scopes[-1].has_star = True
            else:
                self.bind(alias.asname or alias.name.partition(".")[0])

    visit_ImportFrom = visit_Import

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        scopes = (scope for scope in reversed(self.scopes) if scope.kind != "comprehension")
        next(scopes).names.add(node.target.id)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.load(node.target)
        self.read_all([node.value, node.target])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.read_annotation(node.annotation)
        self.read_all([node.value])
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def read_annotation(self, node: ast.expr | None) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner = ast.parse(node.value, mode="eval").body
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                return
            for part in ast.walk(inner):
                ast.copy_location(part, node)
            self.defer(partial(self.visit, inner))
        elif node is not None and self.postpones:
            self.defer(partial(self.visit, node))
        elif node is not None:
            self.visit(node)

    # Scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.read_all(node.decorator_list)
        with self.enter("types"):
            self.bind_types(node)
            self.read_signature(node)
        self.bind(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.read_signature(node)

    def bind_types(self, node: Any) -> None:
        """Bind the type parameters that Python has since 3.12."""
        for parameter in getattr(node, "type_params", ()):
            self.bind(parameter.name)
            self.read_all([getattr(parameter, "bound", None)])

    def visit_TypeAlias(self, node: Any) -> None:
        self.bind(node.name.id)
        with self.enter("types"):
            self.bind_types(node)
            self.defer(partial(self.visit, node.value))

    def read_signature(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        arguments += [one for one in (given.vararg, given.kwarg) if one is not None]
        for argument in arguments:
            self.read_annotation(argument.annotation)
        if not isinstance(node, ast.Lambda):
            self.read_annotation(node.returns)
        self.read_all([*given.defaults, *given.kw_defaults])
        body = [node.body] if isinstance(node, ast.Lambda) else node.body

        def read_body() -> None:
            with self.enter("function"):
                self.scopes[-1].names.update(argument.arg for argument in arguments)
                self.read_all(body)

        self.defer(read_body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.read_all(node.decorator_list)
        with self.enter("types"):
            self.bind_types(node)
            self.read_all([*node.bases, *node.keywords])
            with self.enter("class"):
                self.read_all(node.body)
        self.bind(node.name)

    def visit_ListComp(self, node: ast.AST) -> None:
        with self.enter("comprehension"):
            self.generic_visit(node)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    # Statements that bind names for themselves

    def visit_Try(self, node: Any) -> None:
        catches = any(handler.type is None or _names_it(handler.type) for handler in node.handlers)
        self.guarded += catches
        self.read_all(node.body)
        self.guarded -= catches
        self.read_all([*node.handlers, *node.orelse, *node.finalbody])

    visit_TryStar = visit_Try

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        names = self.scopes[-1].names
        was_bound = node.name in names
        if node.name:
            names.add(node.name)
        self.generic_visit(node)
        if node.name and not was_bound:  # it ends with its handler
            names.discard(node.name)

    def visit_MatchAs(self, node: Any) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name is not None:
            self.bind(name)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchMapping = visit_MatchAs


def _names_it(caught: ast.expr) -> bool:
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(isinstance(part, ast.Name) and part.id == "NameError" for part in parts)
