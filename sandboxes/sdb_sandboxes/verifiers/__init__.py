"""Turns a program and a check into a verdict, whatever sandbox runs it.

Reading order: `verify` here, then one file per kind of check, strongest first: `functions.py`,
`references.py` and `stdin.py` (L3), `assertions.py` (L2), `objects.py` (L2b), `suites.py` (L1,
Python's unittest), `projects.py` (L1, other test frameworks), `exit_code.py` (L1, any language).
`comparison.py` says how answers are compared, `controls.py` and `expectations.py` make an expected
value wrong. Two files turn a data set's tests into checks: `conversion.py` (test sources that are
pure data), `evalplus.py` (inputs and a reference).
"""

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    AssertionCheck,
    Check,
    ExitCodeCheck,
    FunctionCheck,
    ObjectCheck,
    ReferenceCheck,
    ResourceLimits,
    StdinCheck,
    SuiteCheck,
    Verdict,
)
from sdb_sandboxes.verifiers.assertions import verify_assertions
from sdb_sandboxes.verifiers.exit_code import verify_exit_code
from sdb_sandboxes.verifiers.functions import verify_function
from sdb_sandboxes.verifiers.objects import verify_objects
from sdb_sandboxes.verifiers.projects import verify_project
from sdb_sandboxes.verifiers.references import verify_reference
from sdb_sandboxes.verifiers.stdin import verify_stdin
from sdb_sandboxes.verifiers.suites import verify_suite

DEFAULT_LIMITS = ResourceLimits()


def verify(
    sandbox: Sandbox, program: str, check: Check, limits: ResourceLimits = DEFAULT_LIMITS
) -> Verdict:
    """Judge one program. Thread-safe; blocks while no slot is free.

    Args:
        sandbox: Where the program runs.
        program: The whole source: prompt, completion and whatever the benchmark adds.
        check: What it must do; its kind decides the trust level of the verdict.
        limits: CPU seconds, wall seconds, memory and so on of each run of the candidate.

    Raises:
        ValueError: The check itself is malformed, for example without a single case.
    """
    match check:
        case FunctionCheck():
            return verify_function(sandbox, program, check, limits)
        case ReferenceCheck():
            return verify_reference(sandbox, program, check, limits)
        case StdinCheck():
            return verify_stdin(sandbox, program, check, limits)
        case AssertionCheck():
            return verify_assertions(sandbox, program, check, limits)
        case ObjectCheck():
            return verify_objects(sandbox, program, check, limits)
        case SuiteCheck(language="python"):
            return verify_suite(sandbox, program, check, limits)
        case SuiteCheck():
            return verify_project(sandbox, program, check, limits)
        case ExitCodeCheck():
            return verify_exit_code(sandbox, program, check, limits)
