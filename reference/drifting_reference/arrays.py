"""What the reference accepts: float64 arrays of the stated shape, finite, with weights ≥ 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def as_array(name: str, value: ArrayLike, *layout: str) -> Array:
    """Convert to float64; ``layout`` names the axes, as in ``as_array("x", x, "N", "C")``.

    Raises ``ValueError`` for another rank or for entries that are not finite.
    """
    array = np.asarray(value, dtype=np.float64)
    if layout and array.ndim != len(layout):
        raise ValueError(f"{name} has shape {array.shape}, expected [{', '.join(layout)}]")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has entries that are not finite")
    return array


def as_weight(name: str, value: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """Convert a kernel weight to ``shape``; ``None`` is ones. ``ValueError`` if negative."""
    if value is None:
        return np.ones(shape)
    weight = as_array(name, value)
    if weight.shape != shape:
        raise ValueError(f"{name} has shape {weight.shape}, expected {shape}")
    if (weight < 0).any():
        raise ValueError(f"{name} has a minimum of {weight.min()}, expected weights >= 0")
    return weight


def as_temperatures(value: Sequence[float]) -> tuple[float, ...]:
    """Check the temperatures: at least one, finite and positive (``ValueError`` otherwise)."""
    temperatures = tuple(float(temperature) for temperature in value)
    if not temperatures or not all(0 < t < np.inf for t in temperatures):
        raise ValueError(f"temperatures are {temperatures}, expected positive numbers, at least 1")
    return temperatures


def require_shape(name: str, array: Array, expected: tuple[int | None, ...], why: str) -> None:
    """``ValueError`` unless ``array`` has the ``expected`` sizes (``None``: any but zero)."""
    fits = array.ndim == len(expected) and all(
        size == wanted if wanted is not None else size > 0
        for size, wanted in zip(array.shape, expected, strict=True)
    )
    if not fits:
        sizes = ", ".join("any >= 1" if size is None else str(size) for size in expected)
        raise ValueError(f"{name} has shape {array.shape}, expected ({sizes}): {why}")


def ratio(numerator: Array, denominator: Array) -> Array:
    """Divide, with 0/0 := 0: wherever the denominator is 0 the result is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.zeros(numerator.shape)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
