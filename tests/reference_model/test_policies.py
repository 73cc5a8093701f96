"""What the policies decide, on numbers that fit on a line."""

import math
import re
from dataclasses import replace

import pytest
import torch

from sdb_reference_model.policies import (
    Judgement,
    Policy,
    Reviser,
    Revision,
    Schedule,
    build_plan,
    commit_above,
    commit_hierarchically,
    commit_top,
    commit_within,
    commit_within_entropy,
    edit_above,
    label_above,
    remask_above,
    remask_on_schedule,
)
from sdb_reference_model.policy_specs import parse_policy


def judge(
    block: list[int],
    proposal: list[int],
    confidence: list[float],
    is_visible: list[bool] | None = None,
    step: int = 0,
) -> Judgement:
    return Judgement(
        torch.tensor([block]),
        torch.tensor([proposal]),
        torch.tensor([confidence]),
        torch.tensor([is_visible or [True] * len(block)]),
        torch.arange(len(block))[None],
        step,
    )


def start(revision: Revision) -> Reviser:
    return Reviser(revision, torch.tensor([revision.budget or 0]))


@pytest.mark.parametrize("revision", [edit_above(0.5, 9), remask_above(0.5, 9)])
def test_only_visible_tokens_that_another_one_beats_are_revised(revision: Revision) -> None:
    judgement = judge([4, 5, 6, 7], [4, 9, 9, 9], [0.9, 0.9, 0.5, 0.9], [True, True, True, False])
    assert start(revision).revise(judgement)[0].tolist() == [False, True, False, False]


def test_budget_goes_to_the_most_confident_and_is_spent_over_the_block() -> None:
    reviser = start(edit_above(0.5, 2))
    first = reviser.revise(judge([4, 5, 6], [7, 8, 9], [0.6, 0.9, 0.8]))
    assert first[0].tolist() == [False, True, True]
    second = reviser.revise(judge([4, 8, 9], [7, 1, 2], [0.9, 0.9, 0.9]))
    assert not second.any()


def test_a_token_that_was_edited_away_does_not_return() -> None:
    reviser = start(edit_above(0.5, 9))
    assert reviser.revise(judge([4, 5], [7, 5], [0.9, 0.9])).tolist() == [[True, False]]
    assert not reviser.revise(judge([7, 5], [4, 5], [0.9, 0.9])).any()
    assert reviser.revise(judge([7, 5], [8, 4], [0.9, 0.9])).tolist() == [[True, True]]


def test_a_token_that_was_masked_again_and_came_back_stays() -> None:
    reviser = start(remask_above(0.5, 9))
    judgement = judge([4, 5], [7, 5], [0.9, 0.9])
    assert reviser.revise(judgement).tolist() == [[True, False]]
    assert not reviser.revise(judgement).any()
    assert reviser.revise(judge([6, 5], [7, 5], [0.9, 0.9])).tolist() == [[True, False]]


def test_no_block_is_labelled_twice_in_the_same_state() -> None:
    reviser = start(label_above(0.5, 9))
    first = judge([4, 5, 6], [4, 3, 6], [0.9, 0.9, 0.9])
    assert reviser.revise(first).tolist() == [[False, True, False]]
    assert reviser.revise(judge([4, 6, 5], [4, 3, 5], [0.9, 0.9, 0.9])).any()
    assert not reviser.revise(first).any()
    assert int(reviser.num_left) == 7


@pytest.mark.parametrize(
    ("schedule", "eta", "expected"),
    [
        # sigma_max = min(1, (1 - alpha_s) / alpha_t): 3/0, 2/1, 1/2, 0/3
        ("cap", 0.3, [0.3, 0.3, 0.3, 0.0]),
        ("cap", 0.8, [0.8, 0.8, 0.5, 0.0]),
        ("rescale", 0.3, [0.3, 0.3, 0.15, 0.0]),
        ("rescale", 1.0, [1.0, 1.0, 0.5, 0.0]),
    ],
)
def test_random_remasking_follows_the_schedules_of_remdm(
    schedule: Schedule, eta: float, expected: list[float]
) -> None:
    length = 20_000
    reviser = start(remask_on_schedule(schedule, eta, 4))
    rates = []
    for step in range(4):
        judgement = judge([4] * length, [4] * length, [-1.0] * length, step=step)
        rates.append(float(reviser.revise(judgement).float().mean()))
    assert rates == pytest.approx(expected, abs=0.015)


def test_doubtful_tokens_are_remasked_more_often_by_confidence() -> None:
    """As defined: softmax of -p at the commit, over what is visible, times sigma_max."""
    block, proposal = [9, 9, 9, 9], [4, 5, 6, 7]
    counts = torch.zeros(4)
    for seed in range(4000):
        reviser = start(remask_on_schedule("conf", 1.0, 4))

        def look(
            tokens: list[int],
            confidence: list[float],
            is_visible: list[bool],
            step: int,
            reviser: Reviser = reviser,
            seed: int = seed,
        ) -> torch.Tensor:
            judgement = judge(tokens, proposal, confidence, is_visible, step)
            return reviser.revise(replace(judgement, noise_seeds=torch.arange(4)[None] + 4 * seed))

        assert not look(block, [0.9, 0.1, 0.5, 0.5], [False] * 4, 0).any()
        # Two were committed, and say nothing of themselves any more.
        look([4, 5, 9, 9], [-1.0, -1.0, 0.7, 0.7], [True, True, False, False], 1)
        counts += look([4, 5, 6, 9], [-1.0, -1.0, -1.0, 0.8], [True, True, True, False], 2)[0]
    doubt = torch.tensor([-0.9, -0.1, -0.7])
    assert counts[:3].div(4000).tolist() == pytest.approx((doubt.softmax(0) / 2).tolist(), abs=0.03)
    assert counts[3] == 0


def test_a_scheduled_token_may_be_taken_back_twice() -> None:
    reviser = start(remask_on_schedule("rescale", 1.0, 9))
    for step in (1, 2, 3):
        assert reviser.revise(judge([4, 5], [4, 5], [0.9, 0.9], step=step)).all()


def test_a_budget_of_steps_spreads_what_the_threshold_leaves() -> None:
    policy = commit_above(0.9, max_steps=3)
    assert choose(policy) == [0, 5]  # 6 open in 3 steps: the threshold passes one, the quota two
    assert [i for i, x in enumerate(policy(CONFIDENCE, IS_OPEN, 2)[0].tolist()) if x] == [
        0, 1, 2, 4, 5, 6,
    ]  # fmt: skip


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="budget 0"):
        edit_above(0.5, 0)
    with pytest.raises(ValueError, match=r"eta=1\.5"):
        remask_on_schedule("cap", 1.5, 4)


CONFIDENCE = torch.tensor([[0.9, 0.6, 0.7, -1.0, 0.7, 0.95, 0.1], [-1.0] * 7])
IS_OPEN = torch.tensor([[True, True, True, False, True, True, True], [False] * 7])


def choose(policy: Policy) -> list[int]:
    """Positions of the first row; the second one is finished."""
    chosen = policy(CONFIDENCE, IS_OPEN, 0)
    assert not chosen[1].any()
    return [i for i, is_chosen in enumerate(chosen[0].tolist()) if is_chosen]


def test_top_commits_a_number_of_tokens_the_left_one_of_equals_first() -> None:
    assert choose(commit_top(1)) == [5]
    assert choose(commit_top(3)) == [0, 2, 5]
    assert choose(commit_top(9)) == [0, 1, 2, 4, 5, 6]


def test_error_budget_is_spent_from_the_most_probable_on() -> None:
    assert choose(commit_within(0.0)) == [5]
    assert choose(commit_within(0.16)) == [0, 5]  # 0.05 + 0.10
    assert choose(commit_within(0.46)) == [0, 2, 5]  # and 0.30
    assert choose(commit_within(9.0)) == [0, 1, 2, 4, 5, 6]


def test_entropy_bound_leaves_the_largest_out() -> None:
    entropy = [-math.log(p) for p in (0.95, 0.9, 0.7, 0.7)]
    assert choose(commit_within_entropy(0.0)) == [5]
    assert choose(commit_within_entropy(entropy[0] - 1e-3)) == [5]
    assert choose(commit_within_entropy(entropy[0] + 1e-3)) == [0, 5]
    assert choose(commit_within_entropy(sum(entropy[:2]) + 1e-3)) == [0, 2, 5]
    assert choose(commit_within_entropy(sum(entropy[:3]) + 1e-3)) == [0, 2, 4, 5]
    assert choose(commit_within_entropy(99.0)) == [0, 1, 2, 4, 5, 6]


def test_entropy_bound_is_that_of_the_paper_on_random_rows() -> None:
    """Against the definition: rising entropy, sum minus maximum within the bound."""
    rng = torch.Generator().manual_seed(0)
    entropy = torch.rand(200, 9, generator=rng).double()
    is_open = torch.rand(200, 9, generator=rng) < 0.8
    confidence = torch.where(is_open, (-entropy).exp(), -1.0)
    for row, chosen in enumerate(commit_within_entropy(0.7)(confidence, is_open, 0).tolist()):
        order = sorted((float(entropy[row, i]), i) for i in range(9) if is_open[row, i])
        size = max(
            (n for n in range(1, len(order) + 1) if sum(h for h, _ in order[: n - 1]) <= 0.7),
            default=0,
        )
        assert {i for i, is_in in enumerate(chosen) if is_in} == {i for _, i in order[:size]}


def test_hierarchy_splits_every_run_of_masks() -> None:
    assert choose(commit_hierarchically(0.99, 0.5)) == [0, 5]  # the best of each of two runs
    assert choose(commit_hierarchically(0.65, 0.5)) == [0, 2, 4, 5]
    assert choose(commit_hierarchically(0.99, 0.92)) == [5]
    assert choose(commit_hierarchically(0.99, 0.99)) == [5]  # always the best


def test_policies_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="num_tokens=0"):
        commit_top(0)
    with pytest.raises(ValueError, match=r"error=-1"):
        commit_within(-1.0)
    with pytest.raises(ValueError, match=r"bound=-1"):
        commit_within_entropy(-1.0)
    with pytest.raises(ValueError, match=r"low_threshold=0\.9"):
        commit_hierarchically(0.5, 0.9)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("top:3", [0, 2, 5]),
        ("leftmost:3", [0, 1, 2]),
        ("prefix:0.9", [0]),
        ("error:0.16", [0, 5]),
        ("entropy:0.06", [0, 5]),
        ("hierarchical:0.65:0.5", [0, 2, 4, 5]),
        ("bounded:0.8:9", [0, 5]),
        ("bounded:0.8:2", [0, 2, 5]),
        ("remdm-cap:0.1:3", [0, 5]),
        ("remdm-rescale:0.1:3", [0, 5]),
        ("remdm-conf:2", [0, 2, 5]),
        ("edit:0.8:0.9:4", [0, 5]),
        ("remask:0.8:0.9:4", [0, 5]),
        ("levenshtein:0.8:0.9:4", [0, 5]),
    ],
)
def test_texts_name_policies(text: str, chosen: list[int]) -> None:
    plan = build_plan(parse_policy(text))
    assert choose(plan.policy) == chosen
    actions = {"edit": "edit", "remask": "remask", "remdm": "remask", "levenshtein": "label"}
    expected = actions.get(text.partition(":")[0].partition("-")[0])
    assert (plan.revision.action if plan.revision else None) == expected
    budget = None if text.startswith("remdm") else 4
    assert plan.revision is None or plan.revision.budget == budget
    assert (plan.measure == "certainty") == text.startswith("entropy")


def test_a_prefix_ends_at_the_first_doubt_and_passes_over_what_stands() -> None:
    confidence = torch.tensor([[0.2, 0.95, 0.95, 0.5, 0.99], [-1.0, 0.95, -1.0, 0.92, 0.1]])
    is_open = torch.tensor([[True] * 5, [False, True, False, True, True]])
    chosen = build_plan(parse_policy("prefix:0.9")).policy(confidence, is_open, 0)
    assert chosen.tolist() == [[True, True, True, False, False], [False, True, False, True, False]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("entropi:1", "unknown policy 'entropi'; did you mean 'entropy'?"),
        ("best", "unknown policy 'best'; use top:TOKENS, leftmost:TOKENS, prefix:THRESH"),
        ("top", "policy 'top' does not fit top:TOKENS: tokens, budget, steps are whole and from 1"),
        ("top:1.5", "'top:1.5' does not fit"),
        ("top:0", "'top:0' does not fit"),
        ("entropy:-1", "'entropy:-1' does not fit entropy:BOUND"),
        ("entropy:inf", "'entropy:inf' does not fit"),
        ("entropy:nan", "'entropy:nan' does not fit"),
        ("edit:0.9:0.8", "does not fit edit:THRESHOLD:EDIT_THRESHOLD:BUDGET"),
        ("edit:1.9:0.8:1", "does not fit"),
        ("hierarchical:0.5:0.9", "low_threshold at most threshold"),
        ("top:1:2", "does not fit"),
        ("top:x", "does not fit"),
        ("bounded:0.9:0", "does not fit bounded:THRESHOLD:STEPS"),
        ("remdm-cap:1.5:8", "does not fit remdm-cap:ETA:STEPS"),
        ("remdm-conf:0.5", "does not fit remdm-conf:STEPS: tokens, budget, steps are whole"),
        ("remdm:0.5:8", "unknown policy 'remdm'; "),
    ],
)
def test_texts_that_name_none_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_policy(text)
    assert "\n" not in str(caught.value)


def test_pipelining_is_no_policy_of_one_block() -> None:
    with pytest.raises(ValueError, match="use sample_pipelined"):
        build_plan(parse_policy("pipelined:0.9:0.5"))
