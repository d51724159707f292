"""The golden data: bundled as made, described in full, and guarded against every defect."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drifting_parity import golden
from drifting_parity.golden.import_vectors import SOURCES, import_set
from drifting_parity.golden.store import MANIFESTS, ROOT, sha256

FILE = "release/A01_drift_loss.npz"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A small copy of the golden data to break: two release files and the digits."""
    root = tmp_path / "golden"
    (root / "release").mkdir(parents=True)
    shutil.copytree(ROOT / "digits", root / "digits")
    content = json.loads((ROOT / "release" / MANIFESTS).read_text(encoding="utf-8"))
    content["files"] = content["files"][:2]
    (root / "release" / MANIFESTS).write_text(json.dumps(content), encoding="utf-8")
    for entry in content["files"]:
        shutil.copyfile(ROOT / "release" / entry["file"], root / "release" / entry["file"])
    assert golden.lint(root) == []
    return root


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "release" / MANIFESTS
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content["files"][0])
    path.write_text(json.dumps(content), encoding="utf-8")


def rewrite(root: Path, arrays: dict[str, Any], *, described: bool = True) -> None:
    """Replace the first file's arrays, and its manifest's sha256 and arrays to match."""
    path = root / FILE
    np.savez(path, **arrays)
    told = {name: [list(a.shape), str(a.dtype)] for name, a in arrays.items()}
    changes: dict[str, Any] = {"sha256": sha256(path)} | ({"arrays": told} if described else {})
    edit(root, lambda entry: entry.update(changes))


def test_bundled_data_is_clean() -> None:
    assert golden.lint() == []


def test_every_file_expected_is_there() -> None:
    by_set: dict[str, list[str]] = {}
    for manifest in golden.manifests():
        by_set.setdefault(manifest.set, []).append(manifest.id)
    assert by_set == {
        "digits": ["digits"],
        "release": [
            *(f"A{number:02d}" for number in range(1, 23)),
            *(f"B{number:02d}{part}" for number in range(1, 5) for part in (".params", "")),
            *("C01", "C02", "C03", "D", "E"),
            *("F", "B-inventory"),
            *(f"G{number:02d}{part}" for number in range(1, 4) for part in (".params", "")),
            "G-tree",
        ],
        "seed": [*(f"R{number:02d}" for number in range(1, 10)), "R20", "R30"],
    }


def test_total_size_stays_small() -> None:
    assert sum(path.stat().st_size for path in ROOT.rglob("*.npz")) < 8_700_000


def test_manifests_say_where_the_numbers_come_from() -> None:
    sources = {manifest.set: manifest.source for manifest in golden.manifests()}
    assert sources["release"] == "lambertae/drifting at accd0cf"
    assert sources["seed"] == "kmccleary3301/drift_models at 87e8993"
    for manifest in golden.manifests():
        assert len(manifest.sha256) == 64
        assert manifest.exercises
        drawn = manifest.id not in {"digits", "D", "E", "F", "B-inventory", "G-tree"}
        assert (manifest.seed is not None) == drawn


def test_listing_needs_no_numpy() -> None:
    code = (
        "import sys; from drifting_parity import golden; golden.manifests(); "
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_load_gives_the_described_arrays() -> None:
    for manifest in golden.manifests():
        arrays = golden.load(manifest.id)
        told = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        assert told == manifest.arrays


def test_unknown_id_is_named() -> None:
    with pytest.raises(golden.GoldenError, match=r"no golden file 'A99'; known: digits, A01"):
        golden.load("A99")


def test_altered_file_is_refused(copy: Path) -> None:
    with (copy / FILE).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(golden.GoldenError, match=r"A01_drift_loss.npz \(A01\) has sha256"):
        golden.load("A01", copy)
    assert any("has sha256" in problem for problem in golden.lint(copy))


def test_missing_file_is_refused(copy: Path) -> None:
    (copy / FILE).unlink()
    with pytest.raises(golden.GoldenError, match=r"A01_drift_loss.npz \(A01\) is missing"):
        golden.load("A01", copy)
    assert golden.lint(copy) == [f"{FILE} (A01) is missing"]


def test_lint_finds_a_file_without_manifest(copy: Path) -> None:
    shutil.copyfile(copy / FILE, copy / "release" / "A99.npz")
    assert golden.lint(copy) == ["release/A99.npz has no manifest"]


def test_lint_finds_files_outside_the_sets(copy: Path) -> None:
    (copy / "loose").mkdir()
    shutil.copyfile(copy / FILE, copy / "loose" / "x.npz")
    shutil.copyfile(copy / FILE, copy / "y.npz")
    assert golden.lint(copy) == [
        f"loose holds .npz files and no {MANIFESTS}",
        "y.npz lies outside every set",
    ]


@pytest.mark.parametrize(
    "field", ["id", "file", "exercises", "conditioning", "layout", "sha256", "arrays", "suggested"]
)
def test_lint_finds_a_missing_field(copy: Path, field: str) -> None:
    edit(copy, lambda entry: entry.pop(field))
    (problem,) = golden.lint(copy)
    assert problem.endswith(f"lacks {field}")
    with pytest.raises(golden.GoldenError, match=f"lacks {field}"):
        golden.manifests(copy)


def test_lint_finds_an_unknown_field(copy: Path) -> None:
    edit(copy, lambda entry: entry.update(tolerence=1))
    assert [p for p in golden.lint(copy) if "unknown fields tolerence" in p]


def test_lint_finds_an_unreadable_manifest(copy: Path) -> None:
    (copy / "release" / MANIFESTS).write_text("{", encoding="utf-8")
    (problem,) = golden.lint(copy)
    assert problem.startswith(f"release/{MANIFESTS} cannot be read")


def test_lint_finds_an_id_given_twice(copy: Path) -> None:
    edit(copy, lambda entry: entry.update(id="A02"))
    assert "id A02 is given 2 times" in golden.lint(copy)


def test_lint_finds_an_unknown_conditioning(copy: Path) -> None:
    edit(copy, lambda entry: entry.update(conditioning="fine"))
    (problem,) = golden.lint(copy)
    assert "has conditioning 'fine'" in problem


def test_lint_finds_values_that_are_not_finite(copy: Path) -> None:
    rewrite(copy, {"in_gen": np.array([1.0, np.nan])})
    assert golden.lint(copy) == [f"{FILE} (A01): array in_gen holds values that are not finite"]


def test_lint_finds_pickled_objects(copy: Path) -> None:
    rewrite(copy, {"in_gen": np.array([{"a": 1}], dtype=object)})
    assert any("cannot be read without pickle" in problem for problem in golden.lint(copy))
    with pytest.raises(ValueError, match="allow_pickle"):
        golden.load("A01", copy)


def test_lint_finds_arrays_other_than_described(copy: Path) -> None:
    rewrite(copy, {"in_gen": np.zeros((2, 2), dtype=np.float32)}, described=False)
    problems = golden.lint(copy)
    assert any("in_gen is ((2, 2), 'float32'), its manifest says" in p for p in problems)
    assert any("in_fixed_pos is missing" in p for p in problems)


def test_lint_finds_a_broken_archive(copy: Path) -> None:
    (copy / FILE).write_bytes(b"no archive")
    assert any("is no readable .npz archive" in problem for problem in golden.lint(copy))


def test_importing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for source in SOURCES:
        content = json.loads((ROOT / source.name / MANIFESTS).read_text(encoding="utf-8"))
        folder, root = tmp_path / f"from_{source.name}", tmp_path / "root"
        folder.mkdir()
        root.mkdir(exist_ok=True)
        entry = content["files"][0]
        shutil.copyfile(ROOT / source.name / entry["file"], folder / entry["file"])
        source_file, _, function = entry["function"].partition(": ")
        item = entry | {
            "case_id": entry["id"],
            "group": source.groups[0],
            "function": function,
            "source_file": source_file,
            "numpy_seed": entry["seed"],
        }
        index = {"provenance": content["provenance"], "files": [item, item | {"group": "Z"}]}
        (folder / source.index).write_text(json.dumps(index), encoding="utf-8")
        assert import_set(folder, source, root) == 1
        copied = (root / source.name / entry["file"]).read_bytes()
        assert copied == (ROOT / source.name / entry["file"]).read_bytes()
        made = json.loads((root / source.name / MANIFESTS).read_text(encoding="utf-8"))
        # Notes of the index are merged into the layout, so that alone may be a longer text.
        assert made["files"] == [entry]
        # Another file with an index of its own stands beside what is there.
        one_more = item | {"case_id": "Z99", "file": f"Z99_{entry['file']}"}
        (folder / entry["file"]).rename(folder / one_more["file"])
        alone = {"provenance": {"repository": "another"}, "files": [one_more]}
        (folder / source.index).write_text(json.dumps(alone), encoding="utf-8")
        assert import_set(folder, source, root) == 1
        made = json.loads((root / source.name / MANIFESTS).read_text(encoding="utf-8"))
        assert made["provenance"] == content["provenance"]
        assert [each["id"] for each in made["files"]] == [entry["id"], "Z99"]
        assert made["files"][0] == entry
        assert made["files"][1]["provenance"] == {"repository": "another"}
        (folder / one_more["file"]).rename(folder / entry["file"])
        item["sha256"] = "0" * 64
        (folder / source.index).write_text(json.dumps(index | {"files": [item]}), encoding="utf-8")
        with pytest.raises(golden.GoldenError, match="expected 0000"):
            import_set(folder, source, root)


def test_json_files_become_arrays(tmp_path: Path) -> None:
    """The inventory with the vanilla key, the counts of each module, the tree of parameters."""
    features = {"conv1": [4, 8, "float32"], "global": [1, 64, "float32"]}
    entry = {"keys_in_tree_map_order": list(features), "features_T_D_dtype": features}
    contents = {
        "B_inventory.json": {"inventory": {"w__has_scale": entry, "w": entry}},
        "F_counts.json": {
            "mae": {"w": {"total": 6, "encoder": 1, "decoder": 2, "fc": 3}},
            "generators": {"small": {"total": 12}},
        },
        "G_tree.json": {
            "generators": {"small": {"tree": {"a/kernel": [3, 4], "a/bias": [4]}}, "same": {}}
        },
    }
    files: list[dict[str, Any]] = []
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        about = {"case_id": name[0], "group": name[0], "function": "f", "source_file": "s.py"}
        files.append(about | {"file": name, "sha256": sha256(tmp_path / name)})
    index = {"provenance": {"repository": "r"}, "files": files}
    (tmp_path / "index.json").write_text(json.dumps(index), encoding="utf-8")
    root = tmp_path / "root"
    root.mkdir()
    assert import_set(tmp_path, SOURCES[0], root) == 3
    assert golden.lint(root) == []
    found = golden.load("B", root)
    assert sorted(found) == ["w__has_scale/T_D", "w__has_scale/keys"]
    assert found["w__has_scale/keys"].tolist() == ["conv1", "global"]
    assert found["w__has_scale/T_D"].tolist() == [[4, 8], [1, 64]]
    assert golden.load("F", root)["w"].tolist() == [1, 2, 3]
    assert golden.load("F", root)["generator/small"] == 12
    found = golden.load("G", root)
    assert sorted(found) == ["small/names", "small/shapes"]
    assert found["small/names"].tolist() == ["a/kernel", "a/bias"]
    assert found["small/shapes"].tolist() == [[3, 4, 0], [4, 0, 0]]


def test_digits_are_balanced_and_told_where_they_come_from() -> None:
    (manifest,) = (item for item in golden.manifests() if item.set == "digits")
    for key in ("repository", "url", "creators", "licence", "scikit-learn", "selection"):
        assert manifest.provenance[key]
    arrays = golden.load("digits")
    images, labels = np.asarray(arrays["images"]), np.asarray(arrays["labels"])
    assert images.shape == (240, 8, 8)
    assert images.dtype == np.uint8
    assert images.max() == 16
    assert np.bincount(labels).tolist() == [24] * 10
    assert labels.tolist() == sorted(labels.tolist())
    # Each is another image, and each holds some ink.
    assert len(np.unique(images.reshape(240, -1), axis=0)) == 240
    assert images.reshape(240, -1).max(axis=1).min() > 0
