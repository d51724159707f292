"""How well a normalised drift is determined by its inputs, from the case alone.

V = Σ W·(y − c) is a difference of weighted means. In an arithmetic with rounding unit u every
distance, hence every logit, is off by a few u relative; an affinity A = e^logit by a few u·|logit|.
Dividing by λ turns an error of u·RMS(|W|·|y − c|·(1 + |logit|)) into one of u/κ, where κ = λ over
that mean: small where attraction and repulsion cancel. Only with κ ≫ u ÷ tolerance can two correct
implementations be held to the tolerance.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from drifting_parity.adapters.reference_adapter import solved
from drifting_parity.cases import DType, LossCase
from drifting_spec import Readings

UNIT: Final[dict[DType, float]] = {"float64": 2.0**-53, "float32": 2.0**-24}
"""Rounding unit of the arithmetic."""

_OPERATIONS: Final = 8.0
"""Roundings that a correct distance may carry where its pair is not recomputed: a Gram matrix errs
by a few units of the squared norms, of which the distance's share is a few more."""


def relative_bound(case: LossCase, readings: Readings, dtype: DType) -> float:
    """Relative l2 error of the gradient that correct arithmetic in ``dtype`` may reach.

    Formed with the paper's affinities, which bound those of the other readings in size.
    """
    found = solved(case, readings)
    size = float(np.sqrt(np.mean(found.drift**2)))
    if size == 0.0:
        return 0.0
    total = 0.0
    for index, temperature in enumerate(case.temperatures):
        lam = float(np.sqrt(np.mean(found.drift_scale[index] ** 2)))
        if lam > 0.0:
            unit = 1.0
            if readings.temperature_scaling == "raw":
                unit = 1.0 / math.sqrt(case.generated.shape[-1])
            total += _weighted_spread(case, found.feature_scale, temperature * unit) / lam
    return _OPERATIONS * UNIT.get(dtype, 2.0**-24) * total / size


def _weighted_spread(case: LossCase, feature_scale: np.ndarray, temperature: float) -> float:
    """RMS over samples of Σ |W|·|y − c|/√C·(1 + |logit|), in φ̃ coordinates."""
    labels, count, vectors, channels = case.generated.shape
    scale = np.broadcast_to(feature_scale, (labels, vectors))
    squares = []
    for label in range(labels):
        for vector in range(vectors):
            if scale[label, vector] == 0.0:
                continue
            sets = [case.positive, case.generated]
            sets += [] if case.unconditional is None else [case.unconditional]
            targets = np.concatenate([each[label, :, vector] for each in sets])
            spread = np.linalg.norm(targets - targets.mean(0), axis=1)
            x = case.generated[label, :, vector]
            d = np.linalg.norm(x[:, None] - targets[None], axis=2)
            unit = scale[label, vector]
            logit = -d / (unit * math.sqrt(channels) * temperature)
            weight = _weights(logit, case.positive.shape[1], count)
            terms = weight * spread / unit / math.sqrt(channels) * (1 + np.abs(logit))
            squares.append(np.mean(terms.sum(1) ** 2))
    return math.sqrt(float(np.mean(squares))) if squares else 0.0


def _weights(logit: np.ndarray, positives: int, count: int) -> np.ndarray:
    """|W| of the paper's Algorithm 2 for logits [N, M]."""
    logit = logit.copy()
    for row in range(count):
        logit[row, positives + row] = -np.inf
    rows = np.exp(logit - logit.max(1, keepdims=True))
    tops = logit.max(0, keepdims=True)
    columns = np.exp(logit - np.where(np.isfinite(tops), tops, 0.0))
    sums = columns.sum(0, keepdims=True)
    affinity = np.sqrt(rows / rows.sum(1, keepdims=True)) * np.sqrt(
        columns / np.where(sums == 0.0, 1.0, sums)
    )
    positive, negative = affinity[:, :positives], affinity[:, positives:]
    return np.concatenate(
        [positive * negative.sum(1, keepdims=True), negative * positive.sum(1, keepdims=True)], 1
    )
