"""From measurements to verdicts: a clause is red only if what it states is wrong.

A value or gradient of the loss as a whole is wrong whenever anything before it is. Such a failure
is set aside where something earlier was seen to be wrong on its own (:func:`resolved`); the
clauses that only it could speak for are then not observable. Only what nothing explains turns the
clauses of the whole red.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from drifting_parity.checks.stages import IN_THE_LOSS
from drifting_parity.measure import Measurement
from drifting_parity.report.data import CheckOutcome, Verdict
from drifting_spec import Readings
from drifting_spec.registry import Clause

OF_FEATURES: Final = frozenset({"EQ-14", "A6-sum-features", "A5-sum", "A5-vanilla"})
"""Clauses of the loss over many features: their failures explain none of one feature's loss."""


def resolved(outcomes: Sequence[CheckOutcome]) -> list[CheckOutcome]:
    """The outcomes without the failures of the whole loss that an earlier failure explains."""
    outcomes = _of_the_field(_readable(outcomes))
    failed = _failed(outcomes)
    direct = [item for item in failed if not _unsure(item) and item.stage in IN_THE_LOSS]
    one_feature = {name for item in direct for name in item.refuted} - OF_FEATURES
    wrong = any(_unsure(item) and not _over_features(item) for item in failed)

    def explained(item: Measurement) -> bool:
        return _unsure(item) and bool(one_feature or (wrong and _over_features(item)))

    cause = ", ".join(sorted(one_feature)) or "the loss of one feature"
    reason = f"seen in the loss as a whole alone, which is wrong already ({cause})"
    return [_without(outcome, explained, reason) for outcome in outcomes]


def _failed(outcomes: Iterable[CheckOutcome]) -> list[Measurement]:
    return [item for outcome in outcomes for item in outcome.measurements if not item.passed]


def _readable(outcomes: Sequence[CheckOutcome]) -> Sequence[CheckOutcome]:
    """The outcomes without what was read off a gradient that is no drift."""
    broken = [item for item in _failed(outcomes) if item.premise]
    if not broken:
        return outcomes
    reason = f"the gradient is no drift ({broken[0].quantity})"
    return [_without(outcome, lambda item: item.reads_drift, reason) for outcome in outcomes]


def _unsure(item: Measurement) -> bool:
    """Whether it is of the loss as a whole."""
    return item.end_to_end and not _of_field(item)


def _of_field(item: Measurement) -> bool:
    """Whether it is of the field as a whole."""
    return item.end_to_end and item.stage in {"field", "weights"}


def _of_the_field(outcomes: Sequence[CheckOutcome]) -> Sequence[CheckOutcome]:
    """The outcomes without failures of V as a whole that a line of Algorithm 2 explains.

    Of those that are left the plainest count: without mask and weights, then without weights.
    """
    failed = _failed(outcomes)
    lines = {
        name
        for item in failed
        if not item.end_to_end and item.stage == "field"
        for name in item.refuted
    } - {"ALG1-4"}
    ranks = {_rank(item) for item in failed if _of_field(item)}
    plainest = min(ranks, default=0)

    def explained(item: Measurement) -> bool:
        return _of_field(item) and (bool(lines) or _rank(item) > plainest)

    cause = ", ".join(sorted(lines)) or "without mask or weights"
    reason = f"seen in the field as a whole alone, which is wrong already ({cause})"
    return [_without(outcome, explained, reason) for outcome in outcomes]


def _rank(item: Measurement) -> int:
    """How much takes part in a V: 0 the lines, 1 the mask too, 2 weights too."""
    if item.stage == "weights":
        return 2
    return int("ALG2-3" in item.refuted)


def _over_features(item: Measurement) -> bool:
    return bool(OF_FEATURES & set(item.refuted))


def _without(
    outcome: CheckOutcome, excused: Callable[[Measurement], bool], reason: str
) -> CheckOutcome:
    """The outcome without the failures that are excused."""
    kept = tuple(item for item in outcome.measurements if item.passed or not excused(item))
    if len(kept) == len(outcome.measurements):
        return outcome
    unseen = outcome.not_observable if kept or outcome.error else reason
    return replace(outcome, measurements=kept, not_observable=unseen)


def speaking_for(clause: str, touching: Iterable[CheckOutcome]) -> list[tuple[str, Measurement]]:
    """What proves or refutes a clause, with the check that measured it, failures first."""
    pairs = [
        (outcome.check, item)
        for outcome in touching
        for item in outcome.measurements
        if clause in (item.clauses if item.passed else item.refuted)
    ]
    return sorted(pairs, key=lambda pair: (pair[1].passed, -pair[1].headroom))


def decide(
    clause: Clause,
    touching: Sequence[CheckOutcome],
    measured: Sequence[tuple[str, Measurement]],
    differing: tuple[str, ...],
    observed: Readings,
) -> tuple[Verdict, str, str]:
    """Give verdict, reading taken and detail of one clause."""
    if not clause.executable:
        return "not executable", "", clause.reason
    if errors := _errors(touching):
        return "raises", "", "; ".join(errors)
    failed = [(check, item) for check, item in measured if not item.passed]
    if failed:
        check, item = failed[0]
        return "deviates", "", f"{check}: {item.quantity} on {item.case}{_note(item)}"
    others = [axis for axis in clause.axes if axis in differing]
    if others and measured:
        taken = ", ".join(f"{axis}={getattr(observed, axis)}" for axis in others)
        return "conforms to reading", taken, f"takes {taken}"
    if not measured:
        return "not observable", "", _unseen(clause.id, touching)
    if all(item.by_definition for _, item in measured):
        return "by definition", "", "only comparisons of the reference with itself"
    return "conforms", "", ""


def _errors(outcomes: Iterable[CheckOutcome]) -> list[str]:
    """What was raised, each text once with the checks that it came from."""
    checks: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.error:
            checks.setdefault(outcome.error, []).append(outcome.check)
    texts = [f"{_few(names)}: {error}" for error, names in checks.items()]
    more = len(texts) - _MOST_ERRORS
    return [*texts[:_MOST_ERRORS], f"and {more} more"] if more > 0 else texts


def _few(names: Sequence[str]) -> str:
    more = len(names) - _MOST_ERRORS
    return ", ".join(names[:_MOST_ERRORS]) + (f" and {more} more" if more > 0 else "")


_MOST_ERRORS: Final = 3


def _unseen(clause: str, touching: Sequence[CheckOutcome]) -> str:
    reasons = {outcome.not_observable for outcome in touching if outcome.not_observable}
    held = any(clause in item.refuted for outcome in touching for item in outcome.measurements)
    if held:
        reasons.add("what held so far, wrong code would pass as well")
    return "; ".join(sorted(reasons)) or "no check ran under the readings"


def _note(item: Measurement) -> str:
    return f" ({item.note})" if item.note else ""
