"""What can be wrong with golden data: one line a problem, an empty list when all is well."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from drifting_parity.golden.store import (
    MANIFESTS,
    ROOT,
    GoldenError,
    GoldenManifest,
    read_set,
    set_names,
    sha256,
)

CONDITIONING = ("well", "coincident", "ill", "degenerate")


def lint(root: Path = ROOT) -> list[str]:
    """Every problem of the golden data below ``root``.

    A manifest that cannot be read or lacks a field, an id given twice, an unknown conditioning, a
    file that is missing, altered or described by no manifest, arrays other than described,
    pickled objects, values that are not finite.
    """
    ids: Counter[str] = Counter()
    problems = [
        f"{folder} holds .npz files and no {MANIFESTS}"
        for folder in sorted({path.parent.name for path in root.glob("*/*.npz")})
        if not (root / folder / MANIFESTS).is_file()
    ]
    problems += [f"{path.name} lies outside every set" for path in sorted(root.glob("*.npz"))]
    for name in set_names(root):
        try:
            entries = read_set(name, root)
        except GoldenError as problem:
            problems.append(str(problem))
            continue
        ids.update(entry.id for entry in entries)
        described = {entry.file for entry in entries} | {MANIFESTS}
        files = sorted(path.name for path in (root / name).iterdir())
        problems += [f"{name}/{file} has no manifest" for file in files if file not in described]
        for entry in entries:
            problems += _entry_problems(entry, root)
    problems += [f"id {key} is given {count} times" for key, count in ids.items() if count > 1]
    return problems


def _entry_problems(entry: GoldenManifest, root: Path) -> Iterator[str]:
    where = f"{entry.set}/{entry.file} ({entry.id})"
    path = root / entry.set / entry.file
    if entry.conditioning not in CONDITIONING:
        yield f"{where} has conditioning {entry.conditioning!r}, not one of {CONDITIONING}"
    if not entry.provenance.get("repository"):
        yield f"{where} has no provenance.repository"
    if not path.is_file():
        yield f"{where} is missing"
        return
    observed = sha256(path)
    if observed != entry.sha256:
        yield f"{where} has sha256 {observed}, its manifest says {entry.sha256}"
    yield from _array_problems(entry, path, where)


def _array_problems(entry: GoldenManifest, path: Path, where: str) -> Iterator[str]:
    import numpy as np

    found: dict[str, tuple[tuple[int, ...], str]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                try:
                    array = arrays[name]
                except ValueError as problem:
                    yield f"{where}: array {name} cannot be read without pickle ({problem})"
                    continue
                found[name] = (array.shape, str(array.dtype))
                if array.dtype.kind in "fc" and not np.isfinite(array).all():
                    yield f"{where}: array {name} holds values that are not finite"
    except (OSError, ValueError, zipfile.BadZipFile) as problem:
        yield f"{where} is no readable .npz archive: {problem}"
        return
    for name in sorted(set(found) | set(entry.arrays)):
        if found.get(name) != entry.arrays.get(name):
            held, told = found.get(name, "missing"), entry.arrays.get(name, "not described")
            yield f"{where}: array {name} is {held}, its manifest says {told}"
