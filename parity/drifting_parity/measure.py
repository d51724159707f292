"""Measurements: an observed error beside the allowed one, and where the worst entry lies.

A measurement says what it shows. ``clauses`` are those that it *proves* when it passes: their own
kind of wrong code would fail it. ``refutes`` are those that are wrong when it fails; an invariance
that wrong code shares refutes and proves nothing. A value or gradient of the loss as a whole is
``end_to_end``: it proves all that takes part, but a failure is that of the earliest mistake.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np

from drifting_parity.cases import Array
from drifting_spec.registry import Tolerance

Relation = Literal["<=", ">="]

Stage = Literal[
    "vectors",
    "field",
    "scale",
    "temperature",
    "drift scale",
    "aggregation",
    "weights",
    "labels",
    "locations",
    "reductions",
    "vanilla term",
    "gradient",
    "training",
    "encoder",
    "paper",
]
"""Where in the computation something shows. The last three are outside the loss: the training
step and its parts, the encoder of A.3, statements about the paper itself."""

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
"""The stages in the order in which the computation passes them."""

WHOLE: Final = ("EQ-26", "A6-mse")
"""The clauses of a loss of one feature as a whole."""


@dataclass(frozen=True)
class Mismatch:
    """The worst entry of a comparison."""

    index: tuple[int, ...]
    expected: float
    got: float


@dataclass(frozen=True)
class Measurement:
    """One number that a check measured for one or several clauses.

    ``observed`` must be ``relation`` ``allowed``. ``quantity`` says what was measured (``loss``,
    ``gradient`` …), ``case`` on which inputs, ``count`` how many cases stand behind it (the worst
    is shown). ``by_definition`` marks a comparison of the reference with itself.

    ``stage`` is where it shows; the check's own where it is None. ``refutes`` are the clauses that
    a failure shows to be wrong; those of ``clauses`` where it is None. ``end_to_end`` marks a value
    or gradient in which every stage takes part: it refutes only what nothing earlier explains.

    Most checks of the loss take its gradient for a drift, which a target that is not frozen or an
    error that is not squared belies. What tests that is a ``premise``; what ``reads_drift`` refutes
    nothing where a premise failed.
    """

    clauses: tuple[str, ...]
    quantity: str
    case: str
    observed: float
    allowed: float
    relation: Relation = "<="
    mismatch: Mismatch | None = None
    count: int = 1
    note: str = ""
    by_definition: bool = False
    stage: Stage | None = None
    refutes: tuple[str, ...] | None = None
    end_to_end: bool = False
    premise: bool = False
    reads_drift: bool = False

    @property
    def refuted(self) -> tuple[str, ...]:
        """The clauses that are wrong if this fails."""
        return self.clauses if self.refutes is None else self.refutes

    @property
    def touched(self) -> tuple[str, ...]:
        """The clauses that it proves or refutes."""
        return tuple(dict.fromkeys((*self.clauses, *self.refuted)))

    @property
    def passed(self) -> bool:
        """Whether the relation holds; never for NaN, nor for a difference without end."""
        if self.relation == "<=":
            return self.observed <= self.allowed
        return self.allowed <= self.observed < math.inf

    @property
    def headroom(self) -> float:
        """Observed ÷ allowed (for ``>=`` the inverse): 1 is the edge, above it fails."""
        small, large = (
            (self.observed, self.allowed)
            if self.relation == "<="
            else (self.allowed, self.observed)
        )
        if math.isnan(small) or math.isnan(large) or large == math.inf == self.observed:
            return math.inf
        if large == 0.0:
            return 0.0 if small == 0.0 else math.inf
        return small / large


@dataclass(frozen=True)
class Figure:
    """A number for the reader, shown under one of the headline checks."""

    headline: str
    label: str
    value: str


def compare(
    clauses: tuple[str, ...] | str,
    quantity: str,
    case: str,
    observed: Array | float,
    expected: Array | float,
    tolerance: Tolerance,
    note: str = "",
) -> Measurement:
    """Hold ``observed`` to ``expected``: l2 norm of the difference against rtol·size + atol.

    A shape other than expected, or an entry that is not finite where it should be, is an infinite
    error; the mismatch names the worst entry. Nothing is held to what is not finite itself: such a
    comparison fails.
    """
    got, want = np.asarray(observed, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    names = (clauses,) if isinstance(clauses, str) else clauses
    if got.shape != want.shape:
        shapes = f"shape {got.shape}, expected {want.shape}"
        return Measurement(names, quantity, case, math.inf, 0.0, note=shapes)
    with np.errstate(invalid="ignore"):
        difference = np.where(np.isfinite(got), np.abs(got - want), math.inf)
    worst = np.unravel_index(int(np.argmax(difference)), got.shape) if got.size else ()
    mismatch = None
    if got.size:
        index = tuple(int(position) for position in worst)
        mismatch = Mismatch(index, float(want[index]), float(got[index]))
    error = float(np.linalg.norm(difference))
    allowed = tolerance.rtol * float(np.linalg.norm(want)) + tolerance.atol
    if not math.isfinite(allowed):
        note = "; ".join(filter(None, (note, "what it is held to is not finite")))
        return Measurement(names, quantity, case, math.inf, 0.0, mismatch=mismatch, note=note)
    return Measurement(names, quantity, case, error, allowed, mismatch=mismatch, note=note)


def json_number(value: float) -> float | str:
    """JSON has no infinities and no NaN: they are written as strings."""
    if math.isnan(value):
        return "nan"
    return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def within(
    clauses: tuple[str, ...] | str,
    quantity: str,
    case: str,
    observed: float,
    allowed: float,
    note: str = "",
) -> Measurement:
    """Measure an error that must not pass ``allowed``."""
    names = (clauses,) if isinstance(clauses, str) else clauses
    return Measurement(names, quantity, case, float(observed), float(allowed), note=note)


def at_least(
    clauses: tuple[str, ...] | str,
    quantity: str,
    case: str,
    observed: float,
    allowed: float,
    note: str = "",
) -> Measurement:
    """Measure a difference that must show: what would be missing in a wrong implementation."""
    names = (clauses,) if isinstance(clauses, str) else clauses
    return Measurement(names, quantity, case, float(observed), float(allowed), ">=", note=note)


def whole(item: Measurement, stage: Stage, refutes: tuple[str, ...] = WHOLE) -> Measurement:
    """The measurement as one of the loss as a whole: it refutes what nothing earlier explains."""
    return replace(item, stage=stage, refutes=refutes, end_to_end=True)


def necessary(item: Measurement, *proven: str) -> Measurement:
    """The measurement as one that wrong code may pass as well: it proves ``proven`` alone."""
    return replace(item, clauses=proven, refutes=item.refuted)


def at_stage(item: Measurement, stage: Stage) -> Measurement:
    """The measurement with its stage."""
    return replace(item, stage=stage)
