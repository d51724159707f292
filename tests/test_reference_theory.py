"""C.1, C.2, Table 1, and the laws and arithmetic of the reference, against independent oracles.

Oracles: SciPy's adaptive quadrature, mpmath, central differences, closed forms, exact fractions.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import comb

import mpmath
import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.stats import kstest

import drifting_reference as reference
from drifting_reference import (
    ablations,
    alpha_laws,
    arithmetic,
    equilibrium,
    identifiability,
    mae,
    mmd,
)
from drifting_spec import PAPER, Readings

LAWS = [(3, 0.0), (5, 0.0), (3, 0.5), (1, 0.0), (2.5, 0.25)]
SEPARATE = replace(PAPER, softmax_axes="y", kernel_normalization="separate")


def random_points(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(4, 2)),
        random.normal(size=(3, 2)) + 0.5,
        random.normal(size=(5, 2)) - 0.5,
    )


# C.1


def test_interactions_against_adaptive_quadrature_on_the_line() -> None:
    x, centres, sigma, T = np.array([[0.3], [-1.2]]), np.array([[-0.5], [0.8]]), 0.6, 0.9
    nodes, weights = identifiability.quadrature_1d((-6.0, -1.2, 0.3, 6.0), 40)
    phi = identifiability.gaussian_basis(nodes, centres, sigma)
    U = identifiability.interactions(x, phi, nodes, weights, T)

    def density(y: float, i: int) -> float:
        c = centres[i, 0]
        return float(np.exp(-((y - c) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi) / sigma)

    for n, i, j in product(range(2), repeat=3):

        def integrand(minus: float, plus: float, n: int = n, i: int = i, j: int = j) -> float:
            k = np.exp(-(abs(x[n, 0] - plus) + abs(x[n, 0] - minus)) / T)
            return float(k * (plus - minus) * density(plus, i) * density(minus, j))

        whole = 0.0
        kinks = (-6.0, x[n, 0], 6.0)
        for low, high in ((kinks[0], kinks[1]), (kinks[1], kinks[2])):
            for bottom, top in ((kinks[0], kinks[1]), (kinks[1], kinks[2])):
                whole += dblquad(integrand, low, high, bottom, top, epsabs=1e-11)[0]
        assert U[i, j, 0, n] == pytest.approx(whole, abs=1e-9)


def test_interactions_in_the_plane_converge_to_polar_quadrature() -> None:
    # With x at the origin A = ∫ e^{−r/T} φ is one integral over r of a Bessel function.
    centre, sigma, T = np.array([[0.7, 0.0], [0.0, -0.4]]), 0.8, 0.7
    x = np.zeros((1, 2))
    nodes, weights = identifiability.quadrature_2d((-5.0, 0.0, 5.0), (-5.0, 0.0, 5.0), 40)
    phi = identifiability.gaussian_basis(nodes, centre, sigma)
    U = identifiability.interactions_from_moments(x, phi, nodes, weights, T)

    def radial(c: float, order: int) -> float:
        def f(r: float) -> float:
            bessel = mpmath.besseli(order, r * c / sigma**2)
            return float(
                r ** (1 + order) * bessel * mpmath.exp(-r / T - (r**2 + c**2) / (2 * sigma**2))
            )

        return quad(f, 0.0, 8.0, epsabs=1e-13)[0] / sigma**2

    A = [radial(0.7, 0), radial(0.4, 0)]
    B = [np.array([radial(0.7, 1), 0.0]), np.array([0.0, -radial(0.4, 1)])]
    np.testing.assert_allclose(U[0, 1, :, 0], B[0] * A[1] - A[0] * B[1], atol=2e-5)


def test_gaussian_basis_integrates_to_one_and_has_its_mean() -> None:
    nodes, weights = identifiability.quadrature_2d((-6.0, 6.0), (-6.0, 6.0), 40)
    phi = identifiability.gaussian_basis(nodes, np.array([[0.5, -1.0]]), 0.8)
    np.testing.assert_allclose(phi @ weights, [1.0], atol=1e-10)
    np.testing.assert_allclose((phi * weights) @ nodes, [[0.5, -1.0]], atol=1e-10)


def test_condition_number_is_infinite_where_columns_depend() -> None:
    U = np.zeros((3, 3, 1, 3))
    for (i, j), column in {(0, 1): [1, 0, 0], (0, 2): [0, 2, 0], (1, 2): [1, 2, 0]}.items():
        U[i, j, 0], U[j, i, 0] = column, -np.array(column)
    found = identifiability.conditioning(U)
    assert (found.rank, found.unknowns, found.equations) == (2, 3, 3)
    assert not found.independent
    assert found.condition_number == np.inf
    U[1, 2, 0] = [0, 0, 4]
    found = identifiability.conditioning(U)
    assert found.independent
    assert found.condition_number == pytest.approx(4.0)
    assert found.smallest == pytest.approx(1.0)


# C.2


@pytest.mark.parametrize("make", [mmd.gaussian_xi, mmd.matern_xi])
def test_kernel_derivative_against_mpmath(make: object) -> None:
    assert callable(make)
    kernel, length = make(0.7), mpmath.mpf("0.7")
    with mpmath.workdps(40):

        def xi(R: mpmath.mpf) -> mpmath.mpf:
            if make is mmd.gaussian_xi:
                return mpmath.exp(-R / (2 * length**2))
            return length * (mpmath.sqrt(R) + length) * mpmath.exp(-mpmath.sqrt(R) / length)

        for R in (0.01, 0.5, 3.0):
            at = np.array([R])
            assert float(kernel.xi(at)[0]) == pytest.approx(float(xi(mpmath.mpf(R))), rel=1e-14)
            slope = float(mpmath.diff(xi, mpmath.mpf(R)))
            assert float(kernel.xi_prime(at)[0]) == pytest.approx(slope, rel=1e-13)


def test_mmd_of_gaussian_samples_is_an_integral_of_characteristic_functions() -> None:
    # ξ(x, y) = ∫ e^{iω(x−y)} N(ω; 0, 1/σ²) dω, so MMD² = ∫ |E e^{iωx} − E e^{iωy}|² N(ω) dω.
    x, y, sigma = np.array([0.2, -0.7, 1.1]), np.array([0.4, 0.9]), 0.8

    def integrand(w: float) -> float:
        gap = np.mean(np.exp(1j * w * x)) - np.mean(np.exp(1j * w * y))
        return float(abs(gap) ** 2 * sigma / np.sqrt(2 * np.pi) * np.exp(-((sigma * w) ** 2) / 2))

    integral = quad(integrand, -15, 15, epsabs=1e-13, limit=200)[0]
    value = mmd.mmd_loss(x[:, None], y[:, None], mmd.gaussian_xi(sigma))
    assert value == pytest.approx(integral, abs=1e-11)


@pytest.mark.parametrize("make", [mmd.gaussian_xi, mmd.matern_xi])
def test_mmd_field_by_central_differences(make: object) -> None:
    assert callable(make)
    x, y, _ = random_points()
    kernel, h = make(0.8), 1e-5
    slope = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[index] = h
        rise = mmd.mmd_loss(x + shift, y, kernel) - mmd.mmd_loss(x - shift, y, kernel)
        slope[index] = rise / (2 * h)
    np.testing.assert_allclose(mmd.mmd_field(x, y, x, kernel), -0.5 * len(x) * slope, atol=1e-9)
    np.testing.assert_allclose(mmd.mmd_sample_gradient(x, y, kernel), len(x) * slope, atol=1e-9)
    assert mmd.mmd_loss(y, y, kernel) == pytest.approx(0.0, abs=1e-15)
    np.testing.assert_allclose(mmd.mmd_field(y, y, y, kernel), 0.0, atol=1e-15)


def test_unnormalised_laplace_kernel_is_the_matern_discrepancy() -> None:
    x, y_pos, y_neg = random_points(1)
    k_pos, k_neg = reference.kernel(x, y_pos, 0.6), reference.kernel(x, y_neg, 0.6)
    drift = mmd.kernel_field(x, y_pos, y_neg, k_pos, k_neg)
    np.testing.assert_allclose(
        drift, mmd.mmd_field(x, y_pos, y_neg, mmd.matern_xi(0.6)), atol=1e-15
    )


def test_normalised_laplace_kernel_is_the_field_of_section_3() -> None:
    x, y_pos, y_neg = random_points(2)
    k_pos, k_neg = (mmd.normalized_rows(reference.kernel(x, y, 0.6)) for y in (y_pos, y_neg))
    paired = mmd.paired_kernel_field(y_pos, y_neg, k_pos, k_neg)
    np.testing.assert_allclose(paired, reference.eq11_field(x, y_pos, y_neg, 0.6), atol=1e-14)
    single = mmd.kernel_field(x, y_pos, y_neg, k_pos, k_neg)
    np.testing.assert_allclose(single, reference.eq10_field(x, y_pos, y_neg, 0.6), atol=1e-14)


def test_normalised_gaussian_field_climbs_the_log_ratio() -> None:
    x, y_pos, y_neg = random_points(3)
    sigma, h = 0.9, 1e-5
    kernel = mmd.gaussian_xi(sigma)
    k_pos, k_neg = (mmd.normalized_rows(mmd.mmd_kernel(x, y, kernel)) for y in (y_pos, y_neg))
    slope = np.zeros_like(x)
    for c in range(2):
        up, down = x.copy(), x.copy()
        up[:, c] += h
        down[:, c] -= h
        rise = mmd.log_gaussian_ratio(up, y_pos, y_neg, sigma)
        slope[:, c] = (rise - mmd.log_gaussian_ratio(down, y_pos, y_neg, sigma)) / (2 * h)
    drift = mmd.kernel_field(x, y_pos, y_neg, k_pos, k_neg)
    np.testing.assert_allclose(drift, sigma**2 * slope, atol=1e-9)


def test_drifting_loss_and_its_gradients() -> None:
    random = np.random.default_rng(4)
    x, V, jacobian = (random.normal(size=size) for size in ((3, 2), (3, 2), (3, 2, 4)))
    losses = mmd.sample_losses(x, x + V)
    np.testing.assert_allclose(losses, np.sum(V**2, axis=1), atol=1e-15)
    assert mmd.expected_loss(x, x + V) == pytest.approx(np.sum(V**2) / 3)
    np.testing.assert_allclose(mmd.drift_of_loss(-2 * V), V)
    gradient = mmd.parameter_gradient(-2 * V, jacobian)
    np.testing.assert_allclose(gradient, np.einsum("ic,ict->t", -2 * V, jacobian) / 3, atol=1e-15)


# Table 1


@pytest.mark.parametrize("readings", [PAPER, replace(PAPER, softmax_axes="y"), SEPARATE])
def test_asymmetric_drift_is_algorithm_2_for_equal_scales(readings: Readings) -> None:
    x, y_pos, y_neg = random_points(5)
    everything = np.concatenate([x, y_neg])
    wanted = reference.compute_V(x, y_pos, everything, 0.8, mask_self=True, readings=readings)
    for make in (ablations.asymmetric_drift, ablations.asymmetric_products):
        drift = make(x, y_pos, everything, 0.8, 1.0, 1.0, mask_self=True, readings=readings)
        np.testing.assert_allclose(drift, wanted, atol=1e-14)


def test_asymmetric_forms_differ_by_row_sums_and_only_products_move_with_the_origin() -> None:
    x, y_pos, y_neg = random_points(6)
    arguments = (0.8, 1.5, 1.0)
    shift = np.array([3.0, -2.0])
    drift, products = (
        make(x, y_pos, y_neg, *arguments, mask_self=False)
        for make in (ablations.asymmetric_drift, ablations.asymmetric_products)
    )
    moved_drift, moved_products = (
        make(x + shift, y_pos + shift, y_neg + shift, *arguments, mask_self=False)
        for make in (ablations.asymmetric_drift, ablations.asymmetric_products)
    )
    np.testing.assert_allclose(moved_drift, drift, atol=1e-13)
    moved = moved_products - products
    row_sum = moved @ shift / (0.5 * shift @ shift)
    np.testing.assert_allclose(moved, 0.5 * row_sum[:, None] * shift, atol=1e-13)
    np.testing.assert_allclose(products - drift, 0.5 * row_sum[:, None] * x, atol=1e-13)
    assert np.min(row_sum) > 0.1


def test_asymmetric_field_is_that_of_separate_normalisers() -> None:
    x, y_pos, y_neg = random_points(7)
    field = ablations.asymmetric_field(x, y_pos, y_neg, 0.8, 2.0, 1.0)
    drift = ablations.asymmetric_drift(
        x, y_pos, y_neg, 0.8, 2.0, 1.0, mask_self=False, readings=SEPARATE
    )
    np.testing.assert_allclose(field, drift, atol=1e-14)
    shifts = reference.mean_shift(x, y_pos, 0.8), reference.mean_shift(x, y_neg, 0.8)
    np.testing.assert_allclose(field, 2 * shifts[0] - shifts[1], atol=1e-15)


# E V_pp


def test_outcomes_are_multinomial() -> None:
    atoms, odds = np.array([[0.0], [1.0]]), np.array([0.3, 0.7])
    found = {int(values.sum()): chance for values, chance in equilibrium.outcomes(atoms, odds, 4)}
    wanted = {k: comb(4, k) * 0.7**k * 0.3 ** (4 - k) for k in range(5)}
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("readings", "sizes", "value"),
    [
        (replace(PAPER, softmax_axes="y"), (3, 2), 0.0),
        (replace(PAPER, softmax_axes="y"), (2, 3), 0.0),
        (replace(PAPER, softmax_axes="y"), (3, 4), 0.0),
        (SEPARATE, (3, 2), 0.0),
        (SEPARATE, (3, 4), -0.23171811160165),
        (PAPER, (3, 2), -0.01543730371249),
        (PAPER, (3, 4), -0.02090321060199),
        (PAPER, (4, 3), -0.00769590901654),
    ],
)
def test_mean_field_at_equilibrium_is_the_plain_sum_over_all_sequences(
    readings: Readings, sizes: tuple[int, int], value: float
) -> None:
    atoms, odds = np.array([[-1.0], [0.5], [2.0]]), np.array([0.5, 0.3, 0.2])
    samples, positives = sizes

    def first(x: np.ndarray, y_pos: np.ndarray) -> np.ndarray:
        return reference.compute_V(x, y_pos, x, 1.0, mask_self=True, readings=readings)[0]

    mean = equilibrium.mean_field_at_equilibrium(first, atoms[0], atoms, odds, *sizes)
    assert mean[0] == pytest.approx(value, abs=1e-13)
    if sizes == (3, 2):
        total = 0.0
        for drawn in product(range(3), repeat=samples - 1 + positives):
            x = np.concatenate([atoms[:1], atoms[list(drawn[: samples - 1])]])
            chance = np.prod(odds[list(drawn)])
            total += chance * first(x, atoms[list(drawn[samples - 1 :])])[0]
        assert mean[0] == pytest.approx(total, abs=1e-15)


# The laws of α


@pytest.mark.parametrize(("n", "atom"), LAWS)
def test_alpha_law_against_mpmath(n: float, atom: float) -> None:
    with mpmath.workdps(30):
        mass = mpmath.quad(lambda t: t ** (-n), [1, 2, 4])
        assert alpha_laws.alpha_normalizer(n) == pytest.approx(float(mass), rel=1e-14)
        for k in (1, 2, 3):
            moment = atom + (1 - atom) * mpmath.quad(lambda t, k=k: t ** (k - n), [1, 2, 4]) / mass
            assert alpha_laws.alpha_moment(k, n, atom) == pytest.approx(float(moment), rel=1e-13)
        for alpha in (1.0, 1.3, 2.9, 4.0):
            below = mpmath.quad(lambda t: t ** (-n), [1, alpha]) / mass
            wanted = float(atom + (1 - atom) * below)
            assert float(alpha_laws.alpha_cdf(alpha, n, atom)) == pytest.approx(wanted, abs=1e-14)


@pytest.mark.parametrize(("n", "atom"), LAWS)
def test_alpha_inverse_samples_the_law(n: float, atom: float) -> None:
    u = np.linspace(0.0, 1.0, 1001)
    alpha = alpha_laws.alpha_icdf(u, n, atom)
    np.testing.assert_allclose(
        alpha_laws.alpha_cdf(alpha, n, atom), np.maximum(u, atom), atol=1e-13
    )
    assert alpha[0] == 1.0
    assert alpha[-1] == pytest.approx(4.0, rel=1e-13)
    np.testing.assert_array_equal(alpha_laws.alpha_density([0.99, 4.01], n), 0.0)
    np.testing.assert_array_equal(alpha_laws.alpha_cdf([0.99, 4.5], n, atom), [0.0, 1.0])
    drawn = alpha_laws.alpha_icdf(np.random.default_rng(0).uniform(size=100_000), n, 0.0)
    assert kstest(drawn, lambda a: alpha_laws.alpha_cdf(a, n)).pvalue > 1e-3


# A.3, A.8, Sec. 4


def test_masked_autoencoder() -> None:
    mask = mae.mask_from_uniform(np.array([[0.2, 0.7], [0.5, 0.4]]), 0.5)
    wanted = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    np.testing.assert_array_equal(mask, np.array(wanted, dtype=bool))
    x = np.ones((4, 4, 3))
    assert mae.masked_input(x, mask).sum() == 24.0
    assert x.sum() == 48.0
    assert mae.mask_count_moments(256, 0.5) == (128.0, 8.0)


def test_reconstruction_losses_see_masked_positions_only() -> None:
    random = np.random.default_rng(8)
    x, output = random.normal(size=(2, 3, 4, 4, 5))[:2]
    mask = random.uniform(size=(3, 4, 4)) < 0.5
    mask[1] = False
    elsewhere = np.where(mask[..., None], output, output + 7.0)
    error = np.sum((x - output) ** 2, axis=-1)
    by_hand = sum(error[b][mask[b]].mean() for b in (0, 2)) / 3
    location = mae.reconstruction_loss_per_location(x, elsewhere, mask)
    assert location == pytest.approx(by_hand)
    assert mae.reconstruction_loss_per_element(x, elsewhere, mask) == pytest.approx(by_hand / 5)
    whole = error[mask].sum() / (5 * mask.sum())
    assert mae.reconstruction_loss_over_batch(x, elsewhere, mask) == pytest.approx(whole)
    nothing = np.zeros_like(mask)
    assert mae.reconstruction_loss_per_location(x, output, nothing) == 0.0
    assert mae.reconstruction_loss_over_batch(x, output, nothing) == 0.0


def test_classification_ramp() -> None:
    got = [mae.classification_weight(step) for step in (0, 1, 500, 999, 1000, 2999)]
    assert got == pytest.approx([0.0, 1e-4, 0.05, 0.0999, 0.1, 0.1])
    assert mae.fine_tuning_loss(2.0, 1.0, 500) == pytest.approx(1.05)
    with pytest.raises(ValueError, match="step is -1"):
        mae.classification_weight(-1)


def test_arithmetic() -> None:
    assert round(arithmetic.iterations_per_epoch(4096), 1) == 312.8
    assert round(arithmetic.epochs(30_000, 4096), 1) == 95.9
    assert round(arithmetic.epochs(200_000, 8192), 1) == 1278.8
    assert round(arithmetic.epochs(100_000, 8192), 1) == 639.4
    assert arithmetic.batch_size(128, 64) == 8192
    assert arithmetic.token_count(256, 16) == arithmetic.token_count(32, 2) == 256
    assert arithmetic.class_queue_refresh(128, 1000, 64) == 2000
    assert arithmetic.global_queue_refresh(1000, 64) == 15.625
    assert arithmetic.drawn_per_pushed(128, 64, 64) == 128
    with pytest.raises(ValueError, match="side is 30"):
        arithmetic.token_count(30, 16)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999, 1.0])
def test_moving_average_of_a_constant(decay: float) -> None:
    start, constant = np.array([2.0, -1.0]), np.array([0.5, 3.0])
    average = start
    for _ in range(50):
        average = arithmetic.ema_update(average, constant, decay)
    np.testing.assert_allclose(average, constant + decay**50 * (start - constant), atol=1e-13)
