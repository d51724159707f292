"""C.1, identifiability: PB-47, EQ-28 to EQ-33, computed with the reference alone.

The clauses speak of the paper, so the adapter is not asked. Fields and interactions are held to
one another, to EQ-11, to Gaussian–Laplace integrals in closed form, and the unknowns of EQ-32
are solved for; the condition numbers found on the way are notes of the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import erfcx

from drifting_parity.cases import Array
from drifting_parity.checks.core import Check, Context, Property, Yield
from drifting_parity.draw import Draw, generator
from drifting_parity.measure import Measurement, at_least, compare, within
from drifting_reference import eq11_field, identifiability
from drifting_spec.registry import Tolerance


def absolute(size: float, derivation: str) -> Tolerance:
    """Allow an absolute error, for float64 arithmetic on the reference."""
    return Tolerance("paper.float64", "identity", "float64", 0.0, size, derivation)


@dataclass(frozen=True)
class World:
    """Probe points, a grid with weights, Gaussians on it, coefficients a and b, a temperature."""

    x: Array
    nodes: Array
    weights: Array
    phi: Array
    a: Array
    b: Array
    T: float

    @property
    def name(self) -> str:
        """Sizes, as in the digest of a case."""
        return f"m={len(self.phi)} d={self.x.shape[1]} N={len(self.x)} T={self.T:.3g}"

    def tolerance(self, factor: float = 1.0) -> Tolerance:
        """Rounding of sums of a_i b_j ∬ K φ_i φ_j, each at most ``factor`` · diameter."""
        corner = np.max(self.nodes, axis=0) - np.min(self.nodes, axis=0)
        size = float(np.linalg.norm(corner)) * factor * np.sqrt(self.x.size)
        mass = float(np.max(self.phi @ self.weights)) ** 2
        return absolute(1e-14 * size * mass, "a hundred roundings of the largest term")

    @property
    def coefficients(self) -> float:
        """Σ|a_i| Σ|b_j|."""
        return float(np.sum(np.abs(self.a)) * np.sum(np.abs(self.b)))


def _world(draw: Draw) -> World:
    m, channels, probes = draw.integer(2, 5), draw.choice((1, 2)), draw.integer(1, 4)
    T, sigma = 2.0 ** draw.integer(-1, 1), draw.choice((1.0, 0.5))
    random = generator(draw)
    x, centres = (random.uniform(-2.0, 2.0, size=(count, channels)) for count in (probes, m))
    if channels == 1:
        nodes, weights = identifiability.quadrature_1d((-4.0, 0.0, 4.0), 12)
    else:
        nodes, weights = identifiability.quadrature_2d((-4.0, 4.0), (-4.0, 4.0), 6)
    phi = identifiability.gaussian_basis(nodes, centres, sigma)
    a, b = random.uniform(0.0, 1.0, size=(2, m))
    return World(x, nodes, weights, phi, a / a.sum(), b / b.sum(), T)


def _interactions(world: World) -> Array:
    return identifiability.interactions(world.x, world.phi, world.nodes, world.weights, world.T)


def _bilinear(ctx: Context, world: World) -> Iterator[Measurement]:
    """EQ-28 = EQ-31 = EQ-32 = EQ-11's numerator, U antisymmetric, V = 0 for a ∥ b."""
    del ctx
    U, near = _interactions(world), world.name
    turned = -np.swapaxes(U, 0, 1)
    once, mixed = world.tolerance(len(U)), world.tolerance(world.coefficients)
    yield compare(("EQ-30", "EQ-32"), "U_ij = −U_ji", near, U, turned, once)
    moments = identifiability.interactions_from_moments(
        world.x, world.phi, world.nodes, world.weights, world.T
    )
    yield compare(("EQ-30", "EQ-33"), "U = B_i A_j − A_i B_j", near, U, moments, once)
    p, q = (identifiability.mixture(c, world.phi) for c in (world.a, world.b))
    direct = identifiability.population_field(world.x, p, q, world.nodes, world.weights, world.T)
    expanded = identifiability.bilinear_field(world.a, world.b, U)
    clauses = ("EQ-28", "EQ-29", "EQ-31")
    yield compare(clauses, "V_X = Σ a_i b_j U_ij", near, expanded, direct, mixed)
    paired = identifiability.antisymmetric_field(world.a, world.b, U)
    yield compare(("EQ-32",), "V_X over pairs i < j", near, paired, expanded, mixed)
    parallel = identifiability.bilinear_field(world.a, 2.0 * world.a, U)
    zero, size = np.zeros_like(parallel), 2.0 * float(np.sum(world.a)) ** 2
    clauses = ("EQ-31", "EQ-32")
    yield compare(clauses, "V_X for a ∥ b", near, parallel, zero, world.tolerance(size))
    alike = identifiability.antisymmetric_field(world.a, 2.0 * world.a, U)
    yield compare(("EQ-32",), "Σ_{i<j} for a ∥ b", near, alike, zero, world.tolerance(size))
    yield compare(
        ("EQ-28", "EQ-33"), "EQ-11 · Z_p Z_q", near, direct, _numerator(world, p, q), mixed
    )


def _numerator(world: World, p: Array, q: Array) -> Array:
    """EQ-11 of the weighted nodes times both normalisers. [C, N]."""
    nodes, positive, negative = world.nodes, world.weights * p, world.weights * q
    field = eq11_field(
        world.x,
        nodes,
        nodes,
        world.T,
        positive_weight=positive,
        negative_weight=negative,
    )
    k = np.exp(-cdist(world.x, nodes) / world.T)
    return (field * (k @ positive)[:, None] * (k @ negative)[:, None]).T


def _gauss_laplace(x: Array, centres: Array, sigma: float, T: float) -> tuple[Array, Array]:
    """A_i(x) = ∫ e^{−|x−y|/T} φ_i and B_i(x) = ∫ e^{−|x−y|/T} φ_i y for Gaussians on the line.

    Either side of x is a Gaussian integral; ∫ k φ (y − c) = σ² ∫ (∂k/∂y) φ gives B. → [m, N].
    """
    offset = x[None, :] - centres[:, None]
    density = np.exp(-(offset**2) / (2.0 * sigma**2)) / 2.0
    below = density * erfcx((sigma**2 / T - offset) / (sigma * np.sqrt(2.0)))
    above = density * erfcx((sigma**2 / T + offset) / (sigma * np.sqrt(2.0)))
    A = below + above
    return A, centres[:, None] * A + sigma**2 / T * (below - above)


def _quadrature(ctx: Context) -> Iterator[Yield]:
    """U and V_X by quadrature against closed forms, in one dimension."""
    del ctx
    x, centres, sigma, T = np.array([-1.5, 0.2, 1.0]), np.array([-1.0, 0.0, 1.3]), 0.7, 0.8
    nodes, weights = identifiability.quadrature_1d((-9.0, *x, 9.0), 60)
    phi = identifiability.gaussian_basis(nodes, centres[:, None], sigma)
    near, tolerance = "3 Gaussians on the line", absolute(1e-12, "60 nodes between kinks")
    mass = phi @ weights
    yield compare(("EQ-29",), "∫ φ_i", near, mass, np.ones(3), tolerance)
    A, B = _gauss_laplace(x, centres, sigma, T)
    exact = B[:, None] * A[None] - A[:, None] * B[None]
    U = identifiability.interactions(x[:, None], phi, nodes, weights, T)
    yield compare(("EQ-30", "EQ-33"), "U_ij, closed form", near, U[:, :, 0], exact, tolerance)
    a, b = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    p, q = identifiability.mixture(a, phi), identifiability.mixture(b, phi)
    V = identifiability.population_field(x[:, None], p, q, nodes, weights, T)
    exact_V = (a @ B) * (b @ A) - (a @ A) * (b @ B)
    clauses = ("EQ-28", "EQ-29")
    yield compare(clauses, "V_X, closed form", near, V[0], exact_V, tolerance)
    expanded = identifiability.bilinear_field(a, b, U)[0]
    yield compare(("EQ-31",), "Σ a_i b_j U_ij, closed form", near, expanded, exact_V, tolerance)


SYSTEMS = ((3, 1, 3), (4, 1, 10), (5, 1, 20), (4, 2, 6), (5, 2, 10))
"""m, d, N of systems that determine a and b: m(m−1)/2 ≤ dN."""


def system(m: int, channels: int, probes: int) -> Array:
    """U of m Gaussians (σ = ½) with T = 1, probes and centres without symmetry."""
    if channels == 1:
        x = np.linspace(-2.6, 3.0, probes)[:, None]
        centres = np.linspace(-2.0, 2.0, m)[:, None]
        nodes, weights = identifiability.quadrature_1d((-6.0, *x[:, 0], 6.0), 10)
    else:
        turn, start = (np.linspace(0.0, 2.0 * np.pi, n, endpoint=False) for n in (probes, m))
        x = np.stack([2.0 * np.cos(turn), 1.5 * np.sin(turn) + 0.3 * turn], axis=1)
        centres = np.stack([1.5 * np.cos(start + 0.3), 1.2 * np.sin(start + 0.3)], axis=1)
        nodes, weights = identifiability.quadrature_2d((-5.0, 0.0, 5.0), (-5.0, 0.0, 5.0), 9)
    phi = identifiability.gaussian_basis(nodes, centres, 0.5)
    return identifiability.interactions_from_moments(x, phi, nodes, weights, 1.0)


def _rank(ctx: Context) -> Iterator[Yield]:
    """Independence of the U_ij; the unknowns a_i b_j − a_j b_i recovered from V_X."""
    del ctx
    for m, channels, probes in SYSTEMS:
        near = f"m={m} d={channels} N={probes}"
        U = system(m, channels, probes)
        found = identifiability.conditioning(U)
        note = f"condition number {found.condition_number:.3g}, least singular value "
        note += f"{found.smallest:.3g}, {found.equations} equations for {found.unknowns} unknowns"
        wanted, exact = m * (m - 1) // 2, absolute(0.0, "a count")
        yield compare(("EQ-32",), f"rank, {near}", near, found.rank, wanted, exact, note)
        random = np.random.default_rng(m)
        a, b = random.uniform(size=(2, m))
        V = identifiability.bilinear_field(a, b, U).ravel()
        solved = np.asarray(
            np.linalg.lstsq(identifiability.pair_columns(U), V)[0], dtype=np.float64
        )
        pairs = [a[i] * b[j] - a[j] * b[i] for i in range(m) for j in range(i + 1, m)]
        room = absolute(1e-14 * found.condition_number, "rounding times the condition number")
        quantity = f"a_i b_j − a_j b_i from V_X, {near}"
        yield compare(("EQ-31", "EQ-32"), quantity, near, solved, np.array(pairs), room, note)
    yield from _deficient()


def _deficient() -> Iterator[Measurement]:
    """With dN < m(m−1)/2 some p ≠ q has V_X = 0: not identifiable from so few points."""
    found = identifiability.conditioning(system(5, 1, 6))
    near = "m=5 d=1 N=6"
    exact = absolute(0.0, "a count")
    yield compare(("EQ-32",), "rank, dN < m(m−1)/2", near, found.rank, found.equations, exact)
    yield within(("EQ-32",), "least singular value, dN < m(m−1)/2", near, found.smallest, 0.0)
    # Probes and centres that a reflection maps to themselves: of the 6 unknowns 4 belong to even
    # functions of x, and mirrored probes give only 3 equations for those.
    x, centres = np.linspace(-3.0, 3.0, 6)[:, None], np.linspace(-2.0, 2.0, 4)[:, None]
    nodes, weights = identifiability.quadrature_1d((-8.0, *x[:, 0], 8.0), 12)
    phi = identifiability.gaussian_basis(nodes, centres, 0.5)
    mirrored = identifiability.interactions_from_moments(x, phi, nodes, weights, 1.0)
    found = identifiability.conditioning(mirrored)
    near, note = "m=4 d=1 N=6, mirrored", f"{found.equations} equations, {found.unknowns} unknowns"
    yield compare(("EQ-32",), "rank, mirrored probes", near, found.rank, 5, exact, note)
    V = identifiability.population_field(x, phi[0], phi[1], nodes, weights, 1.0)
    drift = float(np.linalg.norm(V))
    yield at_least(("EQ-28", "EQ-32"), "‖V_X‖ of two different densities", near, drift, 1e-3)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "PB-47",
        "C.1: EQ-31 = EQ-32 = direct double sum, U_ij = −U_ji, V = 0 for a ∥ b (a wrong sign)",
        ("EQ-28", "EQ-29", "EQ-30", "EQ-31", "EQ-32", "EQ-33"),
        _world,
        _bilinear,
        examples=8,
    ),
)

CHECKS: tuple[Check, ...] = (
    Check(
        "C1-quadrature",
        "C.1: U and V_X by quadrature equal Gaussian–Laplace integrals in closed form",
        ("EQ-28", "EQ-29", "EQ-30", "EQ-31", "EQ-33"),
        "golden value",
        _quadrature,
    ),
    Check(
        "C1-rank",
        "C.1: from dN = m(m−1)/2 on the U_ij can be independent, and V_X tells a ∥ b",
        ("EQ-28", "EQ-31", "EQ-32"),
        "golden value",
        _rank,
    ),
)
