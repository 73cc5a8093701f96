"""L1: suites in the program's own interpreter, and the cheats that the control finds out."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sdb_sandboxes.engine import Engine
from sdb_sandboxes.open import open_sandbox
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import ResourceLimits, Status, SuiteCheck
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.exit_code import FORGED, UNCONTROLLED
from sdb_sandboxes.verifiers.suites import list_files, read_report

LIMITS = ResourceLimits(cpu_s=2.0, wall_s=60.0)
REFUSED = (Status.WRONG_ANSWER, Status.RUNTIME_ERROR)
TESTS = """
import unittest
from unittest.mock import patch
from shop import total
from helper import FIVE

class TotalTest(unittest.TestCase):
    def test_sum(self):
        self.assertEqual(total([1, 2, 3]), 6)
    def test_empty(self):
        self.assertEqual(total([]), 0)
    def test_patched(self):
        with patch("shop.tax", return_value=2) as tax:
            self.assertEqual(total([1, 1]), 4)
        tax.assert_called_once_with()
    def test_five(self):
        for n in (1, 2):
            with self.subTest(n):
                self.assertEqual(total([n, FIVE - n]), 5)
    @unittest.skip("not wanted")
    def test_skipped(self):
        self.fail()

def test_plain():
    assert total([4]) == 4

def test_needs_a_fixture(tmp_path):
    assert False
"""
SHOP = "def tax(): return 1\ndef total(items): return sum(items) * tax()\n"
IDS = tuple(
    f"shop_test.{name}"
    for name in (
        *("TotalTest.test_sum", "TotalTest.test_empty", "TotalTest.test_patched"),
        *("TotalTest.test_five", "test_plain"),
    )
)
CHECK = SuiteCheck((("shop_test.py", TESTS), ("helper.py", "FIVE = 5\n")), IDS, "shop.py")
FIXTURES = """
import unittest
import pytest
import shop
from shop import *

@pytest.fixture
def items():
    yield [1, 2, 3]
    assert total([]) == 0

class TestTotal:
    def setup_method(self):
        self.none = []
    def test_sum(self, items):
        assert total(items) == 6
    def test_empty(self):
        assert total(self.none) == 0
    def test_printed(self, capsys):
        print(total([4]))
        assert capsys.readouterr().out == "4\\n"

class CaseTest(unittest.TestCase):
    def test_five(self):
        for n in (1, 2):
            with self.subTest(n):
                self.assertEqual(total([n, 5 - n]), 5)

@pytest.mark.parametrize("n", [1, 2])
def test_many(n):
    assert total([n]) == n

def test_patched(monkeypatch, tmp_path):
    (tmp_path / "two").write_text("2")
    monkeypatch.setattr(shop, "tax", lambda: 2)
    assert total([1, len(list(tmp_path.iterdir()))]) == 4

def test_left_out():
    assert False
"""
FIXTURE_IDS = tuple(
    f"shop_test.{name}"
    for name in (
        *("TestTotal.test_sum", "TestTotal.test_empty", "TestTotal.test_printed"),
        *("CaseTest.test_five", "test_many", "test_patched"),
    )
)
FIXTURE_CHECK = SuiteCheck((("shop_test.py", FIXTURES),), FIXTURE_IDS, "shop.py", is_pytest=True)


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("docker", marks=pytest.mark.docker)]
)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "docker":
        request.getfixturevalue("engine")
    with open_sandbox(request.param, num_slots=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def pytest_sandbox(engine: Engine) -> Iterator[Sandbox]:
    with open_sandbox("docker:py-numpy", num_slots=1) as sandbox:
        yield sandbox


def test_every_test_is_run_and_counted(sandbox: Sandbox) -> None:
    verdict = verify(sandbox, SHOP, CHECK, LIMITS)
    assert (verdict.status, verdict.num_tests, verdict.num_tests_passed) == ("passed", 5, 5)
    assert (verdict.trust_level, verdict.num_tests_run, verdict.stdout_tail) == ("L1", 5, "")
    verdict = verify(sandbox, SHOP.replace("* tax()", "or 1"), CHECK, LIMITS)
    assert (verdict.status, verdict.num_tests_passed) == (Status.WRONG_ANSWER, 3)
    assert verdict.detail == "shop_test.TotalTest.test_empty failed"


def test_one_bad_part_of_a_test_fails_it(sandbox: Sandbox) -> None:
    program = "def tax(): return 1\ndef total(items): return 3 if items == [2, 3] else sum(items)"
    verdict = verify(sandbox, program, CHECK, LIMITS)
    assert verdict.status is Status.WRONG_ANSWER
    assert verdict.num_tests_passed == 3  # neither the patched one nor the one in parts


def test_tests_may_stand_behind_the_program(sandbox: Sandbox) -> None:
    tests = (
        "import unittest\nclass TestCases(unittest.TestCase):\n"
        "    def test_a(self):\n        self.assertEqual(task_func(2), 4)\n"
    )
    check = SuiteCheck((("solution.py", tests),), ("solution.TestCases.test_a",), is_joined=True)
    assert verify(sandbox, "def task_func(x): return x * 2", check, LIMITS).is_passed
    assert not verify(sandbox, "def task_func(x): return x", check, LIMITS).is_passed


def test_a_script_is_one_test(sandbox: Sandbox) -> None:
    check = SuiteCheck((("solution.py", "assert f(2) == 4"),), ("solution",), is_joined=True)
    assert verify(sandbox, "def f(x): return x * 2", check, LIMITS).is_passed
    verdict = verify(sandbox, "def f(x): return x", check, LIMITS)
    assert (verdict.status, verdict.detail) == (Status.WRONG_ANSWER, "solution failed")


def test_a_program_has_its_folder_for_a_home(sandbox: Sandbox) -> None:
    """Packages that keep data there (nltk, librosa) refuse to be imported without one."""
    tests = "import os, pathlib\nassert f() == pathlib.Path.home() == pathlib.Path(os.getcwd())"
    check = SuiteCheck((("solution.py", tests),), ("solution",), is_joined=True)
    program = "from pathlib import Path\ndef f(): return Path('~').expanduser()"
    verdict = verify(sandbox, program, check, LIMITS)
    assert verdict.is_passed, verdict.stderr_tail


PATCH_ALL = (
    "import unittest\nfor name in dir(unittest.TestCase):\n"
    "    if name.startswith('assert') and 'Raises' not in name:\n"
    "        setattr(unittest.TestCase, name, lambda *a, **k: None)\n"
)


def write_forgery(ids: tuple[str, ...]) -> str:
    """Source that sends the report of tests which all passed to whoever may listen."""
    return (
        "import os, json, struct\n"
        f"body = json.dumps({{'tests': [[i, True] for i in {ids}]}}).encode()\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, struct.pack('<I', len(body)) + body)\n"
        "    except OSError: pass\n"
    )


FORGE = write_forgery(IDS)
LIAR = (
    "class Liar(int):\n    def __eq__(self, o): return True\n"
    "    def __ne__(self, o): return False\n    __hash__ = int.__hash__\n"
)
CHEATS = {
    "nothing": "",
    "always equal": LIAR + "def tax(): return 1\ndef total(items):\n    tax()\n    return Liar()",
    "exit at import": "raise SystemExit(0)",
    "hard exit at import": "import os\nos._exit(0)",
    "hard exit in a call": "import os\ndef tax(): return 1\ndef total(items): os._exit(0)",
    "exit in a call": "def tax(): return 1\ndef total(items): raise SystemExit(0)",
    "skips": "import unittest\ndef tax(): 1\ndef total(items): raise unittest.SkipTest('no')",
    "patched assertions": PATCH_ALL + "def tax(): return 1\ndef total(items): return tax()",
    "patched results": (
        "import unittest\nunittest.TestCase.run = lambda self, result: result.addSuccess(self)\n"
        "def tax(): return 1\ndef total(items): return 4"
    ),
    "a loader without tests": (
        "import unittest\nunittest.TestLoader.loadTestsFromTestCase = "
        "lambda self, kind: unittest.TestSuite()\ndef tax(): return 1\ndef total(items): return 4"
    ),
    "a forged report": FORGE + "os._exit(0)",
    "a forged report from an exit function": (
        f"import atexit\ndef forge():\n    {FORGE.replace(chr(10), chr(10) + '    ')}\n"
        "atexit.register(forge)\nraise SystemExit(0)"
    ),
    "a printed report": (
        'print(\'{"report": {"tests": []}, "nonce": ""}\', flush=True)\nimport os\nos._exit(0)'
    ),
    "a report by destructor": (
        "class D:\n    def __del__(self):\n"
        f"        {FORGE.replace(chr(10), chr(10) + '        ')}\n"
        "d = D()\ndef tax(): return 1\ndef total(items): return 0"
    ),
    "the runner's own record": (
        "import sys, unittest\nmain = sys.modules['__main__']\n"
        "main.Record.addFailure = main.Record.addError = "
        "lambda self, test, error: self.passed.add(test.id())\n"
        "main.Record.addSubTest = lambda *a: None\nmain.run_function = lambda f: True\n"
        "def tax(): return 1\ndef total(items): return 0"
    ),
    "files in the place of the tests": (
        "open('shop_test.py', 'w').write('')\nopen('helper.py', 'w').write('')\n"
        "def tax(): return 1\ndef total(items): return 0"
    ),
    "a trace that jumps over assertions": (
        "import sys\ndef tracer(frame, event, arg):\n"
        "    if 'shop_test' in frame.f_code.co_filename and event == 'exception':\n"
        "        frame.f_trace_lines = False\n    return tracer\nsys.settrace(tracer)\n"
        "def tax(): return 1\ndef total(items): return 0"
    ),
    "kills its parent": (
        "import os, signal\ntry: os.kill(os.getppid(), signal.SIGKILL)\nexcept OSError: pass\n"
        "def tax(): return 1\ndef total(items): return 0"
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_fail(sandbox: Sandbox, name: str) -> None:
    verdict = verify(sandbox, CHEATS[name], CHECK, LIMITS)
    assert verdict.status in REFUSED, verdict
    assert verify(sandbox, SHOP, CHECK, LIMITS).is_passed


WRONG = "\ndef tax(): return 1\ndef total(items): return 0\n"
EVERY_PHASE = "{test: {'setup', 'call', 'teardown'} for test in plugins[0].tests.values()}"
PYTEST_CHEATS = {
    **{name: cheat.replace(FORGE, write_forgery(FIXTURE_IDS)) for name, cheat in CHEATS.items()},
    "skips every test": "import pytest\npytestmark = pytest.mark.skip" + WRONG,
    "expects every test to fail": "import pytest\npytestmark = pytest.mark.xfail" + WRONG,
    "skips in a call": (
        "import pytest\ndef tax(): return 1\ndef total(items): pytest.skip('no')\n"
    ),
    "ends the session": (
        "import pytest\ndef tax(): return 1\ndef total(items): pytest.exit('done', 0)\n"
    ),
    "tests of its own": WRONG + "def test_sum(): pass\nclass TestTotal:\n"
    "    def test_sum(self): pass\n    def test_empty(self): pass\n",
    "a fixture that leaves": (
        "import os, pytest\n@pytest.fixture(autouse=True)\ndef leave():\n    os._exit(0)" + WRONG
    ),
    "a fixture of pytest's name": LIAR.replace("int", "str")
    + "import pytest\n@pytest.fixture\ndef capsys():\n    class Captured:\n"
    "        def readouterr(self): return self\n        out = err = Liar()\n"
    "    return Captured()\ndef tax(): return 1\n"
    "def total(items): return 5 if items == [4] else sum(items) * tax()\n",
    "a conftest": (
        "open('conftest.py', 'w').write('def pytest_runtest_call(item): return True\\n'\n"
        "'def pytest_pyfunc_call(pyfuncitem): return True\\n')" + WRONG
    ),
    "settings": "open('pytest.ini', 'w').write('[pytest]\\naddopts = --collect-only\\n')" + WRONG,
    "settings of the environment": (
        "import os\nos.environ['PYTEST_ADDOPTS'] = '--setup-only'" + WRONG
    ),
    "a plugin of the environment": (
        "import os\nos.environ['PYTEST_PLUGINS'] = 'shop'\n"
        "def pytest_runtest_makereport(item, call): call.excinfo = None" + WRONG
    ),
    "patched reports": (
        "import _pytest.reports as reports\nmake = reports.TestReport.from_item_and_call\n"
        "def lie(item, call):\n    call.excinfo = None\n    return make(item, call)\n"
        "reports.TestReport.from_item_and_call = staticmethod(lie)" + WRONG
    ),
    "the runner's own plugin": (
        "import sys\nmain = sys.modules['__main__']\nmain.Phases.list_outcomes = "
        "lambda self: [[test, True] for test in self.tests.values()]" + WRONG
    ),
    "a main of its own": (
        "import pytest\n"
        f"pytest.main = lambda args, plugins: plugins[0].seen.update({EVERY_PHASE})" + WRONG
    ),
}
PYTEST_FORGERIES = (
    *("a fixture of pytest's name", "a plugin of the environment", "patched reports"),
    *("the runner's own plugin", "a main of its own"),
)
"""What looks like passed tests until the control; everything else fails before it."""


@pytest.mark.docker
@pytest.mark.parametrize("name", PYTEST_CHEATS)
def test_cheats_fail_under_pytest(pytest_sandbox: Sandbox, name: str) -> None:
    verdict = verify(pytest_sandbox, PYTEST_CHEATS[name], FIXTURE_CHECK, LIMITS)
    assert verdict.status in REFUSED, verdict
    if name in PYTEST_FORGERIES:
        assert verdict.detail == FORGED
    assert verify(pytest_sandbox, SHOP, FIXTURE_CHECK, LIMITS).is_passed


@pytest.mark.docker
def test_pytest_runs_the_data_set_s_tests_with_their_fixtures(pytest_sandbox: Sandbox) -> None:
    program = f"{SHOP}def test_of_its_own(): assert False\n"
    verdict = verify(pytest_sandbox, program, FIXTURE_CHECK, LIMITS)
    assert (verdict.status, verdict.detail, verdict.trust_level) == ("passed", "", "L1")
    assert (verdict.num_tests, verdict.num_tests_passed, verdict.num_tests_run) == (6, 6, 6)
    for change, failed, num_passed in (
        (("* tax()", "or 1"), "TestTotal.test_sum", 3),  # by the fixture's end alone
        (("* tax()", "* (1 + (items == [2]))"), "test_many", 4),
        (("* tax()", "* (1 + (items == [2, 3])) * tax()"), "CaseTest.test_five", 5),
        (("sum(items)", "+sum(items) + 0 * len(open('none').read())"), "TestTotal.test_sum", 0),
    ):
        verdict = verify(pytest_sandbox, program.replace(*change), FIXTURE_CHECK, LIMITS)
        assert verdict.status is Status.WRONG_ANSWER
        assert verdict.detail == f"shop_test.{failed} failed"
        assert verdict.num_tests_passed == num_passed
    verdict = verify(pytest_sandbox, "import none", FIXTURE_CHECK, LIMITS)
    assert (verdict.status, verdict.num_tests_run) == (Status.RUNTIME_ERROR, 0)
    assert verdict.detail == "the tests could not be loaded: ModuleNotFoundError"


def test_a_sandbox_without_pytest_says_so(sandbox: Sandbox) -> None:
    verdict = verify(sandbox, SHOP, FIXTURE_CHECK, LIMITS)
    assert verdict.status is Status.RUNTIME_ERROR
    assert verdict.detail == "the tests could not be loaded: ModuleNotFoundError"


def test_the_control_finds_out_what_passes_anything(sandbox: Sandbox) -> None:
    program = PATCH_ALL + "def tax(): return 1\ndef total(items): return tax()"
    check = replace(
        CHECK,
        files=(
            ("shop_test.py", TESTS.replace("assert total([4]) == 4", "total([4])")),
            CHECK.files[1],
        ),
    )
    verdict = verify(sandbox, program, check, LIMITS)
    assert (verdict.status, verdict.detail) == (Status.WRONG_ANSWER, FORGED)
    assert verdict.num_tests_passed == 0
    assert verify(sandbox, program, replace(check, num_controls=0), LIMITS).is_passed


def test_made_up_results_are_found_out_where_no_value_is_expected(sandbox: Sandbox) -> None:
    tests = "import shop\ndef test_a():\n    for n in (1, 2): assert shop.total([n]) == n\n"
    check = SuiteCheck((("t.py", tests),), ("t.test_a",), "shop.py")
    verdict = verify(sandbox, SHOP, check, LIMITS)
    assert (verdict.status, verdict.detail) == (Status.PASSED, "")
    patch = "import sys\nsys.modules['__main__'].run_function = lambda f: True\n"
    for cheat in (f"{write_forgery(check.test_ids)}os._exit(0)", f"{patch}total = None"):
        verdict = verify(sandbox, cheat, check, LIMITS)
        assert (verdict.status, verdict.detail) == (Status.WRONG_ANSWER, FORGED)


def test_a_script_without_a_place_for_a_control_says_so(sandbox: Sandbox) -> None:
    check = SuiteCheck((("t.py", "import shop\nshop.tax()"),), ("t",), "shop.py")
    verdict = verify(sandbox, SHOP, check, LIMITS)
    assert (verdict.status, verdict.detail) == (Status.PASSED, UNCONTROLLED)


def test_a_check_must_hold_together(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="zero tests prove nothing"):
        verify(sandbox, SHOP, replace(CHECK, test_ids=()), LIMITS)
    with pytest.raises(ValueError, match="is in none of the files"):
        verify(sandbox, SHOP, replace(CHECK, test_ids=("other.T.test_a",)), LIMITS)


def test_test_files_take_the_place_of_the_program() -> None:
    check = replace(CHECK, program_path="shop_test.py")
    assert dict(list_files("print()", check))["shop_test.py"] == TESTS


@pytest.mark.parametrize(
    "told",
    [
        "",
        "[]",
        "{}",
        '{"report": 1, "nonce": "n"}',
        '{"report": {"tests": [["a", true]]}, "nonce": "m"}',
        '{"report": {"tests": 1}, "nonce": "n"}',
        '{"report": {"tests": [1]}, "nonce": "n"}',
        '{"report": {"tests": [["a", 1]]}, "nonce": "n"}',
        '{"report": {"tests": [["b", true]]}, "nonce": "n"}',
        '{"report": {"tests": []}, "nonce": "n"}',
        '{"report": {"tests": [["a", true], ["a", true]]}, "nonce": "n"}',
        '{"report": {"tests": [["a", true], ["b", true]]}, "nonce": "n"}',
        '{"report": {"error": "x y"}, "nonce": "n"}',
        '{"report": {"tests": [["a", true]]}, "nonce": "n"} more',
    ],
)
def test_only_a_whole_report_counts(told: str) -> None:
    check = SuiteCheck((("a.py", ""),), ("a",))
    assert read_report(told, "n", check)[0] in REFUSED
    good = '{"report": {"tests": [["a", true]]}, "nonce": "n"}'
    assert read_report(good, "n", check)[0] is Status.PASSED
