"""Triton reads TRITON_INTERPRET when it is imported, so it is set here, before any test runs.

Where a CUDA device exists the kernels are compiled and run on it instead.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
