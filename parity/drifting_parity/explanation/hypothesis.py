"""Hypotheses: readings with suspects on top of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from drifting_parity.cases import FieldCase, LossCase
from drifting_parity.suspects import ALL, Suspect, Textbook, compose, conflict
from drifting_spec import AXES, Readings, ReadingsError
from drifting_spec.readings import FEATURE_AXES

LOSS_AXES: Final = tuple(axis for axis in AXES if axis not in FEATURE_AXES)
"""The axes that the field and the loss of one feature show."""

DIALS: Final[dict[str, Suspect]] = {}
"""Measured laws beside the catalogued suspects, by key: see :mod:`.dials`."""

Parameters = tuple[tuple[str, float], ...]


@dataclass(frozen=True, order=True)
class Use:
    """A suspect in use: its key and the sizes that its parameters have."""

    key: str
    parameters: Parameters = ()

    @property
    def suspect(self) -> Suspect:
        """The suspect at these sizes."""
        return _suspect(self.key, self.parameters)


@lru_cache(maxsize=4096)
def _suspect(key: str, parameters: Parameters) -> Suspect:
    suspect = ALL.get(key) or DIALS[key]
    return suspect.at(**dict(parameters)) if parameters else suspect


@dataclass(frozen=True)
class Hypothesis:
    """One way in which an implementation may compute: readings, and suspects on top of them."""

    readings: Readings
    uses: tuple[Use, ...] = ()

    def key(self, case: LossCase | FieldCase) -> object:
        """Equal for hypotheses that compute the same on the case whatever its numbers."""
        visible = tuple(use for use in self.uses if use.suspect.can_show(case, self.readings))
        if not visible:
            return self.readings.canonical(case.traits())
        return tuple(getattr(self.readings, axis) for axis in LOSS_AXES), visible

    def with_reading(self, axis: str, reading: str) -> Hypothesis | None:
        """The same with one axis changed, None where that contradicts itself or is no change."""
        if getattr(self.readings, axis) == reading:
            return None
        try:
            return Hypothesis(self.readings.with_reading(axis, reading), self.uses)
        except ReadingsError:
            return None

    def with_suspect(self, key: str) -> Hypothesis | None:
        """The same with one more suspect, None where it cannot act beside those there are."""
        new = ALL[key]
        for use in self.uses:
            if use.key == key or use.suspect.change is new.change or conflict(use.suspect, new):
                return None
        return Hypothesis(self.readings, tuple(sorted((*self.uses, Use(key)))))

    def without(self, key: str) -> Hypothesis:
        """The same without one suspect."""
        return Hypothesis(self.readings, tuple(use for use in self.uses if use.key != key))

    def tuned(self, key: str, name: str, value: float) -> Hypothesis:
        """The same with another size of one suspect's parameter."""
        uses = tuple(
            Use(use.key, tuple(sorted({**dict(use.parameters), name: value}.items())))
            if use.key == key
            else use
            for use in self.uses
        )
        return Hypothesis(self.readings, uses)

    def changes(self, asked: Readings) -> int:
        """How many changes lead from the readings asked for to here."""
        return len(asked.differing(self.readings)) + len(self.uses)

    @property
    def textbook(self) -> Textbook:
        """The loss of this hypothesis."""
        return _textbook(self)


@lru_cache(maxsize=4096)
def _textbook(hypothesis: Hypothesis) -> Textbook:
    return compose(hypothesis.readings, *(use.suspect for use in hypothesis.uses))


@dataclass(frozen=True)
class Option:
    """One change of a hypothesis; ``apply`` gives None where it changes nothing."""

    name: str
    apply: Callable[[Hypothesis], Hypothesis | None]


def reading_options(axes: tuple[str, ...]) -> list[Option]:
    """One option for every reading of the axes."""

    def setter(axis: str, reading: str) -> Callable[[Hypothesis], Hypothesis | None]:
        return lambda hypothesis: hypothesis.with_reading(axis, reading)

    return [
        Option(f"{axis}={reading}", setter(axis, reading))
        for axis in axes
        for reading in AXES[axis]
    ]


def suspect_options(keys: tuple[str, ...]) -> list[Option]:
    """One option for every suspect."""

    def adder(key: str) -> Callable[[Hypothesis], Hypothesis | None]:
        return lambda hypothesis: hypothesis.with_suspect(key)

    return [Option(key, adder(key)) for key in keys]
