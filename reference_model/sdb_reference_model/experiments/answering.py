"""Answers to an exam with everything that is counted about them: speed, tests, failure signatures.

Place in the flow: experiments decode through `answer` and sum up with `summarise`. Seconds are
those of the process's CPU clock, so that other work on the machine does not count as slowness; on
one thread and an idle machine they are the time that a user waits.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import torch

from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.distill import build_policy
from sdb_reference_model.experiments.laboratory import (
    Estimate,
    Exam,
    Row,
    estimate,
    estimate_ratio,
    examine,
    select,
)
from sdb_reference_model.past import Past
from sdb_reference_model.policies import Revision
from sdb_reference_model.sampler import Generation, sample_blocks

NGRAM = 4

NUM_WARM_UPS = 3

Sample = Callable[[list[list[int]]], list[Generation]]
"""Prompt ids -> one generation each."""

COLUMNS: Mapping[str, str] = {
    "pass@1 %": "greedy answers that pass all hidden tests",
    "tokens/forward": "answer tokens per forward, prefill left out",
    "tokens/CPU s": "answer tokens per second of CPU time, prefill included, one prompt at a time",
    "repetition %": f"{NGRAM}-grams of tokens that occurred before in the same answer",
    "malformed %": "answers that do not compile",
    "undefined %": "answers that fail because of an undefined name",
    "truncated %": "answers that hit the token limit",
}
"""Of `summarise`, with their meanings."""


def make_block_sampler(
    checkpoint: Checkpoint,
    block_size: int,
    policy: str,
    max_new_tokens: int,
    revision: Revision | None = None,
    past: Past | None = None,
) -> Sample:
    """Greedy block sampling under a policy that `distill.build_policy` names.

    A block is read against `past`, by default what the model was trained for, the fast way.
    """

    def sample(prompts: list[list[int]]) -> list[Generation]:
        return sample_blocks(
            checkpoint.model,
            checkpoint.tokenizer,
            prompts,
            block_size=block_size,
            policy=build_policy(policy, torch.Generator().manual_seed(0)),
            max_new_tokens=max_new_tokens,
            revision=revision,
            past=past or checkpoint.choose_past(block_size),
        )

    return sample


def answer(
    checkpoint: Checkpoint, exam: Exam, sample: Sample, batch_size: int
) -> tuple[list[str], Row]:
    """Answer every problem of the exam and judge the answers.

    Args:
        checkpoint: for its tokenizer.
        exam: problems and tests.
        sample: how to generate.
        batch_size: prompts at once; speeds mean something at 1 only, which is warmed up.

    Returns:
        The completions, and lists per problem: group, passed, malformed, undefined, truncated,
        tokens, forwards, cpu_s, repetition.
    """
    tokenizer = checkpoint.tokenizer
    prompts = tokenizer.encode_batch(exam.prompts)
    for _ in range(NUM_WARM_UPS if batch_size == 1 else 0):
        sample(prompts[:1])
    generations: list[Generation] = []
    seconds: list[float] = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        started = time.process_time()
        generations += sample(part)
        seconds += [(time.process_time() - started) / len(part)] * len(part)
    completions = [tokenizer.decode(generation.token_ids) for generation in generations]
    findings = examine(exam.judge, range(len(prompts)), completions)
    return completions, {
        "group": list(exam.groups),
        "passed": [int(finding.is_passed) for finding in findings],
        "malformed": [int(finding.is_malformed) for finding in findings],
        "undefined": [int(finding.is_undefined_name) for finding in findings],
        "truncated": [int(g.finish_reason == "length") for g in generations],
        "tokens": [len(generation.token_ids) for generation in generations],
        "forwards": [g.nfe_denoise + g.nfe_commit + g.nfe_draft for g in generations],
        "cpu_s": [round(value, 6) for value in seconds],
        "repetition": [
            round(compute_repetition(generation.token_ids), 4) for generation in generations
        ],
    }


def compute_repetition(ids: Sequence[int], n: int = NGRAM) -> float:
    """Share of the n-grams that occurred before in the same sequence; 0 where there is none."""
    ngrams = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def summarise(
    rows: Sequence[Row], arm: str, prefix: str = "", *, are_runs: bool = False
) -> dict[str, Estimate]:
    """Estimates of one arm under the names of `COLUMNS`.

    Args:
        rows: of all units.
        arm: which.
        prefix: of the keys, where one row holds several answers to the same exam.
        are_runs: whether seeds are training runs, see `laboratory.estimate`.
    """
    lists = {
        key: select(rows, arm, prefix + key)
        for key in (
            "passed",
            "tokens",
            "forwards",
            "cpu_s",
            "repetition",
            "malformed",
            "undefined",
            "truncated",
        )
    }
    return {
        "pass@1 %": estimate(lists["passed"], are_runs=are_runs),
        "tokens/forward": estimate_ratio(lists["tokens"], lists["forwards"], are_runs=are_runs),
        "tokens/CPU s": estimate_ratio(lists["tokens"], lists["cpu_s"], are_runs=are_runs),
        "repetition %": estimate(lists["repetition"], are_runs=are_runs),
        "malformed %": estimate(lists["malformed"], are_runs=are_runs),
        "undefined %": estimate(lists["undefined"], are_runs=are_runs),
        "truncated %": estimate(lists["truncated"], are_runs=are_runs),
    }
