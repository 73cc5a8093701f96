"""Stored rows to pandas: one line per sample, then one line per cell.

Place in the flow: `build_table` is what the terminal, the CSV file and the page print;
`panel.py` adds what needs several cells of one view (inclusion probability, ratios).
Speed and quality of a line come from the same samples. A sample that our infrastructure lost
(status "infrastructure" or finish reason "error") is counted, never scored as a failure, and
makes its cell incomplete; an incomplete cell keeps its numbers but cannot be on the frontier.

A problem that the host cannot judge is neither: its cell is measured on the others, whole on those,
and only compared with cells that were judged on exactly the same ones.

It does not average over benchmarks or machines, and it does not read the store.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from sdb_harness.records import Cell, SampleRow
from sdb_leaderboard.diagnostics import read_signature
from sdb_leaderboard.pareto import find_frontier
from sdb_leaderboard.statistics import (
    compute_macro_interval,
    compute_score_interval,
    estimate_pass_at_k,
)

VIEW_COLUMNS = ["benchmark", "benchmark_revision", "hardware", "batch_size", "not_judged"]
"""Cells that share these are comparable; a frontier never crosses them."""

NotJudged = Mapping[str, Collection[str]]
"""Cell hash -> ids of the problems that the host could not judge."""

GROUP_PREFIX = "pass_at_1:"
"""Columns with the pass@1 of one problem group, for example `pass_at_1:level-2`."""

MACRO_BENCHMARKS = ("mbxp", "multilingual_humaneval", "multipl_e", "naturalcodebench")
"""Their authors score them by the plain mean over languages; aider_polyglot's do not."""

PASS_AT_K = (2, 5, 10, 20, 25, 50, 100, 200)
"""Shown for cells with at least that many samples per problem."""

_NFE_COLUMNS = ("nfe_prefill", "nfe_denoise", "nfe_commit")

RECORDED_GENERATORS = ("canonical", "replay")
"""Generators that run no model: they have a score but no speed, and are never ranked."""

CellKind = Literal["diffusion", "autoregressive", "recorded"]


def build_table(
    cells: Mapping[str, Cell], rows: Iterable[SampleRow], not_judged: NotJudged | None = None
) -> pd.DataFrame:
    """One line per cell that has rows, sorted by view, then by falling pass@1.

    Args:
        cells: Cell hash -> cell; cells without a row are left out.
        rows: Stored samples, in any order.
        not_judged: As the stores list it; nothing if None.

    Raises:
        ValueError: If a row names an unknown cell, or a sample occurs twice.
    """
    return summarise_samples(cells, flatten_rows(cells, rows, not_judged))


def flatten_rows(
    cells: Mapping[str, Cell], rows: Iterable[SampleRow], not_judged: NotJudged | None = None
) -> pd.DataFrame:
    """One line per sample with what the summaries read, without texts and token ids.

    Problems that could not be judged are left out, unless some store has all their samples; a cell
    without them has their number in `num_not_judged` and a hash of their ids in `not_judged`.

    Raises:
        ValueError: If a row names an unknown cell, or a sample that its cell does not have, or a
            sample occurs twice.
    """
    lines = []
    for row in rows:
        if row.cell_hash not in cells:
            raise ValueError(f"row of unknown cell {row.cell_hash}; pass all cells of the store")
        num_samples = cells[row.cell_hash].samples_per_problem
        if row.sample_index >= num_samples:  # more samples of some problems would weigh more
            raise ValueError(
                f"cell {row.cell_hash} has {num_samples} samples per problem and a row of sample "
                f"{row.sample_index} (from 0) of {row.problem_id}; the store was changed, run again"
            )
        done = row.completion
        is_lost = row.status == "infrastructure" or done.finish_reason == "error"
        lines.append(
            {
                "cell_hash": row.cell_hash,
                "problem_id": row.problem_id,
                "group": row.group,
                "sample_index": row.sample_index,
                "run_id": row.run_id,
                "is_lost": is_lost,
                "is_passed": row.status == "passed" and not is_lost,
                "is_truncated": done.finish_reason == "length",
                "is_empty": not done.text.strip(),
                "is_malformed": is_malformed(row),
                "num_characters": len(done.text),
                "characters_s_user": len(done.text) / done.e2e_s if done.e2e_s > 0 else np.nan,
                "output_tokens": done.output_tokens,
                "tok_s_user": np.nan if done.tok_s_user is None else done.tok_s_user,
                "first_block_s": done.commit_times_s[0] if done.commit_times_s else np.nan,
                "e2e_s": done.e2e_s,
                "nfe_prefill": done.nfe_prefill,
                "nfe_denoise": done.nfe_denoise,
                "nfe_commit": done.nfe_commit,
                "trust_level": row.trust_level,
                "sandbox_level": row.sandbox_level,
                **read_signature(row),
            }
        )
    samples = pd.DataFrame(lines)
    if samples.empty:
        return samples
    key = ["cell_hash", "problem_id", "sample_index"]
    doubled = samples[samples.duplicated(key)]
    if not doubled.empty:
        raise ValueError(f"sample stored twice: {doubled[key].iloc[0].tolist()}; repair the store")
    samples = _leave_out(cells, samples, not_judged or {})
    return samples.sort_values(key, ignore_index=True)


def _leave_out(
    cells: Mapping[str, Cell], samples: pd.DataFrame, not_judged: NotJudged
) -> pd.DataFrame:
    counts = samples.groupby(["cell_hash", "problem_id"]).size()
    left_out = {
        cell_hash: sorted(
            problem_id
            for problem_id in problem_ids
            if counts.get((cell_hash, problem_id), 0) < cells[cell_hash].samples_per_problem
        )
        for cell_hash, problem_ids in not_judged.items()
        if cell_hash in cells
    }
    names = {key: _hash_ids(ids) for key, ids in left_out.items() if ids}
    samples["not_judged"] = [names.get(key, "") for key in samples["cell_hash"]]
    samples["num_not_judged"] = [len(left_out.get(key, ())) for key in samples["cell_hash"]]
    pairs = zip(samples["cell_hash"], samples["problem_id"], strict=True)
    is_kept = [problem_id not in left_out.get(key, ()) for key, problem_id in pairs]
    return samples[is_kept]


def _hash_ids(ids: Collection[str]) -> str:
    return hashlib.sha256("\0".join(ids).encode()).hexdigest()[:16]


def is_malformed(row: SampleRow) -> bool:
    """Whether an answer held no program: no code block or edit where one is looked for, no syntax.

    An edit that does not fit is one too.
    """
    rule = row.extraction_rule
    return (
        rule.startswith("no_block")
        or rule.endswith(("_malformed", "_no_edit"))
        or row.status == "compile_error"
    )


def summarise_samples(
    cells: Mapping[str, Cell], samples: pd.DataFrame, *, is_one_group: bool = False
) -> pd.DataFrame:
    """Fold samples into one line per cell and flag the observed frontier of each view.

    Args:
        cells: Cell hash -> cell.
        samples: From `flatten_rows`.
        is_one_group: The samples are narrowed to one problem group. A cell does not record how
            many problems a group has, so those that any cell of the revision answered count.
    """
    if samples.empty:
        return pd.DataFrame()
    seen = _count_problems_seen(cells, samples)
    lines = []
    for cell_hash, of_cell in samples.groupby("cell_hash"):
        cell = cells[str(cell_hash)]
        num_judgeable = cell.num_problems - int(of_cell["num_not_judged"].iloc[0])
        num_expected = seen[cell.benchmark_revision] if is_one_group else num_judgeable
        lines.append(
            _describe_cell(str(cell_hash), cell) | _summarise_cell(cell, of_cell, num_expected)
        )
    table = pd.DataFrame(lines)
    # A median of 0 tokens/s (mostly empty answers) is no speed that a logarithmic axis could show.
    table["is_timed"] = (table["kind"] != "recorded") & (table["tok_s_user"] > 0.0)
    is_ranked = table["is_complete"] & table["is_timed"]
    table["is_on_frontier"] = False
    for _, view in table[is_ranked].groupby(VIEW_COLUMNS):
        flags = find_frontier(view["tok_s_user"].to_numpy(), view["pass_at_1"].to_numpy())
        table.loc[view.index, "is_on_frontier"] = flags
    table["is_ranked"] = is_ranked
    order = [*VIEW_COLUMNS, "pass_at_1", "tok_s_user", "cell_hash"]
    ascending = [True] * len(VIEW_COLUMNS) + [False, False, True]
    return table.sort_values(order, ascending=ascending, ignore_index=True)


def classify_cell(cell: Cell) -> CellKind:
    """Diffusion has a block; a recorded text has no speed of its own."""
    if cell.generator.split(":")[0] in RECORDED_GENERATORS:
        return "recorded"
    return "autoregressive" if cell.sampling.block_size is None else "diffusion"


def format_policy(threshold: float, num_steps: float, policy: str) -> str:
    """How positions are committed: `p > 0.9`, `one by one`, `8 steps`, another's text, or `-`."""
    if not np.isnan(threshold):
        return f"p > {threshold:g}" if threshold < 1.0 else "one by one"
    if not np.isnan(num_steps):
        return f"{num_steps:.0f} steps"
    return policy or "-"


def describe_judged(line: pd.Series) -> str:
    """What stands behind a benchmark's name where not all of it is judged; empty if all is."""
    if not line["num_not_judged"]:
        return ""
    num_all = line["num_problems_of_benchmark"]
    return f", {num_all - line['num_not_judged']} of {num_all} problems judged"


def _count_problems_seen(cells: Mapping[str, Cell], samples: pd.DataFrame) -> dict[str, int]:
    """Problems with a sample in any cell, per benchmark revision."""
    revisions = samples["cell_hash"].map(lambda h: cells[h].benchmark_revision)
    counts = samples.groupby(revisions)["problem_id"].nunique()
    return {str(revision): int(count) for revision, count in counts.items()}


def _describe_cell(cell_hash: str, cell: Cell) -> dict[str, object]:
    """The identity columns."""
    sampling = cell.sampling
    return {
        "cell_hash": cell_hash,
        "benchmark": cell.benchmark,
        "benchmark_revision": cell.benchmark_revision,
        "num_problems_of_benchmark": cell.num_problems,
        "hardware": cell.hardware,
        "protocol": cell.protocol,
        "generator": cell.generator,
        "generator_revision": cell.generator_revision,
        "kind": classify_cell(cell),
        "block_size": np.nan if sampling.block_size is None else sampling.block_size,
        "threshold": np.nan if sampling.threshold is None else sampling.threshold,
        "num_steps": np.nan if sampling.num_steps is None else sampling.num_steps,
        "policy": sampling.policy or "",
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "batch_size": sampling.batch_size,
        "max_new_tokens": sampling.max_new_tokens,
        "seed": sampling.seed,
        "precision": cell.precision,
        "engine": cell.engine,
    }


def _summarise_cell(cell: Cell, of_cell: pd.DataFrame, num_expected: int) -> dict[str, object]:
    """The measured columns. Units are in the names; empty means there was nothing to measure."""
    scored = of_cell[~of_cell["is_lost"]]
    num_problems = scored["problem_id"].nunique()
    coverage = len(scored) / (num_expected * cell.samples_per_problem)
    num_lost = int(of_cell["is_lost"].sum())
    summary: dict[str, object] = {
        "num_problems": num_problems,
        "num_not_judged": int(of_cell["num_not_judged"].iloc[0]),
        "not_judged": of_cell["not_judged"].iloc[0],
        "num_samples": len(scored),
        "num_infrastructure": num_lost,
        "coverage": coverage,
        "is_complete": num_lost == 0 and coverage >= 1.0 and num_problems == num_expected,
        "trust_level": ", ".join(sorted(set(of_cell["trust_level"]))),
        "sandbox_level": ", ".join(sorted(set(of_cell["sandbox_level"]))),
    }
    return summary | _summarise_quality(cell.benchmark, scored) | _summarise_speed(scored)


def _summarise_quality(benchmark: str, scored: pd.DataFrame) -> dict[str, object]:
    by_problem = scored.groupby("problem_id")["is_passed"].agg(["sum", "count"])
    quality: dict[str, object] = dict.fromkeys(
        ("pass_at_1", "pass_at_1_low", "pass_at_1_high", "effective_n"), np.nan
    )
    if not by_problem.empty:
        fractions = (by_problem["sum"] / by_problem["count"]).to_numpy(dtype=np.float64)
        score = compute_score_interval(fractions)
        quality = {
            "pass_at_1": score.mean,
            "pass_at_1_low": score.low,
            "pass_at_1_high": score.high,
            "effective_n": score.effective_n,
        }
    for k in PASS_AT_K:
        if not by_problem.empty and by_problem["count"].min() >= k:
            pairs = zip(by_problem["count"], by_problem["sum"], strict=True)
            values = [estimate_pass_at_k(int(n), int(c), k) for n, c in pairs]
            score, key = compute_score_interval(np.array(values)), f"pass_at_{k}"
            quality |= {key: score.mean, f"{key}_low": score.low, f"{key}_high": score.high}
    shares = scored.groupby(["group", "problem_id"])["is_passed"].mean()
    by_group = shares.groupby("group").mean()
    if len(by_group) > 1:
        quality |= {f"{GROUP_PREFIX}{group}": value for group, value in by_group.items()}
        if benchmark.partition(":")[0] in MACRO_BENCHMARKS:
            groups, ids = zip(*shares.index, strict=True)
            tasks = [problem_id.rpartition("/")[2] for problem_id in ids]
            macro = compute_macro_interval(shares.to_numpy(dtype=np.float64), groups, tasks)
            quality |= {
                "pass_at_1_macro": macro.mean,
                "pass_at_1_macro_low": macro.low,
                "pass_at_1_macro_high": macro.high,
            }
    return quality


def _summarise_speed(scored: pd.DataFrame) -> dict[str, object]:
    """Speeds, latencies and forwards. `tok_s_user` is the median over samples: the drawn speed.

    Empty answers count with 0 tokens/s; answers whose tokens are unknown do not count.
    """
    speed: dict[str, object] = {}
    for column, quantiles in (
        ("tok_s_user", {"": 0.5, "_p10": 0.1, "_p90": 0.9}),
        ("first_block_s", {"_p50": 0.5, "_p90": 0.9}),
        ("e2e_s", {"_p50": 0.5, "_p90": 0.9}),
    ):
        for suffix, quantile in quantiles.items():
            speed[f"{column}{suffix}"] = float(scored[column].quantile(quantile))
    tokens, seconds = scored["output_tokens"].sum(), scored["e2e_s"].sum()
    forwards = scored["nfe_denoise"].sum() + scored["nfe_commit"].sum()
    speed |= {
        "tok_s_user_pooled": tokens / seconds if seconds > 0 else np.nan,
        "tokens_per_forward": tokens / forwards if forwards > 0 else np.nan,
        "output_tokens_mean": scored["output_tokens"].mean(),
        "truncation_rate": scored["is_truncated"].mean(),
        "empty_rate": scored["is_empty"].mean(),
        "malformed_rate": scored["is_malformed"].mean(),
        "output_characters_mean": scored["num_characters"].mean(),
        "characters_s_user": float(scored["characters_s_user"].median()),
        "repetition": scored["repetition"].mean(),
        "undefined_name_rate": scored["is_undefined_name"].mean(),
    }
    return speed | {f"{k}_mean": scored[k].mean() for k in _NFE_COLUMNS}


def summarise_spreads(table: pd.DataFrame) -> pd.DataFrame:
    """How far the wording of a prompt moves a score: one line per cell asked in several wordings.

    Wordings of one protocol are named `chat`, `chat/2`, `chat/3`; everything else is equal.

    Returns:
        The columns of the cell but for `protocol`, which holds the family, and `num_templates`,
        `lowest` and `highest` pass@1.
    """
    if table.empty:
        return table
    setting = [*VIEW_COLUMNS, "generator", "generator_revision", "block_size", "threshold"]
    setting += ["num_steps", "policy", "temperature", "top_p", "max_new_tokens", "seed"]
    setting += ["precision", "engine"]
    family = table["protocol"].str.replace(r"(/\d+)?(@\d+)?$", "", regex=True)
    groups = table.assign(protocol=family).groupby([*setting, "protocol"], dropna=False)
    spreads = groups["pass_at_1"].agg(["count", "min", "max"]).reset_index()
    names = {"count": "num_templates", "min": "lowest", "max": "highest"}
    return spreads[spreads["count"] > 1].rename(columns=names)
