"""Every language in its image: it runs, it is limited, it sees nothing, and it cannot forge.

The images come from `sdbench sandbox build`; where an engine must be, so must they.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.sandboxes.by_image import Sandboxes

from sdb_sandboxes.docker_sandbox import DockerSandbox
from sdb_sandboxes.images.build import IMAGES, find_images
from sdb_sandboxes.language_check import (
    PUBLISHED,
    SMALL,
    LanguageReport,
    add_published,
    check_language,
    check_small,
    read_samples,
)
from sdb_sandboxes.languages import LANGUAGES, list_languages
from sdb_sandboxes.types import (
    ExecutionResult,
    ExitCodeCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
    Verdict,
)
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.exit_code import FORGED, LOOSE, UNCONTROLLED

pytestmark = pytest.mark.docker
LIMITS = ResourceLimits(cpu_s=5.0, wall_s=600.0, memory_bytes=512 << 20)
SHELL_IMAGES = ("bash", "cpp", "java")


def run(sandbox: DockerSandbox, language: str, text: str, **limits: Any) -> ExecutionResult:
    settings = {"cpu_s": 5.0, "wall_s": 600.0, "memory_bytes": 512 << 20, **limits}
    files = ((LANGUAGES[language].file_name, text),)
    request = ProgramRequest(language, files, ("hello\n",), ResourceLimits(**settings))
    return sandbox.run_program(request)


def test_every_language_has_its_image_and_programs() -> None:
    assert {row.image for row in LANGUAGES.values()} <= set(IMAGES)
    assert set(SMALL) == set(LANGUAGES)
    assert set(PUBLISHED) < set(LANGUAGES)
    assert find_images(("java",))[0].tag == "sdbench/java"
    assert list_languages("java") == ("python", "bash", "java", "java-junit")


@pytest.mark.parametrize("language", LANGUAGES)
def test_small_programs_do_as_they_should(images: Sandboxes, language: str) -> None:
    report = check_small(images.open(language), language)
    assert report.faults == ()
    assert report.version != "unknown"


LOOPS = {
    "cpp": "int main() { volatile int i = 0; while (true) { i = i + 1; } }",
    "java": "class Main { public static void main(String[] a) { while (true) { } } }",
    "javascript": "while (true) { }",
    "typescript": "while (true) { }",
    "go": "package main\nfunc main() { for { } }",
    "php": "<?php while (true) { }",
    "ruby": "loop { }",
    "perl": "while (1) { }",
    "csharp": "class P { static void Main() { while (true) { } } }",
    "rust": "fn main() { loop { } }",
    "bash": "while :; do :; done",
    "d": "void main() { for (;;) { } }",
    "julia": "while true end",
    "lua": "while true do end",
    "r": "repeat { }",
    "racket": "#lang racket/base\n(let loop () (loop))",
    "swift": "while true { }",
}
FLOODS = {
    "cpp": '#include <cstdio>\nint main() { while (true) puts("xxxxxxxxxxxxxxxxxxxxxxx"); }',
    "java": "class Main { public static void main(String[] a) {"
    ' while (true) System.out.println("x".repeat(9999)); } }',
    "javascript": "while (true) require('fs').writeSync(1, 'x'.repeat(9999))",
    "go": 'package main\nimport "fmt"\nfunc main() { for { fmt.Println("xxxxxxxxxx") } }',
    "php": "<?php while (true) echo str_repeat('x', 9999);",
    "ruby": "loop { puts 'x' * 9999 }",
    "perl": "print 'x' x 9999 while 1;",
    "swift": 'while true { print(String(repeating: "x", count: 9999)) }',
}
EATERS = {
    "cpp": "#include <vector>\n#include <string>\nint main() { std::vector<std::string> v;"
    " while (true) v.emplace_back(1 << 20, 'x'); }",
    "java": "import java.util.*; class Main { public static void main(String[] a) {"
    " List<byte[]> l = new ArrayList<>(); while (true) l.add(new byte[1 << 20]); } }",
    "javascript": "const a = []; while (true) a.push(Buffer.alloc(1 << 20, 1))",
    "go": "package main\nvar a [][]byte\nfunc main() { for { b := make([]byte, 1<<20);"
    " for i := range b { b[i] = 1 }; a = append(a, b) } }",
    "php": "<?php $a = []; while (true) $a[] = str_repeat('x', 1 << 20);",
    "ruby": "a = []; loop { a << 'x' * (1 << 20) }",
    "perl": "my @a; push @a, 'x' x (1 << 20) while 1;",
    "d": "void main() { ubyte[][] a; for (;;) { a ~= new ubyte[](1 << 20); a[$ - 1][] = 1; } }",
    "julia": "a = []; while true push!(a, ones(UInt8, 1 << 20)) end",
    "lua": "local a = {} while true do a[#a + 1] = string.rep('x', 1048576 + #a) end",
    "r": "a <- list(); repeat a[[length(a) + 1]] <- rep(1.5, 1e6)",
    "racket": "#lang racket/base\n(let loop ([a '()]) (loop (cons (make-bytes 1048576 1) a)))",
    "swift": "var a: [[UInt8]] = []\n"
    "while true { a.append([UInt8](repeating: 1, count: 1 << 20)) }",
}


@pytest.mark.parametrize("language", LOOPS)
def test_cpu_time_is_limited(images: Sandboxes, language: str) -> None:
    result = run(images.open(language), language, LOOPS[language], cpu_s=0.7)
    assert result.status is Status.CPU_TIME


@pytest.mark.parametrize("language", FLOODS)
def test_output_is_limited(images: Sandboxes, language: str) -> None:
    result = run(images.open(language), language, FLOODS[language], output_bytes=1 << 20)
    assert result.status is Status.OUTPUT
    assert result.runs[0].is_output_truncated or len(result.runs[0].stdout) > 1 << 18


@pytest.mark.parametrize("language", EATERS)
def test_memory_is_limited(images: Sandboxes, language: str) -> None:
    sandbox = images.open(language)
    result = run(sandbox, language, EATERS[language], memory_bytes=256 << 20)
    # A runtime that sees its own limit ends with an error of its own before the kernel acts.
    assert result.status in (Status.MEMORY, Status.RUNTIME_ERROR)
    assert check_small(sandbox, language).faults == ()


@pytest.mark.parametrize("image", SHELL_IMAGES)
def test_a_fork_bomb_ends_with_its_cell(images: Sandboxes, image: str) -> None:
    sandbox = images.open(image)
    result = run(sandbox, "bash", "f() { f | f & }; f; wait; while :; do :; done", cpu_s=2.0)
    assert result.status is not Status.PASSED
    assert result.status is not Status.INFRASTRUCTURE
    after = run(sandbox, "bash", "ls /proc | grep -c '^[0-9]'")
    assert int(after.runs[0].stdout) <= 5  # the server, the shell, and its two helpers


@pytest.mark.parametrize("image", SHELL_IMAGES)
@pytest.mark.parametrize(
    "script",
    [
        "exec 3<>/dev/tcp/127.0.0.1/80",
        "exec 3<>/dev/udp/1.1.1.1/53",
        "echo x > /etc/planted",
        "echo x > /usr/planted",
        "echo x > /control/planted",
        "ls /root /home/* /srv/* /mnt/*",
        "cat /proc/1/environ",
        "cat /proc/1/mem",
        "mount -t tmpfs none /tmp",
        "kill -9 1",
        "unshare -r true",
    ],
)
def test_network_host_and_server_stay_out_of_reach(
    images: Sandboxes, image: str, script: str
) -> None:
    sandbox = images.open(image)
    (outcome,) = run(sandbox, "bash", script).runs
    assert outcome.status is Status.RUNTIME_ERROR
    assert outcome.stdout == ""


@pytest.mark.parametrize("image", SHELL_IMAGES)
def test_no_sample_leaves_anything_to_the_next(images: Sandboxes, image: str) -> None:
    sandbox = images.open(image)
    script = "touch left; (setsid sleep 500 &); (sleep 500 &); sleep 500 & disown -a; echo done"
    assert run(sandbox, "bash", script).status is Status.PASSED
    (outcome,) = run(sandbox, "bash", "ls -A; cat /proc/[0-9]*/comm").runs
    assert "left" not in outcome.stdout
    assert "sleep" not in outcome.stdout


def test_who_spoils_its_own_folder_loses_no_slot(images: Sandboxes) -> None:
    script = "rm .stdin && mkdir -p .stdin/full && touch .stdin/full/x\n"
    request = ProgramRequest("bash", (("main.sh", script),), ("", "", ""), LIMITS)
    result = images.open("bash").run_program(request)
    assert result.status is Status.RUNTIME_ERROR
    assert [run.status for run in result.runs] == [Status.PASSED, Status.RUNTIME_ERROR]
    assert "slot" not in result.detail


def test_what_a_compiler_cannot_do_is_a_compile_error(images: Sandboxes) -> None:
    text = '#include "/etc/shadow"\nint main() {}'
    result = run(images.open("cpp"), "cpp", text)
    assert result.status is Status.COMPILE_ERROR
    assert result.runs == ()


# name: (right answer, wrong answer, tests, {cheat: program})
TWICE: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "javascript": (
        "function twice(n) { return 2 * n }\n",
        "function twice(n) { return n }\n",
        'const _ = require("lodash")\nfunction compare(a, b) { return _.isEqual(a, b) }\n'
        "var x0 = twice(4);\nvar v0 = 8;\nif (!compare(x0, v0)) { throw 'wrong' }\n",
        {
            "exits": "process.exit(0)\n",
            "exits in the call": "function twice(n) { process.exit(0) }\n",
            "overrides the library": 'require("lodash").isEqual = () => true;\n'
            "function twice(n) { return 0 }\n",
            "catches everything": "process.on('uncaughtException', () => process.exit(0));\n"
            "function twice(n) { return 0 }\n",
            "prints markers": "console.log('PASSED 1 passed ok'); process.exit(0)\n",
        },
    ),
    "java": (
        "class Twice { static int twice(int n) { return 2 * n; } }\n",
        "class Twice { static int twice(int n) { return n; } }\n",
        "class Main { public static void main(String[] a) throws Exception {\n"
        "int x0 = Twice.twice(4);\nint v0 = 8;\nif (x0 != v0) throw new Exception();\n} }\n",
        {
            "exits in the call": "class Twice { static int twice(int n)"
            " { System.exit(0); return 0; } }\n",
            "halts": "class Twice { static { Runtime.getRuntime().halt(0); }"
            " static int twice(int n) { return 0; } }\n",
            "exits from a hook": "class Twice { static int twice(int n) { Runtime.getRuntime()"
            ".addShutdownHook(new Thread(() -> Runtime.getRuntime().halt(0))); return 0; } }\n",
        },
    ),
    "cpp": (
        "#include <bits/stdc++.h>\nusing namespace std;\nint twice(int n) { return 2 * n; }\n",
        "#include <bits/stdc++.h>\nusing namespace std;\nint twice(int n) { return n; }\n",
        "template <typename T> bool compare(T a, T b) { return a == b; }\n"
        'int main() {\nint x0 = twice(4);\nif (!(compare(x0, 8))) throw runtime_error("no");\n}\n',
        {
            "exits before main": "#include <bits/stdc++.h>\nusing namespace std;\n"
            "struct S { S() { _exit(0); } } s; int twice(int n) { return 0; }\n",
            "exits in the call": "#include <bits/stdc++.h>\nusing namespace std;\n"
            "int twice(int n) { exit(0); }\n",
            "changes the throw": "#include <bits/stdc++.h>\nusing namespace std;\n"
            "#define throw exit(0);\nint twice(int n) { return 0; }\n",
            "overrides the comparison": "#include <bits/stdc++.h>\nusing namespace std;\n"
            "bool compare(int a, int b) { return true; }\nint twice(int n) { return 0; }\n",
        },
    ),
    "php": (
        "<?php function twice($n) { return 2 * $n; }\n",
        "<?php function twice($n) { return 5; }\n",
        "function compare($x, $y) { return $x == $y; }\n$x0 = twice(4);\n$v0 = 8;\n"
        "if (!compare($x0, $v0)) { throw new Exception('wrong'); }\n",
        {
            "exits": "<?php exit(0);\n",
            "returns what equals everything": "<?php function twice($n) { return true; }\n",
            "handles the exception": "<?php set_exception_handler(function($e) { exit(0); });\n"
            "function twice($n) { return 0; }\n",
            "hides the tests": "<?php function twice($n) { return 0; }\n__halt_compiler();\n",
        },
    ),
    "ruby": (
        "def twice(n)\n  2 * n\nend\n",
        "def twice(n)\n  n\nend\n",
        "x0 = twice(4)\nv0 = 8\nif x0 != v0\n  raise StandardError, 'wrong'\nend\n",
        {
            "exits": "exit 0\n",
            "overrides equality": "class Integer\n  def ==(o) = true\n  def !=(o) = false\nend\n"
            "def twice(n)\n  0\nend\n",
            "ends the file": "def twice(n)\n  0\nend\n__END__\n",
            "exits at the end": "at_exit { exit!(0) }\ndef twice(n)\n  0\nend\n",
        },
    ),
    "go": (
        'package main\nimport "os"\nvar _ = os.Args\nfunc twice(n int) int { return 2 * n }\n',
        'package main\nimport "os"\nvar _ = os.Args\nfunc twice(n int) int { return n }\n',
        "func main() {\nactual_1 := twice(4)\nexpected_1 := 8\n"
        'if actual_1 != expected_1 { panic("no") }\n}\n',
        {
            "exits at init": 'package main\nimport "os"\nfunc init() { os.Exit(0) }\n'
            "func twice(n int) int { return 0 }\n",
            "overrides panic": 'package main\nimport "os"\nfunc panic(s string) { os.Exit(0) }\n'
            "func twice(n int) int { return 0 }\n",
        },
    ),
    "perl": (
        "sub twice { return 2 * $_[0]; }\n",
        "sub twice { return $_[0]; }\n",
        "use Data::Compare;\nmy $x0 = twice(4);\nmy $v0 = 8;\n"
        'unless (Compare($x0, $v0)) { die "wrong"; }\n',
        {
            "exits": "exit 0;\n",
            "prints and exits in the call": "sub twice { print 8; exit; }\n",
            "handles death": "$SIG{__DIE__} = sub { exit 0 };\nsub twice { 0 }\n",
        },
    ),
    "lua": (
        "local function twice(n) return 2 * n end\n",
        "local function twice(n) return n end\n",
        "lu = require('luaunit')\nfunction test_twice()\nlocal candidate = twice\n"
        "    lu.assertEquals(candidate(4), 8)\nend\nos.exit(lu.LuaUnit.run())\n",
        {
            "exits": "os.exit(0)\n",
            "overrides the library": "require('luaunit').assertEquals = function() end\n"
            "local function twice(n) return 0 end\n",
            "overrides the exit": "local exit = os.exit\nos.exit = function() exit(0) end\n"
            "local function twice(n) return 0 end\n",
        },
    ),
    "racket": (
        "#lang racket\n(define (twice n) (* 2 n))\n",
        "#lang racket\n(define (twice n) n)\n",
        "(require rackunit)\n(current-check-handler raise)\n(let ((candidate twice))\n"
        "  (check-within (candidate 4) 8 0.001)\n)\n",
        {
            "exits": "#lang racket\n(define (twice n) (exit 0))\n(exit 0)\n",
            "exits in the call": "#lang racket\n(define (twice n) (exit 0))\n",
            "handles the error": "#lang racket\n(define (twice n) 0)\n"
            "(uncaught-exception-handler (lambda (e) (exit 0)))\n",
        },
    ),
    "swift": (
        "func twice(n : Int) -> Int { return Int((2 * Double(n)).rounded()) }\n",
        "func twice(n : Int) -> Int { return n }\n",
        'var x0 : Int = twice(n : 4)\nvar v0 : Int = 8\nassert(x0 == v0, "no")\n',
        {
            "exits": "import Glibc\nexit(0)\nfunc twice(n : Int) -> Int { return 0 }\n",
            "exits in the call": "func twice(n : Int) -> Int { exit(0) }\nimport Glibc\n",
            "overrides the assertion": "func assert(_ holds: Bool, _ words: String) { }\n"
            "func twice(n : Int) -> Int { return 0 }\n",
            "overrides the type": "struct Int: ExpressibleByIntegerLiteral {\n"
            "init(integerLiteral: Swift.Int) { }\n"
            "static func == (a: Int, b: Int) -> Bool { return true }\n}\n"
            "func twice(n : Int) -> Int { return 0 }\n",
            "handles the signal": "import Glibc\nsignal(SIGILL) { _ in exit(0) }\n"
            "func twice(n : Int) -> Int { return 0 }\n",
        },
    ),
}
CHEATS = [(language, cheat) for language, row in TWICE.items() for cheat in row[3]]


def judge(images: Sandboxes, language: str, program: str, **settings: Any) -> Verdict:
    check = ExitCodeCheck(language, TWICE[language][2], **settings)
    return verify(images.open(language), program, check, LIMITS)


@pytest.mark.parametrize("language", TWICE)
def test_right_passes_and_wrong_fails(images: Sandboxes, language: str) -> None:
    right, wrong, _, _ = TWICE[language]
    verdict = judge(images, language, right)
    assert (verdict.status, verdict.detail, verdict.trust_level) == (Status.PASSED, "", "L1")
    assert judge(images, language, wrong).status is Status.WRONG_ANSWER


@pytest.mark.parametrize(("language", "cheat"), CHEATS)
def test_cheats_do_not_pass(images: Sandboxes, language: str, cheat: str) -> None:
    program = TWICE[language][3][cheat]
    for _ in range(2):
        verdict = judge(images, language, program)
        reason = LOOSE if cheat == "returns what equals everything" else FORGED
        assert (verdict.status, verdict.detail) == (Status.WRONG_ANSWER, reason)
    # Without the control the exit code is all there is, and it says what the cheat wants.
    assert judge(images, language, program, num_controls=0).is_passed
    assert judge(images, language, TWICE[language][0]).is_passed


def test_tests_without_an_expected_value_say_so(images: Sandboxes) -> None:
    check = ExitCodeCheck("ruby", "raise if [1].empty?\n")
    verdict = verify(images.open("ruby"), "x = 1\n", check, LIMITS)
    assert (verdict.status, verdict.detail) == (Status.PASSED, UNCONTROLLED)


def write_samples(folder: Path, right: int, wrong: int) -> None:
    """A data set in MBXP's layout: Ruby samples of which some are right."""
    (folder / "examples").mkdir()
    ids = [f"MBRBP/{number}" for number in range(right + wrong)]
    head = {"prompt": "def twice(n)\n", "test": TWICE["ruby"][2]}
    problems = [{"task_id": task, **head} for task in ids]
    samples = [
        {"task_id": task, "completion": "  2 * n\nend\n" if number < right else "  n\nend\n"}
        for number, task in enumerate(ids)
    ]
    for path, lines in (
        (folder / "mbrbp_release_v1.2.jsonl.gz", problems),
        (folder / "examples" / "mbrbp_samples.jsonl.gz", samples),
    ):
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))


def test_published_samples_are_measured(images: Sandboxes, tmp_path: Path) -> None:
    write_samples(tmp_path, right=6, wrong=2)
    whole = check_language(images.open("ruby"), "ruby", tmp_path)
    assert (whole.measured, whole.published, whole.num_forged) == (75.0, 58.90, 0)
    assert (whole.num_samples, whole.num_published, whole.standard_error) == (8, 8, 0.0)
    part = check_language(images.open("ruby"), "ruby", tmp_path, num_samples=4)
    assert (part.num_samples, part.num_published) == (4, 8)


def test_what_could_not_be_judged_is_no_measurement() -> None:
    report = LanguageReport("ruby", "3.1", (), 0.1, 0.1)
    verdicts = [
        Verdict(status, 1, 0, 0.1, 0.1, 0, "L1", "docker/runc")
        for status in (Status.PASSED, Status.WRONG_ANSWER, Status.INFRASTRUCTURE)
    ]
    assert add_published(report, verdicts[:2], 2).measured == 50.0
    lost = add_published(report, verdicts, 3)
    assert lost.measured is None
    assert lost.faults == ("1 samples could not be judged (infrastructure)",)


def test_missing_samples_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no problems of ruby"):
        read_samples(tmp_path, "ruby")
