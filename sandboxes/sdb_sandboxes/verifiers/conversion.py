"""Turns test source that is pure data into data, so that no test process is needed (L2 to L3).

Place in the flow: a benchmark loader calls `convert_assertions`; what it cannot convert stays an
`AssertionCheck`. The rule is strict: every statement of `check(candidate)` must be an assertion of
`candidate(constants) == constant`, either side first, where small arithmetic counts as constant.
So the converted check accepts exactly the plain answers that the source accepts. What it does not
do: no tolerance forms, no truthiness, no `is`, no loops, no helper functions.
"""

import ast
import builtins
import copy
import operator
from collections.abc import Callable
from typing import Any

from sdb_sandboxes.types import Case, FunctionCheck


def convert_assertions(tests: str, entry_point: str) -> FunctionCheck | None:
    """Read the cases out of a test source.

    Args:
        tests: Source that defines `check(candidate)`.
        entry_point: The function that the cases call.

    Returns:
        A check with `python_equality`, as `==` in the source compares, or None if any statement
        is more than data. Two differences remain, both towards refusing: an answer that is not
        plain data is wrong, even if its own `__eq__` claims otherwise, and an expected NaN equals
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
    parameter = arguments.args[0].arg
    cases = []
    for statement in functions[0].body:
        if is_inert(statement) or is_constant_truth(statement):
            continue
        case = read_case(statement, parameter)
        if case is None:
            return None
        cases.append(case)
    return FunctionCheck(entry_point, tuple(cases), "python_equality") if cases else None


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


def read_case(statement: ast.stmt, parameter: str) -> Case | None:
    """The case in `assert parameter(constants) == constant`, or None."""
    if not isinstance(statement, ast.Assert) or not isinstance(statement.test, ast.Compare):
        return None
    comparison = statement.test
    if len(comparison.ops) != 1 or not isinstance(comparison.ops[0], ast.Eq):
        return None
    left, right = comparison.left, comparison.comparators[0]
    for call, other in ((left, right), (right, left)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        expected = evaluate(other)
        arguments = [evaluate(argument) for argument in call.args]
        if call.func.id == parameter and not call.keywords and expected is not None:
            values = tuple(argument[0] for argument in arguments if argument is not None)
            if len(values) == len(arguments):
                return Case(values, expected[0])
    return None


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
        return (ast.literal_eval(Folder().visit(copy.deepcopy(node))),)
    except (ValueError, TypeError, SyntaxError, ArithmeticError, MemoryError, RecursionError):
        return None


class Folder(ast.NodeTransformer):
    """Replaces arithmetic between constants by its result."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Fold from the inside out. Raises ValueError for what is not small constant arithmetic."""
        left, right = (ast.literal_eval(self.visit(side)) for side in (node.left, node.right))
        fold = OPERATORS.get(type(node.op))
        for value in (left, right):
            size = len(value) if isinstance(value, str) else value
            if not isinstance(value, int | float | str) or abs(size) > MAX_OPERAND:
                raise ValueError("not small constant arithmetic")
        if fold is None or (fold is operator.pow and abs(right) > 64):
            raise ValueError("not small constant arithmetic")
        return ast.copy_location(ast.Constant(fold(left, right)), node)
