"""Sec. 3.5 and A.7: classifier-free guidance as unconditional samples among the negatives.

Distributions on a finite support are arrays of probabilities, one entry per point.
"""

from __future__ import annotations

from drifting_reference.arrays import Array
from drifting_spec import implements


@implements("EQ-15")
def mixed_negatives(q: Array, p_unconditional: Array, gamma: float) -> Array:
    """EQ-15: q̃(·|c) = (1 − γ) q_θ(·|c) + γ p_data(·|∅), 0 ≤ γ < 1."""
    return (1 - gamma) * q + gamma * p_unconditional


@implements("EQ-16")
def guided_distribution(p_class: Array, p_unconditional: Array, alpha: float) -> Array:
    """EQ-16: q_θ(·|c) = α p_data(·|c) − (α − 1) p_data(·|∅). Entries may be negative (P-45)."""
    return alpha * p_class - (alpha - 1) * p_unconditional


@implements("EQ-16", "EQ-A7alpha")
def gamma_to_alpha(gamma: float) -> float:
    """α = 1/(1 − γ), the guidance scale. Raises ``ValueError`` unless 0 ≤ γ < 1."""
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma is {gamma}, expected 0 <= gamma < 1")
    return 1 / (1 - gamma)


@implements("EQ-16", "EQ-A7alpha")
def alpha_to_gamma(alpha: float) -> float:
    """γ = 1 − 1/α, the inverse of :func:`gamma_to_alpha`. ``ValueError`` unless α ≥ 1."""
    if not alpha >= 1:
        raise ValueError(f"alpha is {alpha}, expected alpha >= 1")
    return 1 - 1 / alpha


@implements("EQ-A7q")
def weighted_negatives(
    q: Array, p_unconditional: Array, weight: float, n_generated: int, n_unconditional: int
) -> Array:
    """EQ-A7q: q̃ = [(N−1) q_θ + N_unc w p_data(·|∅)] / [(N−1) + N_unc w].

    N − 1, because a generated sample does not count among its own negatives.
    """
    numerator = (n_generated - 1) * q + n_unconditional * weight * p_unconditional
    return numerator / ((n_generated - 1) + n_unconditional * weight)


@implements("EQ-A7gamma")
def weight_to_gamma(weight: float, n_generated: int, n_unconditional: int) -> float:
    """EQ-A7γ: γ = N_unc w / ((N−1) + N_unc w)."""
    return n_unconditional * weight / ((n_generated - 1) + n_unconditional * weight)


@implements("EQ-A7alpha")
def weight_to_alpha(weight: float, n_generated: int, n_unconditional: int) -> float:
    """EQ-A7α: α = ((N−1) + N_unc w) / (N−1)."""
    return ((n_generated - 1) + n_unconditional * weight) / (n_generated - 1)


@implements("A7-w", "EQ-A7alpha")
def cfg_alpha_to_weight(alpha: float, n_generated: int, n_unconditional: int) -> float:
    """A7-w: w = (α − 1)(N − 1)/N_unc, the kernel weight of one unconditional sample.

    Raises ``ValueError`` for α < 1, fewer than two generated samples (no negative is left beside
    the own sample) or no unconditional one.
    """
    if not alpha >= 1:
        raise ValueError(f"alpha is {alpha}, expected alpha >= 1")
    if n_generated < 2:
        raise ValueError(f"n_generated is {n_generated}, expected >= 2")
    if n_unconditional < 1:
        raise ValueError(f"n_unconditional is {n_unconditional}, expected >= 1")
    return (alpha - 1) * (n_generated - 1) / n_unconditional
