"""Multilingual HumanEval: HumanEval in 12 languages, 160 to 164 problems each.

Place in the flow: `load` -> `Benchmark`; form, judging and presets are mxeval's, see `mxeval.py`.
Option `language`: one or several joined by `+`; all 12 if not given.
"""

from collections.abc import Mapping
from functools import partial

from sdb_harness.benchmarks import Benchmark
from sdb_harness.benchmarks.data_files import DataFile
from sdb_harness.benchmarks.mxeval import describe_file, load_languages

_describe = partial(describe_file, "multilingual_humaneval")
FILES: dict[str, DataFile] = {
    "python": _describe(
        "HumanEval",
        "ee8ed1495a18a21d3c285c031d38940e3208f1616dc386a32a8d28e968fe94d8",
    ),
    "csharp": _describe(
        "HumanEval_csharp_v1",
        "fd8b4981c4ae4daadbe06f082cf0ef91b060851bf715faa461d0db23d20a2364",
    ),
    "go": _describe(
        "HumanEval_go_v1",
        "b3797a20b951627d67dec749cc1954e4a151cf0096d1649f96d62597a76a47af",
    ),
    "java": _describe(
        "HumanEval_java_v1.1",
        "2373bd083b7be445a5273add8a932e0fea3d1e3c1a59d55beba369e90e5d0d02",
    ),
    "javascript": _describe(
        "HumanEval_javascript_v1.1",
        "cbd4421a18387fcf791a047e2904e1ff8287b11fede50a7fb5e3cd3814cb1653",
    ),
    "kotlin": _describe(
        "HumanEval_kotlin_v1.1",
        "1324d829effc94e0cb603be8833537f00b5597fcd152fe2d06b623e622feb458",
    ),
    "perl": _describe(
        "HumanEval_perl_v1.1",
        "2d084582af233b5a0eeac1670c9e577915f61852dc974348e87f39425b031981",
    ),
    "php": _describe(
        "HumanEval_php_v1.1",
        "f1ef51aec5418c01bef60177ea3e3c907bcf55528c77e33a1ebbe83f739a67f5",
    ),
    "ruby": _describe(
        "HumanEval_ruby_v1.1",
        "08562903613e277d36eb4d3d793c90ce2191ac9ccac96f1ff31d1550134be880",
    ),
    "scala": _describe(
        "HumanEval_scala_v1.1",
        "8fcd9ab950dfcd293d1acfd1d26f31b84e554926765a22c1375c6a0ffa82413b",
    ),
    "swift": _describe(
        "HumanEval_swift_v1.1",
        "b0de1f4a223d9830c9ffc34eb313aa0a54d5565a6b71b2f88cab67f6db8ccfe0",
    ),
    "typescript": _describe(
        "HumanEval_typescript_v1",
        "6039fe3b75bd1670702bab22ebb21b8c29ac29fa91211d7d9e59b13ae581b7a7",
    ),
}


def load(options: Mapping[str, str]) -> Benchmark:
    """Read the problems of the chosen languages.

    Args:
        options: `language`, see the module's docstring.

    Raises:
        UserError: an unknown option or language, or a file that is missing or damaged.
    """
    return load_languages("multilingual_humaneval", options, FILES, "MIT")
