"""What a sweep will cost and what it can tell, before it runs.

Place in the flow: `sdbench plan FILE` and the first lines of `sdbench run`. Forwards are upper
bounds that follow from the sampler's settings; seconds are scaled from what the store has already
measured, else unknown: no speed is guessed.

What it does not do: it does not count the time of the sandbox, and its smallest difference is for
planning only. Published intervals come from the leaderboard's statistics on real rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sdb_harness.generators import find_generator
from sdb_harness.records import Cell
from sdb_harness.store import CellProgress, Store
from sdb_harness.sweep import PlannedCell

PLANNED_PASS_RATE = 0.5
"""The worst case for the width of an interval."""
BETWEEN_PROBLEM_SHARE = 0.45
"""Share of a verdict's variance that is the problem's difficulty, which more samples do not cut."""
PAIRING_GAIN = 0.56
"""Standard error of a paired difference over the unpaired one, for related settings of one model.
Choice: the middle of the 0.49 to 0.64 seen when comparing related settings."""
Z_95 = 1.96

NOTHING_DONE = CellProgress(num_generated=0, num_judged=0, num_passed=0, mean_e2e_s=None)


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """One line of the plan."""

    planned: PlannedCell
    progress: CellProgress
    max_forwards: int
    """Upper bound for the programs that are still to be generated."""
    remaining_s: float | None
    """Generation time that is left; None where nothing comparable has been measured."""


def estimate_cells(cells: Sequence[PlannedCell], store: Store | None) -> list[CellEstimate]:
    """Say for each cell what is done and what is left.

    Args:
        cells: In running order.
        store: The sweep's store; None if nothing has run yet.
    """
    progress = {
        planned.cell.compute_hash(): store.measure_progress(planned.cell.compute_hash())
        if store
        else NOTHING_DONE
        for planned in cells
    }
    estimates = []
    for planned in cells:
        done = progress[planned.cell.compute_hash()]
        generated = store.list_generated(planned.cell.compute_hash()) if store else set()
        num_left = len(planned.keys - generated)
        each_s = done.mean_e2e_s
        if each_s is None:
            each_s = _average_generator(planned.cell.generator, cells, progress)
        estimates.append(
            CellEstimate(
                planned=planned,
                progress=done,
                max_forwards=num_left * count_max_forwards(planned.cell),
                remaining_s=_scale(each_s, num_left, planned.cell.sampling.batch_size),
            )
        )
    return estimates


def _average_generator(
    generator: str, cells: Sequence[PlannedCell], progress: dict[str, CellProgress]
) -> float | None:
    """Mean seconds a program over the measured cells of the same generator."""
    measured = [
        mean_s
        for planned in cells
        if planned.cell.generator == generator
        and (mean_s := progress[planned.cell.compute_hash()].mean_e2e_s) is not None
    ]
    return sum(measured) / len(measured) if measured else None


def _scale(each_s: float | None, num_left: int, batch_size: int) -> float | None:
    if num_left == 0:
        return 0.0
    return None if each_s is None else each_s * num_left / batch_size


def count_max_forwards(cell: Cell) -> int:
    """Count the forwards of one program that uses its whole token budget.

    A diffusion block costs its denoising forwards (one a token at worst, or `num_steps`) and one
    that commits it to the cache; in front stands one prefill. Generators without a model cost none.
    """
    sampling = cell.sampling
    if "max_new_tokens" not in find_generator(cell.generator)[0].axes:
        return 0
    if sampling.block_size is None:
        return 1 + sampling.max_new_tokens
    num_blocks = math.ceil(sampling.max_new_tokens / sampling.block_size)
    return 1 + num_blocks * ((sampling.num_steps or sampling.block_size) + 1)


def estimate_detectable_difference(num_problems: int, num_samples: int) -> float:
    """Estimate the smallest paired difference in pass rate that a 95 % interval tells from zero.

    Variance of a problem's mean at pass rate m: m(1-m)(s + (1-s)/n), with s the share between
    problems; pairing by problem then shrinks the standard error of a difference.

    Args:
        num_problems: P, at least 1.
        num_samples: n independent samples a problem (1 where decoding is greedy).

    Returns:
        A difference in pass rate, in [0, 1].
    """
    share = BETWEEN_PROBLEM_SHARE
    variance = PLANNED_PASS_RATE * (1 - PLANNED_PASS_RATE) * (share + (1 - share) / num_samples)
    unpaired_error = math.sqrt(2 * variance / num_problems)
    return min(1.0, Z_95 * PAIRING_GAIN * unpaired_error)
