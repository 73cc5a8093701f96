"""Makes one expected value of a Python test wrong, so that no tested program can pass it.

Place in the flow: `objects.py` and `suites.py` run a program that passed once more against a
control from here; who passes that as well has not been tested. Values are changed where the test
states them as literals, in the text itself and to another of their type, so that nothing else of
the source tells a control from the original; where there is no such place, an expected expression
is wrapped in a function that changes its value, or a condition is turned round. A test of a suite
in the program's interpreter that has none of these gets a statement that fails.

What it does not do: it changes nothing inside loops, branches and helper functions, which may not
be reached, and it does not prove that a change matters.
"""

import ast
import math
import secrets
from collections.abc import Iterable, Iterator, Sequence

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
    if isinstance(value, dict):
        return {{**value, "q": 0}}
    try:
        return value + 1 + abs(value)
    except Exception:
        return object()
"""
"""Another value of the same type, numpy's included, or one that equals nothing."""


Edit = tuple[int, int, bytes]
"""First byte of what goes, the byte behind it, and what comes in its place."""


def draw_controls(tests: str, num_controls: int) -> list[str]:
    """Some of the controls of a test source, at places that nobody can foresee; may be fewer."""
    controls = list_controls(tests)
    return secrets.SystemRandom().sample(controls, min(num_controls, len(controls)))


def list_controls(tests: str) -> list[str]:
    """Every control of the strongest kind that there is: literals, expressions, conditions."""
    source = Source(tests)
    return [source.write([edit]) for edit in source.list_edits(list_certain(source.tree.body))]


def draw_suite_control(tests: str, fails_others: bool = False) -> tuple[str, list[str]]:
    """A control with an expected value made wrong in every test that has one.

    Args:
        tests: Source that defines the tests.
        fails_others: Whether the others begin with a statement that fails, which at least who makes
            up results does not know of.

    Returns:
        The source and the tests that cannot pass it: `Class.method` or the function's name. One
        run of it asks every test at once, so that nobody can be honest in most and lie in one.
    """
    source = Source(tests)
    edits, names = list[Edit](), list[str]()
    for name, body in list_test_bodies(source.tree.body):
        choices = source.list_edits(list_certain(body))
        if fails_others and not choices:
            choices = [source.fail_before(body[0])]
        if choices:
            edits.append(secrets.choice(choices))
            names.append(name)
    return source.write(edits), names


def list_test_bodies(body: Sequence[ast.stmt]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Each test function of a file or of its classes, and its statements."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name, body=inner) if name.startswith("test"):
                yield name, inner
            case ast.ClassDef(name=name, body=methods):
                yield from ((f"{name}.{test}", inner) for test, inner in list_test_bodies(methods))


class Source:
    """A test source and what may be changed in it."""

    def __init__(self, text: str) -> None:
        self.tree = ast.parse(text)
        self.starts = [0]
        for line in text.encode().splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.data = text.encode()
        self.changer = f"_{secrets.token_hex(4)}"
        futures = [
            node.end_lineno or 0
            for node in self.tree.body
            if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        ]
        self.head_end = self.starts[max(futures, default=0)]

    def list_edits(self, statements: Iterable[ast.stmt]) -> list[Edit]:
        """Every change of the strongest kind that these statements allow."""
        statements = list(statements)
        expected = [place for statement in statements for place in list_expected(statement)]
        literals = [
            edit
            for node in expected
            for leaf in list_leaves(node)
            if (edit := self.change_constant(leaf)) is not None
        ]
        return (
            literals
            or [self.surround(node, f"{self.changer}(", ")") for node in expected]
            or [edit for node in statements for edit in self.turn_round(node)]
        )

    def write(self, edits: Sequence[Edit]) -> str:
        """The source with these changes."""
        changer = CHANGER.format(name=self.changer).encode()
        is_needed = any(self.changer.encode() in new for _, _, new in edits)
        head = [(self.head_end, self.head_end, changer)] if is_needed else []
        data = self.data
        for start, end, new in sorted([*head, *edits], reverse=True):
            data = data[:start] + new + data[end:]
        return data.decode()

    def find(self, node: ast.expr) -> tuple[int, int]:
        """First byte of an expression, and the one behind its last."""
        end_line, end = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[end_line - 1] + end

    def surround(self, node: ast.expr, before: str, after: str) -> Edit:
        """Text around an expression."""
        start, end = self.find(node)
        return start, end, before.encode() + self.data[start:end] + after.encode()

    def change_constant(self, leaf: ast.Constant) -> Edit | None:
        """Another literal of the same type; None where it is no plain one."""
        start, end = self.find(leaf)
        literal = self.data[start:end].decode()
        is_text = literal[:1] in "\"'" and literal[:3] not in ('"""', "'''")
        if not is_text and not isinstance(leaf.value, int | float):
            return None
        return start, end, change_literal(literal, "python").encode()

    def fail_before(self, first: ast.stmt) -> Edit:
        """A statement that fails in front of the first of a function."""
        lines = [first.lineno, *(node.lineno for node in getattr(first, "decorator_list", ()))]
        start = self.starts[min(lines) - 1]
        line = self.data[start : self.starts[min(lines)]]
        indent = line[: len(line) - len(line.lstrip())]
        if len(lines) == 1 and first.col_offset > len(indent):
            start += first.col_offset
            return start, start, b"assert False; "
        return start, start, indent + b"assert False\n"

    def turn_round(self, statement: ast.stmt) -> Iterator[Edit]:
        """A condition that must not hold."""
        match statement:
            case ast.Assert(test=test):
                yield self.surround(test, "not (", ")")
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name) as called)):
                if name in OPPOSITES:
                    _, end = self.find(called)
                    yield end - len(name.encode()), end, OPPOSITES[name].encode()
            case ast.With(items=[ast.withitem(context_expr=ast.Call() as call)]):
                raises = isinstance(call.func, ast.Attribute) and "Raises" in call.func.attr
                if raises and call.args:
                    yield (*self.find(call.args[0]), b"FloatingPointError")


def list_certain(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of scripts and test functions that are reached if everything passes."""
    for statement in body:
        yield statement
        match statement:
            case ast.With(items=items) if any(map(expects_error, items)):
                pass  # what follows the error in it is never reached
            case ast.With(body=inner) | ast.If(test=ast.Constant(value=True), body=inner):
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


def expects_error(item: ast.withitem) -> bool:
    """Whether a context is left by an error if everything passes."""
    called = ast.unparse(item.context_expr).partition("(")[0].lower()
    return "raises" in called or "suppress" in called


def list_expected(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expected values that a statement compares with."""
    match statement:
        case (
            ast.Assert(test=test)
            | ast.Expr(value=ast.Call(func=ast.Attribute(attr="assertTrue"), args=[test]))
        ):
            yield from list_compared(test)
        case ast.Expr(
            value=ast.Call(func=ast.Attribute(attr=name), args=[left, right, *_]) as call
        ) if name in COMPARISONS:
            expected = choose_expected(left, right)
            if not forgives(expected, read_tolerance(call) if "Almost" in name else 0.0):
                yield expected


def choose_expected(left: ast.expr, right: ast.expr) -> ast.expr:
    """The side of a comparison that is no answer: the one that is written out, or the right one."""
    return left if is_literal(left) and not is_literal(right) else right


def read_tolerance(call: ast.Call) -> float:
    """What `assertAlmostEqual` forgives; infinite where it is computed."""
    given = dict(zip(("first", "second", "places", "msg", "delta"), call.args, strict=False))
    given |= {keyword.arg or "": keyword.value for keyword in call.keywords}
    match given.get("delta"), given.get("places"):
        case (None, None):
            return 0.5e-7
        case ast.Constant(value=int() | float() as delta), _:
            return delta
        case None, ast.Constant(value=int() as places):
            return 0.5 * 10.0**-places
    return math.inf


def forgives(expected: ast.expr, tolerance: float) -> bool:
    """Whether a test may accept a number with another first digit, or one more than a computed one.

    A right answer may be off by the tolerance already, to either side.
    """
    values = [leaf.value for leaf in list_leaves(expected)]
    sizes = [abs(value) or 10 for value in values if isinstance(value, int | float | complex)]
    return any(size <= 20 * tolerance for size in sizes or [10])


def list_compared(test: ast.expr) -> list[ast.expr]:
    """What `a == b` expects, and `abs(a - 78.5) < 0.1`, whose difference may be a lie."""
    match test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return [choose_expected(left, right)]
        case ast.Compare(
            left=ast.Call(
                func=ast.Name(id="abs"),
                args=[ast.BinOp(left=left, op=ast.Sub(), right=right)],
            ),
            ops=[ast.Lt() | ast.LtE()],
            comparators=[ast.Constant(value=int() | float() as tolerance)],
        ):
            expected = choose_expected(left, right)
            if is_literal(expected) and not forgives(expected, tolerance):
                return [expected]
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
