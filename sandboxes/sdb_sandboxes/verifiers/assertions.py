"""Turns test source that is pure data into data, so that no test process is needed (L2 to L3).

Place in the flow: a benchmark loader calls `convert_assertions`; what it cannot convert stays an
`AssertionCheck`. The rule is strict: every statement of `check(candidate)` must be an assertion of
`candidate(literals) == literal` (either side), so the converted check accepts exactly the answers
that the source accepts among plain data. What it does not do: no tolerance forms, no truthiness,
no loops, no helper functions.
"""

import ast

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
    """Whether a statement cannot matter: a docstring, `pass`, or a name bound to a literal."""
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Assign):
        return all(isinstance(t, ast.Name) for t in statement.targets) and is_literal(
            statement.value
        )
    return False


def is_constant_truth(statement: ast.stmt) -> bool:
    """`assert True, "..."`: written in many sources, tests nothing."""
    if not isinstance(statement, ast.Assert) or not is_literal(statement.test):
        return False
    return bool(ast.literal_eval(statement.test))


def read_case(statement: ast.stmt, parameter: str) -> Case | None:
    """The case in `assert parameter(literals) == literal`, or None."""
    if not isinstance(statement, ast.Assert) or not isinstance(statement.test, ast.Compare):
        return None
    comparison = statement.test
    if len(comparison.ops) != 1 or not isinstance(comparison.ops[0], ast.Eq):
        return None
    left, right = comparison.left, comparison.comparators[0]
    for call, expected in ((left, right), (right, left)):
        is_call = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if not is_call or not is_literal(expected):
            continue
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if call.func.id == parameter and not call.keywords and all(map(is_literal, call.args)):
            values = tuple(ast.literal_eval(argument) for argument in call.args)
            return Case(values, ast.literal_eval(expected))
    return None


def is_literal(node: ast.expr) -> bool:
    """Whether `ast.literal_eval` can read the expression."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
