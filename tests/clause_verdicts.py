"""Verdicts of the clauses that a loss or a field can show, without the rest of a report."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from drifting_parity.adapters.base import Adapter
from drifting_parity.cases import DType, Setting
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Check, Context
from drifting_parity.judging.clauses import decide, resolved, speaking_for
from drifting_parity.judging.verdicts import prepared, run_check
from drifting_parity.report.data import CheckOutcome, Verdict
from drifting_spec import PAPER, Readings
from drifting_spec.registry import load

SLOW = ("numerics.coincident", "numerics.offset", "numerics.smallest", "numerics.inputs", "sizes.")
ELSEWHERE = ("encoder", "decoder", "autoencoder", "release.C", "release.D", "A8", "A9", "A7-alpha")


@cache
def of_the_loss(slow: tuple[str, ...] = ()) -> tuple[Check, ...]:
    """Checks about the loss, the field and their parts; ``slow`` are those that are added."""
    return tuple(
        check
        for check in CHECKS
        if any(load().clauses[name].subject == "implementation" for name in check.clauses)
        and not check.id.startswith(ELSEWHERE)
        and (not check.id.startswith(SLOW) or check.id.startswith(slow or ("none",)))
    )


def judged_context(adapter: Adapter, readings: Readings, dtype: DType) -> Context:
    """What :func:`drifting_parity.judging.verdicts.judge` runs its checks with."""
    return prepared(Context(adapter, readings, Setting(dtype=dtype), load(), quick=True))


def outcomes(
    adapter: Adapter,
    *,
    slow: tuple[str, ...] = (),
    only: Iterable[str] | None = None,
    readings: Readings = PAPER,
    dtype: DType = "float64",
) -> list[CheckOutcome]:
    """What the checks gave, failures that others explain left out."""
    context = judged_context(adapter, readings, dtype)
    chosen = [check for check in of_the_loss(slow) if check.applies(context.readings)]
    if only is not None:
        chosen = [check for check in CHECKS if check.id in set(only)]
    return resolved([run_check(check, context) for check in chosen])


def verdicts(found: list[CheckOutcome], readings: Readings = PAPER) -> dict[str, Verdict]:
    """The verdict on every clause that an outcome speaks for."""
    given: dict[str, Verdict] = {}
    for clause in load().clauses.values():
        touching = [
            outcome
            for outcome in found
            if clause.id in outcome.clauses
            or any(clause.id in item.touched for item in outcome.measurements)
        ]
        measured = speaking_for(clause.id, touching)
        if touching:
            given[clause.id] = decide(clause, touching, measured, (), readings)[0]
    return given


def red(given: dict[str, Verdict]) -> set[str]:
    """The clauses that deviate or raise."""
    return {name for name, verdict in given.items() if verdict in {"deviates", "raises"}}


def green(given: dict[str, Verdict]) -> set[str]:
    """The clauses that conform."""
    return {name for name, verdict in given.items() if verdict == "conforms"}
