"""The reference's field (Sec. 3.3, Algorithm 2) against its closed forms and limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drifting_reference import (
    compute_V,
    eq7_field,
    eq10_field,
    eq11_field,
    kernel,
    kernel_sums,
    normalized_kernel,
    normalizer,
    pair_field,
    y_softmax_factor,
)
from drifting_spec import PAPER

Y_ONLY = replace(PAPER, softmax_axes="y")
SEPARATE = replace(Y_ONLY, kernel_normalization="separate")
PRODUCT = replace(PAPER, softmax_combination="product")


def close(got: object, expected: object, rtol: float = 1e-13, atol: float = 0.0) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=rtol, atol=atol)


def cloud(seed: int, *shape: int, spread: float = 1.0) -> np.ndarray:
    return spread * np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parity_clause("EQ-7", "EQ-8", "EQ-9", "EQ-10", "EQ-11", "EQ-12", "EQ-27")
def test_three_forms_of_the_field() -> None:
    x, y_pos, y_neg = cloud(1, 4, 3), cloud(2, 3, 3), cloud(3, 5, 3)
    T = 0.7
    expected = eq11_field(x, y_pos, y_neg, T)
    close(eq10_field(x, y_pos, y_neg, T), expected, atol=1e-14)
    k_pos, k_neg = normalized_kernel(x, y_pos, T), normalized_kernel(x, y_neg, T)
    close(k_pos, kernel(x, y_pos, T) / normalizer(x, y_pos, T)[:, None])
    close(pair_field(k_pos / 3, k_neg / 5, y_pos, y_neg), expected, atol=1e-14)

    def K(a: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        z = normalizer(a[None], y_pos, T) * normalizer(a[None], y_neg, T)
        return kernel(a[None], p[None], T) * kernel(a[None], q[None], T) / z * (p - q)

    close(eq7_field(x, y_pos, y_neg, lambda a, p, q: K(a, p, q)[0]), expected, atol=1e-14)


@pytest.mark.parity_clause("EQ-11")
@pytest.mark.parametrize("mask_self", [True, False])
def test_softmax_over_y_is_eq11_times_a_factor(mask_self: bool) -> None:
    """PB-02; and the separate reading is EQ-11 itself."""
    x, y_pos = cloud(4, 5, 3), cloud(5, 3, 3)
    y_neg = np.concatenate([x, cloud(6, 2, 3)])
    eq11 = eq11_field(x, y_pos, y_neg, 0.5, mask_self=mask_self)
    factor = y_softmax_factor(x, y_pos, y_neg, 0.5, mask_self=mask_self)
    V = compute_V(x, y_pos, y_neg, 0.5, mask_self=mask_self, readings=Y_ONLY)
    close(V, factor[:, None] * eq11, atol=1e-14)
    close(compute_V(x, y_pos, y_neg, 0.5, mask_self=mask_self, readings=SEPARATE), eq11, atol=1e-14)


@pytest.mark.parity_clause("ALG2-6", "EQ-17")
@pytest.mark.parametrize("mask_self", [True, False])
def test_both_softmaxes_are_eq11_with_another_kernel(mask_self: bool) -> None:
    """PB-03 (sqrt): kernel e/√C; and the product reading: A = e²/(R C)."""
    x, y_pos, T = cloud(7, 4, 2), cloud(8, 3, 2), 0.8
    e_pos, e_neg = kernel(x, y_pos, T), kernel(x, x, T)
    if mask_self:
        np.fill_diagonal(e_neg, 0.0)
    e = np.concatenate([e_pos, e_neg], axis=1)
    R, C = e.sum(axis=1, keepdims=True), e.sum(axis=0, keepdims=True)
    root, product = e / np.sqrt(R * C), e**2 / (R * C)
    for A, readings in (
        (root, PAPER),
        (product, PRODUCT),
        (e, replace(PAPER, softmax_axes="none")),
    ):
        V = compute_V(x, y_pos, x, T, mask_self=mask_self, readings=readings)
        close(V, pair_field(A[:, :3], A[:, 3:], y_pos, x), atol=1e-14)
    P, Q = kernel_sums(x, y_pos, x, T, mask_self=mask_self)
    close(P + Q, R[:, 0])


@pytest.mark.parity_clause("ALG2-5")
def test_limits_of_the_temperature() -> None:
    """PB-15, PB-16: towards the means at T → ∞, towards the nearest samples at T → 0."""
    x, y_pos = cloud(9, 5, 3, spread=1e-3), cloud(10, 4, 3, spread=1e-3)
    others = np.stack([np.delete(x, i, axis=0).mean(axis=0) for i in range(5)])
    direction = y_pos.mean(axis=0) - others
    N, P = 5, 4
    V = compute_V(x, y_pos, x, 1e3, mask_self=True)
    close(V, P * (N - 1) / ((P + N - 1) * np.sqrt(N * (N - 1))) * direction, rtol=0, atol=1e-8)
    V_y = compute_V(x, y_pos, x, 1e3, mask_self=True, readings=Y_ONLY)
    close(V_y, P * (N - 1) / (P + N - 1) ** 2 * direction, rtol=0, atol=1e-8)
    d_pos = np.linalg.norm(x[:, None] - y_pos, axis=-1)
    d_neg = np.linalg.norm(x[:, None] - x, axis=-1) + np.diag([np.inf] * N)
    nearest = y_pos[d_pos.argmin(axis=1)] - x[d_neg.argmin(axis=1)]
    close(eq11_field(x, y_pos, x, 1e-7, mask_self=True), nearest, atol=1e-18)


@pytest.mark.parity_clause("A7-w")
def test_relations_between_the_readings_of_the_weight() -> None:
    """P-05: V_replication = V_after R/R_w, and V_log(w) ∝ V_after(√w)."""
    x, y_pos, y_unc, w = cloud(18, 4, 3), cloud(19, 3, 3), cloud(20, 2, 3), 2.5

    def V(reading: str, weight: float) -> np.ndarray:
        return compute_V(
            x,
            y_pos,
            np.concatenate([x, y_unc]),
            0.9,
            mask_self=True,
            negative_weight=np.array([1.0] * 4 + [weight] * 2),
            readings=PAPER.with_reading("unconditional_weight", reading),
        )

    P, Q = kernel_sums(x, y_pos, x, 0.9, mask_self=True)
    unconditional = kernel(x, y_unc, 0.9).sum(axis=1)
    factor = ((P + Q + unconditional) / (P + Q + w * unconditional))[:, None]
    close(V("replication", w), V("after_softmaxes", w) * factor, atol=1e-15)
    close(V("log_in_softmaxes", w), V("after_softmaxes", np.sqrt(w)) * factor, atol=1e-15)
