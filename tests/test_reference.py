"""The reference against independent oracles: golden values, edge cases, A.6's identities.

Nothing here compares it with an implementation. `test_reference_field.py` holds the closed forms
of the field; `test_reference_mpmath.py` re-computes Algorithm 2 and A.6 with 50 digits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mpmath import exp, mp, mpf, sqrt

from drifting_reference import (
    DriftingLoss,
    compute_V,
    drifting_loss,
    eq11_field,
)
from drifting_reference.loss import read_feature
from drifting_reference.normalization import (
    mean_drift_energy,
    mean_normalized_distance,
    normalized_drift,
)
from drifting_spec import PAPER, RELEASE, SEED, Readings

mp.dps = 50
Y_ONLY = replace(PAPER, softmax_axes="y")
SEPARATE = replace(Y_ONLY, kernel_normalization="separate")
PRODUCT = replace(PAPER, softmax_combination="product")
G4_X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
G4_POS = np.array([[1.0, 1.0], [2.0, -1.0]])


def close(got: object, expected: object, rtol: float = 1e-13, atol: float = 0.0) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=rtol, atol=atol)


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def cloud(seed: int, *shape: int, spread: float = 1.0) -> np.ndarray:
    return spread * np.random.default_rng(seed).normal(size=shape)


# G-1 to G-4: values worked by hand, as printed in the digest.


@pytest.mark.parity_clause("EQ-11")
def test_g1_by_hand() -> None:
    """x = 0, 1; positive 2: from 0 the negative is 1, from 1 it is 0, so V = 2 − 1 and 2 − 0."""
    x, y_pos = column(0, 1), column(2)
    close(eq11_field(x, y_pos, x, 1.0, mask_self=True), column(1, 2))
    close(compute_V(x, y_pos, x, 1.0, mask_self=True, readings=SEPARATE), column(1, 2))
    # Row 0: e⁻² to the positive, e⁻¹ to the negative; row 1: e⁻¹ to both.
    p = exp(-2) / (exp(-2) + exp(-1))
    close(
        compute_V(x, y_pos, x, 1.0, mask_self=True, readings=Y_ONLY),
        column(float(p * (1 - p)), 0.5),
    )
    # Columns: positive e⁻² + e⁻¹; each negative has one unmasked row, so its share is 1.
    q = 1 - p
    v0, v1 = sqrt(p * p) * sqrt(q), sqrt(q / 2) * sqrt(mpf(1) / 2) * 2
    close(compute_V(x, y_pos, x, 1.0, mask_self=True), column(float(v0), float(v1)))
    close(compute_V(x, y_pos, x, 1.0, mask_self=True), column(0.229950196312738, 0.855019636400244))


@pytest.mark.parity_clause("ALG2-9")
def test_g1_is_not_the_aliased_program() -> None:
    x, y_pos = column(0, 1), column(2)
    V = compute_V(x, y_pos, x, 1.0, mask_self=True)
    assert abs(V[0, 0] - 0.263288459383994) > 0.03


def g2(readings: Readings = PAPER) -> DriftingLoss:
    x, y_pos = column(0, 1)[None, :, :, None], column(2)[None, :, :, None]
    return drifting_loss(x, y_pos, readings=readings)


@pytest.mark.parity_clause("EQ-21", "EQ-25", "EQ-A6tau")
def test_g2() -> None:
    out = g2()
    close(out.feature_scale, [[5 / 6]])
    close(g2(replace(PAPER, scale_self_pairs="without")).feature_scale, [[5 / 4]])
    close(
        out.drifts[:, 0, :, 0, 0],
        [
            [1.050781291523582e-26, 1.2],
            [4.530161452878403e-11, 1.199999999977349],
            [0.002963477198396, 1.198515507890676],
        ],
        rtol=3e-13,
    )
    lambdas = [0.8485281374238571, 0.8485281374078405, 0.8474810336672884]
    close(out.drift_scale[:, 0, 0], lambdas, rtol=1e-15)
    close(out.drift_energy[:, 0, 0], np.square(lambdas), rtol=1e-15)
    close(out.loss, 8.999987772325703, rtol=1e-15)
    close(out.per_label, [out.loss])
    close(out.gradient.ravel(), [-4.196167879984226e-03, -5.091163636780215], rtol=1e-13)
    per_temperature = g2(replace(PAPER, temperature_aggregation="per_temperature_mse"))
    mean = g2(replace(PAPER, temperature_aggregation="per_temperature_mse_mean"))
    close([per_temperature.loss, mean.loss], [3, 1])
    close(per_temperature.gradient, out.gradient)
    close(mean.gradient, out.gradient / 3)


@pytest.mark.parity_clause("EQ-A6tau")
def test_g2_by_hand() -> None:
    """With D = 5/6 the logits are −d/(τ D); the masked world is that of G-1 in other units."""
    loss_terms = []
    for tau in (mpf(0.02), mpf(0.05), mpf(0.2)):
        unit = exp(-1 / (tau * mpf(5) / 6))
        p = unit**2 / (unit**2 + unit)
        v0 = p * sqrt(1 - p)
        column_share = unit / (unit**2 + unit)
        v1 = 2 * sqrt(column_share / 2) * sqrt(mpf(1) / 2)
        lam = sqrt((v0**2 + v1**2) / 2)
        loss_terms.append((v0 / lam, v1 / lam))
    summed = [sum(term[i] for term in loss_terms) for i in (0, 1)]
    loss = (summed[0] ** 2 + summed[1] ** 2) / 2
    # The digest prints 8.999987772325703, 3e-15 beside the exact value.
    assert mp.nstr(loss, 16) == "8.999987772325706"
    assert abs(g2().loss - loss) < 1e-14


@pytest.mark.parity_clause("A7-w")
def test_g3() -> None:
    """One unconditional sample at −1, w = 2 (α = 3), T = 1, under each reading of the weight."""
    x, y_pos = column(0, 1), column(2)
    y_neg, weight = column(0, 1, -1), np.array([1.0, 1.0, 2.0])
    expected = {
        "after_softmaxes": [0.814312012986431, 1.403655837890191],
        "log_in_softmaxes": [0.432190637524507, 1.042146333859251],
        "replication": [0.572524256859629, 1.214905239811951],
    }
    over_y = {
        "after_softmaxes": [0.459287244768136, 0.750381115943044],
        "log_in_softmaxes": [0.22703378234504, 0.562141222556484],
        "replication": [0.22703378234504, 0.562141222556484],
    }
    for base, values in ((PAPER, expected), (Y_ONLY, over_y)):
        for reading, golden in values.items():
            readings = base.with_reading("unconditional_weight", reading)
            V = compute_V(
                x, y_pos, y_neg, 1.0, mask_self=True, negative_weight=weight, readings=readings
            )
            close(V.ravel(), golden, rtol=1e-13)
    loss = drifting_loss(*(a[None, :, :, None] for a in (x, y_pos, column(-1))), [2.0])
    close(loss.feature_scale, [[1.1]])


@pytest.mark.parity_clause("ALG2-6", "ALG2-10")
def test_g4() -> None:
    V_y = compute_V(G4_X, G4_POS, G4_X, 1.0, mask_self=True, readings=Y_ONLY)
    close(
        V_y,
        [
            [0.1389476116965959, -0.03595754358508335],
            [0.34397310662585323, -0.06054319243671642],
            [0.16432424075285734, 0.19913504657564407],
        ],
        rtol=1e-14,
    )
    V = compute_V(G4_X, G4_POS, G4_X, 1.0, mask_self=True)
    close(
        V,
        [
            [0.30586375935424626, -0.1973370489394622],
            [0.8062611240444723, -0.3161039163340524],
            [0.14425715970403358, 0.14768244804597616],
        ],
        rtol=1e-14,
    )


# Edge cases.


@pytest.mark.parametrize("readings", [PAPER, RELEASE, SEED, SEPARATE, PRODUCT], ids=str)
def test_all_samples_equal(readings: Readings) -> None:
    ones = np.full((2, 3, 2, 4), 1.7)
    out = drifting_loss(ones, ones, ones, [1.5, 0.5], readings=readings)
    assert out.loss == 0.0
    assert not out.gradient.any()
    assert out.degenerate.all()
    assert out.frozen_target(ones) == 0.0


@pytest.mark.parametrize("readings", [PAPER, Y_ONLY, SEPARATE, PRODUCT], ids=str)
def test_one_generated_sample_has_no_negative(readings: Readings) -> None:
    x, y_pos = cloud(12, 1, 1, 2, 3), cloud(13, 1, 4, 2, 3)
    assert not compute_V(x[0, :, 0], y_pos[0, :, 0], x[0, :, 0], 0.3, mask_self=True).any()
    out = drifting_loss(x, y_pos, readings=readings)
    assert out.loss == 0.0
    assert out.degenerate.all()
    assert (out.feature_scale > 0).all()


def test_all_generated_equal_follow_the_positives() -> None:
    """A zero-initialised generator: every drift is the same, the loss finite, T² for equal τ."""
    x, y_pos = np.zeros((1, 4, 1, 3)), cloud(14, 1, 5, 1, 3)
    out = drifting_loss(x, y_pos, temperatures=(0.2, 0.2))
    close(out.drifts, np.broadcast_to(out.drifts[:, :, :1], out.drifts.shape))
    close(out.loss, 4.0)


@pytest.mark.parity_clause("A7-weight-in-scale")
@pytest.mark.parametrize("base", [PAPER, Y_ONLY, SEPARATE, PRODUCT], ids=str)
def test_replication(base: Readings) -> None:
    """Weight 0 is the same as absent, weight 3 the same as three copies: field and loss."""
    x, y_pos, y_unc = cloud(15, 2, 4, 2, 3), cloud(16, 2, 3, 2, 3), cloud(17, 2, 2, 2, 3)
    absent = drifting_loss(x, y_pos, readings=base)
    nought = drifting_loss(x, y_pos, y_unc, [0.0, 0.0], readings=base)
    thrice = drifting_loss(x, y_pos, y_unc, [3.0, 3.0], readings=base)
    copies = drifting_loss(x, y_pos, np.repeat(y_unc, 3, axis=1), [1.0, 1.0], readings=base)
    for one, other in ((absent, nought), (thrice, copies)):
        close([one.loss, *one.per_label], [other.loss, *other.per_label])
        close(one.gradient, other.gradient, rtol=1e-11, atol=1e-13)
        close(one.feature_scale, other.feature_scale)


# A.6.


def statistics_case() -> dict[str, np.ndarray]:
    return {
        "generated": cloud(21, 2, 4, 3, 5),
        "positive": cloud(22, 2, 3, 3, 5) + 0.4,
        "unconditional": cloud(23, 2, 2, 3, 5),
        "unconditional_weight": np.array([0.5, 2.0]),
    }


@pytest.mark.parity_clause("EQ-20", "EQ-23", "EQ-24", "A6-S", "A6-lambda")
@pytest.mark.parametrize("scope", ["batch", "label"])
@pytest.mark.parametrize("sharing", ["same_location_pairs", "all_pairs", "none"])
def test_normalisations_are_exact(scope: str, sharing: str) -> None:
    case = statistics_case()
    readings = PAPER.with_reading("statistics_scope", scope).with_reading(
        "location_sharing", sharing
    )
    feature = read_feature(*case.values(), None, None)
    close(mean_normalized_distance(feature, readings), np.sqrt(5))
    out = drifting_loss(**case, readings=readings)
    for V, scale in zip(out.drifts, out.drift_scale, strict=True):
        close(mean_drift_energy(normalized_drift(V, scale), readings), 1.0)


@pytest.mark.parity_clause("A5-sum", "EQ-26")
@pytest.mark.parametrize("seed", range(3))
def test_one_temperature_makes_the_loss_count(seed: int) -> None:
    x, y_pos = cloud(seed, 2, 4, 3, 5), cloud(seed + 100, 2, 6, 3, 5)
    close(drifting_loss(x, y_pos, temperatures=(0.1,)).loss, 3.0)
    close(drifting_loss(x, y_pos, temperatures=(0.1,), readings=RELEASE).loss, 1.0, rtol=1e-6)
    summed = replace(PAPER, channel_reduction="sum", label_reduction="sum")
    close(drifting_loss(x, y_pos, temperatures=(0.1,), readings=summed).loss, 3.0 * 5 * 2)


@pytest.mark.parity_clause("A6-tau", "EQ-22")
@pytest.mark.parametrize("c", [1e-6, 3.0, 1e5])
def test_scale_invariance(c: float) -> None:
    case = statistics_case()
    out = drifting_loss(**case)
    scaled = {name: c * a if a.ndim == 4 else a for name, a in case.items()}
    other = drifting_loss(**scaled)
    close(other.loss, out.loss, rtol=1e-12)
    close(other.feature_scale, c * out.feature_scale)
    close(other.gradient, out.gradient / c, rtol=1e-9, atol=1e-13 / c)


FD_READINGS = [
    PAPER,
    RELEASE,
    SEED,
    replace(PAPER, temperature_aggregation="per_temperature_mse_mean", location_sharing="none"),
    replace(PAPER, channel_reduction="sum", label_reduction="sum", statistics_scope="label"),
]


@pytest.mark.parity_clause("S3-sg", "EQ-26")
@pytest.mark.parametrize("readings", FD_READINGS, ids=str)
def test_finite_differences_with_the_frozen_target(readings: Readings) -> None:
    case = statistics_case()
    out = drifting_loss(**case, readings=readings)
    x = case.pop("generated")
    close(out.frozen_target(x), out.loss, rtol=1e-12)
    frozen, recomputed, h = np.zeros(x.shape), np.zeros(x.shape), 1e-5
    for index in [(0, 0, 0, 0), (1, 3, 2, 4), (0, 2, 1, 3)]:
        up, down = x.copy(), x.copy()
        up[index] += h
        down[index] -= h
        frozen[index] = (out.frozen_target(up) - out.frozen_target(down)) / (2 * h)
        above = drifting_loss(up, **case, readings=readings).loss
        below = drifting_loss(down, **case, readings=readings).loss
        recomputed[index] = (above - below) / (2 * h)
        close(frozen[index], out.gradient[index], rtol=1e-7, atol=1e-8)
    assert np.abs(recomputed - frozen).max() > 1e-3 * np.abs(frozen).max()
