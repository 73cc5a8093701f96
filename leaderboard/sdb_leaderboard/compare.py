"""Two cells problem by problem: which flipped, and the paired interval of the difference.

Place in the flow: `sdbench compare STORE STORE` after two runs of the same benchmark. The unit is
the problem, as in `statistics.py`: a problem flips if its share of passing samples changes.

What it does not do: no correction for comparing many pairs, and no speed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdb_harness.records import Cell, SampleRow
from sdb_leaderboard.statistics import bound_paired_loss

Outcome = tuple[int, int]
"""(samples that pass, scored samples) of one problem."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Pass@1 of two cells on the problems that both have; all but the counts in [-1, 1]."""

    first: float
    second: float
    low: float
    high: float
    """Two-sided 95 % interval of second minus first, paired by problem."""
    num_problems: int
    num_apart: int
    """Problems that only one of the two has: they do not count."""
    gained: Mapping[str, tuple[Outcome, Outcome]]
    """Problem id -> outcomes, where the second passes more; in the order of the ids."""
    lost: Mapping[str, tuple[Outcome, Outcome]]
    """The same where it passes less."""


def match_cells(first: Mapping[str, Cell], second: Mapping[str, Cell]) -> list[tuple[str, str]]:
    """Hashes of the cells to compare: pairs of one benchmark in which no others can be meant.

    Where each store has one cell of a benchmark revision, these two. Where one has several, those
    that differ in nothing but the generator's revision, engine, precision or hardware.
    """
    pairs = []
    for revision in dict.fromkeys(cell.benchmark_revision for cell in first.values()):
        ours = [key for key, cell in first.items() if cell.benchmark_revision == revision]
        theirs = [key for key, cell in second.items() if cell.benchmark_revision == revision]
        if len(ours) == len(theirs) == 1:
            pairs += [(ours[0], theirs[0])]
        else:
            pairs += [
                (one, other)
                for one in ours
                for other in theirs
                if _describe_setting(first[one]) == _describe_setting(second[other])
            ]
    return pairs


def _describe_setting(cell: Cell) -> tuple[object, ...]:
    return cell.generator, cell.protocol, cell.sampling, cell.samples_per_problem


def count_outcomes(rows: Iterable[SampleRow]) -> dict[str, Outcome]:
    """Problem id -> its outcome; samples that our infrastructure lost do not count."""
    outcomes: dict[str, Outcome] = {}
    for row in rows:
        if row.status != "infrastructure" and row.completion.finish_reason != "error":
            passed, scored = outcomes.get(row.problem_id, (0, 0))
            outcomes[row.problem_id] = (passed + (row.status == "passed"), scored + 1)
    return outcomes


def compare_outcomes(first: Mapping[str, Outcome], second: Mapping[str, Outcome]) -> Comparison:
    """Compare two cells by problem.

    Raises:
        ValueError: If they share no problem.
    """
    shared = sorted(first.keys() & second.keys())
    before = np.array([first[key][0] / first[key][1] for key in shared], dtype=np.float64)
    after = np.array([second[key][0] / second[key][1] for key in shared], dtype=np.float64)
    return Comparison(
        high=bound_paired_loss(after, before, confidence=0.975).upper,
        low=-bound_paired_loss(before, after, confidence=0.975).upper,
        first=float(before.mean()),
        second=float(after.mean()),
        num_problems=len(shared),
        num_apart=len(first.keys() ^ second.keys()),
        gained=_list_flips(shared, after > before, first, second),
        lost=_list_flips(shared, after < before, first, second),
    )


def _list_flips(
    problem_ids: Sequence[str],
    is_flipped: NDArray[np.bool_],
    first: Mapping[str, Outcome],
    second: Mapping[str, Outcome],
) -> dict[str, tuple[Outcome, Outcome]]:
    flipped = [key for key, is_one in zip(problem_ids, is_flipped, strict=True) if is_one]
    return {key: (first[key], second[key]) for key in flipped}
