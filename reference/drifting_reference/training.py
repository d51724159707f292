"""Sec. 3.2 and Algorithm 1: antisymmetry, the frozen-target objective, one training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from drifting_reference.algorithm2 import compute_V
from drifting_reference.arrays import Array
from drifting_reference.particles import Generator
from drifting_spec import PAPER, Readings, implements

SetField = Callable[[Array, Array, Array], Array]
FeatureMap = Callable[[Array], Array]


@implements("EQ-3")
def antisymmetry_defect(field: SetField, x: Array, y_pos: Array, y_neg: Array) -> Array:
    """EQ-3: V_{p,q}(x) = −V_{q,p}(x). Returns V_{p,q} + V_{q,p}, [N, C]; zero if it holds."""
    return field(x, y_pos, y_neg) + field(x, y_neg, y_pos)


@implements("EQ-6", "S3-sg")
def training_loss(x: Array, target: Array) -> float:
    """EQ-6: L = E[‖x − sg(x + V)‖²], the squared norm (sum over C), mean over N.

    ``target`` = x + V [N, C] is a constant: ∂L/∂x_i = −(2/N) V_i at x.
    """
    return float(np.mean(np.sum((x - target) ** 2, axis=-1)))


@implements("EQ-6", "S3-sg")
def training_loss_gradient(V: Array) -> Array:
    """∂(EQ-6)/∂x_i = −(2/N) V_i with the target frozen. V [N, C] → [N, C]."""
    return -2 * V / len(V)


@implements("EQ-13")
def feature_training_loss(phi: FeatureMap, x: Array, field: FeatureMap) -> float:
    """EQ-13: E[‖φ(x) − sg(φ(x) + V(φ(x)))‖²]; ``field`` maps φ(x) [N, C] to V."""
    feature = phi(x)
    return training_loss(feature, feature + field(feature))


@implements("EQ-14")
def multi_feature_training_loss(
    phis: Sequence[FeatureMap], x: Array, fields: Sequence[FeatureMap]
) -> float:
    """EQ-14: the sum over j of EQ-13 for φ_j, V computed for each j on its own."""
    total = 0.0
    for phi, field in zip(phis, fields, strict=True):
        total += feature_training_loss(phi, x, field)
    return total


@dataclass(frozen=True)
class TrainingStep:
    """What Algorithm 1 computes for one label: arrays [N, C], ``loss`` and its ∂/∂x."""

    x: Array
    V: Array
    x_drifted: Array
    loss: float
    gradient: Array


@implements("ALG1-1", "ALG1-2", "ALG1-3", "ALG1-4", "ALG1-5", "ALG1-6", "S3-neg-reuse")
def training_step(
    generator: Generator, noise: Array, y_pos: Array, T: float, readings: Readings = PAPER
) -> TrainingStep:
    """Algorithm 1 for one label. noise [N, ...] (drawn by the caller), y_pos [P, C].

    The loss is a mean of squares (over N *and* C), so that it is EQ-6 / C (P-22).
    """
    x = generator(noise)
    y_neg = x
    V = compute_V(x, y_pos, y_neg, T, mask_self=True, readings=readings)
    x_drifted = x + V
    loss = float(np.mean((x - x_drifted) ** 2))
    return TrainingStep(x, V, x_drifted, loss, gradient=2 * (x - x_drifted) / x.size)
