"""A.5 and A.6: the losses of several features summed, and the drifting loss without features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from drifting_reference.algorithm2 import compute_V
from drifting_reference.arrays import Array, as_array, as_temperatures
from drifting_reference.loss import (
    TEMPERATURES,
    DriftingLoss,
    FrozenTarget,
    drifting_loss,
    error_factor,
    read_feature,
    reduce_labels,
    squared_errors,
)
from drifting_reference.normalization import Feature, drift_scale
from drifting_spec import PAPER, Readings, implements


@dataclass(frozen=True)
class FeatureSpaceLoss:
    """The whole loss: ``loss`` = ``feature_loss`` + weight · ``raw_loss``, and its terms."""

    loss: float
    feature_loss: float
    raw_loss: float
    terms: Mapping[str, DriftingLoss]
    raw_term: DriftingLoss | None


def flattened(name: str, samples: ArrayLike) -> Array:
    """Lay out samples [L, N, ...] as one vector of all their entries: [L, N, 1, C]."""
    array = as_array(name, samples)
    if array.ndim < 3:
        raise ValueError(f"{name} has shape {array.shape}, expected [L, N, ...]")
    return array.reshape(array.shape[0], array.shape[1], 1, -1)


def _raw_field(feature: Feature, temperature: float, readings: Readings) -> Array:
    """Algorithm 2 on the samples as they are, temperature as it is. [L, N, 1, C]."""
    V = np.zeros(feature.generated.shape)
    for label in range(len(V)):
        V[label, :, 0] = compute_V(
            feature.generated[label, :, 0],
            feature.positive[label, :, 0],
            feature.negative[label, :, 0],
            temperature,
            mask_self=True,
            negative_weight=feature.negative_weight[label],
            readings=readings,
        )
    return V


def _raw_drifting_loss(
    feature: Feature, temperatures: Sequence[float], readings: Readings
) -> DriftingLoss:
    """vanilla_term=raw: the mean over τ of mean V_τ², without S and without λ."""
    V = np.stack([_raw_field(feature, t, readings) for t in as_temperatures(temperatures)])
    share, one = 1 / len(V), np.ones((1, 1))
    per_label = share * squared_errors(V, readings)
    lambdas = np.stack([drift_scale(V_tau, readings) for V_tau in V])
    drift = V.sum(axis=0)
    return DriftingLoss(
        loss=reduce_labels(per_label, readings),
        per_label=per_label,
        gradient=-2 * drift * share * error_factor(drift.shape, readings),
        drift=drift,
        drifts=V,
        feature_scale=one,
        drift_scale=lambdas,
        drift_energy=drift.shape[-1] * lambdas**2,
        degenerate=lambdas == 0,
        frozen_target=FrozenTarget(feature.generated + V, one, share, readings),
    )


@implements("A5-vanilla")
def vanilla_drifting_loss(
    generated_samples: ArrayLike,
    positive_samples: ArrayLike,
    unconditional_samples: ArrayLike | None = None,
    unconditional_weight: ArrayLike | None = None,
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    readings: Readings = PAPER,
) -> DriftingLoss:
    """A5-vanilla: the drifting loss without φ, on the samples [L, N, ...] as V = 1 vector.

    vanilla_term=normalized: one more feature of A.6. raw: distances and temperatures as they
    are, no S, no λ, the mean over τ; ``feature_scale`` is 1 then, ``drift`` the sum of V_τ.
    The gradient is [L, N, 1, C], C all the entries of a sample.
    """
    generated = flattened("generated_samples", generated_samples)
    positive = flattened("positive_samples", positive_samples)
    unconditional = None
    if unconditional_samples is not None:
        unconditional = flattened("unconditional_samples", unconditional_samples)
    if readings.vanilla_term == "raw":
        feature = read_feature(generated, positive, unconditional, unconditional_weight, None, None)
        return _raw_drifting_loss(feature, temperatures, readings)
    return drifting_loss(
        generated,
        positive,
        unconditional,
        unconditional_weight,
        temperatures=temperatures,
        readings=readings,
    )


@implements("A5-sum", "A6-sum-features", "A5-vanilla")
def feature_space_drifting_loss(
    generated: Mapping[str, ArrayLike],
    positive: Mapping[str, ArrayLike],
    unconditional: Mapping[str, ArrayLike] | None = None,
    unconditional_weight: ArrayLike | None = None,
    *,
    generated_samples: ArrayLike | None = None,
    positive_samples: ArrayLike | None = None,
    unconditional_samples: ArrayLike | None = None,
    include_raw_drift_loss: bool = True,
    raw_drift_loss_weight: float = 1.0,
    temperatures: Sequence[float] = TEMPERATURES,
    readings: Readings = PAPER,
) -> FeatureSpaceLoss:
    """L = Σ_j L_j over features {name: [L, N, V, C]}, plus the vanilla term (A5-vanilla).

    The raw samples [L, N, ...] are required when ``include_raw_drift_loss``. Raises
    ``ValueError`` if the mappings have different keys or samples are missing.
    """
    mappings = {"positive": positive} | (
        {} if unconditional is None else {"unconditional": unconditional}
    )
    for name, mapping in mappings.items():
        if set(mapping) != set(generated):
            raise ValueError(f"{name} has keys {sorted(mapping)}, expected {sorted(generated)}")
    terms = {
        name: drifting_loss(
            generated[name],
            positive[name],
            None if unconditional is None else unconditional[name],
            unconditional_weight,
            temperatures=temperatures,
            readings=readings,
        )
        for name in generated
    }
    feature_loss = sum(term.loss for term in terms.values())
    if not include_raw_drift_loss:
        return FeatureSpaceLoss(feature_loss, feature_loss, 0.0, terms, None)
    if generated_samples is None or positive_samples is None:
        raise ValueError(
            "generated_samples or positive_samples is None, expected [L, N, ...]: the vanilla term "
            "is on (include_raw_drift_loss)"
        )
    if unconditional is not None and unconditional_samples is None:
        raise ValueError("unconditional_samples is None, expected [L, U, ...] as unconditional is")
    raw = vanilla_drifting_loss(
        generated_samples,
        positive_samples,
        unconditional_samples,
        unconditional_weight,
        temperatures=temperatures,
        readings=readings,
    )
    return FeatureSpaceLoss(
        loss=feature_loss + raw_drift_loss_weight * raw.loss,
        feature_loss=feature_loss,
        raw_loss=raw.loss,
        terms=terms,
        raw_term=raw,
    )
