"""Runs model-written programs safely and judges them."""
