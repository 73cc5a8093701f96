"""A sweep file is read strictly, and its grid expands to what each generator can tell apart."""

from pathlib import Path

import pytest

from sdb_harness.errors import UserError
from sdb_harness.records import SamplingConfig
from sdb_harness.sweep import (
    describe_sampling,
    expand_grid,
    list_ignored_axes,
    make_sweep_name,
    parse_sweep,
    read_sweep,
    resolve_cells,
)

DIFFUSION = "seed_diffusion:demo"


def make_document(**changes: object) -> dict[str, object]:
    document: dict[str, object] = {
        "name": "s",
        "benchmarks": ["minipy:split=test,level=1,num_problems=3"],
        "generators": ["canonical"],
        "grid": {},
    }
    return document | changes


def test_grid_is_the_product_of_blocks_and_both_policies() -> None:
    grid = {"block_size": [4, 8], "threshold": [1.0, 0.9], "num_steps": [2], "seeds": [0, 1]}
    sweep = parse_sweep(make_document(generators=[DIFFUSION], grid=grid))
    points = [point.sampling for point in expand_grid(sweep, DIFFUSION)]
    assert len(points) == 2 * 3 * 2
    assert SamplingConfig(block_size=8, num_steps=2, seed=1) in points
    assert SamplingConfig(block_size=4, threshold=0.9, seed=0) in points


def test_other_policies_add_up_and_the_share_multiplies() -> None:
    grid = {"block_size": [8], "threshold": [0.9], "policy": ["entropy:0.3", "top:2"]}
    grid |= {"temperature": [0.5], "top_p": [1, 0.9]}
    specs = [DIFFUSION, "autoregressive:demo", "openai:http://127.0.0.1:1/v1,model=m"]
    sweep = parse_sweep(make_document(generators=specs, grid=grid))
    points = [point.sampling for point in expand_grid(sweep, DIFFUSION)]
    assert len(points) == 3 * 2
    assert SamplingConfig(block_size=8, policy="top:2", temperature=0.5, top_p=0.9) in points
    greedy = SamplingConfig(block_size=8, policy="top:2")
    assert SamplingConfig(block_size=8, policy="top:2", top_p=0.9) == greedy
    assert SamplingConfig(block_size=8, policy="top: 2.0 ").policy == "top:2"  # one cell
    assert SamplingConfig(block_size=8, policy="edit:.9:8e-1:8").policy == "edit:0.9:0.8:8"
    assert [len(expand_grid(sweep, spec)) for spec in specs[1:]] == [2, 2]


def test_a_cell_of_before_keeps_its_hash_and_a_new_setting_changes_it() -> None:
    old = SamplingConfig(block_size=8, threshold=0.9)
    assert old.to_canonical_json() == (
        '{"batch_size":1,"block_size":8,"max_new_tokens":256,"num_steps":null,"seed":0,'
        '"temperature":0.0,"threshold":0.9}'
    )
    for new in (
        SamplingConfig(block_size=8, threshold=0.9, temperature=0.5, top_p=0.5),
        SamplingConfig(block_size=8, policy="top:2"),
        SamplingConfig(block_size=8, policy="top:3"),
    ):
        assert new.compute_hash() != old.compute_hash()
        assert SamplingConfig.model_validate_json(new.to_canonical_json()) == new


def test_axes_a_generator_does_not_use_collapse() -> None:
    grid = {"block_size": [4, 8], "threshold": [1.0, 0.9], "max_new_tokens": [64, 128]}
    generators = [DIFFUSION, "autoregressive:demo", "canonical"]
    sweep = parse_sweep(make_document(generators=generators, grid=grid))
    assert [len(expand_grid(sweep, spec)) for spec in generators] == [8, 2, 1]
    baseline = [point.sampling for point in expand_grid(sweep, "autoregressive:demo")]
    assert baseline == [SamplingConfig(max_new_tokens=64), SamplingConfig(max_new_tokens=128)]
    assert list_ignored_axes(sweep) == []
    alone = parse_sweep(make_document(grid=grid | {"seeds": [0], "samples_per_problem": [2]}))
    assert list_ignored_axes(alone) == [*grid, "seeds"]


def test_whole_numbers_are_good_thresholds() -> None:
    sweep = parse_sweep(
        make_document(generators=[DIFFUSION], grid={"block_size": [4], "threshold": [1]})
    )
    assert expand_grid(sweep, DIFFUSION)[0].sampling.threshold == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": ["canonical"]}, "unknown key 'generator'; did you mean 'generators'?"),
        ({"grid": {"blocksize": [4]}}, r"unknown \[grid\] key 'blocksize'; did you mean 'block_si"),
        ({"grid": {"seed": [4]}}, r"unknown \[grid\] key 'seed'; did you mean 'seeds'?"),
        ({"grid": {"block_size": 4}}, r"block_size = 4; write a list"),
        ({"grid": {"block_size": [4.0]}}, r"entry 4.0; write a list of int"),
        ({"grid": {"block_size": [True]}}, r"entry True; write a list of int"),
        ({"grid": {"threshold": ["high"]}}, r"entry 'high'; write a list of float"),
        (
            {"grid": {"policy": [0.5]}},
            r"entry 0.5; write a list of str, as in policy",
        ),
        ({"grid": {"samples_per_problem": [0]}}, "samples_per_problem=0 is below 1"),
        ({"name": "a/b"}, "name = 'a/b'; write up to"),
        ({"name": ".."}, "name = '..'; write up to"),
        ({"name": "a" * 129}, "write up to 128 letters"),
        ({"benchmarks": "minipy"}, "benchmarks = 'minipy'; write a list"),
        ({"benchmarks": []}, "write a list with at least one"),
        ({"benchmarks": ["minipi"]}, "unknown benchmark 'minipi'; did you mean 'minipy'?"),
        ({"benchmarks": ["minipy:split"]}, "cannot read 'split'"),
        ({"generators": ["canonicle"]}, "unknown generator 'canonicle'; did you mean 'canonical'?"),
        ({"generators": ["replay"]}, "needs an argument; write replay:FILE.jsonl"),
        ({"generators": ["canonical:x"]}, "takes no argument"),
        ({"generators": [DIFFUSION]}, "needs block_size and threshold, num_steps or policy"),
        ({"protocol": 3}, "protocol = 3; write one name"),
    ],
)
def test_wrong_documents_name_the_way_out(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")) as caught:
        parse_sweep(make_document(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"block_size": [48], "threshold": [1.0], "max_new_tokens": [100]},
            "block_size=48 does not divide max_new_tokens=100; use max_new_tokens=96",
        ),
        ({"block_size": [8], "num_steps": [9]}, "num_steps=9 exceeds block_size=8"),
        ({"block_size": [8], "threshold": [1.5]}, "threshold=1.5: Input should be less than"),
        (
            {"block_size": [8], "threshold": [0.5], "temperature": [float("inf")]},
            "temperature=inf: Input should be a finite number",
        ),
        (
            {"block_size": [8], "policy": ["entrop:1"]},
            "unknown policy 'entrop'; did you mean",
        ),
        ({"block_size": [8], "policy": ["top:0"]}, "policy 'top:0' does not fit top:TOKENS"),
        ({"block_size": [8], "threshold": [0.5], "top_p": [0.0]}, "top_p=0.0: Input should be gre"),
        ({"block_size": [0], "threshold": [0.5]}, "block_size=0: Input should be greater than 0"),
    ],
)
def test_values_that_do_not_fit_are_refused(grid: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_sweep(make_document(generators=[DIFFUSION], grid=grid))


def test_missing_keys_are_named() -> None:
    with pytest.raises(UserError, match="the key 'name' is missing; needed are name, benchmarks,"):
        parse_sweep({})
    with pytest.raises(UserError, match="the key 'generators' is missing"):
        parse_sweep({"name": "s", "benchmarks": ["minipy"]})


def test_any_text_becomes_a_name_and_long_ones_stay_distinct() -> None:
    assert make_sweep_name("minipy:level=1-replay:é/x.jsonl") == "minipy-level-1-replay---x.jsonl"
    names = {make_sweep_name("m" * 300 + end) for end in "ab"}
    assert len(names) == 2
    assert all(parse_sweep(make_document(name=name)).name == name for name in names)


def test_file_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    with pytest.raises(UserError, match=r"cannot read sweep .*s.toml: No such file"):
        read_sweep(path)
    path.write_text("name = ")
    with pytest.raises(UserError, match=r"s.toml is not valid TOML"):
        read_sweep(path)
    path.write_text('name = "s"\nbenchmark = ["minipy"]\n')
    with pytest.raises(UserError, match=r"sweep .*s.toml: unknown key 'benchmark'; did you mean"):
        read_sweep(path)


@pytest.mark.parametrize("path", sorted(Path("sweeps").glob("*.toml")), ids=str)
def test_shipped_sweeps_are_right(path: Path) -> None:
    assert read_sweep(path).name == path.stem


def test_shipped_demo_has_the_promised_cells() -> None:
    sweep = read_sweep(Path("sweeps/demo.toml"))
    points = [point.sampling for point in expand_grid(sweep, DIFFUSION)]
    assert {point.block_size for point in points} == {4, 8, 16, 32}
    assert {point.threshold for point in points} == {1.0, 0.99, 0.9, 0.7, 0.5, None}
    assert {point.policy for point in points} == {"prefix:0.9", None}
    assert len(points) == 24
    assert len(expand_grid(sweep, "autoregressive:demo")) == 1


def test_resolved_cells_are_pinned_and_distinct() -> None:
    document = make_document(grid={"samples_per_problem": [1, 2]}, protocol="base")
    resolved = resolve_cells(parse_sweep(document), "machine")
    assert [planned.num_programs for planned in resolved.cells] == [3, 6]
    cell = resolved.cells[0].cell
    assert cell.benchmark == "minipy:level=1,num_problems=3,split=test"
    assert cell.benchmark_revision == resolved.cells[0].benchmark.revision
    assert cell.hardware == "machine"
    assert resolved.warnings == ()
    assert describe_sampling(resolved.cells[1].cell) == "2 samples"
    other = resolve_cells(parse_sweep(document), "another machine")
    assert other.cells[0].cell.compute_hash() != cell.compute_hash()


def test_replayed_file_is_compared_with_the_benchmark_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    ids = ["minipy/0", "minipy/1", "minipy/2", "minipy/0", "strange/1", "strange/2"]
    path.write_text("".join(f'{{"task_id": "{id_}", "completion": "x"}}\n' for id_ in ids))
    document = make_document(generators=[f"replay:{path}"])
    assert resolve_cells(parse_sweep(document), "machine").warnings == (
        f"replay:{path} has samples for 2 task ids that minipy does not have",
    )
    more = make_document(generators=[f"replay:{path}"], grid={"samples_per_problem": [1, 2]})
    with pytest.raises(UserError, match=r"fewer than 2 samples for 2 of 3 problems: minipy/1 \(1"):
        resolve_cells(parse_sweep(more), "machine")


def test_unknown_protocol_lists_the_presets() -> None:
    sweep = parse_sweep(make_document(protocol="bass"))
    with pytest.raises(UserError, match=r"no protocol 'bass'; did you mean 'base'\? allowed: base"):
        resolve_cells(sweep, "machine")
