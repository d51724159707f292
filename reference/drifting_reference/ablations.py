"""Table 1: attraction and repulsion scaled apart, which breaks the antisymmetry of EQ-3 (P-29).

Scaled are V⁺ and V⁻ as EQ-8 has them, relative to x. Algorithm 2's two products are not relative
to x, so that scaling those would move with the origin of the coordinates.
"""

from __future__ import annotations

import numpy as np

from drifting_reference.algorithm2 import KernelWeights, compute_W, drift
from drifting_reference.arrays import Array
from drifting_reference.field import mean_shift
from drifting_reference.kernels import distances
from drifting_spec import PAPER, Readings, implements


@implements("T1")
def asymmetric_field(
    x: Array,
    y_pos: Array,
    y_neg: Array,
    T: float,
    attraction: float,
    repulsion: float,
    *,
    mask_self: bool = False,
) -> Array:
    """Table 1: a·V⁺_p(x) − b·V⁻_q(x), a = ``attraction``, b = ``repulsion``. EQ-10 if both are 1.

    x [N, C], y_pos [P, C], y_neg [M, C] → [N, C].
    """
    V_pos = mean_shift(x, y_pos, T)
    V_neg = mean_shift(x, y_neg, T, mask_self=mask_self)
    return attraction * V_pos - repulsion * V_neg


def _weights(
    x: Array, y_pos: Array, y_neg: Array, T: float, mask_self: bool, readings: Readings
) -> tuple[Array, Array]:
    """W_pos [N, P] and W_neg [N, M] of ALG2-9."""
    once = KernelWeights(np.ones(len(y_pos)), np.ones(len(y_neg)))
    return compute_W(
        distances(x, y_pos), distances(x, y_neg), T, once, mask_self=mask_self, readings=readings
    )


@implements("T1")
def asymmetric_drift(
    x: Array,
    y_pos: Array,
    y_neg: Array,
    T: float,
    attraction: float,
    repulsion: float,
    *,
    mask_self: bool,
    readings: Readings = PAPER,
) -> Array:
    """Table 1 with Algorithm 2's weights, relative to x: a·Σ W_pos(y⁺ − x) − b·Σ W_neg(y⁻ − x).

    x [N, C], y_pos [P, C], y_neg [M, C] (its first N rows x, if ``mask_self``) → [N, C].
    """
    W_pos, W_neg = _weights(x, y_pos, y_neg, T, mask_self, readings)
    V = np.zeros(x.shape)
    for i in range(len(x)):
        V[i] = attraction * W_pos[i] @ (y_pos - x[i]) - repulsion * W_neg[i] @ (y_neg - x[i])
    return V


@implements("T1")
def asymmetric_products(
    x: Array,
    y_pos: Array,
    y_neg: Array,
    T: float,
    attraction: float,
    repulsion: float,
    *,
    mask_self: bool,
    readings: Readings = PAPER,
) -> Array:
    """The same with the products of ALG2-10 scaled: a·W_pos @ y_pos − b·W_neg @ y_neg.

    Differs from :func:`asymmetric_drift` by (a − b)·ρ_i·x_i, ρ the row sums of W (P-29) → [N, C].
    """
    W_pos, W_neg = _weights(x, y_pos, y_neg, T, mask_self, readings)
    return drift(attraction * W_pos, repulsion * W_neg, y_pos, y_neg)
