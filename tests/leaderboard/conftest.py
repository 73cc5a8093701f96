"""Hand-made cells and rows, so that no test needs a model, a sandbox or a store."""

from collections.abc import Callable, Sequence

import pytest

from sdb_harness.records import (
    Cell,
    Completion,
    FinishReason,
    RunManifest,
    SampleRow,
    SamplingConfig,
)

MakeCell = Callable[..., tuple[Cell, list[SampleRow]]]


@pytest.fixture
def make_cell() -> MakeCell:
    """A cell and its rows from one list of outcomes per problem."""
    return _make_cell


@pytest.fixture
def manifest() -> RunManifest:
    return RunManifest(
        run_id="run-1",
        started_at="2026-11-01T00:00:00+00:00",
        command="sdbench run sweep.toml",
        git_commit="0123abcd",
        is_git_dirty=True,
        packages={"python": "3.11.4"},
        hardware={"cpu": "Test CPU", "gpus": "none"},
        implementations={"device": "cpu"},
    )


def _make_cell(
    outcomes: Sequence[Sequence[str]],
    *,
    generator: str = "seed_diffusion:demo",
    block_size: int | None = 8,
    threshold: float | None = 0.9,
    benchmark: str = "minipy",
    hardware: str = "machine-a",
    batch_size: int = 1,
    seconds: float = 1.0,
    output_tokens: int = 100,
    groups: Sequence[str] = ("all",),
    finish_reason: FinishReason = "stop",
    text: str = "    pass\n",
    num_problems: int | None = None,
) -> tuple[Cell, list[SampleRow]]:
    samples = max(len(of_problem) for of_problem in outcomes)
    is_diffusion = block_size is not None
    cell = Cell(
        benchmark=benchmark,
        benchmark_revision=f"revision of {benchmark}",
        num_problems=num_problems or len(outcomes),
        protocol="base",
        generator=generator,
        generator_revision="weights",
        sampling=SamplingConfig(
            block_size=block_size,
            threshold=threshold if is_diffusion else None,
            batch_size=batch_size,
        ),
        samples_per_problem=samples,
        engine="test/1",
        hardware=hardware,
    )
    rows = [
        SampleRow(
            cell_hash=cell.compute_hash(),
            problem_id=f"problem/{index:03}",
            group=groups[index % len(groups)],
            sample_index=sample,
            run_id="run-1",
            completion=Completion(
                text=text,
                token_ids=(),
                output_tokens=output_tokens,
                finish_reason="error" if status == "error" else finish_reason,
                nfe_prefill=1,
                nfe_denoise=20,
                nfe_commit=5,
                commit_times_s=(seconds / 2, seconds) if output_tokens else (),
                commit_tokens=(output_tokens // 2, output_tokens - output_tokens // 2)
                if output_tokens
                else (),
                e2e_s=seconds,
            ),
            program="",
            extraction_rule="none",
            status="wrong_answer" if status == "error" else status,
            num_tests=1,
            num_tests_passed=int(status == "passed"),
            cpu_s=0.0,
            wall_s=0.0,
            peak_memory_bytes=0,
            trust_level="L3",
            sandbox_level="embedded",
        )
        for index, of_problem in enumerate(outcomes)
        for sample, status in enumerate(of_problem)
    ]
    return cell, rows
