"""When what is trained: the paper's phases, and the switch inside pre-training.

    1  mask            first 80 % of the diffusion steps      train.py, second term of Eq. 6
    2  mask + edit     last 20 %                              train.py, both terms of Eq. 6
    3  constrained     along the best orders of its own       distill.py, constrained.py, Eq. 9
    4  on-policy       fewer steps under a verifier           onpolicy.py, Eqs. 10, 11

Phases 1 and 2 are one run, or two with `edit_fraction` 0 and 1; this file says where it switches.
Phases 3 and 4 are runs of their own.

Choice: the largest edit ratio rises from 0 over the first part of the edit phase, so that the
switch does not jolt a model that has never seen a wrong token. The paper names no ramp.
"""

from sdb_reference_model.corruption import MAX_EDIT_RATIO


def compute_max_time(train_step: int, warmup_steps: int) -> float:
    """Largest time of a pre-training step's masks, which rises to 1 (Stable-DiffCoder's warm-up).

    A model that was autoregressive has never seen a mask: at first it is shown few. Meanwhile
    masked tokens are weighed alike.
    """
    return min(1.0, (train_step + 1) / (warmup_steps + 1))


def compute_edit_ratio(
    train_step: int, num_train_steps: int, edit_fraction: float, edit_ramp: float
) -> float:
    """Largest alpha of a pre-training step; 0 means that the step is mask only.

    Args:
        train_step: from 0.
        num_train_steps: of the whole run.
        edit_fraction: last part of the run that has edits; the paper's is 0.2, 0 is never.
        edit_ramp: first part of that part, in which the ratio rises to the paper's 0.1.
    """
    num_edit_steps = round(num_train_steps * edit_fraction)
    num_done = train_step - (num_train_steps - num_edit_steps)
    if num_done < 0:
        return 0.0
    return MAX_EDIT_RATIO * min(1.0, (num_done + 1) / max(1.0, num_edit_steps * edit_ramp))
