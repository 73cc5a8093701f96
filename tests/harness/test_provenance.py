"""A manifest names the machine, the commit and the versions; a machine has one hash."""

import subprocess
from pathlib import Path

from sdb_harness.hardware import describe_hardware
from sdb_harness.provenance import build_manifest, read_git_state


def test_hardware_is_stable_and_its_hash_is_in_the_description() -> None:
    first, second = describe_hardware(), describe_hardware()
    assert first == second
    assert first.num_cpus >= 1
    assert first.describe()["hash"] == second.compute_hash()
    slower = first.model_copy(update={"num_cpus": first.num_cpus + 1})
    assert slower.compute_hash() != first.compute_hash()


def test_every_run_has_its_own_manifest() -> None:
    hardware = describe_hardware()
    manifest = build_manifest(hardware, {"sandbox": "embedded/test"})
    assert manifest.implementations == {"sandbox": "embedded/test"}
    assert manifest.hardware["cpu"] == hardware.cpu
    assert len([float(load) for load in manifest.hardware["load_average"].split()]) == 3
    assert manifest.packages["pydantic"][0].isdigit()
    assert manifest.packages["seed-diffusion-bench"][0].isdigit()
    assert build_manifest(hardware, {}).run_id != manifest.run_id


def test_commit_is_read_only_where_this_code_is_tracked(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert read_git_state(tmp_path) == ("not a checkout", False)
