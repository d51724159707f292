"""Make the bundled digit images: ``python -m drifting_parity.golden.make_digits``.

Needs scikit-learn, which nothing else here does: run by hand, the result is kept. The images are
scikit-learn's copy of the test set of "Optical Recognition of Handwritten Digits" of the UCI
machine learning repository: 8×8 pixels of value 0 to 16.
"""

from __future__ import annotations

import importlib
import io

import numpy as np

from drifting_parity.golden.import_vectors import described, write
from drifting_parity.golden.store import ROOT, sha256

PER_CLASS = 24
CLASSES = 10

PROVENANCE = {
    "repository": "UCI machine learning repository, optdigits, test set, copy in scikit-learn",
    "url": "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    "creators": "E. Alpaydin, C. Kaynak (1998)",
    "licence": "CC BY 4.0 (data set, UCI); scikit-learn, which distributes the copy: BSD-3-Clause",
    "note": "uint8 copies of the float values, which are whole numbers; nothing else was changed",
}


def main() -> None:
    """Write ``digits/digits.npz`` and its manifest."""
    # By name, since it is no dependency: nothing but this script needs it.
    version = str(importlib.import_module("sklearn").__version__)
    digits = importlib.import_module("sklearn.datasets").load_digits()
    labels = np.asarray(digits.target)
    rows = np.concatenate([np.flatnonzero(labels == digit)[:PER_CLASS] for digit in range(CLASSES)])
    target = ROOT / "digits"
    target.mkdir(exist_ok=True)
    path = target / "digits.npz"
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        images=np.asarray(digits.images)[rows].astype(np.uint8),
        labels=labels[rows].astype(np.uint8),
        rows=rows.astype(np.int32),
    )
    path.write_bytes(buffer.getvalue())
    entry = {
        "id": "digits",
        "file": path.name,
        "exercises": "real images of ten classes, with borders that are zero and repeated patches",
        "conditioning": "well",
        "function": f"sklearn.datasets.load_digits (scikit-learn {version})",
        "arguments": {"per_class": PER_CLASS, "classes": CLASSES},
        "layout": (
            "images [240, 8, 8], pixel values 0..16, class by class; labels [240]; "
            "rows [240]: positions in the whole set of 1797"
        ),
        "dtype": "images and labels uint8, rows int32",
        "seed": None,
        "suggested": {},
        "arrays": described(path),
        "sha256": sha256(path),
    }
    provenance = PROVENANCE | {
        "scikit-learn": version,
        "selection": f"the first {PER_CLASS} images of each class in the order of load_digits",
    }
    write(target, provenance, [entry])


if __name__ == "__main__":
    main()
