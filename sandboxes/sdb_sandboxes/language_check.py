"""Checks an installation of languages: small programs of ours, or MBXP's samples as published.

Place in the flow: `sdbench sandbox check --languages` prints `check_language` of every language;
the record under `sandboxes/benchmarks/results/` is made by `sandboxes/benchmarks/languages.py`.
mxeval ships one model sample per problem and the pass@1 that its authors measured on them: an
installation that differs by more than a little lacks a module, a flag or a version. Source of the
numbers: the README of amazon-science/mxeval.

What it does not do: it judges no model, and it builds nothing.
"""

import gzip
import json
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from random import Random

from sdb_sandboxes.languages import LANGUAGES
from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import (
    ExitCodeCheck,
    ProgramRequest,
    ResourceLimits,
    Status,
    Verdict,
)
from sdb_sandboxes.verifiers import verify
from sdb_sandboxes.verifiers.exit_code import FORGED, LOOSE

PUBLISHED = {
    "cpp": 79.60,
    "csharp": 63.63,
    "go": 39.19,
    "java": 85.30,
    "javascript": 78.67,
    "kotlin": 63.77,
    "perl": 38.41,
    "php": 72.77,
    "ruby": 58.90,
    "scala": 42.96,
    "swift": 29.40,
    "typescript": 87.29,
}
"""Pass@1 of the shipped samples in percent. Python's 82.24 belongs to a check that is not a whole
program and is left to the MBXP benchmark itself."""
LIMITS = ResourceLimits(cpu_s=10.0, wall_s=600.0)
"""mxeval allows 10 s of wall time; ours is CPU time."""
ECHO_IN, ECHO_OUT = "hello\n", "hello\n"


@dataclass(frozen=True, slots=True)
class SmallPrograms:
    """Three programs of one language."""

    echo: str
    """Prints the one line of standard input."""
    broken: str
    """Does not compile, or cannot be parsed."""
    exits_3: str
    """Ends with exit code 3."""


SMALL: dict[str, SmallPrograms] = {
    "python": SmallPrograms("print(input())", "print(", "raise SystemExit(3)"),
    "cpp": SmallPrograms(
        "#include <bits/stdc++.h>\n"
        "int main() { std::string s; std::getline(std::cin, s); std::cout << s << '\\n'; }",
        "int main( { }",
        "int main() { return 3; }",
    ),
    "java": SmallPrograms(
        "import java.util.*; class Main { public static void main(String[] a) {"
        " System.out.println(new Scanner(System.in).nextLine()); } }",
        "class Main { int x = ; }",
        "class Main { public static void main(String[] a) { System.exit(3); } }",
    ),
    "kotlin": SmallPrograms(
        "fun main() { println(readLine()) }",
        "fun main( { }",
        "fun main() { kotlin.system.exitProcess(3) }",
    ),
    "scala": SmallPrograms(
        "object Main extends App { println(scala.io.StdIn.readLine()) }",
        "object Main extends { def }",
        "object Main extends App { sys.exit(3) }",
    ),
    "javascript": SmallPrograms(
        'console.log(require("fs").readFileSync("/dev/stdin", "utf8").trim())',
        "let = = 3",
        "process.exit(3)",
    ),
    "typescript": SmallPrograms(
        "declare var require: any;\n"
        'const text: string = require("fs").readFileSync(0, "utf8"); console.log(text.trim())',
        "let let = = ;",
        "declare var process: any; process.exit(3)",
    ),
    "go": SmallPrograms(
        'package main\nimport ("bufio"; "fmt"; "os")\n'
        "func main() { s := bufio.NewScanner(os.Stdin); s.Scan(); fmt.Println(s.Text()) }",
        "package main\nfunc main() { x := 1 }",
        'package main\nimport "os"\nfunc main() { os.Exit(3) }',
    ),
    "php": SmallPrograms("<?php echo fgets(STDIN);", "<?php echo (;", "<?php exit(3);"),
    "ruby": SmallPrograms("puts gets", "def f(", "exit 3"),
    "perl": SmallPrograms("print scalar <STDIN>;", "my $x = ;", "exit 3;"),
    "csharp": SmallPrograms(
        "using System; class P { static void Main() { Console.WriteLine(Console.ReadLine()); } }",
        "class P { static void Main( }",
        "class P { static int Main() { return 3; } }",
    ),
    "rust": SmallPrograms(
        "fn main() { let mut s = String::new(); std::io::stdin().read_line(&mut s).unwrap();"
        ' print!("{}", s); }',
        "fn main() { let x: i32 = ; }",
        "fn main() { std::process::exit(3) }",
    ),
    "bash": SmallPrograms("read -r x; echo $x", "if true; then", "exit 3"),
    "d": SmallPrograms(
        "import std.stdio; void main() { write(readln()); }",
        "void main( { }",
        "int main() { return 3; }",
    ),
    "julia": SmallPrograms("println(readline())", "function f(", "exit(3)"),
    "lua": SmallPrograms("print(io.read())", "local = 3", "os.exit(3)"),
    "r": SmallPrograms(
        'cat(readLines("stdin", n = 1), sep = "\\n")', "f <- function( {", "quit(status = 3)"
    ),
    "racket": SmallPrograms(
        "#lang racket/base\n(displayln (read-line))",
        "#lang racket/base\n(define",
        "#lang racket/base\n(exit 3)",
    ),
    "swift": SmallPrograms("print(readLine()!)", "func f( {", "import Foundation\nexit(3)"),
}

SMALL["typescript-esnext"] = SMALL["typescript"]


@dataclass(frozen=True, slots=True)
class LanguageReport:
    """What one language did here."""

    language: str
    version: str
    """First line that the compiler or interpreter says of itself."""
    faults: tuple[str, ...]
    """What the small programs did wrong; empty if all is well."""
    cpu_s: float
    """Of compiling and running a program that prints one line."""
    wall_s: float
    num_samples: int = 0
    """Published samples that were judged: all there are, or a random part."""
    num_published: int = 0
    measured: float | None = None
    """Percent that ended with exit code 0, as upstream counts."""
    standard_error: float = 0.0
    """Of `measured` for not having judged all samples."""
    num_forged: int = 0
    """Those among them that passed a wrong expected value too."""
    num_loose: int = 0
    """Those among them whose wrong answer the tests' own comparison takes for right."""
    statuses: dict[str, int] = field(default_factory=dict)
    sample_cpu_s: float = 0.0
    """CPU seconds of all samples, without the controls."""

    @property
    def published(self) -> float | None:
        """Percent that upstream measured."""
        return PUBLISHED.get(self.language)


def check_small(sandbox: Sandbox, language: str) -> LanguageReport:
    """Run the small programs of a language, and ask its compiler for the version."""
    programs, row = SMALL[language], LANGUAGES[language]
    faults: list[str] = []

    def run(text: str) -> ProgramRequest:
        return ProgramRequest(language, ((row.file_name, text),), (ECHO_IN,), LIMITS)

    started = time.perf_counter()
    echo = sandbox.run_program(run(programs.echo))
    wall_s = time.perf_counter() - started
    if [outcome.stdout for outcome in echo.runs] != [ECHO_OUT]:
        said = (echo.stderr_tail or echo.detail or echo.stdout_tail).strip().splitlines()
        faults.append(f"does not echo a line ({echo.status}: {' / '.join(said[-3:])[:300]})")
    broken = sandbox.run_program(run(programs.broken))
    if broken.status not in (Status.COMPILE_ERROR, Status.RUNTIME_ERROR):
        faults.append(f"a broken program gave {broken.status}")
    code = sandbox.run_program(run(programs.exits_3)).exit_code
    if code != 3:
        faults.append(f"a program that exits with 3 gave {code}")
    return LanguageReport(
        language, read_version(sandbox, language), tuple(faults), echo.cpu_s, wall_s
    )


def read_version(sandbox: Sandbox, language: str) -> str:
    """What the compiler or interpreter calls itself."""
    script = shlex.join(LANGUAGES[language].version)
    # A shell's address space is bounded by its memory, and a JVM reserves plenty.
    limits = replace(LIMITS, memory_bytes=4 << 30)
    result = sandbox.run_program(ProgramRequest("bash", (("version.sh", script),), limits=limits))
    lines = (result.runs[0].stdout + result.runs[0].stderr_tail).splitlines() if result.runs else []
    return next((line.strip() for line in lines if line.strip()), "unknown")


@dataclass(frozen=True, slots=True)
class Sample:
    """One published sample: a model's program and the tests that judged it."""

    task: str
    program: str
    tests: str


def read_samples(folder: Path, language: str) -> list[Sample]:
    """MBXP's shipped samples of a language.

    Args:
        folder: MBXP's `data/mbxp`, with the problems, and below it `examples`.
        language: Row of `LANGUAGES`.

    Raises:
        FileNotFoundError: The folder lacks a file of this language.
    """
    stem = LANGUAGES[language].published_as
    found = sorted(folder.glob(f"{stem}_release_*.jsonl.gz"))
    if not stem or not found:
        raise FileNotFoundError(f"{folder} has no problems of {language}")
    problems = {problem["task_id"]: problem for problem in read_lines(found[-1])}
    samples = []
    for line in read_lines(folder / "examples" / f"{stem}_samples.jsonl.gz"):
        problem = problems[line["task_id"]]
        program = problem["prompt"] + line["completion"]
        samples.append(Sample(line["task_id"], program, problem["test"]))
    return samples


def read_lines(path: Path) -> Iterator[dict[str, str]]:
    """The objects of a packed file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def judge_samples(
    sandbox: Sandbox,
    language: str,
    samples: list[Sample],
    num_controls: int = 1,
    report: Callable[[Sample, Verdict], None] = lambda sample, verdict: None,
) -> list[Verdict]:
    """Judge every sample, as many at once as the sandbox has slots."""

    def judge(sample: Sample) -> Verdict:
        check = ExitCodeCheck(language, sample.tests, num_controls=num_controls)
        verdict = verify(sandbox, sample.program, check, LIMITS)
        report(sample, verdict)
        return verdict

    with ThreadPoolExecutor(sandbox.num_slots) as threads:
        return list(threads.map(judge, samples))


def add_published(
    report: LanguageReport, verdicts: list[Verdict], num_published: int
) -> LanguageReport:
    """The report with what the published samples gave, counted as upstream counts: exit code 0.

    A sample that this machine failed to judge is no wrong answer: then nothing was measured.
    """
    report = replace(
        report,
        num_samples=len(verdicts),
        num_published=num_published,
        num_forged=sum(verdict.detail.startswith(FORGED) for verdict in verdicts),
        num_loose=sum(verdict.detail.startswith(LOOSE) for verdict in verdicts),
        statuses=dict(Counter(str(verdict.status) for verdict in verdicts)),
        sample_cpu_s=sum(verdict.cpu_s for verdict in verdicts),
    )
    num_lost = report.statuses.get(Status.INFRASTRUCTURE, 0)
    if num_lost:
        fault = f"{num_lost} samples could not be judged (infrastructure)"
        return replace(report, faults=(*report.faults, fault))
    num_passed = sum(verdict.is_passed for verdict in verdicts)
    num_passed += report.num_forged + report.num_loose  # with the tests as they are
    rate, n = num_passed / len(verdicts), len(verdicts)
    # The samples that were left out are the only chance in this: none are left out, no error.
    left_out = (num_published - n) / max(1, num_published - 1)
    error = sqrt(rate * (1 - rate) / n * left_out)
    return replace(report, measured=100 * rate, standard_error=100 * error)


def check_language(
    sandbox: Sandbox,
    language: str,
    folder: Path | None = None,
    num_samples: int | None = None,
    num_controls: int = 1,
) -> LanguageReport:
    """Everything that can be said of one language in one sandbox.

    Args:
        sandbox: One that runs the language.
        language: Row of `LANGUAGES`.
        folder: MBXP's data; without it only the small programs run.
        num_samples: Judge a random part of this size (always the same one); all of them if None.
        num_controls: Extra runs of each sample that passed.
    """
    report = check_small(sandbox, language)
    if folder is None or language not in PUBLISHED or report.faults:
        return report
    samples = read_samples(folder, language)
    chosen = samples
    if num_samples is not None and num_samples < len(samples):
        chosen = Random(0).sample(samples, num_samples)
    verdicts = judge_samples(sandbox, language, chosen, num_controls)
    return add_published(report, verdicts, len(samples))
