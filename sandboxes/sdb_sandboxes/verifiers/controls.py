"""Makes one expected value of a Python test wrong, so that no tested program can pass it.

Place in the flow: `objects.py` and `suites.py` run a program that passed once more against a
control from here; who passes that as well has not been tested. Values are changed where the test
states them as literals, in the text itself and to another of their type, so that nothing else of
the source tells a control from the original; where there is no such place, an expected expression
is wrapped in a function that changes its value, or a condition is turned round.

What it does not do: it changes nothing inside loops, branches and helper functions, which may not
be reached, and it does not prove that a change matters.
"""

import ast
import secrets
from collections.abc import Iterator, Sequence

from sdb_sandboxes.verifiers.expectations import change_literal

COMPARISONS = {
    f"assert{name}"
    for name in (
        *("Equal", "Equals", "ListEqual", "TupleEqual", "DictEqual", "SetEqual", "SequenceEqual"),
        *("CountEqual", "MultiLineEqual", "AlmostEqual", "AlmostEquals", "Is"),
    )
}
OPPOSITES = {
    "assertTrue": "assertFalse",
    "assertFalse": "assertTrue",
    "assertIn": "assertNotIn",
    "assertNotIn": "assertIn",
    "assertIsNone": "assertIsNotNone",
    "assertIsNotNone": "assertIsNone",
    "assertIsInstance": "assertNotIsInstance",
    "assertNotEqual": "assertEqual",
    "assertGreater": "assertLessEqual",
    "assertGreaterEqual": "assertLess",
    "assertLess": "assertGreaterEqual",
    "assertLessEqual": "assertGreater",
}
CHANGER = """\
def {name}(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + max(1, abs(value)) if abs(value) < 1e300 else 0
    if isinstance(value, (str, bytes, list, tuple)):
        return value + type(value)(b"q" if isinstance(value, bytes) else "q")
    if isinstance(value, (set, frozenset)):
        return value ^ {{"q"}}
    return {{**value, "q": 0}} if isinstance(value, dict) else [value]
"""
"""Another value of the same type."""


def draw_controls(tests: str, num_controls: int) -> list[str]:
    """Some of the controls of a test source, at places that nobody can foresee; may be fewer."""
    return secrets.SystemRandom().sample(
        controls := list_controls(tests), min(num_controls, len(controls))
    )


def list_controls(tests: str) -> list[str]:
    """Every control of the strongest kind that there is: literals, expressions, conditions."""
    source = Source(tests)
    expected = [place for statement in source.statements for place in list_expected(statement)]
    literals = [
        control
        for node in expected
        for leaf in list_leaves(node)
        if (control := source.change_constant(leaf)) is not None
    ]
    return (
        literals
        or [source.wrap(node) for node in expected]
        or [control for node in source.statements for control in source.turn_round(node)]
    )


class Source:
    """A test source and its statements that run whenever a test passes."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.starts = [0]
        for line in text.encode().splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.data = text.encode()
        futures = [
            node.end_lineno or 0
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        ]
        self.num_head_lines = max(futures, default=0)
        self.statements = list(list_certain(tree.body))

    def find(self, node: ast.expr) -> tuple[int, int]:
        """First byte of an expression, and the one behind its last."""
        end_line, end = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[end_line - 1] + end

    def splice(self, node: ast.expr, before: str, after: str) -> str:
        """The source with text around an expression."""
        start, end = self.find(node)
        middle = before.encode() + self.data[start:end] + after.encode()
        return (self.data[:start] + middle + self.data[end:]).decode()

    def change_constant(self, leaf: ast.Constant) -> str | None:
        """The source with another literal of the same type there; None where it is no plain one."""
        start, end = self.find(leaf)
        literal = self.data[start:end].decode()
        is_text = literal[:1] in "\"'" and literal[:3] not in ('"""', "'''")
        if not is_text and not isinstance(leaf.value, int | float):
            return None
        changed = change_literal(literal, "python")
        return (self.data[:start] + changed.encode() + self.data[end:]).decode()

    def wrap(self, node: ast.expr) -> str:
        """The source with an expression's value changed when it is computed."""
        name = f"_{secrets.token_hex(4)}"
        lines = self.splice(node, f"{name}(", ")").splitlines(keepends=True)
        return "".join(
            [
                *lines[: self.num_head_lines],
                CHANGER.format(name=name),
                *lines[self.num_head_lines :],
            ]
        )

    def turn_round(self, statement: ast.stmt) -> Iterator[str]:
        """The source with a condition that must not hold."""
        match statement:
            case ast.Assert(test=test):
                yield self.splice(test, "not (", ")")
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name) as called)):
                if name in OPPOSITES:
                    yield self.rename(called, OPPOSITES[name])
            case ast.With(items=[ast.withitem(context_expr=ast.Call() as call)]):
                raises = isinstance(call.func, ast.Attribute) and "Raises" in call.func.attr
                if raises and call.args:
                    start, end = self.find(call.args[0])
                    yield (self.data[:start] + b"FloatingPointError" + self.data[end:]).decode()

    def rename(self, called: ast.Attribute, name: str) -> str:
        """The source with another method called."""
        _, end = self.find(called)
        start = end - len(called.attr.encode())
        return (self.data[:start] + name.encode() + self.data[end:]).decode()


def list_certain(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of scripts and test functions that are reached if everything passes."""
    for statement in body:
        yield statement
        match statement:
            case ast.With(items=items, body=inner):
                # What is expected to raise is left there: only its first statement is certain.
                raises = any("aises" in ast.dump(item.context_expr) for item in items)
                yield from list_certain(inner[:1] if raises else inner)
            case ast.If(test=ast.Constant(value=True), body=inner):
                yield from list_certain(inner)
            case ast.ClassDef(body=inner):
                yield from (
                    found
                    for method in inner
                    if isinstance(method, ast.FunctionDef) and method.name.startswith("test")
                    for found in list_certain(method.body)
                )
            case ast.FunctionDef(name=name, body=inner) if name.startswith(("test", "check")):
                yield from list_certain(inner)
            case ast.Return() | ast.Raise():
                return


def list_expected(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expected values that a statement compares with."""
    pairs: list[tuple[ast.expr, ast.expr]] = []
    match statement:
        case (
            ast.Assert(test=test)
            | ast.Expr(value=ast.Call(func=ast.Attribute(attr="assertTrue"), args=[test]))
        ):
            pairs += list_compared(test)
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name), args=[left, right, *_])) if (
            name in COMPARISONS
        ):
            pairs.append((left, right))
    for left, right in pairs:
        is_left_literal = is_literal(left) and not is_literal(right)
        yield left if is_left_literal else right


def list_compared(test: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """Both sides of `a == b`, and of `abs(a - 78.5) < 0.1`, whose difference may be a lie."""
    match test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return [(left, right)]
        case ast.Compare(
            left=ast.Call(
                func=ast.Name(id="abs"),
                args=[ast.BinOp(left=left, op=ast.Sub(), right=right)],
            ),
            ops=[ast.Lt() | ast.LtE()],
            comparators=[ast.Constant(value=int() | float() as tolerance)],
        ):
            # Only where another first digit makes a difference that the test does not forgive.
            for side in (left, right):
                match side:
                    case ast.Constant(value=int() | float() as number) if (
                        abs(number) > 10 * tolerance
                    ):
                        return [(left, right)]
    return []


def is_literal(node: ast.expr) -> bool:
    """Whether a value is written out."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def list_leaves(node: ast.expr) -> Iterator[ast.Constant]:
    """The constants of a value that is written out."""
    if is_literal(node):
        yield from (leaf for leaf in ast.walk(node) if isinstance(leaf, ast.Constant))
