"""The report as data: what was judged, clause by clause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from drifting_parity.adapters.conduct import Conduct
from drifting_parity.explanation.data import Explanation
from drifting_parity.measure import Figure, Measurement
from drifting_parity.report.pictures import Pictures
from drifting_parity.witnesses.core import Effect

NO_READING: Final = "what was seen matches no combination of readings: the implementation deviates"
"""The evidence of every axis where no readings explain an implementation."""

Verdict = Literal[
    "conforms",
    "by definition",
    "conforms to reading",
    "deviates",
    "raises",
    "not observable",
    "not executable",
]

FAILING: Final[frozenset[Verdict]] = frozenset({"conforms to reading", "deviates", "raises"})
"""Verdicts that make the exit status 1."""


@dataclass(frozen=True)
class CheckOutcome:
    """What one check gave: measurements and figures, or why there are none.

    ``readings`` are those it was judged under when they differ from those asked for. ``error`` is
    the exception's type and message when the implementation raised. ``conduct`` is what it did
    meanwhile beside answering.
    """

    check: str
    title: str
    kind: str
    clauses: tuple[str, ...]
    measurements: tuple[Measurement, ...] = ()
    figures: tuple[Figure, ...] = ()
    not_observable: str = ""
    error: str = ""
    conduct: tuple[Conduct, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether it ran and every measurement holds."""
        ran = not self.not_observable and not self.error
        return ran and all(item.passed for item in self.measurements)


@dataclass(frozen=True)
class ClauseReport:
    """One clause's verdict with the measurements behind it, the worst first.

    ``subject`` tells clauses that an implementation carries out from statements about the paper
    itself, which are checked on the reference whatever is judged.
    """

    id: str
    section: str
    title: str
    verdict: Verdict
    measurements: tuple[tuple[str, Measurement], ...] = ()
    reading: str = ""
    detail: str = ""
    reproduce: str = ""
    subject: Literal["implementation", "paper"] = "implementation"

    @property
    def worst(self) -> Measurement | None:
        """The measurement with the most of its allowance used, None if nothing was measured."""
        return self.measurements[0][1] if self.measurements else None

    @property
    def cases(self) -> int:
        """How many cases stand behind the verdict."""
        return sum(item.count for _, item in self.measurements)


@dataclass(frozen=True)
class AxisReport:
    """Which reading the implementation takes on one axis, and how that was seen.

    ``reading`` is ``"not observable"`` where the adapter does not let it be seen.
    """

    id: str
    expected: str
    reading: str
    evidence: str

    @property
    def differs(self) -> bool:
        """Whether a reading other than the one asked for was seen."""
        return self.reading not in {self.expected, "not observable"}


@dataclass(frozen=True)
class Report:
    """Everything one run found out about one implementation.

    ``effects`` are those of the deltas, measured on the reference; empty if they were not asked
    for. They say nothing about the implementation. ``explanation`` says what it computes,
    ``conduct`` what it did beside answering. ``interrupted`` says after how many checks the run
    was, if it was. ``pictures`` are what a page plots, where they were asked for.
    """

    implementation: str
    readings: str
    observed_readings: str
    environment: Mapping[str, str]
    paper: Mapping[str, str]
    tool: Mapping[str, str]
    clauses: tuple[ClauseReport, ...]
    axes: tuple[AxisReport, ...]
    outcomes: tuple[CheckOutcome, ...]
    sections: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0
    effects: tuple[Effect, ...] = ()
    explanation: Explanation | None = None
    conduct: tuple[Conduct, ...] = ()
    interrupted: str = ""
    pictures: Pictures | None = None

    @property
    def of_implementation(self) -> tuple[ClauseReport, ...]:
        """The clauses that an implementation carries out."""
        return tuple(item for item in self.clauses if item.subject == "implementation")

    @property
    def of_paper(self) -> tuple[ClauseReport, ...]:
        """The clauses about the paper itself, which are checked on the reference alone."""
        return tuple(item for item in self.clauses if item.subject == "paper")

    @property
    def complete(self) -> bool:
        """Whether every executable clause could be observed."""
        seen = all(clause.verdict != "not observable" for clause in self.clauses)
        return seen and not self.interrupted

    @property
    def failing(self) -> tuple[ClauseReport, ...]:
        """The clauses that are not as asked."""
        return tuple(clause for clause in self.clauses if clause.verdict in FAILING)

    @property
    def exit_status(self) -> int:
        """0 as expected, 1 parity broken, 3 when nothing of the implementation could be judged."""
        if self.unanswered:
            return 3
        differs = any(axis.differs for axis in self.axes)
        if self.failing or differs or self.misconduct or self.unlike:
            return 1
        asked = self.of_implementation
        return 3 if asked and all(item.verdict in _UNJUDGED for item in asked) else 0

    @property
    def unanswered(self) -> str:
        """What came in place of an answer, where not one call gave any; else empty."""
        told = self.explanation
        if told is None or all(item.stage != "call" for item in told.unexplained):
            return ""
        return told.notes[0] if told.notes else "it raises whatever it is asked"

    @property
    def unlike(self) -> bool:
        """Whether it was seen to compute something else than its readings say, whatever clauses.

        So it is where only some clauses were asked for, and none of them is wrong.
        """
        told = self.explanation
        return told is not None and bool(told.deviations or told.unexplained)

    @property
    def misconduct(self) -> tuple[Conduct, ...]:
        """What the implementation did that breaks parity, whatever was measured."""
        return tuple(item for item in self.conduct if item.failing)

    def count(self, verdict: Verdict) -> int:
        """How many clauses that an implementation carries out got ``verdict``."""
        return sum(clause.verdict == verdict for clause in self.of_implementation)

    def figures(self) -> dict[str, list[Figure]]:
        """The headline numbers, by headline, in the order they were measured."""
        found: dict[str, list[Figure]] = {}
        for outcome in self.outcomes:
            for figure in outcome.figures:
                found.setdefault(figure.headline, []).append(figure)
        return found


_UNJUDGED: Final[frozenset[Verdict]] = frozenset({"not observable", "not executable"})
