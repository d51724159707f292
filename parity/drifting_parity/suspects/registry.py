"""What a suspect is, the list of all of them, and how they are put together.

A suspect is a catalogued deviation as code: a class that overrides one step of the textbook, or
two. Several of them, under any readings, make one :class:`Textbook` by :func:`compose`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import FunctionType
from typing import Final, Literal, get_args

import numpy as np

from drifting_parity.cases import Array, FieldCase, LossCase
from drifting_parity.suspects.textbook import Textbook
from drifting_spec import PAPER, Readings
from drifting_spec.registry import Deviation, load
from drifting_spec.schema import Stage

Need = Literal[
    "channels",
    "temperatures",
    "labels",
    "vectors",
    "groups",
    "unconditional",
    "other negatives",
    "weights",
    "unconditional weights",
    "one generated",
    "several samples",
    "both softmaxes",
    "loss",
    "foreign negatives",
    "second call",
    "features",
]
"""What a case must have for a suspect to show on it at all; without it nothing changes.

``groups``: several labels or vectors, or a λ that does not cancel a factor of the drift (a field
has none, floors hold it); ``several samples``: more than one drift in the statistics; ``other
negatives``: some that are not the samples; ``foreign negatives``: a field whose negatives are
other points, as many as the samples; ``features``: the loss of several features. The rest say
what there must be more than one of, or that there must be some (weights other than 1).
"""

Condition = Literal[
    "ordinary",
    "high temperature",
    "equal distances",
    "tiny temperature",
    "offset",
    "small units",
]
"""What of a case brings a suspect above rounding, where it needs no structure but a size.

``high temperature``: τ of 10 and more; ``tiny``: distances of 1000 temperatures; ``equal
distances``: any two samples as far apart as any others, 10⁷ temperatures; ``offset``: all samples
10³ spreads from the origin, more than 25 of them; ``small units``: features of 10⁻⁵.
"""


@dataclass(frozen=True)
class Suspect:
    """A deviation as code, one of its variants.

    ``needs``: without all of them it equals the textbook exactly. ``shows_at``: where it differs
    by more than ``size`` (relative, the larger of value and gradient, or of the field).
    ``needed_under``: needs that are none unless an axis has a reading, as (axis, reading).
    ``idle_under``: sets of readings, by axis, under which it changes nothing. ``reading``:
    the reading that is the same from outside, as (axis, reading), where there is one.
    ``parameters``: attributes of the class with a size, and their value. ``raises``: it refuses
    the case in place of computing it.
    """

    id: str
    variant: str
    change: type[Textbook]
    needs: frozenset[Need] = frozenset()
    shows_at: Condition = "ordinary"
    size: float = 1e-6
    idle_under: tuple[Mapping[str, str], ...] = ()
    needed_under: Mapping[Need, tuple[str, str]] = field(
        default_factory=dict[Need, tuple[str, str]]
    )
    reading: tuple[str, str] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict[str, float])
    raises: bool = False
    own_clauses: tuple[str, ...] = ()
    own_stage: Stage | None = None

    @property
    def clauses(self) -> tuple[str, ...]:
        """The clauses that it breaks: the deviation's, unless the variant has its own."""
        return self.own_clauses or self.deviation.clauses

    @property
    def stage(self) -> Stage:
        """Where in the computation it shows: the deviation's, unless the variant has its own."""
        return self.own_stage or self.deviation.stage

    @property
    def key(self) -> str:
        """The name in :data:`ALL`: the deviation's id, with the variant where it has several."""
        return f"{self.id}:{self.variant}" if self.variant else self.id

    @property
    def deviation(self) -> Deviation:
        """The catalogue's entry: title, clauses, stage, how to mend it."""
        return load().deviations[self.id]

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of the textbook that it overrides."""
        return tuple(
            name
            for base in self.change.__mro__[: self.change.__mro__.index(Textbook)]
            for name, value in vars(base).items()
            if isinstance(value, FunctionType | frozenset) and hasattr(Textbook, name)
        )

    @property
    def replaced_steps(self) -> tuple[str, ...]:
        """Those of its steps that it computes anew, without what others make of them."""
        return tuple(name for name in self.steps if not _extends(getattr(self.change, name)))

    def at(self, **parameters: float) -> Suspect:
        """The same suspect with other sizes; ``ValueError`` for a parameter it lacks."""
        for name in parameters:
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ValueError(f"{self.key} has no parameter {name!r}, expected one of: {known}")
        return replace(self, parameters={**self.parameters, **parameters})

    def can_show(self, case: LossCase | FieldCase, readings: Readings = PAPER) -> bool:
        """Whether it may change anything on a case; False means exactly equal."""
        present = _present(case, readings)
        idle = any(
            all(getattr(readings, axis) == reading for axis, reading in each.items())
            for each in self.idle_under
        )
        # One generated sample has no other: what its row sums up to may be nothing.
        if idle and "one generated" not in present:
            return False
        if self.reading is not None:
            traits = case.traits()
            other = readings.with_reading(*self.reading)
            return readings.canonical(traits) != other.canonical(traits)
        return all(need in present or self._lifted(need, readings) for need in self.needs)

    def _lifted(self, need: Need, readings: Readings) -> bool:
        """Whether it shows without a need, since a reading is not the one that makes it one."""
        if need not in self.needed_under:
            return False
        axis, reading = self.needed_under[need]
        return getattr(readings, axis) != reading


def _extends(step: object) -> bool:
    """Whether a method calls the step that it overrides: it then refers to its own class."""
    return isinstance(step, FunctionType) and "__class__" in step.__code__.co_freevars


def _weighted(weight: Array | None) -> bool:
    return weight is not None and bool(np.any(weight != 1))


def _present(case: LossCase | FieldCase, readings: Readings) -> set[Need]:
    """Which needs a case meets."""
    met: dict[Need, bool] = {"both softmaxes": readings.softmax_axes == "xy"}
    if isinstance(case, FieldCase):
        count, negatives = len(case.x), len(case.negative)
        met |= {
            "channels": case.x.shape[-1] > 1,
            "unconditional": case.mask_self and negatives > count,
            "other negatives": negatives > count or not case.mask_self,
            "weights": _weighted(case.negative_weight),
            "unconditional weights": _weighted(
                None if case.negative_weight is None else case.negative_weight[count:]
            ),
            "groups": True,
            "one generated": count == 1,
            "several samples": count > 1,
            "foreign negatives": not case.mask_self and negatives == count,
        }
    else:
        labels, count, vectors, channels = case.generated.shape
        weights = (case.unconditional_weight, case.generated_weight, case.positive_weight)
        met |= {
            "loss": True,
            "channels": channels > 1,
            "temperatures": len(case.temperatures) > 1,
            "labels": labels > 1,
            "vectors": vectors > 1,
            "groups": labels * vectors > 1 or readings.floors != "none",
            "unconditional": case.unconditional is not None,
            "other negatives": case.unconditional is not None,
            "weights": any(_weighted(weight) for weight in weights),
            "unconditional weights": _weighted(case.unconditional_weight),
            "one generated": count == 1,
            "several samples": labels * count * vectors > 1,
        }
    return {need for need, present in met.items() if present}


_SUSPECTS: list[Suspect] = []


def suspect(
    identifier: str,
    variant: str = "",
    *needs: Need,
    shows_at: Condition = "ordinary",
    size: float = 1e-6,
    idle_under: tuple[Mapping[str, str], ...] = (),
    needed_under: Mapping[Need, tuple[str, str]] | None = None,
    reading: tuple[str, str] | None = None,
    raises: bool = False,
    clauses: tuple[str, ...] = (),
    stage: Stage | None = None,
    **parameters: float,
) -> Callable[[type[Textbook]], type[Textbook]]:
    """Register a change of the textbook as a variant of a deviation; a class may be several."""
    unknown = set(needs) - set(get_args(Need))
    if unknown:
        raise ValueError(f"{identifier} needs {sorted(unknown)}, expected some of {get_args(Need)}")

    def register(change: type[Textbook]) -> type[Textbook]:
        for name in parameters:
            if not hasattr(change, name):
                raise TypeError(f"{change.__name__} has no attribute {name!r} for {identifier}")
        _SUSPECTS.append(
            Suspect(
                identifier,
                variant,
                change,
                frozenset(needs),
                shows_at,
                size,
                idle_under,
                needed_under or {},
                reading,
                parameters,
                raises,
                clauses,
                stage,
            )
        )
        return change

    return register


def registered() -> dict[str, Suspect]:
    """Every suspect registered so far by its key, in the catalogue's order."""
    ordered = sorted(_SUSPECTS, key=lambda item: (item.id, item.variant))
    return {item.key: item for item in ordered}


@cache
def _composed(changes: tuple[type[Textbook], ...]) -> type[Textbook]:
    if not changes:
        return Textbook
    return type("+".join(change.__name__ for change in changes), changes, {})


def compose(readings: Readings = PAPER, *suspects: Suspect) -> Textbook:
    """The textbook under ``readings`` with the suspects' steps in place of its own.

    A suspect that extends a step stands before one that replaces it, so that both act; of two
    that replace the same step the first wins (:func:`conflict` says so).
    """
    ordered = sorted(suspects, key=lambda item: len(item.replaced_steps))
    changes = tuple(dict.fromkeys(item.change for item in ordered))
    book = _composed(changes)(readings)
    for item in suspects:
        for name, size in item.parameters.items():
            setattr(book, name, size)
    return book


def conflict(one: Suspect, other: Suspect) -> bool:
    """Whether two suspects cannot both act: they replace the same step."""
    return bool(set(one.replaced_steps) & set(other.replaced_steps))


ELSEWHERE: Final[Mapping[str, str]] = {
    "D42": "vectors of A.5: which vectors make one feature",
    "D46": "vectors of A.5",
    "D47": "vectors of A.5",
    "D48": "vectors of A.5",
    "D49": "vectors of A.5",
    "D50": "vectors of A.5",
    "D51": "vectors of A.5",
    "D57": "the law of α and the generator",
    "D62": "the queue",
    "D64": "two processes",
    "D67": "nothing is computed that could be compared",
    "D70": "several calls that make up one step",
}
"""Deviations that are no change of the loss of given features, and where they show instead."""
