"""MultiPL-E: HumanEval and MBPP translated into 18 languages.

Place in the flow: `load` -> `Benchmark`. Source: Cassano et al. 2022 (arXiv 2208.08227), data of
nuprl/MultiPL-E. Options: `set` (`humaneval`, the default, or `mbpp`) and `language` (one or several
joined by `+`; all if not given). Program = prompt + completion + newline + tests, stop strings as
the data names them, judged by exit code (L1, with a negative control of ours).

The SHA-256 of a file is over what is used of it (name, prompt, tests and stop strings of each
problem), so copies from the hub and from SandboxFusion are recognised alike.

What is put in place of upstream's tools, so that an exit code tells the truth:
- Go: tests of package `testing` are called from a `main` of ours instead of by `go test`.
- C#: `Debug.Assert`, which Mono ignores, is a class of ours that throws.
- Java: javatuples are classes of ours in the same file (`Pair` to `Quintet`).
- Racket: a failed check is raised; rackunit prints it and leaves with 0, so upstream reads stderr.
Limits are 15 seconds of CPU time for every language; upstream's are wall time, 5 to 30 seconds.
The data's licence forbids training on it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sdb_harness.benchmarks import Benchmark, ChatMessage, whole_answers
from sdb_harness.benchmarks.choices import check_options, choose_names, choose_one
from sdb_harness.benchmarks.data_files import describe_mismatch, read_json_lines
from sdb_harness.benchmarks.mxeval import (
    EXITS,
    ask_chat_after,
    ask_chat_briefly,
    take_first_code,
)
from sdb_harness.benchmarks.protocols import (
    SCRIPT,
    Preset,
    ask_as_is,
    ask_stripped,
    keep_all,
    spread_wordings,
)
from sdb_harness.errors import UserError
from sdb_harness.extract import cut_at_stops
from sdb_harness.records import Problem
from sdb_sandboxes.types import ExitCodeCheck, ResourceLimits

LIMITS = ResourceLimits(cpu_s=15.0, wall_s=120.0)

ENDINGS = {
    **{"cpp": "cpp", "csharp": "cs", "d": "d", "go": "go", "java": "java", "julia": "jl"},
    **{"javascript": "js", "lua": "lua", "php": "php", "perl": "pl", "r": "r", "ruby": "rb"},
    **{"racket": "rkt", "rust": "rs", "scala": "scala", "bash": "sh", "swift": "swift"},
    "typescript": "ts",
}
"""Language -> what upstream's files call it."""
RUNS_AS = {"typescript": "typescript-esnext"}
"""Language -> row of `LANGUAGES`, where another one than its own: upstream compiles for ESNext."""
FILE_NAMES = {"java": "Problem.java", "scala": "Problem.scala"}
"""What a program is called where it is called after its class."""
SETS: dict[str, dict[str, str]] = {
    "humaneval": {
        "cpp": "9530fe4030d1d9bcdcc6ff6dd0ec89896d561116d416d4c4707302572821d5a6",
        "csharp": "ed632af5a8d4d235ab1c7ac67dc69457cc91ba9f57719b39fbcd29d895d93a7a",
        "d": "ff37f0952afd9011f46232398af411061acfbb3e7043f521e1b007081768884e",
        "go": "d654a5f35fe1918f284520706df1e3609f2bc9ebb1f533898f2ed34d21f94968",
        "java": "6e72228c1714f06453c7ac1b117ca7757f7d4e07578bfeb163e60642cad1c5aa",
        "julia": "9423b3092631788d388f5d8bbe8eaa7efbb34a228182f1042ca0e3facb0b0a7e",
        "javascript": "46aa9fdeab85d63aaea5bb3b6ed8a7022984d81cbd88f1c485e7d12ad86a7057",
        "lua": "60fa3763d1bb2aba42187222af99d0d853728deb25c94f81d44f082712d53b55",
        "php": "143255b625fe3487d9691667d7597894b11a4f9f16734156962c1be2055f5625",
        "perl": "a4e13c0cb4b372dfba0faa539dc5bb140903c84f49887e9d159904f7432a5fee",
        "r": "c821213af2ebaca74bcbccbcb750da46713ece12cafe51f553a61bf90b8dd5b4",
        "ruby": "e8fd1f8ecc1017b980d83dc1d8152f0c9eba9a2af55f2b31f848447e34eae144",
        "racket": "3259552d64e310d85f9be5e79dfdeb56895e619639614f380ceb7c9ce58ce8d1",
        "rust": "1f9e2de89846608ca8014cfa28114b4ced48751ac92ed40f36d07e63c5d9e3c5",
        "scala": "3009df164b2ff643307e7498e8e1b2e775c796a1c942a97916d8a279a8871353",
        "bash": "0ff37252645d88568c8186b48b8557e3f13bfe715e73019a35a9ec27792df0e4",
        "swift": "37024d6c59b9110b5b723d443f26368258c5011343d82dbd28fba643b335d788",
        "typescript": "07a21a056d3f95ee240b316391b7abc53892358149acbcaa44031e386e9ea0aa",
    },
    "mbpp": {
        "cpp": "7ee66cc119c1e53299640c80828cec8b0ca93660b1a5899700800c68543b2fe6",
        "csharp": "7bcb76194ac5e59cb13ad95ec28cfdf9c61a1739b2506bbad1c4f75797a9e700",
        "d": "284d0302941fb05d611c5b698538968e155a4442965cc68a623cbd0c5fba31db",
        "go": "81600c4990e31f88dc8cd2dac071c73410bd3f91a3345f898830c909e57ab0bb",
        "java": "7360cf1005e65847a475b39801785c9cd2bf9a807d851b76ac2a13fc112a5e75",
        "julia": "f3fa69f6ff4bcfe64a2b24fa6eebf65e1f6474cccac0e28e642622a41a8f7eb1",
        "javascript": "66e925fd08613f8c2c636e300a9313b2f232d042f8005af863645e7299ca6d21",
        "lua": "3f2bd8cf33f41b52fae6ec791c5197cbd0dfb519678075ed29c7a669f0f25a52",
        "php": "6af4039632496340b5282092403e05502aa95f0d057a5c6c1cd68673047dff03",
        "perl": "e364a166f03c33e101fb00f9dd3bbc3490662cbaca23470ee61e632df4634896",
        "r": "7f75228bde7f6103b47da35221031f28a46a4c69817c6fe687c3a0a0c78ab56b",
        "ruby": "ff974531fed61664c1b504e75a582a39157b80436fbe56e2d00e32577720db03",
        "racket": "23be632b241755765689bef8a2320a3f3f18809a926b2edcf05ea67e277a02b1",
        "rust": "b19af015894c54edbb28ef85374f47fc0bcf18cb3241e68659a705ad47b38cef",
        "scala": "320a604c95311fcdbdb34a72d381447983d4016a4541ba014fb1bc2e44a59f43",
        "bash": "26892f829a760733a98871b90d1e4ba245ea4ac6a30d2fc12f478362b19c3a2c",
        "swift": "9b787c381855d48390ac6d10536706cd697219698644d0ca0dece1eefc21f829",
        "typescript": "790ca45820e70a3087a48dcebd62da02f00cb6f468d2585d68867cc1b90fd768",
    },
}
"""Set -> language -> SHA-256 of its content, see the module's docstring."""


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the problems of one set in the chosen languages.

    Args:
        options: `set` and `language`, see the module's docstring.

    Raises:
        UserError: an unknown option, set or language, or a file that is missing or damaged.
    """
    check_options("multipl_e", options, ("set", "language"))
    chosen_set = choose_one("multipl_e", options, "set", SETS)
    languages = choose_names("multipl_e", options, "language", ENDINGS)
    problems: list[Problem] = []
    samples: dict[str, list[tuple[str, str]]] = {}
    for language in languages:
        rows = read_rows(chosen_set, language)
        found = [make_problem(row, language) for row in rows]
        problems += found
        samples[language] = read_samples(rows, found)
    hashes = {language: SETS[chosen_set][language] for language in languages}
    return Benchmark(
        name="multipl_e",
        revision=hashlib.sha256(json.dumps(hashes).encode()).hexdigest(),
        problems=tuple(problems),
        protocols=PROTOCOLS,
        licence="BSD-3-Clause with a machine learning restriction (no training on it)",
        citation="Cassano et al., MultiPL-E, arXiv 2208.08227",
        limits=LIMITS,
        version=f"{chosen_set}, reworded",
        split="+".join(languages),
        is_multilingual=True,
        write_cheat=write_cheat,
        read_samples=samples.__getitem__,
        faults={
            problem.problem_id: "its tests compare lists or maps by reference: none ever passes"
            for problem in problems
            if isinstance(problem.check, ExitCodeCheck)
            and BY_REFERENCE.search(problem.check.tests)
            and problem.group == "csharp"
        },
    )


BY_REFERENCE = re.compile(r"\.Equals\(\(new (?:List|Dictionary)<")


def read_samples(
    rows: Sequence[Mapping[str, Any]], problems: Sequence[Problem]
) -> list[tuple[str, str]]:
    """A model's chat answers, which SandboxFusion ships with its copy of the data, as programs.

    Nobody published how many of them pass. They show whether whole answers compile here at all.
    """
    return [
        (problem.problem_id, PROTOCOLS["chat"].extract(problem, row["gpt_solution"])[0])
        for row, problem in zip(rows, problems, strict=True)
        if row.get("gpt_solution")
    ]


def read_rows(chosen_set: str, language: str) -> list[dict[str, Any]]:
    """The rows of one file. Raises UserError if it is missing or has other content."""
    name = f"{chosen_set}-{ENDINGS[language]}"
    remedy = (
        f'fetch it once: pip install datasets; python -c "import datasets; datasets.load_dataset('
        f"'nuprl/MultiPL-E', '{name}', split='test').to_json('multipl_e/{name}.jsonl')\""
    )
    path, rows = read_json_lines(f"multipl_e/{name}.jsonl", remedy)
    digest = hashlib.sha256()
    try:
        for row in rows:
            used = [row["name"], row["prompt"], row["tests"], row["stop_tokens"]]
            digest.update(json.dumps(used, separators=(",", ":")).encode() + b"\n")
    except KeyError as error:
        raise UserError(f"{path}: a row lacks {error}; {remedy}") from None
    if digest.hexdigest() != SETS[chosen_set][language]:
        pinned = SETS[chosen_set][language]
        raise UserError(describe_mismatch(str(path), digest.hexdigest(), pinned, remedy))
    return rows


def make_problem(row: Mapping[str, Any], language: str) -> Problem:
    """Turn one row into a problem whose group is its language."""
    return Problem(
        problem_id=f"{language}/{row['name']}",
        prompt=row["prompt"],
        reference="",
        entry_point="",
        check=ExitCodeCheck(
            RUNS_AS.get(language, language),
            "\n" + adapt_tests(row["tests"], language),
            FILE_NAMES.get(language, ""),
        ),
        group=language,
        stop=tuple(row["stop_tokens"]),
    )


GO_MAIN = """
func main() {{
	testing.Main(
		func(string, string) (bool, error) {{ return true, nil }},
		[]testing.InternalTest{{{{Name: "{name}", F: {name}}}}}, nil, nil)
}}
"""
CSHARP_DEBUG = """
class Debug {
    public static void Assert(bool holds) { if (!holds) throw new System.Exception("wrong"); }
}
"""
RACKUNIT = "(require rackunit)"


def adapt_tests(tests: str, language: str) -> str:
    """The tests with what stands for upstream's tools."""
    if language == "go":
        found = re.search(r"func (Test\w+)\(", tests)
        return tests + GO_MAIN.format(name=found[1]) if found else tests
    if language == "csharp":
        return tests + CSHARP_DEBUG
    if language == "racket":
        return tests.replace(RACKUNIT, f"{RACKUNIT}\n(current-check-handler raise)", 1)
    if language == "java":
        return tests + "".join(write_tuple(name, size) for name, size in TUPLES.items())
    return tests


TUPLES = {"Pair": 2, "Triplet": 3, "Quartet": 4, "Quintet": 5}


def write_tuple(name: str, size: int) -> str:
    """A class that stands for one of javatuples: values, `with`, getters, equality, text."""
    kinds = ", ".join("ABCDE"[:size])
    fields = " ".join(f"private final {kind} item{i};" for i, kind in enumerate("ABCDE"[:size]))
    takes = ", ".join(f"{kind} item{i}" for i, kind in enumerate("ABCDE"[:size]))
    values = ", ".join(f"item{i}" for i in range(size))
    stores = " ".join(f"this.item{i} = item{i};" for i in range(size))
    getters = " ".join(
        f"public {kind} getValue{i}() {{ return item{i}; }}"
        for i, kind in enumerate("ABCDE"[:size])
    )
    setters = " ".join(
        f"public <X> {name}<{kinds.replace(kind, 'X')}> setAt{i}(X x) {{ return new {name}<>("
        f"{values.replace(f'item{i}', 'x')}); }}"
        for i, kind in enumerate("ABCDE"[:size])
    )
    return f"""
class {name}<{kinds}> {{
    {fields}
    public {name}({takes}) {{ {stores} }}
    public static <{kinds}> {name}<{kinds}> with({takes}) {{ return new {name}<>({values}); }}
    {getters}
    {setters}
    public Object getValue(int i) {{ return toList().get(i); }}
    public boolean contains(Object x) {{ return toList().contains(x); }}
    public java.util.List<Object> toList() {{ return java.util.Arrays.asList({values}); }}
    public boolean equals(Object x) {{
        return x instanceof {name} && toList().equals((({name}<?{", ?" * (size - 1)}>) x).toList());
    }}
    public int hashCode() {{ return toList().hashCode(); }}
    public String toString() {{ return toList().toString(); }}
}}
"""


def choose_stop(problem: Problem) -> tuple[str, ...]:
    """The data's own stop strings."""
    return problem.stop


def choose_bigcode_stop(problem: Problem) -> tuple[str, ...]:
    """The data's, and the mark between files that bigcode's models were trained with."""
    return (*problem.stop, "<file_sep>")


def continue_stripped(problem: Problem, code: str) -> str:
    """Stripped prompt and completion."""
    return replace_tools(problem, problem.prompt.strip() + code)


def continue_prompt(problem: Problem, code: str) -> str:
    """Prompt and completion."""
    return replace_tools(problem, problem.prompt + code)


def replace_tools(problem: Problem, program: str) -> str:
    """The program without the package and the import that belong to upstream's tools."""
    if problem.group == "go":
        return re.sub(r"\Apackage \w+", "package main", program)
    if problem.group == "java":
        return re.sub(r"^import org\.javatuples\.[\w*]+;\n", "", program, flags=re.MULTILINE)
    return program


BODY_ENDS = {
    **dict.fromkeys(("go", "javascript", "typescript", "php", "perl", "r"), "\n}"),
    **dict.fromkeys(("ruby", "julia", "lua"), "\nend"),
}
"""Language -> what ends a function that the tests do not end themselves."""
MORE_EXITS = {
    "d": "{\n    import core.stdc.stdlib;\n    exit(0);\n    assert(0);\n}",
    "julia": "    exit(0)",
    "lua": "    lu.assertEquals = function() end",
    "r": "    quit(status = 0)",
    "racket": "  (exit 0))",
    "rust": "    std::process::exit(0);",
}
"""As `EXITS`, of languages that MBXP lacks; LuaUnit takes an exit for a failure."""


def write_cheat(problem: Problem) -> str | None:
    """The prompt with a body that ends the process in the first test."""
    body = (EXITS | MORE_EXITS).get(problem.group)
    if body is None:
        return None
    return continue_prompt(problem, body + BODY_ENDS.get(problem.group, ""))


CLASSES = frozenset({"csharp", "java", "scala"})
"""Languages whose tests go on inside the class of the answer."""


def put_before_tests(problem: Problem, code: str) -> str:
    """A whole answer in front of the tests, open where they go on inside it."""
    language = problem.group
    whole = whole_answers.put_before_tests(
        code,
        language,
        problem.prompt,
        num_classes=int(language in CLASSES),
        opens_function=language in whole_answers.EMPTY_FUNCTIONS,
    )
    return replace_tools(problem, whole)


def ask_chat(problem: Problem) -> tuple[ChatMessage, ...]:
    """One user turn in the words of SandboxFusion's set `multiple`."""
    name = "js" if problem.group == "javascript" else problem.group
    text = (
        f"```{name}\n{problem.prompt}\n```\n\nPlease complete the above code according to the "
        "requirements in the docstring. Write the complete code and wrap it in markdown syntax. "
        "The code should not contain `Main` function."
    )
    return (ChatMessage("user", text),)


_CHAT = Preset(
    source="The chat prompt of SandboxFusion; the first code block in front of the tests.",
    ask=ask_chat,
    stop=(),
    find_code=take_first_code,
    assemble=put_before_tests,
    version=3,
)
_BASE = Preset(
    source="MultiPL-E: the prompt as it is; 20 samples (200 in the paper), temperature 0.2, "
    "top-p 0.95.",
    ask=ask_as_is,
    stop=(),
    stop_of=choose_stop,
    find_code=cut_at_stops,
    assemble=continue_prompt,
)
PROTOCOLS: Mapping[str, Preset] = {
    "base": _BASE,
    "as-is": Preset(
        source="The completion of a sample file as it stands, never cut. For replayed files.",
        ask=ask_as_is,
        stop=(),
        find_code=keep_all,
        assemble=continue_prompt,
    ),
    "script": replace(SCRIPT, assemble=replace_tools),
    **spread_wordings("chat", _CHAT, ask_chat_briefly, ask_chat_after),
    "paper": replace(
        _BASE,
        source="Cassano et al.: the steps of `base`; 200 samples, temperature 0.2 for pass@1 and "
        "0.8 for pass@10 and pass@100, top-p 0.95.",
    ),
    "bigcode": replace(
        _BASE,
        source="bigcode-evaluation-harness `multiple-LANGUAGE`, set=humaneval: the prompt "
        "stripped; temperature 0.2, top-p 0.95, 50 samples on its leaderboard.",
        ask=ask_stripped,
        stop_of=choose_bigcode_stop,
        assemble=continue_stripped,
    ),
}
