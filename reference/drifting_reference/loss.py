"""A.6: the loss of one feature, EQ-26 and EQ-A6τ, and its gradient with the target frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from drifting_reference.algorithm2 import KernelWeights, compute_V_from_distances
from drifting_reference.arrays import (
    Array,
    Mask,
    as_array,
    as_temperatures,
    as_weight,
    require_shape,
)
from drifting_reference.normalization import (
    Feature,
    coordinate_scale,
    distance_scale,
    drift_scale,
    feature_scale,
    normalized_distances,
    normalized_drift,
    normalized_feature,
    normalized_temperature,
    used_drift_scale,
)
from drifting_spec import PAPER, Readings, implements

TEMPERATURES = (0.02, 0.05, 0.2)
"""A6-taus: the temperatures of every configuration."""


@dataclass(frozen=True)
class FrozenTarget:
    """The loss as a function of the generated samples, the target sg(φ̃ + Ṽ) held fixed.

    ``targets`` [K, L, N, V, C]: one for the summed drift, else one per temperature;
    ``scale`` S as used [1 or L, 1 or V]; ``share``: the factor of each target's MSE.
    """

    targets: Array
    scale: Array
    share: float
    readings: Readings

    @implements("EQ-26", "S3-sg", "A6-mse")
    def __call__(self, generated: ArrayLike) -> float:
        """EQ-26: MSE(φ̃(x) − sg(φ̃(x) + Ṽ)), for ``generated`` [L, N, V, C]."""
        phi = normalized_feature(as_array("generated", generated, *"LNVC"), self.scale)
        errors = np.stack([phi - target for target in self.targets])
        return reduce_labels(self.share * squared_errors(errors, self.readings), self.readings)


@dataclass(frozen=True)
class DriftingLoss:
    """The loss of one feature and everything on the way to it.

    ``gradient`` is that of ``loss`` with respect to the generated samples, target frozen;
    ``drift`` the Ṽ summed over temperatures; ``drifts`` V_τ before EQ-23 [T, L, N, V, C];
    ``feature_scale`` S [1 or L, 1 or V], ``drift_scale`` λ and ``drift_energy`` C·λ²
    [T, 1 or L, 1 or V], all before floors; ``degenerate``: where λ is 0.
    """

    loss: float
    per_label: Array
    gradient: Array
    drift: Array
    drifts: Array
    feature_scale: Array
    drift_scale: Array
    drift_energy: Array
    degenerate: Mask
    frozen_target: FrozenTarget


@implements("EQ-26", "EQ-A6tau", "A6-order", "A6-mse")
def squared_errors(errors: Array, readings: Readings) -> Array:
    """Σ_k of the mean square of errors[k], by label. errors [K, L, N, V, C] → [L].

    Mean over N and C (channel_reduction=sum: sum over C), sum over V (location_reduction=mean).
    """
    per_channel = np.sum(errors**2, axis=0)
    total = per_channel.mean if readings.channel_reduction == "mean" else per_channel.sum
    per_sample = total(axis=-1)
    per_vector = per_sample.mean(axis=1)
    by_location = per_vector.sum if readings.location_reduction == "sum" else per_vector.mean
    return np.asarray(by_location(axis=-1))


def reduce_labels(per_label: Array, readings: Readings) -> float:
    """Mean (or sum) over the labels. [L] → scalar."""
    return float(per_label.mean() if readings.label_reduction == "mean" else per_label.sum())


@implements("S3-sg", "EQ-26")
def error_factor(shape: tuple[int, ...], readings: Readings) -> float:
    """κ: what each squared error of [L, N, V, C] counts in the loss; ∂loss/∂φ̃ = −2Ṽκ."""
    L, N, V, C = shape
    factor = 1.0 / N
    if readings.channel_reduction == "mean":
        factor /= C
    if readings.location_reduction == "mean":
        factor /= V
    if readings.label_reduction == "mean":
        factor /= L
    return factor


@implements("EQ-22", "A6-tau", "A6-locshare")
def field_of_feature(feature: Feature, S: Array, temperature: float, readings: Readings) -> Array:
    """Algorithm 2 on φ̃ for each label and location on its own → V_τ [L, N, V, C]."""
    L, _, V, C = feature.generated.shape
    D = np.broadcast_to(distance_scale(S, C, readings), (L, V))
    scale = coordinate_scale(S, readings)
    y_pos = normalized_feature(feature.positive, scale)
    y_neg = normalized_feature(feature.negative, scale)
    field = np.zeros(feature.generated.shape)
    for label in range(L):
        for v in range(V):
            x = feature.generated[label, :, v]
            dist_pos, dist_neg = (
                normalized_distances(x, y[label, :, v], D[label, v], readings)
                for y in (feature.positive, feature.negative)
            )
            field[label, :, v] = compute_V_from_distances(
                dist_pos,
                dist_neg,
                y_pos[label, :, v],
                y_neg[label, :, v],
                normalized_temperature(temperature, C, readings),
                KernelWeights(feature.positive_weight[label], feature.negative_weight[label]),
                mask_self=True,
                readings=readings,
                # One mean distance: EQ-20 makes it √C in these coordinates.
                mask_unit=float(np.sqrt(C)),
            )
    return field


def read_feature(
    generated: ArrayLike,
    positive: ArrayLike,
    unconditional: ArrayLike | None,
    unconditional_weight: ArrayLike | None,
    generated_weight: ArrayLike | None,
    positive_weight: ArrayLike | None,
) -> Feature:
    """Check the arguments of :func:`drifting_loss` and gather them, all weights filled in."""
    x = as_array("generated", generated, *"LNVC")
    require_shape("generated", x, (None, None, None, None), "[L, N, V, C]")
    L, N, V, C = x.shape
    y_pos = as_array("positive", positive, *"LPVC")
    require_shape(
        "positive", y_pos, (L, None, V, C), "labels, vectors and channels as generated has"
    )
    y_unc, w_unc = np.zeros((L, 0, V, C)), np.zeros((L, 0))
    if unconditional is not None:
        y_unc = as_array("unconditional", unconditional, *"LUVC")
        U = y_unc.shape[1]
        require_shape(
            "unconditional", y_unc, (L, U, V, C), "labels, vectors, channels as generated has"
        )
        if unconditional_weight is None:
            raise ValueError("unconditional_weight is None, expected [L] or [L, U]: it is required")
        per_label = np.ndim(unconditional_weight) == 1
        w_unc = as_weight(
            "unconditional_weight", unconditional_weight, (L,) if per_label else (L, U)
        )
        w_unc = np.repeat(w_unc[:, None], U, axis=1) if per_label else w_unc
    elif unconditional_weight is not None:
        raise ValueError("unconditional_weight is given, expected None: unconditional is None")
    return Feature(
        generated=x,
        positive=y_pos,
        unconditional=y_unc,
        positive_weight=as_weight("positive_weight", positive_weight, (L, y_pos.shape[1])),
        generated_weight=as_weight("generated_weight", generated_weight, (L, N)),
        unconditional_weight=w_unc,
    )


@implements("EQ-26", "EQ-A6tau", "A6-order", "A6-mse", "A6-taus", "S3-sg", "S3-neg-reuse")
def drifting_loss(
    generated: ArrayLike,
    positive: ArrayLike,
    unconditional: ArrayLike | None = None,
    unconditional_weight: ArrayLike | None = None,
    *,
    generated_weight: ArrayLike | None = None,
    positive_weight: ArrayLike | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
    readings: Readings = PAPER,
) -> DriftingLoss:
    """EQ-26 with EQ-A6τ: Ṽ = Σ_τ V_τ/λ_τ, loss = MSE(φ̃ − sg(φ̃ + Ṽ)), for one feature.

    generated [L, N, V, C], positive [L, P, V, C], unconditional [L, U, V, C] with weight [L] or
    [L, U]; generated_weight [L, N] (of the generated samples as negatives), positive_weight
    [L, P]. Gradient: −2Ṽκ/S. Raises ``ValueError`` naming the argument that does not fit.
    """
    temperatures = as_temperatures(temperatures)
    feature = read_feature(
        generated, positive, unconditional, unconditional_weight, generated_weight, positive_weight
    )
    # EQ-21, EQ-18: S, and φ̃ = φ/S.
    S = feature_scale(feature, readings)
    scale = coordinate_scale(S, readings)
    phi = normalized_feature(feature.generated, scale)
    # EQ-19, EQ-22: V_τ, by Algorithm 2 on φ̃ at τ̃ = τ√C.
    V = np.stack([field_of_feature(feature, S, t, readings) for t in temperatures])
    # EQ-25: λ_τ = √E[‖V_τ‖²/C].
    lambdas = np.stack([drift_scale(V_tau, readings) for V_tau in V])
    used = used_drift_scale(lambdas, readings)
    # EQ-23: Ṽ_τ = V_τ/λ_τ.
    normalized = np.stack(
        [normalized_drift(V_tau, lambda_tau) for V_tau, lambda_tau in zip(V, used, strict=True)]
    )
    # EQ-A6τ: Ṽ = Σ_τ Ṽ_τ.
    drift = normalized.sum(axis=0)
    # A6-order: one target with the sum, or one for each temperature.
    if readings.temperature_aggregation == "sum_drifts_then_mse":
        errors, share = drift[None], 1.0
    elif readings.temperature_aggregation == "per_temperature_mse":
        errors, share = normalized, 1.0
    else:
        errors, share = normalized, 1 / len(temperatures)
    # EQ-26: MSE(φ̃ − sg(φ̃ + Ṽ)), the error −Ṽ squared. `frozen_target` computes the difference.
    per_label = share * squared_errors(errors, readings)
    # S3-sg: its derivative, φ̃ = φ/S with S and the target constants.
    kappa = share * error_factor(drift.shape, readings)
    gradient = normalized_feature(-2 * drift * kappa, scale)
    return DriftingLoss(
        loss=reduce_labels(per_label, readings),
        per_label=per_label,
        gradient=gradient,
        drift=drift,
        drifts=V,
        feature_scale=S,
        drift_scale=lambdas,
        drift_energy=drift.shape[-1] * lambdas**2,
        degenerate=lambdas == 0,
        frozen_target=FrozenTarget(phi + errors, scale, share, readings),
    )
