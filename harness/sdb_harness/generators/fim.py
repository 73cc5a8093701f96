"""A gap as one text, in the fill-in-the-middle tokens that a family of models was trained with.

Place in the flow: `transformers_ar.py` finds the family by its tokenizer, `openai_api.py` is told
it by `fim=NAME`, for a server names no tokens. Sources: the families' model cards; for CodeLlama
(whose space behind the first token counts) the tokenizer of `transformers`; for Seed-Coder, which
reads the suffix first, its report.
"""

import re
from collections.abc import Container

from sdb_harness.benchmarks import Gap

FORMATS = {
    "codellama": "▁<PRE> {prefix}▁<SUF>{suffix}▁<MID>",
    "deepseek": "<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",  # noqa: RUF001
    "qwen": "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
    "seed-coder": "<[fim-suffix]>{suffix}<[fim-prefix]>{prefix}<[fim-middle]>",
    "starcoder": "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
}


def write_gap(family: str, gap: Gap) -> str:
    """Write prefix and suffix with the tokens of a family of `FORMATS`."""
    return FORMATS[family].format(prefix=gap.prefix, suffix=gap.suffix)


def find_family(vocabulary: Container[str]) -> str | None:
    """Name the family whose three tokens a vocabulary holds; None if it holds no such three."""
    for family, text in FORMATS.items():
        if all(token.strip() in vocabulary for token in re.split(r"\{\w+\}", text)):
            return family
    return None
