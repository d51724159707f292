"""Which readings an implementation takes, as its explanation says, axis by axis."""

from __future__ import annotations

from drifting_parity.checks.core import Context
from drifting_parity.explanation.data import Explanation, ReadingStatement
from drifting_parity.explanation.fingerprint import fingerprint
from drifting_parity.report.data import NO_READING, AxisReport

NOT_OBSERVABLE = "not observable"


def observe(context: Context, name: str = "") -> Explanation:
    """What the implementation, called ``name``, computes; the readings it takes among it.

    An axis that did not show keeps the reading asked for. Where a stage is not explained, the
    axes that were settled before it stand, and the clauses' own checks say what deviates.
    """
    return fingerprint(
        context.adapter,
        context.readings,
        context.setting,
        name=name,
        seed=context.seed,
        capabilities=context.capabilities,
    )


def axis_reports(explanation: Explanation) -> list[AxisReport]:
    """Every axis of an explanation as the report has it."""
    return [_axis(item, explanation) for item in explanation.readings]


def _axis(item: ReadingStatement, explanation: Explanation) -> AxisReport:
    asked = getattr(explanation.asked, item.axis)
    if item.seen:
        return AxisReport(item.axis, asked, item.reading, item.evidence)
    evidence = NO_READING if explanation.unexplained else item.evidence
    return AxisReport(item.axis, asked, NOT_OBSERVABLE, evidence)
