"""Effects on what the paper proves: E V at equilibrium, identifiability, the signs of C.2."""

from __future__ import annotations

import numpy as np

from drifting_parity.cases import Array
from drifting_parity.witnesses.cases import Y_ONLY, apart, points
from drifting_parity.witnesses.core import witness
from drifting_reference import compute_V
from drifting_reference.equilibrium import mean_field_at_equilibrium
from drifting_reference.field import eq11_field
from drifting_reference.identifiability import (
    conditioning,
    gaussian_basis,
    interactions_from_moments,
    quadrature_1d,
    quadrature_2d,
)
from drifting_reference.mmd import drift_of_loss, gaussian_xi, mmd_field, mmd_loss
from drifting_spec import PAPER, Readings

# P-19: three atoms, x_0 at the first, T = 1.

ATOMS = np.array([[0.0], [1.0], [2.5]])
ODDS = np.array([0.5, 0.3, 0.2])


def mean_field(N: int, P: int, readings: Readings = PAPER) -> float:
    """E V_{p,p} at the first atom, with N generated samples (x_0 among them) and P positives."""

    def field(x: Array, y_pos: Array) -> Array:
        if readings.kernel_normalization == "separate":
            return eq11_field(x, y_pos, x, 1.0, mask_self=True)[0]
        return compute_V(x, y_pos, x, 1.0, mask_self=True, readings=readings)[0]

    return float(mean_field_at_equilibrium(field, ATOMS[0], ATOMS, ODDS, N, P)[0])


SEPARATE = PAPER.with_reading("kernel_normalization", "separate")


@witness("P-19-both-3-2")
def both_softmaxes_three_and_two() -> float:
    return mean_field(3, 2)


@witness("P-19-both-3-4")
def both_softmaxes_three_and_four() -> float:
    return mean_field(3, 4)


@witness("P-19-both-4-3")
def both_softmaxes_four_and_three() -> float:
    return mean_field(4, 3)


@witness("P-19-y-only")
def y_only_at_equilibrium() -> float:
    return max(abs(mean_field(N, P, Y_ONLY)) for N, P in ((3, 2), (3, 4), (4, 3)))


@witness("P-19-separate-3-4")
def separate_three_and_four() -> float:
    return mean_field(3, 4, SEPARATE)


@witness("P-19-separate-3-2")
def separate_with_as_many_of_both() -> float:
    return abs(mean_field(3, 2, SEPARATE))


# P-21: the linear system of C.1.


def condition(m: int, dimension: int, probes: int) -> float:
    """Condition number of {U_ij}, i < j: m Gaussians of width 1, probes between them, T = 1."""
    edges = np.linspace(-7.0, 7.0, 15)
    source = np.random.default_rng(m)
    if dimension == 1:
        nodes, weights = quadrature_1d(list(edges), 12)
    else:
        nodes, weights = quadrature_2d(list(edges[::2]), list(edges[::2]), 8)
    centres = source.uniform(-3.0, 3.0, size=(m, dimension))
    x = source.uniform(-3.0, 3.0, size=(probes, dimension))
    phi = gaussian_basis(nodes, centres, 1.0)
    return conditioning(interactions_from_moments(x, phi, nodes, weights, 1.0)).condition_number


@witness("P-21-line")
def condition_on_a_line() -> float:
    return float(np.log10(condition(5, 1, 40)))


@witness("P-21-plane")
def condition_in_a_plane() -> float:
    return float(np.log10(condition(5, 2, 40)))


@witness("P-21-count")
def rank_with_too_few_probes() -> float:
    # m = 5 needs 10 equations: 9 probes on a line cannot do, 10 can.
    return float(np.isinf(condition(5, 1, 9))) + float(np.isinf(condition(5, 1, 10)))


# P-20: the signs of EQ-36 to EQ-45.


def numerical_drift() -> Array:
    """−½ N ∂L/∂x_i by central differences of EQ-37."""
    case, kernel, step = points(N=5), gaussian_xi(1.0), 1e-5
    gradient = np.zeros_like(case.x)
    for index in np.ndindex(*case.x.shape):
        moved = np.zeros_like(case.x)
        moved[index] = step
        ahead, behind = (mmd_loss(x, case.y_pos, kernel) for x in (case.x + moved, case.x - moved))
        gradient[index] = (ahead - behind) / (2 * step)
    return drift_of_loss(len(case.x) * gradient)


@witness("P-20-signs")
def mmd_field_against_differences() -> float:
    case = points(N=5)
    return apart(mmd_field(case.x, case.y_pos, case.x, gaussian_xi(1.0)), numerical_drift())


@witness("P-20-per-sample")
def batch_gradient_over_per_sample() -> float:
    case = points(N=5)
    field = mmd_field(case.x, case.y_pos, case.x, gaussian_xi(1.0))
    batch = numerical_drift() / len(case.x)
    return float(np.linalg.norm(batch) / np.linalg.norm(field))
