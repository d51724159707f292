"""What a witness is: a number that the reference gives for the effect of a delta.

A witness computes with ``drifting_reference`` on a fixed case, never with an adapter. Its band and
the sentence that says what the number is are data (``witnesses.toml``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from drifting_spec.registry import Witness, load

WITNESSES: Final[dict[str, Callable[[], float]]] = {}
"""Every witness function by its id."""


def witness(identifier: str) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Register a function under a witness id; ``ValueError`` if the id is taken."""

    def register(function: Callable[[], float]) -> Callable[[], float]:
        if identifier in WITNESSES:
            raise ValueError(f"witness {identifier} is defined twice")
        WITNESSES[identifier] = function
        return function

    return register


@dataclass(frozen=True)
class Effect:
    """A measured witness: the number, its band, and what went wrong if it gave none."""

    witness: Witness
    value: float
    error: str = ""
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """The id of the witness."""
        return self.witness.id

    @property
    def within(self) -> bool:
        """Whether the number lies in its band."""
        return self.witness.holds(self.value)


def measure(ids: Iterable[str] | None = None) -> tuple[Effect, ...]:
    """Measure the witnesses ``ids`` (all by default), in the order of the spec.

    One that raises has the value NaN, which no band holds, and the exception as its ``error``.
    """
    wanted = None if ids is None else set(ids)
    table = load().witnesses.values()
    return tuple(_measured(item) for item in table if wanted is None or item.id in wanted)


def _measured(item: Witness) -> Effect:
    started = time.perf_counter()
    try:
        value, error = float(WITNESSES[item.id]()), ""
    except Exception as problem:  # a broken reference is a finding, no crash
        value, error = math.nan, f"{type(problem).__name__}: {problem}"
    return Effect(item, value, error, time.perf_counter() - started)
