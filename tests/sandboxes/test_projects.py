"""Projects tested by their language's framework: all tests run, and what cheats is found out.

The images come from `sdbench sandbox build`; where an engine must be, so must they.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.sandboxes.by_image import Sandboxes

from sdb_sandboxes.languages import PROJECTS, find_language, list_languages
from sdb_sandboxes.types import ResourceLimits, Status, SuiteCheck, Verdict
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.exit_code import FORGED
from sdb_sandboxes.verifiers.projects import (
    FRAMEWORKS,
    change_tables,
    draw_control,
    join_files,
    list_bodies,
    list_tests,
    read_results,
    run_project,
    split_program,
)

LIMITS = ResourceLimits(cpu_s=60.0, wall_s=600.0)


@dataclass(frozen=True)
class Case:
    """One framework: a check of two tests, programs, and cheats with how they are judged."""

    check: SuiteCheck
    right: str
    wrong: str
    """Fails the second test alone."""
    shown: str
    """Of what the tests say about the wrong one."""
    cheats: dict[str, tuple[str, Status, str]]


GO_TESTS = """package twice

import "testing"

var cases = []struct {
	n        int
	expected int
}{
	{
		n:        4,
		expected: 8,
	},
}

func TestTwice(t *testing.T) {
	for _, tc := range cases {
		t.Run("case", func(t *testing.T) {
			if got := Twice(tc.n); got != tc.expected {
				t.Fatalf("Twice(%d) = %d, want: %d", tc.n, got, tc.expected)
			}
		})
	}
}

func TestZero(t *testing.T) {
	if Twice(0) != 0 {
		t.Fatal("zero is not zero")
	}
}
"""
GO_LEAVES = "--- PASS: TestTwice (0.00s)\\n--- PASS: TestZero (0.00s)\\nPASS\\n"
CPP_TESTS = """#include "twice.h"
#include <catch2/catch.hpp>

TEST_CASE("doubles", "[a]") {
    REQUIRE(twice::twice(4) == 8);
}

#if defined(EXERCISM_RUN_ALL_TESTS)
TEST_CASE("knows "
          "zero",
          "[b]") {
    REQUIRE(twice::twice(0) == twice::Number{});
}
#endif
"""
CPP_HEADER = """#pragma once
namespace twice {
struct Number {
    int value = 0;
    Number() = default;
    Number(int n) : value(n) {}
    bool operator==(const Number& other) const;
};
Number twice(int n);
}
"""
CPP_EQUAL = "bool Number::operator==(const Number& other) const { return value == other.value; }\n"
JAVA_TESTS = """import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

public class TwiceTest {
    @Test
    public void doubles() {
        assertThat(Twice.twice(4)).isEqualTo(8);
    }

    @Test
    void knowsZero() throws Exception {
        assertThat(Twice.twice(0)).isNotNull().isEqualTo(Integer.valueOf(0));
    }
}
"""
JAVA = """class Twice { TOP
    static Object twice(int n) { BODY }
}
"""
JAVA_EQUAL = "return new Object() { public boolean equals(Object other) { return true; } };"
JAVA_RESULTS = 'System.out.println("--- PASS: doubles\\n--- PASS: knowsZero"); System.exit(0);'
RUST_TESTS = """use twice::*;

#[test]
fn doubles() {
    assert_eq!(twice(4), 8);
}

mod zero {
    use super::*;

    #[test]
    #[ignore]
    /// a comment
    fn knows_zero(
    ) {
        assert_eq!(twice(0), Number(0));
    }
}
"""
RUST = """#[derive(Debug, PartialEq)]
pub struct Number(pub i32);
impl PartialEq<i32> for Number {
    fn eq(&self, other: &i32) -> bool { self.0 == *other }
}
pub fn twice(n: i32) -> Number { Number(2 * n) }
"""
RUST_LEAVES = """
extern "C" fn leave() { RESULTS std::process::exit(0) }
#[used]
#[link_section = ".init_array"]
pub static LEAVE: extern "C" fn() = leave;
"""
RUST_RESULTS = 'println!("test doubles ... ok\\ntest zero::knows_zero ... ok");'
JS_TESTS = """import { twice } from './twice';

describe('twice', () => {
  test('doubles', () => {
    expect(twice(4)).toEqual(8);
  });

  test('knows zero', () => expect([twice(0)]).toEqual([0]));
});
"""
JS_RESULTS = "--- PASS: doubles\\n--- PASS: knows zero\\n"


def write_cpp(body: str, equal: str = CPP_EQUAL, top: str = "") -> str:
    """A program of two files."""
    head = f'#include "twice.h"\n{top}namespace twice {{\n{equal}'
    text = f"{head}Number twice(int n) {{ {body} }}\n}}\n"
    return join_files({"twice.cpp": text, "twice.h": CPP_HEADER})


CASES = {
    "cpp-catch2": Case(
        SuiteCheck(
            (("twice_test.cpp", CPP_TESTS),),
            ("doubles", "knows zero"),
            "twice.cpp",
            language="cpp-catch2",
            more_paths=("twice.h",),
        ),
        write_cpp("return 2 * n;"),
        write_cpp("return n + 4;"),
        "REQUIRE( twice::twice(0) == twice::Number{} )",
        {
            "leaves when loaded": (
                write_cpp(
                    "return 2 * n;",
                    top="#include <cstdlib>\nint leave = (std::exit(0), 0);\n",
                ),
                Status.RUNTIME_ERROR,
                "0 of 2 tests ended, then the process with 0",
            ),
            "prints results and leaves": (
                write_cpp(
                    'std::puts("--- PASS: doubles\\n--- PASS: knows zero"); std::exit(n - n);',
                    top="#include <cstdio>\n#include <cstdlib>\n",
                ),
                Status.WRONG_ANSWER,
                FORGED,
            ),
            "equals everything": (
                write_cpp(
                    "return n;",
                    "bool Number::operator==(const Number&) const { return true; }\n",
                ),
                Status.WRONG_ANSWER,
                FORGED,
            ),
            "has a warning": (
                write_cpp("int m; return 2 * n;"),
                Status.COMPILE_ERROR,
                "does not compile",
            ),
        },
    ),
    "java-junit": Case(
        SuiteCheck(
            (("src/test/java/TwiceTest.java", JAVA_TESTS),),
            ("doubles", "knowsZero"),
            "src/main/java/Twice.java",
            language="java-junit",
        ),
        JAVA.replace("TOP", "").replace("BODY", "return 2 * n;"),
        JAVA.replace("TOP", "").replace("BODY", "return n + 4;"),
        "to be equal to:\n <0>",
        {
            "leaves when loaded": (
                JAVA.replace("TOP", "static { System.exit(0); }").replace("BODY", "return 2 * n;"),
                Status.RUNTIME_ERROR,
                "0 of 2 tests ended, then the process with 0",
            ),
            "prints results and leaves": (
                JAVA.replace("TOP", f"static {{ {JAVA_RESULTS} }}").replace("BODY", "return n;"),
                Status.WRONG_ANSWER,
                FORGED,
            ),
            "equals everything": (
                JAVA.replace("TOP", "").replace("BODY", JAVA_EQUAL),
                Status.WRONG_ANSWER,
                FORGED,
            ),
            "does not compile": ("class Twice {}\n", Status.COMPILE_ERROR, "does not compile"),
        },
    ),
    "rust-test": Case(
        SuiteCheck(
            (
                ("tests/twice.rs", RUST_TESTS),
                ("Cargo.toml", '[package]\nedition = "2021"\nname = "twice"\n'),
            ),
            ("doubles", "knows_zero"),
            "src/lib.rs",
            language="rust-test",
        ),
        RUST,
        RUST.replace("2 * n", "n + 4"),
        "left: `Number(4)`",
        {
            "leaves when loaded": (
                RUST + RUST_LEAVES.replace("RESULTS", ""),
                Status.RUNTIME_ERROR,
                "0 of 2 tests ended, then the process with 0",
            ),
            "leaves in a test": (
                RUST.replace("Number(2 * n)", "std::process::exit(n - n)"),
                Status.RUNTIME_ERROR,
                "0 of 2 tests ended, then the process with 0",
            ),
            "prints results and leaves": (
                RUST + RUST_LEAVES.replace("RESULTS", RUST_RESULTS),
                Status.WRONG_ANSWER,
                FORGED,
            ),
            "equals everything": (
                RUST.replace("self.0 == *other", "true").replace("2 * n", "7 * n"),
                Status.WRONG_ANSWER,
                FORGED,
            ),
        },
    ),
    "javascript-jest": Case(
        SuiteCheck(
            (("twice.spec.js", JS_TESTS),),
            ("doubles", "knows zero"),
            "twice.js",
            language="javascript-jest",
        ),
        "export const twice = (n) => 2 * n;\n",
        "export const twice = (n) => n + 4;\n",
        "Expected: [ 0 ]\n    Received: [ 4 ]",
        {
            "leaves when loaded": (
                "process.exit(0);\nexport const twice = (n) => 2 * n;\n",
                Status.RUNTIME_ERROR,
                "0 of 2 tests ended, then the process with 0",
            ),
            "leaves in a test": (
                "export const twice = (n) => process.exit(0);\n",
                Status.RUNTIME_ERROR,
                "0 of 2 tests ended, then the process with 0",
            ),
            "prints results and leaves": (
                f'process.stdout.write("{JS_RESULTS}");\nprocess.exit(0);\n'
                "export const twice = (n) => 0;\n",
                Status.WRONG_ANSWER,
                FORGED,
            ),
            "replaces expect": (
                "const yes = new Proxy(() => {}, { get: () => () => true });\n"
                "globalThis.expect = () => yes;\nexport const twice = (n) => 0;\n",
                Status.WRONG_ANSWER,
                FORGED,
            ),
            "does not parse": (
                "export const\n",
                Status.RUNTIME_ERROR,
                "0 of 2 tests ended, then the process with 1",
            ),
        },
    ),
    "go-test": Case(
        SuiteCheck(
            (("twice_test.go", GO_TESTS),),
            ("TestTwice", "TestZero"),
            "twice.go",
            language="go-test",
        ),
        "package twice\nfunc Twice(n int) int { return 2 * n }\n",
        "package twice\nfunc Twice(n int) int { return n + 4 }\n",
        "zero is not zero",
        {
            "leaves when loaded": (
                'package twice\nimport "os"\nfunc init() { os.Exit(0) }\n'
                "func Twice(n int) int { return 2 * n }\n",
                Status.RUNTIME_ERROR,
                "0 of 2 tests ended, then the process with 0",
            ),
            "leaves in a test": (
                'package twice\nimport "os"\nfunc Twice(n int) int { os.Exit(0); return 0 }\n',
                Status.RUNTIME_ERROR,
                "0 of 2 tests ended, then the process with 0",
            ),
            "prints results and leaves": (
                'package twice\nimport "os"\nfunc init() {\n'
                f'os.Stdout.WriteString("{GO_LEAVES}")\nos.Exit(0)\n}}\n'
                "func Twice(n int) int { return 0 }\n",
                Status.WRONG_ANSWER,
                FORGED,
            ),
            "has a test of its own": (
                'package twice\nimport "os"\n'
                'func init() { os.Stdout.WriteString("--- PASS: TestOther (0.00s)\\n") }\n'
                "func Twice(n int) int { return 2 * n }\n",
                Status.WRONG_ANSWER,
                "tests were run that are not the data set's",
            ),
            "does not compile": ("package twice\n", Status.COMPILE_ERROR, "does not compile"),
        },
    ),
}
"""By the name in PROJECTS."""
CHEATS = [(name, cheat) for name, case in CASES.items() for cheat in case.cheats]


def judge(images: Sandboxes, name: str, program: str, **changes: Any) -> Verdict:
    check = replace(CASES[name].check, **changes)
    return verify(images.open(name), program, check, LIMITS)


def test_every_framework_has_its_row_and_case() -> None:
    assert set(PROJECTS) == set(FRAMEWORKS) == set(CASES)
    assert all(name in list_languages(row.image) for name, row in PROJECTS.items())
    assert find_language("go-test").image == "go"


@pytest.mark.docker
@pytest.mark.parametrize("name", CASES)
def test_right_passes_and_wrong_fails(images: Sandboxes, name: str) -> None:
    case = CASES[name]
    verdict = judge(images, name, case.right)
    assert (verdict.status, verdict.detail, verdict.trust_level) == ("passed", "", "L1")
    assert (verdict.num_tests_passed, verdict.num_tests_run, verdict.num_tests) == (2, 2, 2)
    verdict = judge(images, name, case.wrong)
    second = case.check.test_ids[1]
    assert (verdict.status, verdict.detail) == (Status.WRONG_ANSWER, f"{second} failed")
    assert (verdict.num_tests_passed, verdict.num_tests_run) == (1, 2)
    _, _, output = run_project(images.open(name), case.wrong, case.check, LIMITS)
    assert case.shown in output


@pytest.mark.docker
@pytest.mark.parametrize(("name", "cheat"), CHEATS)
def test_cheats_do_not_pass(images: Sandboxes, name: str, cheat: str) -> None:
    program, status, detail = CASES[name].cheats[cheat]
    verdict = judge(images, name, program)
    assert (verdict.status, verdict.detail) == (status, detail), verdict.stdout_tail
    if detail == FORGED:
        assert verdict.num_tests_passed == 0
        # Without the control what was printed is all there is, and it says what the cheat wants.
        assert judge(images, name, program, num_controls=0).is_passed


@pytest.mark.docker
def test_the_program_cannot_replace_a_trusted_file(images: Sandboxes) -> None:
    case = CASES["go-test"]
    program = join_files({"twice.go": case.wrong, "twice_test.go": "package twice\n"})
    verdict = judge(images, "go-test", program, more_paths=("twice_test.go",))
    assert verdict.detail == "TestZero failed"


@pytest.mark.docker
def test_a_hidden_property_is_compared_too(images: Sandboxes) -> None:
    program = "export const make = (n) => Object.defineProperty({}, 'a', { value: n });\n"
    tests = "import { make } from './twice';\ntest('a', () => expect(make(1)).toEqual({ a: N }));\n"
    for expected, is_passed in (("1", True), ("2", False)):
        files = (("twice.spec.js", tests.replace("N", expected)),)
        verdict = judge(images, "javascript-jest", program, files=files, test_ids=("a",))
        assert verdict.is_passed is is_passed, verdict.stdout_tail


@pytest.mark.docker
def test_endless_tests_and_output_are_stopped(images: Sandboxes) -> None:
    check = CASES["go-test"].check
    loop = "package twice\nfunc Twice(n int) int { for { } }\n"
    limits = replace(LIMITS, cpu_s=1.0)
    assert verify(images.open("go-test"), loop, check, limits).status is Status.CPU_TIME
    talk = (
        'package twice\nimport "os"\nfunc Twice(n int) int {\n'
        'for { os.Stdout.WriteString("more and more and more\\n") }\n}\n'
    )
    verdict = judge(images, "go-test", talk)
    assert verdict.status is Status.RUNTIME_ERROR
    assert verdict.detail == "0 of 2 tests ended, then the process with -9"


def test_a_check_needs_tests() -> None:
    check = replace(CASES["go-test"].check, test_ids=())
    with pytest.raises(ValueError, match="zero tests prove nothing"):
        verify(None, "", check)  # type: ignore[arg-type]  # refused before anything runs


def test_programs_of_several_files_come_apart_as_they_were() -> None:
    files = {"a.cpp": "int a;\n", "b/c.h": "=== d.h\nint b;\n"}
    assert split_program(join_files(files), ("a.cpp", "b/c.h")) == files
    assert split_program("=== a\n", ("a",)) == {"a": "=== a\n"}
    assert split_program("int a;\n", ("a.cpp", "b.h")) == {"a.cpp": "int a;\n"}
    assert split_program("", ("a.cpp", "b.h")) == {}
    # No other path counts, so no program can put a file where it likes.
    text = "=== a.cpp\n=== ../x\n"
    assert split_program(text, ("a.cpp", "b.h")) == {"a.cpp": "=== ../x\n"}
    assert join_files({"a": "x"}) == "x"
    assert split_program(join_files({"a": "x", "b": "y"}), ("a", "b")) == {"a": "x\n", "b": "y\n"}


@pytest.mark.parametrize("name", CASES)
def test_a_control_makes_every_test_fail(name: str) -> None:
    check = CASES[name].check
    framework = FRAMEWORKS[name]
    drawn = draw_control(check, has_values=False)[0][1]
    text = re.sub(r"(?<=[\"'])[0-9a-f]{8}(?=[\"'])", "WORD", drawn)
    for statement in filter(None, (framework.fail, framework.fail_expression)):
        text = text.replace(f" {statement} ", "<fail>")
    assert text.count("<fail>") == len(check.test_ids)
    if framework.fail_end:
        assert text.count(framework.fail_end) == len(check.test_ids)
        text = text.replace(framework.fail_end, "")
    assert text.replace("<fail>", "") == check.files[0][1]
    assert list_tests(check.files[0][1], name) == list(check.test_ids)


def test_expected_values_outside_of_tests_change_together() -> None:
    check = CASES["go-test"].check
    ((_, text),) = change_tables(check)
    assert text == GO_TESTS.replace("expected: 8", "expected: 7")
    ((_, text),) = draw_control(check, has_values=True)
    assert "expected: 8" in text  # it stands in no test
    inside = GO_TESTS.replace("\tif Twice(0) != 0 {", "\twant := int{\n\t\twant: 40,\n\t}\n\tif {")
    check = replace(check, files=(("twice_test.go", inside),))
    ((_, text),) = draw_control(check, has_values=True)
    assert "want: 30" in text
    assert text.count("t.Error(") == 1
    assert "want: 40" in change_tables(check)[0][1]


def test_results_are_read_whatever_stands_before_them() -> None:
    check = CASES["go-test"].check
    output = "no newline--- PASS: TestTwice (0.00s)\n    --- FAIL: TestZero/a (0.00s)\n"
    assert read_results(output, check) == [("TestTwice", True)]
    output += "--- SKIP: TestTwice (0.00s)\n"
    assert read_results(output, check) == [("TestTwice", True), ("TestTwice", False)]


def test_a_body_ends_where_the_next_test_begins() -> None:
    """Tests that are one expression have no brace of their own."""
    framework = FRAMEWORKS["javascript-jest"]
    tests = "  it('a', () => f(1));\n  test(`b`, async () =>\n    f(2));\n  xit('c', () => {});\n"
    bodies = [tests[start:end] for start, end in list_bodies(tests, framework)]
    assert bodies == ["f(1));\n", "f(2));\n  xit('c', () => {});\n"]


def test_a_name_behind_a_comment_is_a_test_too() -> None:
    text = 'TEST_CASE(\n    // clang-format off\n    "long",\n    // on\n    "[tag]") {\n}\n'
    assert list_tests(text, "cpp-catch2") == ["long"]
