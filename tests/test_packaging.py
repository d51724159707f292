"""The distribution: the wheel holds the packages with their data, and nothing else."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
HOMES = {
    "drifting_spec": "spec",
    "drifting_reference": "reference",
    "drifting_torch": "impl",
    "drifting_train": "impl",
    "drifting_parity": "parity",
}
UNTRACKED = {"__pycache__"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(path)


def sources(package: str) -> set[str]:
    """Every file of one package in the working tree, as a path below its room."""
    room = ROOT / HOMES[package]
    files = (path for path in (room / package).rglob("*") if path.is_file())
    return {path.relative_to(room).as_posix() for path in files if not UNTRACKED & set(path.parts)}


def test_the_wheel_holds_exactly_the_packages(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {PurePosixPath(name).parts[0] for name in names} == set(HOMES)
    for package in HOMES:
        held = {name for name in names if name.startswith(f"{package}/")}
        assert held == sources(package)


@pytest.mark.parametrize(
    "name",
    [
        "drifting_spec/data/paper.toml",
        "drifting_parity/report/report.schema.json",
        "drifting_parity/report/comparison.schema.json",
        "drifting_parity/pages/templates/report.html",
        "drifting_parity/golden/release/manifests.json",
        "drifting_parity/golden/seed/manifests.json",
        *(f"{package}/py.typed" for package in HOMES),
    ],
)
def test_the_wheel_holds_the_data(name: str, wheel: zipfile.ZipFile) -> None:
    assert name in wheel.namelist()


def test_the_readme_names_the_wheel_that_is_built(wheel: zipfile.ZipFile) -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"dist/{Path(str(wheel.filename)).name}" in readme
    assert "\nwheel: " in (ROOT / "Makefile").read_text()
    assert "pip install drifting-parity" not in readme  # no index has it


def test_the_wheel_names_its_command_licence_and_needs(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    assert "drifting-parity = drifting_parity.cli:main" in entry_points
    assert "drifting-train = drifting_train.cli:main" in entry_points
    assert "pytest11" not in entry_points
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: MIT" in metadata
    required = {
        line.partition(": ")[2].partition(">=")[0]
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra ==" not in line
    }
    assert required == {"numpy", "rich", "scipy", "torch"}


def test_the_source_distribution_can_build_the_wheel(tmp_path: Path) -> None:
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    import tarfile

    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for package, room in HOMES.items():
        assert {f"{room}/{name}" for name in sources(package)} <= names
    examples = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert len(examples) >= 5
    assert {f"examples/{name}" for name in examples} <= names
    assert {"pyproject.toml", "Makefile", "constraints.txt", "README.md", "LICENSE"} <= names


def test_the_oldest_versions_tested_are_the_ones_declared() -> None:
    """``make test-oldest`` installs the lower bounds; linters and Triton, which it lacks, aside."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {
        name: bound.partition(";")[0].strip()
        for name, _, bound in (
            each.partition(">=")
            for each in [
                *project["dependencies"],
                *extras["pages"],
                *extras["test"],
                *extras["dev"],
            ]
        )
        if name not in {"basedpyright", "build", "ruff", "triton"}
    }
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert set(pinned) == set(declared)
    for name, version in pinned.items():
        # 1.26 declares what 1.26.0 is.
        assert version.removesuffix(".0") == declared[name].removesuffix(".0"), name
