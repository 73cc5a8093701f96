"""Fine-tuning: `order` (Eq. 9 along four orders) and `verifier-robustness` (Eq. 10 and its V).

Here too is what these share with `mixing.py`, `lengths.py` and `attending.py`, which train as well.

Each seed is a training run; the start checkpoint is measured beside them. Continuing a trained
model is not training one: what needs long training to show does not show here.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from sdb_reference_model.checkpoint import Checkpoint, load_checkpoint
from sdb_reference_model.constrained import ConstrainedConfig, fine_tune
from sdb_reference_model.distill import DistillConfig, distill
from sdb_reference_model.experiments.answering import (
    COLUMNS,
    answer,
    make_block_sampler,
    summarise,
)
from sdb_reference_model.experiments.laboratory import (
    Exam,
    Experiment,
    ExperimentConfig,
    Finding,
    Judge,
    Report,
    Row,
    Supplies,
    Table,
    compare,
    draw_panels,
    estimate,
    say,
    select,
    take_exam,
)
from sdb_reference_model.onpolicy import OnPolicyConfig, train_on_policy
from sdb_reference_model.past import Past
from sdb_reference_model.trajectories import Order, Verify
from sdb_reference_model.verifier_head import fit_verifier_head, make_learned_verifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

START = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningConfig(ExperimentConfig):
    """What the experiments that train share."""

    threshold: float = 0.9
    """Commit threshold of the answers; they are also given at one token per forward."""


def answer_both(
    config: TuningConfig, checkpoint: Checkpoint, exam: Exam, past: Past | None = None
) -> Row:
    """Answers at one token per forward (`slow_`) and at the threshold (`fast_`)."""
    row: Row = {}
    for prefix, policy in (("slow_", "threshold:1.0"), ("fast_", f"threshold:{config.threshold}")):
        sample = make_block_sampler(
            checkpoint, config.block_size, policy, config.max_new_tokens, past=past
        )
        _, measured = answer(checkpoint, exam, sample, batch_size=config.num_problems)
        row |= {prefix + key: value for key, value in measured.items()}
    return row


def tabulate(rows: Sequence[Row], arms: Sequence[str], extra: Callable[[str], Any]) -> list[Any]:
    """One line per arm: answers at both settings, and what `extra` adds."""
    lines = []
    for arm in arms:
        slow = summarise(rows, arm, "slow_", are_runs=True)
        fast = summarise(rows, arm, "fast_", are_runs=True)
        fast.pop("tokens/CPU s")  # answers were made in one batch
        gain = None
        if arm != START:
            pairs = (select(rows, arm, "slow_passed"), select(rows, START, "slow_passed"))
            gain = compare(*pairs, are_runs=True)
        lines.append(
            {
                "arm": arm,
                "one by one %": slow["pass@1 %"],
                "minus start %": gain,
                **fast,
                **extra(arm),
            }
        )
    return lines


SHARED_COLUMNS = {
    "arm": "",
    "one by one %": "pass@1 at one token per forward",
    "minus start %": "that, minus the start checkpoint's, paired by problem",
    **{key: text for key, text in COLUMNS.items() if key != "tokens/CPU s"},
}


# order


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig(TuningConfig):
    """The pool that `order` tunes on and the learned verifier is fitted to."""

    pool_prompts: int = 256
    pool_policies: tuple[str, ...] = ("threshold:1.0", "threshold:0.9", "leftmost:1", "random:1")
    pool_temperatures: tuple[float, ...] = (0.0, 0.7)
    pool_seed: int = 100
    num_updates: int
    learning_rate: float


def make_rewards(judge: Judge) -> Verify:
    """Findings as the rewards that training knows."""

    def verify(rows: Sequence[int], completions: Sequence[str]) -> list[float | None]:
        findings = judge(rows, completions)
        return [None if finding is None else float(finding.is_passed) for finding in findings]

    return verify


def make_pool(config: PoolConfig, supplies: Supplies, work: Path) -> tuple[Exam, Dataset]:
    """Training problems, and the pool of judged candidates for them; made once per run."""
    exam = supplies.make_exam(
        split="train",
        levels=config.levels,
        num_problems=config.pool_prompts,
        seed=config.pool_seed,
    )
    pool = distill(
        DistillConfig(
            init_from=config.checkpoint,
            block_size=config.block_size,
            max_new_tokens=config.max_new_tokens,
            policies=config.pool_policies,
            temperatures=config.pool_temperatures,
            num_seeds=1,
            seed=config.pool_seed,
        ),
        load_checkpoint(config.checkpoint),
        exam.prompts,
        work / "pool",
        verify=make_rewards(exam.judge),
        provenance=supplies.provenance,
        on_shard=lambda done, winners: None,
    )
    return exam, pool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfig(PoolConfig):
    """Of `order`."""

    batch_size: int = 32
    num_updates: int = 60
    learning_rate: float = 2e-4


ORDERS: tuple[Order, ...] = ("elbo", "confidence", "random", "left-to-right")


def plan_order(config: OrderConfig) -> list[str]:
    return [START, *ORDERS]


def measure_order(config: OrderConfig, arm: str, seed: int, supplies: Supplies, work: Path) -> Row:
    checkpoint = load_checkpoint(config.checkpoint)
    for order in ORDERS:
        if order == arm:
            _, pool = make_pool(config, supplies, work)
            tuning = ConstrainedConfig(
                init_from=config.checkpoint,
                trajectories="pool",
                block_size=config.block_size,
                batch_size=config.batch_size,
                order=order,
                num_updates=config.num_updates,
                learning_rate=config.learning_rate,
                warmup_updates=config.num_updates // 10,
                seed=seed,
            )
            folder = fine_tune(
                tuning,
                checkpoint,
                pool,
                work / f"{arm}-{seed}",
                provenance=supplies.provenance,
                on_update=lambda update, metrics: None,
            )
            checkpoint = load_checkpoint(str(folder))
    return answer_both(config, checkpoint, take_exam(config, supplies, seed))


def report_order(config: OrderConfig, rows: Sequence[Row]) -> Report:
    arms = plan_order(config)
    chosen = select(rows, "elbo", "slow_passed")
    fast = select(rows, "elbo", "fast_passed")

    def measure_extra(arm: str) -> dict[str, Any]:
        if arm in (START, "elbo"):
            return {"elbo minus this %": None, "elbo minus this, fast %": None}
        slow, quick = (select(rows, arm, f"{prefix}_passed") for prefix in ("slow", "fast"))
        return {
            "elbo minus this %": compare(chosen, slow, are_runs=True),
            "elbo minus this, fast %": compare(fast, quick, are_runs=True),
        }

    lines = tabulate(rows, arms, measure_extra)
    columns = {
        **SHARED_COLUMNS,
        "elbo minus this %": "pass@1 of the ELBO order minus this one's, one token per forward, "
        "paired by seed and problem",
        "elbo minus this, fast %": f"the same at threshold {config.threshold}",
    }
    rivals = [line for line in lines if line["elbo minus this %"] is not None]
    clear = [
        line["arm"]
        for line in rivals
        if line["elbo minus this %"].low > 0 or line["elbo minus this, fast %"].low > 0
    ]
    verdict = f"clear of {', '.join(clear)}" if clear else "clear of none of the others"
    reading = (
        f"{config.num_updates} updates of {config.batch_size} of the model's own right answers, "
        f"the same answers and tokens in every order, {config.num_seeds} runs each. The "
        f"ELBO-selected order is {verdict}; it minus the others, at one token per forward: "
        + "; ".join(f"{r['arm']} {say(r['elbo minus this %'], points=True)}" for r in rivals)
        + f" points, and at threshold {config.threshold}: "
        + "; ".join(f"{r['arm']} {say(r['elbo minus this, fast %'], points=True)}" for r in rivals)
        + ". Against the start checkpoint it gains "
        f"{say(lines[1]['minus start %'], points=True)} points, at "
        f"{lines[1]['tokens/forward'].mean:.2f} tokens per forward where the start has "
        f"{lines[0]['tokens/forward'].mean:.2f}."
    )

    def draw(figure: "Figure") -> None:
        draw_panels(
            figure,
            lines,
            {
                "one by one %": "pass@1, one by one",
                "pass@1 %": f"pass@1, threshold {config.threshold}",
                "tokens/forward": "tokens per forward",
            },
        )

    return Report(
        [Table("Orders of the same answers, equal tokens", columns, lines)], reading, draw
    )


ORDER = Experiment(
    "order",
    "Fine-tuned on the same answers with equal tokens: is the ELBO-selected order better than the "
    "random, the confident and the left-to-right one?",
    OrderConfig,
    plan_order,
    measure_order,
    report_order,
)


# verifier-robustness


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessConfig(PoolConfig):
    """Of `verifier-robustness`."""

    prompts_per_update: int = 8
    runs_per_prompt: int = 8
    num_updates: int = 30
    learning_rate: float = 1e-4
    speed_weight: float = 1.0
    kl_weight: float = 0.05
    noise: float = 0.2
    """Share of the programs about which the noisy verifier says the opposite."""


VERIFIERS = ("full tests", "half the tests", "learned head", "noisy tests", "no verifier")


def plan_robustness(config: RobustnessConfig) -> list[str]:
    return [START, *VERIFIERS]


def build_verifier(
    config: RobustnessConfig, arm: str, exam: Exam, checkpoint: Checkpoint, pool: Dataset
) -> Verify | None:
    """The verifier of an arm for the problems of one exam; None is no verifier."""
    if arm == "half the tests":
        return make_rewards(exam.judge_half)
    if arm == "noisy tests":
        return make_rewards(add_noise(exam.judge, exam.prompts, config.noise))
    if arm == "learned head":
        head = fit_verifier_head(checkpoint, pool, config.block_size)
        return make_learned_verifier(head, checkpoint, exam.prompts, config.block_size)
    return make_rewards(exam.judge) if arm == "full tests" else None


def add_noise(judge: Judge, prompts: Sequence[str], noise: float) -> Judge:
    """Contradict the judge about a share of all programs: always the same ones."""

    def is_flipped(prompt: str, completion: str) -> bool:
        digest = hashlib.sha256(f"{prompt}\0{completion}".encode()).digest()
        return int.from_bytes(digest[:8]) < noise * 2**64

    def judge_noisily(rows: Sequence[int], completions: Sequence[str]) -> list[Finding | None]:
        findings = judge(rows, completions)
        return [
            Finding(not finding.is_passed, finding.is_malformed, finding.is_undefined_name)
            if finding is not None and is_flipped(prompts[row], completion)
            else finding
            for row, completion, finding in zip(rows, completions, findings, strict=True)
        ]

    return judge_noisily


def measure_robustness(
    config: RobustnessConfig, arm: str, seed: int, supplies: Supplies, work: Path
) -> Row:
    start = checkpoint = load_checkpoint(config.checkpoint)
    exam = take_exam(config, supplies, seed)
    verifier: Verify | None = make_rewards(exam.judge)
    if arm in VERIFIERS:
        training_exam, pool = make_pool(config, supplies, work)
        training = OnPolicyConfig(
            init_from=config.checkpoint,
            block_size=config.block_size,
            max_new_tokens=config.max_new_tokens,
            threshold=config.threshold,
            prompts_per_update=config.prompts_per_update,
            runs_per_prompt=config.runs_per_prompt,
            num_updates=config.num_updates,
            learning_rate=config.learning_rate,
            warmup_updates=config.num_updates // 10,
            speed_weight=config.speed_weight,
            kl_weight=config.kl_weight,
            verifier="none" if arm == "no verifier" else "sandbox",
            seed=seed,
        )
        folder = train_on_policy(
            training,
            start,
            training_exam.prompts,
            work / f"{arm.replace(' ', '-')}-{seed}",
            judge=make_rewards(training_exam.judge),
            verify=build_verifier(config, arm, training_exam, start, pool),
            provenance=supplies.provenance,
            on_update=lambda update, metrics: None,
        )
        checkpoint = load_checkpoint(str(folder))
        verifier = build_verifier(config, arm, exam, start, pool)
    row = answer_both(config, checkpoint, exam)
    policy = f"threshold:{config.threshold}"
    sample = make_block_sampler(checkpoint, config.block_size, policy, config.max_new_tokens)
    completions, _ = answer(checkpoint, exam, sample, batch_size=config.num_problems)
    problems = range(len(completions))
    values = [1.0] * len(completions) if verifier is None else verifier(problems, completions)
    return {**row, "accepted": [int(value is not None and value > 0.5) for value in values]}


def report_robustness(config: RobustnessConfig, rows: Sequence[Row]) -> Report:
    arms = plan_robustness(config)

    def measure_extra(arm: str) -> dict[str, Any]:
        accepted, passed = select(rows, arm, "accepted"), select(rows, arm, "fast_passed")
        hacked = [
            [float(a and not p) for a, p in zip(own, right, strict=True)]
            for own, right in zip(accepted, passed, strict=True)
        ]
        steps = select(rows, arm, "fast_forwards")
        return {
            "accepted %": estimate(accepted, are_runs=True),
            "hacked %": estimate(hacked, are_runs=True),
            "forwards": estimate(steps, are_runs=True),
        }

    lines = tabulate(rows, arms, measure_extra)
    columns = {
        **SHARED_COLUMNS,
        "accepted %": "answers at the threshold that the arm's own verifier accepts",
        "hacked %": "answers that it accepts and the full tests refuse",
        "forwards": "forwards per answer at the threshold",
    }
    by_arm = {line["arm"]: line for line in lines}
    full, none = by_arm["full tests"], by_arm["no verifier"]
    reading = (
        f"{config.num_updates} updates of {config.prompts_per_update} x {config.runs_per_prompt} "
        f"runs, {config.num_seeds} trainings per verifier. pass@1 at threshold {config.threshold} "
        f"by the full tests, start {say(by_arm[START]['pass@1 %'], points=True)} %: "
        + "; ".join(f"{arm} {say(by_arm[arm]['pass@1 %'], points=True)}" for arm in VERIFIERS)
        + ". Accepted by the own verifier and refused by the full tests: "
        + "; ".join(f"{arm} {say(by_arm[arm]['hacked %'], points=True)}" for arm in VERIFIERS)
        + f" %. Forwards per answer go from {by_arm[START]['forwards'].mean:.1f} to "
        f"{full['forwards'].mean:.1f} with the full tests and {none['forwards'].mean:.1f} without "
        "a verifier."
    )

    def draw(figure: "Figure") -> None:
        draw_panels(
            figure,
            lines,
            {
                "pass@1 %": f"pass@1, threshold {config.threshold}",
                "hacked %": "accepted but wrong",
                "forwards": "forwards per answer",
            },
        )

    return Report([Table("Verifiers of on-policy training", columns, lines)], reading, draw)


VERIFIER_ROBUSTNESS = Experiment(
    "verifier-robustness",
    "On-policy training with the full tests, half of them, a learned head, noisy tests or nothing "
    "as V: what remains by the full tests, and how much does V accept that they refuse?",
    RobustnessConfig,
    plan_robustness,
    measure_robustness,
    report_robustness,
)
