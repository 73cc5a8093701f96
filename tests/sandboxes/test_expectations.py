"""Which literals of a test are expected values, and how one becomes wrong."""

from collections.abc import Sequence
from typing import Any

import pytest

from sdb_sandboxes.verifiers.expectations import change_literal, list_controls


@pytest.fixture(autouse=True)
def _fixed_choice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(items: Sequence[Any]) -> Any:
        return "q" if "q" in items else items[0]

    if "by_chance" not in request.node.name:
        monkeypatch.setattr("secrets.choice", choose)


NAMED = {
    "java": ("List<Integer> v0 = Arrays.asList(25, -3);", ["Arrays.asList(15", "-2)"]),
    "javascript": ("var v0 = ['a', true];", ["['qa'", "false]"]),
    "typescript": ('let expected_1 = new Map<any, any>([["a", 0.05]]);', ['"qa"', "0.04"]),
    "go": ('\texpected_1 := []string{"a\\"b"}', ['"qa\\"b"']),
    "csharp": ("var expected1 = 'c';", ["'q'"]),
    "cpp": ("if (!(compare(x0, {85, 1}))) {", ["{75,", "2}"]),
    "php": ('$v0 = "";', ['"q"']),
    "perl": ("my $v0 = 10;", ["= 20"]),
    "ruby": ("v0 = 9007199254740993", ["8007199254740993"]),
    "scala": ("var v0 : List[Int] = List(2147483647)", ["List(1147483647)"]),
    "kotlin": ("    var v0 : Double = 1.5;", ["2.5"]),
}
CALLS = {
    "cpp": ("assert(candidate((1), (2)) == (3));", ["== (2)"]),
    "rust": ("assert_eq!(candidate(vec![1, 2]), vec![3]);", ["vec![2]"]),
    "java": ('assert(f((")"), (2l)).equals(("b")));', ['"qb"']),
    "javascript": ("assert.deepEqual(candidate([1, 7]),[5]);", ["),[4]"]),
    "perl": ('if(eq_deeply($candidate->(2),3)) { print "1" }', ["),2)"]),
    "php": ('if (candidate(1) !== 3) { throw new Exception("Test 1!"); }', ["!== 2"]),
    "ruby": ("assert_equal([5], candidate.call(7))", ["[4]"]),
    "go": ("{ actual: candidate(1, 2), expected: 3 },", ["expected: 2"]),
    "bash": ('[[ $(candidate "1" "(") = "5" ]]', ['= "q5"']),
    "d": ("assert(candidate([1L, 2L]) == tuple(3L, true));", ["tuple(2L", "false)"]),
    "julia": ("\t@test(candidate([1, 2]) == (3, 'c'))", ["(2,", "'q')"]),
    "lua": ("lu.assertEquals(candidate({1, ')'}), {['a'] = 5})", ["['qa']", "= 4}"]),
    "r": ("stopifnot(isTRUE(all.equal(candidate(c(1)), c(3, TRUE))))", ["c(2,", "FALSE)"]),
    "racket": (
        '(check-within (candidate (list 1 "(")) (list 3 #t "a/b") 0.001)',
        ["(list 2", "#f", '"qa/b"'],
    ),
}


@pytest.mark.parametrize("language", NAMED)
def test_named_expectations_change_one_at_a_time(language: str) -> None:
    line, changes = NAMED[language]
    tests = f"arg00 = 7\n{line}\nthrow 'Error at 1th';\n"
    controls = list_controls(tests, language)
    assert len(controls) == len(changes)
    for control, change in zip(controls, changes, strict=True):
        assert change in control
        assert control.startswith("arg00 = 7\n")
        assert control.endswith("\nthrow 'Error at 1th';\n")


@pytest.mark.parametrize("language", CALLS)
def test_compared_calls_keep_their_arguments(language: str) -> None:
    line, changes = CALLS[language]
    controls = list_controls(line, language)
    assert len(controls) == len(changes)
    assert all(change in control for control, change in zip(controls, changes, strict=True))


@pytest.mark.parametrize(
    "tests", ["", "var v0 = [];", "run()", "x0 = f(3)", "assert(f([7]) == [])"]
)
def test_what_holds_no_expected_literal_has_no_control(tests: str) -> None:
    assert list_controls(tests, "javascript") == []


def test_what_a_nullable_of_d_holds_is_an_expected_value() -> None:
    tests = "auto result = candidate(7L);\nassert(!result.isNull && result.get == 2L);\n"
    assert list_controls(tests, "d") == [tests.replace("2L", "1L")]


def test_an_empty_value_does_not_lend_the_literal_of_its_neighbour() -> None:
    tests = "assert.deepEqual(candidate([], 7),[]);\nassert.deepEqual(candidate([1], 8),[9]);\n"
    (control,) = list_controls(tests, "javascript")
    assert control == tests.replace("[9]", "[8]")


@pytest.mark.parametrize(
    ("literal", "changed"),
    [
        *(("0", "1"), ("1", "2"), ("9", "8"), ("0.0", "1.0"), ("100", "200"), ("True", "False")),
        *(("FALSE", "TRUE"), ("'r'", "'qr'"), ('"a\\n"', '"qa\\n"')),
    ],
)
def test_literals_change_within_their_type(literal: str, changed: str) -> None:
    assert change_literal(literal, "ruby") == changed


def test_characters_stay_one_character() -> None:
    assert change_literal("'\\n'", "java") == "'q'"
    assert change_literal("'q'", "go") == "'a'"


def test_texts_change_by_chance() -> None:
    changed = {change_literal('"ab"', "java") for _ in range(200)}
    assert len(changed) > 20
    assert all(text[0] == text[-1] == '"' and len(text) == 5 and "ab" in text for text in changed)
    assert "'a'" not in {change_literal("'a'", "java") for _ in range(200)}
