"""How near two sets of samples are, always beside two sets of real ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

Points = npt.NDArray[np.floating]


def energy_distance(one: Points, other: Points) -> float:
    """2·E‖X−Y‖ − E‖X−X'‖ − E‖Y−Y'‖ of samples [N, D] and [M, D]; 0 for equal laws.

    The means within a set leave out a sample's distance to itself, so that the estimate has no
    bias: of two sets of one law it lies about 0, and may be below.
    """
    return 2 * float(cdist(one, other).mean()) - _within(one) - _within(other)


def _within(points: Points) -> float:
    count = len(points)
    return float(cdist(points, points).sum()) / (count * (count - 1))


def maximum_mean_discrepancy(one: Points, other: Points) -> float:
    """MMD² of two sets under a Gaussian kernel as wide as the second set's median distance.

    Without bias, as :func:`energy_distance` is; ``other`` is the set of real samples.
    """
    apart = cdist(other, other, "sqeuclidean")
    width = float(np.median(apart[np.triu_indices(len(other), 1)]))

    def kernel(squares: Points) -> Points:
        return np.exp(-squares / (2 * width))

    def inner(squares: Points) -> float:
        count = len(squares)
        return (float(kernel(squares).sum()) - count) / (count * (count - 1))

    across = float(kernel(cdist(one, other, "sqeuclidean")).mean())
    return inner(cdist(one, one, "sqeuclidean")) + inner(apart) - 2 * across
