"""How slow a run was: the term |tau| of Eq. 10 and its surrogates (Eq. 11).

    |tau|  ~  E_{i, j in {0..K}} [ 1 / d_Lev(tau[i], tau[j]) ]                           (Eq. 11)

A run that only reveals tokens needs no edit-distance algorithm: between two of its states
d_Lev is the number of tokens revealed in between. (Replacing them one by one takes that many edits;
no fewer will do, because one edit changes the number of masks by at most one.) So a run of n tokens
in K steps is described by the numbers it revealed at each step, and with even steps

    adjacent pairs    E[1/d] = K / n
    all pairs         E[1/d] = (2/n) (H_K - K/(K+1)),   which grows like log K only

Place in the flow: `onpolicy.py` subtracts one of these from the verifier's reward. None has a
gradient, which is why the score function is needed.

Choice: every cost is per token of the answer (`steps` is K / n, forwards per token), because Eq. 11
is, and because with |tau| itself the shortest answer wins. Two equal states, which a step leaves
that revealed nothing of the final answer, count as one edit apart.

Choice: `progressive`, our reading of the paper's word, starts at all pairs and ends at adjacent
pairs: the weak pressure first, in proportion to the updates done.
"""

from typing import Literal

import torch
from torch import Tensor

SpeedObjective = Literal["steps", "adjacent", "all-pairs", "progressive"]


def compute_speed_cost(
    num_revealed: Tensor, is_step: Tensor, objective: SpeedObjective, progress: float
) -> Tensor:
    """Cost of each run, about 1 at one token per step and about 1/n at all n in one.

    Args:
        num_revealed: int64 [N, M], tokens of the final answer revealed at each step.
        is_step: bool [N, M], which steps the run took.
        objective: which cost.
        progress: share of the progressive schedule that is done, in [0, 1].

    Returns:
        float32 [N].
    """
    if objective == "progressive":
        weak = compute_speed_cost(num_revealed, is_step, "all-pairs", progress)
        strong = compute_speed_cost(num_revealed, is_step, "adjacent", progress)
        return (1.0 - progress) * weak + progress * strong
    num_steps = is_step.sum(dim=1)
    if objective == "steps":
        return num_steps / num_revealed.sum(dim=1).clamp(min=1)
    if objective == "adjacent":
        inverse = is_step / num_revealed.clamp(min=1)
        return inverse.sum(dim=1) / num_steps
    # State k is before step k; the last state is the answer. Steps not taken repeat the answer.
    start = torch.zeros(len(num_revealed), 1, dtype=torch.long)
    is_state = torch.cat((is_step, start == 0), dim=1)  # [N, M + 1]
    shown = torch.cat((start, (num_revealed * is_step).cumsum(dim=1)), dim=1)
    distance = (shown[:, :, None] - shown[:, None, :]).abs().clamp(min=1)
    is_pair = is_state[:, :, None] & is_state[:, None, :]
    is_pair &= ~torch.eye(is_state.shape[1], dtype=torch.bool)
    return (is_pair / distance).sum(dim=(1, 2)) / (num_steps * (num_steps + 1))
