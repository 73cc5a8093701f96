"""Infilling: the text between a prefix and a suffix, with both in sight.

Place in the flow: beside `generate.py`. The prefix is the prompt; hole and suffix share one block,
in which every position sees every other, so that the model fills the hole as it filled masks
between visible tokens in training. No special token and no reordering is needed.

What it does not do: choose the length of the hole, or reach a suffix beyond one block. A block
longer than those of the model's training is accepted and untested.
"""

from collections.abc import Callable, Sequence

import torch

from sdb_reference_model.model import Transformer
from sdb_reference_model.past import Cached, Past
from sdb_reference_model.policies import Policy, Revision
from sdb_reference_model.sampler import Generation, sample_blocks
from sdb_reference_model.selection import Measure
from sdb_reference_model.tokenizer import SpecialIds


def infill(
    model: Transformer,
    tokenizer: SpecialIds,
    prefixes: Sequence[Sequence[int]],
    suffixes: Sequence[Sequence[int]],
    *,
    num_tokens: int,
    policy: Policy,
    revision: Revision | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    measure: Measure = "probability",
    seeds: Sequence[int] | None = None,
    past: Past = Cached,
    on_step: Callable[[int, torch.Tensor], None] | None = None,
) -> list[Generation]:
    """Fill `num_tokens` positions between each prefix and its suffix, which ends the text.

    Choice: an end token inside the hole is committed only when nothing else is left, and stands
    for an empty place; so a hole may come back shorter than `num_tokens`.

    Returns:
        B generations whose `token_ids` are the holes alone. The width of the block, and with it
        the last digits of a row's numbers, follow the longest suffix of the batch.

    Raises:
        ValueError: if there is no hole, the lists differ in length, or the block does not fit.
    """
    if num_tokens < 1 or len(prefixes) != len(suffixes):
        raise ValueError(
            f"num_tokens={num_tokens} must be at least 1, and {len(prefixes)} prefixes need as "
            f"many suffixes, not {len(suffixes)}"
        )
    width = num_tokens + max((len(ids) for ids in suffixes), default=0) + 1
    hole = [tokenizer.mask_id] * num_tokens
    rows = [[*hole, *ids] for ids in suffixes]
    canvas = torch.tensor([row + [tokenizer.end_id] * (width - len(row)) for row in rows])
    return sample_blocks(
        model,
        tokenizer,
        prefixes,
        block_size=width,
        policy=policy,
        max_new_tokens=width,
        revision=revision,
        canvas=canvas,
        temperature=temperature,
        top_p=top_p,
        measure=measure,
        seeds=seeds,
        past=past,
        on_step=on_step,
    )
