"""The fixed inputs of the witnesses, and how two results are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drifting_parity.cases import Array
from drifting_reference import DriftingLoss, drifting_loss
from drifting_spec import PAPER, Readings

Y_ONLY = PAPER.with_reading("softmax_axes", "y")
SEPARATE = PAPER.with_reading("kernel_normalization", "separate")


@dataclass(frozen=True)
class Points:
    """Inputs of Algorithm 2: x [N, C], positives [P, C], further negatives [U, C]."""

    x: Array
    y_pos: Array
    y_unc: Array

    @property
    def y_neg(self) -> Array:
        """The generated samples, then the further negatives: [N + U, C]."""
        return np.concatenate([self.x, self.y_unc])


def points(seed: int = 0, N: int = 8, P: int = 6, U: int = 5, C: int = 3) -> Points:
    """Normal samples; positives half a spread aside."""
    source = np.random.default_rng(seed)
    x, y_pos, y_unc = (source.normal(size=(count, C)) for count in (N, P, U))
    return Points(x, y_pos + 0.5, y_unc - 0.5)


G1 = Points(np.array([[0.0], [1.0]]), np.array([[2.0]]), np.zeros((0, 1)))
"""Two generated samples on a line, one positive, T = 1: small enough for hand calculation."""


@dataclass(frozen=True)
class Samples:
    """Inputs of the loss of one feature: [L, N, V, C], [L, P, V, C], [L, U, V, C], [L, U]."""

    generated: Array
    positive: Array
    unconditional: Array | None = None
    weight: Array | None = None

    def loss(
        self, readings: Readings = PAPER, temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    ) -> DriftingLoss:
        """The reference's loss on these samples."""
        return drifting_loss(
            self.generated,
            self.positive,
            self.unconditional,
            self.weight,
            temperatures=temperatures,
            readings=readings,
        )

    def scaled(self, factor: float) -> Samples:
        """The same samples in another unit: φ → cφ."""
        unconditional = None if self.unconditional is None else self.unconditional * factor
        return Samples(self.generated * factor, self.positive * factor, unconditional, self.weight)


def samples(
    seed: int = 0, L: int = 1, N: int = 8, P: int = 6, U: int = 0, V: int = 1, C: int = 4
) -> Samples:
    """Normal samples; each label has twice the spread of the one before it, the weights differ."""
    source = np.random.default_rng(seed)
    spread = 2.0 ** np.arange(L)[:, None, None, None]
    x, y_pos, y_unc = (source.normal(size=(L, count, V, C)) * spread for count in (N, P, U))
    if U == 0:
        return Samples(x, y_pos + 0.5)
    return Samples(
        x, y_pos + 0.5, y_unc - 0.5, np.repeat(np.linspace(0.5, 3.0, L), U).reshape(L, U)
    )


G2 = Samples(np.array([[[[0.0]], [[1.0]]]]), np.array([[[[2.0]]]]))
"""The points of :data:`G1` as one feature."""


def apart(one: Array, other: Array) -> float:
    """l2 distance between two arrays over the norm of the second."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def largest(array: Array) -> float:
    """The largest absolute entry."""
    return float(np.max(np.abs(array)))


def cosine(one: Array, other: Array) -> float:
    """The cosine of the angle between two arrays taken as vectors."""
    return float(np.sum(one * other) / (np.linalg.norm(one) * np.linalg.norm(other)))


def unit_drift(V: Array) -> Array:
    """The drift over its own root mean square, as A.6 normalises it."""
    return V / np.sqrt(np.mean(V**2))
