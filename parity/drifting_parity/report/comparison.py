"""Several implementations beside one another: what is compared, in the order it is told.

First the outcomes with what explains them, then the stages, then the clauses in which any of them
fails; what all of them stand alike to is counted.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from drifting_parity.measure import json_number
from drifting_parity.report import wording
from drifting_parity.report.data import FAILING, Verdict
from drifting_parity.report.saved import Entry, Standing
from drifting_parity.report.screen import Role
from drifting_parity.report.stages import StageReport, State

SCHEMA_VERSION: Final = 1

LETTERS: Final = string.ascii_uppercase
"""What the implementations are called where a column has no room for a name."""

MARKS: Final[dict[State, str]] = {
    "conforms": "✓",
    "reading": "≠",
    "follows": "↳",
    "deviates": "✗",
    "raises": "!",
    "not observed": "?",
}
"""One character for each state of a stage."""


@dataclass(frozen=True)
class ClauseRow:
    """A clause with how each implementation stands to it, None where it was not asked."""

    id: str
    section: str
    title: str
    standings: tuple[Standing | None, ...]

    @property
    def failing(self) -> bool:
        """Whether any of them is not as asked."""
        return any(item is not None and item.verdict in FAILING for item in self.standings)


@dataclass(frozen=True)
class StageRow:
    """A stage with how each implementation stands there."""

    title: str
    group: str
    stages: tuple[StageReport | None, ...]


@dataclass(frozen=True)
class Comparison:
    """Implementations in the order given; ``entries`` has at most as many as there are letters."""

    entries: tuple[Entry, ...]

    @property
    def lettered(self) -> list[tuple[str, Entry]]:
        """The implementations with their letters."""
        return list(zip(LETTERS, self.entries, strict=False))

    @property
    def exit_status(self) -> int:
        """1 where any breaks parity, else 3 where any could not be judged, else 0."""
        statuses = {item.exit_status for item in self.entries}
        return next((status for status in (1, 3) if status in statuses), 0)

    @property
    def held(self) -> str:
        """What they are held to; empty where that is not the same for all."""
        held = {item.held for item in self.entries}
        return held.pop() if len(held) == 1 else ""

    def clauses(self) -> list[ClauseRow]:
        """Every clause that any of them was asked about, in the order of the paper."""
        known: dict[str, Standing] = {}
        for item in self.entries:
            for name, standing in item.clauses.items():
                known.setdefault(name, standing)
        return [
            ClauseRow(
                name,
                first.section,
                first.title,
                tuple(item.clauses.get(name) for item in self.entries),
            )
            for name, first in known.items()
        ]

    def failing(self) -> list[ClauseRow]:
        """The clauses in which any of them is not as asked."""
        return [row for row in self.clauses() if row.failing]

    def stages(self) -> list[StageRow]:
        """Every stage in the order of the computation, those that none was observed at left out."""
        known: dict[str, StageReport] = {}
        for item in self.entries:
            for stage in item.stages:
                known.setdefault(stage.key, stage)
        rows: list[StageRow] = []
        for key, first in known.items():
            stages = tuple(
                next((stage for stage in item.stages if stage.key == key), None)
                for item in self.entries
            )
            if any(stage is not None and stage.state != "not observed" for stage in stages):
                rows.append(StageRow(first.title, first.group, stages))
        return rows

    def counts(self) -> list[tuple[Verdict, tuple[int, ...]]]:
        """For each verdict that occurs: how many clauses of each implementation got it."""
        rows: list[tuple[Verdict, tuple[int, ...]]] = []
        for verdict in wording.MARKS:
            numbers = tuple(
                sum(standing.verdict == verdict for standing in item.clauses.values())
                for item in self.entries
            )
            if any(numbers):
                rows.append((verdict, numbers))
        return rows


def heading(comparison: Comparison) -> str:
    """Say in one line what is compared, and what it is held to."""
    count = len(comparison.entries)
    if not comparison.held:
        return f"drifting-parity: {count} implementations, held to different readings"
    held = "the paper" if comparison.held == "paper" else f"readings {comparison.held}"
    return f"drifting-parity: {count} implementations, held to {held}"


ROLES: Final[dict[str, Role]] = {"conforms": "good", "readings": "other"}
"""How an outcome is coloured; every other one is bad."""


_NAMED: Final = 6


def said(item: Entry) -> Iterator[str]:
    """What explains one implementation, a line each: deviations, readings, measures, what is open.

    Clauses that fail are named where no deviation explains them. Then how far it is explained.
    """
    for change in item.deviations:
        yield _changed(f"{change.id} {change.title}", change.effect)
    for change in item.readings:
        yield _changed(f"reading {change.id}={change.title}", change.effect)
    for text in item.measured:
        yield f"measured {text}"
    for text in item.unexplained:
        yield f"unexplained from here: {text}"
    wrong = [c.id for c in item.clauses.values() if c.verdict in {"deviates", "raises"}]
    if wrong and not item.deviations:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        verb = "fails" if len(wrong) == 1 else "fail"
        yield f"{', '.join(wrong[:_NAMED])}{more} {verb}"
    for text in item.misconduct:
        yield f"it {text}"
    if item.reach == item.reach:  # a number
        reach = f"to {item.reach:.0e}" if item.reach else "exactly"
        yield f"explained {reach} on {item.cases} fresh cases"
    elif not item.unexplained:
        yield "not explained"
    if item.interrupted:
        yield f"its report was interrupted {item.interrupted}"


def _changed(what: str, effect: str) -> str:
    return f"{what} · {effect}" if effect else what


def sources(item: Entry) -> str:
    """Where its report is from and how it was run."""
    run = item.run
    parts = [f"held to {item.held}", run.get("dtype", ""), f"seed {run.get('seed', '?')}"]
    parts += ["quick"] if run.get("quick") == "true" else []
    parts += [f"from {item.source}" if item.source else ""]
    parts += [f"drifting-parity {run.get('version', '?')}"]
    return " · ".join(filter(None, parts))


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain data that follows ``comparison.schema.json``."""
    return {
        "schema": SCHEMA_VERSION,
        "kind": "comparison",
        "exit_status": comparison.exit_status,
        "implementations": [
            {
                "letter": letter,
                "name": item.name,
                "source": item.source or None,
                "readings_expected": item.held,
                "outcome": {
                    "kind": item.outcome,
                    "text": item.phrase,
                    "exit_status": item.exit_status,
                },
                "deviations": [vars(change) for change in item.deviations],
                "readings": [
                    {
                        "axis": change.id,
                        "taken": change.title.partition(" in place of ")[0],
                        "asked": change.title.partition(" in place of ")[2],
                        "effect": change.effect,
                    }
                    for change in item.readings
                ],
                "measured": list(item.measured),
                "unexplained": list(item.unexplained),
                "explained_to": json_number(item.reach) if item.reach == item.reach else None,
                "fresh_cases": item.cases,
                "stages": [stage.as_json() for stage in item.stages],
                "run": dict(item.run),
            }
            for letter, item in comparison.lettered
        ],
        "clauses": [
            {
                "id": row.id,
                "section": row.section,
                "title": row.title,
                "standings": [
                    None
                    if standing is None
                    else {
                        "verdict": standing.verdict,
                        "observed": _number(standing.observed),
                        "allowed": _number(standing.allowed),
                    }
                    for standing in row.standings
                ],
            }
            for row in comparison.clauses()
        ],
    }


def _number(value: float) -> float | str | None:
    return None if value != value else json_number(value)
