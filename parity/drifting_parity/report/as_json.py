"""The report as JSON; its schema ships beside this file as ``report.schema.json``."""

from __future__ import annotations

from typing import Any, Final

from drifting_parity.measure import Measurement, json_number
from drifting_parity.report.data import ClauseReport, Report
from drifting_parity.report.screen import concluded
from drifting_parity.report.stages import stage_reports
from drifting_parity.witnesses.core import Effect

SCHEMA_VERSION: Final = 2


def _measurement(check: str, item: Measurement) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "check": check,
        "quantity": item.quantity,
        "case": item.case,
        "observed": json_number(item.observed),
        "relation": item.relation,
        "allowed": json_number(item.allowed),
        "headroom": json_number(item.headroom),
        "cases": item.count,
        # A check may measure in NumPy, whose booleans JSON does not take.
        "passed": bool(item.passed),
        "note": item.note,
    }
    if item.mismatch is not None:
        entry["worst_entry"] = {
            "index": list(item.mismatch.index),
            "expected": json_number(item.mismatch.expected),
            "got": json_number(item.mismatch.got),
        }
    return entry


def _clause(clause: ClauseReport) -> dict[str, Any]:
    worst = clause.worst
    return {
        "id": clause.id,
        "section": clause.section,
        "title": clause.title,
        "verdict": clause.verdict,
        "subject": clause.subject,
        "reading": clause.reading or None,
        "observed": None if worst is None else json_number(worst.observed),
        "allowed": None if worst is None else json_number(worst.allowed),
        "headroom": None if worst is None else json_number(worst.headroom),
        "cases": clause.cases,
        "detail": clause.detail,
        "checks": [_measurement(check, item) for check, item in clause.measurements],
        "reproduce": clause.reproduce,
    }


def _effect(item: Effect) -> dict[str, Any]:
    return {
        "id": item.id,
        "delta": item.witness.delta,
        "title": item.witness.title,
        "unit": item.witness.unit,
        "effect": json_number(item.value),
        "low": item.witness.low,
        "high": item.witness.high,
        "within": item.within,
    }


_HOLD: Final = frozenset({"conforms", "by definition"})


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain data that follows ``report.schema.json``."""
    kind, phrase = concluded(report)
    return {
        "schema": SCHEMA_VERSION,
        "paper": dict(report.paper),
        "tool": dict(report.tool),
        "implementation": {
            "name": report.implementation,
            "readings_expected": report.readings,
            "readings_observed": report.observed_readings,
        },
        "outcome": {"kind": kind, "text": phrase, "exit_status": report.exit_status},
        "stages": [stage.as_json() for stage in stage_reports(report)],
        "environment": dict(report.environment),
        "explanation": None if report.explanation is None else report.explanation.as_json(),
        "clauses": [_clause(clause) for clause in report.clauses],
        "axes": [
            {
                "id": axis.id,
                "reading": axis.reading,
                "expected": axis.expected,
                "evidence": axis.evidence,
            }
            for axis in report.axes
        ],
        "deltas": [_effect(item) for item in report.effects],
        "conduct": [
            {
                "kind": item.kind,
                "what": item.what,
                "where": item.where,
                "count": item.count,
                "breaks_parity": item.failing,
            }
            for item in report.conduct
        ],
        "headlines": [
            {
                "name": name,
                "figures": [{"label": item.label, "value": item.value} for item in items],
            }
            for name, items in report.figures().items()
        ],
        "summary": {
            "conforms": report.count("conforms"),
            "by_definition": report.count("by definition"),
            "conforms_to_reading": report.count("conforms to reading"),
            "deviates": report.count("deviates"),
            "raises": report.count("raises"),
            "not_observable": report.count("not observable"),
            "not_executable": report.count("not executable"),
            "total": len(report.of_implementation),
        },
        "paper_summary": {
            "hold": sum(item.verdict in _HOLD for item in report.of_paper),
            "not_executable": sum(item.verdict == "not executable" for item in report.of_paper),
            "total": len(report.of_paper),
        },
        "seconds": round(report.seconds, 3),
        "complete": report.complete,
        "interrupted": report.interrupted or None,
    }
