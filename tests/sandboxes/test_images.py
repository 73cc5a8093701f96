"""Images: their recipes, their lists of packages and their builds."""

import shutil
import tempfile
from pathlib import Path

import pytest

from sdb_sandboxes.engine import Engine
from sdb_sandboxes.images import build
from sdb_sandboxes.images.build import IMAGES, Image, find_images


def test_images_are_found_by_name_and_by_language() -> None:
    assert [image.name for image in find_images(("py-numpy",))] == ["py-numpy"]
    assert {"py", "py-numpy", "py-bigcode"} <= {i.name for i in find_images(("python",))}
    assert find_images(()) == list(IMAGES.values())
    with pytest.raises(ValueError, match="image 'cobol' does not exist; use a language"):
        find_images(("cobol",))


def test_every_image_has_a_recipe_with_a_pinned_base() -> None:
    for image in IMAGES.values():
        lines = (build.FOLDER / image.language / "Dockerfile").read_text().splitlines()
        (base,) = [line for line in lines if line.startswith("ARG BASE=")]
        assert base.startswith(f"ARG BASE=debian:{image.release}-slim@sha256:"), image
        assert len(base.partition("@sha256:")[2]) == 64, image
        assert f"AS {image.name}" in " ".join(lines), image
        assert (build.FOLDER / image.language / image.requirements).exists(), image


def test_an_image_names_whole_lists_of_packages_in_one_version_each() -> None:
    images = [image for image in IMAGES.values() if image.requirements]
    wanted = {image.name: build.list_requirements(image) for image in images}
    assert wanted["py-numpy"] == ["py-numpy.txt"]
    # Both, for an engine that builds every stage before the one that is asked for.
    assert wanted["py-bigcode"] == ["py-numpy.txt", "py-bigcode.txt"]
    assert wanted["kotlin"] == ["kotlin.txt"]
    for image in images:
        lines = (build.FOLDER / image.language / image.requirements).read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert all(pin.count("==") == 1 for pin in pins), image
        names = {pin.partition("==")[0].lower() for pin in pins}
        assert len(names) == len(pins) > 0, image


def test_a_recipe_changes_with_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(build.FOLDER / "python", tmp_path / "python")
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    before = {name: build.compute_recipe(IMAGES[name]) for name in ("py", "py-numpy")}
    assert len(set(before.values())) == 2
    (tmp_path / "python" / "py-numpy.txt").write_text("numpy==1.26\n")
    assert build.compute_recipe(IMAGES["py"]) == before["py"]
    assert build.compute_recipe(IMAGES["py-numpy"]) != before["py-numpy"]


@pytest.mark.docker
def test_a_built_image_is_not_built_again(engine: Engine) -> None:
    said: list[str] = []
    identity = build.build_image(engine, IMAGES["py"], said.append, is_airgapped=True)
    assert said == ["sdbench/py is up to date"]
    assert identity == engine.find_image("sdbench/py").id


@pytest.mark.docker
def test_a_failed_build_says_its_last_words(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp())
    (folder / "python").mkdir()
    (folder / "python" / "Dockerfile").write_text("FROM sdbench/py AS broken\nRUN exit 7\n")
    monkeypatch.setattr(build, "FOLDER", folder)
    with pytest.raises(build.BuildFailed, match="exit 7"):
        build.build_image(engine, Image("broken", "python"), lambda line: None)
    shutil.rmtree(folder)
