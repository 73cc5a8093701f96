"""The mask process against the paper's equations."""

import torch

from sdb_reference_model.corruption import (
    compute_elbo_weight,
    compute_gamma,
    compute_transition,
    mask_tokens,
    sample_times,
)

MASK = 99


def test_gamma_is_a_schedule() -> None:
    gamma = compute_gamma(torch.linspace(0, 1, 101))
    assert gamma[0] == 0
    assert gamma[-1] == 1
    assert (gamma.diff() > 0).all()


def test_weight_is_the_logarithmic_derivative_of_gamma() -> None:
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    h = 1e-6
    slope = (compute_gamma(t + h) - compute_gamma(t - h)) / (2 * h)
    torch.testing.assert_close(compute_elbo_weight(t), slope / compute_gamma(t))


def test_transition_composes_to_the_marginal() -> None:
    s, t = torch.tensor(0.3), torch.tensor(0.8)
    keep, mask = compute_transition(compute_gamma(s), compute_gamma(t))
    torch.testing.assert_close(keep + mask, torch.tensor(1.0))
    torch.testing.assert_close((1 - compute_gamma(s)) * keep, 1 - compute_gamma(t))


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
