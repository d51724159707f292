"""The gate: what a report says, held to what a file declares with a reason.

A file of expectations declares the readings an implementation takes, the deviations it has with
their sizes, the stages that stay unexplained, and clauses whose verdict is accepted. The gate
fails on whatever is not declared, is no longer so, or has left its band. The effects of deltas
are no part of it: they say nothing of the implementation.
"""

from __future__ import annotations

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from drifting_parity.explanation.data import DeviationStatement
from drifting_parity.gate.expectations import SCHEMA, Deviation, Exemption, Expectations
from drifting_parity.report import wording
from drifting_parity.report.data import AxisReport, ClauseReport, Report, Verdict
from drifting_parity.report.junit import Case, document

Kind = Literal["undeclared", "stale", "changed", "worse", "left its band"]

EXCEPTED: Final[tuple[Verdict, ...]] = ("deviates", "raises", "not observable")
"""Verdicts that need a declaration. A clause that conforms to another reading is declared by that
``[[reading]]``, one that a declared ``[[deviation]]`` breaks by that."""


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
        *_unexplained(expected, report),
        *_clauses(expected, report),
        *_stale_exemptions(expected, report),
        *_conduct(report),
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
    """Catalogued deviations; of those that cannot be told apart any one may be declared."""
    stated = () if report.explanation is None else report.explanation.deviations
    met: set[str] = set()
    for item in stated:
        names = [name for name in _ids(item) if name in expected.deviation]
        if not names:
            says = f"{item.title}: {item.effect}" if item.effect else item.title
            yield Finding("undeclared", "deviation", item.id, says)
            continue
        met.update(names)
        yield from _sizes(expected.deviation[names[0]], item)
    for name, entry in expected.deviation.items():
        if name not in met:
            says = "declared, and no longer there: remove the entry"
            yield Finding("stale", "deviation", name, says + _because(entry))


def _ids(item: DeviationStatement) -> tuple[str, ...]:
    """The deviation's id and those of others that it was not told apart from."""
    return item.id, *(name.partition(":")[0] for name in item.alike)


def _sizes(entry: Deviation, item: DeviationStatement) -> Iterator[Finding]:
    for name, (low, high) in entry.bands.items():
        value = item.parameters.get(name)
        if not isinstance(value, int | float):
            says = f"{name} is declared from {low:.4g} to {high:.4g}, and was not measured"
            yield Finding("changed", "deviation", item.id, says + _because(entry))
        elif not low <= value <= high:
            says = f"{name} is {value:.4g}, declared from {low:.4g} to {high:.4g}"
            yield Finding("left its band", "deviation", item.id, says + _because(entry))


def _unexplained(expected: Expectations, report: Report) -> Iterator[Finding]:
    stated = () if report.explanation is None else report.explanation.unexplained
    for item in stated:
        if item.stage not in expected.unexplained:
            says = f"nothing explains it from here: {item.size:.1e} off on {item.probe}"
            yield Finding("undeclared", "unexplained", item.stage, says)
    stages = {item.stage for item in stated}
    for stage, entry in expected.unexplained.items():
        if stage not in stages:
            says = "declared unexplained, and explained now: remove the entry"
            yield Finding("stale", "unexplained", stage, says + _because(entry))


def _clauses(expected: Expectations, report: Report) -> Iterator[Finding]:
    explained = _broken_by_declared(expected, report)
    for clause in report.clauses:
        if clause.verdict not in EXCEPTED:
            continue
        entries = [entry for entry in expected.exception if entry.covers(clause.id)]
        exact = [entry for entry in entries if entry.verdict == clause.verdict]
        if exact:
            yield from _in_band(exact[0], clause)
        elif entries:
            entry = entries[0]
            worse = _RANK[clause.verdict] > _RANK[entry.verdict]
            says = f"declared {entry.verdict}, now {clause.verdict}: {clause.detail}"
            kind: Kind = "worse" if worse else "changed"
            yield Finding(kind, "exception", clause.id, says + _because(entry))
        elif clause.verdict == "not observable":
            says = f"the report is incomplete: {clause.detail}"
            yield Finding("undeclared", "exception", clause.id, says)
        elif not (clause.verdict == "deviates" and clause.id in explained):
            says = f"{clause.verdict}: {'; '.join(wording.explanation(clause))}"
            yield Finding("undeclared", "exception", clause.id, says)


_RANK: Final[Mapping[str, int]] = {"not observable": 0, "deviates": 1, "raises": 2}


def _broken_by_declared(expected: Expectations, report: Report) -> set[str]:
    """Clauses that declared deviations break."""
    stated = () if report.explanation is None else report.explanation.deviations
    return {
        clause
        for item in stated
        if set(_ids(item)) & set(expected.deviation)
        for clause in item.clauses
    }


def _in_band(entry: Exemption, clause: ClauseReport) -> Iterator[Finding]:
    if clause.verdict != "deviates":
        return
    observed = worst_observed(clause)
    if not entry.low <= observed <= entry.high:
        says = f"off by {observed:.4g}, declared from {entry.low:.4g} to {entry.high:.4g}"
        kind: Kind = "left its band" if observed < entry.low else "worse"
        yield Finding(kind, "exception", clause.id, says + _because(entry))


def worst_observed(clause: ClauseReport) -> float:
    """What the worst measurement observed, in its own unit; 0 if there is none."""
    return 0.0 if clause.worst is None else clause.worst.observed


def _stale_exemptions(expected: Expectations, report: Report) -> Iterator[Finding]:
    for entry in expected.exception:
        covered = [clause for clause in report.clauses if entry.covers(clause.id)]
        if not any(clause.verdict in EXCEPTED for clause in covered):
            now = ", ".join(dict.fromkeys(clause.verdict for clause in covered))
            says = f"declared {entry.verdict}, now {now}: remove the entry"
            yield Finding("stale", "exception", " ".join(entry.clauses), says + _because(entry))


def _conduct(report: Report) -> Iterator[Finding]:
    """What no file can declare away: judged code that breaks the rules of being judged."""
    for item in report.misconduct:
        yield Finding("undeclared", "conduct", item.kind, str(item))


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
    from drifting_parity.report.table import table

    listed = list(found)
    lines = ["## drifting-parity gate", "", f"**{conclusion(report, listed)}**"]
    if listed:
        rows = ((item.kind, item.table, item.id, item.says) for item in listed)
        lines += ["", *table(("", "declared in", "id", "found"), rows)]
    return "\n".join(lines) + "\n"


def to_junit(report: Report, found: Iterable[Finding]) -> str:
    """The answer as JUnit's XML: a failed test case for each finding, or one that passed."""
    cases = [Case(f"{item.table} {item.id}", item.kind, "failure", item.says) for item in found]
    return document(report.implementation, cases or [Case("as declared", "gate")], report.seconds)


# Drafting a file.

Value = str | float | Sequence[str] | Mapping[str, tuple[float, float]]


def draft(report: Report) -> str:
    """A file of expectations for what was found, its reasons left to be written."""
    head = {"schema": SCHEMA, "implementation": report.implementation, "readings": report.readings}
    parts = [_entry(None, head)]
    parts += [_entry("reading", _reading(axis)) for axis in report.axes if axis.differs]
    stated = () if report.explanation is None else report.explanation.deviations
    parts += [_entry("deviation", _deviation(item)) for item in stated]
    if report.explanation is not None:
        stages = dict.fromkeys(item.stage for item in report.explanation.unexplained)
        parts += [_entry("unexplained", {"stage": stage, "reason": ""}) for stage in stages]
    explained = {clause for item in stated for clause in item.clauses}
    grouped: defaultdict[Verdict, list[str]] = defaultdict(list)
    for clause in report.clauses:
        broken = clause.verdict == "deviates" and clause.id in explained
        if clause.verdict in EXCEPTED and not broken:
            grouped[clause.verdict].append(clause.id)
    for verdict, clauses in grouped.items():
        entry: dict[str, Value] = {"clauses": clauses, "verdict": verdict, "reason": ""}
        parts.append(_entry("exception", entry))
    return "\n".join(parts)


def _reading(axis: AxisReport) -> Mapping[str, Value]:
    return {"axis": axis.id, "reading": axis.reading, "reason": ""}


def _deviation(item: DeviationStatement) -> Mapping[str, Value]:
    # Half as large and twice as large is still the same deviation.
    sizes = {
        name: (min(value / 2, value * 2), max(value / 2, value * 2))
        for name, value in item.parameters.items()
        if isinstance(value, int | float)
    }
    entry: dict[str, Value] = {"id": item.id}
    return {**entry, "sizes": sizes, "reason": ""} if sizes else {**entry, "reason": ""}


def _entry(table: str | None, values: Mapping[str, Value]) -> str:
    lines = [] if table is None else [f"[[{table}]]"]
    for key, value in values.items():
        lines.append(f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Value) -> str:
    """A TOML string is written as a JSON string is; a list of strings in lines of 100 columns."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        bands = [f"{name} = [{low!r}, {high!r}]" for name, (low, high) in value.items()]
        return f"{{ {', '.join(bands)} }}"
    if isinstance(value, Sequence):
        text = ", ".join(json.dumps(item) for item in value)
        wrapped = textwrap.wrap(text, 96, break_on_hyphens=False, break_long_words=False)
        return f"[{text}]" if len(text) < 84 else "[\n  " + "\n  ".join(wrapped) + ",\n]"
    return repr(value)
