"""A.1: E V_{p,p}(x_0), the field's mean where q = p already, by exact enumeration (P-19)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from drifting_reference.arrays import Array
from drifting_spec import implements

FirstDrift = Callable[[Array, Array], Array]
"""x [N, C] and y_pos [P, C] → V at x_0, [C]."""


def outcomes(atoms: Array, odds: Array, count: int) -> list[tuple[Array, float]]:
    """Every multiset of ``count`` draws from ``atoms`` [A, C] with its probability, [count, C]."""
    found: dict[tuple[int, ...], float] = {}
    for indices in product(range(len(atoms)), repeat=count):
        key = tuple(sorted(indices))
        found[key] = found.get(key, 0.0) + float(np.prod(odds[list(indices)]))
    return [(atoms[list(key)], probability) for key, probability in found.items()]


@implements("EQ-17")
def mean_field_at_equilibrium(
    field: FirstDrift, start: Array, atoms: Array, odds: Array, samples: int, positives: int
) -> Array:
    """EQ-17 at q = p: E V(x_0), x_0 = ``start`` [C], the rest drawn from ``atoms`` with ``odds``.

    Exact: the other N − 1 ``samples`` and the ``positives`` take every value they can; ``field``
    sees each multiset once, as no permutation of either changes V at x_0. → [C].
    """
    mean = np.zeros(len(start))
    for others, chance_of_others in outcomes(atoms, odds, samples - 1):
        for y_pos, chance in outcomes(atoms, odds, positives):
            x = np.concatenate([start[None], others])
            mean += chance_of_others * chance * field(x, y_pos)
    return mean
