"""The reference Seed Diffusion: model, objective, sampler and training."""
