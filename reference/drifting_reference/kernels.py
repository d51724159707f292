"""Sec. 3.3: the kernel of EQ-12 and its normalisers, EQ-9."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from drifting_reference.arrays import Array
from drifting_spec import implements


@implements("ALG2-1", "ALG2-2")
def distances(x: Array, y: Array) -> Array:
    """ALG2-1, ALG2-2: d_im = ‖x_i − y_m‖₂ by explicit differences. x [N, C], y [M, C] → [N, M]."""
    distance = np.zeros((len(x), len(y)))
    for i in range(len(x)):
        distance[i] = np.sqrt(np.sum((x[i] - y) ** 2, axis=-1))
    return distance


@implements("EQ-12")
def kernel(x: Array, y: Array, T: float) -> Array:
    """EQ-12: k(x, y) = exp(−‖x − y‖/τ), the norm not squared. x [N, C], y [M, C] → [N, M]."""
    return np.exp(-distances(x, y) / T)


@implements("EQ-9")
def normalizer(x: Array, y: Array, T: float) -> Array:
    """EQ-9: Z(x) = E_y[k(x, y)], the mean over the samples y. x [N, C], y [M, C] → [N]."""
    return np.mean(kernel(x, y, T), axis=1)


@implements("EQ-9")
def log_normalizer(x: Array, y: Array, T: float) -> Array:
    """EQ-9 as log Z(x): does not underflow where all distances far exceed τ. → [N]."""
    return logsumexp(-distances(x, y) / T, axis=1) - np.log(len(y))


@implements("EQ-12")
def normalized_kernel(x: Array, y: Array, T: float) -> Array:
    """EQ-12: k̃ = k/Z (each row has mean 1 over y). x [N, C], y [M, C] → [N, M]."""
    log_z = log_normalizer(x, y, T)
    return np.exp(-distances(x, y) / T - log_z[:, None])
