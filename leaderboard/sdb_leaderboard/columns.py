"""The columns of the page's table: label, definition, and how a value is printed.

Place in the flow: `page.py` prints the table and the list of definitions from this one tuple.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from sdb_leaderboard.table import GROUP_PREFIX, PASS_AT_K, format_policy

Line = pd.Series


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `key` gives the value that is sorted by, `write` the text."""

    key: str
    label: str
    definition: str
    write: Callable[[Line], str]


def _number(key: str, spec: str) -> Callable[[Line], str]:
    return lambda line: _format(line[key], spec)


def _pair(first: str, second: str, spec: str) -> Callable[[Line], str]:
    return lambda line: f"{_format(line[first], spec)} / {_format(line[second], spec)}"


def _text(key: str) -> Callable[[Line], str]:
    return lambda line: str(line[key])


def _format(value: float, spec: str) -> str:
    return "-" if math.isnan(value) else format(value, spec)


def _write_standing(line: Line) -> str:
    if not line["is_ranked"]:
        return "no speed" if line["is_complete"] else "incomplete"
    mark = "● " if line["is_on_frontier"] else ""
    return f"{mark}{line['inclusion_probability']:.0%}"


def _write_interval(key: str) -> Callable[[Line], str]:
    def write(line: Line) -> str:
        if math.isnan(line[key]):
            return "-"
        mean, low, high = (100 * line[f"{key}{end}"] for end in ("", "_low", "_high"))
        return f"{mean:.1f} [{low:.1f}, {high:.1f}]"

    return write


def _write_speed(line: Line) -> str:
    low, high = _format(line["tok_s_user_p10"], ".0f"), _format(line["tok_s_user_p90"], ".0f")
    return f"{_format(line['tok_s_user'], '.1f')} ({low} to {high})"


def _write_forwards(line: Line) -> str:
    keys = ("nfe_prefill_mean", "nfe_denoise_mean", "nfe_commit_mean")
    return " / ".join(_format(line[key], ".1f") for key in keys)


COLUMNS = (
    Column(
        "inclusion_probability",
        "Frontier",
        "● marks the observed frontier; the percentage is the share of paired bootstrap draws over "
        "problems in which the configuration is on it. Incomplete ones and those without a speed "
        "are not ranked.",
        _write_standing,
    ),
    Column(
        "pass_at_1",
        "pass@1 %, 95 % CI",
        "Mean over problems of the share of samples that pass. Wilson interval at the effective "
        "sample size from the variance between problems.",
        _write_interval("pass_at_1"),
    ),
    Column(
        "tok_s_user",
        "tokens/s/user",
        "Output tokens over wall time from submission to the last commit, of each sample: median, "
        "in brackets the 10th to 90th percentile. The median is the drawn speed. An empty answer "
        "counts as 0.",
        _write_speed,
    ),
    Column(
        "speed_vs_baseline",
        "vs baseline",
        "Median speed over that of the best autoregressive configuration of this view. "
        "It says nothing about quality, nor about how much text a token is.",
        _number("speed_vs_baseline", ".2f"),
    ),
    Column("block_size", "Block", "Tokens in one diffusion block.", _number("block_size", ".0f")),
    Column(
        "threshold",
        "Commit policy",
        "A probability threshold, a fixed number of denoising steps per block, or another's name.",
        lambda line: format_policy(line["threshold"], line["num_steps"], line["policy"]),
    ),
    Column(
        "tokens_per_forward",
        "Tokens/forward",
        "All output tokens over all forwards except the prefill (denoise and commit).",
        _number("tokens_per_forward", ".2f"),
    ),
    Column(
        "nfe_denoise_mean",
        "Forwards",
        "Model forwards per sample by kind: prefill / denoise / commit. For an autoregressive "
        "model the decoding forwards stand under denoise.",
        _write_forwards,
    ),
    Column(
        "first_block_s_p50",
        "First block s",
        "Seconds until the first block, or first token, is final: 50th / 90th percentile.",
        _pair("first_block_s_p50", "first_block_s_p90", ".3f"),
    ),
    Column(
        "e2e_s_p50",
        "End to end s",
        "Seconds from submission to the last commit: 50th / 90th percentile.",
        _pair("e2e_s_p50", "e2e_s_p90", ".3f"),
    ),
    Column(
        "tok_s_user_pooled",
        "Pooled tokens/s",
        "Sum of output tokens over sum of seconds; long outputs weigh more than in the median.",
        _number("tok_s_user_pooled", ".1f"),
    ),
    Column(
        "output_tokens_mean",
        "Tokens",
        "Mean output tokens, without the end token, padding and masks.",
        _number("output_tokens_mean", ".1f"),
    ),
    Column(
        "truncation_rate",
        "Truncated",
        "Share of samples that ended at the token limit.",
        _number("truncation_rate", ".1%"),
    ),
    Column("empty_rate", "Empty", "Share of answers without text.", _number("empty_rate", ".1%")),
    Column(
        "malformed_rate",
        "Malformed",
        "Share of answers without a program: no code block where one is looked for, or no syntax.",
        _number("malformed_rate", ".1%"),
    ),
    Column(
        "output_characters_mean",
        "Characters",
        "Mean length of an answer, in characters.",
        _number("output_characters_mean", ".0f"),
    ),
    Column(
        "characters_s_user",
        "Characters/s",
        "Characters over the same wall time, median: for models whose tokens differ in length.",
        _number("characters_s_user", ".0f"),
    ),
    Column(
        "repetition",
        "Repeated",
        "Mean share of an answer's 4-grams that occurred before in it.",
        _number("repetition", ".1%"),
    ),
    Column(
        "undefined_name_rate",
        "Undefined names",
        "Share of samples that failed for a name nobody defined.",
        _number("undefined_name_rate", ".1%"),
    ),
    Column(
        "num_problems", "Problems", "Problems with a scored sample.", _number("num_problems", ".0f")
    ),
    Column(
        "num_not_judged",
        "Not judged",
        "Problems of the benchmark that the host cannot judge, for lack of a toolchain or package. "
        "They are not asked and no failures; configurations that lack the same ones form a view of "
        "their own and are never compared with others.",
        _number("num_not_judged", ".0f"),
    ),
    Column("num_samples", "Samples", "Scored samples.", _number("num_samples", ".0f")),
    Column(
        "num_infrastructure",
        "Lost",
        "Stored samples lost to our infrastructure: not scored, never counted as failures. Those "
        "without a row lower the coverage.",
        _number("num_infrastructure", ".0f"),
    ),
    Column(
        "coverage",
        "Coverage",
        "Scored samples over what the problems that can be judged and the samples per problem ask "
        "for. Under 100 % the configuration is incomplete.",
        _number("coverage", ".0%"),
    ),
    Column(
        "temperature", "Temp.", "Sampling temperature; 0 is greedy.", _number("temperature", "g")
    ),
    Column("batch_size", "Batch", "Prompts generated together.", _number("batch_size", ".0f")),
    Column("precision", "Precision", "Number format of the weights.", _text("precision")),
    Column("protocol", "Protocol", "Prompt and extraction preset.", _text("protocol")),
    Column("engine", "Engine", "Implementation that generated.", _text("engine")),
    Column(
        "trust_level",
        "Trust",
        "How far the verdict is out of the program's reach: at L3 only data leaves the sandbox; "
        "at L2 the tests run in a process of their own.",
        _text("trust_level"),
    ),
    Column("sandbox_level", "Sandbox", "Isolation that really ran.", _text("sandbox_level")),
    Column("hardware", "Hardware", "Hash of the hardware description.", _text("hardware")),
    Column("cell_hash", "Cell", "Hash of everything that may move a number.", _text("cell_hash")),
)


def select_columns(table: pd.DataFrame) -> list[Column]:
    """The fixed columns, pass@k where there are samples for it, and pass@1 of the groups."""
    extra = [
        Column(
            f"pass_at_{k}",
            f"pass@{k} %, 95 % CI",
            "Unbiased estimate; the interval is between problems, as that of pass@1.",
            _write_interval(f"pass_at_{k}"),
        )
        for k in PASS_AT_K
        if f"pass_at_{k}" in table
    ]
    if "pass_at_1_macro" in table:
        extra.append(
            Column(
                "pass_at_1_macro",
                "Mean of languages",
                "Plain mean of the languages' pass@1 %, whatever their numbers of problems. The "
                "95 % interval is over tasks: one task in several languages counts once.",
                _write_interval("pass_at_1_macro"),
            )
        )
    extra += [
        Column(key, key.removeprefix(GROUP_PREFIX), "pass@1 % of this group.", _percent(key))
        for key in sorted(name for name in map(str, table) if name.startswith(GROUP_PREFIX))
    ]
    return [*COLUMNS[:4], *extra, *COLUMNS[4:]]


def _percent(key: str) -> Callable[[Line], str]:
    return lambda line: _format(100 * line[key], ".1f")
