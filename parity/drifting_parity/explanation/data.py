"""The explanation as data, and the JSON that others read."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from drifting_parity.measure import json_number
from drifting_spec import Readings

SCHEMA: Final = 2


@dataclass(frozen=True)
class ReadingStatement:
    """The reading taken on one axis.

    ``seen``: every other reading but those in ``alike`` would have shown on some probe; otherwise
    the reading is the one asked for, and nothing is known of it. ``evidence`` says how.
    """

    axis: str
    reading: str
    seen: bool
    alike: tuple[str, ...] = ()
    evidence: str = ""
    effect: str = ""


@dataclass(frozen=True)
class DeviationStatement:
    """A catalogued deviation that the implementation has.

    ``key`` names the variant; ``parameters`` carry its size where it has one; ``alike`` are other
    keys, or readings, that compute the same on everything that was asked; ``effect`` is what it
    does and ``mend`` what to change, in words.
    """

    id: str
    title: str
    stage: str
    key: str = ""
    clauses: tuple[str, ...] = ()
    parameters: Mapping[str, float | str] = field(default_factory=dict[str, float | str])
    alike: tuple[str, ...] = ()
    effect: str = ""
    mend: str = ""


@dataclass(frozen=True)
class DialStatement:
    """A quantity measured from outside: its value, and the law that it follows if there is one."""

    name: str
    stage: str
    value: float
    law: str = ""


@dataclass(frozen=True)
class Unexplained:
    """A stage that nothing explains: the smallest probe that shows it, and how far it is off."""

    stage: str
    probe: str
    size: float


@dataclass(frozen=True)
class RangeStatement:
    """Whether the explanation holds on an extreme probe."""

    probe: str
    holds: bool


@dataclass(frozen=True)
class Confirmation:
    """Fresh cases on which the explanation was tried, and the worst relative errors there."""

    cases: int = 0
    worst_value: float = 0.0
    worst_gradient: float = 0.0
    largest_sizes: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Explanation:
    """What an implementation computes, and what of it stays open.

    ``asked`` are the readings it was held to; ``taken`` those it takes, equal to ``asked`` on
    every axis that did not show. ``notes`` are facts about how it runs (float32 inside, refusals).
    """

    implementation: str
    asked: Readings
    taken: Readings
    explained: bool
    dtype: str = "float64"
    readings: tuple[ReadingStatement, ...] = ()
    deviations: tuple[DeviationStatement, ...] = ()
    dials: tuple[DialStatement, ...] = ()
    unexplained: tuple[Unexplained, ...] = ()
    range: tuple[RangeStatement, ...] = ()
    confirmation: Confirmation = field(default_factory=Confirmation)
    not_seen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    calls: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """What ``drifting-parity fingerprint`` prints."""
        from drifting_parity.explanation.wording import first_screen

        return "\n".join(first_screen(self))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def as_json(self) -> dict[str, Any]:
        """The explanation in the JSON of schema 2; null is what is no number."""
        return {
            "schema": SCHEMA,
            "implementation": self.implementation,
            "explained": self.explained,
            "dtype": self.dtype,
            "readings": [
                {
                    "axis": item.axis,
                    "reading": item.reading,
                    "seen": item.seen,
                    "alike": list(item.alike),
                    "evidence": item.evidence,
                    "effect": item.effect,
                }
                for item in self.readings
            ],
            "deviations": [
                {
                    "id": item.id,
                    "key": item.key,
                    "title": item.title,
                    "stage": item.stage,
                    "clauses": list(item.clauses),
                    "parameters": dict(item.parameters),
                    "alike": list(item.alike),
                    "effect": item.effect,
                    "mend": item.mend,
                }
                for item in self.deviations
            ],
            "dials": [
                {
                    "name": item.name,
                    "stage": item.stage,
                    "value": json_number(item.value),
                    "law": item.law,
                }
                for item in self.dials
            ],
            "unexplained": [
                {"stage": item.stage, "probe": item.probe, "size": json_number(item.size)}
                for item in self.unexplained
            ],
            "range": [{"probe": item.probe, "holds": item.holds} for item in self.range],
            "confirmation": {
                "cases": self.confirmation.cases,
                "worst_value": json_number(self.confirmation.worst_value),
                "worst_gradient": json_number(self.confirmation.worst_gradient),
                "largest_sizes": dict(self.confirmation.largest_sizes),
            },
            "not_seen": list(self.not_seen),
            "notes": list(self.notes),
        }
