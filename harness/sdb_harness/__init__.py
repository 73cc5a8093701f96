"""Runs benchmarks: problems in, generations and verdicts out, one row per program."""
