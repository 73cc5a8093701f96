"""Turns test source that is pure data into data, so that no test process is needed (L2 to L3).

Place in the flow: a benchmark loader calls `convert_assertions` (HumanEval's `check(candidate)`) or
`build_assertion_check` (MBPP's list of assertions); what cannot be converted stays an
`AssertionCheck`. The rule is strict: every statement must assert one of these forms, the same one
throughout, where small arithmetic counts as constant, and either side may come first:

    f(constants) == constant                     python_equality
    set(f(constants)) == set(constant)           set
    math.isclose(f(constants), constant, rel_tol=constant)      is_close
    f(constants), not f(constants)               truth

So the converted check accepts exactly the plain answers that the source accepts. What it does not
do: no other tolerance, no `is`, no loops, no helper functions.
"""

import ast
import builtins
import contextlib
import copy
import operator
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from sdb_sandboxes.types import AssertionCheck, Case, FunctionCheck, ObjectCheck, ValueRule


def convert_assertions(tests: str, entry_point: str) -> FunctionCheck | None:
    """Read the cases out of a test source.

    Args:
        tests: Source that defines `check(candidate)`.
        entry_point: The function that the cases call.

    Returns:
        A check that compares as the source does, or None if any statement is more than data. Two
        differences remain, both towards refusing: an answer that is not plain data is wrong, even
        if its own `__eq__` claims otherwise (but an object is true), and an expected NaN equals
        nothing.
    """
    try:
        body = ast.parse(tests).body
    except (SyntaxError, ValueError):
        return None
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    others = [node for node in body if not isinstance(node, ast.FunctionDef)]
    if len(functions) != 1 or functions[0].name != "check" or functions[0].decorator_list:
        return None
    arguments = functions[0].args
    has_defaults = arguments.defaults or arguments.kwonlyargs or arguments.vararg or arguments.kwarg
    if len(arguments.args) != 1 or has_defaults or not all(map(is_inert, others)):
        return None
    return convert_statements(functions[0].body, arguments.args[0].arg, entry_point)


def build_assertion_check(
    tests: Sequence[str], entry_point: str, prelude: str = ""
) -> FunctionCheck | AssertionCheck | ObjectCheck:
    """The check of a list of assertions about one function, at the strongest level that fits.

    Args:
        tests: Source of each assertion, which calls the function by its name.
        entry_point: That name.
        prelude: Source that the assertions need: imports, values.

    Returns:
        Data (L3) if all of it is data, else assertions in a process of their own: L2, or L2b where
        they hand over a type, which is no data.
    """
    source = "\n".join(test.replace("\r\n", "\n").strip() for test in tests)
    try:
        check = convert_statements(ast.parse(source).body, entry_point, entry_point)
    except (SyntaxError, ValueError):
        check = None
    body = textwrap.indent(source, "    ")
    tests = f"def check(candidate):\n{body}\n"
    return check or build_process_check(tests, entry_point, prelude, called=entry_point)


def build_process_check(
    tests: str, entry_point: str, prelude: str = "", called: str = "candidate"
) -> AssertionCheck | ObjectCheck:
    """The check of a test source that is more than data, in a process of its own.

    Args:
        tests: Source that defines `check(candidate)`.
        entry_point: The function that it is called with.
        prelude: Source that the tests need.
        called: What the tests call the function.

    Returns:
        Assertions (L2), or where they hand over a type, which is no data, L2b.
    """
    if hands_over_a_type(tests, called):
        return ObjectCheck(f"{tests}\ncheck({entry_point})\n", (entry_point,), prelude=prelude)
    return AssertionCheck(entry_point, tests, prelude)


def hands_over_a_type(tests: str, called: str) -> bool:
    """Whether `called` is called with a built-in type, as in `f(values, int)`."""
    try:
        nodes = list(ast.walk(ast.parse(tests)))
    except (SyntaxError, ValueError):
        return False
    return any(
        isinstance(argument, ast.Name) and isinstance(getattr(builtins, argument.id, None), type)
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == called
        for argument in node.args
    )


def convert_statements(
    body: Sequence[ast.stmt], called: str, entry_point: str
) -> FunctionCheck | None:
    """The data in a list of statements in which the function is called `called`."""
    forms = []
    for statement in body:
        if is_inert(statement) or is_constant_truth(statement):
            continue
        form = read_form(statement, called)
        if form is None:
            return None
        forms.append(form)
    if len({(rule, tolerance) for _, rule, tolerance in forms}) != 1:
        return None
    _, rule, tolerance = forms[0]
    return FunctionCheck(entry_point, tuple(case for case, _, _ in forms), rule, tolerance)


def is_inert(statement: ast.stmt) -> bool:
    """Whether a statement cannot matter: a docstring, a bare name, a name bound to a literal."""
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) or (
            isinstance(statement.value, ast.Name) and hasattr(builtins, statement.value.id)
        )
    if isinstance(statement, ast.Assign):
        are_names = all(isinstance(target, ast.Name) for target in statement.targets)
        return are_names and evaluate(statement.value) is not None
    return False


def is_constant_truth(statement: ast.stmt) -> bool:
    """`assert True, "..."`: written in many sources, tests nothing."""
    if not isinstance(statement, ast.Assert):
        return False
    value = evaluate(statement.test)
    return value is not None and bool(value[0])


Form = tuple[Case, ValueRule, float | None]


def read_form(statement: ast.stmt, called: str) -> Form | None:
    """The case, rule and tolerance of one assertion, or None if it has none of the forms."""
    if not isinstance(statement, ast.Assert):
        return None
    match statement.test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return read_equality(left, right, called) or read_equality(right, left, called)
        case ast.UnaryOp(op=ast.Not(), operand=call):
            return read_case(call, ast.Constant(False), called, "truth")
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="math"), attr="isclose"),
            args=[call, other],
            keywords=[ast.keyword(arg="rel_tol", value=ast.Constant(value=float(tolerance)))],
        ):
            return read_case(call, other, called, "is_close", tolerance)
        case call:
            return read_case(call, ast.Constant(True), called, "truth")


def read_equality(call: ast.expr, other: ast.expr, called: str) -> Form | None:
    """`call == other`, or the same of both sides as sets."""
    match call, other:
        case (
            ast.Call(func=ast.Name(id="set"), args=[inner], keywords=[]),
            ast.Call(func=ast.Name(id="set"), args=[items], keywords=[]),
        ) if called != "set":
            value = evaluate(items)
            is_container = value is not None and isinstance(value[0], list | tuple | set | dict)
            return read_case(inner, items, called, "set") if is_container else None
    return read_case(call, other, called, "python_equality")


def read_case(
    call: ast.expr,
    expected: ast.expr,
    called: str,
    rule: ValueRule,
    tolerance: float | None = None,
) -> Form | None:
    """The form, if `call` calls the function with constants and a constant is expected."""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    right = evaluate(expected)
    arguments = [evaluate(argument) for argument in call.args]
    if call.func.id != called or call.keywords or right is None:
        return None
    values = tuple(argument[0] for argument in arguments if argument is not None)
    return (Case(values, right[0]), rule, tolerance) if len(values) == len(arguments) else None


OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
MAX_OPERAND = 1 << 16
"""Arithmetic on larger numbers or longer texts is left to the test process."""


def evaluate(node: ast.expr) -> tuple[object] | None:
    """The value of a constant expression in a one-tuple, or None if it is more than that.

    Constant means a literal, or + - * / ** between small numbers and texts, also inside displays.
    """
    try:
        with contextlib.suppress(ValueError):
            return (ast.literal_eval(node),)
        if not any(isinstance(part, ast.BinOp) for part in ast.walk(node)):
            return None
        return (ast.literal_eval(Folder().visit(copy.deepcopy(node))),)
    except (ValueError, TypeError, SyntaxError, ArithmeticError, MemoryError, RecursionError):
        return None


class Folder(ast.NodeTransformer):
    """Replaces arithmetic between constants by its result."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Fold from the inside out. Raises ValueError for what is not small constant arithmetic."""
        with contextlib.suppress(ValueError):
            return ast.copy_location(ast.Constant(ast.literal_eval(node)), node)  # a complex number
        left, right = (ast.literal_eval(self.visit(side)) for side in (node.left, node.right))
        fold = OPERATORS.get(type(node.op))
        for value in (left, right):
            size = len(value) if isinstance(value, str) else value
            if not isinstance(value, int | float | str) or abs(size) > MAX_OPERAND:
                raise ValueError("not small constant arithmetic")
        if fold is None or (fold is operator.pow and abs(right) > 64):
            raise ValueError("not small constant arithmetic")
        return ast.copy_location(ast.Constant(fold(left, right)), node)
