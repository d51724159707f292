"""The gate: what a report found, held to what a file declares with a reason.

A file of expectations declares the readings an implementation takes, the clauses it deviates from,
those it does not show, and the effect of every delta. The gate fails on whatever is not declared,
is no longer so, or has left its band. ``cli_gate.py`` is the command.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from drifting_parity.gate.expectations import SCHEMA, Deviation, Expectations
from drifting_parity.report import wording
from drifting_parity.report.data import AxisReport, ClauseReport, Report

Kind = Literal["undeclared", "stale", "changed", "worse", "left its band"]

DEVIATING: Final = ("deviates", "raises")
"""Verdicts that a ``[[deviation]]`` declares, the worse last. A clause that conforms to another
reading is declared by that ``[[reading]]``."""


@dataclass(frozen=True)
class Finding:
    """One difference between a report and what was declared; ``table`` is the file's."""

    kind: Kind
    table: str
    id: str
    says: str


class _Reasoned(Protocol):
    @property
    def reason(self) -> str: ...


def findings(expected: Expectations, report: Report) -> tuple[Finding, ...]:
    """Everything in which the report is not as declared, in the order of the report."""
    return (
        *_readings(expected, report),
        *_deviations(expected, report),
        *_not_observable(expected, report),
        *_deltas(expected, report),
    )


def _because(entry: _Reasoned) -> str:
    return f" (declared because: {entry.reason})"


def _readings(expected: Expectations, report: Report) -> Iterator[Finding]:
    for axis in report.axes:
        entry, text = expected.reading.get(axis.id), f"takes {axis.reading}"
        if entry is None and axis.differs:
            says = f"{text}, not {axis.expected}; {axis.evidence}"
            yield Finding("undeclared", "reading", axis.id, says)
        elif entry is not None and axis.reading == "not observable":
            says = f"declared {entry.reading}, cannot be observed any more: {axis.evidence}"
            yield Finding("changed", "reading", axis.id, says + _because(entry))
        elif entry is not None and not axis.differs:
            says = f"declared {entry.reading}, {text} as asked for: remove the entry"
            yield Finding("stale", "reading", axis.id, says + _because(entry))
        elif entry is not None and axis.reading != entry.reading:
            says = f"declared {entry.reading}, {text}; {axis.evidence}"
            yield Finding("changed", "reading", axis.id, says + _because(entry))


def _deviations(expected: Expectations, report: Report) -> Iterator[Finding]:
    for clause in report.clauses:
        entry, fails = expected.deviation.get(clause.id), clause.verdict in DEVIATING
        if entry is None and fails:
            says = f"{clause.verdict}: {'; '.join(wording.explanation(clause))}"
            yield Finding("undeclared", "deviation", clause.id, says)
        elif entry is not None and not fails:
            says = f"declared {entry.verdict}, now {clause.verdict}: remove the entry"
            yield Finding("stale", "deviation", clause.id, says + _because(entry))
        elif entry is not None:
            yield from _declared_deviation(entry, clause)


def _declared_deviation(entry: Deviation, clause: ClauseReport) -> Iterator[Finding]:
    if clause.verdict != entry.verdict:
        worse = DEVIATING.index(clause.verdict) > DEVIATING.index(entry.verdict)
        says = f"declared {entry.verdict}, now {clause.verdict}: {clause.detail}"
        kind: Kind = "worse" if worse else "changed"
        yield Finding(kind, "deviation", clause.id, says + _because(entry))
        return
    worst = headroom(clause)
    if not entry.low <= worst <= entry.high:
        says = f"headroom {worst:.4g}, declared {entry.low:.4g} to {entry.high:.4g}"
        kind = "left its band" if worst < entry.low else "worse"
        yield Finding(kind, "deviation", clause.id, says + _because(entry))


def headroom(clause: ClauseReport) -> float:
    """How far the worst measurement is over its allowance (1 is the edge); 0 if there is none."""
    return 0.0 if clause.worst is None else clause.worst.headroom


def _not_observable(expected: Expectations, report: Report) -> Iterator[Finding]:
    for clause in report.clauses:
        entry, unseen = expected.not_observable.get(clause.id), clause.verdict == "not observable"
        if entry is None and unseen:
            says = f"the report is incomplete: {clause.detail}"
            yield Finding("undeclared", "not_observable", clause.id, says)
        elif entry is not None and not unseen:
            says = f"declared not observable, now {clause.verdict}: remove the entry"
            yield Finding("stale", "not_observable", clause.id, says + _because(entry))


def _deltas(expected: Expectations, report: Report) -> Iterator[Finding]:
    for item in report.effects:
        entry, title = expected.delta.get(item.id), item.witness.title
        if entry is None:
            says = f"{title}: {wording.effect(item)}"
            yield Finding("undeclared", "delta", item.id, says)
        elif not entry.low <= item.value <= entry.high:
            found = item.error or f"{wording.size(item.value)} {item.witness.unit}"
            says = f"{title}: {found}, declared {entry.low:.5g} to {entry.high:.5g}"
            yield Finding("left its band", "delta", item.id, says + _because(entry))


def conclusion(report: Report, found: Iterable[Finding]) -> str:
    """Put the gate's answer in one line."""
    kinds = [item.kind for item in found]
    if not kinds:
        return f"gate holds: {report.implementation} is as declared"
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return f"gate fails: {report.implementation} is not as declared: {counts}"


def to_json(report: Report, found: Iterable[Finding]) -> str:
    """The answer as JSON: ``holds``, and a list of ``findings``."""
    entries = [
        {"kind": item.kind, "table": item.table, "id": item.id, "says": item.says} for item in found
    ]
    document = {
        "schema": SCHEMA,
        "implementation": report.implementation,
        "readings": report.readings,
        "holds": not entries,
        "findings": entries,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_text(report: Report, found: Iterable[Finding]) -> str:
    """The answer for a terminal: a line for each finding, the conclusion last."""
    listed = list(found)
    lines = [f"✗ {item.kind}: {item.table} {item.id}: {item.says}" for item in listed]
    return "\n".join([*lines, conclusion(report, listed)]) + "\n"


def to_markdown(report: Report, found: Iterable[Finding]) -> str:
    """The answer as a Markdown table, the conclusion first."""
    from drifting_parity.report.markdown import table

    listed = list(found)
    lines = ["## drifting-parity gate", "", f"**{conclusion(report, listed)}**"]
    if listed:
        rows = ((item.kind, item.table, item.id, item.says) for item in listed)
        lines += ["", *table(("", "declared in", "id", "found"), rows)]
    return "\n".join(lines) + "\n"


# Drafting a file.

Entry = Mapping[str, str | float]


def draft(report: Report) -> str:
    """A file of expectations for what was found, its reasons left to be written.

    The effects of deltas are the reference's and not the implementation's: they come with the
    spec's bands, and with what is measured as the reason.
    """
    head = {"schema": SCHEMA, "implementation": report.implementation, "readings": report.readings}
    parts = [_entry(None, head)]
    parts += [_entry("reading", _reading(axis)) for axis in report.axes if axis.differs]
    for clause in report.clauses:
        if clause.verdict in DEVIATING:
            parts.append(_entry("deviation", _deviation(clause)))
        if clause.verdict == "not observable":
            parts.append(_entry("not_observable", {"clause": clause.id, "reason": ""}))
    for item in report.effects:
        spec = item.witness
        band = {"low": spec.low, "high": spec.high}
        parts.append(_entry("delta", {"id": item.id, **band, "reason": spec.measures}))
    return "\n".join(parts)


def _reading(axis: AxisReport) -> Entry:
    return {"axis": axis.id, "reading": axis.reading, "reason": ""}


def _deviation(clause: ClauseReport) -> Entry:
    # Twice as good and twice as bad is still the same deviation.
    worst = headroom(clause)
    entry: Entry = {"clause": clause.id, "verdict": clause.verdict}
    return {**entry, "low": worst / 2, "high": worst * 2, "reason": ""}


def _entry(table: str | None, values: Entry) -> str:
    lines = [] if table is None else [f"[[{table}]]"]
    for key, value in values.items():
        # A TOML string is written as a JSON string is; a TOML float as Python's, ``inf`` included.
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
        lines.append(f"{key} = {text}")
    return "\n".join(lines) + "\n"
