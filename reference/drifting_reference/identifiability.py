"""C.1: when does V = 0 at N probe points force p = q? EQ-28 to EQ-33, by quadrature.

Densities live on a grid: ``nodes`` [M, C] with ``weights`` [M], so that ∫f = Σ weights · f(nodes).
Probe points are ``x`` [N, C]; the m basis functions are given by their values ``phi`` [m, M] at
the nodes. The kernel is that of EQ-12, and V has no normalisers: it is EQ-11's numerator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import roots_legendre

from drifting_reference.arrays import Array
from drifting_reference.kernels import kernel
from drifting_spec import implements


def quadrature_1d(edges: Sequence[float], order: int) -> tuple[Array, Array]:
    """Gauss–Legendre between consecutive ``edges`` → nodes [M, 1], weights [M].

    With every probe point among the edges the kernel's kink does no harm.
    """
    root, root_weight = roots_legendre(order)
    node, weight = list[float](), list[float]()
    for low, high in pairwise(edges):
        for t, w in zip(root, root_weight, strict=True):
            node.append((low + high) / 2 + (high - low) / 2 * t)
            weight.append((high - low) / 2 * w)
    return np.array(node)[:, None], np.array(weight)


def quadrature_2d(
    edges_1: Sequence[float], edges_2: Sequence[float], order: int
) -> tuple[Array, Array]:
    """Products of the nodes of :func:`quadrature_1d` on both axes → nodes [M, 2], weights [M]."""
    (node_1, weight_1), (node_2, weight_2) = (
        quadrature_1d(edges_1, order),
        quadrature_1d(edges_2, order),
    )
    node, weight = list[tuple[float, float]](), list[float]()
    for s in range(len(node_1)):
        for t in range(len(node_2)):
            node.append((node_1[s, 0], node_2[t, 0]))
            weight.append(weight_1[s] * weight_2[t])
    return np.array(node), np.array(weight)


def gaussian_basis(nodes: Array, centres: Array, sigma: float) -> Array:
    """φ_i = N(centre_i, σ²I): linearly independent densities. centres [m, C] → [m, M]."""
    phi = np.zeros((len(centres), len(nodes)))
    for i in range(len(centres)):
        square = np.sum((nodes - centres[i]) ** 2, axis=1)
        phi[i] = np.exp(-square / (2 * sigma**2)) / (2 * np.pi * sigma**2) ** (nodes.shape[1] / 2)
    return phi


@implements("EQ-29")
def mixture(coefficients: Array, phi: Array) -> Array:
    """EQ-29: p = Σ_i a_i φ_i. coefficients [m], phi [m, M] → p at the nodes, [M]."""
    p = np.zeros(phi.shape[1])
    for i in range(len(coefficients)):
        p += coefficients[i] * phi[i]
    return p


@implements("EQ-33")
def interaction_kernel(x: Array, nodes: Array, T: float) -> Array:
    """EQ-33: K(x, y⁺, y⁻) = k(x, y⁺) k(x, y⁻)(y⁺ − y⁻). x [C] → [M (y⁺), M (y⁻), C]."""
    k = kernel(x[None], nodes, T)[0]
    return k[:, None, None] * k[None, :, None] * (nodes[:, None, :] - nodes[None, :, :])


@implements("EQ-28")
def population_field(x: Array, p: Array, q: Array, nodes: Array, weights: Array, T: float) -> Array:
    """EQ-28: V_{p,q}(x) = E_{y⁺~p, y⁻~q}[K(x, y⁺, y⁻)]. p, q [M] at the nodes → V_X [C, N]."""
    V = np.zeros((x.shape[1], len(x)))
    for n in range(len(x)):
        K = interaction_kernel(x[n], nodes, T)
        for c in range(x.shape[1]):
            V[c, n] = (weights * p) @ K[:, :, c] @ (weights * q)
    return V


@implements("EQ-30")
def interactions(x: Array, phi: Array, nodes: Array, weights: Array, T: float) -> Array:
    """EQ-30: U_ij[:, x] = ∬ K(x, y⁺, y⁻) φ_i(y⁺) φ_j(y⁻) dy⁺ dy⁻. → [m, m, C, N]."""
    m = len(phi)
    U = np.zeros((m, m, x.shape[1], len(x)))
    for n in range(len(x)):
        K = interaction_kernel(x[n], nodes, T)
        for c in range(x.shape[1]):
            for i in range(m):
                for j in range(m):
                    U[i, j, c, n] = (weights * phi[i]) @ K[:, :, c] @ (weights * phi[j])
    return U


@implements("EQ-30", "EQ-33")
def interactions_from_moments(
    x: Array, phi: Array, nodes: Array, weights: Array, T: float
) -> Array:
    """EQ-30 with EQ-33: U_ij = B_i A_j − A_i B_j, A_i = ∫ k φ_i, B_i = ∫ k φ_i y. [m, m, C, N]."""
    m = len(phi)
    U = np.zeros((m, m, x.shape[1], len(x)))
    k = kernel(x, nodes, T)
    for n in range(len(x)):
        A = [np.sum(weights * k[n] * phi[i]) for i in range(m)]
        B = [(weights * k[n] * phi[i]) @ nodes for i in range(m)]
        for i in range(m):
            for j in range(m):
                U[i, j, :, n] = B[i] * A[j] - A[i] * B[j]
    return U


@implements("EQ-31")
def bilinear_field(a: Array, b: Array, U: Array) -> Array:
    """EQ-31: V_X = Σ_i Σ_j a_i b_j U_ij. a, b [m], U [m, m, C, N] → [C, N]."""
    V = np.zeros(U.shape[2:])
    for i in range(len(a)):
        for j in range(len(b)):
            V[...] += a[i] * b[j] * U[i, j]
    return V


@implements("EQ-32")
def antisymmetric_field(a: Array, b: Array, U: Array) -> Array:
    """EQ-32, left side: Σ_{i<j} (a_i b_j − a_j b_i) U_ij, as U_ij = −U_ji. → [C, N]."""
    V = np.zeros(U.shape[2:])
    for i in range(len(a)):
        for j in range(i + 1, len(b)):
            V[...] += (a[i] * b[j] - a[j] * b[i]) * U[i, j]
    return V


@implements("EQ-32")
def pair_columns(U: Array) -> Array:
    """The system of EQ-32: column (i, j), i < j, is U_ij flattened. → [C·N, m(m−1)/2]."""
    columns = list[Array]()
    for i in range(len(U)):
        for j in range(i + 1, len(U)):
            columns.append(U[i, j].ravel())
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Conditioning:
    """How well V_X = 0 determines the m(m−1)/2 numbers a_i b_j − a_j b_i (P-21)."""

    equations: int
    unknowns: int
    rank: int
    largest: float
    smallest: float

    @property
    def independent(self) -> bool:
        """Whether the U_ij, i < j, are linearly independent: then V_X = 0 forces a ∥ b."""
        return self.rank == self.unknowns

    @property
    def condition_number(self) -> float:
        """Largest by smallest singular value; infinite where the U_ij are dependent."""
        return self.largest / self.smallest if self.independent else float("inf")


@implements("EQ-32")
def conditioning(U: Array) -> Conditioning:
    """Rank, largest and smallest singular value of {U_ij}, i < j (EQ-32's linear system).

    ``smallest`` is min ‖Σ c_ij U_ij‖ over unit c: 0 if dN < m(m−1)/2. From dN = m(m−1)/2 on the
    rank can be full, but need not be: probe points placed symmetrically repeat equations.
    """
    matrix = pair_columns(U)
    equations, unknowns = matrix.shape
    singular = np.linalg.svd(matrix, compute_uv=False)
    smallest = float(singular[-1]) if equations >= unknowns else 0.0
    rank = int(np.linalg.matrix_rank(matrix))
    return Conditioning(equations, unknowns, rank, float(singular[0]), smallest)
