"""Drawing inputs for properties: one generator serves the report and Hypothesis.

A property's inputs are made of a few plain draws (:class:`Draw`). The report draws them from a
seeded NumPy generator, the pytest suite from Hypothesis, which shrinks them to the smallest
witness. Arrays are made from a drawn integer seed and drawn sizes, so that they shrink well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

_Item = TypeVar("_Item")


class Rejected(Exception):  # noqa: N818 -- no error: the drawn inputs are outside the property's domain
    """The drawn inputs are outside the property's domain; draw others."""


class Draw(Protocol):
    """A source of plain values."""

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        ...

    def number(self, low: float, high: float) -> float:
        """A float from ``low`` to ``high``."""
        ...

    def choice(self, items: Sequence[_Item]) -> _Item:
        """One of ``items``; the first is the simplest."""
        ...


class RandomDraw:
    """Draws from a seeded NumPy generator."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return int(self._generator.integers(low, high + 1))

    def number(self, low: float, high: float) -> float:
        """A float from ``low`` to ``high``."""
        return float(self._generator.uniform(low, high))

    def choice(self, items: Sequence[_Item]) -> _Item:
        """One of ``items``."""
        return items[self.integer(0, len(items) - 1)]


def generator(draw: Draw) -> np.random.Generator:
    """A NumPy generator whose seed is drawn: arrays from it shrink with that seed."""
    return np.random.default_rng(draw.integer(0, 2**16 - 1))
