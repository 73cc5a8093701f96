"""How programs and projects of each language are compiled and run inside an image: plain tables.

Place in the flow: `commands.py` looks a request's language up here; `images/<image>/Dockerfile`
installs what the commands name. Compilers are candidates' tools: they run in the slot under the
same locks as the program. What it does not do: nothing is installed or started here.

Commands may hold `{file}` (the first file), `{files}` (every file, as arguments of their own),
`{stem}` (the first file's name without its ending) and `{heap_mb}` (the memory limit in MiB).
Compilers are told to be quick, not to optimise much: tests of a benchmark run for milliseconds.
"""

from dataclasses import dataclass

from sdb_sandboxes.types import ResourceLimits

JVM = ("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")
"""Start quickly, one collector thread, no second compiler, no files outside the working folder."""
COMPILER_JVM = (*JVM, "-Xmx512m", "-Xss4m", "-XX:CICompilerCount=1")
COMPILE_LIMITS = ResourceLimits(
    cpu_s=30.0, wall_s=600.0, memory_bytes=2 << 30, output_bytes=1 << 20, file_bytes=64 << 20
)
KOTLIN_LIBRARY = "/opt/kotlin/kotlin-stdlib.jar"
KOTLIN = f"/opt/kotlin/kotlin-compiler.jar:{KOTLIN_LIBRARY}"
SCALA = "/usr/share/scala-2.11/lib"
SCALA_COMPILER = ":".join(
    f"{SCALA}/scala-{name}.jar" for name in ("compiler", "library", "reflect")
)


@dataclass(frozen=True, slots=True)
class Language:
    """What it takes to run one language."""

    image: str
    """Name of the image: `sdbench sandbox build IMAGE` makes it."""
    file_name: str
    """What a program of one file is called."""
    run: tuple[str, ...]
    compile: tuple[str, ...] | None = None
    compiled_codes: tuple[int, ...] = (0,)
    """Exit codes of the compiler after which there is a program to run."""
    num_tasks: int = 0
    """Threads and processes of the runtime itself, on top of `ResourceLimits.num_processes`."""
    is_address_space_bound: bool = True
    """Whether RLIMIT_AS may hold the memory limit. Runtimes that reserve far more addresses than
    memory (JVM, Go, Node) are held by their heap option, RLIMIT_DATA and the control group."""
    version: tuple[str, ...] = ()
    """Prints the compiler's or interpreter's version."""
    environment: tuple[tuple[str, str], ...] = ()
    published_as: str = ""
    """Stem of the sample file whose published pass@1 checks an installation (MBXP)."""
    note: str = ""


LANGUAGES: dict[str, Language] = {
    "python": Language(
        image="py",
        file_name="main.py",
        run=("/usr/bin/python3", "-I", "{file}"),
        version=("/usr/bin/python3", "--version"),
        published_as="mbpp",
        note="forked from the warm interpreter, not started anew",
    ),
    "cpp": Language(
        image="cpp",
        file_name="main.cpp",
        compile=("/usr/bin/g++", "-I/opt/sdbench/cpp", "-O0", "-pipe", "-o", "program", "{file}"),
        run=("./program",),
        num_tasks=8,
        version=("/usr/bin/g++", "--version"),
        published_as="mbcpp",
        note="bits/stdc++.h is compiled into the image: 0.2 s CPU a program instead of 1.1 s",
    ),
    "java": Language(
        image="java",
        file_name="Main.java",
        compile=(
            "/usr/bin/javac",
            *(f"-J{option}" for option in COMPILER_JVM),
            "-J-XX:SharedArchiveFile=/opt/sdbench/javac.jsa",
            *("-proc:none", "-nowarn", "-encoding", "UTF-8", "-d", ".", "{files}"),
        ),
        run=("/usr/bin/java", *JVM, "-Xmx{heap_mb}m", "-ea", "-cp", ".", "{stem}"),
        num_tasks=32,
        is_address_space_bound=False,
        version=("/usr/bin/java", *COMPILER_JVM, "--version"),
        published_as="mbjp",
        note="the class that the first file is named after is run",
    ),
    "kotlin": Language(
        image="kotlin",
        file_name="Main.kt",
        compile=(
            *("/usr/bin/java", *COMPILER_JVM, "-XX:SharedArchiveFile=/opt/sdbench/kotlinc.jsa"),
            *("-cp", KOTLIN, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"),
            *("-no-stdlib", "-no-reflect", "-nowarn", "-cp", KOTLIN_LIBRARY),
            *("-d", ".", "{files}"),
        ),
        run=(
            *("/usr/bin/java", *JVM, "-Xmx{heap_mb}m", "-ea"),
            *("-cp", f".:{KOTLIN_LIBRARY}", "{stem}Kt"),
        ),
        num_tasks=32,
        is_address_space_bound=False,
        version=(
            *("/usr/bin/java", *COMPILER_JVM),
            *("-cp", KOTLIN, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-version"),
        ),
        published_as="mbkp",
        note="top-level main of the first file",
    ),
    "scala": Language(
        image="scala",
        file_name="Main.scala",
        compile=(
            *("/usr/bin/java", *COMPILER_JVM, "-XX:SharedArchiveFile=/opt/sdbench/scalac.jsa"),
            *("-cp", SCALA_COMPILER),
            *("-Dscala.usejavacp=true", "scala.tools.nsc.Main", "-nowarn", "-d", ".", "{files}"),
        ),
        run=(
            *("/usr/bin/java", *JVM, "-Xmx{heap_mb}m"),
            *("-cp", f".:{SCALA}/scala-library.jar", "{stem}"),
        ),
        num_tasks=32,
        is_address_space_bound=False,
        version=(
            *("/usr/bin/java", *COMPILER_JVM),
            *("-cp", SCALA_COMPILER, "scala.tools.nsc.Main", "-version"),
        ),
        published_as="mbscp",
        note="the object that the first file is named after is run; Debian's Scala is 2.11",
    ),
    "javascript": Language(
        image="javascript",
        file_name="main.js",
        run=("/usr/bin/node", "--max-old-space-size={heap_mb}", "{file}"),
        num_tasks=16,
        is_address_space_bound=False,
        version=("/usr/bin/node", "--version"),
        environment=(("NODE_PATH", "/usr/share/nodejs"),),
        published_as="mbjsp",
    ),
    "typescript": Language(
        image="typescript",
        file_name="main.ts",
        compile=(
            *("/usr/bin/node", "/usr/bin/tsc", "--target", "es5", "--lib", "es2016"),
            *("--module", "commonjs", "--outDir", ".", "{files}"),
        ),
        run=("/usr/bin/node", "--max-old-space-size={heap_mb}", "{stem}.js"),
        compiled_codes=(0, 2),
        num_tasks=16,
        is_address_space_bound=False,
        version=("/usr/bin/node", "/usr/bin/tsc", "--version"),
        environment=(("NODE_PATH", "/usr/share/nodejs"),),
        published_as="mbtsp",
        note="type errors alone do not fail a program, as in mxeval; target ES5 as there",
    ),
    "typescript-esnext": Language(
        image="typescript",
        file_name="main.ts",
        compile=(
            *("/usr/bin/node", "/usr/bin/tsc", "--target", "esnext"),
            *("--module", "commonjs", "--outDir", ".", "{files}"),
        ),
        run=("/usr/bin/node", "--max-old-space-size={heap_mb}", "{stem}.js"),
        compiled_codes=(0, 2),
        num_tasks=16,
        is_address_space_bound=False,
        version=("/usr/bin/node", "/usr/bin/tsc", "--version"),
        environment=(("NODE_PATH", "/usr/share/nodejs"),),
        note="as MultiPL-E compiles it: today's JavaScript, where sets and maps can be spread",
    ),
    "go": Language(
        image="go",
        file_name="main.go",
        compile=(
            "/bin/sh",
            "-c",
            'go tool compile -pack -o program.a "$@" && go tool link -o program program.a',
            "sh",
            "{files}",
        ),
        run=("./program",),
        num_tasks=24,
        is_address_space_bound=False,
        version=("/usr/bin/go", "version"),
        environment=(("GOMAXPROCS", "2"), ("GOFLAGS", "-buildvcs=false")),
        published_as="mbgp",
        note="package main of the standard library only; compiled without `go build` and its cache",
    ),
    "php": Language(
        image="php",
        file_name="main.php",
        run=("/usr/bin/php", "-d", "memory_limit={heap_mb}M", "{file}"),
        version=("/usr/bin/php", "--version"),
        published_as="mbphp",
    ),
    "ruby": Language(
        image="ruby",
        file_name="main.rb",
        run=("/usr/bin/ruby", "{file}"),
        num_tasks=4,
        version=("/usr/bin/ruby", "--version"),
        published_as="mbrbp",
    ),
    "perl": Language(
        image="perl",
        file_name="main.pl",
        run=("/usr/bin/perl", "{file}"),
        version=("/usr/bin/perl", "-v"),
        published_as="mbplp",
    ),
    "csharp": Language(
        image="csharp",
        file_name="main.cs",
        compile=(
            *("/usr/bin/mcs", "-nologo", "-langversion:latest", "-out:program.exe"),
            *("-r:/opt/sdbench/CompareNetObjects.dll", "{files}"),
        ),
        run=("/usr/bin/mono", "program.exe"),
        num_tasks=16,
        is_address_space_bound=False,
        version=("/usr/bin/mcs", "--version"),
        environment=(("MONO_PATH", "/opt/sdbench"),),
        published_as="mbcsp",
        note="Mono's compiler, C# 7; CompareNetObjects is a stand-in of ours for MBXP's tests",
    ),
    "rust": Language(
        image="rust",
        file_name="main.rs",
        compile=("/usr/bin/rustc", "-C", "debuginfo=0", "-o", "program", "{file}"),
        run=("./program",),
        num_tasks=8,
        version=("/usr/bin/rustc", "--version"),
        note="no crates",
    ),
    "bash": Language(
        image="bash",
        file_name="main.sh",
        run=("/bin/bash", "{file}"),
        num_tasks=8,
        version=("/bin/bash", "--version"),
    ),
    "d": Language(
        image="d",
        file_name="main.d",
        compile=("/usr/bin/ldc2", "-unittest", "-of=program", "{files}"),
        run=("./program",),
        num_tasks=8,
        version=("/usr/bin/ldc2", "--version"),
        note="unit tests are run before main, as MultiPL-E has it",
    ),
    "julia": Language(
        image="julia",
        file_name="main.jl",
        run=("/usr/bin/julia", "--startup-file=no", "--color=no", "{file}"),
        num_tasks=16,
        is_address_space_bound=False,
        version=("/usr/bin/julia", "--version"),
        environment=(("OPENBLAS_NUM_THREADS", "1"),),
        note="1.5, of Debian's release before: later ones have none",
    ),
    "lua": Language(
        image="lua",
        file_name="main.lua",
        run=("/usr/bin/lua5.4", "{file}"),
        version=("/usr/bin/lua5.4", "-v"),
    ),
    "r": Language(
        image="r",
        file_name="main.r",
        run=("/usr/bin/Rscript", "--vanilla", "{file}"),
        num_tasks=8,
        version=("/usr/bin/Rscript", "--version"),
        environment=(("OPENBLAS_NUM_THREADS", "1"),),
        note="no packages but R's own",
    ),
    "racket": Language(
        image="racket",
        file_name="main.rkt",
        run=("/usr/bin/racket", "{file}"),
        num_tasks=4,
        is_address_space_bound=False,
        version=("/usr/bin/racket", "--version"),
    ),
    "swift": Language(
        image="swift",
        file_name="main.swift",
        compile=(
            *("/usr/bin/swiftc", "-module-cache-path", "/opt/sdbench/swift"),
            # Double's rounded() needs libm, which is linked by itself only behind an import.
            *("-lm", "-o", "program", "{files}"),
        ),
        run=("./program",),
        num_tasks=16,
        version=("/usr/bin/swiftc", "--version"),
        published_as="mbswp",
        note="6.0, of Debian's release after: bookworm has none",
    ),
}
"""Every language, by the name that `ProgramRequest.language` uses."""

RUNNER = ("/usr/bin/python3", "-I", "{file}")
"""`verifiers/project_runner.py`, the first file of every project: it starts the rest as a child."""
JUNIT = ":".join(
    f"/usr/share/java/{name}.jar"
    for name in (
        *("junit-jupiter-api", "junit-jupiter-engine", "junit-jupiter-params"),
        *("junit-platform-commons", "junit-platform-engine", "junit-platform-launcher"),
        *("opentest4j", "apiguardian-api", "assertj-core", "byte-buddy"),
        *("junit-vintage-engine", "junit4", "hamcrest"),
    )
)
RUST_BUILD = """exec 2>&1
read_key() { sed -n "s/^$1 = \\"\\(.*\\)\\"/\\1/p" Cargo.toml; }
name=$(read_key name | tr - _)
edition=$(read_key edition)
set -e -- --edition "${edition:-2015}" -C debuginfo=0 --cap-lints warn
rustc "$@" --crate-type lib --crate-name "$name" -o "lib$name.rlib" src/lib.rs
for test in tests/*.rs; do
    rustc "$@" --test --extern "$name=lib$name.rlib" -o "test_$(basename "$test" .rs)" "$test"
done
"""
"""What `cargo test --tests` does with a library that depends on nothing."""
PROJECTS: dict[str, Language] = {
    "go-test": Language(
        image="go",
        file_name="_runner.py",
        compile=(
            "/bin/sh",
            "-c",
            "exec 2>&1"
            " && go tool compile -lang=go1.18 -p exercise -pack -o exercise.a *.go"
            " && go tool compile -I . -pack -o main.a _main/main.go"
            " && go tool link -L . -o program main.a",
        ),
        run=(*RUNNER, "./program", "-test.v"),
        num_tasks=26,
        is_address_space_bound=False,
        environment=LANGUAGES["go"].environment,
        version=LANGUAGES["go"].version,
        note="as `go test -v` of one package without `go vet`; main calls testing.Main",
    ),
    "cpp-catch2": Language(
        image="cpp",
        file_name="_runner.py",
        compile=(
            "/bin/sh",
            "-c",
            "exec g++ -std=c++17 -O0 -pipe -Wall -Wextra -Wpedantic -Werror -pthread"
            " -DEXERCISM_TEST_SUITE -DEXERCISM_RUN_ALL_TESTS"
            " -o program *.cpp /opt/sdbench/cpp/catch_main.o 2>&1",
        ),
        run=(*RUNNER, "./program"),
        num_tasks=10,
        version=LANGUAGES["cpp"].version,
        note="Catch 2.13; warnings are errors, as Exercism's CMakeLists.txt has it",
    ),
    "javascript-jest": Language(
        image="javascript",
        file_name="_runner.py",
        run=(
            *(*RUNNER, "/usr/bin/node", "--max-old-space-size={heap_mb}", "--no-warnings"),
            *("--loader", "./_jest_like.mjs", "_main.mjs"),
        ),
        num_tasks=18,
        is_address_space_bound=False,
        version=LANGUAGES["javascript"].version,
        note="a stand-in of ours for Jest, see verifiers/jest_like.mjs",
    ),
    "rust-test": Language(
        image="rust",
        file_name="_runner.py",
        compile=("/bin/sh", "-c", RUST_BUILD),
        run=(
            *(*RUNNER, "/bin/sh", "-c"),
            "code=0; for test in test_*; do ./$test --include-ignored || code=$?; done; exit $code",
        ),
        num_tasks=16,
        version=LANGUAGES["rust"].version,
        note="as `cargo test` of a library without dependencies runs tests/*.rs; no doctests",
    ),
    "java-junit": Language(
        image="java",
        file_name="_runner.py",
        compile=(
            *("/bin/sh", "-c", 'exec "$@" $(find . -name "*.java") 2>&1', "sh"),
            *("/usr/bin/javac", *(f"-J{option}" for option in COMPILER_JVM)),
            *("-J-XX:SharedArchiveFile=/opt/sdbench/javac.jsa", "-proc:none", "-nowarn"),
            *("-encoding", "UTF-8", "-d", ".", "-cp", JUNIT),
        ),
        run=(
            *(*RUNNER, "/usr/bin/java", *JVM, "-Xmx{heap_mb}m", "-ea"),
            *("-Djava.io.tmpdir=.", "-cp", f".:{JUNIT}", "JUnitRunner"),
        ),
        num_tasks=34,
        is_address_space_bound=False,
        version=LANGUAGES["java"].version,
        note="JUnit 5.9 and 4.13, AssertJ 3.14",
    ),
}
"""How a project of several files is compiled with its tests and run, by the name that
`SuiteCheck.language` uses. Same images, same limits as above."""


def find_language(name: str) -> Language:
    """The row of a language or of a kind of project. Raises ValueError for any other name."""
    row = LANGUAGES.get(name) or PROJECTS.get(name)
    if row is None:
        known = ", ".join((*LANGUAGES, *PROJECTS))
        raise ValueError(f"language {name!r} is unknown; use one of {known}")
    return row


def list_languages(image: str) -> tuple[str, ...]:
    """What an image runs: Python, for the agent, the shell, its own languages and projects."""
    every = ("python", "bash")
    rows = (LANGUAGES | PROJECTS).items()
    return (*every, *(name for name, row in rows if row.image == image and name not in every))
