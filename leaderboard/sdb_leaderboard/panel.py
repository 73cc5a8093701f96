"""One comparable view of the results: a benchmark revision on one machine at one batch size.

Place in the flow: takes the samples of `table.py`, adds what only makes sense between cells of
one view (bootstrap inclusion, attainment band, speed at matched quality), and is what the figures
and the page draw. A view has one panel for all problems and one per problem group. No drawing
and no files here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sdb_harness.records import Cell
from sdb_leaderboard.pareto import FloatArray, compute_attainment, find_fastest_matched
from sdb_leaderboard.statistics import (
    CellSamples,
    PairedLoss,
    Resamples,
    bound_paired_loss,
    bound_unseen_share,
    compute_inclusion_probability,
    resample_cells,
)
from sdb_leaderboard.table import VIEW_COLUMNS, format_policy, summarise_samples

ALL_GROUPS = "all problems"

NUM_DRAWS = 400
"""Bootstrap draws per panel: an inclusion probability is known to about 2.5 points."""

QUALITY_TOLERANCE = 0.02
"""Largest paired loss of pass@1 that still counts as matched quality."""


@dataclass(frozen=True, slots=True)
class Band:
    """Border that 95 % of the resampled frontiers reach, and border that 5 % reach."""

    sure: tuple[FloatArray, FloatArray]
    possible: tuple[FloatArray, FloatArray]


@dataclass(frozen=True, slots=True)
class MatchedSpeed:
    """The fastest cell whose quality is surely within the tolerance of a reference cell."""

    reference_hash: str
    cell_hash: str | None
    """None if no other cell qualifies."""
    ratio: float | None = None
    """Its speed over the reference's."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    """Central 95 % of the bootstrap."""
    loss: PairedLoss | None = None
    """Of the cell; without one, of the candidate that came nearest."""
    nearest_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """Everything that is drawn for one view and group."""

    benchmark: str
    benchmark_revision: str
    hardware: str
    batch_size: int
    not_judged: str
    """Hash of the problems that no cell of this view was judged on; empty if there are none."""
    num_not_judged: int
    group: str
    table: pd.DataFrame
    """One line per cell, index reset, with `inclusion_probability` and `speed_vs_baseline`."""
    band: Band | None
    baseline: MatchedSpeed | None
    """Against the best autoregressive cell; None without one."""
    best_diffusion: MatchedSpeed | None
    """Against the best diffusion cell; None without one."""
    num_problems: int

    @property
    def num_on_frontier(self) -> int:
        """Cells on the observed frontier."""
        return int(self.table["is_on_frontier"].sum())

    @property
    def num_incomplete(self) -> int:
        """Cells that miss samples and are therefore not ranked."""
        return int((~self.table["is_complete"]).sum())

    @property
    def smallest_visible_loss(self) -> float:
        """Loss that this number of problems cannot rule out even if nothing changed."""
        return bound_unseen_share(self.num_problems)


def build_panels(cells: Mapping[str, Cell], samples: pd.DataFrame) -> list[Panel]:
    """Split the samples into views and each view into all problems and its groups.

    Returns:
        Views with the most cells, then samples, first; inside a view all problems first, then
        the groups by name.
    """
    if samples.empty:
        return []
    view_of = {
        h: (c.benchmark, c.benchmark_revision, c.hardware, c.sampling.batch_size)
        for h, c in cells.items()
    }
    pairs = zip(samples["cell_hash"], samples["not_judged"], strict=True)
    views = pd.Series([(*view_of[h], not_judged) for h, not_judged in pairs], samples.index)
    by_view = [(view, of_view) for view, of_view in samples.groupby(views)]
    by_view.sort(key=lambda item: (-item[1]["cell_hash"].nunique(), -len(item[1]), item[0]))
    panels = []
    for _, of_view in by_view:
        panels.append(_build_panel(cells, of_view, ALL_GROUPS))
        groups = sorted(of_view["group"].unique())
        if len(groups) > 1:
            panels += [_build_panel(cells, of_view[of_view["group"] == g], g) for g in groups]
    return panels


def _build_panel(cells: Mapping[str, Cell], samples: pd.DataFrame, group: str) -> Panel:
    table = summarise_samples(cells, samples, is_one_group=group != ALL_GROUPS)
    table["label"] = label_cells(table)
    ranked = table[table["is_ranked"]]
    table["inclusion_probability"] = np.nan
    table["speed_vs_baseline"] = np.nan
    band = baseline = best_diffusion = None
    if not ranked.empty:
        of_cells = [_collect_cell_samples(samples, h) for h in ranked["cell_hash"]]
        resamples = resample_cells(of_cells, NUM_DRAWS, seed=0)
        inclusion = compute_inclusion_probability(resamples)
        table.loc[ranked.index, "inclusion_probability"] = inclusion
        borders = compute_attainment(resamples.speeds, resamples.pass_at_1)
        band = Band(sure=borders[95.0], possible=borders[5.0])
        fractions = [c.pass_fractions for c in of_cells]
        baseline = _match_speed(ranked, "autoregressive", fractions, resamples)
        best_diffusion = _match_speed(ranked, "diffusion", fractions, resamples)
    if baseline is not None:
        speeds = table.set_index("cell_hash")["tok_s_user"]
        table["speed_vs_baseline"] = table["tok_s_user"] / speeds[baseline.reference_hash]
    first = table.iloc[0]
    return Panel(
        **{column: first[column] for column in VIEW_COLUMNS},
        num_not_judged=first["num_not_judged"],
        group=group,
        table=table,
        band=band,
        baseline=baseline,
        best_diffusion=best_diffusion,
        num_problems=int(samples["problem_id"].nunique()),
    )


def label_cells(table: pd.DataFrame) -> list[str]:
    """Short names of cells; what else varies inside a generator is added.

    Two cells that differ in nothing else keep equal names; their hashes tell them apart.
    """
    extras = {
        "batch_size": "batch {:.0f}",
        "temperature": "T {:g}",
        "precision": "{}",
        "protocol": "{}",
        "max_new_tokens": "max {:.0f}",
        "seed": "seed {:.0f}",
        "engine": "{}",
        "generator_revision": "weights {:.8}",
    }
    varying = [
        column for column in extras if table.groupby("generator")[column].nunique().max() > 1
    ]
    labels = []
    for _, line in table.iterrows():
        parts = [str(line["generator"])]
        if line["kind"] == "diffusion":
            parts += [
                f"block {line['block_size']:.0f}",
                format_policy(line["threshold"], line["num_steps"], line["policy"]),
            ]
        parts += [extras[column].format(line[column]) for column in varying]
        labels.append(" · ".join(parts))
    return labels


def _collect_cell_samples(samples: pd.DataFrame, cell_hash: str) -> CellSamples:
    """Arrays of one complete cell, problems in sorted order."""
    of_cell = samples[samples["cell_hash"] == cell_hash]
    fractions = of_cell.groupby("problem_id")["is_passed"].mean()
    timed = of_cell[of_cell["tok_s_user"].notna()]
    return CellSamples(
        pass_fractions=fractions.to_numpy(dtype=np.float64),
        speeds=timed["tok_s_user"].to_numpy(dtype=np.float64),
        speed_problems=fractions.index.get_indexer(pd.Index(timed["problem_id"])).astype(np.int64),
    )


def _match_speed(
    ranked: pd.DataFrame, kind: str, fractions: list[FloatArray], resamples: Resamples
) -> MatchedSpeed | None:
    """Compare diffusion cells with the best cell of a kind (ties: the faster one).

    Against the best diffusion cell only faster ones are rivals; against the baseline all are, so
    that a slower but equally good diffusion cell is reported with its ratio below one.
    """
    of_kind = np.flatnonzero(ranked["kind"] == kind)
    if len(of_kind) == 0:
        return None
    speeds = ranked["tok_s_user"].to_numpy()
    scores = ranked["pass_at_1"].to_numpy()
    hashes = ranked["cell_hash"].tolist()
    reference = int(max(of_kind, key=lambda i: (scores[i], speeds[i])))
    is_rival = (ranked["kind"] == "diffusion").to_numpy()
    if kind == "diffusion":
        is_rival = is_rival & (speeds > speeds[reference])
    rivals = [int(i) for i in np.flatnonzero(is_rival)]
    losses = [bound_paired_loss(fractions[reference], fractions[i]) for i in rivals]
    bounds = np.array([loss.upper for loss in losses])
    position = find_fastest_matched(speeds[rivals], bounds, QUALITY_TOLERANCE)
    if position is None:
        if not rivals:
            return MatchedSpeed(hashes[reference], None)
        nearest = int(np.argmin(bounds))
        return MatchedSpeed(
            hashes[reference], None, loss=losses[nearest], nearest_hash=hashes[rivals[nearest]]
        )
    chosen = rivals[position]
    ratios = resamples.speeds[:, chosen] / resamples.speeds[:, reference]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return MatchedSpeed(
        hashes[reference],
        hashes[chosen],
        ratio=float(speeds[chosen] / speeds[reference]),
        ratio_low=float(low),
        ratio_high=float(high),
        loss=losses[position],
    )
