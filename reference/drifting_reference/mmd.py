"""C.2: drifting beside maximum mean discrepancy, EQ-34 to EQ-47.

ξ is a radial kernel, a function of R = ‖x − y‖². Expectations are means over samples: x [N, C]
and the negatives are samples of q, y_pos [P, C] of p. The mean over x' includes x itself
(a V-statistic): it adds nothing to the sum of a gradient, as ∂ξ(x, x')/∂x is zero at x' = x, but
counts in the 1/N.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from drifting_reference.arrays import Array
from drifting_spec import implements, oracle


@implements("EQ-34")
def sample_losses(x: Array, target: Array) -> Array:
    """EQ-34: L(x_i) = ‖x_i − sg(x_i + V(x_i))‖², with ``target`` = x + V a constant. → [N]."""
    return np.sum((x - target) ** 2, axis=1)


@implements("EQ-34")
def expected_loss(x: Array, target: Array) -> float:
    """EQ-34: L = E_{x~q}[L(x)]."""
    return float(np.mean(sample_losses(x, target)))


@implements("EQ-35", "EQ-38")
def parameter_gradient(sample_gradient: Array, jacobian: Array) -> Array:
    """EQ-35, EQ-38: ∂L/∂θ = E_x[∂L(x)/∂x · ∂x/∂θ].

    sample_gradient [N, C] is that of the per-sample L(x), jacobian [N, C, D] → [D].
    """
    gradient = np.zeros(jacobian.shape[2])
    for i in range(len(sample_gradient)):
        gradient += sample_gradient[i] @ jacobian[i]
    return gradient / len(sample_gradient)


@implements("EQ-36")
def drift_of_loss(sample_gradient: Array) -> Array:
    """EQ-36: V(x) = −½ ∂L(x)/∂x, L(x) the *per-sample* term (N times the mean's gradient)."""
    return -0.5 * sample_gradient


@dataclass(frozen=True)
class RadialKernel:
    """ξ(R) and its derivative ξ'(R), R = ‖x − y‖² ≥ 0."""

    xi: Callable[[Array], Array]
    xi_prime: Callable[[Array], Array]


@implements("EQ-43")
def gaussian_xi(sigma: float) -> RadialKernel:
    """ξ(R) = exp(−R/2σ²), ξ'(R) = −(1/2σ²) exp(−R/2σ²)."""
    return RadialKernel(
        xi=lambda R: np.exp(-R / (2 * sigma**2)),
        xi_prime=lambda R: -1 / (2 * sigma**2) * np.exp(-R / (2 * sigma**2)),
    )


def matern_xi(tau: float) -> RadialKernel:
    """ξ(r) = τ(r + τ) e^{−r/τ}, r = √R (Matérn 3/2), ξ'(R) = −½ e^{−r/τ}.

    By EQ-45 its drift has the kernel e^{−r/τ} of EQ-12, not normalised.
    """
    return RadialKernel(
        xi=lambda R: tau * (np.sqrt(R) + tau) * np.exp(-np.sqrt(R) / tau),
        xi_prime=lambda R: -0.5 * np.exp(-np.sqrt(R) / tau),
    )


def squared_distances(x: Array, y: Array) -> Array:
    """R_im = ‖x_i − y_m‖². x [N, C], y [M, C] → [N, M]."""
    R = np.zeros((len(x), len(y)))
    for i in range(len(x)):
        R[i] = np.sum((x[i] - y) ** 2, axis=1)
    return R


@implements("EQ-37")
def mmd_loss(x: Array, y_pos: Array, kernel: RadialKernel) -> float:
    """EQ-37: L_MMD² = E_{x,x'~q} ξ(x, x') − 2 E_{y~p, x~q} ξ(y, x) + E_{y,y'~p} ξ(y, y').

    The last term is the equation's constant.
    """
    among_x = np.mean(kernel.xi(squared_distances(x, x)))
    between = np.mean(kernel.xi(squared_distances(y_pos, x)))
    among_y = np.mean(kernel.xi(squared_distances(y_pos, y_pos)))
    return float(among_x - 2 * between + among_y)


@implements("EQ-42")
def kernel_gradient(x: Array, y: Array, kernel: RadialKernel) -> Array:
    """EQ-42: ∂ξ(x, y)/∂x = 2 ξ'(R)(x − y). x [N, C], y [M, C] → [N, M, C]."""
    xi_prime = kernel.xi_prime(squared_distances(x, y))
    gradient = np.zeros((*xi_prime.shape, x.shape[1]))
    for i in range(len(x)):
        for m in range(len(y)):
            gradient[i, m] = 2 * xi_prime[i, m] * (x[i] - y[m])
    return gradient


@implements("EQ-39", "EQ-40")
def mmd_sample_gradient(x: Array, y_pos: Array, kernel: RadialKernel) -> Array:
    """EQ-39, EQ-40: ∂L(x)/∂x = 2 E_{x'~q}[∂ξ(x, x')/∂x] − 2 E_{y~p}[∂ξ(x, y)/∂x]. → [N, C]."""
    repulsion = np.mean(kernel_gradient(x, x, kernel), axis=1)
    attraction = np.mean(kernel_gradient(x, y_pos, kernel), axis=1)
    return 2 * repulsion - 2 * attraction


@implements("EQ-41")
def mmd_field(x: Array, y_pos: Array, y_neg: Array, kernel: RadialKernel) -> Array:
    """EQ-41: V_MMD(x) = E_{y⁺}[∂ξ(x, y⁺)/∂x] − E_{y⁻}[∂ξ(x, y⁻)/∂x]. → [N, C]."""
    attraction = np.mean(kernel_gradient(x, y_pos, kernel), axis=1)
    return attraction - np.mean(kernel_gradient(x, y_neg, kernel), axis=1)


@implements("EQ-43")
def radial_mmd_field(x: Array, y_pos: Array, y_neg: Array, kernel: RadialKernel) -> Array:
    """EQ-43: V_MMD(x) = E_{y⁺}[2ξ'(R)(x − y⁺)] − E_{y⁻}[2ξ'(R)(x − y⁻)]. → [N, C]."""
    prime_pos = kernel.xi_prime(squared_distances(x, y_pos))
    prime_neg = kernel.xi_prime(squared_distances(x, y_neg))
    V = np.zeros(x.shape)
    for i in range(len(x)):
        V[i] += np.mean(2 * prime_pos[i, :, None] * (x[i] - y_pos), axis=0)
        V[i] -= np.mean(2 * prime_neg[i, :, None] * (x[i] - y_neg), axis=0)
    return V


@implements("EQ-45")
def mmd_kernel(x: Array, y: Array, kernel: RadialKernel) -> Array:
    """EQ-45: k̃_MMD(x, y) = −2 ξ'(‖x − y‖²). x [N, C], y [M, C] → [N, M]."""
    return -2 * kernel.xi_prime(squared_distances(x, y))


@implements("EQ-46")
def normalized_rows(k: Array) -> Array:
    """EQ-46: k̃(x, y) = k(x, y) / E_y[k(x, y)]: each row has mean 1. [N, M] → [N, M]."""
    return k / np.mean(k, axis=1, keepdims=True)


@implements("EQ-44")
def kernel_field(x: Array, y_pos: Array, y_neg: Array, k_pos: Array, k_neg: Array) -> Array:
    """EQ-44: V(x) = E_p[k̃(x, y⁺)(y⁺ − x)] − E_q[k̃(x, y⁻)(y⁻ − x)].

    k_pos [N, P], k_neg [N, M]: the kernel's values, normalised or not → [N, C].
    """
    V = np.zeros(x.shape)
    for i in range(len(x)):
        V[i] += np.mean(k_pos[i, :, None] * (y_pos - x[i]), axis=0)
        V[i] -= np.mean(k_neg[i, :, None] * (y_neg - x[i]), axis=0)
    return V


@implements("EQ-47", "EQ-27")
def paired_kernel_field(y_pos: Array, y_neg: Array, k_pos: Array, k_neg: Array) -> Array:
    """EQ-47: V(x) = E_{p,q}[k̃(x, y⁺) k̃(x, y⁻)(y⁺ − y⁻)], the mean over all pairs.

    k_pos [N, P], k_neg [N, M]. EQ-44 if both kernels have mean 1 in each row (EQ-46) → [N, C].
    """
    V = np.zeros((len(k_pos), y_pos.shape[1]))
    for i in range(len(k_pos)):
        for j in range(len(y_pos)):
            V[i] += k_pos[i, j] * np.mean(k_neg[i, :, None] * (y_pos[j] - y_neg), axis=0)
    return V / len(y_pos)


@oracle("EQ-44")
def log_gaussian_ratio(x: Array, y_pos: Array, y_neg: Array, sigma: float) -> Array:
    """Log of E_p[k]/E_q[k] for k = exp(−R/2σ²): σ²∇_x of it is EQ-44 with EQ-46. → [N]."""
    pos = logsumexp(-squared_distances(x, y_pos) / (2 * sigma**2), axis=1) - np.log(len(y_pos))
    neg = logsumexp(-squared_distances(x, y_neg) / (2 * sigma**2), axis=1) - np.log(len(y_neg))
    return pos - neg
