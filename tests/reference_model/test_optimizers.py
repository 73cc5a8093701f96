"""Muon against PyTorch's own, and what orthogonalising means."""

import pytest
import torch
from torch import nn

from sdb_reference_model.optimizers import Muon, build_optimizers, orthogonalise


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (32, 32)])
def test_singular_values_end_near_one(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(x))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_is_pytorchs_up_to_its_bfloat16() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(24, 40, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1),
    ]
    for _ in range(5):
        gradient = torch.randn(24, 40, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (theirs - start).norm()
    assert moved > 0.3
    assert (ours - theirs).norm() < 0.02 * moved


def test_every_parameter_has_one_optimizer_and_vectors_do_not_decay() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.RMSNorm(4))
    for name, num_optimizers in (("adamw", 1), ("muon", 2)):
        optimizers = build_optimizers(model, model[1], name, 0.1, torch.float32)  # type: ignore[arg-type]
        assert len(optimizers) == num_optimizers
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        owned = [id(p) for group in groups for p in group["params"]]
        assert sorted(owned) == sorted(id(p) for p in model.parameters())
        for group in groups:
            assert not group["weight_decay"] or all(p.dim() > 1 for p in group["params"])
