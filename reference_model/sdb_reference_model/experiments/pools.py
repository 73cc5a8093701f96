"""`trajectory-quality`: does the ELBO of a trajectory say whether its answer is right?

Eq. 9 keeps, of a pool of runs, those of greatest ELBO. That helps as far as the ELBO ranks right
answers above wrong ones to the same prompt. Here the pool of `distill.py` is made without a
verifier and judged afterwards; the ELBO is compared with rivals that cost nothing (length), and
the answers it would keep with those of random-order runs, problem by problem.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sdb_reference_model.checkpoint import load_checkpoint
from sdb_reference_model.distill import DistillConfig, make_shard
from sdb_reference_model.experiments.laboratory import (
    NUM_DRAWS,
    Estimate,
    Experiment,
    ExperimentConfig,
    Report,
    Row,
    Supplies,
    Table,
    compare,
    draw_bars,
    estimate,
    examine,
    say,
    take_exam,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = {
    "trajectory ELBO": "elbo",
    "ELBO per token": "elbo_per_token",
    "Monte-Carlo ELBO": "monte_carlo_elbo",
    "shortest": "shortness",
}
"""Name in the report -> list in a row; greater is said to be better."""

RANDOM = "random:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryConfig(ExperimentConfig):
    """Of `trajectory-quality`."""

    policies: tuple[str, ...] = ("threshold:1.0", "threshold:0.9", "leftmost:1", RANDOM)
    temperature: float = 0.7
    runs_per_policy: int = 2
    num_elbo_samples: int = 4


def plan(config: TrajectoryConfig) -> Sequence[str]:
    if RANDOM not in config.policies:
        raise ValueError(f"policies needs {RANDOM}, which the others are compared with")
    return config.policies


def measure(config: TrajectoryConfig, arm: str, seed: int, supplies: Supplies, work: Path) -> Row:
    """Lists over the complete candidates of one policy: problem, scores, and whether it passed."""
    exam = take_exam(config, supplies, seed)
    pool = DistillConfig(
        init_from=config.checkpoint,
        block_size=config.block_size,
        max_new_tokens=config.max_new_tokens,
        policies=(arm,),
        temperatures=(config.temperature,),
        num_seeds=config.runs_per_policy,
        elbo="monte-carlo",
        num_elbo_samples=config.num_elbo_samples,
        must_pass=False,
        seed=seed,
    )
    checkpoint = load_checkpoint(config.checkpoint)
    made = make_shard(pool, checkpoint, exam.prompts, range(len(exam.prompts)), None)
    made = [entry for entry in made if entry["is_complete"]]
    findings = examine(
        exam.judge, [entry["prompt_row"] for entry in made], [e["completion"] for e in made]
    )
    return {
        "problem": [entry["prompt_row"] for entry in made],
        "elbo": [round(entry["elbo"], 4) for entry in made],
        "elbo_per_token": [round(e["elbo"] / len(e["answer_ids"]), 5) for e in made],
        "monte_carlo_elbo": [round(entry["monte_carlo_elbo"], 4) for entry in made],
        "shortness": [-len(entry["answer_ids"]) for entry in made],
        "passed": [int(finding.is_passed) for finding in findings],
    }


def report(config: TrajectoryConfig, rows: Sequence[Row]) -> Report:
    pools = collect_pools(rows)
    # Only problems that every policy answered completely at least once can be paired.
    whole = [p for p in pools if set(config.policies) <= set(p["policy"])]
    mean_of_pool = [float(np.mean(pool["passed"])) for pool in whole]
    mean_of_random = [mean_of(pool, RANDOM) for pool in whole]
    mean_of_first = [mean_of(pool, config.policies[0]) for pool in whole]
    best = [float(max(pool["passed"])) for pool in whole]
    lines = []
    separations, gains = {}, {}
    for name, key in SCORES.items():
        aucs = [compute_auc(pool[key], pool["passed"]) for pool in pools]
        separations[name] = estimate([[auc for auc in aucs if auc is not None] or [0.5]])
        kept = [pool["passed"][int(np.argmax(pool[key]))] for pool in whole]
        gains[name] = compare([kept], [mean_of_pool])
        lines.append(
            {
                "score": name,
                "AUC": separations[name],
                "AUC, same order": estimate([compute_aucs_within(pools, config.policies, key)]),
                "rho across": correlate_across(pools, key),
                "pass@1 of kept %": estimate([kept]),
                "minus pool %": gains[name],
                "minus random order %": compare([kept], [mean_of_random]),
                "minus first policy %": compare([kept], [mean_of_first]),
            }
        )
    first = Table(
        "Scores of a trajectory as predictors of passing",
        {
            "score": "of a candidate",
            "AUC": "chance that a passing candidate scores above a failing one to the same prompt "
            "(0.5: none; 2 AUC - 1 is the rank correlation), mean over problems with both",
            "AUC, same order": "the same among candidates of one policy: what is left when the "
            "score cannot tell orders apart; mean over problems and policies with both",
            "rho across": "Spearman correlation over problems, mean score against pass rate; "
            "the interval is a bootstrap over problems",
            "pass@1 of kept %": "of the candidate with the best score of each pool",
            "minus pool %": "that, minus the mean of the pool, paired by problem",
            "minus random order %": "that, minus the mean of the random-order runs, paired",
            "minus first policy %": f"that, minus the mean of {config.policies[0]}, paired",
        },
        lines,
    )
    by_policy = {
        policy: estimate([[mean_of(pool, policy) for pool in whole]]) for policy in config.policies
    }
    against = {
        policy: compare([[mean_of(p, policy) for p in whole]], [mean_of_random])
        for policy in config.policies
    }
    second = Table(
        "Orders of generation",
        {
            "policy": "see `distill.build_policy`",
            "pass@1 %": f"mean of {config.runs_per_policy} runs at temperature "
            f"{config.temperature}, complete answers only",
            "minus random order %": "paired by problem",
        },
        [
            {
                "policy": policy,
                "pass@1 %": by_policy[policy],
                "minus random order %": None if policy == RANDOM else against[policy],
            }
            for policy in config.policies
        ],
    )
    num_mixed = sum(0 < sum(pool["passed"]) < len(pool["passed"]) for pool in pools)
    rho = correlate_across(pools, SCORES["trajectory ELBO"])
    elbo, gain = separations["trajectory ELBO"], gains["trajectory ELBO"]
    rival = max((n for n in SCORES if n != "trajectory ELBO"), key=lambda n: separations[n].mean)
    versus_random, versus_first = (
        lines[0][f"minus {k} %"] for k in ("random order", "first policy")
    )
    assert isinstance(versus_random, Estimate)
    assert isinstance(versus_first, Estimate)
    verdict = "tells" if elbo.low > 0.5 else "is not shown to tell"
    reading = (
        f"The trajectory ELBO {verdict} right from wrong answers to the same prompt: AUC "
        f"{say(elbo)} over the {num_mixed} of {len(pools)} problems whose pool holds both. "
        f"Keeping the candidate of greatest ELBO gives {say(gain, points=True)} points over the "
        f"mean of the pool, {say(versus_random, points=True)} over random-order runs and "
        f"{say(versus_first, points=True)} over {config.policies[0]} alone, paired; "
        f"a perfect choice would pass {100 * float(np.mean(best)):.1f} % where the pool's mean is "
        f"{100 * float(np.mean(mean_of_pool)):.1f} %. The best rival is '{rival}' with AUC "
        f"{say(separations[rival])}. Over problems the mean ELBO and the pass rate have a rank "
        f"correlation of {say(rho)}."
    )

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        draw_bars(left, list(SCORES), list(separations.values()), "AUC within a problem")
        left.axvline(0.5, color="0.5", linestyle=":")
        names = [f"best {name}" for name in SCORES]
        names += [f"minus {policy}" for policy in config.policies if policy != RANDOM]
        values = [line["minus random order %"] for line in lines]
        values += [against[policy] for policy in config.policies if policy != RANDOM]
        names = [name.removeprefix("minus ") for name in names]
        shown = [value for value in values if isinstance(value, Estimate)]
        draw_bars(right, names, shown, "pass@1 minus that of random order, paired")
        right.axvline(0, color="0.5", linestyle=":")

    return Report([first, second], reading, draw)


def collect_pools(rows: Sequence[Row]) -> list[Row]:
    """One pool per seed and problem, of all policies; `policy` says whose each candidate is."""
    pools: dict[tuple[int, int], Row] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        for index, problem in enumerate(row["problem"]):
            pool = pools.setdefault((row["seed"], problem), {"policy": []})
            pool["policy"].append(row["arm"])
            for key in (*SCORES.values(), "passed"):
                pool.setdefault(key, []).append(row[key][index])
    return list(pools.values())


def mean_of(pool: Row, policy: str) -> float:
    """Pass rate of the candidates of one policy."""
    pairs = zip(pool["policy"], pool["passed"], strict=True)
    return float(np.mean([passed for own, passed in pairs if own == policy]))


def compute_auc(scores: Sequence[float], passed: Sequence[int]) -> float | None:
    """Chance that a passing candidate scores above a failing one, ties half; None without both."""
    right = np.array([s for s, ok in zip(scores, passed, strict=True) if ok], float)
    wrong = np.array([s for s, ok in zip(scores, passed, strict=True) if not ok], float)
    if not len(right) or not len(wrong):
        return None
    gaps = right[:, None] - wrong[None, :]
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


def compute_aucs_within(pools: Sequence[Row], policies: Sequence[str], key: str) -> list[float]:
    """AUC of each problem and policy whose candidates hold both; 0.5 if there is none at all."""
    aucs = []
    for pool in pools:
        for policy in policies:
            own = [index for index, name in enumerate(pool["policy"]) if name == policy]
            scores, passed = ([pool[k][index] for index in own] for k in (key, "passed"))
            auc = compute_auc(scores, passed)
            aucs += [] if auc is None else [auc]
    return aucs or [0.5]


def correlate_across(pools: Sequence[Row], key: str) -> Estimate:
    """Spearman correlation over problems of the mean score and the pass rate; 0 if one is flat."""
    pairs = np.array([[np.mean(pool[key]), np.mean(pool["passed"])] for pool in pools])
    chosen = np.random.default_rng(0).integers(len(pairs), size=(NUM_DRAWS, len(pairs)))
    low, high = np.percentile([correlate(pairs[rows]) for rows in chosen], [2.5, 97.5])
    return Estimate(correlate(pairs), float(low), float(high))


def correlate(pairs: NDArray[np.float64]) -> float:
    """Spearman correlation of the two columns of float64 [N, 2]; 0 if one is flat."""
    scores, rates = pairs.T
    is_flat = np.ptp(scores) == 0 or np.ptp(rates) == 0
    return 0.0 if is_flat else float(spearmanr(scores, rates).statistic)


TRAJECTORY_QUALITY = Experiment(
    "trajectory-quality",
    "Does the ELBO of a trajectory predict that its answer passes, and are the answers it keeps "
    "better than those of random-order runs?",
    TrajectoryConfig,
    plan,
    measure,
    report,
)
