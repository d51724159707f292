"""A.3: the masked autoencoder's mask, its losses, the ramp of its classification loss."""

from __future__ import annotations

from typing import Final

import numpy as np

from drifting_reference.arrays import Array, Mask
from drifting_spec import implements

PEAK: Final = 0.1
RAMP: Final = 1000
"""The classification weight rises to 0.1 over 1000 steps."""

CELL: Final = 2
"""A mask cell covers 2×2 positions of the 32×32 grid."""


@implements("A3-mask")
def mask_count_moments(cells: int, probability: float) -> tuple[float, float]:
    """Mean and standard deviation of the number of masked cells, Binomial(cells, probability)."""
    mean = cells * probability
    return mean, float(np.sqrt(cells * probability * (1 - probability)))


@implements("A3-mask")
def mask_from_uniform(u: Array, probability: float) -> Mask:
    """Each cell is masked if its own uniform u < probability. u [H/2, W/2] → [H, W].

    All 2×2 positions of a cell share its fate.
    """
    mask = np.zeros((CELL * u.shape[0], CELL * u.shape[1]), dtype=np.bool_)
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            mask[row, column] = u[row // CELL, column // CELL] < probability
    return mask


@implements("A3-mask")
def masked_input(x: Array, mask: Mask) -> Array:
    """Zero all channels where ``mask`` [H, W] is true, leave the rest. x [H, W, C]."""
    visible = x.copy()
    visible[mask] = 0.0
    return visible


@implements("A3-loss")
def reconstruction_loss_per_location(x: Array, output: Array, mask: Mask) -> float:
    """A3-loss: squared error, sum over channels, mean over a sample's masked positions, then batch.

    x, output [B, H, W, C], mask [B, H, W]; a sample without masked positions counts 0.
    """
    loss = 0.0
    for b in range(len(x)):
        if mask[b].any():
            loss += float(np.mean(np.sum((x[b] - output[b]) ** 2, axis=-1)[mask[b]]))
    return loss / len(x)


@implements("A3-loss")
def reconstruction_loss_per_element(x: Array, output: Array, mask: Mask) -> float:
    """A3-loss read otherwise (P-41): the mean over channels as well, 1/C times the former."""
    return reconstruction_loss_per_location(x, output, mask) / x.shape[-1]


@implements("A3-loss")
def reconstruction_loss_over_batch(x: Array, output: Array, mask: Mask) -> float:
    """A3-loss read otherwise (P-41): one mean over all masked entries of the batch, 0 if none."""
    return float(np.mean((x - output)[mask] ** 2)) if mask.any() else 0.0


@implements("A3-cls-lambda")
def classification_weight(step: int) -> float:
    """A3-cls-lambda: λ(t) = 0.1 · min(1, t/1000), t = 0, …, 2999. ``ValueError`` for t < 0."""
    if step < 0:
        raise ValueError(f"step is {step}, expected step >= 0")
    return PEAK * min(1.0, step / RAMP)


@implements("A3-cls")
def fine_tuning_loss(classification: float, reconstruction: float, step: int) -> float:
    """A3-cls: λ L_cls + (1 − λ) L_recon at step t of the fine-tuning."""
    weight = classification_weight(step)
    return weight * classification + (1 - weight) * reconstruction
