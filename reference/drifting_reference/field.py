"""Sec. 3.3: the drifting field with independent normalisers Z_p and Z_q, EQ-7 to EQ-11.

Weights count a sample as so many copies of it. ``mask_self=True`` says that the first N rows of
``y_neg`` are x itself and leaves the pair (i, i) out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drifting_reference.arrays import Array, as_array, as_weight, ratio
from drifting_reference.kernels import distances, kernel
from drifting_spec import implements, oracle

PairKernel = Callable[[Array, Array, Array], Array]


@implements("EQ-7")
def eq7_field(x: Array, y_pos: Array, y_neg: Array, K: PairKernel) -> Array:
    """EQ-7: V(x) = E_{y⁺} E_{y⁻}[K(x, y⁺, y⁻)], all P·M pairs. K: three [C] → [C]. → [N, C]."""
    V = np.zeros(x.shape)
    for i in range(len(x)):
        for j in range(len(y_pos)):
            for m in range(len(y_neg)):
                V[i] += K(x[i], y_pos[j], y_neg[m])
    return V / (len(y_pos) * len(y_neg))


def _shares(x: Array, y: Array, T: float, weight: Array, mask_self: bool) -> Array:
    """w_m k(x_i, y_m) / Σ w k per row, zero where no sample counts. [N, M]."""
    share = np.zeros((len(x), len(y)))
    for i in range(len(x)):
        logit = -distances(x[i : i + 1], y)[0] / T
        counted = weight > 0
        if mask_self:
            counted[i] = False
        if counted.any():
            # k is 1-scaled to the nearest counted sample, so that it cannot underflow everywhere.
            e = np.exp(logit[counted] - logit[counted].max()) * weight[counted]
            share[i, counted] = e / e.sum()
    return share


@implements("EQ-8")
def mean_shift(
    x: Array, y: Array, T: float, *, weight: Array | None = None, mask_self: bool = False
) -> Array:
    """EQ-8: (1/Z) E_y[k(x, y)(y − x)]: V⁺_p with y ~ p, V⁻_q with y ~ q.

    x [N, C], y [M, C], weight [M] → [N, C]; zero where no sample counts.
    """
    share = _shares(x, y, T, as_weight("weight", weight, (len(y),)), mask_self)
    shift = np.zeros(x.shape)
    for i in range(len(x)):
        for m in range(len(y)):
            shift[i] += share[i, m] * (y[m] - x[i])
    return shift


@implements("EQ-10")
def eq10_field(x: Array, y_pos: Array, y_neg: Array, T: float, *, mask_self: bool = False) -> Array:
    """EQ-10: V_{p,q}(x) = V⁺_p(x) − V⁻_q(x). x [N, C], y_pos [P, C], y_neg [M, C] → [N, C]."""
    return mean_shift(x, y_pos, T) - mean_shift(x, y_neg, T, mask_self=mask_self)


@implements("EQ-11")
def eq11_field(
    x: Array,
    y_pos: Array,
    y_neg: Array,
    T: float,
    *,
    mask_self: bool = False,
    positive_weight: Array | None = None,
    negative_weight: Array | None = None,
) -> Array:
    """EQ-11: V(x) = (1/(Z_p Z_q)) E_{p,q}[k(x, y⁺) k(x, y⁻)(y⁺ − y⁻)].

    x [N, C], y_pos [P, C], y_neg [M, C], weights [P] and [M] → [N, C].
    """
    x, y_pos, y_neg = as_array("x", x), as_array("y_pos", y_pos), as_array("y_neg", y_neg)
    pos = _shares(x, y_pos, T, as_weight("positive_weight", positive_weight, (len(y_pos),)), False)
    neg = _shares(
        x, y_neg, T, as_weight("negative_weight", negative_weight, (len(y_neg),)), mask_self
    )
    return pair_field(pos, neg, y_pos, y_neg)


@implements("EQ-17", "EQ-27")
def pair_field(A_pos: Array, A_neg: Array, y_pos: Array, y_neg: Array) -> Array:
    """EQ-17, EQ-27: V_i = Σ_j Σ_m A_ij A_im (y⁺_j − y⁻_m), for any normalised kernel A.

    A_pos [N, P], A_neg [N, M], y_pos [P, C], y_neg [M, C] → [N, C]. (The constant P·M of the
    two expectations belongs to the kernels.) Algorithm 2 computes the same in O(N(P + M)C).
    """
    V = np.zeros((len(A_pos), y_pos.shape[1]))
    for i in range(len(A_pos)):
        for j in range(len(y_pos)):
            V[i] += A_pos[i, j] * (A_neg[i] @ (y_pos[j] - y_neg))
    return V


@oracle("EQ-11")
def kernel_sums(
    x: Array, y_pos: Array, y_neg: Array, T: float, *, mask_self: bool = False
) -> tuple[Array, Array]:
    """P_i = Σ_j k(x_i, y⁺_j) and Q_i = Σ_m k(x_i, y⁻_m), each [N] (sums, not means)."""
    k_pos, k_neg = kernel(x, y_pos, T), kernel(x, y_neg, T)
    if mask_self:
        for i in range(len(x)):
            k_neg[i, i] = 0.0
    return k_pos.sum(axis=1), k_neg.sum(axis=1)


@oracle("EQ-11")
def y_softmax_factor(
    x: Array, y_pos: Array, y_neg: Array, T: float, *, mask_self: bool = False
) -> Array:
    """π_i(1 − π_i), π = P/(P + Q): Algorithm 2 over y alone is this factor times EQ-11. [N]."""
    P, Q = kernel_sums(x, y_pos, y_neg, T, mask_self=mask_self)
    share = ratio(P, P + Q)
    return share * (1 - share)
