"""Take golden vectors into the package: ``python -m drifting_parity.golden.import_vectors FOLDER``.

FOLDER holds ``.npz`` files made by running the authors' release (``index.json``) or the seed
repository (``index_seed.json``), with the index that describes them. The files are copied byte for
byte after their sha256 has been compared with the index; what is there already and not in the index
stays. Of its ``.json`` files, the numbers that are compared become arrays. An index is::

    {"provenance": {"repository": "...", "commit": "...", "numpy": "..."},
     "files": [{"case_id": "A20", "group": "A", "file": "A20_drift_loss.npz", "sha256": "...",
                "exercises": "two groups of one sample", "source_file": "drift_loss.py",
                "function": "drift_loss.drift_loss", "layout": "gen/pos/neg: [B, samples, S]",
                "numpy_seed": 1020}]}

with ``conditioning``, ``arguments``, ``dtype``, ``suggested`` where there are any.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drifting_parity.golden.store import MANIFESTS, ROOT, GoldenError, sha256


@dataclass(frozen=True)
class Source:
    """A set to import: the index that describes it and the groups of files wanted from it."""

    name: str
    index: str
    groups: tuple[str, ...]


SOURCES = (
    Source("release", "index.json", ("A", "B", "C", "D", "E", "F", "G")),
    Source("seed", "index_seed.json", ("R",)),
)


def import_set(folder: Path, source: Source, root: Path = ROOT) -> int:
    """Copy one set's files, write its manifests, and return how many files were taken in.

    A file of an id that the set holds replaces it. Raises :class:`GoldenError` for a file whose
    bytes are not those of the index.
    """
    index = json.loads((folder / source.index).read_text(encoding="utf-8"))
    target = root / source.name
    target.mkdir(exist_ok=True)
    entries: list[dict[str, Any]] = []
    for item in index["files"]:
        if item["group"] not in source.groups:
            continue
        path = folder / item["file"]
        if sha256(path) != item["sha256"]:
            raise GoldenError(f"{path.name} has sha256 {sha256(path)}, expected {item['sha256']}")
        if path.suffix == ".json":
            entries.append(_tabulated(item, path, target))
            continue
        shutil.copyfile(path, target / path.name)
        entries.append(_entry(item, path))
    provenance, kept = index["provenance"], dict[str, Any]()
    if (target / MANIFESTS).is_file():
        present = json.loads((target / MANIFESTS).read_text(encoding="utf-8"))
        kept = {entry["id"]: entry for entry in present["files"]}
        for name in sorted(kept.keys() & {entry["id"] for entry in entries}):
            print(f"{source.name}: {name} is replaced")
        if present["provenance"] != provenance:
            # What a file does not say of itself is the set's, hence that of the files kept.
            entries = [{**entry, "provenance": provenance} for entry in entries]
            provenance = present["provenance"]
    write(target, provenance, [*(kept | {entry["id"]: entry for entry in entries}).values()])
    return len(entries)


def _entry(item: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What is kept of an index entry. The seed repository's are made of plain random numbers."""
    layout = item["layout"]
    if "grad_mean_note" in item:
        layout = f"{layout}. {item['grad_mean_note']}"
    # Parameters and what was computed with them are two files of one case.
    parameters = ".params" if "_params" in path.name else ""
    entry = {
        "id": item["case_id"] + parameters,
        "file": path.name,
        "exercises": item["exercises"],
        "conditioning": item.get("conditioning", "well"),
        "function": f"{item['source_file']}: {item['function']}",
        "arguments": item.get("arguments", {}),
        "layout": layout,
        "dtype": item.get("dtype", "see arrays; outputs f64_* computed in float64"),
        "seed": item.get("numpy_seed"),
        "suggested": item.get("suggested", {}),
        "arrays": described(path),
        "sha256": item["sha256"],
    }
    stats = dict(item.get("stats", {}))
    if "params_file" in item and not parameters and item["group"] == "C":
        twin = str(item["params_file"]).partition("_")[0]
        stats |= {"parameters": f"{twin}.params", "degenerate_keys": item["degenerate_keys"]}
    return entry | ({"stats": stats} if stats else {})


def _tabulated(item: Mapping[str, Any], path: Path, target: Path) -> dict[str, Any]:
    """Arrays of a ``.json`` file: the feature inventory, parameter counts, or parameter trees."""
    content = json.loads(path.read_text(encoding="utf-8"))
    arrays: dict[str, Any] = {}
    if "inventory" in content:
        exercises = "keys, vectors and channels of every feature at widths 256 and 640"
        layout = "<configuration>/keys, and /T_D: vectors and channels of each key"
        for name, entry in content["inventory"].items():
            if name.endswith("__has_scale") and "keys_in_tree_map_order" in entry:
                features = entry["features_T_D_dtype"]
                arrays[f"{name}/keys"] = np.asarray(list(features))
                arrays[f"{name}/T_D"] = np.asarray([value[:2] for value in features.values()])
    elif "mae" in content:
        exercises = "parameter counts of the autoencoders at widths 256 and 640, of the generators"
        layout = (
            "<configuration>: parameters of encoder, decoder and linear classifier; "
            "generator/<configuration>: parameters of the generator"
        )
        for name, entry in content["mae"].items():
            arrays[name] = np.asarray([entry[part] for part in ("encoder", "decoder", "fc")])
        for name, entry in content.get("generators", {}).items():
            arrays[f"generator/{name}"] = np.asarray(entry["total"])
    else:
        exercises = "name and shape of every parameter of the generators at full size"
        layout = "<configuration>/names, and /shapes, each a row with zeros behind the shape"
        for name, entry in content["generators"].items():
            if "tree" in entry:
                arrays |= _tree(name, entry["tree"])
    made = target / f"{path.stem}.npz"
    np.savez_compressed(made, **arrays)
    return {
        "id": item["case_id"],
        "file": made.name,
        "exercises": exercises,
        "conditioning": "well",
        "function": f"{item['source_file']}: {item['function']}",
        "arguments": {},
        "layout": f"{layout}. From {path.name}, sha256 {item['sha256']}",
        "dtype": "whole numbers and names",
        "seed": None,
        "suggested": {},
        "arrays": described(made),
        "sha256": sha256(made),
    }


def _tree(name: str, tree: Mapping[str, list[int]]) -> dict[str, Any]:
    """Names and shapes of a parameter tree; none has more than three axes."""
    rows = [[*shape, *[0] * (3 - len(shape))] for shape in tree.values()]
    return {f"{name}/names": np.asarray(list(tree)), f"{name}/shapes": np.asarray(rows)}


def described(path: Path) -> dict[str, list[Any]]:
    """Shape and dtype of every array in a file, by name."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: [list(arrays[name].shape), str(arrays[name].dtype)] for name in arrays.files}


def write(target: Path, provenance: Mapping[str, Any], entries: list[dict[str, Any]]) -> None:
    """Write a set's ``manifests.json``, one line for each field of each entry."""

    def lines(values: Mapping[str, Any], indent: str) -> str:
        pairs = (f"{json.dumps(key)}: {_compact(value)}" for key, value in values.items())
        return f",\n{indent}".join(pairs)

    files = "\n  },\n  {\n   ".join(lines(entry, "   ") for entry in entries)
    text = (
        f'{{\n "provenance": {{\n  {lines(provenance, "  ")}\n }},\n'
        f' "files": [\n  {{\n   {files}\n  }}\n ]\n}}\n'
    )
    (target / MANIFESTS).write_text(text, encoding="utf-8")


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Import the sets whose index lies in the folder given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with the vectors and their index")
    folder = parser.parse_args().folder
    described = [source for source in SOURCES if (folder / source.index).is_file()]
    if not described:
        wanted = " or ".join(source.index for source in SOURCES)
        parser.error(f"{folder} holds no index, expected {wanted}")
    for source in described:
        print(f"{source.name}: {import_set(folder, source)} files")


if __name__ == "__main__":
    main()
