"""MBXP: MBPP in 13 languages, 848 to 974 problems each.

Place in the flow: `load` -> `Benchmark`; form, judging and presets are mxeval's, see `mxeval.py`.
Option `language`: one or several joined by `+`; all 13 if not given, scored one by one and as their
plain mean. mxeval ships a model sample for each problem, and the pass@1 that its authors measured;
`sdbench benchmarks verify mbxp --samples all` judges them here, so a missing module shows.

The Seed reports take their Python entry from EvalPlus instead (MBPP base tests, 399 problems): use
`mbpp_plus` for that one. mxeval's few-shot prompts are not rebuilt.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from sdb_harness.benchmarks import Benchmark
from sdb_harness.benchmarks.data_files import DataFile, read_rows
from sdb_harness.benchmarks.mxeval import describe_file, load_languages

_describe = partial(describe_file, "mbxp")
FILES: dict[str, DataFile] = {
    "python": _describe(
        "mbpp_release_v1",
        "2ea7949f20ed5ecaacf4c9970d29430ec3f13772f4dd379665b1234f14b0ec3e",
    ),
    "java": _describe(
        "mbjp_release_v1.2",
        "139a0fcdff2f4c6d456c546c82f43a1f389dfe3125f5f2c3f6a12f478483dffd",
    ),
    "javascript": _describe(
        "mbjsp_release_v1.2",
        "9e443a1911bcedd8b5193f43d3217666fbf669cd00d54265941a8eb17e396f5a",
    ),
    "typescript": _describe(
        "mbtsp_release_v1.2",
        "7c4fbf66cd8189d5f3f6a78ce201782571d083a1d89ee3730c0235317d44d769",
    ),
    "kotlin": _describe(
        "mbkp_release_v1.2",
        "54969bac04fddaad74f78b7aa591348d3f010af2b2325f3db0e5a4f9b9154367",
    ),
    "ruby": _describe(
        "mbrbp_release_v1.2",
        "fe8c043b7d56f5d122c6aaf24e1dcb78816175a0687a73c03873043a6349b85d",
    ),
    "php": _describe(
        "mbphp_release_v1.2",
        "aec706039e49bc1bd1c9aaf4cf4815a34777b8387bdc59c1b274312071f3a605",
    ),
    "cpp": _describe(
        "mbcpp_release_v1.2",
        "34a842515927e230eb2bd6e409a44c80a852b0afcbe1172786bd08cfef8b85b0",
    ),
    "csharp": _describe(
        "mbcsp_release_v1.2",
        "e11db33a6c5582a5c8d548ef75a23f0307540a765f889dcd2b7d13e99ea538e4",
    ),
    "go": _describe(
        "mbgp_release_v1.1",
        "90f519222a4c45bdbed8309076433d2f573c6f37329a848581fa789839b67da8",
    ),
    "perl": _describe(
        "mbplp_release_v1",
        "1293f40e442bda81f1d39ab3769ab8136dfc823f7b41420294c1a1d3bf1d2b2f",
    ),
    "scala": _describe(
        "mbscp_release_v1",
        "e690daa347855a0da4fcd0652894b1db4e6a561c24e9824c40c629158ed94bec",
    ),
    "swift": _describe(
        "mbswp_release_v1",
        "b390ee15df6170386e5f5771f227ef4df3ea7eb994b09d39ecec888e77daefc9",
    ),
}
SAMPLES: dict[str, DataFile] = {
    "python": _describe(
        "examples/mbpp_samples",
        "6100a93b357de042d8306bf1553e9ef53e1622fa1249450a6cfeddfae750673c",
    ),
    "java": _describe(
        "examples/mbjp_samples",
        "69bcefe6eae02822ef8cfde9bdc0d09bcdbf9db667b6f048a595f046c6d6a568",
    ),
    "javascript": _describe(
        "examples/mbjsp_samples",
        "384fa2f33c1a9fa08d658a29580267a383cb2256b62659bcb32c9d735f17485a",
    ),
    "typescript": _describe(
        "examples/mbtsp_samples",
        "000d26575b4eb8bf80e765f54bdabee864998e306acfd8f1c5c48276d2d2e829",
    ),
    "kotlin": _describe(
        "examples/mbkp_samples",
        "0941509a024472dc172dd4ee3459291877145511790da0d88ee1052ac01e2b12",
    ),
    "ruby": _describe(
        "examples/mbrbp_samples",
        "51175c39f2d6e5466a5416177e43fd02c7a6c45036dec3364e7feb634cfba5d0",
    ),
    "php": _describe(
        "examples/mbphp_samples",
        "4f7aefb8daf40f37feea9e364659706bdd18f1db84795e5f30f6869d7872fee0",
    ),
    "cpp": _describe(
        "examples/mbcpp_samples",
        "784baf49d8201e445ad7b9992562009f061e5c155a6c09387ab253d081ac7532",
    ),
    "csharp": _describe(
        "examples/mbcsp_samples",
        "025612c6ecaefa28dd2460c1215a961134446428cf05e4397ede3f47aec18958",
    ),
    "go": _describe(
        "examples/mbgp_samples",
        "2f5cd7c751d5c77393585c9237bacad4dc5ff909952d0aa09ded0a76065f2237",
    ),
    "perl": _describe(
        "examples/mbplp_samples",
        "df82138dbc3617921ac33b95363cd55f51572e959984e0831d0dbd2c2f272472",
    ),
    "scala": _describe(
        "examples/mbscp_samples",
        "eb275777dc72edb179bcef4db4132d06c95aa41be54629c08255afa4b10fd5a4",
    ),
    "swift": _describe(
        "examples/mbswp_samples",
        "2702f9f0d12983e978a02fdc1e4c62db1fc785ac177d3a9a3fa40e7cee467e22",
    ),
}
PUBLISHED = {
    "python": 82.24,
    "java": 85.30,
    "javascript": 78.67,
    "typescript": 87.29,
    "kotlin": 63.77,
    "ruby": 58.90,
    "php": 72.77,
    "cpp": 79.60,
    "csharp": 63.63,
    "go": 39.19,
    "perl": 38.41,
    "scala": 42.96,
    "swift": 29.40,
}
"""Pass@1 of the shipped samples in percent, from upstream's README."""

FAULTS = {
    **dict.fromkeys(("MBPP/64", "MBPP/966"), "prompt and reference are indented differently"),
    **dict.fromkeys(
        ("MBPP/367", "MBPP/601", "MBPP/927"), "the tests use a name that nothing defines"
    ),
    **dict.fromkeys(
        ("MBPP/160", "MBPP/596", "MBPP/607", "MBPP/631", "MBPP/642"),
        "the reference fails the tests under plain Python 3.11 too",
    ),
}
"""Python problems whose own data are broken."""


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the problems of the chosen languages.

    Args:
        options: `language`, see the module's docstring.

    Raises:
        UserError: an unknown option or language, or a file that is missing or damaged.
    """
    benchmark = load_languages("mbxp", options, FILES, "CC BY 4.0")
    by_id = {problem.problem_id: problem for problem in benchmark.problems}
    languages = list(dict.fromkeys(problem.group for problem in benchmark.problems))

    def read_samples(language: str) -> list[tuple[str, str]]:
        rows = read_rows(SAMPLES[language])
        return [(row["task_id"], by_id[row["task_id"]].prompt + row["completion"]) for row in rows]

    return replace(
        benchmark,
        published={language: PUBLISHED[language] for language in languages},
        read_samples=read_samples,
        faults=FAULTS if "python" in languages else {},
    )
