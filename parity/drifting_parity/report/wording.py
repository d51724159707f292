"""How verdicts, numbers and the outcome of a report are put in words, whatever the format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from drifting_parity.measure import Measurement
from drifting_parity.plain import plain
from drifting_parity.report.data import CheckOutcome, ClauseReport, Report, Verdict
from drifting_parity.witnesses.core import Effect

MARKS: Final[dict[Verdict, str]] = {
    "conforms": "✓",
    "by definition": "=",
    "conforms to reading": "≠",
    "deviates": "✗",
    "raises": "!",
    "not observable": "?",
    "not executable": "-",
}
"""One character for each verdict; the counts at the end of a report are their legend."""


PLURALS: Final[dict[Verdict, str]] = {
    "conforms": "conform",
    "conforms to reading": "conform to another reading",
    "deviates": "deviate",
    "raises": "raise",
}
"""How several clauses of a verdict are spoken of."""


def number(value: float) -> str:
    """Write a measured number in a few characters: ``3.2e-07``, ``0.41``, ``12``."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    return f"{value:.2g}"


def off(size: float) -> str:
    """How far an answer is off: ``3.2e-07 off``, or that it is no number of the right shape."""
    return f"{size:.1e} off" if size < math.inf else "not a number or of another shape"


def entry(value: float) -> str:
    """Write an array's entry with the digits that tell it from its neighbours."""
    return f"{value:.10g}"


def comparison(item: Measurement) -> str:
    """``observed ≤ allowed``, or the other way round where a difference has to show."""
    if item.passed:
        sign = "≤" if item.relation == "<=" else "≥"
    else:
        sign = "≰" if item.relation == "<=" else "≱"
    return f"{number(item.observed)} {sign} {number(item.allowed)}"


def complaint(item: Measurement) -> str:
    """Say what one failing measurement found: index, expected, got, allowed."""
    what = f"{item.quantity} of {', '.join(item.clauses)} on {item.case}"
    note = f"; {item.note}" if item.note else ""
    if item.relation == ">=":
        return (
            f"{what}: {number(item.observed)}, but should be at least {number(item.allowed)}{note}"
        )
    size = f"error {number(item.observed)}, allowed {number(item.allowed)}{note}"
    if item.mismatch is None:
        return f"{what}: {size}"
    found = item.mismatch
    return (
        f"{what}: entry {list(found.index)} = {entry(found.got)}, "
        f"but should be {entry(found.expected)} ({size})"
    )


def explanation(clause: ClauseReport) -> list[str]:
    """Lines for the reader under a clause that is not as asked, or could not be seen."""
    lines: list[str] = []
    failed = [(check, item) for check, item in clause.measurements if not item.passed]
    if clause.verdict == "deviates" and failed:
        check, item = failed[0]
        lines.append(f"{check}: {complaint(item)}")
        more = len(failed) - 1
        if more:
            lines.append(f"and {more} other measurement{'s' if more > 1 else ''} of it fail")
    elif clause.detail:
        lines.append(clause.detail)
    return lines


def headlines(report: Report) -> list[tuple[str, list[CheckOutcome]]]:
    """Collect the headline checks by name with the outcomes behind them, in the order they ran.

    One that raised before it gave a figure is named by its title.
    """
    found: dict[str, list[CheckOutcome]] = {}
    for outcome in report.outcomes:
        names = dict.fromkeys(figure.headline for figure in outcome.figures)
        if outcome.kind == "headline" and not names:
            names = {outcome.title: None}
        for name in names:
            found.setdefault(name, []).append(outcome)
    return list(found.items())


def together(outcomes: Sequence[CheckOutcome]) -> Verdict:
    """Give the verdict on the checks behind one headline."""
    if any(item.error for item in outcomes):
        return "raises"
    if not all(found.passed for item in outcomes for found in item.measurements):
        return "deviates"
    return "not observable" if all(item.not_observable for item in outcomes) else "conforms"


def largest(report: Report) -> tuple[ClauseReport, Measurement] | None:
    """Find the measurement that uses most of its allowance, with its clause."""
    pairs = [(clause, item) for clause in report.clauses if (item := clause.worst) is not None]
    return max(pairs, key=lambda pair: pair[1].headroom, default=None)


def size(value: float) -> str:
    """Write an effect with the digits that its band resolves: ``0.99219``, ``4542``."""
    return f"{value:.5g}" if math.isfinite(value) else number(value)


def effect(item: Effect) -> str:
    """Put a measured effect in one line: number, band, and what it says if it left the band."""
    place = "in" if item.within else "outside"
    text = f"{size(item.value)} {item.witness.unit}, {place} {item.witness.band}"
    return f"{text}; {item.error}" if item.error else text


def effects(report: Report) -> str:
    """How many effects of how many deltas were measured, and whether they are as the spec says."""
    found = report.effects
    deltas = len({item.witness.delta for item in found})
    left = sum(not item.within for item in found)
    state = f"{left} outside the band" if left else "all in their bands"
    return f"{len(found)} effects of {deltas} deltas measured on the reference, {state}"


def counts(report: Report) -> str:
    """How many clauses of the implementation got each verdict: the legend of the marks."""
    parts = [
        f"{mark} {count} {verdict if count == 1 else PLURALS.get(verdict, verdict)}"
        for verdict, mark in MARKS.items()
        if (count := report.count(verdict))
    ]
    return " · ".join([*parts, f"{len(report.of_implementation)} in all"])


def paper_counts(report: Report) -> str:
    """How the clauses about the paper itself stand, which say nothing of the implementation."""
    asked = [item for item in report.of_paper if item.verdict != "not executable"]
    hold = sum(item.verdict in {"conforms", "by definition"} for item in asked)
    text = f"{hold} of {len(asked)} hold, checked on the reference"
    if unchecked := len(report.of_paper) - len(asked):
        text += f" ({unchecked} more cannot be)"
    return f"clauses about the paper itself: {text}"


def section(name: str) -> str:
    """How a section is called: ``Sec. 3.3``, ``A.6``."""
    return f"Sec. {name}" if name[0].isdigit() else name


def conclusion(report: Report) -> str:
    """Put the whole report in one line."""
    name = plain(report.implementation)
    status = report.exit_status
    if report.interrupted:
        broken = _broken(report)
        found = f"; so far {broken}" if broken else ""
        return f"interrupted {report.interrupted}: the report of {name} is incomplete{found}"
    if status == 3 and report.misconduct:
        return f"not judged: {name}: {report.misconduct[0]}"
    if report.unanswered:
        return f"not judged: {name} {report.unanswered}"
    if status == 3:
        return f"not judged: {name} lets no clause be observed"
    held = "" if report.readings == "paper" else f" to {report.readings}"
    if status == 1:
        return f"parity broken: {name}{held and f' held{held}'}: {_broken(report)}"
    text = f"parity holds: {name} conforms{held} on {_clauses(report.count('conforms'))}"
    if defined := report.count("by definition"):
        text += f", {defined} by definition"
    if unseen := report.count("not observable"):
        text += f", {unseen} not observable"
    return text


def _clauses(count: int) -> str:
    return f"{count} clause{'' if count == 1 else 's'}"


def _broken(report: Report) -> str:
    parts: list[str] = []
    wrong = [item for item in report.failing if item.verdict != "conforms to reading"]
    if wrong:
        verb = "fails" if len(wrong) == 1 else "fail"
        parts.append(f"{_clauses(len(wrong))} {verb}")
    told = report.explanation
    if told is not None and told.deviations:
        parts.append(f"it has {', '.join(dict.fromkeys(item.id for item in told.deviations))}")
    elif report.unlike:
        parts.append("what it computes is not explained")
    taken = [f"{axis.id}={axis.reading}" for axis in report.axes if axis.differs]
    if taken:
        parts.append(f"it takes {', '.join(taken)}")
    if report.misconduct:
        more = len(report.misconduct) - 1
        parts.append(f"it {report.misconduct[0]}" + (f", and {more} more" if more else ""))
    return "; ".join(parts)
