"""Sec. 4, A.3, A.8, Table 8: numbers that follow from others, and the moving average of parameters.

An epoch is counted in generated samples: N_data/B iterations.
"""

from __future__ import annotations

from typing import Final

from drifting_reference.arrays import Array
from drifting_spec import implements

IMAGENET: Final = 1_281_167
"""N_data: training images of ImageNet-1k."""


@implements("S4-epoch")
def iterations_per_epoch(batch: int, images: int = IMAGENET) -> float:
    """S4-epoch: N_data/B."""
    return images / batch


@implements("S4-epoch", "A3-epochs", "T8-steps")
def epochs(steps: int, batch: int, images: int = IMAGENET) -> float:
    """S4-epoch: steps · B/N_data."""
    return steps * batch / images


@implements("S4-batch", "T8-B")
def batch_size(labels: int, generated: int) -> int:
    """S4-batch: B = N_c · N_neg (Table 2's caption says N_pos, P-30)."""
    return labels * generated


@implements("A2-tokens")
def token_count(side: int, patch: int) -> int:
    """A2-tokens: (side/patch)² tokens. ``ValueError`` unless the patch divides the side."""
    if side % patch:
        raise ValueError(f"side is {side}, expected a multiple of the patch, {patch}")
    return (side // patch) ** 2


@implements("A8-refresh")
def class_queue_refresh(capacity: int, classes: int, pushes: int) -> float:
    """A8-refresh: steps to push as many images as the class queues hold, capacity · classes/pushes.

    Then every queue holds new images only, if pushes spread evenly over the classes.
    """
    return capacity * classes / pushes


@implements("A8-refresh")
def global_queue_refresh(capacity: int, pushes: int) -> float:
    """A8-refresh: steps until the global queue holds new images only, capacity/pushes."""
    return capacity / pushes


@implements("A8-refresh")
def drawn_per_pushed(labels: int, positives: int, pushes: int) -> float:
    """A8-refresh: positives drawn for each image pushed, N_c · N_pos/pushes (P-35)."""
    return labels * positives / pushes


@implements("T8-ema")
def ema_update(average: Array, parameter: Array, decay: float) -> Array:
    """Exponential moving average: θ̄ ← d θ̄ + (1 − d) θ."""
    return decay * average + (1 - decay) * parameter
