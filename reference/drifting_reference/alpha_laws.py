"""A.7 and Table 8: the laws from which training draws the guidance scale α, on [1, 4].

The continuous law has density ∝ α^{−n}; with an ``atom`` a, α = 1 with probability a and is drawn
from the continuous law otherwise (latent L/2: a = ½, n = 3).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from drifting_reference.arrays import Array
from drifting_spec import implements

LOW: Final = 1.0
HIGH: Final = 4.0


def _power_integral(exponent: float, high: Array | float) -> Array:
    """∫ t^{exponent} dt from 1 to ``high``."""
    high = np.asarray(high, dtype=np.float64)
    if exponent == -1:
        return np.log(high)
    return (high ** (exponent + 1) - LOW ** (exponent + 1)) / (exponent + 1)


@implements("A7-alpha-dist")
def alpha_normalizer(n: float) -> float:
    """Z_n = ∫ α^{−n} dα over [1, 4] = (1 − 4^{1−n})/(n − 1); log 4 for n = 1."""
    return float(_power_integral(-n, HIGH))


@implements("A7-alpha-dist")
def alpha_density(alpha: ArrayLike, n: float) -> Array:
    """p(α) = α^{−n}/Z_n on [1, 4], 0 elsewhere: the continuous part's density."""
    alpha = np.asarray(alpha, dtype=np.float64)
    inside = (alpha >= LOW) & (alpha <= HIGH)
    return np.where(inside, np.clip(alpha, LOW, HIGH) ** -n / alpha_normalizer(n), 0.0)


@implements("A7-alpha-dist")
def alpha_cdf(alpha: ArrayLike, n: float, atom: float = 0.0) -> Array:
    """F(α) = a + (1 − a) ∫_1^α p for α ≥ 1, 0 below: it jumps by the atom a at 1."""
    alpha = np.asarray(alpha, dtype=np.float64)
    share = _power_integral(-n, np.clip(alpha, LOW, HIGH)) / alpha_normalizer(n)
    return np.where(alpha >= LOW, atom + (1 - atom) * share, 0.0)


@implements("A7-alpha-dist")
def alpha_icdf(u: ArrayLike, n: float, atom: float = 0.0) -> Array:
    """α(u) = (1 + v(4^{1−n} − 1))^{1/(1−n)}, v = (u − a)/(1 − a); 1 for u < a; 4^v for n = 1.

    The least α with F(α) ≥ u: uniform u in [0, 1] give α its law.
    """
    u = np.asarray(u, dtype=np.float64)
    if atom == 1:
        return np.full_like(u, LOW)
    v = np.maximum(u - atom, 0.0) / (1 - atom)
    if n == 1:
        return LOW * (HIGH / LOW) ** v
    return (LOW ** (1 - n) + v * (HIGH ** (1 - n) - LOW ** (1 - n))) ** (1 / (1 - n))


@implements("A7-alpha-dist")
def alpha_moment(k: int, n: float, atom: float = 0.0) -> float:
    """E[α^k] = a + (1 − a) ∫ α^{k−n} dα / Z_n."""
    return float(atom + (1 - atom) * _power_integral(k - n, HIGH) / alpha_normalizer(n))


@implements("A7-alpha-dist")
def alpha_variance(n: float, atom: float = 0.0) -> float:
    """Var α = E[α²] − E[α]²."""
    return alpha_moment(2, n, atom) - alpha_moment(1, n, atom) ** 2
