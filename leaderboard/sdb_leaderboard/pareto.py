"""The speed-quality frontier as pure functions on arrays.

Place in the flow: `statistics.py` asks them about every bootstrap draw, `panel.py` about the
observed points, the figures about the line to draw. Both axes are maximised. Dominance comes
from `moocore` (Lopez-Ibanez et al.), which is exact and keeps ties when asked to.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def find_frontier(
    speeds: FloatArray, qualities: FloatArray, quality_floor: float = 0.0
) -> BoolArray:
    """Flag the points that no other point beats on one axis without losing on the other.

    Equal points are all kept. Points under the floor are never on the frontier; the floor cannot
    promote any other point, because whatever dominates a point is at least as good.

    Args:
        speeds: Shape [M].
        qualities: Shape [M].
        quality_floor: Smallest quality that counts.

    Returns:
        Shape [M].
    """
    if len(speeds) == 0:
        return np.zeros(0, dtype=np.bool_)
    import moocore  # slow, and a table of programs without a speed does not need it

    points = np.column_stack([speeds, qualities])
    flags = moocore.is_nondominated(points, maximise=True, keep_weakly=True)
    return np.asarray(flags, dtype=np.bool_) & (qualities >= quality_floor)


def trace_staircase(
    speeds: FloatArray, qualities: FloatArray, left: float, bottom: float
) -> tuple[FloatArray, FloatArray]:
    """Corners of the border between what some point reaches and what none does.

    Args:
        speeds: Shape [M], speeds of frontier points, in any order.
        qualities: Shape [M], their qualities.
        left: Speed at which the line enters the picture.
        bottom: Quality at which it leaves.

    Returns:
        Speeds and qualities of the corners, speeds never falling, ready for straight lines.
    """
    order = np.lexsort((-qualities, speeds))
    xs, ys = [left], []
    for speed, quality in zip(speeds[order], qualities[order], strict=True):
        ys += [quality, quality]
        xs += [speed, speed]
    if not ys:
        return np.zeros(0), np.zeros(0)
    return np.array(xs, dtype=np.float64), np.array([*ys, bottom], dtype=np.float64)


def compute_attainment(
    speeds: FloatArray, qualities: FloatArray, percentiles: tuple[float, float] = (5.0, 95.0)
) -> dict[float, tuple[FloatArray, FloatArray]]:
    """Borders that a given share of the resampled frontiers reaches (empirical attainment).

    Args:
        speeds: Shape [R, M], one resample a row.
        qualities: Shape [R, M].
        percentiles: Shares in percent; the smaller one is the optimistic border.

    Returns:
        Percentile -> frontier points (speeds, qualities) of that border, speeds rising.
    """
    import moocore

    points, sets = [], []
    for index, (x, y) in enumerate(zip(speeds, qualities, strict=True)):
        flags = find_frontier(x, y)
        points.append(np.column_stack([-x[flags], -y[flags]]))  # moocore minimises here
        sets += [index + 1] * int(flags.sum())
    surface = moocore.eaf(np.concatenate(points), sets, percentiles=list(percentiles))
    borders = {}
    for percentile in percentiles:
        corner = -surface[surface[:, 2] == percentile][:, :2]
        corner = corner[np.argsort(corner[:, 0], kind="stable")]
        borders[percentile] = (corner[:, 0], corner[:, 1])
    return borders


def find_fastest_matched(
    speeds: FloatArray, loss_bounds: FloatArray, tolerance: float
) -> int | None:
    """Index of the fastest point whose loss is surely under the tolerance; None if there is none.

    Args:
        speeds: Shape [M].
        loss_bounds: Shape [M], upper confidence bound of the quality loss against the reference.
        tolerance: Largest acceptable loss, exclusive.
    """
    matched = np.flatnonzero(loss_bounds < tolerance)
    return int(matched[np.argmax(speeds[matched])]) if len(matched) else None
