"""Reading the golden data: manifests by set, arrays by id.

Each set is a folder with a ``manifests.json`` and the ``.npz`` files it describes. Importing this
module needs the standard library alone, so that listing the cases stays quick.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).parent
MANIFESTS = "manifests.json"

Json = Mapping[str, Any]


class GoldenError(ValueError):
    """Golden data that is missing, altered or badly described; the message says which and how."""


@dataclass(frozen=True)
class GoldenManifest:
    """What one golden file holds, how it came about and how closely it can be compared.

    ``conditioning`` is ``well``, ``coincident``, ``ill`` or ``degenerate``; ``arrays`` gives shape
    and dtype by name; ``suggested`` the tolerances that its makers measured; ``provenance`` the
    repository, commit and versions that made it; ``stats`` numbers that came with the arrays.
    """

    id: str
    set: str
    file: str
    exercises: str
    conditioning: str
    function: str
    arguments: Json
    layout: str
    dtype: str
    seed: int | None
    suggested: Json
    arrays: Mapping[str, tuple[tuple[int, ...], str]]
    provenance: Json
    sha256: str
    stats: Json = field(default_factory=dict[str, Any])

    @property
    def source(self) -> str:
        """Where the numbers come from, in a few words."""
        origin = str(self.provenance["repository"])
        commit = str(self.provenance.get("commit", ""))
        return f"{origin} at {commit[:7]}" if commit else origin


def set_names(root: Path = ROOT) -> tuple[str, ...]:
    """The sets there are: every folder below ``root`` that has a ``manifests.json``."""
    return tuple(sorted(path.parent.name for path in root.glob(f"*/{MANIFESTS}")))


def manifests(root: Path = ROOT) -> tuple[GoldenManifest, ...]:
    """Every manifest, set by set, in the order of the files.

    Raises :class:`GoldenError` if one cannot be read; :func:`drifting_parity.golden.lint` lists
    all such problems.
    """
    return tuple(item for name in set_names(root) for item in read_set(name, root))


def read_set(name: str, root: Path = ROOT) -> tuple[GoldenManifest, ...]:
    """The manifests of one set; :class:`GoldenError` names the file and what is wrong in it."""
    path = root / name / MANIFESTS
    try:
        return _read_set(name, path, path.stat().st_mtime_ns)
    except GoldenError:
        raise
    except (OSError, ValueError) as problem:
        raise GoldenError(f"{name}/{MANIFESTS} cannot be read: {problem}") from problem


@lru_cache(maxsize=16)
def _read_set(name: str, path: Path, changed: int) -> tuple[GoldenManifest, ...]:
    del changed  # when the file was last written: another key, hence read anew
    content = json.loads(path.read_text(encoding="utf-8"))
    shared = content.get("provenance", {})
    return tuple(_manifest(entry, name, shared) for entry in content.get("files", ()))


def _manifest(entry: Json, name: str, provenance: Json) -> GoldenManifest:
    values: dict[str, Any] = {"set": name, "provenance": provenance, **entry}
    known = {item.name: item for item in fields(GoldenManifest)}
    label = f"{name}/{MANIFESTS}: entry {entry.get('id', '(without an id)')}"
    required = [key for key, item in known.items() if item.default_factory is MISSING]
    missing = [key for key in required if key not in values or values[key] == ""]
    missing += [key for key in ("provenance", "arrays") if values.get(key) == {}]
    if missing:
        raise GoldenError(f"{label} lacks {', '.join(missing)}")
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise GoldenError(f"{label} has unknown fields {', '.join(unknown)}")
    described = cast("Mapping[str, Any]", values["arrays"])
    values["arrays"] = {key: (tuple(shape), dtype) for key, (shape, dtype) in described.items()}
    return GoldenManifest(**values)


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(identifier: str, root: Path = ROOT) -> dict[str, NDArray[np.generic]]:
    """The arrays of one file by name, after its sha256 has been checked.

    Raises :class:`GoldenError` for an unknown id, a missing file and a file that is not the one
    described.
    """
    found = {item.id: item for item in manifests(root)}
    if identifier not in found:
        raise GoldenError(f"no golden file {identifier!r}; known: {', '.join(found)}")
    manifest = found[identifier]
    path = root / manifest.set / manifest.file
    label = f"golden file {manifest.set}/{manifest.file} ({identifier})"
    if not path.is_file():
        raise GoldenError(f"{label} is missing")
    # Copies: the checks read the same file for every adapter, and an adapter may write to it.
    arrays = _arrays(path, path.stat().st_mtime_ns, manifest.sha256, label)
    return {name: array.copy() for name, array in arrays.items()}


@lru_cache(maxsize=4)
def _arrays(path: Path, changed: int, expected: str, label: str) -> dict[str, NDArray[np.generic]]:
    import numpy as np

    del changed  # when the file was last written: another key, hence read anew
    observed = sha256(path)
    if observed != expected:
        raise GoldenError(
            f"{label} has sha256 {observed}, expected {expected}: the file is not the one that its "
            "manifest describes"
        )
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
