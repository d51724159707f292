"""Golden data: vectors computed by the authors' release and by the seed repository, real digits.

``manifests()`` says what there is (standard library only), ``load(id)`` gives the arrays of one
file after checking its sha256, ``lint()`` lists everything wrong with the bundled data.
"""

from drifting_parity.golden.linting import lint
from drifting_parity.golden.store import GoldenError, GoldenManifest, load, manifests

__all__ = ["GoldenError", "GoldenManifest", "lint", "load", "manifests"]
