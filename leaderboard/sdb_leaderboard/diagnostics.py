"""Signatures of decoding gone wrong, as numbers, with the likely cause in words.

Place in the flow: `table.py` asks for a sample's signature and keeps the means of a cell;
`terminal.py` prints the warnings below the table.

A diffusion decoder that commits too much at once repeats itself, forgets names it introduced, or
leaves syntax broken; one that commits too little is slow. Each leaves a trace in the answers alone.
The bounds are ours, wide enough that a sound model at a sound setting stays below them; they warn
and decide nothing.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from sdb_harness.records import SampleRow

NGRAM = 4
MAX_REPETITION = 0.5
MAX_RATE = 0.1
MIN_TOKENS_PER_FORWARD = 1.05


def compute_repetition(items: Sequence[Hashable], n: int = NGRAM) -> float:
    """Share of the n-grams that occurred before in the same sequence; 0 where there is none."""
    ngrams = [tuple(items[i : i + n]) for i in range(len(items) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def read_signature(row: SampleRow) -> dict[str, float]:
    """Repetition (of tokens, of words where ids are unknown) and whether a name was undefined."""
    done = row.completion
    is_undefined = "NameError" in row.detail or "UnboundLocalError" in row.detail
    return {
        "repetition": compute_repetition(done.token_ids or done.text.split()),
        "is_undefined_name": float(is_undefined),
    }


def list_warnings(line: Mapping[str, Any]) -> list[str]:
    """What looks wrong with a cell of `build_table`, one sentence each; empty if nothing does."""
    warnings = []
    is_parallel = line["kind"] == "diffusion" and line["tokens_per_forward"] > 1.5
    remedy = "raise the threshold or make blocks smaller" if is_parallel else "train longer"
    if line["repetition"] > MAX_REPETITION:
        warnings.append(
            f"repetition: {line['repetition']:.0%} of the {NGRAM}-grams occurred before in the "
            f"same answer; the decoder loops: {remedy}"
        )
    if line["undefined_name_rate"] > MAX_RATE:
        warnings.append(
            f"undefined names in {line['undefined_name_rate']:.0%} of the answers: tokens that "
            f"depend on each other were chosen without each other: {remedy}"
        )
    if line["malformed_rate"] > MAX_RATE:
        warnings.append(
            f"{line['malformed_rate']:.0%} of the answers are no program: look at one with its "
            f"protocol (stop rule, extraction); if it is the text, {remedy}"
        )
    if line["truncation_rate"] > MAX_RATE:
        warnings.append(
            f"{line['truncation_rate']:.0%} of the answers hit the token limit: raise "
            "max_new_tokens, or the model does not end its answers"
        )
    threshold = line["threshold"]
    if threshold < 1 and line["tokens_per_forward"] < MIN_TOKENS_PER_FORWARD:
        warnings.append(
            f"slow: {line['tokens_per_forward']:.2f} tokens per forward at threshold "
            f"{threshold:g}; the model is rarely that sure: lower the threshold"
        )
    return warnings
