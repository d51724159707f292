"""Answers to probes and how far two of them lie apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from drifting_parity.cases import Array, DType

TIGHT: Final[dict[DType, float]] = {
    "float64": 1e-9,
    "float32": 3e-4,
    "bfloat16": 3e-2,
    "float16": 6e-3,
}
"""Relative distance up to which a hypothesis explains an answer to its last digits."""

LOOSE: Final[dict[DType, float]] = {
    "float64": 2e-5,
    "float32": 3e-4,
    "bfloat16": 3e-2,
    "float16": 6e-3,
}
"""Up to which it explains the structure: an epsilon is left over."""


@dataclass(frozen=True)
class Answer:
    """``array`` is a gradient or a field, ``value`` the loss (0 for a field)."""

    array: Array
    value: float = 0.0

    @property
    def finite(self) -> bool:
        """Whether it holds numbers alone."""
        return bool(math.isfinite(self.value) and np.isfinite(self.array).all())

    @property
    def direction(self) -> Array:
        """The array at length 1; zeros stay zeros."""
        return directions_of(self.array[None])[0]


def directions_of(arrays: Array) -> Array:
    """Each of several arrays [F, ...] at length 1; what is 0 or no number stays."""
    flat = arrays.reshape(len(arrays), -1)
    largest = np.abs(flat).max(axis=1, initial=0.0, keepdims=True)
    largest[(largest == 0) | ~np.isfinite(largest)] = 1.0
    scaled = flat / largest  # the square of a small entry would underflow
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    length[(length == 0) | ~np.isfinite(length)] = 1.0
    return (scaled / length).reshape(arrays.shape)


def relative(observed: Array, expected: Array) -> float:
    """‖observed − expected‖/‖expected‖; infinite where one alone is not a number."""
    if observed.shape != expected.shape:
        return math.inf
    number = np.isfinite(expected)
    if not np.array_equal(number, np.isfinite(observed)):
        return math.inf
    observed, expected = observed[number], expected[number]
    largest = float(np.abs(expected).max(initial=0.0))
    if largest == 0:
        return 0.0 if not observed.any() else math.inf
    error = np.linalg.norm((observed - expected) / largest)
    return float(error / np.linalg.norm(expected / largest))


def value_error(observed: Answer, expected: Answer) -> float:
    """Relative error of the value, absolute of a 0; two that are no numbers agree."""
    if not (math.isfinite(observed.value) and math.isfinite(expected.value)):
        agree = math.isfinite(observed.value) == math.isfinite(expected.value)
        return 0.0 if agree else math.inf
    size = abs(expected.value)
    return abs(observed.value - expected.value) / (size if size > 0 else 1.0)


def whole_error(observed: Answer, expected: Answer) -> float:
    """The worse of the relative errors of array and value."""
    return max(relative(observed.array, expected.array), value_error(observed, expected))


def direction_error(observed: Answer, expected: Answer) -> float:
    """Distance of the two directions; infinite where one has none, since it is zero."""
    if observed.array.shape != expected.array.shape:
        return math.inf
    if not (observed.finite and expected.finite):
        return math.inf
    if not (observed.array.any() and expected.array.any()):
        return math.inf
    return float(np.linalg.norm(observed.direction - expected.direction))
