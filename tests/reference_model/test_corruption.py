"""Both forward processes against the paper's equations, edits also against a library's distance."""

import inspect
import textwrap

import pytest
import torch
from rapidfuzz.distance import Hamming, Levenshtein

from sdb_reference_model.checkpoint import load_checkpoint
from sdb_reference_model.corruption import (
    MIN_TIME,
    Schedule,
    compute_elbo_weight,
    compute_gamma,
    compute_transition,
    count_edits,
    draw_replacements,
    edit_tokens,
    invert_gamma,
    mask_tokens,
    sample_times,
)

MASK = 99
SCHEDULES: tuple[Schedule, ...] = ("linear", "cosine")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_gamma_is_a_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    gamma = compute_gamma(t, schedule)
    assert gamma[0] == 0
    assert gamma[-1] == pytest.approx(1)
    assert (gamma.diff() > 0).all()
    torch.testing.assert_close(invert_gamma(gamma, schedule), t)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weight_is_the_logarithmic_derivative_of_gamma(schedule: Schedule) -> None:
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    h = 1e-6
    slope = (compute_gamma(t + h, schedule) - compute_gamma(t - h, schedule)) / (2 * h)
    torch.testing.assert_close(compute_elbo_weight(t, schedule), slope / compute_gamma(t, schedule))


def test_cosine_masks_later_than_linear() -> None:
    t = torch.linspace(0.1, 0.9, 9)
    assert (compute_gamma(t, "cosine") < compute_gamma(t, "linear")).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_transition_composes_to_the_marginal(schedule: Schedule) -> None:
    s, t = torch.tensor(0.3), torch.tensor(0.8)
    gamma_s, gamma_t = compute_gamma(s, schedule), compute_gamma(t, schedule)
    keep, mask = compute_transition(gamma_s, gamma_t)
    torch.testing.assert_close(keep + mask, torch.tensor(1.0))
    torch.testing.assert_close((1 - gamma_s) * keep, 1 - gamma_t)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_blocks_are_clipped_to_one_mask_on_average(schedule: Schedule) -> None:
    t = sample_times(1000, 8, torch.Generator().manual_seed(0), schedule)
    assert float(compute_gamma(t, schedule).min()) == pytest.approx(1 / 8)
    assert t.max() <= 1


def test_without_the_clip_times_go_down_to_the_least() -> None:
    t = sample_times(10_000, 4, torch.Generator().manual_seed(0), is_clipped=False)
    assert float(t.min()) == pytest.approx(MIN_TIME)
    assert float((t < 0.25).float().mean()) == pytest.approx(0.25, abs=0.001)
    mass = float((1 / sample_times(10_000, 4, torch.Generator().manual_seed(0))).max())
    assert mass == 4.0


def test_times_are_uniform_evenly_spread_and_clipped() -> None:
    t = sample_times(1000, 8, torch.Generator().manual_seed(0))
    assert t.min() == 1 / 8
    assert t.max() <= 1
    edges = torch.histc(t[t > 1 / 8], bins=7, min=1 / 8, max=1)
    assert edges.max() - edges.min() <= 2  # a plain uniform draw would differ by about 30
    assert not torch.equal(t, t.sort().values)


def test_masking_rate_and_positions() -> None:
    generator = torch.Generator().manual_seed(1)
    x0 = torch.arange(64).expand(4000, 64)
    gamma = torch.full((4000,), 0.3)
    xt, is_masked = mask_tokens(x0, gamma, MASK, generator)
    assert torch.equal(xt == MASK, is_masked)
    assert torch.equal(xt[~is_masked], x0[~is_masked])
    rate = is_masked.float().mean(dim=0)  # 4,000 draws each: standard deviation 0.0072
    assert (rate - 0.3).abs().max() < 0.036


def test_every_row_has_a_mask_and_all_can_be_masked() -> None:
    x0 = torch.zeros(500, 4, dtype=torch.long)
    _, rare = mask_tokens(x0, torch.full((500,), 1e-6), MASK, torch.Generator().manual_seed(2))
    assert (rare.sum(dim=1) == 1).all()
    assert (rare.sum(dim=0) > 80).all()  # no position is favoured
    _, full = mask_tokens(x0, torch.ones(500), MASK)
    assert full.all()


def make_rows(num_rows: int, length: int) -> torch.Tensor:
    """Rows without a repeated token, so that the distance of a substitution is 1 and not less."""
    return torch.stack([torch.arange(length) + 3 for _ in range(num_rows)])


def test_number_of_edits_is_that_of_equation_four() -> None:
    lengths = torch.tensor([9, 10, 19, 20, 100])
    assert count_edits(lengths, torch.full((5,), 0.1)).tolist() == [0, 1, 1, 2, 10]
    assert not count_edits(lengths, torch.zeros(5)).any()


@pytest.mark.parametrize("substitution_share", [0.0, 0.5, 1.0])
def test_edits_bound_and_nearly_reach_the_levenshtein_distance(substitution_share: float) -> None:
    generator = torch.Generator().manual_seed(3)
    x0 = make_rows(300, 60)
    lengths = torch.full((300,), 60)
    num_edits = torch.randint(0, 7, (300,), generator=generator)
    replacements = torch.randint(100, 5000, x0.shape, generator=generator)
    xt = edit_tokens(
        x0,
        lengths,
        num_edits,
        replacements,
        substitution_share=substitution_share,
        window=8,
        generator=generator,
    )
    assert xt.shape == x0.shape
    distances = [Levenshtein.distance(a, b) for a, b in zip(x0.tolist(), xt.tolist(), strict=True)]
    assert all(d <= k for d, k in zip(distances, num_edits.tolist(), strict=True))
    # An insertion inside an earlier pair's window may delete what that one inserted; one
    # substitution never undoes another, since no position is drawn twice.
    assert sum(distances) >= (0.95 if substitution_share < 1 else 1.0) * int(num_edits.sum())


@pytest.mark.parametrize("substitution_share", [0.0, 0.5, 1.0])
def test_edits_nearly_reach_their_distance_on_real_code(substitution_share: float) -> None:
    """The standard library's own source, in which tokens repeat: an edit may change nothing."""
    tokenizer = load_checkpoint("demo-diffusion").tokenizer
    ids = tokenizer.encode(inspect.getsource(textwrap), is_start=False)
    x0 = torch.tensor(ids[: len(ids) // 100 * 100]).view(-1, 100).repeat(4, 1)
    generator, weights = torch.Generator().manual_seed(3), torch.ones(tokenizer.vocab_size)
    num_edits = torch.randint(0, 11, (len(x0),), generator=generator)
    xt = edit_tokens(
        x0,
        torch.full((len(x0),), 100),
        num_edits,
        draw_replacements(x0, weights, generator),
        substitution_share=substitution_share,
        generator=generator,
    )
    distances = [Levenshtein.distance(a, b) for a, b in zip(x0.tolist(), xt.tolist(), strict=True)]
    assert all(d <= k for d, k in zip(distances, num_edits.tolist(), strict=True))
    assert sum(distances) >= 0.9 * int(num_edits.sum())


@pytest.mark.parametrize("substitution_share", [0.0, 0.3, 0.5, 1.0])
def test_share_of_substitutions_is_that_asked_for(substitution_share: float) -> None:
    x0 = make_rows(2000, 100)
    xt = edit_tokens(
        x0,
        torch.full((2000,), 100),
        torch.full((2000,), 10),
        torch.full_like(x0, 999),
        substitution_share=substitution_share,
        window=1,
        generator=torch.Generator().manual_seed(4),
    )
    # A pair one apart swaps a neighbour in: 2 edits with one new token; a substitution is 1 edit
    # with one. So n operations of which p are pairs leave n new tokens of 10 = n + p edits.
    num_new = float((xt == 999).sum()) / 2000
    expected = 10 * substitution_share + 10 * (1 - substitution_share) / 2
    assert num_new == pytest.approx(expected, abs=0.25)


def test_pairs_leave_everything_outside_their_window_aligned() -> None:
    x0 = make_rows(500, 40)
    xt = edit_tokens(
        x0,
        torch.full((500,), 40),
        torch.full((500,), 2),
        torch.full_like(x0, 999),
        substitution_share=0.0,
        window=4,
        generator=torch.Generator().manual_seed(5),
    )
    for clean, edited in zip(x0.tolist(), xt.tolist(), strict=True):
        moved = [i for i in range(40) if clean[i] != edited[i]]
        assert 2 <= len(moved) == moved[-1] - moved[0] + 1 <= 5
        assert Levenshtein.distance(clean, edited) == 2
        assert Hamming.distance(clean, edited) == len(moved)


def test_edits_stay_inside_the_given_length_and_follow_the_generator() -> None:
    x0, lengths = make_rows(64, 20), torch.arange(64) % 20
    replacements = torch.full_like(x0, 999)

    def edit(seed: int) -> torch.Tensor:
        return edit_tokens(
            x0, lengths, lengths, replacements, generator=torch.Generator().manual_seed(seed)
        )

    xt = edit(0)
    is_outside = torch.arange(20)[None] >= lengths[:, None]
    assert torch.equal(xt[is_outside], x0[is_outside])
    assert (xt != x0).any(dim=1).sum() >= 60  # only rows of length 0 have nothing to edit
    assert torch.equal(xt, edit(0))
    assert not torch.equal(xt, edit(1))


def test_replacements_follow_their_weights_and_are_never_the_truth() -> None:
    x0 = torch.full((200, 100), 4)
    weights = torch.tensor([0.0, 0.0, 0.0, 1.0, 5.0, 3.0])
    drawn = draw_replacements(x0, weights, torch.Generator().manual_seed(6))
    assert set(drawn.flatten().tolist()) == {3, 5}
    assert float((drawn == 5).float().mean()) == pytest.approx(0.75, abs=0.015)


def test_impossible_edits_are_refused() -> None:
    x0 = make_rows(1, 4)
    one = torch.ones(1, dtype=torch.long)
    with pytest.raises(ValueError, match=r"substitution_share=1\.5"):
        edit_tokens(x0, one, one, x0, substitution_share=1.5)
    with pytest.raises(ValueError, match="window=0"):
        edit_tokens(x0, one, one, x0, window=0)
    with pytest.raises(ValueError, match="two tokens"):
        draw_replacements(x0, torch.tensor([0.0, 1.0]))
