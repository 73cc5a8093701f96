"""From hidden states to one token and its probability each: greedy, by temperature, from a nucleus.

Place in the flow: every sampler of this package makes one `Select` and calls it once per forward.
Without a nucleus it is the operator `head_select`, which keeps no logits. A nucleus (Holtzman et
al., arXiv 1904.09751) has to sort them, an entropy to sum over them, and DELETE and INSERT are
possible in some rows only: plain PyTorch.
"""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

from sdb_kernels.head_select import head_select
from sdb_kernels.head_select.reference import exponential_noise, select_token
from sdb_kernels.packed import Weight, multiply
from sdb_reference_model.tokenizer import SpecialIds, find_forbidden_id


class Select(Protocol):
    """From hidden states to tokens; a row depends on its own hidden state and seed only."""

    def __call__(
        self, hidden: Tensor, seeds: Tensor, is_label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Choose a token for every row.

        Args:
            hidden: [N, D].
            seeds: int64 [N].
            is_label: bool [N], rows that may also answer with DELETE or INSERT; default none.

        Returns:
            Token ids int64 [N], and their confidences float32 [N], see `Measure`.
        """
        ...


Measure = Literal["probability", "certainty"]
"""What a sampler calls confidence: the probability p of the token, or exp(-H) of its row, where
H = -sum p log p in nats. Both are in [0, 1], 1 is sure, and at temperature 1."""


def make_select(
    weight: Weight,
    tokenizer: SpecialIds,
    temperature: float,
    top_p: float = 1.0,
    measure: Measure = "probability",
) -> Select:
    """Bind the head weight [V, D], which may be packed, the special ids and settings of the draw.

    Raises:
        ValueError: a share that is not in (0, 1].
    """
    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p={top_p} must be above 0 and at most 1, which draws from all")
    forbidden_id, control = find_forbidden_id(tokenizer), tokenizer.control_ids

    def select(
        hidden: Tensor, seeds: Tensor, is_label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        is_nucleus = top_p < 1.0 and temperature > 0.0
        if is_nucleus or measure == "certainty" or control is not None:
            logits = multiply(hidden, weight)
            if forbidden_id is not None:
                logits[:, forbidden_id] = -math.inf
            if control is not None:
                is_text = torch.ones_like(seeds).bool() if is_label is None else ~is_label
                ids = list(control)
                logits[:, ids] = logits[:, ids].masked_fill(is_text[:, None], -math.inf)
            if is_nucleus:
                token_ids, confidence = draw_from_nucleus(logits, temperature, top_p, seeds)
            else:
                token_ids, confidence = select_token(logits, temperature, seeds)
            if measure == "certainty":
                confidence = (-torch.special.entr(logits.softmax(dim=-1)).sum(dim=-1)).exp()
            return token_ids, confidence
        return head_select(
            hidden, weight, forbidden_id=forbidden_id, temperature=temperature, seeds=seeds
        )

    return select


def find_outsiders(logits: Tensor, top_p: float) -> Tensor:
    """Find the tokens outside the nucleus of each row, bool [N, V].

    The nucleus holds the most probable tokens whose probabilities reach `top_p`, at least one.
    """
    ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    is_behind = ordered.cumsum(dim=-1) - ordered >= top_p  # what stands before is enough
    is_behind[:, 0] = False
    return torch.zeros_like(is_behind).scatter(1, order, is_behind)


def draw_from_nucleus(
    logits: Tensor, temperature: float, top_p: float, seeds: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw among the most probable tokens whose probabilities reach `top_p`, at least one.

    The noise is that of `head_select`, so that tokens are its own where the nucleus holds them all.
    """
    is_out = find_outsiders(logits / temperature, top_p)
    noise = exponential_noise(seeds, logits.shape[1]).log()
    scores = (logits * (1.0 / temperature) - noise).masked_fill(is_out, -math.inf)
    token_ids = scores.argmax(dim=-1)
    probability = logits.softmax(dim=-1).gather(-1, token_ids[:, None]).squeeze(-1)
    return token_ids, probability
